"""Mailboxes: what waits for one actor, bounded, in order.

An inbox has two lanes. The *system* lane (stop, suspend, resume) is read first and is
not bounded; the *user* lane keeps the order in which messages came. In it calls, casts
and infos count against the bound; *signals* (Down, Exit, timers, members) keep their
place among them, count against nothing and are never dropped.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, Protocol, get_args

from clusterkit.core.identity import NodeId
from clusterkit.errors import ConfigError
from clusterkit.kernel.address import Address
from clusterkit.transport.senders import Room, Senders

Overflow = Literal["reject", "block", "drop_oldest", "drop_newest"]
_AHEAD, _AHEAD_SIZE = 32_768, 16 << 20  # an outbox: what a peer may have sent before it knows that this blocks
_MOST_ASKERS = 4_096  # questions of other nodes that wait for room: two from each sender of each link, with some over
_CLOSED = 1 << 60  # less room than any number of messages makes
_SWEEP_PERIOD = 0.05  # seconds between two searches of a full inbox for messages that nobody waits for


@dataclass(frozen=True, slots=True)
class Mailbox:
    """How much may wait for an actor, and what becomes of the rest.

    ``limit`` messages and ``bytes`` of packed payload (what comes from this node is not packed, and
    counts as a message only). ``overflow``: "reject" tells the sender `MailboxFull`; "block" lets
    senders wait, to their deadlines; "drop_oldest" and "drop_newest" drop: what is dropped is a dead letter on
    this node, a call that is dropped gets `MailboxFull`. Raises `ConfigError`.

    Not promised: the exact bound of one that blocks, to other nodes. What they sent before they knew that it
    blocks, about 1 MiB or 4,000 messages each and an outbox at the most, is taken beyond it, and two windows later on.

    >>> Mailbox(10, overflow="block")
    Mailbox(limit=10, bytes=67108864, overflow='block')
    """

    limit: int = 1_000
    bytes: int = 64 << 20
    overflow: Overflow = "reject"

    def __post_init__(self) -> None:
        for name in ("limit", "bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"Mailbox({name}={value!r}): it must be a positive int")
        if self.overflow not in get_args(Overflow):
            raise ConfigError(f"Mailbox(overflow={self.overflow!r}): it must be one of {', '.join(get_args(Overflow))}")


class Op(IntEnum):
    """What a letter asks for."""

    CALL = 1
    CAST = 2
    INFO = 3
    SIGNAL = 4  # put by the runtime: an INFO that no bound keeps out
    STOP = 5  # from here on what is not the user's
    SUSPEND = 6
    RESUME = 7
    FAILED = 8


_CALL, _SIGNAL = int(Op.CALL), int(Op.SIGNAL)


class From:
    """Who sent the message that a handler works on, and where a reply goes.

    ``peer`` is the node; ``deadline`` the moment (loop time, seconds) after which
    nobody waits any more, None for a cast; ``expects_reply`` is True for a call
    that is not answered yet.
    """

    # The kernel's own: the link (None: this node), the call's number there, and the session
    # that asked (the waiting `Call` itself on this node); the turns that wait for this one, and
    # who handles it now.
    __slots__ = ("_chain", "_holder", "_link", "_number", "_waiting", "deadline", "expects_reply", "peer")

    def __init__(
        self,
        peer: NodeId,
        deadline: float | None,
        link: Any,
        number: int,
        waiting: Any,
        expects_reply: bool,
        chain: tuple[str, ...] | None = None,
    ) -> None:
        self.peer = peer
        self.deadline = deadline
        self.expects_reply = expects_reply
        self._link = link
        self._number = number
        self._waiting = waiting
        self._chain = chain
        self._holder: Holder | None = None

    def __repr__(self) -> str:
        return f"<From {self.peer}{' (call)' if self.expects_reply else ''}>"


class Holder(Protocol):
    """What a kernel knows of who reads an inbox."""

    @property
    def turn(self) -> str | None:
        """The name of the turn that lets no other message in now; None when there is none."""

    def is_held_by(self, frm: From) -> bool:
        """Whether that turn is the one that lets no other message in."""

    def give_up(self, link: Any, number: int, waiting: Any) -> None:
        """The caller of a request that was taken waits no more: by its number on a link, or on this node itself."""

    def exited(self, address: Address, reason: str) -> None:
        """A linked process ended."""


# One message in a mailbox: op, handler, args, kwargs, from, packed. Packed payloads are
# decoded at the actor's door. A plain tuple: every message makes one. In the place of kwargs a
# signal has what says, when it is taken, whether it is still to be handled.
Letter = tuple[int, str, Any, Any, From, bool]


class Inbox:
    """The queue of one actor, and where it stands in the kernel. ``dropped`` is told of each letter that is dropped, and why."""

    def __init__(self, serial: int, name: str | None, policy: Mailbox, dropped: Callable[[Letter, str], None]) -> None:
        self.serial = serial
        self.name = name
        self.limit = policy.limit
        self.most_bytes = policy.bytes
        self.overflow = policy.overflow
        self.size = 0  # bytes of packed payload that wait
        self.closing = False  # nothing new is taken
        self.held = False  # suspended: the user lane waits
        self.holder: Holder | None = None
        self.concurrent: frozenset[str] = frozenset()  # the handlers that may run while another awaits
        self.watchers: dict[object, Callable[[str], None]] = {}  # told how it ended
        self._dropped = dropped
        self._loop = asyncio.get_running_loop()
        self._system: deque[Letter] = deque()
        self._user: deque[Letter] = deque()
        self._gone = 0  # requests in the user lane whose callers gave up
        self._room_left = policy.limit  # messages until it is full; none when it is closing
        self._line: Senders[Letter] | None = Senders() if policy.overflow == "block" else None
        self._askers: deque[Callable[[], None]] = deque()  # who waits on other nodes for room
        self._waiter: asyncio.Future[None] | None = None
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._user) - self._gone

    @property
    def shown(self) -> str:
        """What to call the actor in a message to people."""
        return self.name or f"#{self.serial}"

    @property
    def full_text(self) -> str:
        """What to say when it takes nothing."""
        if self.closing:
            return f"{self.shown} is stopping"
        waiting = self.limit - self._room_left
        size = f" ({self.size} bytes)" if self.size else ""
        return f"the mailbox of {self.shown} is full: {waiting} messages wait{size}"

    # -- in

    def put(self, letter: Letter) -> bool:
        """Add to the user lane; False when it is closing, or full and the sender is to know."""
        if (self._room_left <= 0 or self.size >= self.most_bytes) and not self._has_room():
            return self._overflowed(letter)
        self._room_left -= 1  # what follows is _append, without its call
        self._user.append(letter)
        if letter[5]:
            self.size += len(letter[2]) + (len(letter[3]) if letter[3] else 0)
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)
        return True

    def put_anyway(self, letter: Letter) -> bool:
        """Add what another node sent before it knew that senders have to wait; False when that is far too much."""
        if self.closing or self._room_left <= -_AHEAD or self.size >= self.most_bytes + _AHEAD_SIZE:
            return False
        self._append(letter)
        return True

    async def put_when_room(self, letter: Letter, deadline: float) -> bool:
        """Add when there is room, in the order in which senders came; False at the deadline or when it closes."""
        assert self._line is not None
        try:
            return await self._line.wait(letter, deadline) is Room.TAKEN
        except asyncio.CancelledError:
            if letter[0] == _CALL and any(each is letter for each in reversed(self._user)):
                self.remove(letter[4])  # it was let in just now
            raise

    @property
    def has_room(self) -> bool:
        """Whether a sender on another node may go on."""
        return self.closing or len(self._askers) >= _MOST_ASKERS or not (self._is_full or self._askers)

    def when_room(self, told: Callable[[], None]) -> None:
        """Tell once when there is room again, or when it closes."""
        self._askers.append(told)

    @property
    def has_system(self) -> bool:
        """Whether something waits in the system lane."""
        return bool(self._system)

    def put_signal(self, letter: Letter) -> None:
        """Add a signal: it keeps its place, and no bound keeps it out."""
        if not self.closing:
            self._user.append(letter)
            self.wake()

    def put_system(self, letter: Letter) -> None:
        """Add to the system lane, which is read first."""
        self._system.append(letter)
        self.wake()

    def _append(self, letter: Letter) -> None:
        self._room_left -= 1
        self._user.append(letter)
        if letter[5]:
            self.size += len(letter[2]) + (len(letter[3]) if letter[3] else 0)
        self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    # -- overflow

    @property
    def _is_full(self) -> bool:
        return self._room_left <= 0 or self.size >= self.most_bytes

    def _has_room(self) -> bool:
        if self.closing or self._line:
            return False
        if self._is_full and (now := self._loop.time()) >= self._swept_at + _SWEEP_PERIOD:
            self._swept_at = now
            for op, _, _, _, frm, _ in list(self._user):
                if op == _CALL and not is_awaited(frm, now):
                    self.remove(frm)
            if self._gone:
                self._sweep()  # for their bytes
        return not self._is_full

    def _overflowed(self, letter: Letter) -> bool:
        if self.closing or self.overflow in ("reject", "block"):
            return False
        if self.overflow == "drop_newest":
            self._dropped(letter, self.full_text)
            return True
        while self._is_full and (at := self._first(lambda each: each[0] != _SIGNAL)) is not None:
            text = self.full_text
            oldest = self._pull(at)
            if not self._was_gone(oldest):
                self._dropped(oldest, text)
        self._append(letter)
        return True

    def _first(self, wanted: Callable[[Letter], bool]) -> int | None:
        return next((at for at, letter in enumerate(self._user) if wanted(letter)), None)

    def _pull(self, at: int) -> Letter:
        letter = self._user[at]
        del self._user[at]
        return letter

    def _was_gone(self, letter: Letter) -> bool:
        """Take note that a letter left the user lane; True when it was taken out before."""
        self._shrink(letter)
        if letter[0] == _CALL and not letter[4].expects_reply:
            self._gone -= 1
            return True
        self._room_left += 1
        return False

    def _shrink(self, letter: Letter) -> None:
        if letter[5]:
            self.size -= len(letter[2]) + (len(letter[3]) if letter[3] else 0)

    def remove(self, frm: From) -> bool:
        """Take out the request of a caller that gave up; False when it was taken. Its place is free at once. O(1)."""
        if frm._holder is not None or not frm.expects_reply:
            return False
        frm.expects_reply = False  # it is passed over when its turn comes
        self._gone += 1
        self._room_left += 1
        if self._gone > 16 + len(self._user) // 2:
            self._sweep()
        self._let_in()
        return True

    def numbered(self, link: Any, numbers: set[int]) -> list[From]:
        """Find requests of another node by their numbers there. O(n) for all of them."""
        return [
            frm
            for op, _, _, _, frm, _ in self._user
            if op == _CALL and frm._link is link and frm._number in numbers and frm.expects_reply
        ]

    def _sweep(self) -> None:
        """Forget what was taken out."""
        kept: deque[Letter] = deque()
        for letter in self._user:
            if letter[0] == _CALL and not letter[4].expects_reply:
                self._shrink(letter)
            else:
                kept.append(letter)
        self._user = kept
        self._gone = 0

    # -- out

    def take(self) -> Letter | None:
        """The next letter, or None when there is none."""
        if self._system:
            return self._system.popleft()
        if self._gone:
            self._pass_over_gone()
        if not self._user or self.held:
            return None
        letter = self._user.popleft()
        if letter[0] != _SIGNAL:
            self._room_left += 1  # and this _shrink
            if letter[5]:
                self.size -= len(letter[2]) + (len(letter[3]) if letter[3] else 0)
            if self._line is not None:
                self._let_in()
        return letter

    def next(self) -> Letter | None:
        """The letter that `take` would give, which stays."""
        if self._system:
            return self._system[0]
        if self._gone:
            self._pass_over_gone()
        return self._user[0] if self._user and not self.held else None

    def _pass_over_gone(self) -> None:
        """Forget what was taken out and stands first."""
        user = self._user
        while user and user[0][0] == _CALL and not user[0][4].expects_reply:
            self._shrink(user.popleft())
            self._gone -= 1

    def take_reentrant(self) -> Letter | None:
        """A request for a concurrent handler from somebody who waits, directly or not, for the turn that runs."""
        turn = self.holder.turn if self.holder is not None else None
        at = self._first(
            lambda each: each[1] in self.concurrent and each[4].expects_reply and turn in (each[4]._chain or ())
        )
        if at is None or self.held:
            return None
        letter = self._pull(at)
        self._was_gone(letter)
        self._let_in()
        return letter

    def _let_in(self) -> None:
        if self._line:
            self._line.let_in(self._admit)
        if self._askers and not self._is_full:
            self._askers.popleft()()  # one for a place: each may send many
            while self._askers and len(self._user) <= self._gone:
                self._askers.popleft()()

    def _admit(self, letter: Letter) -> bool:
        if self._is_full:
            return False
        self._append(letter)
        return True

    async def arrival(self) -> None:
        """Wait until a letter comes, or somebody calls `wake`. One reader at a time."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def shut(self) -> None:
        """Take nothing new from now on; what waits stays, and who waits for room is turned away."""
        if self.closing:
            return
        self.closing = True
        self._room_left -= _CLOSED
        if self._line is not None:
            self._line.turn_away()
        while self._askers:
            self._askers.popleft()()

    def close(self) -> list[Letter]:
        """End: return what was waiting."""
        self.shut()
        self._sweep()
        waiting = [letter for letter in self._user if letter[0] != _SIGNAL]
        self._system.clear()
        self._user.clear()
        self.size = 0
        return waiting


def is_awaited(frm: From, now: float) -> bool:
    """Whether the caller of a request still waits."""
    if frm._link is None:
        return not frm._waiting.future.done()
    return frm.deadline is None or frm.deadline >= now
