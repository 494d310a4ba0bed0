"""Whom to probe next: a shuffled round robin.

Every member is chosen once in each round, so the wait for a member's turn is bounded, and
every round is in another order, so that no two members probe in step. A new member takes
a random place in the round that is under way.

Reference: A. Das, I. Gupta, A. Motivala, "SWIM" (2002), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - only the name of the argument's type


class Rotation:
    """The watched members.

    >>> from random import Random
    >>> rotation = Rotation(Random(1))
    >>> for name in "abc":
    ...     rotation.add(name)
    >>> sorted(rotation.next(lambda name: True) for _ in range(3))
    ['a', 'b', 'c']
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._order: list[str] = []
        self._at = 0  # whose turn it is
        self._names: dict[str, None] = {}  # in the order added: a set would have no order to repeat

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def add(self, name: str) -> None:
        """Add a member, once. O(n)."""
        if name not in self._names:
            self._names[name] = None
            self._order.insert(self._rng.randint(self._at, len(self._order)), name)

    def discard(self, name: str) -> None:
        """Take a member out, if it is in. O(n)."""
        if name in self._names:
            del self._names[name]
            at = self._order.index(name)
            del self._order[at]
            self._at -= at < self._at

    def next(self, wanted: Callable[[str], bool]) -> str | None:
        """Return the next member that is wanted; None when one whole round has none."""
        for _ in range(len(self._order)):
            if self._at >= len(self._order):
                self._at = 0
                self._rng.shuffle(self._order)
            self._at += 1
            if wanted(name := self._order[self._at - 1]):
                return name
        return None
