"""A peer that stands still while much is sent to it: what the sender pays, what others feel, what arrives in the end.

The suite stops it for some seconds with short timers; ``-m long`` for half a minute with the
timers of every node, and holds the latency of calls to others against what it was before.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import pytest

from clusterkit import CallTimeout, Node, NodeDown
from clusterkit.testing import Processes
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration import paths, stalled_app
from tests.integration.paths import pair
from tests.integration.stalled_app import RING, Sender, Sink, Starter

MIB = 1 << 20
COOKIE = "the cookie of those that stand still"
TYPED = {
    "cast LinkFull no",
    "call LinkFull no",
    "call CallTimeout no",
    "call CallTimeout maybe",
    "call NodeDown no",
    "call NodeDown maybe",
}
SHORT = {"ping_after": 0.3, "cut_after": 1.0, "write_stall": 1.0, "handshake_timeout": 1.0, "proof_timeout": 1.0}
SHORT |= {"redial_first": 0.02, "redial_most": 0.1, "down_after": 0.5, "connect_timeout": 1.0, "call_timeout": 0.5}


@dataclass
class Cluster:
    """Four processes: one sends, one stands still, two are called meanwhile; and a node here that asks them."""

    processes: Processes
    node: Node

    async def mark(self) -> dict[str, Any]:
        return await self.node.ref(Sender, "sender", on="a").call(Sender.mark)


@contextlib.asynccontextmanager
async def cluster(config: dict[str, Any]) -> AsyncIterator[Cluster]:
    stand = f"{stalled_app.__name__}:{stalled_app.stand.__name__}"
    async with Processes(environment={"CLUSTERKIT_COOKIE": COOKIE}) as processes:

        async def start(name: str, seeds: list[str]) -> str:
            argument = {"address": f"{name}@127.0.0.1:0", "config": config, "seeds": seeds}
            child = await processes.start(name, stand, argument)
            return str((await child.reported("address", timeout=20))["address"])

        seeds = [await start("a", [])]
        seeds += await asyncio.gather(*(start(name, seeds) for name in ("still", "b", "c")))
        async with Node("here@127.0.0.1:0", cookie=COOKIE) as node:
            await node.ring.join(RING, seeds)
            async with asyncio.timeout(10):
                while len(node.ring) < 5:
                    await asyncio.sleep(0.01)
            yield Cluster(processes, node)


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


async def windows(them: Cluster, count: int, seconds: float) -> tuple[list[dict[str, Any]], float]:
    """Look so many times; return what was seen, and the median of the 99th percentiles."""
    await them.mark()
    seen: list[dict[str, Any]] = []
    for _ in range(count):
        await asyncio.sleep(seconds)
        seen.append(await them.mark())
    return seen, median(p99(each["took"]) for each in seen)


async def stand_still(
    config: dict[str, Any], size: int, before: int, during: int, seconds: float
) -> tuple[float, float]:
    """Run it with so many windows of so many seconds; return the 99th percentiles of calls to others."""
    async with cluster(config) as them:
        await them.node.ref(Starter, "starter", on="a").call(Starter.flood, "still", ["b", "c"], size)
        ran, p99_before = await windows(them, before, seconds)
        baseline = ran[-1]["resident"]
        them.processes["still"].stop()
        stood, p99_during = await windows(them, during, seconds)
        them.processes["still"].go_on()
        grown = max(each["most"] for each in stood) - baseline
        print(
            f"memory +{grown / MIB:.1f} MiB, p99 {p99_before * 1000:.1f} ms before, {p99_during * 1000:.1f} ms during"
        )
        print(f"{ran[-1]['sent']} casts before, {stood[-1]['sent'] - ran[-1]['sent']} taken while it stood still")
        print("ends", [each["ends"] for each in stood], "slowest", max(each["slowest"] for each in stood))
        assert grown <= 32 * MIB
        assert [each["failed"] for each in ran + stood if each["failed"]] == []
        await check_senders(stood, config.get("call_timeout", 5.0))
        await check_arrival(them)
    return p99_before, p99_during


async def check_senders(stood: list[dict[str, Any]], timeout: float) -> None:
    """All that was sent to the peer while it stood still was taken, or ended in a typed error within its timeout."""
    ends = {end for each in stood for end in each["ends"]}
    assert "cast LinkFull no" in ends
    assert any(end.startswith("call NodeDown") for end in ends)
    assert ends <= TYPED
    assert max(each["slowest"] for each in stood) < timeout + 2.0


async def check_arrival(them: Cluster) -> None:
    """What was taken arrived, once and in order; what was not did not; and it goes on."""
    still = them.node.ref(Sink, "sink", on="still")
    facts = await them.node.ref(Sender, "sender", on="a").call(Sender.finish)
    async with asyncio.timeout(30):
        while await still.call(Sink.runs) != facts["taken"]:
            await asyncio.sleep(0.1)
    assert (facts["letters"], facts["dead_letters"]) == (0, 0)
    assert {lost for _, _, lost in facts["downs"]} == {0}
    assert {peer for peer, _, _ in facts["downs"]} == {"still"}
    print("links", facts["downs"])


async def test_a_peer_that_stands_still_costs_others_nothing_and_loses_nothing() -> None:
    async with asyncio.timeout(60):
        await stand_still(SHORT, 1000, before=2, during=8, seconds=0.75)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [1000, 10])  # the outbox is full by its bytes, or by its messages
async def test_a_peer_that_stands_still_for_half_a_minute(size: int) -> None:
    before, during = await stand_still({}, size, before=10, during=30, seconds=1.0)
    assert during <= 2 * before


async def test_a_reader_that_stalls_is_cut_and_loses_nothing(start_node: NodeFactory) -> None:
    patient = replace(QUICK, write_stall=0.4, ping_after=30.0, cut_after=60.0, handshake_timeout=0.5, proof_timeout=0.5)
    async with asyncio.timeout(30), pair(patient, send_buffer=64 << 10) as both:
        await both.fill(40, bytes(1024))
        await eventually(lambda: both.a.link("b").flows["sink"].blocks is False)  # else the sender waits to hear that
        c = await start_node("c", ring=None, config=patient)
        await c.start(paths.Sink(), name="sink")
        await c.ring.join("test", [f"127.0.0.1:{both.a.proxy.target[1]}"])
        to_c = both.a.node.ref(paths.Sink, "sink", on="c")
        both.stall()
        await both.fill(4_000, bytes(1024))
        while not both.a.downs:
            assert await to_c.call(paths.Sink.echo, 1) == 1
            await asyncio.sleep(0)
        assert [down.why for down in both.a.downs] == ["no progress of a write for 0.4 s"]
        with pytest.raises((NodeDown, CallTimeout)) as caught:  # down, unless b has a connection of its own to c
            await both.to_b.with_(timeout=1.0).call(paths.Sink.echo, 1)
        assert caught.value.executed == "no"
        both.go_on()
        await eventually(lambda: len(both.b.sink.seen) == 4_040)
        assert both.b.sink.seen == [*range(40), *range(4_000)]
        assert await both.to_b.call(paths.Sink.echo, 1) == 1
        assert (both.a.letters, {down.lost for down in both.a.downs}) == ([], {0})
