"""What survives a connection: numbered messages, acknowledgements, a bounded outbox.

A session belongs to two incarnations. Messages are numbered 1, 2, 3 ... per
direction when they are first written; numbers are never sent, both ends count. A
message stays here until the peer acknowledged it, so that RESUME can tell what
goes again. Until then it is *queued* (never written: it may be withdrawn, and
nobody can have run it) or *written* (the peer may have it).

Rules (docs/wire.md, "Sessions"): a queue per `Lane`, emptied in that order; a
full outbox takes nothing more and evicts nothing; only DATA elements count.
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from clusterkit.errors import ProtocolError

_RESUME_SIZE = 28
_MOST_ELEMENTS = 65_535


class Lane(IntEnum):
    """The order in which an outbox is emptied."""

    CONTROL = 0  # membership; discarded while no link is open
    REPLY = 1
    REQUEST = 2
    STREAM = 3


class Fate(IntEnum):
    """Where a message is on its way."""

    NEW = 0  # in no session yet
    QUEUED = 1
    WRITTEN = 2
    WITHDRAWN = 3
    ABANDONED = 4  # written, and nobody wants it any more: it does not go again
    DONE = 5  # acknowledged, or reported


# Plain ints for the path that every message takes: an enum's attribute costs 100 ns.
_CONTROL, _REPLY = int(Lane.CONTROL), int(Lane.REPLY)
_NEW, _QUEUED, _WRITTEN, _WITHDRAWN, _ABANDONED, _DONE = map(int, Fate)


class Outgoing:
    """One message on its way to a peer.

    ``by_name`` says that a later incarnation may have it.
    """

    __slots__ = ("body", "by_name", "fate", "lane")
    is_notice = False

    def __init__(self, body: bytes, lane: int, by_name: bool = False) -> None:
        self.body = body
        self.lane = lane
        self.by_name = by_name
        self.fate: int = _NEW


class Notice(Outgoing):
    """A message of the runtime's own: when it is lost, whom it concerns learns it in another way."""

    __slots__ = ()
    is_notice = True


@dataclass(frozen=True, slots=True)
class Resume:
    """The first message of each side of a link."""

    own: int
    peer: int
    received: int
    most: int  # the largest record accepted, in bytes

    def pack(self) -> bytes:
        """The 28 bytes of a RESUME.

        >>> Resume(3, 0, 0, 1 << 20).pack().hex()
        '00000000000000030000000000000000000000000000000000100000'
        """
        numbers = (self.own.to_bytes(8, "big"), self.peer.to_bytes(8, "big"), self.received.to_bytes(8, "big"))
        return b"".join(numbers) + self.most.to_bytes(4, "big")

    @classmethod
    def unpack(cls, body: bytes) -> "Resume":
        """Read a RESUME and check its rules; raises `ProtocolError`."""
        assert len(body) == _RESUME_SIZE
        own, peer, received = (int.from_bytes(body[at : at + 8], "big") for at in (0, 8, 16))
        most = int.from_bytes(body[24:], "big")
        if not own or not 1 << 16 <= most <= 1 << 26:
            raise ProtocolError("a RESUME with numbers that are not allowed", proven=True)
        return cls(own, peer, received, most)


class StaleSession(ProtocolError):
    """An object that has ended is resumed, by the peer or by us: close, and keep the session."""


@dataclass(slots=True)
class Outbox:
    """The bounds of one session's outbox, queued and unacknowledged together."""

    messages: int = 32_768
    size: int = 16 << 20
    control: int = 256 << 10


