"""`Chronicle`: the last things that happened on a node, for readers that ask again and again.

Each event has a number, the cursor of a reader that knows all up to it. A reader asks
with its cursor and is given what came after, at once or when something comes: nothing is
between two of its questions. What it did not ask for in time, or from an earlier run of
the node, is gone, and it is told so.

The numbers of a run begin with the microsecond in which it began, so that a cursor of
another run is known as one; they stay below 2**53, and are exact in JSON.
"""

import asyncio
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Any

from clusterkit.runtime import now, until

MOST_KEPT = 1_000
MOST_POLLS, MOST_POLLS_EACH = 1_024, 32
MOST_TOLD = 100  # events of one answer: it fits into the smallest message limit
UNKNOWN = -1

Asker = tuple[str, int]
"""Who asks: a name and an incarnation."""
Page = dict[str, Any]
"""``cursor`` for the next question, ``missed`` (`UNKNOWN`: not known how many), ``events``."""


class Chronicle:
    """Events in order; ``first`` is the cursor before the first of them.

    >>> chronicle = Chronicle(100)
    >>> chronicle.add(1.5, "MemberUp", node="b")
    >>> chronicle.read(100)
    {'cursor': 101, 'missed': 0, 'events': [{'cursor': 101, 'at': 1.5, 'type': 'MemberUp', 'node': 'b'}]}
    >>> chronicle.read(7)["missed"], chronicle.read(None)
    (-1, {'cursor': 101, 'missed': 0, 'events': []})
    """

    def __init__(self, first: int, most: int = MOST_KEPT) -> None:
        self._first = self._last = first
        self._kept: deque[dict[str, Any]] = deque(maxlen=most)
        self._polls: dict[Asker, dict[asyncio.Future[None], None]] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def waiting(self) -> int:
        """How many questions wait for the next event."""
        return self._waiting

    def add(self, at: float, kind: str, /, **told: Any) -> None:
        """Note an event of ``at`` (Unix time); whoever waits is answered."""
        self._last += 1
        self._kept.append({"cursor": self._last, "at": at, "type": kind, **told})
        for polls in self._polls.values():
            for poll in polls:
                _end(poll)

    def read(self, cursor: int | None) -> Page:
        """Give what came after a cursor, the oldest first, as much as an answer takes; None: nothing, and where it stands."""
        if cursor is None or cursor == self._last:
            return _page(self._last)
        oldest = self._last - len(self._kept) + 1
        if not self._first <= cursor < self._last:
            missed, start = UNKNOWN, 0
        else:
            missed, start = max(0, oldest - 1 - cursor), max(0, cursor + 1 - oldest)
        events = list(islice(self._kept, start, start + MOST_TOLD))
        return _page(events[-1]["cursor"] if events else self._last, missed, events)

    async def poll(self, asker: Asker, cursor: int | None, wait: float) -> Page:
        """Give what came after a cursor; when nothing did, what comes next, or nothing after ``wait`` seconds.

        With no cursor it answers at once, from where to go on. Of too many questions that wait the oldest
        are answered early, with nothing.
        """
        page = self.read(cursor)
        if cursor is None or page["events"] or page["missed"] or wait <= 0:
            return page
        await self._news(asker, wait)
        return self.read(cursor)

    async def _news(self, asker: Asker, wait: float) -> None:
        """Wait for the next event."""
        self._make_room(asker)
        poll: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._polls.setdefault(asker, {})[poll] = None
        self._waiting += 1
        try:
            with suppress(TimeoutError):
                await until(now() + wait, poll)
        finally:
            self._drop(asker, poll)

    def _make_room(self, asker: Asker) -> None:
        if len(self._polls.get(asker, ())) >= MOST_POLLS_EACH:
            self._answer_early(asker)
        elif self._waiting >= MOST_POLLS:
            self._answer_early(max(self._polls, key=lambda each: len(self._polls[each])))

    def _answer_early(self, asker: Asker) -> None:
        oldest = next(iter(self._polls[asker]))
        self._drop(asker, oldest)
        _end(oldest)

    def _drop(self, asker: Asker, poll: asyncio.Future[None]) -> None:
        polls = self._polls.get(asker, {})
        if poll in polls:
            del polls[poll]
            self._waiting -= 1
            if not polls:
                del self._polls[asker]


def _page(cursor: int, missed: int = 0, events: list[dict[str, Any]] | None = None) -> Page:
    return {"cursor": cursor, "missed": missed, "events": events or []}


def _end(poll: asyncio.Future[None]) -> None:
    if not poll.done():
        poll.set_result(None)
