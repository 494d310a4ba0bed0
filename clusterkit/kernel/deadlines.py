"""Many deadlines under one coarse timer.

Calls mostly end long before their deadline, so a timer object for each would be
waste. Deadlines that fall into the same tick share a slot; adding and discarding
cost one dict operation each, and the next slot is known from a small heap.
"""

from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Things with a deadline, found when it has passed, at most one ``tick`` late (seconds).

    >>> deadlines = Deadlines[str](tick=0.01)
    >>> slot = deadlines.add("a", 1.0)
    >>> deadlines.due(0.99), deadlines.due(1.02)
    ([], ['a'])
    """

    def __init__(self, tick: float) -> None:
        self._per_second = 1.0 / tick
        self._slots: dict[int, dict[T, None]] = {}
        self._order: list[int] = []

    def add(self, thing: T, deadline: float) -> dict[T, None]:
        """Add a thing; return its slot, from which ``pop(thing, None)`` discards it."""
        number = int(deadline * self._per_second) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heappush(self._order, number)
        slot[thing] = None
        return slot

    @property
    def next_at(self) -> float | None:
        """When to look for due things next; None when there can be none."""
        return self._order[0] / self._per_second if self._order else None

    def due(self, now: float) -> list[T]:
        """Take out everything whose deadline has passed, in the order of ticks."""
        things: list[T] = []
        while self._order and self._order[0] / self._per_second <= now:
            things.extend(self._slots.pop(heappop(self._order)))
        return things
