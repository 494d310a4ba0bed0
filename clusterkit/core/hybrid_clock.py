"""A hybrid logical clock: stamps that keep near the time and never go back.

A stamp is one integer of 64 bits: milliseconds since the Unix epoch in the high 48,
a counter in the low 16 (Kulkarni et al., "Logical Physical Clocks", 2014). Stamps
are ordered by this raw value, the same on every node. Should a counter overflow it
carries into the milliseconds, and order holds.

Rules:

- A new stamp is greater than every stamp drawn or observed before.
- A stamp that is further ahead of the reader's time than ``max_skew`` is reported
  and not followed: one wrong clock must not drag all others into the future.
- The time comes in as an argument, in seconds since the Unix epoch; it may go back.

Not promised: that equal stamps of different nodes never meet (pair a stamp with its
node to break ties), or that order of stamps means one event knew of the other.
"""

from math import isfinite

from clusterkit.errors import ConfigError

_COUNTER_BITS = 16
_STAMPS = 1 << 64


class HybridClock:
    """The clock of one node.

    ``max_skew`` is how far ahead of the own time, in seconds, a stamp may be to be followed.

    >>> clock = HybridClock(max_skew=60.0)
    >>> first = clock.tick(1000.0)
    >>> clock.tick(999.0) > first
    True
    >>> clock.observe(stamp_at(1030.0), 1000.0)
    0.0
    >>> clock.tick(1000.0) > stamp_at(1030.0)
    True
    """

    __slots__ = ("_last", "_max_skew")

    def __init__(self, max_skew: float = 60.0) -> None:
        if not max_skew >= 0:
            raise ConfigError(f"max_skew is a number of seconds from 0, not {max_skew}")
        self._max_skew = max_skew
        self._last = 0

    @property
    def last(self) -> int:
        """The greatest stamp drawn or followed so far; 0 at first.

        >>> HybridClock().last
        0
        """
        return self._last

    def tick(self, now: float, after: int = 0) -> int:
        """Draw a new stamp, greater than ``after`` and than all drawn or followed before.

        ``after`` is the greatest stamp that the new event replaces; if it is too far
        ahead of ``now`` the new stamp still exceeds it, and the clock does not follow.
        `ConfigError` if 64 bits do not hold the stamp.

        >>> clock = HybridClock()
        >>> far = stamp_at(5000.0)
        >>> clock.tick(1000.0, after=far) == far + 1
        True
        >>> clock.tick(1000.0) < far
        True
        """
        own = max(stamp_at(now), self._last + 1)
        drawn = max(own, _checked(after) + 1)
        if drawn >= _STAMPS:
            raise ConfigError(f"no stamp of 64 bits is left above {drawn - 1}")
        self._last = drawn if self._excess(drawn, now) == 0 else own
        return drawn

    def observe(self, stamp: int, now: float) -> float:
        """Follow the stamp of another node; return 0.0, or by how many seconds it is ahead if too far.

        `TypeError` or `ConfigError` for what is no stamp.

        >>> HybridClock(max_skew=60.0).observe(stamp_at(1100.0), 1000.0)
        100.0
        """
        excess = self._excess(_checked(stamp), now)
        if excess == 0:
            self._last = max(self._last, stamp)
        return excess

    def _excess(self, stamp: int, now: float) -> float:
        ahead = ((stamp >> _COUNTER_BITS) - (stamp_at(now) >> _COUNTER_BITS)) / 1000
        return ahead if ahead > self._max_skew else 0.0


def stamp_at(now: float) -> int:
    """Return the least stamp of a time in seconds since the Unix epoch; a time before it counts as 0.

    >>> stamp_at(1.5) == 1500 << 16
    True
    """
    if isinstance(now, bool) or not isinstance(now, int | float):
        raise TypeError(f"a time is a number of seconds, not {type(now).__name__}: {now!r}")
    if not isfinite(now):
        raise ConfigError(f"a time is a finite number of seconds, not {now}")
    return _checked(max(0, int(now * 1000)) << _COUNTER_BITS)


def time_of(stamp: int) -> float:
    """Return the time of a stamp in seconds, to the millisecond.

    >>> time_of(stamp_at(1.5) + 7)
    1.5
    """
    return (stamp >> _COUNTER_BITS) / 1000


def _checked(stamp: int) -> int:
    if type(stamp) is not int:
        raise TypeError(f"a stamp is an int, not {type(stamp).__name__}: {stamp!r}")
    if not 0 <= stamp < _STAMPS:
        raise ConfigError(f"a stamp is in range(2**64), not {stamp}")
    return stamp
