"""How long to wait before the next try: exponential, capped, with full jitter.

Full jitter draws each delay from the whole interval ``[0, cap]``, so that nodes
which lost the same peer at the same moment do not dial it in step.

Reference: M. Brooker, "Exponential Backoff and Jitter" (2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - only the name of the argument's type


class Backoff:
    """Delays in seconds for one thing that is tried again and again.

    >>> from random import Random
    >>> backoff = Backoff(first=0.1, most=5.0, rng=Random(1))
    >>> all(0 <= backoff.next() <= 0.1 * 2**tried for tried in range(5))
    True
    >>> backoff.reset()
    >>> backoff.next() <= 0.1
    True
    """

    def __init__(self, first: float, most: float, rng: Random) -> None:
        self._first = min(first, most)
        self._most = most
        self._rng = rng
        self._cap = self._first

    def next(self) -> float:
        """Draw the delay before the next try and double the cap of the one after."""
        delay = self._rng.uniform(0.0, self._cap)
        self._cap = min(self._most, self._cap * 2)
        return delay

    def reset(self) -> None:
        """Begin anew: the last try succeeded."""
        self._cap = self._first
