"""The members that can be asked, and the order in which observers speak."""

from random import Random

from clusterkit.core.ring_entry import Claim, Rank
from clusterkit.core.witnesses import Witnesses

NAMES = [f"n{number}" for number in range(20)]


class Claims(dict[str, Claim]):
    def claim(self, name: str) -> Claim:
        return self[name]


def witnesses(names: list[str], *, down: str = "") -> Witnesses:
    claims = Claims({name: Claim(7, 0, Rank.DOWN if name == down else Rank.ALIVE, ready=True) for name in names})
    return Witnesses(names, claims, Random(1))


def test_only_those_believed_alive_count_and_not_the_one_it_is_about() -> None:
    assert list(witnesses(["a", "b", "c"], down="b").alive(but="c")) == ["a"]


def test_as_many_are_drawn_as_there_are() -> None:
    one = witnesses(["a", "b", "c", "d"])
    assert sorted(one.some(9, but="d")) == ["a", "b", "c"]
    drawn = one.some(2, but="d")
    assert len(set(drawn)) == 2
    assert "d" not in drawn


def order(target: str) -> list[str]:
    """Who speaks when, as each of them sees it."""
    turns = {}
    for speaker in NAMES:
        turn, of = witnesses([name for name in NAMES if name != speaker]).turn(speaker, target)
        assert of == len(NAMES)
        turns[turn] = speaker
    return [turns[turn] for turn in range(len(NAMES))]


def test_all_agree_on_the_order_and_it_differs_by_target() -> None:
    assert order("x") != order("y")


def test_the_dead_have_no_turn() -> None:
    first, second, *_ = order("x")
    rest = [name for name in NAMES if name != second]
    assert witnesses(rest, down=first).turn(second, "x") == (0, len(NAMES) - 1)
