"""Whom to tell: everybody at once in a small ring, two trees in a large one, and nobody twice."""

from collections import Counter

import pytest

from clusterkit.core.dissemination import ARITY, DIRECT, Dissemination, children


def members(count: int) -> list[str]:
    return [f"n{number:04}" for number in range(count)]


def test_up_to_128_members_each_is_told_straight() -> None:
    names = members(DIRECT)
    spread = Dissemination(names[7], 1)
    assert spread.targets(names, spread.next_number()) == [(name, 0) for name in names if name != names[7]]


def test_a_larger_ring_is_told_through_the_first_of_two_trees() -> None:
    names = members(DIRECT + 1)
    spread = Dissemination(names[7], 1)
    targets = spread.targets(names, spread.next_number())
    assert Counter(tree for _, tree in targets) == {1: ARITY, 2: ARITY}
    assert len({name for name, _ in targets}) == 2 * ARITY
    assert names[7] not in dict(targets)


@pytest.mark.parametrize("origin", ["n0000", "n0150", "n0299", "elsewhere"])
@pytest.mark.parametrize("tree", [1, 2])
def test_a_tree_reaches_every_other_member_once(origin: str, tree: int) -> None:
    names = members(300)
    told = [child for name in [*names, "elsewhere"] for child in children(names, origin, 9, tree, name)]
    assert sorted(told) == [name for name in names if name != origin]


def test_who_is_no_member_passes_nothing_on() -> None:
    assert children(members(300), "n0000", 9, 1, "stranger") == []
    assert children(["a"], "a", 9, 1, "a") == []
    assert children([], "a", 9, 1, "a") == []


def test_news_is_passed_on_once_in_each_tree_and_the_own_news_never() -> None:
    names = members(300)
    first = children(names, names[0], 9, 1, names[0])[0]
    spread = Dissemination(first, 1)
    onward = spread.pass_on(names, names[0], 9, 1)
    assert onward
    assert onward == children(names, names[0], 9, 1, first)
    assert spread.pass_on(names, names[0], 9, 1) is None
    assert spread.pass_on(names, names[0], 9, 2) is not None
    assert spread.pass_on(names, first, 9, 1) is None


def test_news_that_comes_straight_is_passed_to_nobody() -> None:
    spread = Dissemination("a", 1)
    assert spread.pass_on(["a", "b", "c"], "b", 9, 0) == []
    assert spread.pass_on(["a", "b", "c"], "b", 9, 0) is None


def test_what_was_seen_is_remembered_within_a_bound() -> None:
    spread = Dissemination("a", 1)
    for number in range(5_000):
        assert spread.pass_on(["a", "b"], "b", number, 0) == []
    assert spread.pass_on(["a", "b"], "b", 4_999, 0) is None
    assert spread.pass_on(["a", "b"], "b", 0, 0) == []


def test_two_runs_of_a_name_number_their_news_apart_and_within_64_bits() -> None:
    assert Dissemination("a", 1 << 22).next_number() != Dissemination("a", 2 << 22).next_number()
    assert Dissemination("a", (1 << 64) - 1).next_number() == 0
