"""What a node tells of itself to those who listen: dead letters, what others refused, links that come and go.

Listeners are plain functions, called at once and in the order in which they began. One
that fails is logged and keeps nobody else from hearing.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from clusterkit.core.identity import NodeId
from clusterkit.errors import Executed, UsageError

logger = logging.getLogger("clusterkit.kernel")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that reached nobody: where it was going, and why it did not arrive.

    ``executed`` is "maybe" for one that was written to a connection, when the session ended
    before it was acknowledged. It is told on the node where the message ended; of what no mailbox there
    took, the sender's node tells `Refused`.
    """

    node: NodeId
    target: str
    reason: str
    executed: Executed


@dataclass(frozen=True, slots=True)
class Refused:
    """``count`` casts and infos of this node reached nobody on another one, which says why.

    After "mailbox_full" the next cast to that server raises `MailboxFull`. The other reasons are "no_server"
    and "server_down".
    """

    node: NodeId
    server: str | int
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A connection to a peer opened."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A connection to a peer ended, or its session did.

    ``lost`` messages had been written and are in doubt: 0 when the session goes on.
    """

    peer: NodeId
    why: str
    lost: int


NodeEvent = DeadLetter | Refused | LinkUp | LinkDown
E = TypeVar("E", DeadLetter, Refused, LinkUp, LinkDown)


class Events:
    """The listeners of one node, by the type of event."""

    def __init__(self) -> None:
        self._listeners: defaultdict[type, list[Callable[[Any], object]]] = defaultdict(list)

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every event of a type; returns what ends it. Raises `UsageError` for another type."""
        if kind not in (DeadLetter, Refused, LinkUp, LinkDown):
            raise UsageError(f"a node tells of DeadLetter, Refused, LinkUp and LinkDown, not of {kind!r}")
        listeners = self._listeners[kind]
        listeners.append(told)
        return lambda: listeners.remove(told) if told in listeners else None

    def tell(self, event: NodeEvent) -> None:
        """Tell all who listen to this type."""
        for told in list(self._listeners[type(event)]):
            try:
                told(event)
            except Exception:
                logger.exception("a listener to %s failed", type(event).__name__)
