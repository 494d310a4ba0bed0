"""One open connection seen from one end: records, acknowledgements, health, goodbye.

A channel joins a `Session`, which outlives it, to the keys of one connection. It
turns bytes into effects (`receive`), what is queued into records (`next_record`),
and time into PING or a cut (`tick`). It does no I/O.

Rules (docs/wire.md, "Sessions" and "State machines"): a RESUME each way opens it,
the initiator's first; nothing but RESUME is written before; its records begin small
and grow, so that a peer behind a line that breaks early gets on all the same; an
acknowledgement rides on a record that goes out anyway, and goes alone after 20 ms, 64
KiB or 1,024 messages, but not for up to 64 ring messages that each came alone; an idle
channel is silent; one that awaits an answer and reads nothing for 5 s sends PING, and is
cut at 15 s.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

from clusterkit.core.messages import Op
from clusterkit.core.proof import RecordKeys
from clusterkit.core.record import Kind, RecordReader, RecordWriter, part
from clusterkit.core.session import Outgoing, Resume, Session, StaleSession
from clusterkit.errors import ProtocolError

FLUSH_SIZE = 64 << 10
FIRST_FLUSH = 1 << 10  # of a new connection: should none live long, each still carries something whole
OVERHEAD = 128  # what a record holds beside one message, at the most
_MOST_ELEMENTS = 65_535
_RING = [int(Op.RING)]  # how a ring message begins
_ACK_MESSAGES = 1_024
_ACK_SIZE = 64 << 10
_RING_MESSAGES = 64  # that came alone: so many wait for a record to ride on, as probes at rest do
_MOST_PONGS = 64  # PINGs left unanswered beyond it: who sends so many does not wait for each
_PONGS_A_RECORD = 4
_OVERSLEPT = 1.0  # a look this much too late says nothing about the peer


class Reason(IntEnum):
    """Why a side says goodbye."""

    STOP = 1
    LEAVE = 2
    AGAIN = 3
    DROP = 4


@dataclass(frozen=True, slots=True)
class Health:
    """The timers of a channel, in seconds."""

    ack_delay: float = 0.02
    ping_after: float = 5.0
    cut_after: float = 15.0
    record_within: float = 30.0
    write_stall: float = 10.0


@dataclass(frozen=True, slots=True)
class Resumed:
    """The peer's RESUME came: answer with `Channel.open` before reading on."""

    theirs: Resume


@dataclass(frozen=True, slots=True)
class Ponged:
    """The answer to a PING."""

    token: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Messages in order; they count as received."""

    messages: list[Any]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The peer said its last word."""

    reason: Reason


Effect = Resumed | Deliver | Ponged | Goodbye


class LinkCut(ConnectionError):
    """The channel was silent, or did not move, for too long."""


