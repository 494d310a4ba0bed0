"""Numbered casts between two processes whose every connection goes through a chaos proxy.

What arrives is in order and without doubles, everything that is missing was reported, and
nothing is reported as never sent that arrived. Thirty rounds of 10,000 casts each way.
"""

import asyncio
import itertools
from contextlib import AsyncExitStack

import pytest

from clusterkit.testing import ChaosProxy, Child, Plan, Processes
from tests.integration.cast_app import exchange

ROUNDS = 30
AT_ONCE = 3
DEADLINE = 90.0
CASTS = 10_000
PLAN = Plan(reset_after=(5_000, 40_000), single_bytes=(0, 200), flip_every=(30_000, 200_000))
TARGET = f"{exchange.__module__}:{exchange.__name__}"


async def one_round(seed: int) -> int:
    """Run two processes through two proxies; return how many casts did not arrive."""
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
        assert sum(proxy.resets for proxy in proxies)
        one = check_arrival(ends[0]["arrived"], reported=ends[1]["missing"])
        return one + check_arrival(ends[1]["arrived"], reported=ends[0]["missing"])


async def start(processes: Processes, name: str, peer: str, proxy: ChaosProxy, seeds: list[str]) -> Child:
    address = f"{name}@127.0.0.1:{proxy.port}"
    child = await processes.start(name, TARGET, {"address": address, "peer": peer, "count": CASTS, "seeds": seeds})
    proxy.target = "127.0.0.1", (await child.reported("listening"))["listening"]
    await child.reported("joined", timeout=60)
    return child


def check_arrival(arrived: list[list[int]], reported: dict[str, int]) -> int:
    """Hold what came against what the sender was told; return how many are missing."""
    borders = [number for run in arrived for number in run]
    assert borders == sorted(borders), "out of order"
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(arrived)), "twice"
    missing = CASTS - sum(last - first + 1 for first, last in arrived)
    assert missing <= sum(reported.values()), "missing, and not reported"
    assert reported.get("no", 0) <= missing, "reported as never sent, and arrived"
    return missing


@pytest.mark.parametrize("first", range(0, ROUNDS, AT_ONCE))
async def test_what_arrives_is_in_order_and_what_is_missing_was_reported(first: int) -> None:
    async with asyncio.timeout(DEADLINE):
        missing = sum(await asyncio.gather(*(one_round(first + number) for number in range(AT_ONCE))))
    assert 0 < missing < AT_ONCE * CASTS  # some were lost with their connections, and most arrived
