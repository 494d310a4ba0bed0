"""One change reaches all: in a hop or three, for two messages a member, and in spite of relays that hang."""

import pytest

from tests.simulation.change_spread import Spread


def assert_spreads(members: int) -> None:
    spread = Spread(members)
    spread.run(0.6)
    most = 1 if members <= 128 else 3
    for _ in range(3):
        told = spread.change(spread.chance.choice(spread.names))
        assert len(told.at) == members
        assert told.repaired == 0
        assert max(told.hops.values()) <= most
        assert told.messages <= 2 * members


def assert_spreads_past_dead_relays(members: int, seed: int, share: float = 0.05) -> None:
    spread = Spread(members, seed)
    spread.run(0.6)
    origin, *dead = spread.chance.sample(spread.names, 1 + max(1, int(share * members)))
    spread.hang(dead)
    told = spread.change(origin)
    assert len(told.at) == members - len(dead)
    assert max(told.at.values()) <= 1.0


@pytest.mark.parametrize("members", [2, 17, 100, 140])
def test_one_change_takes_few_hops_and_messages(members: int) -> None:
    assert_spreads(members)


@pytest.mark.parametrize(("members", "seed"), [(100, 1), (140, 2)])
def test_relays_that_hang_cost_less_than_a_second(members: int, seed: int) -> None:
    assert_spreads_past_dead_relays(members, seed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("members", [300, 1_000])
def test_one_change_takes_few_hops_and_messages_in_large_rings(members: int) -> None:
    assert_spreads(members)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", [0.01, 0.05])
@pytest.mark.parametrize(("members", "seed"), [(300, 3), (300, 4), (1_000, 5)])
def test_relays_that_hang_cost_less_than_a_second_in_large_rings(members: int, seed: int, share: float) -> None:
    assert_spreads_past_dead_relays(members, seed, share)
