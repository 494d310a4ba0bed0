"""The circle of tokens: order, collisions, splicing, and the index."""

from bisect import bisect_right

import pytest

from clusterkit.core.token_circle import TokenCircle, build, drawn_tokens, place_of, position, splice_in, splice_out
from clusterkit.errors import ConfigError

A, B, C = NAMES = ["a", "b", "c"]


def pairs(circle: TokenCircle[str]) -> list[tuple[int, str]]:
    return list(zip(circle.tokens, circle.owners, strict=False))


def spread_tokens(start: int, count: int, bits: int = 16) -> list[int]:
    return [(start + number * 40503) % (1 << bits) for number in range(count)]


def assert_sound(circle: TokenCircle[str], bits: int) -> None:
    """What holds for every circle: order, the extra owner, and an index that finds every token."""
    assert pairs(circle) == sorted(pairs(circle))
    assert len(circle.owners) == len(circle.tokens) + bool(circle.tokens)
    assert circle.owners[-1:] == circle.owners[:1]
    for token in {0, (1 << bits) - 1, *circle.tokens, *(max(0, token - 1) for token in circle.tokens)}:
        assert position(circle, token) == bisect_right(circle.tokens, token)


def test_equal_tokens_stand_in_order_of_id_and_none_is_lost() -> None:
    circle = build([("a", [7, 1]), ("b", [7, 7]), ("c", [1])], bits=3)
    assert pairs(circle) == [(1, "a"), (1, "c"), (7, "a"), (7, "b"), (7, "b")]
    assert_sound(circle, 3)


def test_the_empty_circle() -> None:
    circle: TokenCircle[str] = build([], bits=64)
    assert pairs(circle) == []
    assert circle.owners == []
    assert position(circle, 2**64 - 1) == 0


@pytest.mark.parametrize("count", [1, 3, 100, 2500])
@pytest.mark.parametrize("bits", [8, 16])
def test_splicing_gives_the_circle_that_building_gives(count: int, bits: int) -> None:
    drawn = {name: spread_tokens(ord(name), count, bits) for name in NAMES}
    whole, without = build(drawn.items(), bits), build([(A, drawn["a"]), (C, drawn["c"])], bits)
    spliced = splice_in(without, B, drawn["b"])
    assert pairs(spliced) == pairs(whole)
    assert pairs(splice_out(whole, B, drawn["b"])) == pairs(without)
    for circle in (whole, without, spliced, splice_out(spliced, B, drawn["b"])):
        assert_sound(circle, bits)


def test_splicing_leaves_the_old_circle_alone() -> None:
    old = build([(A, [1, 5])], bits=3)
    splice_in(old, B, [5, 0])
    splice_out(old, A, [1, 5])
    assert pairs(old) == [(1, "a"), (5, "a")]


def test_from_nothing_and_back() -> None:
    circle = splice_in(build([], bits=8), A, [200, 3])
    assert pairs(circle) == [(3, "a"), (200, "a")]
    assert_sound(circle, 8)
    assert pairs(splice_out(circle, A, [200, 3])) == []


def test_the_index_grows_and_shrinks_with_the_circle() -> None:
    small = build([(A, spread_tokens(1, 4))], bits=16)
    large = splice_in(small, B, spread_tokens(2, 1000))
    assert len(large.index) > len(small.index)
    assert_sound(large, 16)
    again = splice_out(large, B, spread_tokens(2, 1000))
    assert len(again.index) < len(large.index)
    assert_sound(again, 16)


def test_the_place_of_a_token_passes_other_nodes_with_the_same_one() -> None:
    circle = build([(name, [5]) for name in NAMES], bits=3)
    assert [place_of(circle, 5, name) for name in NAMES] == [0, 1, 2]


def test_tokens_are_checked_when_drawn() -> None:
    assert list(drawn_tokens([0, 7], bits=3)) == [0, 7]
    for wrong in ([], [-1], [8], [2**64]):
        with pytest.raises(ConfigError, match="a token scheme must give tokens"):
            drawn_tokens(wrong, bits=3)
