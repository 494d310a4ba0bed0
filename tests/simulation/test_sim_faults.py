"""`SimCluster` under the rarer faults: half open, a reader that stands still, a crash over a start or a stop."""

import asyncio
import os
import subprocess
import sys

import pytest

from clusterkit import (
    CallError,
    CallTimeout,
    Config,
    GenServer,
    LinkFull,
    Mailbox,
    MemberDown,
    Node,
    NodeDown,
    State,
    UsageError,
    call,
    cast,
)
from clusterkit.testing import Conditions, Crashed, SimCluster

simulated = pytest.mark.simulation(seeds=3)


class Log(GenServer):
    """Keeps what comes."""

    mailbox = Mailbox(10_000)

    async def init(self) -> None:
        self.numbers: list[int] = []

    @cast
    async def note(self, number: int) -> None:
        self.numbers.append(number)

    @call
    async def read(self) -> list[int]:
        return self.numbers

    @call
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def logs(node: Node) -> None:
    await node.start(Log(), name="log")


def log(sim: SimCluster, src: str, dst: str) -> Log:
    return sim[src].ref(Log, "log", on=dst).proxy


async def test_on_any_other_loop_it_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"@pytest.mark.simulation\(seed=7\).*simulate\(main, seed=7\)"):
        SimCluster(3)


@simulated
async def test_a_half_open_connection_ends_a_call_in_time_and_is_replaced() -> None:
    async with SimCluster(2, app=logs) as sim:
        sim.world.forget("a", "b")
        began = sim.loop.time()
        (first,) = await asyncio.gather(log(sim, "a", "b").read(), return_exceptions=True)
        answered = first == []  # who calls the other down first makes the connection anew
        assert answered or (isinstance(first, NodeDown) and first.executed == "maybe")
        assert 3.0 < sim.loop.time() - began < 5.0
        while True:
            try:
                await log(sim, "a", "b").read()
                break
            except CallError:
                assert sim.loop.time() - began < 10  # the verdict cut it, and it is made anew
                await asyncio.sleep(0.01)  # down: from now on calls fail at once
        await sim.settle()


@simulated
async def test_a_node_that_reads_nothing_fills_the_outbox_to_it_and_no_other() -> None:
    config = Config(outbox_messages=50)
    async with SimCluster(3, app=logs, config=config, conditions=Conditions(window=1024)) as sim:
        sim.pause("b")
        slow = sim["a"].ref(Log, "log", on="b").with_(timeout=0.5)
        taken = 0
        with pytest.raises(LinkFull) as full:
            for number in range(1_000):
                await slow.cast(Log.note, number)
                taken += 1
        assert full.value.executed == "no"
        assert 50 <= taken < 1_000
        assert await log(sim, "a", "c").read() == []
        sim.resume("b")
        await sim.settle()
        assert await log(sim, "a", "b").read() == list(range(taken))


@simulated
async def test_a_pause_of_three_seconds_is_nobodys_death() -> None:
    async with SimCluster(3, app=logs) as sim:
        downs: list[MemberDown] = []
        for node in sim.running:
            node.ring.on(MemberDown, downs.append)
        sim.pause("b")
        waiting = asyncio.create_task(sim["a"].ref(Log, "log", on="b").with_(timeout=30).call(Log.read))
        await asyncio.sleep(3.0)
        sim.resume("b")
        assert await waiting == []
        await sim.settle()
        assert downs == []


@simulated
async def test_a_pause_of_ten_seconds_is_a_death_that_ends_calls_and_is_taken_back() -> None:
    async with SimCluster(3, app=logs) as sim:
        sim.pause("b")
        with pytest.raises(NodeDown) as failure:
            await sim["a"].ref(Log, "log", on="b").with_(timeout=30).call(Log.read)
        assert failure.value.executed == "maybe"
        await asyncio.sleep(10.0)
        assert sim["a"].ring.members[1].state is sim["c"].ring.members[1].state is State.DOWN
        sim.resume("b")
        await sim.settle()
        assert [member.state for member in sim["b"].ring.members] == [State.ALIVE] * 3
        assert await log(sim, "a", "b").read() == []


@simulated
async def test_clocks_that_are_wrong_by_a_year_change_no_order_and_no_deadline() -> None:
    async with SimCluster(3, app=logs) as sim:
        for name, skew in (("a", 3e7), ("b", -3e7)):
            sim.skew(name, skew)
        began = sim.loop.time()
        with pytest.raises(CallTimeout):
            await sim["a"].ref(Log, "log", on="b").with_(timeout=1.0).call(Log.sleep, 5.0)
        assert 1.0 <= sim.loop.time() - began < 1.1
        for name in "ab":  # its next incarnation is drawn from the wrong clock
            before = sim["c"].ring.get(name)
            sim.crash(name, reset=True)
            await sim.start(name, skew=-6e7)
            await sim.settle()
            assert sim["c"].ring.get(name) == sim[name].id != before


@simulated
async def test_who_waits_for_a_node_that_crashes_is_told() -> None:
    async with SimCluster(["a", "b"], app=logs) as sim:
        sim.partition("c", ["a", "b"])
        starting = asyncio.create_task(sim.start("c"))
        await asyncio.sleep(1)
        sim.crash("c")
        with pytest.raises(Crashed, match="node c crashed"):
            await starting
        working = asyncio.create_task(sim.run("b", asyncio.sleep(60)))
        stopping = asyncio.create_task(sim.stop("b"))
        await asyncio.sleep(0)
        sim.crash("b", reset=True)
        for task in (working, stopping):
            with pytest.raises(Crashed, match="node b crashed"):
                await task
        sim.heal()
        for name in "bc":
            await sim.start(name)
        await sim.settle()
        assert len(sim["a"].ring) == 3


@simulated
async def test_nodes_may_name_each_other_as_seeds_before_they_run() -> None:
    async with SimCluster([]) as sim, asyncio.timeout(30):
        seeds = {"a": ["b"], "b": ["c"], "c": ["a"]}
        await asyncio.gather(*(sim.start(name, seeds=through) for name, through in seeds.items()))
        await sim.settle()
        assert {len(node.ring) for node in sim.running} == {3}


@simulated
async def test_a_dial_of_a_node_that_crashed_holds_up_no_rest_and_opens_nothing() -> None:
    async with SimCluster(3, conditions=Conditions(latency=0.2)) as sim:
        sim.world.reset("a", "b")
        while not sim.world._dials:
            await asyncio.sleep(0.01)
        dialling = next(iter(sim.world._dials.values()))[0].name
        await asyncio.sleep(0.3)  # the other has answered, and the answer is on its way
        sim.crash(dialling, reset=True)
        await asyncio.sleep(5)
        await sim.settle(timeout=10)
        opened = len(sim.trace)
    burial = list(sim.trace)[opened:]
    assert not any(kind == "open" and str(facts[0]).startswith(dialling) for _, kind, facts in burial)


REPLAY = """
from clusterkit.testing import simulate
from tests.simulation.calls_under_faults import calls_under_faults
print(*(simulate(calls_under_faults, seed=seed).trace for seed in (1, 2)))
"""


def test_one_seed_is_one_trace_of_a_whole_cluster_in_processes_with_different_hash_seeds() -> None:
    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", REPLAY]
        return subprocess.run(command, env=environment, timeout=60, check=True, capture_output=True, text=True).stdout

    one, other = run("1").split()
    assert one != other
    assert run("4711").split() == [one, other]
