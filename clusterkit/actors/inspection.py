"""What a node's actors do at this moment: `ActorInfo`, for `Node.inspect` and the watchdog.

Nothing is asked of an actor for it: one that hangs in a handler is shown like any other.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clusterkit.actors.process import Process


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """One actor as it was when it was looked at; its ``str`` is a line for a terminal.

    >>> info = ActorInfo(7, "accounts", "Account", depth=3, size=120, limit=1000, handler="withdraw", since=1.25)
    >>> print(info)
    #7    accounts             Account                 3/1000  withdraw for 1.25 s, 0 handled
    """

    serial: int
    name: str | None
    kind: str
    """The name of its class."""

    depth: int
    """Messages that wait in its mailbox."""

    size: int
    """Bytes of them, of those that came from other nodes: what is sent on this node is not packed."""

    limit: int
    """Messages that may wait."""

    handler: str | None = None
    """The handler or callback that has the turn; None for an actor that waits for a message."""

    since: float | None = None
    """Seconds for which that has run."""

    beside: int = 0
    """Concurrent handlers and deferred answers that run beside it."""

    handled: int = 0
    """Messages that it took."""

    suspended: bool = False
    watchers: int = 0
    """Monitors of it, and links to it."""

    age: float = 0.0
    """Seconds since it was started."""

    def __str__(self) -> str:
        notes = [
            "suspended" if self.suspended else "",
            f"{self.handler} for {self.since:.2f} s" if self.handler is not None and self.since is not None else "idle",
            f"{self.beside} beside" if self.beside else "",
            f"{self.handled:,} handled",
            f"{self.watchers} watch it" if self.watchers else "",
        ]
        waiting = f"{self.depth}/{self.limit}"
        head = f"#{self.serial:<4} {self.name or '-':<20} {self.kind:<20} {waiting:>9}"
        return f"{head}  {', '.join(filter(None, notes))}"


def inspect_process(process: Process, now: float) -> ActorInfo:
    """Look at one process; ``now`` is loop time."""
    mailbox = process.mailbox
    return ActorInfo(
        serial=mailbox.serial,
        name=mailbox.name,
        kind=type(process.actor).__name__,
        depth=len(mailbox),
        size=mailbox.size,
        limit=mailbox.limit,
        handler=process.handling,
        since=now - process.since if process.handling is not None else None,
        beside=process.beside,
        handled=process.handled,
        suspended=process.suspended,
        watchers=len(mailbox.watchers),
        age=now - process.born,
    )


def find_handler(processes: Iterable[Process], task: asyncio.Task[Any]) -> tuple[str, str] | None:
    """Which server and handler a task works for; None for a task that is no actor's. Changes nothing: any thread may ask."""
    for process in processes:
        if (handler := process.handler_of(task)) is not None:
            return process.mailbox.shown, handler
    return None
