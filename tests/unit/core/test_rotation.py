"""Whom to probe next."""

from random import Random

from clusterkit.core.rotation import Rotation


def rotation(names: str = "abcdefgh", seed: int = 1) -> Rotation:
    one = Rotation(Random(seed))
    for name in names:
        one.add(name)
    return one


def taken(one: Rotation, count: int) -> list[str | None]:
    return [one.next(lambda name: True) for _ in range(count)]


def test_each_is_chosen_once_in_a_round_and_rounds_differ() -> None:
    one = rotation()
    rounds = [taken(one, 8) for _ in range(5)]
    assert all(sorted(map(str, each)) == list("abcdefgh") for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_one_added_twice_has_one_turn() -> None:
    one = rotation("ab")
    one.add("a")
    assert (len(one), sorted(map(str, taken(one, 2)))) == (2, ["a", "b"])


def test_a_new_one_takes_its_place_in_the_round_under_way() -> None:
    for seed in range(20):
        one = rotation("abcd", seed)
        first = taken(one, 2)
        one.add("e")
        assert sorted(map(str, [*first, *taken(one, 3)])) == list("abcde")


def test_one_that_leaves_takes_nobody_else_out() -> None:
    for seed in range(20):
        one = rotation("abcd", seed)
        first = taken(one, 2)
        one.discard("a")
        one.discard("a")
        rest = taken(one, 3 if first.count("a") == 0 else 2)
        assert "a" not in rest
        assert set("bcd") <= {*map(str, first), *map(str, rest)}
        assert "a" not in one
        assert list(one) == list("bcd")


def test_only_the_wanted_are_chosen_and_none_if_there_are_none() -> None:
    one = rotation()
    assert {one.next(lambda name: name in "cd") for _ in range(10)} == {"c", "d"}
    assert one.next(lambda name: False) is None
    assert Rotation(Random(1)).next(lambda name: True) is None
