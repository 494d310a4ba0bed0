"""Who hears of services: callbacks, and streams that fold what a slow reader lets wait.

Both hear everything in the order in which it was seen. A callback may itself change
something: what follows from that is told after what is being told.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from clusterkit.core.members import Lagged
from clusterkit.core.offers import Backlog, Offer, ServiceChanged, ServiceEvent, ServiceOffline, ServiceOnline
from clusterkit.errors import ConfigError, UsageError

logger = logging.getLogger("clusterkit.services")

E = TypeVar("E")
_KINDS = (ServiceOnline, ServiceOffline, ServiceChanged)
Told = Callable[[Any], object]


class ServiceStream:
    """What is online, and then what changes: ``async for event in node.services.watch()``.

    It ends when the node closes, or with `aclose`. Use it from one task.
    """

    def __init__(self, resource: str | None, backlog: Backlog, ended: Callable[["ServiceStream"], object]) -> None:
        self._resource = resource
        self._backlog = backlog
        self._ended = ended
        self._news = asyncio.Event()
        self._closed = False

    def put(self, event: ServiceEvent) -> None:
        """Take an event, if it is of the resource that is watched."""
        if self._resource in (None, event.offer.resource):
            self._backlog.put(event)
            self._news.set()

    def close(self) -> None:
        """End the stream after what waits in it."""
        self._closed = True
        self._news.set()

    async def aclose(self) -> None:
        """Listen no more. May be called twice."""
        self._backlog = Backlog((), 1)
        self.close()
        self._ended(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServiceEvent | Lagged:
        while (event := self._backlog.take()) is None:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return event


class Listeners:
    """All who listen to the services of one node."""

    def __init__(self) -> None:
        self._callbacks: defaultdict[type, dict[object, Told]] = defaultdict(dict)
        self._streams: dict[ServiceStream, None] = {}
        self._untold: deque[tuple[ServiceEvent, dict[object, Told]]] = deque()
        self._telling = False
        self._closed = False

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every event of a type; returns what ends it. `UsageError` for another type."""
        if kind not in _KINDS:
            known = ", ".join(each.__name__ for each in _KINDS)
            raise UsageError(f"services tell of {known}; not of {kind!r}")
        listeners, mine = self._callbacks[kind], object()
        listeners[mine] = told

        def end() -> None:
            listeners.pop(mine, None)

        return end

    def stream(self, resource: str | None, present: Iterable[Offer], most: int) -> ServiceStream:
        """Begin with what is ``present``; ``most`` events wait."""
        if type(most) is not int or most < 1:
            raise ConfigError(f"most is {most!r}: it must be a whole number from 1")
        stream = ServiceStream(resource, Backlog(present, most), lambda each: self._streams.pop(each, None))
        if self._closed:
            stream.close()
        else:
            self._streams[stream] = None
        return stream

    def tell(self, events: Iterable[ServiceEvent]) -> None:
        """Tell all who listen now. A callback that fails is logged, and keeps nobody else from hearing."""
        for event in events:
            for stream in self._streams:
                stream.put(event)
            if callbacks := self._callbacks.get(type(event)):
                self._untold.append((event, dict(callbacks)))
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                self._tell(*self._untold.popleft())
        finally:
            self._telling = False

    def _tell(self, event: ServiceEvent, callbacks: dict[object, Told]) -> None:
        for mine, told in callbacks.items():
            if mine not in self._callbacks[type(event)]:
                continue  # ended meanwhile
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
        self._callbacks.clear()
