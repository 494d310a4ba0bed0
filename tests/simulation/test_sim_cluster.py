"""`SimCluster`: the product's own nodes under every fault that the proving ground knows."""

import asyncio
from dataclasses import replace

import pytest

from clusterkit import CallError, CallTimeout, GenServer, Node, NodeDown, State, UsageError, call, cast
from clusterkit.testing.machine import here
from clusterkit.testing.sim_cluster import NotSettled, SimCluster
from clusterkit.testing.views import view

pytestmark = pytest.mark.simulation(seeds=3)


class Counter(GenServer):
    """Adds up."""

    async def init(self) -> None:
        self.total = 0

    @call
    async def add(self, number: int) -> int:
        self.total += number
        return self.total

    @call
    async def slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return here().name  # type: ignore[union-attr]

    @cast
    async def note(self, number: int) -> None:
        self.total += number


async def counters(node: Node) -> None:
    await node.start(Counter(), name="counter")


async def total(node: Node, on: str) -> int:
    return await node.ref(Counter, "counter", on=on).call(Counter.add, 0)


async def test_nodes_start_in_one_ring_and_call_each_other() -> None:
    async with SimCluster(3, app=counters) as sim:
        assert [node.name for node in sim["a"].ring.nodes] == ["a", "b", "c"]
        assert view(sim["a"]) == view(sim["b"]) == view(sim["c"])
        assert await sim["a"].ref(Counter, "counter", on="b").call(Counter.add, 5) == 5
        assert await sim["c"].ref(Counter, "counter", on="b").call(Counter.slow, 3.0) == "b"


async def test_names_are_the_users() -> None:
    async with SimCluster(["foo", "bar"]) as sim:
        assert {node.id.name for node in sim.running} == {"foo", "bar"}
        with pytest.raises(UsageError, match="no node 'baz' runs: foo, bar"):
            _ = sim["baz"]


async def test_a_partition_ends_calls_at_their_deadlines_and_heals() -> None:
    async with SimCluster(3, app=counters) as sim:
        sim.partition("a", ["b", "c"])
        with pytest.raises(CallError):
            await sim["a"].ref(Counter, "counter", on="b").call(Counter.add, 1)
        assert await sim["b"].ref(Counter, "counter", on="c").call(Counter.add, 1) == 1
        await asyncio.sleep(60)
        sim.heal()
        await sim.settle()
        assert await total(sim["a"], "b") in (0, 1)


async def test_a_one_way_cut_hangs_no_call() -> None:
    async with SimCluster(2, app=counters) as sim:
        sim.cut("b", "a")
        started = sim.loop.time()
        with pytest.raises(CallError) as failure:
            await sim["a"].ref(Counter, "counter", on="b").call(Counter.add, 1)
        assert sim.loop.time() - started <= 5.5
        assert failure.value.executed == "maybe"
        sim.heal()


async def test_a_silent_crash_is_noticed_and_the_restarted_node_is_another() -> None:
    async with SimCluster(3, app=counters) as sim:
        before = sim["b"].id.incarnation
        sim.crash("b")
        with pytest.raises(CallError):
            await sim["a"].ref(Counter, "counter", on="b").call(Counter.add, 1)
        await asyncio.sleep(60)
        await sim.restart("b")
        await sim.settle()
        assert sim["b"].id.incarnation > before
        assert await total(sim["a"], "b") == 0


async def test_a_killed_node_is_down_at_once() -> None:
    async with SimCluster(3, app=counters) as sim:
        sim.crash("b", reset=True)
        await asyncio.sleep(1)
        started = sim.loop.time()
        with pytest.raises(NodeDown) as failure:
            await sim["a"].ref(Counter, "counter", on="b").call(Counter.add, 1)
        assert failure.value.executed == "no"
        assert sim.loop.time() == started


async def test_what_crashed_does_nothing_any_more() -> None:
    async with SimCluster(2, app=counters) as sim:
        dead = sim["b"]
        caller = asyncio.create_task(sim["a"].ref(Counter, "counter", on="b").with_(timeout=30).call(Counter.slow, 5.0))
        await asyncio.sleep(1)
        sim.crash("b")
        with pytest.raises(CallError):
            await caller
        await sim.start("b")
        await sim.settle()
        assert dead is not sim["b"]
        assert await total(sim["a"], "b") == 0


async def test_a_paused_node_answers_late() -> None:
    async with SimCluster(2, app=counters) as sim:
        sim.pause("b")
        ref = sim["a"].ref(Counter, "counter", on="b")
        with pytest.raises(CallTimeout):
            await ref.with_(timeout=1.0).call(Counter.add, 1)
        sim.resume("b")
        assert await ref.call(Counter.add, 0) in (0, 1)


async def test_nothing_leaves_a_paused_node_though_a_test_calls_into_it() -> None:
    async with SimCluster(2, app=counters) as sim:
        sim.pause("a")
        await sim["a"].ref(Counter, "counter", on="b").cast(Counter.note, 1)
        await asyncio.sleep(2)
        assert await sim.run("b", total(sim["b"], "b")) == 0
        sim.resume("a")
        await sim.settle()
        assert await total(sim["b"], "b") == 1


async def test_a_clock_that_is_an_hour_behind_does_not_keep_a_node_out() -> None:
    async with SimCluster(3, app=counters) as sim:
        before = sim["b"].id.incarnation
        sim.crash("b", reset=True)
        await sim.start("b", skew=-3600.0)
        await sim.settle()
        assert sim["b"].id.incarnation != before


async def test_a_stopped_node_leaves_the_ring() -> None:
    async with SimCluster(3) as sim:
        await sim.stop("c")
        await sim.settle()
        assert [node.name for node in sim["a"].ring.nodes] == ["a", "b"]
        await sim.start("c")
        await sim.settle()
        assert len(sim["a"].ring) == 3


async def test_settle_says_what_differs() -> None:
    async with SimCluster(2) as sim:
        membership = sim["a"].ring._driver.membership  # type: ignore[union-attr]
        membership._view.members["b"] = replace(membership.members["b"], state=State.LEFT)
        with pytest.raises(NotSettled, match=r"not at rest after 5 s: a sees a@.* b@.* left"):
            await sim.settle(timeout=5)


async def test_an_app_that_fails_fails_the_cluster() -> None:
    async def broken(node: Node) -> None:
        raise ValueError(node.id.name)

    with pytest.raises(ValueError, match="a"):
        async with SimCluster(2, app=broken):
            raise AssertionError("never entered")
