"""A map that is bounded in bytes: past the bound it forgets what was used longest ago.

Sizes are what the user of the map says, plus what Python's objects around an entry
take, so that the bound is near what the process pays. One entry larger than all of the
room is not taken, and pushes nothing out.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")
OVERHEAD = 350
"""Bytes that an entry takes beside its key and its value."""


class Lru(Generic[V]):
    """Values by key, the least recently used first.

    >>> lru = Lru[str](2 * (OVERHEAD + 2))
    >>> lru.put("a", "x", 1), lru.put("b", "y", 1), lru.get("a"), lru.put("c", "z", 1)
    (True, True, 'x', True)
    >>> list(lru), lru.evicted
    (['a', 'c'], 1)
    """

    def __init__(self, most: int) -> None:
        self.size = 0
        """Bytes that all entries take."""
        self.evicted = 0
        self.most = most
        """The bound."""
        self._entries: OrderedDict[str, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def newest(self) -> Iterator[str]:
        """The keys, the most recently used first."""
        return reversed(self._entries)

    def peek(self, key: str) -> V | None:
        """What stands under a key; it counts as no use."""
        found = self._entries.get(key)
        return None if found is None else found[0]

    def get(self, key: str) -> V | None:
        """What stands under a key, which is the most recently used from now on."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: str, value: V, size: int) -> bool:
        """Put a value of ``size`` bytes in the place of what was there; False when it is too large for all the room."""
        self.drop(key)
        size += (len(key) if key.isascii() else 4 * len(key)) + OVERHEAD
        if size > self.most:
            return False
        self._entries[key] = value, size
        self.size += size
        while self.size > self.most:
            _, (_, freed) = self._entries.popitem(last=False)
            self.size -= freed
            self.evicted += 1
        return True

    def drop(self, key: str) -> bool:
        """Forget a key; tell whether it was there."""
        found = self._entries.pop(key, None)
        if found is None:
            return False
        self.size -= found[1]
        return True

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.size = 0
