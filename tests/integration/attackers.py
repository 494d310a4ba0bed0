"""Whom the tests of the ancestor's weaknesses send against real nodes over TCP.

A stranger, who has no cookie (`send_stranger`); somebody who sits between two nodes and
handles whole messages of the wire (`Between`); a member that lies (`Liar`).
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from enum import Enum
from types import TracebackType
from typing import Any, Self

from clusterkit import GenServer, Node, call, cast
from clusterkit.core.handshake import Initiator
from clusterkit.core.identity import NodeId
from clusterkit.core.messages import pack_cast, pack_ring
from clusterkit.core.payload import encode
from clusterkit.core.proof import Party, RecordKeys, Role, expand, prepare_cookies, sha256
from clusterkit.core.record import Kind, Part, RecordReader, RecordWriter, part
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_messages import Hello, pack
from clusterkit.core.ring_state import RingState
from clusterkit.core.session import Resume
from clusterkit.runtime import Tasks, now
from clusterkit.transport.base import Stream
from clusterkit.transport.handshaking import initiate
from clusterkit.transport.tcp import TcpNetwork
from tests.conftest import COOKIE, QUICK

HELLO = b"CKT1\x01" + bytes(32)
MOST = 1 << 20
PATIENCE = 5.0
SLOW = replace(QUICK, proof_timeout=60.0, handshake_timeout=60.0, drain_timeout=0.2)  # no deadline saves the node


def introduction(node: NodeId) -> bytes:
    """The Hello with which ``node`` becomes a member."""
    ring = RingState(Actor(node.name, node.incarnation))
    change = ring.announce(node.host, node.port, b"", 0.0)
    claim = Claim(node.incarnation, 0, Rank.ALIVE, True)
    ring.hear(node.name, claim)
    return pack_ring(pack(Hello(node, True, change, claim, None, (ring.ring_digest, ring.claims_digest))))


class Inbox(GenServer):
    """Keeps what comes; one call that waits for its gate."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.gate = asyncio.Event()

    @cast
    async def take(self, value: Any) -> None:
        self.seen.append(value)

    @cast
    async def take_name(self) -> None:
        self.seen.append(self.caller.peer.name)

    @call
    async def echo(self, value: Any) -> Any:
        return value

    @call
    async def wait(self) -> str:
        await self.gate.wait()
        return "the answer"


async def with_inbox(node: Node) -> Inbox:
    """Start an `Inbox` under its name."""
    inbox = Inbox()
    await node.start(inbox, name="inbox")
    return inbox


# -- a stranger


async def send_stranger(node: Node, *pieces: bytes) -> bytes:
    """Connect without a cookie, send each piece in a write of its own, and return all that comes until the end."""
    reader, writer = await asyncio.open_connection(node.id.host, node.id.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await until_closed(reader)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other end closes, which it must do soon."""
    seen = b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65536):
                seen += more
    return seen


# -- somebody between


class Way(Enum):
    """The direction of a message."""

    OUT = "to the one that was dialled"
    BACK = "to the one that dialled"


class Passage:
    """One connection through somebody between: what was sent in it so far, and both ends."""

    def __init__(self, listener: asyncio.StreamWriter, dialler: asyncio.StreamWriter) -> None:
        self.ends = {Way.OUT: listener, Way.BACK: dialler}
        self.frames: dict[Way, list[bytes]] = {Way.OUT: [], Way.BACK: []}
        self.over = asyncio.Event()

    def send(self, way: Way, data: bytes) -> None:
        """Hand bytes to the end that ``way`` leads to."""
        self.ends[way].write(data)

    def keys(self, cookie: str | bytes = COOKIE) -> tuple[RecordKeys, RecordKeys]:
        """The keys of the proofs and of the records, as who knows the cookie makes them of what was sent."""
        (hello, auth_i, *_), (chal, auth_r, *_) = self.frames[Way.OUT], self.frames[Way.BACK]
        secret, t1 = prepare_cookies(cookie)[0], sha256(hello, chal)
        t2 = sha256(t1, auth_i, auth_r)
        auth, records = expand(secret, b"clusterkit/1 auth", t1), expand(secret, b"clusterkit/1 records", t2)
        return RecordKeys(*auth), RecordKeys(*records)


Passes = Callable[[Passage, Way, int, bytes], Awaitable[None]]


async def honestly(passage: Passage, way: Way, _: int, frame: bytes) -> None:
    """Pass on."""
    passage.send(way, frame)


class Between:
    """Is dialled instead of ``target``. Takes each message whole, and lets ``passes`` do with it what it likes.

    Of each direction message 0 is HELLO or CHAL, 1 the proof, 2 the first record.
    """

    def __init__(self, target: Node, passes: Passes = honestly) -> None:
        self.target = target
        self.passages: list[Passage] = []
        self._passes = passes
        self._tasks = Tasks("between")
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """What is dialled instead of the target's."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        """The same as a seed."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            lambda *both: self._tasks.spawn(self._serve(*both), "passage"), "127.0.0.1", 0
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._tasks.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_target = await asyncio.open_connection(self.target.id.host, self.target.id.port)
        passage = Passage(to_target, writer)
        self.passages.append(passage)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(passage, Way.OUT, reader))
                both.create_task(self._carry(passage, Way.BACK, there))
        finally:
            passage.over.set()
            for end in passage.ends.values():
                end.transport.abort()

    async def _carry(self, passage: Passage, way: Way, reader: asyncio.StreamReader) -> None:
        frames = passage.frames[way]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                frames.append(await _read_frame(reader, len(frames)))
                await self._passes(passage, way, len(frames) - 1, frames[-1])
                await passage.ends[way].drain()
        with contextlib.suppress(OSError):
            passage.ends[way].write_eof()


