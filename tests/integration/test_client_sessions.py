"""Clients whose connections break: their answers wait for them, for so long, and so many of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from clusterkit import Client, Config, DeadLetter, LinkDown, Node, NodeDown
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Role
from clusterkit.core.record import Kind, part
from clusterkit.core.session import Resume
from clusterkit.testing import ChaosProxy
from clusterkit.transport.link import Link
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually
from tests.integration.attackers import MOST, Liar, introduction
from tests.integration.paths import Sink

PATIENCE = 20.0
SHORT = replace(QUICK, client_linger=0.3)
LONGER = replace(QUICK, client_linger=0.8)


def clients(node: Node) -> list[Link]:
    """The links to clients that a node has or keeps."""
    return list(node._open_kernel().links._clients.values())


def reaches(client: Client) -> bool:
    """Whether a client knows that its connection is open: the node that admits it knows so earlier."""
    return any(link.open for link in client._kernel.links) if client._kernel is not None else False


@contextlib.asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[tuple[Client, ChaosProxy]]:
    """A client and the way that it takes."""
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(ChaosProxy("127.0.0.1", node.id.port))
        client = Client("127.0.0.1", proxy.port, cookie=COOKIE, config=QUICK)
        await stack.enter_async_context(client)
        stack.callback(proxy.go_on)
        assert (await client.call("ping"))["name"] == node.id.name
        yield client, proxy


async def with_sink(node: Node) -> Sink:
    sink = Sink()
    await node.start(sink, name="sink")
    return sink


@pytest.mark.parametrize("when", ["before the question comes", "before the answer", "while the answer is on its way"])
async def test_an_answer_comes_over_the_next_connection(when: str, start_node: NodeFactory) -> None:
    a = await start_node("a")
    sink = await with_sink(a)
    lost: list[object] = []
    downs: list[object] = []
    a.on(DeadLetter, lost.append)
    a.on(LinkDown, downs.append)
    async with asyncio.timeout(PATIENCE), client_of(a) as (client, proxy):
        if when == "before the question comes":
            proxy.stall()
        asking = asyncio.create_task(client.call("ask", "a", "sink", "wait"))
        if when == "before the question comes":
            await asyncio.sleep(0)
        else:
            await eventually(
                lambda: sink._clusterkit_process is not None and sink._clusterkit_process.current is not None
            )
        if when == "while the answer is on its way":
            proxy.stall()
            sink.gate.set()
            await eventually(lambda: clients(a)[0].session.unacked == 1)
        proxy.reset()
        await eventually(lambda: downs)
        sink.gate.set()
        proxy.go_on()
        answer = await asking
        assert (answer["ok"], answer["value"]) == (True, "the answer")
        assert sink.waited == 1
        assert lost == []
        assert len(clients(a)) == 1


async def test_a_session_waits_for_its_client_for_so_long_and_is_forgotten(start_node: NodeFactory) -> None:
    a = await start_node("a", config=SHORT)
    sink = await with_sink(a)
    downs: list[LinkDown] = []
    lost: list[DeadLetter] = []
    a.on(LinkDown, downs.append)
    a.on(DeadLetter, lost.append)
    async with asyncio.timeout(PATIENCE), client_of(a) as (client, proxy):
        asking = asyncio.create_task(client.call("ask", "a", "sink", "wait", timeout=10.0))
        await eventually(lambda: sink._clusterkit_process is not None and sink._clusterkit_process.current is not None)
        proxy.stall()
        sink.gate.set()
        await eventually(lambda: clients(a)[0].session.unacked == 1)
        proxy.refuse()
        await eventually(lambda: not clients(a))
        assert [down.lost for down in downs] == [0, 1]
        assert [(letter.target, letter.executed) for letter in lost] == [("reply", "maybe")]
        with pytest.raises(NodeDown) as caught:
            await asking
        assert caught.value.executed == "maybe"
        proxy.go_on()
        await eventually(lambda: reaches(client))
        assert (await client.call("ping"))["name"] == "a"


async def test_a_session_of_a_client_that_came_back_in_time_is_kept(start_node: NodeFactory) -> None:
    """Each break is shorter than a session waits, and the time from the first to the last is longer."""
    a = await start_node("a", config=LONGER)
    async with asyncio.timeout(PATIENCE), client_of(a) as (client, proxy):
        (link,) = clients(a)
        session = link.session
        for _ in range(3):
            proxy.refuse()
            await eventually(lambda: not link.open)
            await asyncio.sleep(LONGER.client_linger / 2)
            proxy.go_on()
            await eventually(lambda: link.open and reaches(client))
            await asyncio.sleep(LONGER.client_linger / 4)
        assert clients(a) == [link]
        assert link.session is session
        assert (await client.call("ping"))["name"] == "a"


async def test_a_client_that_says_goodbye_is_forgotten_at_once(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with asyncio.timeout(PATIENCE):
        async with client_of(a):
            assert len(clients(a)) == 1
        await eventually(lambda: not clients(a))


# -- how many


async def broken(node: Node, name: str) -> Liar:
    """A client that opened a link and was cut off."""
    liar = await Liar.dial(node, name, role=Role.CLIENT)
    liar.stream.abort()
    return liar


async def comes_back(node: Node, liar: Liar, name: str, role: Role = Role.CLIENT) -> bool:
    """Whether its session was kept."""
    again = await Liar.dial(node, name, role=role, resume=Resume(1, liar.theirs.own, 0, MOST))
    again.send(part(Kind.GOODBYE, bytes([Reason.STOP])))
    await again.all_parts()
    return again.theirs.own == liar.theirs.own


async def test_past_the_limit_the_oldest_session_of_a_client_is_ended(start_node: NodeFactory) -> None:
    a = await start_node("a", config=Config(session_limit=4, drain_timeout=0.2))
    async with asyncio.timeout(PATIENCE):
        member = await Liar.dial(a, "member")
        member.say(introduction(NodeId("member", "127.0.0.1", 9, 1 << 60)))
        await eventually(lambda: "member" in a.ring)
        member.stream.abort()
        callers = {}
        for number in range(6):
            callers[number] = await broken(a, f"cli-{number}")
            await eventually(lambda: not any(link.open for link in a._open_kernel().links))
        assert a.stats()["sessions_evicted"] == 3
        assert await comes_back(a, member, "member", Role.NODE)  # the oldest of all, and a node's
        kept = [number for number, liar in callers.items() if await comes_back(a, liar, f"cli-{number}")]
        assert kept == [3, 4, 5]


async def test_sessions_that_were_ended_do_not_take_the_place_of_those_that_come(start_node: NodeFactory) -> None:
    a = await start_node("a", config=Config(session_limit=2, link_limit=4, drain_timeout=0.2))
    async with asyncio.timeout(PATIENCE):
        for number in range(12):
            await broken(a, f"cli-{number}")
            await eventually(lambda: not any(link.open for link in a._open_kernel().links))
        assert a.stats()["sessions_evicted"] == 10
        await eventually(lambda: len(clients(a)) == 2)
