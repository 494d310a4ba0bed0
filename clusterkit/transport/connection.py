"""One connection: bytes in and out of a `Channel`, its timers, its end.

Rules: reading never waits for writing (two peers that both send would wait for
each other); all that one turn of the loop sends leaves in one record; when the
network is slow one task waits for it, and the queue grows where it is bounded.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusterkit.core.channel import Channel, Deliver, Effect, Goodbye, LinkCut, Ponged, Reason, Resumed
from clusterkit.core.session import Resume, Session
from clusterkit.errors import CrossedDials, InvalidChecksum, ProtocolError
from clusterkit.runtime import Tasks, now
from clusterkit.transport.base import Stream

logger = logging.getLogger("clusterkit.transport")

_READ_SIZE = 256 << 10
SHARE = 32  # messages of one turn that leave in a record of their own: two processes then work at once
_HIGH_WATER = 64 << 10  # with more than this unsent, the queue waits in the session
_FAREWELLS = {
    Reason.STOP: "stopped",
    Reason.LEAVE: "left",
    Reason.AGAIN: "asked for another connection",
    Reason.DROP: "has this node in its ring no more",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection ended: lost, or with a goodbye, or by a broken rule."""

    why: str
    goodbye: Reason | None = None
    broken: bool = False  # a holder of the cookie broke the protocol: the session ends
    forged: bool = False  # a MAC did not match
    silent: bool = False  # cut, because the peer gave no sign
    lost: bool = False  # it broke


