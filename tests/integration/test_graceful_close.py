"""A node that closes: who dials it is told, what it took is delivered, its peers know it from one that died."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import CallError, Client, DeadLetter, NodeDown, ServerDown
from clusterkit.errors import PeerLeaving
from clusterkit.runtime import now
from clusterkit.testing import Plan, ProcessCluster
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually
from tests.integration.cluster_app import Witness
from tests.integration.paths import Pair, Sink, pair

PATIENCE = 30.0
APP = "tests.integration.cluster_app:start"
GRACE = 2.0  # seconds that a close may take beyond its budget
KIB = bytes(1024)
UNHURRIED = replace(QUICK, drain_timeout=10.0, down_after=5.0)  # a busy machine may have no link for half a second


# -- announced


async def test_who_dials_a_node_that_is_closing_is_told(start_node: NodeFactory) -> None:
    """It goes on answering what it is busy with; new callers hear that it leaves, and then nobody listens any more."""
    async with asyncio.timeout(PATIENCE):
        a = await start_node("a", config=UNHURRIED)
        b = await start_node("b", ring=None)
        c = await start_node("c")
        await b.ring.join("test", [a.id.address])
        sink = Sink()
        await a.start(sink, name="sink")
        asked = asyncio.create_task(b.ref(Sink, "sink", on="a").call(Sink.wait))
        await eventually(lambda: sink._clusterkit_process is not None and sink._clusterkit_process.current is not None)
        closing = asyncio.create_task(a.aclose())
        await eventually(lambda: a._open_kernel().links.leaving)
        with pytest.raises(PeerLeaving):
            await c._open_kernel().links.dial("127.0.0.1", a.id.port, None)
        with pytest.raises(PeerLeaving):
            async with Client("127.0.0.1", a.id.port, cookie=COOKIE):
                pass
        assert not closing.done()
        sink.gate.set()
        assert await asked == "the answer"
        await closing
        with pytest.raises(ConnectionRefusedError):
            await c._open_kernel().links.dial("127.0.0.1", a.id.port, None)


async def test_peers_tell_a_node_that_left_from_one_that_died() -> None:
    async with asyncio.timeout(PATIENCE), pair(replace(QUICK, drain_timeout=0.3)) as both:
        ref = both.to_b.with_(timeout=20.0)
        asked = asyncio.create_task(ref.call(Sink.wait))
        await eventually(
            lambda: both.b.sink._clusterkit_process is not None and both.b.sink._clusterkit_process.current is not None
        )
        await both.b.node.aclose()
        (down,) = both.a.downs
        assert (down.why, down.lost) == ("left", 0)
        with pytest.raises(ServerDown) as caught:
            await asked
        assert caught.value.executed == "maybe"
        await eventually(lambda: both.a.node.ring.get("b") is None)


async def test_peers_tell_a_process_that_died_from_one_that_left() -> None:
    async with asyncio.timeout(PATIENCE), ProcessCluster(2, app=APP) as cluster, cluster.observer() as node:
        for name in "ab":
            assert await node.ref(Witness, "witness", on=name).call(Witness.run, 1) == 1
        cluster["a"].kill()
        cluster["b"].terminate()
        assert await cluster["b"].ended() == 0
        await eventually(lambda: node.ring.get("b") is None)
        await eventually(lambda: states(node)["a"] == "down")
        with pytest.raises(NodeDown) as died:
            await node.ref(Witness, "witness", on="a").call(Witness.run, 1)
        with pytest.raises(NodeDown) as left:
            await node.ref(Witness, "witness", on="b").call(Witness.run, 1)
        assert (died.value.executed, left.value.executed) == ("no", "no")
        assert left.value.reason == "unknown"
        assert died.value.reason != "unknown"


def states(node: Any) -> dict[str, str]:
    return {member.node.name: str(member.state) for member in node.ring.members}


async def test_a_goodbye_that_breaks_with_its_connection_is_said_over_the_next() -> None:
    """Reset at the moment of the close, or shortly before: the peer hears that it left all the same."""
    for turns in range(10):
        async with asyncio.timeout(PATIENCE), pair(UNHURRIED) as both:
            both.reset()
            for _ in range(turns):
                await asyncio.sleep(0.001)
            await both.b.node.aclose()
            await eventually(lambda: both.a.node.ring.get("b") is None)


# -- what it took


async def cast_until_it_closes(both: Pair, sender: int, taken: list[tuple[int, int]]) -> None:
    """Cast from b to a as long as b takes it."""
    number = 0
    with contextlib.suppress(CallError, RuntimeError):
        while True:
            await both.to_a.cast(Sink.take, [sender, number], KIB)
            taken.append((sender, number))
            number += 1
            if number % 20 == 0:
                await asyncio.sleep(0)


async def all_that_was_taken_arrives(both: Pair) -> None:
    taken: list[tuple[int, int]] = []
    async with asyncio.TaskGroup() as group:
        for sender in range(3):
            group.create_task(cast_until_it_closes(both, sender, taken))
        await eventually(lambda: len(taken) > 6_000)
        await both.b.node.aclose()
    assert len(both.a.sink.seen) == len(taken)
    for sender in range(3):
        arrived = [number for each, number in both.a.sink.seen if each == sender]
        assert arrived == [number for each, number in taken if each == sender] == [*range(len(arrived))]
    assert (both.a.letters, both.b.letters) == ([], [])


async def test_a_close_under_load_delivers_what_was_taken() -> None:
    async with asyncio.timeout(PATIENCE), pair(UNHURRIED) as both:
        await all_that_was_taken_arrives(both)
        assert both.a.downs[-1].why == "left"


async def test_a_close_whose_connections_are_reset_delivers_what_was_taken() -> None:
    """The way is slow, and breaks again and again while the node closes: it dials anew and goes on."""
    slow = Plan(delay=(0.005, 0.005))
    async with asyncio.timeout(PATIENCE), pair(UNHURRIED, plan=slow, send_buffer=64 << 10) as both:
        resetting = asyncio.create_task(reset_for_ever(both))
        await all_that_was_taken_arrives(both)
        resetting.cancel()
        await asyncio.wait([resetting])
        assert sum(side.proxy.resets for side in (both.a, both.b)) >= 3


async def reset_for_ever(both: Pair) -> None:
    while True:
        await asyncio.sleep(0.15)
        both.reset()


async def test_what_is_sent_to_a_node_while_it_closes_is_handled_or_reported() -> None:
    async with asyncio.timeout(PATIENCE), pair(UNHURRIED) as both:
        taken: list[tuple[int, int]] = []
        async with asyncio.TaskGroup() as group:
            for sender in range(3):
                group.create_task(cast_until_it_closes(both, sender, taken))
            await eventually(lambda: len(taken) > 6_000)
            await both.a.node.aclose()
        await eventually(lambda: both.b.node.ring.get("a") is None)
        reported = len(both.a.letters) + len(both.b.letters)
        never = sum(letter.executed == "no" for letter in both.a.letters + both.b.letters)
        assert len(taken) <= len(both.a.sink.seen) + reported
        assert len(both.a.sink.seen) + never <= len(taken)
        for sender in range(3):
            arrived = [number for each, number in both.a.sink.seen if each == sender]
            assert arrived == [*range(len(arrived))]


# -- in time


async def test_a_close_ends_in_time_though_a_peer_stands_still_and_reports_what_it_had() -> None:
    budget = replace(QUICK, drain_timeout=0.5)
    letters: list[Any] = []
    async with asyncio.timeout(PATIENCE), ProcessCluster(1, app=APP) as cluster:
        async with cluster.observer(config=budget) as node:
            ref = node.ref(Witness, "witness", on="a")
            assert await ref.call(Witness.run, 1) == 1
            node.on(DeadLetter, letters.append)
            cluster["a"].stop()
            for number in range(12_000):
                await ref.send([number, KIB])
            began = now()
            await node.aclose()
            assert now() - began < budget.drain_timeout + GRACE
            assert len(letters) == 12_000
            assert {letter.executed for letter in letters} == {"no", "maybe"}
        cluster["a"].go_on()


async def test_all_close_at_once_under_load(start_node: NodeFactory) -> None:
    async with asyncio.timeout(PATIENCE):
        nodes = [await start_node("a", ring=None, config=UNHURRIED)]
        await nodes[0].ring.join("test")
        for name in "bc":
            nodes.append(await start_node(name, ring=None, config=UNHURRIED))
            await nodes[-1].ring.join("test", [nodes[0].id.address])
        for node in nodes:
            await node.start(Sink(), name="sink")
        await eventually(lambda: all(len(node.ring) == 3 for node in nodes))

        async def call_until_it_closes(node: Any, peer: str) -> int:
            count = 0
            with contextlib.suppress(CallError, RuntimeError):
                while True:
                    count += await node.ref(Sink, "sink", on=peer).call(Sink.echo, 1)
            return count

        calls = [
            asyncio.create_task(call_until_it_closes(node, peer.id.name))
            for node in nodes
            for peer in nodes
            if node is not peer
        ]
        await nodes[0].ping("b")
        began = now()
        await asyncio.gather(*(node.aclose() for node in nodes))
        assert now() - began < GRACE
        await asyncio.wait(calls, timeout=1.0)
        assert all(call.done() for call in calls)
