"""Traces: one seed gives one, another seed another."""

import asyncio

import pytest

from clusterkit.errors import UsageError
from clusterkit.testing.loop import running_simulation, simulate
from clusterkit.testing.network import World
from clusterkit.testing.path import Conditions
from clusterkit.testing.trace import Trace
from clusterkit.transport.base import Stream


async def conversation() -> str:
    world, taken = World(Conditions(loss=0.1)), asyncio.Queue[Stream]()
    listener = await world.network("b").listen("b", 7022, taken.put_nowait)
    near = await world.network("a").connect("b", 7022)
    for number in range(50):
        near.write(bytes([number]) * 100)
        await asyncio.sleep(0.001)
    far, got = await taken.get(), 0
    while got < 5000:
        got += len(await far.read(1000))
    for stream in (near, far):
        stream.abort()
    await listener.aclose()
    return running_simulation().trace.digest()


def test_one_seed_gives_one_trace_and_each_seed_its_own() -> None:
    digests = [simulate(conversation, seed=seed) for seed in range(20)]
    assert digests == [simulate(conversation, seed=seed) for seed in range(20)]
    assert len(set(digests)) == 20


def test_a_trace_reads_as_a_story() -> None:
    clock = iter((0.0, 1.25))
    trace = Trace(lambda: next(clock))
    trace.add("open", "a>b#1")
    trace.add("heal")
    assert str(trace) == "    0.000000  open a>b#1\n    1.250000  heal"
    assert list(trace) == [(0.0, "open", ("a>b#1",)), (1.25, "heal", ())]
    assert len(trace) == 2


def test_a_world_outside_a_simulation_says_what_to_do() -> None:
    async def main() -> World:
        return World()

    with pytest.raises(UsageError, match="virtual time"):
        asyncio.run(main())