class Connection:
    """Runs one channel over one stream.

    ``resumed`` is called with the peer's RESUME and opens the channel; ``deliver``
    with each batch of messages; ``progressed`` after bytes came that may have
    acknowledged some of ours.
    """

    def __init__(
        self,
        stream: Stream,
        channel: Channel,
        *,
        cookie: bytes,
        dialled: bool,
        resumed: Callable[["Connection", Resume], None],
        deliver: Callable[[list[Any]], None],
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        self.channel = channel
        self.stream = stream
        self.cookie = cookie  # the key of the one that proved it
        self.dialled = dialled
        self.open = False
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._resumed = resumed
        self._deliver = deliver
        self._progressed = progressed
        self._settling: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("connection")
        self.flushing = False
        self.busy = False  # this turn, or the last, has more than one message
        self._stalled = False
        self.bytes_in = self.bytes_out = 0  # of records
        self.held = 0  # messages put into the outbox since this turn's last record
        self.closed = False  # given up, or ended
        self._cut: Ended | None = None  # how this side cut it
        self._watch: asyncio.TimerHandle | None = None
        self._ack: asyncio.TimerHandle | None = None
        self._pongs: dict[int, asyncio.Future[None]] = {}

    # -- life

    async def run(self) -> Ended:
        """Read until the end, and say how it ended. The stream is closed then."""
        end = Ended("closed here")
        try:
            end = await self._read()
        finally:
            self._stop()
            self.ended.set_result(end)
            await self._tasks.aclose()
            await self._close_stream(end)
        return end

    async def _read(self) -> Ended:
        channel, read = self.channel, self.stream.read
        try:
            while data := await read(_READ_SIZE):
                self.bytes_in += len(data)
                if self.closed:
                    break  # given up for another: what it still brings is counted there
                for effect in channel.receive(data, self._loop.time()):
                    if type(effect) is Deliver:
                        self._deliver(effect.messages)
                    elif (end := self._special(effect)) is not None:
                        return end
                self._progressed()
                self._settle()
                if channel.wants_write:
                    self.flush_soon()
                if channel.inside_record and self._watch is None:
                    self._look(now())
                if self._ack is None and (ack_at := channel.ack_at) is not None:
                    self._ack = self._loop.call_at(ack_at, self._ack_due)
            return self._cut or Ended("closed by the other end")
        except (CrossedDials, ProtocolError, OSError) as error:
            return self._ended_by(error)
        except Exception as error:
            logger.exception("a fault of this side ends the connection to %s", self.stream.remote)
            return Ended(f"a fault of this side: {error!r}", broken=True)

    def _ended_by(self, error: CrossedDials | ProtocolError | OSError) -> Ended:
        match error:
            case ProtocolError():
                logger.debug("%s from %s", error, self.stream.remote)
                return Ended(str(error), broken=error.proven, forged=isinstance(error, InvalidChecksum))
            case OSError():
                return self._cut or Ended(str(error) or type(error).__name__, lost=True)
        return Ended(str(error))

    def _special(self, effect: Effect) -> Ended | None:
        match effect:
            case Resumed(theirs=theirs):
                self._resumed(self, theirs)
            case Goodbye(reason=reason):
                return Ended(_FAREWELLS[reason], goodbye=reason)
            case Ponged(token=token) if (waiter := self._pongs.pop(token, None)) is not None and not waiter.done():
                waiter.set_result(None)
        return None

    def _stop(self) -> None:
        self.closed = True
        self.open = False
        for timer in (self._watch, self._ack):
            if timer is not None:
                timer.cancel()
        for waiter in self._pongs.values():
            waiter.cancel()

    async def _close_stream(self, end: Ended) -> None:
        if end.goodbye is None:
            self.stream.abort()
        try:
            async with asyncio.timeout(1.0):
                await self.stream.aclose()
        except TimeoutError:
            self.stream.abort()

    def cut(self, why: str = "closed here", *, silent: bool = False) -> None:
        """Drop the connection: from now on it takes nothing from its session and brings nothing. `run` returns soon."""
        self._cut = self._cut or Ended(why, silent=silent)
        self.closed = True
        self.open = False
        self.stream.abort()

    # -- out

    def start(self, session: Session) -> None:
        """Send our RESUME: the initiator's first word."""
        self.channel.start(session)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write what is queued when this turn of the loop has ended.

        At once when the last turn had one message only: a caller that waits for each
        answer gains a turn at both ends, and many callers still share their records.
        """
        if self.flushing:
            self.busy = True
            return
        self.flushing = True
        self._loop.call_soon(self._turn_ended)
        if not self.busy:
            self._flush()
        self.busy = False

    def share(self) -> None:
        """Send a part of a long turn now: the other end begins on it while this one goes on."""
        self.held = 0
        self._flush()

    def _turn_ended(self) -> None:
        self.flushing = False
        self.held = 0
        if self.channel.wants_write:
            self._flush()

    def _flush(self) -> None:
        if self._stalled or self.closed:
            return
        channel, stream = self.channel, self.stream
        time = self._loop.time()
        record = channel.next_record(time)
        if record is None:
            self._settle()
            return
        self.bytes_out += len(record)
        stream.write(record)
        self._stalled = stream.unsent > _HIGH_WATER
        if self._stalled or self._watch is None:
            self._look(time)  # a write that is held up must move from now on
        if self._stalled:
            self._tasks.spawn(self._drain(), "drain")
        elif channel.wants_write:  # one record a turn, so that reading goes on
            self.flush_soon()
        else:
            self._settle()

    def _settle(self) -> None:
        """Let `settled` go on when nothing is left to write or to be acknowledged."""
        if self._settling is not None and not self._settling.done() and self._idle():
            self._settling.set_result(None)

    async def _drain(self) -> None:
        try:
            await self.stream.drain()
        except OSError:
            return  # the reader sees it too, and ends the connection
        self._stalled = False
        self._flush()

    # -- time

    def _ack_due(self) -> None:
        self._ack = None
        if self.channel.ack_at is None or self.closed:
            return
        if (at := self.channel.ack_at) > self._loop.time():
            self._ack = self._loop.call_at(at, self._ack_due)
            return
        self.channel.acknowledge_late()
        self.flush_soon()

    def _look(self, time: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        try:
            again = self.channel.watch(time, self.stream.unsent)
        except LinkCut as error:
            logger.info("link to %s cut: %s", self.stream.remote, error)
            self.cut(str(error), silent=True)
            return
        if again is not None and not self.closed:
            self._watch = self._loop.call_at(again, self._looked)
        if self.channel.wants_write:
            self.flush_soon()

    def _looked(self) -> None:
        self._watch = None
        if not self.closed:
            self._look(self._loop.time())

    async def alive(self, timeout: float) -> bool:
        """Ask with PING whether the other end still answers within ``timeout`` seconds."""
        if self.closed or not self.open:
            return False
        token = max(self._pongs, default=0) + 1
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._pongs[token] = waiter
        self.channel.probe(token)
        self.flush_soon()
        await self._first_of(waiter, timeout)
        self._pongs.pop(token, None)
        answered = waiter.done() and not waiter.cancelled()
        waiter.cancel()
        return answered

    async def _first_of(self, waiter: asyncio.Future[None], timeout: float) -> None:
        """Wait until ``waiter`` or the end of the connection, or ``timeout`` seconds."""
        either: set[asyncio.Future[Any]] = {waiter, self.ended}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def settled(self, deadline: float) -> bool:
        """Wait until all is written and acknowledged; False at ``deadline``, or when the connection ended before."""
        if self.open and not self._idle():
            self._settling = self._loop.create_future()
            self.flush_soon()
            await self._first_of(self._settling, max(0.0, deadline - now()))
        return self.open and self._idle()

    async def part(self, reason: Reason) -> bool:
        """Say goodbye and close; the other end has a second to close too. False when the connection broke before."""
        if self.closed:
            return False
        self.channel.say_goodbye(reason)
        self.open = False
        self.flush_soon()
        await asyncio.wait({self.ended}, timeout=1.0)
        self.cut()
        return not (self.ended.done() and self.ended.result().lost)

    def _idle(self) -> bool:
        return not (self.channel.wants_write or self.channel.held)
