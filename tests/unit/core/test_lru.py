"""The map that forgets what was used longest ago: bytes, order, and what is too large for it."""

import pytest

from clusterkit.core.lru import OVERHEAD, Lru

EACH = OVERHEAD + 11  # of a key of one byte and a value of ten


def filled(*keys: str, most: int = 3 * EACH) -> Lru[str]:
    lru = Lru[str](most)
    for key in keys:
        assert lru.put(key, key.upper(), 10)
    return lru


def test_a_value_comes_back_and_is_counted_with_its_key_and_its_overhead() -> None:
    lru = filled("a")
    assert lru.get("a") == lru.peek("a") == "A"
    assert (len(lru), lru.size, lru.evicted) == (1, EACH, 0)
    assert lru.put("four", "x", 0)
    assert lru.size == EACH + OVERHEAD + 4


def test_a_wide_key_counts_what_it_takes() -> None:
    lru = filled()
    assert lru.put("kä", "x", 0)
    assert lru.size == OVERHEAD + 8
    assert lru.put("k" * 8, "x", 0)
    assert lru.size == 2 * (OVERHEAD + 8)


def test_what_is_not_there_is_none() -> None:
    lru = filled()
    assert lru.get("a") is lru.peek("a") is None
    assert not lru.drop("a")
    assert (len(lru), list(lru), list(lru.newest()), lru.size) == (0, [], [], 0)


def test_past_the_bound_goes_what_was_used_longest_ago() -> None:
    lru = filled("a", "b", "c", "d")
    assert list(lru) == ["b", "c", "d"]
    assert lru.get("a") is None
    assert (lru.size, lru.evicted) == (3 * EACH, 1)


def test_the_bound_itself_is_room() -> None:
    lru = filled("a", "b", "c")
    assert (len(lru), lru.size, lru.evicted) == (3, 3 * EACH, 0)


def test_get_is_a_use_and_peek_is_none() -> None:
    lru = filled("a", "b", "c")
    lru.get("a")
    lru.peek("b")
    assert list(lru) == ["b", "c", "a"]
    assert list(lru.newest()) == ["a", "c", "b"]
    lru.put("d", "D", 10)
    assert list(lru) == ["c", "a", "d"]


def test_a_value_in_the_place_of_another_is_counted_once_and_is_the_newest() -> None:
    lru = filled("a", "b")
    assert lru.put("a", "other", 20)
    assert lru.size == 2 * EACH + 10
    assert list(lru) == ["b", "a"]
    assert lru.get("a") == "other"
    assert lru.evicted == 0


def test_one_that_fills_the_room_pushes_all_others_out() -> None:
    lru = filled("a", "b", "c")
    assert lru.put("d", "D", 3 * EACH - OVERHEAD - 1)
    assert list(lru) == ["d"]
    assert (lru.size, lru.evicted) == (3 * EACH, 3)


def test_one_that_is_too_large_pushes_nothing_out() -> None:
    lru = filled("a", "b", "c")
    assert not lru.put("d", "D", 3 * EACH - OVERHEAD)
    assert list(lru) == ["a", "b", "c"]
    assert (lru.size, lru.evicted) == (3 * EACH, 0)


def test_one_that_is_too_large_still_ends_the_value_before_it() -> None:
    lru = filled("a", "b")
    assert not lru.put("a", "new", 3 * EACH)
    assert lru.get("a") is None
    assert (list(lru), lru.size) == (["b"], EACH)


def test_no_room_at_all_takes_nothing() -> None:
    lru = Lru[str](0)
    assert not lru.put("a", "A", 0)
    assert (len(lru), lru.size) == (0, 0)


def test_dropped_is_gone_and_was_not_pushed_out() -> None:
    lru = filled("a", "b")
    assert lru.drop("a")
    assert not lru.drop("a")
    assert (list(lru), lru.size, lru.evicted) == (["b"], EACH, 0)


def test_clear_forgets_all_and_keeps_the_count() -> None:
    lru = filled("a", "b", "c", "d")
    lru.clear()
    assert (len(lru), lru.size, lru.evicted) == (0, 0, 1)
    assert lru.put("a", "A", 10)
    assert lru.size == EACH


@pytest.mark.parametrize("value", [None, "", 0, False])
def test_a_value_that_is_false_is_a_value(value: object) -> None:
    lru = Lru[object](1_000)
    assert lru.put("", value, 0)
    assert len(lru) == 1
    assert lru.get("") is value
    assert lru.drop("")
