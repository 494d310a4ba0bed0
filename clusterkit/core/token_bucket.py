"""How much one source may cost: token buckets, one per source, in a bounded table.

A bucket fills at a steady rate up to its burst. Who takes a token that is not there yet
is told how long to wait for it, and stands in line so: the next waits longer. Who gives
up gives the token back.

Rules: an unknown source has a full bucket, so a full one need not be kept; past the
bound the sources that came first are forgotten, which errs on their side.
"""

from itertools import islice

_MOST_SOURCES = 4_096


class TokenBucket:
    """One source: ``rate`` tokens a second, at most ``burst`` saved.

    >>> bucket = TokenBucket(rate=2.0, burst=1, now=0.0)
    >>> bucket.take(0.0), bucket.take(0.0), bucket.take(0.0)
    (0.0, 0.5, 1.0)
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token; return the seconds to wait until it is there."""
        self._fill(now)
        self._level -= 1
        return max(0.0, -self._level / self._rate)

    def give_back(self) -> None:
        """Return a token that was waited for in vain."""
        self._level += 1

    def is_full(self, now: float) -> bool:
        """Whether the source may be forgotten."""
        self._fill(now)
        return self._level >= self._burst

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now


class TokenBuckets:
    """A bucket for each source. Cost: O(1) a call, amortised."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, TokenBucket] = {}
        self._sweep_at = 64  # sources at which the full buckets are looked for

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, source: str, now: float) -> TokenBucket:
        """The bucket of a source."""
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._sweep(now)
            bucket = self._buckets[source] = TokenBucket(self._rate, self._burst, now)
        return bucket

    def _sweep(self, now: float) -> None:
        self._buckets = {source: bucket for source, bucket in self._buckets.items() if not bucket.is_full(now)}
        if (over := len(self._buckets) - _MOST_SOURCES // 2) > 0:  # by many at once, so that a sweep is rare
            self._buckets = dict(islice(self._buckets.items(), over, None))
        self._sweep_at = min(_MOST_SOURCES, max(64, 2 * len(self._buckets)))