class Session:
    """One side's object of a session. ``own`` is a number never used before in this boot."""

    def __init__(self, own: int, bounds: Outbox) -> None:
        self.own = own
        self.peer = 0
        self.received = 0
        self.acked = 0
        self.written = 0
        self.size = 0  # bytes held, but for control
        self.peer_most = 0  # the peer's largest record, 0 = not told yet
        self._bounds = bounds
        self._most = bounds.messages
        self._most_size = bounds.size
        self._held = 0
        self._withdrawn = 0  # at most so many withdrawn messages are still in the lanes
        self._control_size = 0
        self._lanes: tuple[deque[Outgoing], ...] = tuple(deque() for _ in Lane)
        self._unacked: deque[Outgoing] = deque()
        self._again: deque[Outgoing] = deque()  # written on an earlier link, to go before anything new

    # -- the sender's side

    @property
    def has_queued(self) -> bool:
        """Whether anything waits to be written."""
        control, reply, request, stream = self._lanes
        return bool(self._again or control or reply or request or stream)

    @property
    def unacked(self) -> int:
        """How many messages are written and not acknowledged."""
        return len(self._unacked) + len(self._again)

    def __len__(self) -> int:
        """How many messages the bound counts, queued and unacknowledged."""
        return self._held

    def put(self, message: Outgoing) -> bool:
        """Queue a message; False when the outbox is full and it was not taken.

        Replies may fill it to twice the bound: their requests were bounded already.
        """
        size = len(message.body)
        lane = message.lane
        if lane == _CONTROL:
            if self._control_size + size > self._bounds.control:
                return False
            self._control_size += size
        else:
            slack = 2 if lane == _REPLY else 1
            held = self.size + size
            if self._held >= self._most * slack or held > self._most_size * slack:
                return False
            self._held += 1
            self.size = held
        message.fate = _QUEUED
        self._lanes[lane].append(message)
        return True

    def put_always(self, message: Outgoing) -> None:
        """Queue a message past the bound: for what was bounded already, as an answer is by its question."""
        self._held += 1
        self.size += len(message.body)
        message.fate = _QUEUED
        self._lanes[message.lane].append(message)

    def withdraw(self, message: Outgoing) -> bool:
        """Take back a message that was never written; False when it was.

        One that was written is abandoned: it goes again on no later connection.
        """
        if message.fate != _QUEUED:
            if message.fate == _WRITTEN:
                message.fate = _ABANDONED
            return False
        message.fate = _WITHDRAWN
        self._release(message)
        self._withdrawn += 1  # its place is given up when its turn comes, or when there are many
        if self._withdrawn > 16 + len(self) // 2:
            self._sweep()
        return True

    def _sweep(self) -> None:
        self._withdrawn = 0
        for lane in self._lanes:
            kept = [message for message in lane if message.fate != _WITHDRAWN]
            lane.clear()
            lane.extend(kept)

    def withdraw_over(self, most: int) -> list[Outgoing]:
        """Take back the queued messages of more than ``most`` bytes: the peer refuses them."""
        over = [each for lane in self._lanes for each in lane if each.fate == _QUEUED and len(each.body) > most]
        for message in over:
            self.withdraw(message)
        return over

    def take(self, soft: int, hard: int) -> list[bytes]:
        """Number and hand over the next messages to write, by priority.

        At most ``soft`` bytes plus one message, and never more than ``hard``.
        """
        bodies: list[bytes] = []
        size = 0
        for lane in (self._again, *self._lanes):
            while lane and size < soft and len(bodies) < _MOST_ELEMENTS:
                message = lane[0]
                if message.fate <= _WRITTEN:
                    size += len(message.body)
                    if size > hard and bodies:
                        break
                    message.fate = _WRITTEN
                    self._unacked.append(message)
                    bodies.append(message.body)
                elif message.fate == _ABANDONED:  # the peer never had it, and its number goes to the next
                    message.fate = _DONE
                    self._release(message)
                lane.popleft()
        self.written += len(bodies)
        return bodies

    def acknowledge(self, received: int) -> None:
        """Forget what the peer has received; raises `ProtocolError` for an impossible number."""
        if not self.acked <= received <= self.written:
            raise ProtocolError(f"ACK {received} outside {self.acked}..{self.written}", proven=True)
        take = self._unacked.popleft
        for _ in range(received - self.acked):
            message = take()
            message.fate = _DONE
            if message.lane == _CONTROL:
                self._control_size -= len(message.body)
            else:
                self._held -= 1
                self.size -= len(message.body)
        self.acked = received

    def _release(self, message: Outgoing) -> None:
        if message.lane == _CONTROL:
            self._control_size -= len(message.body)
        else:
            self._held -= 1
            self.size -= len(message.body)

    # -- links come and go

    def resume(self, most: int) -> Resume:
        """Our RESUME for a link that opens now."""
        return Resume(self.own, self.peer, self.received, most)

    def resumed(self, theirs: Resume) -> list[Outgoing]:
        """Take the peer's RESUME; return our written messages that are lost or done.

        Raises `StaleSession` (close) or `ProtocolError` (close and end the session).
        """
        if theirs.own < self.peer:
            raise StaleSession("the peer resumes an earlier session")
        lost: list[Outgoing] = []
        if theirs.own == self.peer:
            self._resend_from(theirs.received if theirs.peer == self.own else self._never_heard())
        else:
            if self.peer:
                lost = self._forget_written()
            self.peer = theirs.own
            self.received = 0
        self.peer_most = theirs.most
        return lost

    def _never_heard(self) -> int:
        if self.acked:
            raise ProtocolError("the peer acknowledged, and now has never heard of it", proven=True)
        return 0

    def _resend_from(self, received: int) -> None:
        self.acknowledge(received)
        self._unacked.extend(self._again)  # a link that broke while it was sending again
        self._again, self._unacked = self._unacked, deque()
        self.written = received

    def _forget_written(self) -> list[Outgoing]:
        lost = [*self._unacked, *self._again]
        for message in lost:
            message.fate = _DONE
            self._release(message)
        self._unacked.clear()
        self._again.clear()
        self.acked = self.written = 0
        return lost

    def end(self) -> tuple[list[Outgoing], list[Outgoing]]:
        """End the session: what was written and is in doubt, and what never was."""
        written = self._forget_written()
        queued = [message for lane in self._lanes for message in lane if message.fate == _QUEUED]
        for message in queued:
            self._release(message)
            message.fate = _NEW
        for lane in self._lanes:
            lane.clear()
        return written, queued
