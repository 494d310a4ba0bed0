"""Connections that have proven nothing yet, counted by where they come from.

When there are too many, the first to go is the oldest of the source that holds the most.
Under a flood that is asked at each connection, so every operation is O(1).
"""

import asyncio

from clusterkit.transport.base import Stream


class Unproven:
    """The connections, each with the task that serves it."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Stream, asyncio.Task[None]]] = {}  # by source, oldest first
        self._source: dict[Stream, str] = {}
        self._holders: dict[int, dict[str, None]] = {}  # sources by how many they hold
        self._most = 0

    def __len__(self) -> int:
        return len(self._source)

    def add(self, stream: Stream, source: str, task: "asyncio.Task[None]") -> None:
        """Take note of a connection that came."""
        held = self._held.setdefault(source, {})
        held[stream] = task
        self._source[stream] = source
        self._recount(source, len(held) - 1, len(held))

    def discard(self, stream: Stream) -> None:
        """Forget a connection that proved itself or ended; one that is not known does nothing."""
        source = self._source.pop(stream, None)
        if source is not None:
            held = self._held[source]
            del held[stream]
            if not held:
                del self._held[source]
            self._recount(source, len(held) + 1, len(held))

    def _recount(self, source: str, was: int, now: int) -> None:
        if was:
            del self._holders[was][source]
            if not self._holders[was]:
                del self._holders[was]
        if now:
            self._holders.setdefault(now, {})[source] = None
        if now > self._most or self._most not in self._holders:
            self._most = now

    def evict(self) -> None:
        """Close the oldest of the source that holds the most; there must be one."""
        source = next(iter(self._holders[self._most]))
        stream, task = next(iter(self._held[source].items()))
        self.discard(stream)
        task.cancel()
        stream.abort()

    def abort(self) -> None:
        """Close all; their tasks are their owner's to end."""
        for stream in self._source:
            stream.abort()
