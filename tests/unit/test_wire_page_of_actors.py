"""Sections 6.4 to 6.8 of docs/wire.md: a member that has only what the page says meets a node with actors."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from clusterkit import GenServer, Mailbox, Node, NoSuchServer, Stop, call, cast
from clusterkit.core.messages import Op
from clusterkit.runtime import in_thread
from tests.conftest import eventually
from tests.unit.wire_page import page_client

COOKIE = "the cookie of the wire page"
ROOM = "clusterkit.room"
RING, CALL, CAST, _, REPLY, ERROR, REFUSED, CANCEL, MONITOR, LINK, DEMONITOR, DOWN, EXIT, LINKED = map(int, Op)


class Worker(GenServer):
    """Ends when it is told to."""

    mailbox = Mailbox(1)

    @cast
    async def end(self, reason: str) -> None:
        raise Stop(reason)

    @call
    async def hold(self) -> None:
        await asyncio.get_running_loop().create_future()

    @call
    async def ask_guest(self) -> Any:
        return await self.node.ref(GenServer, "riddle", on="guest").call("what", 42)


class Patient(Worker):
    mailbox = Mailbox(1, overflow="block")


class Careful(GenServer):
    """Has handlers that can be cancelled, and tells how many were."""

    def __init__(self) -> None:
        self.cancelled = 0

    @call(cancellable=True)
    async def hold(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled += 1

    @call
    async def count(self) -> int:
        return self.cancelled


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("node-a@127.0.0.1:0", cookie=COOKIE) as node:
        await node.ring.join("prod")
        for name in ("worker", "other", "partner", "full"):
            await node.start(Worker(), name=name)
        await node.start(Patient(), name="patient")
        await node.start(Careful(), name="careful")
        yield node
        for name in ("full", "careful", "patient"):
            if node.whereis(name) is not None:
                await node.stop(name, timeout=0.01, drain=False)


class Guest:
    """The member of the page, which also says what this test tells it to."""

    def __init__(self, node: Node) -> None:
        names = page_client()
        address = ("127.0.0.1", 9)
        self._data = names["DATA"]
        self._member = names["Member"]("127.0.0.1", node.id.port, COOKIE.encode(), "prod", "guest", address)
        while not self._member.settled:
            self.hear()

    def say(self, *messages: list[Any]) -> None:
        self._member.send((self._data, msgpack.packb(messages)))

    def hear(self) -> list[list[Any]]:
        """Take what comes next; what is the ring's is answered."""
        messages: list[list[Any]] = self._member.receive()
        for op, *rest in messages:
            if op == RING:
                self._member.hear(*msgpack.unpackb(rest[0]))
        return [message for message in messages if message[0] != RING]

    def ask(self, *messages: list[Any], answers: int = 1) -> list[list[Any]]:
        """Say something, and hear so many answers."""
        self.say(*messages)
        heard: list[list[Any]] = []
        while len(heard) < answers:
            heard += self.hear()
        return heard

    def call(self, number: int, to: str, handler: str, *args: Any) -> list[Any]:
        return [CALL, number, to, handler, 5_000, msgpack.packb(args)]

    def live(self, leave: threading.Event) -> None:
        """Be nothing but a member."""
        while not leave.is_set():
            self._member.run(0.1)

    def close(self) -> None:
        self._member.close(2)


async def talk(node: Node, script: Callable[[Guest], None]) -> None:
    def work() -> None:
        guest = Guest(node)
        try:
            script(guest)
        finally:
            guest.close()

    async with asyncio.timeout(10):
        await in_thread(work)


def end(name: str, reason: str) -> list[Any]:
    return [CAST, name, "end", msgpack.packb([reason])]


def serial_of(node: Node, name: str) -> int:
    ref = node.whereis(name)
    assert ref is not None
    assert isinstance(ref.address.to, int)
    return ref.address.to


async def test_monitors(node: Node) -> None:
    def script(guest: Guest) -> None:
        assert guest.ask([MONITOR, 1, "nobody"]) == [[DOWN, 1, "noproc"]]
        assert guest.ask([MONITOR, 2, "worker"], end("worker", "tired")) == [[DOWN, 2, "tired"]]
        watch_twice = [MONITOR, 3, "other"], [MONITOR, 4, "other"], [DEMONITOR, 3]
        assert guest.ask(*watch_twice, end("other", "normal")) == [[DOWN, 4, "normal"]]

    await talk(node, script)


