"""Leaving: who has not yet said that it knows, so that the last word is said when all have."""

from collections.abc import Iterable


class Farewell:
    """One leave of one node. Nobody is waited for until it has begun.

    >>> farewell = Farewell()
    >>> farewell.begin(7, ["b", "c"]), farewell.knows("b"), farewell.knows("c")
    (False, False, True)
    """

    def __init__(self) -> None:
        self.begun = False
        self.number = 0
        """Of the news that tells it."""
        self._waiting: set[str] = set()

    def begin(self, number: int, members: Iterable[str]) -> bool:
        """Wait for these members from now on; True when there is none."""
        self.begun, self.number, self._waiting = True, number, set(members)
        return not self._waiting

    def knows(self, name: str) -> bool:
        """Take note that a member knows, or cannot be told any more; True when that was the last, or none is left."""
        self._waiting.discard(name)
        return self.begun and not self._waiting
