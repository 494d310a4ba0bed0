"""kill -9 under load: every pending call ends in a typed error, and what that says of execution is true.

The witness is the killed process itself: it reports what it runs, one system call for
each, before it answers.
"""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from clusterkit import CallError, Node
from clusterkit.testing import ProcessCluster
from clusterkit.testing.history import History
from tests.integration.cluster_app import Witness

ROUNDS = 20
CALLERS = 64
LOAD = 300  # calls that must have run before the kill
AT_ONCE = 5.0  # seconds in which the calls of a killed process must have ended; they may wait 30


async def calls_until_an_error(node: Node, numbers: Iterator[int], history: History, caller: int) -> None:
    ref = node.ref(Witness, "witness", on="a").with_(timeout=30.0)
    while True:
        number = next(numbers)
        if await history.record(f"caller {caller}", "run", number, ref.call(Witness.run, number)) is None:
            return


async def one_round(cluster: ProcessCluster, node: Node, numbers: Iterator[int]) -> History:
    """Load, kill, and wait for all callers; a caller ends at its first error."""
    history, witness = History(), cluster["a"]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(calls_until_an_error(node, numbers, history, caller))
        while len(witness.reports) < LOAD:
            await asyncio.sleep(0)
        witness.kill()
        killed = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - killed < AT_ONCE
    await witness.ended()
    return history


async def back_again(cluster: ProcessCluster, node: Node) -> None:
    await cluster.restart("a")
    async with asyncio.timeout(20):
        while True:
            try:
                await node.ping("a")
                return
            except CallError:
                await asyncio.sleep(0.01)


@pytest.mark.timeout(180)
async def test_what_a_call_says_of_execution_is_true_when_its_node_is_killed() -> None:
    numbers = itertools.count()
    async with ProcessCluster(1, app="tests.integration.cluster_app:start") as cluster, cluster.observer() as node:
        for _ in range(ROUNDS):
            history = await one_round(cluster, node, numbers)
            ran = {each["ran"] for each in cluster["a"].reports if "ran" in each}
            failures = [each for each in history if not each.ok]
            assert len(failures) == CALLERS
            assert all(each.error.startswith(("NodeDown:", "CallTimeout:", "ServerDown:")) for each in failures)
            assert [each for each in failures if each.failed and each.argument in ran] == []
            assert [each for each in history if each.ok and each.argument not in ran] == []
            await back_again(cluster, node)
