"""Connections in memory that keep the laws of `clusterkit.transport.base`.

A connection is two pipes, one each way. A pipe takes bytes as far as its window
allows; the rest stays with the sender, unsent. What it took arrives in order, whole
or in parts, when the path lets it, and waits until the receiver reads it.

Rules. A reset overtakes bytes in flight and drops what was not read, as hostile as
TCP may be. It is sent once: a path that is cut loses it, and the other end stays
half open until it writes to an end that is gone. The end of the stream is data, and
goes again like data. What had arrived at an end that is closed here can still be read
there, as from asyncio's streams.
"""

import asyncio
import errno
import zlib
from collections import deque
from collections.abc import Callable

from clusterkit.testing.machine import Machine
from clusterkit.testing.path import Path

HIGH_WATER = 64 * 1024  # bytes unsent above which `drain` waits, as asyncio's transports do
LOW_WATER = 16 * 1024


def _nothing() -> None:
    pass


class Pipe:
    """One direction of a connection.

    Invariant: each item in flight has one arrival to come, so arrivals in any order
    deliver items in the order sent.
    """

    def __init__(self, label: str, path: Path, back: Path) -> None:
        self.label = label
        self.path = path
        self.unsent = bytearray()
        self.unread = bytearray()
        self.ended = False
        """The end of the stream has arrived."""
        self.on_arrival: Callable[[], object] = _nothing
        self.on_room: Callable[[], object] = _nothing
        self.on_refusal: Callable[[], object] = _nothing
        """Called when data arrive at an end that is closed."""
        self.receiving = True
        self.severed = False
        """Nothing that is sent arrives any more, and nobody knows."""
        self._back = back
        self._window = path.conditions.window
        self._taken = 0  # bytes in flight, unread, or read without the sender knowing it yet
        self._flying: deque[bytearray | Callable[[], object]] = deque()
        self._launched = self._due = -1.0
        self._closing = False

    @property
    def busy(self) -> bool:
        """Something is on its way or waits to be read."""
        return bool(self.unsent or self._flying or self.unread) and self.receiving and not self.severed

    # -- the sender's end ---------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Take ``data`` behind all that was sent before."""
        self.unsent += data
        self._take()

    def close(self) -> None:
        """Send the end of the stream behind all that was sent before."""
        self._closing = True
        self._take()

    def discard(self) -> None:
        """Forget what is unsent."""
        self.unsent.clear()

    def launch(self, item: bytearray | Callable[[], object], behind: float = 0.0) -> None:
        """Put an item on the way, bytes or what is done when it arrives, ``behind`` seconds later than it would."""
        now = self.path.loop.time()
        self._launched = now
        self._due = max(self._due, now + self.path.delay()) + behind
        self._flying.append(item)
        self.path.after(self._due - now, self._arrive)

    def _take(self) -> None:
        if self.unsent and (room := self._window - self._taken) > 0:
            data = self.unsent[:room]
            del self.unsent[:room]
            self._taken += len(data)
            self._launch_data(data)
        if self._closing and not self.unsent:
            self._closing = False
            self.launch(self._end)

    def _launch_data(self, data: bytearray) -> None:
        if self._launched == self.path.loop.time() and self._flying and isinstance(self._flying[-1], bytearray):
            self._flying[-1] += data  # written in one turn, sent in one segment
        elif len(data) > 1 and self.path.chance() < self.path.conditions.fragmentation:
            middle = 1 + int(self.path.chance() * (len(data) - 1))
            self.launch(data[:middle])
            self.launch(data[middle:], behind=self.path.delay())
        else:
            self.launch(data)

    # -- the way and the receiver's end -------------------------------------------

    def read(self, size: int) -> bytes:
        """Take up to ``size`` bytes that have arrived, and make room for as many."""
        data = bytes(self.unread[:size])
        del self.unread[:size]
        if self.receiving:
            self._back.when_open(lambda: self._free(len(data)))
        return data

    def stop_receiving(self) -> None:
        """The receiver is gone: what arrives from now on is refused."""
        self.receiving = False

    def _free(self, size: int) -> None:
        self._taken -= size
        if self.unsent:
            self._take()
            self.on_room()

    def _arrive(self) -> None:
        if self.path.blocked:
            self.path.again(self._arrive)
            return
        item = self._flying.popleft()
        if not isinstance(item, bytearray):
            item()
        elif self.severed:
            return
        elif self.receiving:
            self.path.loop.trace.add("data", self.label, len(item), zlib.crc32(item))
            self.unread += item
            self.on_arrival()
        else:
            self.on_refusal()

    def _end(self) -> None:
        if self.severed:
            return
        self.path.loop.trace.add("end", self.label)
        self.ended = True
        self.on_arrival()


