"""An event loop that the user's own code holds up for 2.5 s: nobody is declared down, and it accuses nobody.

Sixteen nodes, of which three stall at once, five times: ``pytest -m long tests/integration/test_ring_stalls.py``.
"""

import asyncio
from random import Random

import pytest

from clusterkit.core.liveness_timers import Timers
from tests.integration.real_ring import RealRing, alive, together

FEW, MANY = "abcde", "abcdefghijklmnop"
STALL = 2.5  # seconds
QUIET = Timers().quiet  # seconds after a stall in which nobody is accused
ROUNDS = 5


async def stall(ring: RealRing, names: str, sleepers: list[str]) -> None:
    """Hold up some nodes at once; see that nobody was declared down, and that they accused nobody."""
    before = await ring.agrees(names, alive(names))
    woken = await together(ring[name].order("block", STALL) for name in sleepers)
    assert await ring.agrees(names, alive(names)) == before
    assert await ring.told(names, "MemberDown") == []
    for name, at in zip(sleepers, woken, strict=True):
        accused = await ring[name].order("accusations")
        assert [each for each in accused if at - STALL <= each["at"] <= at + QUIET] == []


@pytest.mark.parametrize("sleepers", ["a", "bd"])
async def test_a_loop_that_is_blocked_is_not_down_and_accuses_nobody(sleepers: str) -> None:
    async with asyncio.timeout(60.0), RealRing() as ring:
        await ring.start_all(FEW)
        await stall(ring, FEW, list(sleepers))
        assert await ring["c"].order("count", sleepers[0]) == 1


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_three_of_sixteen_loops_that_are_blocked_are_not_down() -> None:
    async with asyncio.timeout(240.0), RealRing() as ring:
        await ring.start_all(MANY)
        for number in range(ROUNDS):
            await stall(ring, MANY, Random(number).sample(MANY, 3))