async def test_links(node: Node) -> None:
    partner, worker, other = (serial_of(node, name) for name in ("partner", "worker", "other"))

    def script(guest: Guest) -> None:
        linked = guest.ask([LINK, 1, "partner", 7], [MONITOR, 2, "partner"], [EXIT, 1, "mine"], answers=2)
        assert linked == [[LINKED, 1, partner], [DOWN, 2, "mine"]]
        linked = guest.ask([LINK, 3, "worker", 7], end("worker", "ours"), answers=2)
        assert linked == [[LINKED, 3, worker], [DOWN, 3, "ours"]]
        assert guest.ask([LINK, 4, "other", 7], [EXIT, 4, "normal"]) == [[LINKED, 4, other]]
        assert guest.ask([MONITOR, 5, "other"], end("other", "later")) == [[DOWN, 5, "later"]]
        assert guest.ask([LINK, 6, "nobody", 7]) == [[DOWN, 6, "noproc"]]

    await talk(node, script)


async def test_refusals_and_the_question_of_room(node: Node) -> None:
    def script(guest: Guest) -> None:
        assert guest.ask(end("nobody", "x")) == [[REFUSED, "nobody", "no_server", 1]]
        guest.say(guest.call(1, "full", "hold"))
        assert guest.ask(guest.call(2, ROOM, "", "full", False)) == [[REPLY, 2, msgpack.packb(False)]]
        casts = [[CAST, "full", "note", msgpack.packb([])]] * 4
        refused = guest.ask(*casts)
        while sum(each[3] for each in refused) < 3:
            refused += guest.hear()
        assert {tuple(each[:3]) for each in refused} == {(REFUSED, "full", "mailbox_full")}
        assert guest.ask(guest.call(3, ROOM, "", "nobody", False)) == [[REPLY, 3, msgpack.packb(False)]]
        assert guest.ask(guest.call(4, ROOM, "", "patient", False)) == [[REPLY, 4, msgpack.packb(True)]]
        assert guest.ask(guest.call(5, ROOM, "", "patient", True)) == [[REPLY, 5, msgpack.packb(True)]]
        guest.say(guest.call(6, "patient", "hold"), guest.call(7, "patient", "hold"))
        full = guest.call(8, ROOM, "", "patient", True), guest.call(9, ROOM, "", "patient", False)
        assert guest.ask(*full) == [[REPLY, 9, msgpack.packb(True)]]
        assert guest.ask([CANCEL, 7, "patient"]) == [[REPLY, 8, msgpack.packb(True)]]

    await talk(node, script)


async def test_a_caller_that_gives_up(node: Node) -> None:
    def script(guest: Guest) -> None:
        counted = guest.ask(
            guest.call(1, "careful", "hold"),
            guest.call(2, "careful", "hold"),
            [CANCEL, 2, "careful"],
            [CANCEL, 1, "careful"],
            guest.call(3, "careful", "count"),
        )
        assert counted == [[REPLY, 3, msgpack.packb(0)]]  # neither was started

    await talk(node, script)


async def test_a_chain_goes_on_through_a_peer(node: Node) -> None:
    worker = serial_of(node, "worker")

    def script(guest: Guest) -> None:
        [[op, number, to, what, ttl, args, kwargs, chain]] = guest.ask(guest.call(1, "worker", "ask_guest"))
        assert (op, to, what, msgpack.unpackb(args), kwargs) == (CALL, "riddle", "what", [42], None)
        assert 0 < ttl <= 5_000
        assert re.fullmatch(rf"node-a/{node.id.incarnation & 0xFFFF_FFFF:x}/{worker}:\d+/worker", chain[0])
        assert len(chain) == 1
        again = [*guest.call(2, "worker", "ask_guest"), None, [*chain, "guest/1:1/riddle"]]
        [[op, _, code, maybe, text]] = guest.ask(again)
        assert (op, code, maybe) == (ERROR, "cycle", False)
        assert msgpack.unpackb(text).endswith(f"{chain[0]} -> guest/1:1/riddle -> worker")
        assert guest.ask([REPLY, number, msgpack.packb("an answer")]) == [[REPLY, 1, msgpack.packb("an answer")]]

    await talk(node, script)


async def test_the_member_of_the_page_has_no_actors_and_says_so(node: Node) -> None:
    async def visit() -> None:
        riddle = node.ref(GenServer, "riddle", on="guest")
        async with node.monitor(riddle) as down:
            assert (await down).reason == "noproc"
        with pytest.raises(NoSuchServer, match="nobody is here"):
            await riddle.call("what")

    stay = threading.Event()
    living = asyncio.create_task(talk(node, lambda guest: guest.live(stay)))
    await eventually(lambda: "guest" in node.ring)
    try:
        await visit()
    finally:
        stay.set()
        await living