class MemoryStream:
    """One end of a connection: a `clusterkit.transport.base.Stream`."""

    def __init__(
        self,
        remote: str,
        outgoing: Pipe,
        incoming: Pipe,
        machine: Machine | None,
        forget: Callable[["MemoryStream"], object],
    ) -> None:
        self.remote = remote
        self._machine = machine
        self._out = outgoing
        self._in = incoming
        self._forget = forget
        self._loop = outgoing.path.loop
        self._peer: MemoryStream | None = None
        self._fault = ""
        self._closed = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        outgoing.on_room = self._writable
        outgoing.on_refusal = self._refused
        incoming.on_arrival = self._readable

    def __repr__(self) -> str:
        return f"<MemoryStream {self._out.label}>"

    @property
    def ends(self) -> tuple[str, str]:
        """The node that holds this end, and the node at the other."""
        return self._out.path.src, self._out.path.dst

    @property
    def halted(self) -> bool:
        """The machine that holds this end stands still."""
        return self._machine is not None and self._machine.halted

    @property
    def unsent(self) -> int:
        """Bytes that the window did not admit yet."""
        return len(self._out.unsent)

    @property
    def busy(self) -> bool:
        """Bytes from here are unsent, in flight or unread, and nothing holds them up."""
        held_up = self._out.path.blocked or self._in.path.blocked or self.halted
        held_up = held_up or (self._peer is not None and self._peer.halted)
        return self._out.busy and not held_up

    @property
    def names(self) -> frozenset[str] | None:
        """Nothing to check: there are no certificates in memory."""
        return None

    async def established(self) -> None:
        """Bytes flow from the start."""

    async def proven(self) -> None:
        """The window bounds what is read ahead."""

    def join(self, peer: "MemoryStream") -> None:
        """Name the other end: where resets go."""
        self._peer = peer

    async def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; ``b""`` at the end of the stream; raises `ConnectionResetError`."""
        while not self._in.unread:
            if self._fault:
                raise ConnectionResetError(errno.ECONNRESET, self._fault)
            if self._closed or self._in.ended:
                return b""
            await self._arrival()
        return self._in.read(size)

    def write(self, data: bytes) -> None:
        """Take bytes for sending; once the connection is lost or closed, drop them."""
        if self._machine is not None and self.halted:  # others may call into it: it writes when it runs
            self._loop.call_soon(self.write, data, context=self._machine.context())
        elif data and not (self._fault or self._closed):
            self._out.send(data)

    async def drain(self) -> None:
        """Wait until few bytes are unsent; raises `ConnectionResetError`."""
        if self.unsent > HIGH_WATER:
            await self._room(LOW_WATER)
        if self._fault or self._closed:
            raise ConnectionResetError(errno.ECONNRESET, self._fault or "the connection is closed")

    def abort(self) -> None:
        """Drop the connection: the other end sees a reset or, by chance, an early end of the stream."""
        if self._closed:
            return
        self._out.discard()
        if not self._fault and self._out.path.chance() < 0.5:
            self._out.close()
        elif not self._fault:
            self.send_reset(f"reset by {self.ends[0]}")
        self.vanish()

    async def aclose(self) -> None:
        """Wait until nothing is unsent, then end the stream; aborts when cancelled."""
        try:
            await self._room(0)
        except asyncio.CancelledError:
            self.abort()
            raise
        if not (self._closed or self._fault):
            self._out.close()
        self.vanish()

    # -- what befalls it ----------------------------------------------------------

    def vanish(self) -> None:
        """This end is gone, and nobody is told."""
        self._closed = True
        self._out.discard()
        self._in.stop_receiving()
        self._wake()
        self._forget(self)

    def send_reset(self, reason: str) -> None:
        """Tell the other end, once, that the connection is lost."""
        path, peer = self._out.path, self._peer
        if peer is not None and not (path.blocked or self._out.severed):
            path.after(path.delay(), lambda: None if path.blocked else peer.lose(reason))

    def lose(self, reason: str) -> None:
        """The connection is lost: all that is unsent and unread with it."""
        if self._fault or self._closed:
            return
        self._loop.trace.add("reset", self._in.label, reason)
        self._fault = reason
        self._out.discard()
        self._in.stop_receiving()
        self._in.unread.clear()
        self._wake()

    def lose_touch(self) -> None:
        """Nothing from here arrives any more, and neither end is told."""
        self._out.severed = True

    def _refused(self) -> None:
        """What was sent from here came to a closed end: the answer is a reset."""
        if self._peer is not None:
            self._peer.send_reset(f"{self.ends[1]} has no such connection")

    # -- waiting ------------------------------------------------------------------

    async def _arrival(self) -> None:
        if self._reader is not None:
            raise RuntimeError("read() is called while another read() waits")
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def _room(self, size: int) -> None:
        while self.unsent > size and not (self._fault or self._closed):
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._writers.append(waiter)
            await waiter

    def _readable(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _writable(self) -> None:
        writers, self._writers = self._writers, []
        for waiter in writers:
            if not waiter.done():
                waiter.set_result(None)

    def _wake(self) -> None:
        self._readable()
        self._writable()
