"""The trace of a simulation: what happened, in order, with its virtual time.

Two runs are the same run when their traces are: the digest stands for the whole.
So an event is made of what the seed decides and nothing else: names, counts and
times, never an ``id()``, a ``hash()`` or an object's default ``repr``.
"""

import hashlib
from collections.abc import Callable, Iterator

Fact = str | int | float
Event = tuple[float, str, tuple[Fact, ...]]


class Trace:
    """A list of events: ``(seconds, kind, facts)``.

    >>> trace = Trace(clock=lambda: 1.5)
    >>> trace.add("cut", "a", "b")
    >>> print(trace)
        1.500000  cut a b
    >>> trace.digest()
    '7987bb79a48521eb'
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[Event] = []

    def add(self, kind: str, *facts: Fact) -> None:
        """Append an event that happens now."""
        self._events.append((self._clock(), kind, facts))

    def digest(self) -> str:
        """Sixteen hex digits that stand for all events so far; linear in their number."""
        return hashlib.blake2b(repr(self._events).encode(), digest_size=8).hexdigest()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __str__(self) -> str:
        return "\n".join(f"{at:12.6f}  {kind} {' '.join(map(str, facts))}".rstrip() for at, kind, facts in self)
