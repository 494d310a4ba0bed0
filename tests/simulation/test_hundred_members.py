"""A hundred members and more that join, crash, come back, are cut apart and heal: one list at the end.

What the roster promises and what not: a member that leaves while others cannot hear it is
no promise of it (that comes with the gossip ring), so members leave here while all is whole.
"""

import pytest

from clusterkit.testing.message_net import Delivery
from tests.simulation.rosters import Rosters

BREAKS = Delivery(latency=0.001, jitter=0.05, breaks=0.001)


def members(count: int) -> list[str]:
    return [f"n{number:03}" for number in range(count)]


def a_long_day(count: int, seed: int) -> Rosters:
    """Joins in waves, crashes, restarts, a partition in which more join, a heal, and goodbyes."""
    rosters, names = Rosters(seed, BREAKS), members(count)
    chance = rosters.chance
    first, late = names[: count * 4 // 5], names[count * 4 // 5 :]
    rosters.join(first[0])
    for at, name in enumerate(first[1:], 1):
        rosters.join(name, *chance.sample(first[:at], min(3, at)))
        rosters.net.run(0.1 * chance.random())
    rosters.net.run(10)
    crashed = chance.sample(first[1:], count // 10)
    for name in crashed:
        rosters.crash(name)
        rosters.net.run(0.2 * chance.random())
    running = [name for name in first if name not in crashed]
    sides = running[: len(running) // 2], running[len(running) // 2 :]
    rosters.net.partition(*sides)
    for name in [*late, *crashed[: len(crashed) // 2]]:
        rosters.join(name, *chance.sample(sides[chance.randrange(2)], 3))
        rosters.net.run(0.5 * chance.random())
    rosters.net.run(60)
    rosters.net.heal()
    rosters.net.run(30)
    for name in chance.sample(late, len(late) // 4):
        rosters.leave(name)
        rosters.net.run(1)
    rosters.net.run(30)
    return rosters


def test_a_hundred_members_end_with_one_list() -> None:
    rosters = a_long_day(100, seed=0)
    assert rosters.net.counts["broken"] > 10
    assert len(rosters.expected) == 95
    assert rosters.wrong() == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_three_hundred_members_end_with_one_list() -> None:
    assert a_long_day(300, seed=0).wrong() == []


@pytest.mark.parametrize("seed", range(20))
def test_twenty_members_end_with_one_list(seed: int) -> None:
    assert a_long_day(20, seed).wrong() == []


def test_all_join_at_once_through_one() -> None:
    rosters = Rosters(3, BREAKS)
    for name in members(100):
        rosters.join(name, "n000")
    rosters.net.run(30)
    assert rosters.wrong() == []


def test_one_seed_is_one_run() -> None:
    def story(seed: int) -> tuple[object, ...]:
        rosters = a_long_day(20, seed)
        return tuple(sorted(rosters.net.counts.items())), rosters.net.now

    assert story(5) == story(5)
    assert story(5) != story(6)


def test_a_roster_that_forgets_to_introduce_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterkit.core.roster.Roster._admit", lambda self, nodes, *, alive: [])
    assert a_long_day(20, 0).wrong()
