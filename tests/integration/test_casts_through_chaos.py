"""Numbered casts between two processes whose every connection goes through a chaos proxy.

What arrives is in order and without doubles, and everything that is missing was
reported. Thirty rounds: ``pytest tests/integration/test_casts_through_chaos.py -m long``.
"""

import asyncio
import itertools
from contextlib import AsyncExitStack

import pytest

from clusterkit.testing import ChaosProxy, Child, Plan, Processes
from tests.integration.cast_app import exchange

CASTS = 10_000
PLAN = Plan(reset_after=(5_000, 40_000), single_bytes=(0, 200), flip_every=(30_000, 200_000))
TARGET = f"{exchange.__module__}:{exchange.__name__}"


async def one_round(seed: int) -> int:
    """Run two processes through two proxies; return how many connections were reset."""
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(
            Processes(environment={"CLUSTERKIT_COOKIE": f"cookie of round {seed}"})
        )
        proxies = [ChaosProxy("127.0.0.1", 0, seed=2 * seed + way, plan=PLAN) for way in (0, 1)]
        for proxy in proxies:
            await stack.enter_async_context(proxy)
        a = await start(processes, "a", "b", proxies[0], [])
        b = await start(processes, "b", "a", proxies[1], [f"127.0.0.1:{proxies[0].port}"])
        ends = [await child.reported("missing", timeout=60) for child in (a, b)]
        check_arrival(ends[0]["arrived"], reported=ends[1]["missing"])
        check_arrival(ends[1]["arrived"], reported=ends[0]["missing"])
        return sum(proxy.resets for proxy in proxies)


async def start(processes: Processes, name: str, peer: str, proxy: ChaosProxy, seeds: list[str]) -> Child:
    address = f"{name}@127.0.0.1:{proxy.port}"
    child = await processes.start(name, TARGET, {"address": address, "peer": peer, "count": CASTS, "seeds": seeds})
    proxy.target = "127.0.0.1", (await child.reported("listening"))["listening"]
    await child.reported("joined", timeout=60)
    return child


def check_arrival(arrived: list[list[int]], reported: int) -> None:
    borders = [number for run in arrived for number in run]
    assert borders == sorted(borders), "out of order"
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(arrived)), "twice"
    assert CASTS - sum(last - first + 1 for first, last in arrived) <= reported, "missing, and not reported"


@pytest.mark.timeout(180)
async def test_three_rounds() -> None:
    resets = 0
    for seed in range(3):
        async with asyncio.timeout(60):
            resets += await one_round(seed)
    assert resets >= 3  # one in each round, at the least


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_thirty_rounds() -> None:
    for seed in range(100, 130):
        async with asyncio.timeout(60):
            await one_round(seed)
