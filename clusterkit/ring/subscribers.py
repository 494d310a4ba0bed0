"""Who listens to the ring: callbacks, and streams with a bounded queue each.

Every subscriber sees every event once and in order. One that reads too slowly loses
the oldest, and is told by a `Lagged` how many, before what comes next.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from clusterkit.core.members import (
    Lagged,
    MemberDown,
    MemberJoined,
    MemberLeft,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    RingChanged,
)
from clusterkit.errors import ConfigError, NameConflict, UsageError
from clusterkit.kernel.events import LinkDown, LinkUp

logger = logging.getLogger("clusterkit.ring")

RingEvent = (
    MemberJoined
    | MemberUp
    | MemberSuspect
    | MemberDown
    | MemberLeft
    | MemberRemoved
    | MemberUpdated
    | RingChanged
    | LinkUp
    | LinkDown
    | NameConflict
    | Lagged
)
E = TypeVar("E")
_KINDS = (
    MemberJoined,
    MemberUp,
    MemberSuspect,
    MemberDown,
    MemberLeft,
    MemberRemoved,
    MemberUpdated,
    RingChanged,
    LinkUp,
    LinkDown,
    NameConflict,
)


class EventStream(Generic[E]):
    """The events since it was made, in order: ``async for event in ring.events()``.

    It ends when the node closes, or with `aclose`. Use it from one task.
    """

    def __init__(self, most: int, ended: Callable[["EventStream[E]"], None]) -> None:
        self._waiting: deque[E] = deque()
        self._most = most
        self._ended = ended
        self._missed = 0
        self._news = asyncio.Event()
        self._closed = False

    def put(self, event: E) -> None:
        """Take an event; past the bound the oldest is lost, and counted."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self._missed += 1
        self._waiting.append(event)
        self._news.set()

    def close(self) -> None:
        """End the stream after what waits in it."""
        self._closed = True
        self._news.set()

    async def aclose(self) -> None:
        """Listen no more. May be called twice."""
        self._waiting.clear()
        self.close()
        self._ended(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E | Lagged:
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return Lagged(missed)
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()


class Subscribers:
    """All who listen to one ring."""

    def __init__(self) -> None:
        self._callbacks: defaultdict[type, list[Callable[[Any], object]]] = defaultdict(list)
        self._streams: dict[EventStream[RingEvent], None] = {}
        self._closed = False

    def wants(self, kind: type) -> bool:
        """Whether anybody would hear of such an event."""
        return bool(self._streams or self._callbacks.get(kind))

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every event of a type; returns what ends it. `UsageError` for another type."""
        if kind not in _KINDS:
            known = ", ".join(each.__name__ for each in _KINDS)
            raise UsageError(f"a ring tells of {known}; not of {kind!r}")
        listeners = self._callbacks[kind]
        listeners.append(told)
        return lambda: listeners.remove(told) if told in listeners else None

    def stream(self, most: int) -> EventStream[RingEvent]:
        """Listen to everything; ``most`` events wait."""
        if type(most) is not int or most < 1:
            raise ConfigError(f"most is {most!r}: it must be a whole number from 1")
        stream: EventStream[RingEvent] = EventStream(most, lambda each: self._streams.pop(each, None))
        if self._closed:
            stream.close()
        else:
            self._streams[stream] = None
        return stream

    def tell(self, event: RingEvent) -> None:
        """Tell all. A callback that fails is logged, and keeps nobody else from hearing."""
        for stream in self._streams:
            stream.put(event)
        for told in list(self._callbacks.get(type(event), ())):
            try:
                told(event)
            except Exception:
                logger.exception("a listener to %s failed", type(event).__name__)

    def close(self) -> None:
        """End all streams: nothing more will be told."""
        self._closed = True
        for stream in self._streams:
            stream.close()
        self._streams.clear()
