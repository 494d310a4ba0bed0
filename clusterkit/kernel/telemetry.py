"""Telemetry: named events of a node, with numbers and what they belong to, for those who attach.

After Erlang's telemetry. A function is called at once, on the loop, in the order of
attaching, with the event, its measurements (numbers) and its metadata (text, None). One
that fails is logged and detached: a broken one must not cost every message.

Rules: nobody attached costs one look-up; both mappings are one object for all who
listen, so a function keeps them but does not change them. docs/telemetry.md explains
each event.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from clusterkit.errors import UsageError

logger = logging.getLogger("clusterkit.telemetry")

Listener = Callable[[str, Mapping[str, float], Mapping[str, Any]], object]


class Shape(NamedTuple):
    """What an event carries: the keys of its two mappings."""

    measurements: tuple[str, ...]
    metadata: tuple[str, ...]


CALL_START: Final = "clusterkit.call.start"
CALL_STOP: Final = "clusterkit.call.stop"
MAILBOX_FULL: Final = "clusterkit.mailbox.full"
DEAD_LETTER: Final = "clusterkit.dead_letter"
REFUSED: Final = "clusterkit.refused"
LOOP_LAG: Final = "clusterkit.loop.lag"
ACTOR_RESTART: Final = "clusterkit.actor.restart"
ACTOR_STOP: Final = "clusterkit.actor.stop"
LINK_UP: Final = "clusterkit.link.up"
LINK_DOWN: Final = "clusterkit.link.down"

EVENTS: Final[Mapping[str, Shape]] = {
    CALL_START: Shape(("depth",), ("server", "method", "caller", "node")),
    CALL_STOP: Shape(("seconds",), ("server", "method", "caller", "node", "outcome", "error")),
    MAILBOX_FULL: Shape(("depth",), ("server", "overflow", "sender")),
    DEAD_LETTER: Shape(("count",), ("target", "node", "reason", "executed")),
    REFUSED: Shape(("count",), ("node", "server", "reason")),
    LOOP_LAG: Shape(("seconds",), ("handler", "server", "task", "cause", "stack")),
    ACTOR_RESTART: Shape(("restarts",), ("supervisor", "child", "reason")),
    ACTOR_STOP: Shape(("seconds",), ("server", "reason")),
    LINK_UP: Shape((), ("peer",)),
    LINK_DOWN: Shape(("lost",), ("peer", "why")),
}


class _Attached:
    """One attachment: the same function may be attached twice, and each is detached alone."""

    __slots__ = ("told",)

    def __init__(self, told: Listener) -> None:
        self.told = told


class Telemetry:
    """Who listens to what on one node.

    >>> telemetry = Telemetry()
    >>> detach = telemetry.attach("clusterkit.link.up", lambda event, took, meta: print(event, meta["peer"]))
    >>> telemetry.tell("clusterkit.link.up", {}, {"peer": "b"})
    clusterkit.link.up b
    >>> detach()
    >>> telemetry.wants("clusterkit.link.up")
    False
    """

    def __init__(self) -> None:
        self.calls = False
        """Whether somebody listens to the start or the stop of calls: the one thing that each call asks."""
        self._attached: dict[str, tuple[_Attached, ...]] = {}

    def __repr__(self) -> str:
        return f"<Telemetry {', '.join(sorted(self._attached)) or 'nobody listens'}>"

    def attach(self, event: str, fn: Listener) -> Callable[[], None]:
        """Call ``fn(event, measurements, metadata)`` at every such event; returns what ends it.

        Raises `UsageError` for an event that there is not, and for an ``async def``: nobody would await it.
        """
        if event not in EVENTS:
            raise UsageError(f"there is no event {event!r}: a node tells of {', '.join(EVENTS)}")
        if not callable(fn) or inspect.iscoroutinefunction(fn):
            raise UsageError(f"{fn!r} is no plain function: it is called on the loop and not awaited")
        attached = _Attached(fn)
        self._set(event, (*self._attached.get(event, ()), attached))
        return lambda: self._detach(event, attached)

    def wants(self, event: str) -> bool:
        """Whether somebody listens: what it carries need not be put together for nobody."""
        return event in self._attached

    def tell(self, event: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        """Call all who listen to an event; one that is attached or detached meanwhile, from the next one on."""
        for attached in self._attached.get(event, ()):
            try:
                attached.told(event, measurements, metadata)
            except (Exception, asyncio.CancelledError):
                self._detach(event, attached)
                logger.exception("%r failed at %s, and is detached from it", attached.told, event)

    def _detach(self, event: str, attached: _Attached) -> None:
        self._set(event, tuple(each for each in self._attached.get(event, ()) if each is not attached))

    def _set(self, event: str, attached: tuple[_Attached, ...]) -> None:
        if attached:
            self._attached[event] = attached
        else:
            self._attached.pop(event, None)
        self.calls = CALL_START in self._attached or CALL_STOP in self._attached