async def _read_frame(reader: asyncio.StreamReader, number: int) -> bytes:
    if number == 0:
        return await reader.readexactly(37)
    width, tag = (2, 0) if number == 1 else (4, 16)
    head = await reader.readexactly(width)
    return head + await reader.readexactly(int.from_bytes(head, "big") + tag)


# -- a member that lies


class Liar:
    """Holds the cookie, and sends what it likes over a connection that it has proven and opened."""

    def __init__(self, stream: Stream, keys: RecordKeys) -> None:
        self.stream = stream
        self.theirs: Resume
        self.heard = b""  # the node's records
        self._writer = RecordWriter(keys.by_initiator)
        self._reader = RecordReader(keys.by_responder, MOST)
        self._parts: list[Part] = []

    @classmethod
    async def dial(
        cls,
        node: Node,
        name: str = "liar",
        *,
        role: Role = Role.NODE,
        boot: int = 1 << 60,
        resume: Resume | None = None,
    ) -> Self:
        """Prove the cookie to a node and open a link; raises the error that says why it will not."""
        me = Party(name, boot, "test", role)
        stream = await TcpNetwork().connect(node.id.host, node.id.port)
        key = prepare_cookies(COOKIE)[0]
        machine = Initiator(me, key, os.urandom(32), expected=None, known_boot=lambda _: 0, now=now())
        try:
            proven = await initiate(stream, machine, me, lambda: None)
        except BaseException:
            stream.abort()
            raise
        liar = cls(stream, proven.keys)
        liar.send(part(Kind.RESUME, (resume or Resume(1, 0, 0, MOST)).pack()))
        kind, body = (await liar.parts(1))[0]
        assert kind == Kind.RESUME
        liar.theirs = Resume.unpack(body)
        return liar

    def seal(self, *parts: bytes) -> bytes:
        """Make its next record."""
        return self._writer.seal(parts)

    def send(self, *parts: bytes) -> None:
        """Send its next record."""
        self.stream.write(self.seal(*parts))

    def say(self, *messages: bytes) -> None:
        """Send messages of the kernel."""
        self.send(data(messages))

    async def parts(self, count: int) -> list[Part]:
        """At least so many parts of what the node sent, or all there are until it closes."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while len(self._parts) < count and (more := await self.stream.read(65536)):
                    self.heard += more
                    for parts in self._reader.feed(more):
                        self._parts += parts
        return self._parts

    async def all_parts(self) -> list[Part]:
        """All that the node sent, until it closed."""
        try:
            return await self.parts(1 << 30)
        finally:
            self.stream.abort()


def data(messages: Iterable[bytes]) -> bytes:
    """A DATA part of packed messages."""
    bodies = list(messages)
    return part(Kind.DATA, b"\xdc" + len(bodies).to_bytes(2, "big") + b"".join(bodies))


def cast_to_inbox(handler: str, *values: Any) -> bytes:
    """The message that casts to an `Inbox`."""
    return pack_cast("inbox", handler, encode(list(values)), None)
