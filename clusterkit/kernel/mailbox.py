"""Mailboxes: what waits for one actor, bounded, in order.

A mailbox has two lanes. The *system* lane (stop, suspend, resume, cancel) is read first and
is not bounded; the *user* lane keeps the order in which messages came and takes
`limit` of them.
"""

import asyncio
from collections import deque
from enum import IntEnum
from typing import Any

from clusterkit.core.identity import NodeId


class Op(IntEnum):
    """What a letter asks for."""

    CALL = 1
    CAST = 2
    INFO = 3
    STOP = 4


class From:
    """Who sent the message that a handler works on, and where a reply goes.

    ``peer`` is the node; ``deadline`` the moment (loop time, seconds) after which
    nobody waits any more, None for a cast; ``expects_reply`` is True for a call
    that is not answered yet.
    """

    # The kernel's own: the link (None: this node), the call's number there, and the
    # session that asked (the waiting `Call` itself on this node).
    __slots__ = ("_link", "_number", "_waiting", "deadline", "expects_reply", "peer")

    def __init__(
        self, peer: NodeId, deadline: float | None, link: Any, number: int, waiting: Any, expects_reply: bool
    ) -> None:
        self.peer = peer
        self.deadline = deadline
        self.expects_reply = expects_reply
        self._link = link
        self._number = number
        self._waiting = waiting

    def __repr__(self) -> str:
        return f"<From {self.peer}{' (call)' if self.expects_reply else ''}>"


# One message in a mailbox: op, handler, args, kwargs, from, packed. Packed payloads are
# decoded at the actor's door. A plain tuple: every message makes one.
Letter = tuple[int, str, Any, Any, From, bool]


class Mailbox:
    """The queue of one actor, and where it stands in the kernel."""

    def __init__(self, serial: int, name: str | None, limit: int) -> None:
        self.serial = serial
        self.name = name
        self.limit = limit
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._system: deque[Letter] = deque()
        self._user: deque[Letter] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._user)

    @property
    def shown(self) -> str:
        """What to call the actor in a message to people."""
        return self.name or f"#{self.serial}"

    @property
    def full_text(self) -> str:
        """What to say when it is full."""
        return f"the mailbox of {self.shown} is full: {self.limit} messages wait"

    def put(self, letter: Letter) -> bool:
        """Add to the user lane; False when it is full."""
        user = self._user
        if len(user) >= self.limit:
            return False
        user.append(letter)
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)
        return True

    def put_system(self, letter: Letter) -> None:
        """Add to the system lane, which is read first."""
        self._system.append(letter)
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> Letter | None:
        """The next letter, or None when there is none."""
        if self._system:
            return self._system.popleft()
        return self._user.popleft() if self._user else None

    async def wait(self) -> None:
        """Wait until `take` has something. One reader at a time."""
        while not (self._system or self._user):
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> list[Letter]:
        """Take nothing more; return what was waiting."""
        self.closed = True
        waiting = [*self._system, *self._user]
        self._system.clear()
        self._user.clear()
        return waiting
