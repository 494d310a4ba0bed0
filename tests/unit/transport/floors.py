"""The transport floor by itself: links over a network in memory, and a floor above that keeps what it is told."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self

import msgpack

from clusterkit import Config
from clusterkit.core.channel import Reason
from clusterkit.core.handshake import Initiator, Proven
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Party, Role, prepare_cookies
from clusterkit.core.record import Kind, Part, RecordReader, RecordWriter, part
from clusterkit.core.session import Lane, Outgoing, Resume
from clusterkit.errors import ClusterError, JoinError, ProtocolError
from clusterkit.runtime import entropy, now
from clusterkit.testing.network import World
from clusterkit.testing.path import Conditions
from clusterkit.transport.base import Stream
from clusterkit.transport.handshaking import initiate
from clusterkit.transport.link import Link
from clusterkit.transport.links import Links
from tests.conftest import COOKIE, eventually

LATENCY = 0.001
PLAIN = Conditions(latency=LATENCY, jitter=0.0, fragmentation=0.0)
SOON = 0.05  # seconds in which all that moves by itself has moved, acknowledgements too
MOST = 1 << 20
POISON = "a message that no node sends"


def out(value: Any, lane: Lane = Lane.REQUEST, *, by_name: bool = False) -> Outgoing:
    """A message that carries a value."""
    return Outgoing(msgpack.packb(value), lane, by_name)


class Floor:
    """The links of one node, or of a client, and what they told. Messages are plain values."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        boot: int = 10,
        role: Role = Role.NODE,
        ring: str = "test",
        config: Config | None = None,
        cookie: str | list[str] = COOKIE,
        port: int = 0,
    ) -> None:
        self.name, self.boot, self.port = name, boot, port
        self.network = world.network(name)
        party = Party(name, boot, ring, role)
        self.links = Links(party, prepare_cookies(cookie), self.network, config or Config(), self)
        self.batches: list[list[Any]] = []
        self.told: list[tuple[Any, ...]] = []
        self.heed: Callable[[Link, list[Any]], object] = lambda link, messages: None
        """Called with each batch before it is kept."""

    async def __aenter__(self) -> Self:
        if self.links.me.role is Role.NODE:
            self.port = await self.links.listen(self.network.host, self.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.links.aclose(Reason.STOP, now())

    @property
    def id(self) -> NodeId:
        return NodeId(self.name, self.network.host, self.port, self.boot)

    @property
    def got(self) -> list[Any]:
        """All messages that came, in order."""
        return [message for batch in self.batches for message in batch]

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """What was told of one kind, without the kind."""
        return [told[1:] for told in self.told if told[0] == kind]

    def to(self, other: "Floor | str") -> Link:
        """The link to a node."""
        link = self.links.get(other if isinstance(other, str) else other.name)
        assert link is not None
        return link

    async def open_to(self, other: "Floor") -> Link:
        """Dial a node, and wait until both ends are open."""
        link = self.links.link_to(other.id)
        await eventually(lambda: link.open and (back := other.links.get(self.name)) is not None and back.open)
        return link

    # -- what the links tell

    def delivered(self, link: Link, messages: list[Any]) -> None:
        self.heed(link, messages)
        if POISON in messages:
            raise ProtocolError("poison", proven=True)
        self.batches.append(messages)

    def opened(self, link: Link) -> None:
        self.told.append(("opened", link.peer.name))

    def closed(self, link: Link, why: str, lost: int) -> None:
        self.told.append(("closed", link.peer.name, why, lost))

    def session_ended(self, link: Link, written: list[Outgoing], queued: list[Outgoing], why: str) -> None:
        if written or queued:
            self.told.append(("session ended", values(written), values(queued)))

    def too_large(self, link: Link, messages: list[Outgoing]) -> None:
        self.told.append(("too large", [len(message.body) for message in messages]))

    def down(self, link: Link, why: str) -> None:
        self.told.append(("down", link.peer.name, why))

    def parted(self, link: Link, reason: Reason) -> None:
        self.told.append(("parted", link.peer.name, reason))

    def unreached(self, link: Link, dialled: NodeId, error: OSError | ClusterError) -> None:
        self.told.append(("unreached", link.peer.name, dialled.port, type(error)))

    def refused(self, link: Link, error: JoinError) -> None:
        self.told.append(("refused", link.peer.name, type(error)))


def put(link: Link, *values: Any, lane: Lane = Lane.REQUEST, by_name: bool = False) -> None:
    """Send what the outbox has room for."""
    for value in values:
        assert link.send(out(value, lane, by_name=by_name))


def goodbye(reason: Reason) -> bytes:
    """A GOODBYE part."""
    return part(Kind.GOODBYE, bytes((reason,)))


def values(messages: list[Outgoing]) -> list[Any]:
    return [msgpack.unpackb(message.body) for message in messages]


class Caller:
    """Holds the cookie and dials by hand: it says what a test wants, when it wants it."""

    def __init__(self, stream: Stream, proven: Proven) -> None:
        self.stream = stream
        self.proven = proven
        self._writer = RecordWriter(proven.keys.by_initiator)
        self._reader = RecordReader(proven.keys.by_responder, 1 << 26)
        self.parts: list[Part] = []
        self.ended = False

    @classmethod
    async def dial(
        cls,
        world: World,
        to: Floor,
        name: str,
        *,
        boot: int = 10,
        role: Role = Role.NODE,
        cookie: str = COOKIE,
        via: str = "by hand",
    ) -> Self:
        """Prove the cookie; raises the error that says why it is not taken. ``via`` is the host it calls from."""
        stream = await world.network(via).connect(to.network.host, to.port)
        me, [key] = Party(name, boot, "test", role), prepare_cookies(cookie)
        machine = Initiator(me, key, entropy(32), expected=to.name, known_boot=lambda _: 0, now=now())
        try:
            return cls(stream, await initiate(stream, machine, me, lambda: None))
        except BaseException:
            stream.abort()
            raise

    def resume(self, own: int = 1, peer: int = 0, received: int = 0, most: int = MOST) -> None:
        """Say RESUME."""
        self.send(part(Kind.RESUME, Resume(own, peer, received, most).pack()))

    async def resumed(self, own: int = 1, peer: int = 0, received: int = 0, most: int = MOST) -> Resume:
        """Say RESUME, and wait for the other end's."""
        self.resume(own, peer, received, most)
        return await self.heard_resume()

    async def heard_resume(self) -> Resume:
        """What the other end answered to ours."""
        kind, body = (await self.listen())[0]
        assert kind == Kind.RESUME
        return Resume.unpack(body)

    def send(self, *parts: bytes) -> None:
        """Send one record."""
        self.stream.write(self._writer.seal(parts))

    async def listen(self, seconds: float = SOON) -> list[Part]:
        """All parts that have come, after so long or at the end of the stream."""
        try:
            async with asyncio.timeout(seconds):
                while data := await self.stream.read(1 << 16):
                    for parts in self._reader.feed(data):
                        self.parts += parts
                self.ended = True
        except TimeoutError:
            pass
        except OSError:
            self.ended = True
        return self.parts

    async def aclose(self) -> None:
        self.stream.abort()


class Stage:
    """A network, and all that is on it: closed in the end."""

    def __init__(self) -> None:
        self.world = World(PLAIN)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.world.heal()
        await self._stack.aclose()

    async def floor(self, name: str, **how: Any) -> Floor:
        """One node more."""
        return await self._stack.enter_async_context(Floor(self.world, name, **how))

    async def floors(self, *names: str, **how: Any) -> list[Floor]:
        """Several, all alike."""
        return [await self.floor(name, **how) for name in names]

    async def caller(self, to: Floor, name: str = "x", **how: Any) -> Caller:
        """One that dials by hand, and has proven itself."""
        caller = await Caller.dial(self.world, to, name, **how)
        self._stack.push_async_callback(caller.aclose)
        return caller

    def kill(self, floor: Floor) -> None:
        """End a node as ``kill -9`` does: its peers see resets."""
        self.world.crash(floor.name, reset=True)
        self.world.revive(floor.name)

    async def next(self, floor: Floor, **how: Any) -> Floor:
        """Another incarnation of a node that was killed, in its place."""
        return await self.floor(floor.name, boot=floor.boot + 1, port=floor.port, **how)


# -- by hand


async def opened(stage: Stage, to: Floor, name: str = "x", *, peer: int = 0, **how: Any) -> Resume:
    """Open a link by hand; return what the other end answered."""
    return await (await stage.caller(to, name, **how)).resumed(peer=peer)


async def broken(stage: Stage, to: Floor, name: str, **how: Any) -> Resume:
    """Open a link by hand and cut it."""
    caller = await stage.caller(to, name, **how)
    theirs = await caller.resumed()
    await caller.aclose()
    await asyncio.sleep(SOON)
    return theirs


async def is_kept(stage: Stage, to: Floor, name: str, theirs: Resume, **how: Any) -> bool:
    """Whether a session that was broken goes on."""
    answer = await opened(stage, to, name, peer=theirs.own, **how)
    return answer.own == theirs.own


async def stranger(stage: Stage, to: Floor, via: str = "outside") -> Stream:
    """A connection that proves nothing."""
    return await stage.world.network(via).connect(to.network.host, to.port)


async def read_to_end(stream: Stream, seconds: float = 60.0) -> bytes:
    """All that comes until the other end closes, which it must do in time."""
    seen = b""
    async with asyncio.timeout(seconds):
        try:
            while data := await stream.read(1 << 16):
                seen += data
        except ConnectionError:
            pass
        finally:
            stream.abort()
    return seen
