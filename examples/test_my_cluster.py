"""How to test your own cluster: ten lines that cut it apart for ten minutes, under as many seeds as you like."""

import asyncio

import pytest

from clusterkit import CallError, GenServer, Node, call
from clusterkit.testing import Conditions, SimCluster


class Counter(GenServer):
    async def init(self) -> None:
        self.total = 0

    @call
    async def add(self, number: int) -> int:
        self.total += number
        return self.total


async def app(node: Node) -> None:
    await node.start(Counter(), name="counter")


@pytest.mark.simulation(seeds=20)
async def test_a_call_into_a_partition_fails_and_after_it_works() -> None:
    async with SimCluster(3, app=app, conditions=Conditions(latency=0.02, loss=0.01)) as sim:
        counter = sim["a"].ref(Counter, "counter", on="c")
        assert await counter.call(Counter.add, 1) == 1
        sim.partition("a", ["b", "c"])
        with pytest.raises(CallError):
            await counter.call(Counter.add, 1)
        await asyncio.sleep(600)
        sim.heal()
        await sim.settle()
        assert await counter.call(Counter.add, 0) in (1, 2)  # the call that failed may have run: err.executed says so


@pytest.mark.simulation(seeds=5)
async def test_a_restarted_node_has_the_same_name_and_another_life() -> None:
    async with SimCluster(2, app=app) as sim:
        counter = sim["a"].ref(Counter, "counter", on="b")
        assert await counter.call(Counter.add, 1) == 1
        async with sim["a"].monitor(counter) as down:
            await sim.restart("b")
            assert (await down).reason == "noconnection"
        assert await counter.call(Counter.add, 1) == 1  # the name finds the new one
