"""What moves between two rings."""

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.ring_diff import Move, RingDiff, compare_rings
from clusterkit.core.token_circle import build

EMPTY: list[tuple[str, list[int]]] = []


def moves(old: list[tuple[str, list[int]]], new: list[tuple[str, list[int]]]) -> list[tuple[int, int, object, object]]:
    found = compare_rings(build(old, 4), build(new, 4), 4).moves
    return [(move.start, move.end, move.source, move.target) for move in found]


def test_equal_rings_move_nothing() -> None:
    difference = compare_rings(build([("a", [3])], 4), build([("a", [3])], 4), 4)
    assert not difference
    assert (difference.moves, difference.fraction, difference.fractions()) == ((), 0.0, {})


def test_a_range_begins_at_a_token_and_ends_before_the_next() -> None:
    assert moves([("a", [4, 12])], [("a", [4, 12]), ("b", [8])]) == [(4, 8, "a", "b")]


def test_the_range_over_the_end_is_two() -> None:
    assert moves([("a", [4]), ("b", [12])], [("b", [12])]) == [(0, 4, "a", "b"), (12, 16, "a", "b")]


def test_neighbouring_ranges_that_go_one_way_are_one() -> None:
    assert moves([("a", [2, 4, 6, 8])], [("b", [9])]) == [(0, 16, "a", "b")]


def test_touching_ranges_that_go_different_ways_stay_two() -> None:
    assert moves([("a", [0])], [("b", [8]), ("c", [0])]) == [(0, 8, "a", "b"), (8, 16, "a", "c")]


def test_to_and_from_a_ring_without_nodes() -> None:
    assert moves(EMPTY, [("a", [3])]) == [(0, 16, None, "a")]
    assert moves([("a", [3])], EMPTY) == [(0, 16, "a", None)]
    assert moves(EMPTY, EMPTY) == []


def test_colliding_tokens() -> None:
    assert moves([("b", [8])], [("a", [8]), ("b", [8])]) == [(0, 16, "b", "a")]


def test_fractions_by_pair() -> None:
    difference = RingDiff((Move(0, 4, "a", "b"), Move(8, 12, "a", "b"), Move(12, 13, None, "b")), 16)
    assert difference.fractions() == {("a", "b"): 0.5, (None, "b"): 0.0625}
    assert difference.fraction == 0.5625
    assert difference


def test_every_key_of_a_range_moves_as_the_range_says() -> None:
    old, new = HashRing(["a", "b", "c"]), HashRing(["a", "c", "d"])
    difference = old.diff(new)
    for number in range(500):
        key = f"key {number}"
        token = old.scheme.of_key(key)
        found = [move for move in difference.moves if move.start <= token < move.end]
        if old.find(key) == new.find(key):
            assert found == []
        else:
            assert [(move.source, move.target) for move in found] == [(old.find(key), new.find(key))]