class Channel:
    """The record phase of one connection.

    The initiator calls `start` with its session; both call `open` when `Resumed`
    comes. ``expects_reply`` tells whether a call waits for this peer; ``most`` is
    the largest record accepted, in bytes.
    """

    _session: Session

    def __init__(
        self,
        keys: RecordKeys,
        *,
        initiator: bool,
        most: int,
        health: Health,
        expects_reply: Callable[[], bool],
    ) -> None:
        mine, theirs = keys.by_initiator, keys.by_responder
        if not initiator:
            mine, theirs = theirs, mine
        self.opened = False
        self._writer = RecordWriter(mine)
        self._reader = RecordReader(theirs, most)
        self._initiator = initiator
        self._most = most
        self._health = health
        self._expects_reply = expects_reply
        self._flush_size = FIRST_FLUSH  # doubles with each record
        self._urgent: list[bytes] = []
        self._resume = b""
        self._goodbye = b""
        self._ended = False  # our last word is said
        self._pongs: deque[bytes] = deque(maxlen=_MOST_PONGS)
        self._unreported = 0  # messages received and not acknowledged
        self._unreported_size = 0
        self._ack_at: float | None = None
        self._read_at = 0.0
        self.heard_at = 0.0
        """When a record with a good tag last came; 0 when none has."""
        self._watch_from: float | None = None  # since when something is awaited
        self._record_from: float | None = None
        self._ping_sent = False
        self._written_size = 0  # bytes of all records
        self._taken_size = 0  # of them, what the network had taken at the last look
        self._moved_at = 0.0
        self._look_at: float | None = None

    # -- the two RESUMEs

    def start(self, session: Session) -> None:
        """Make our RESUME the first record: the initiator's, right after the proofs."""
        self._session = session
        self._resume = self._resume_of(session)

    def _resume_of(self, session: Session) -> bytes:
        return part(Kind.RESUME, session.resume(self._most).pack())

    def open(self, session: Session, theirs: Resume) -> list[Outgoing]:
        """Join the channel to its session; return what was written in an earlier one and is lost or done.

        Raises `ProtocolError` as `Session.resumed` does, `StaleSession` when the session
        that `start` announced is no more.
        """
        if self._initiator and session is not self._session:
            raise StaleSession("our session ended while the link was opening")
        ours = self._resume_of(session)  # as it stood when theirs came
        lost = session.resumed(theirs)
        if not self._initiator:
            self._resume = ours
        self._session = session
        self.opened = True
        return lost

    # -- in

    def receive(self, data: bytes, now: float) -> Iterator[Effect]:
        """Take bytes; yield effects in order. Raises `ProtocolError`, after what came before it."""
        self._read_at = now
        self._ping_sent = False
        for parts in self._reader.feed(data):
            self.heard_at = now
            self._record_from = None
            for kind, body in parts:
                if kind == Kind.DATA:
                    yield self._data(body, now)
                else:
                    yield from self._other(kind, body)
        self._record_from = (self._record_from or now) if self._reader.inside_record else None

    def _data(self, body: bytes, now: float) -> Effect:
        try:
            messages = msgpack.unpackb(body, max_array_len=_MOST_ELEMENTS, max_ext_len=0)
        except Exception as error:  # noqa: BLE001 - msgpack's decoder raises many kinds
            raise ProtocolError(f"DATA that is no array of messages: {error!r}", proven=True) from None
        if type(messages) is not list or not messages:
            raise ProtocolError("DATA that is no array of messages", proven=True)
        self._session.received += len(messages)
        self._unreported += len(messages)
        self._unreported_size += len(body)
        if self._ack_at is None and (self._unreported >= _RING_MESSAGES or not _is_lone_ring_message(messages)):
            self._ack_at = now + self._health.ack_delay
        return Deliver(messages)

    def _other(self, kind: int, body: bytes) -> Iterator[Effect]:
        if kind == Kind.ACK:
            self._session.acknowledge(int.from_bytes(body, "big"))
        elif kind == Kind.PING:
            self._pongs.append(part(Kind.PONG, body))
        elif kind == Kind.PONG:
            yield Ponged(int.from_bytes(body, "big"))
        elif kind == Kind.RESUME:
            yield Resumed(Resume.unpack(body))
        else:  # GOODBYE: the reader lets no other kind through
            if body[0] not in Reason.__members__.values():
                raise ProtocolError(f"GOODBYE with reason {body[0]}", proven=True)
            yield Goodbye(Reason(body[0]))

    # -- out

    @property
    def wants_write(self) -> bool:
        """Whether `next_record` would give one now."""
        if self._ended:
            return False
        return bool(
            self._resume
            or self._urgent
            or self._pongs
            or self._goodbye
            or (self.opened and (self._session.has_queued or self._ack_due))
        )

    @property
    def _ack_due(self) -> bool:
        return self._unreported >= _ACK_MESSAGES or self._unreported_size >= _ACK_SIZE

    def say_goodbye(self, reason: Reason) -> None:
        """Make the next record the last."""
        if not self.opened:
            return
        self._goodbye = part(Kind.GOODBYE, bytes((reason,)))

    def next_record(self, now: float) -> bytes | None:
        """Sign what goes out now: at most 64 KiB plus one message; None when there is nothing."""
        if self._resume:  # the first record is nothing else
            record, self._resume = self._writer.seal([self._resume]), b""
            return record
        if not self.opened or self._ended:
            return None
        session = self._session
        bodies = session.take(self._flush_size, session.peer_most - OVERHEAD) if not self._goodbye else []
        for _ in range(min(len(self._pongs), _PONGS_A_RECORD)):
            self._urgent.append(self._pongs.popleft())
        if self._unreported and (bodies or self._urgent or self._goodbye or self._ack_due):
            self._acknowledge()
        if bodies:
            if self._watch_from is None:
                self._watch_from = now
            if self._flush_size < FLUSH_SIZE:
                self._flush_size *= 2
            self._urgent.append(_data_part(bodies))
        if self._goodbye:
            self._urgent.append(self._goodbye)
            self._ended = True
        return self._seal_urgent()

    def _seal_urgent(self) -> bytes | None:
        if not self._urgent:
            return None
        record = self._writer.seal(self._urgent)
        self._urgent.clear()
        self._written_size += len(record)
        return record

    def _acknowledge(self) -> None:
        if self._unreported:
            self._urgent.append(part(Kind.ACK, self._session.received.to_bytes(8, "big")))
        self._unreported = self._unreported_size = 0
        self._ack_at = None

    # -- time

    @property
    def ack_at(self) -> float | None:
        """When an acknowledgement is due that nothing carried yet."""
        return self._ack_at

    def acknowledge_late(self) -> None:
        """Put the acknowledgement that is due into the next record."""
        self._acknowledge()

    @property
    def inside_record(self) -> bool:
        """Whether the peer has begun a record and not ended it."""
        return self._record_from is not None

    @property
    def held(self) -> int:
        """How many messages the peer has not acknowledged, or not got; what keeps the ring does not count."""
        return len(self._session) if self.opened else 0

    @property
    def awaits(self) -> bool:
        """Whether silence of the peer would mean something."""
        return self.opened and (self.held > 0 or self._ping_sent or self._expects_reply())

    def probe(self, token: int) -> None:
        """Send PING with the next record, whatever is awaited."""
        self._urgent.append(part(Kind.PING, token.to_bytes(8, "big")))
        self._ping_sent = True

    def watch(self, now: float, unsent: int) -> float | None:
        """Look after the channel's health; return when to look again, None while it is idle.

        ``unsent`` is what the network has not taken. Raises `LinkCut`. Called much
        too late (the process was stopped, the loop was blocked) it starts anew:
        the silence may have been ours.
        """
        if self._look_at is not None and now - self._look_at > _OVERSLEPT:
            self._watch_from = self._moved_at = now
            self._record_from = self._record_from and now
        self._check_progress(now, unsent)
        look_at = self._next_look(now, unsent)
        if look_at is not None and unsent:
            look_at = min(look_at, max(now, self._moved_at + self._health.write_stall))
        self._look_at = look_at
        return look_at

    def _check_progress(self, now: float, unsent: int) -> None:
        health = self._health
        taken = self._written_size - unsent
        if taken > self._taken_size or not unsent or not self._moved_at:
            self._moved_at = now
        self._taken_size = taken
        if unsent and now >= self._moved_at + health.write_stall:
            raise LinkCut(f"no progress of a write for {health.write_stall:g} s")
        if self._record_from is not None and now >= self._record_from + health.record_within:
            raise LinkCut(f"a record did not end within {health.record_within:g} s")

    def _next_look(self, now: float, unsent: int) -> float | None:
        health = self._health
        if not self.awaits:
            self._watch_from = None
            return now + health.ping_after if unsent or self._record_from is not None else None
        if self._watch_from is None:
            self._watch_from = now
        silent_from = max(self._read_at, self._watch_from)
        if now >= silent_from + health.cut_after:
            raise LinkCut(f"nothing heard for {health.cut_after:g} s while an answer was due")
        if now < silent_from + health.ping_after:
            return silent_from + health.ping_after
        if not self._ping_sent:
            self.probe(0)
        return min(silent_from + health.cut_after, now + health.ping_after)


def _is_lone_ring_message(messages: list[Any]) -> bool:
    return len(messages) == 1 and type(messages[0]) is list and messages[0][:1] == _RING


def _data_part(bodies: list[bytes]) -> bytes:
    count = len(bodies)
    header = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return part(Kind.DATA, header + b"".join(bodies))
