"""Senders that found an outbox, or an inbox, full: first come, first served, each to its deadline."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Room(Enum):
    """What came of waiting for room in an outbox."""

    TAKEN = "taken"  # the message is queued
    FULL = "full"  # there was none by the deadline
    CHANGED = "changed"  # the link went down or is closing: look again


class Senders(Generic[T]):
    """The line before one queue. It holds a message only while its sender waits."""

    def __init__(self) -> None:
        self._line: OrderedDict[asyncio.Future[Room], T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._line)

    async def wait(self, message: T, deadline: float) -> Room:
        """Stand in line with a message until ``deadline``."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Room] = loop.create_future()
        self._line[answer] = message
        timer = loop.call_at(deadline, _give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            self._line.pop(answer, None)

    def let_in(self, put: Callable[[T], bool]) -> None:
        """Queue from the head of the line as long as ``put`` takes it."""
        while self._line:
            answer = next(iter(self._line))
            if not answer.done():
                if not put(self._line[answer]):
                    return
                answer.set_result(Room.TAKEN)
            del self._line[answer]

    def turn_away(self) -> None:
        """Let all look again, and stand in line anew."""
        line, self._line = self._line, OrderedDict()
        for answer in line:
            if not answer.done():
                answer.set_result(Room.CHANGED)


def _give_up(answer: asyncio.Future[Room]) -> None:
    if not answer.done():
        answer.set_result(Room.FULL)
