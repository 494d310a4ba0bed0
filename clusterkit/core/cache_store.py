"""What one node holds of a cache: its own entries, copies of hot ones, and when they may be stored and served.

- An entry is *fresh* until its time to live has passed, and serves as a *stale* one,
  when the source fails, for a while after that.
- What the source does not have may be remembered too, as *missing*.
- A *copy* of a key that another node owns has a room of its own, so that hot keys of
  others push out nothing of ours, and lives for seconds.
- Nothing is stored that an invalidation overtook (`clusterkit.core.invalidations`).
- The owner measures how often others ask for a key; from `Limits.hot_rate` on it is
  *hot*, and they are told to keep a copy. With each question they tell how often they
  served theirs, so that a key stays hot while copies of it take its load.

Durations are in seconds, points in time on a monotonic axis, sizes in bytes.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from clusterkit.core.invalidations import ALL, KEY, Invalidation, Invalidations
from clusterkit.core.lru import Lru
from clusterkit.core.payload import decode, encode
from clusterkit.errors import ConfigError

MOST_KEY = 1_024
"""Bytes of a key."""
_FOREVER = float("inf")
_WINDOW = 1.0  # seconds over which a rate is measured


class Kind(IntEnum):
    """How a value is held."""

    PACKED = 0
    BYTES = 1
    MISSING = 2


_PACKED, _BYTES, _MISSING = map(int, Kind)  # an enum's attribute costs 100 ns


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a node holds, and for how long."""

    max_bytes: int = 64 << 20
    ttl: float | None = None
    negative_ttl: float = 0.0
    stale_if_error: float = 0.0
    hot_ttl: float = 10.0
    hot_fraction: float = 1 / 8
    hot_rate: float = 10.0

    def __post_init__(self) -> None:
        if type(self.max_bytes) is not int or self.max_bytes < 1:
            raise ConfigError(f"max_bytes is {self.max_bytes!r}: it must be a positive whole number")
        if self.ttl is not None:
            checked_seconds("ttl", self.ttl)
        for name in ("negative_ttl", "stale_if_error", "hot_ttl"):
            checked_seconds(name, getattr(self, name), or_none=True)
        if not (_is_number(self.hot_fraction) and 0 <= self.hot_fraction < 1):
            raise ConfigError(f"hot_fraction is {self.hot_fraction!r}: it must be from 0 to under 1")
        if not (_is_number(self.hot_rate) and self.hot_rate > 0):
            raise ConfigError(f"hot_rate is {self.hot_rate!r}: it must be a positive number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def checked_seconds(name: str, value: float, *, or_none: bool = False) -> float:
    """Return a duration; raise `ConfigError` unless it is finite and positive, or 0 where that stands for none.

    >>> checked_seconds("ttl", 2.5)
    2.5
    """
    if not _is_number(value) or not 0 <= value < _FOREVER or not (value or or_none):
        least = "not negative" if or_none else "positive"
        raise ConfigError(f"{name} is {value!r}: it must be a number of seconds, {least}")
    return value


def checked_key(key: object) -> str:
    """Return a key as a plain str; raise `ConfigError` for what is no key of a cache.

    >>> checked_key("user:ada")
    'user:ada'
    """
    if type(key) is str and key.isascii() and 0 < len(key) <= MOST_KEY:
        return key
    if not isinstance(key, str) or not 1 <= len(key) <= MOST_KEY:
        raise ConfigError(f"{key!r:.80} is no key of a cache: a str of 1 to {MOST_KEY} bytes")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{key!r:.80} is no key of a cache: it has no form in UTF-8") from None
    if size > MOST_KEY:
        raise ConfigError(f"a key of {size} bytes, {key[:20]!r}...: a cache takes 1 to {MOST_KEY}")
    return key if type(key) is str else str.__str__(key)


class Entry:
    """One value, packed once: each reader gets a copy of its own."""

    __slots__ = ("asked", "asked_since", "body", "is_bytes", "is_missing", "kind", "rate", "served", "until")

    def __init__(self, kind: int, body: bytes, until: float = _FOREVER) -> None:
        self.kind = kind  # a plain int, for the wire
        self.is_bytes = kind == _BYTES
        self.is_missing = kind == _MISSING
        self.body = body
        self.until = until
        self.served = 0  # of a copy: times, not yet told to its owner
        self.asked = 0  # by others, in this window
        self.asked_since = -_FOREVER
        self.rate = 0.0

    @property
    def value(self) -> Any:
        """The value, unpacked anew."""
        return self.body if self.is_bytes else decode(self.body)

    def left(self, now: float) -> float | None:
        """Seconds that it has to live; None for ever."""
        return None if self.until == _FOREVER else max(0.0, self.until - now)


def entry_of(value: Any) -> Entry:
    """Pack a value; raises `UnsupportedPayload`.

    >>> entry_of(b"x").value, entry_of({"a": [1, "b"]}).value
    (b'x', {'a': [1, 'b']})
    """
    return Entry(_BYTES, value) if type(value) is bytes else Entry(_PACKED, encode(value, "value"))


def missing() -> Entry:
    """Stand for a key that the source does not have."""
    return Entry(_MISSING, b"")


class CacheStore:
    """The entries of one node."""

    def __init__(self, limits: Limits, log: Invalidations, now: float) -> None:
        self.limits = limits
        self.log = log
        self.since = now
        """Nothing that is held is older."""
        copies = int(limits.max_bytes * limits.hot_fraction)
        self.own: Lru[Entry] = Lru(limits.max_bytes - copies)
        self.copies: Lru[Entry] = Lru(copies)

    # -- reading

    def find(self, key: str, now: float) -> Entry | None:
        """A fresh entry of this node's own."""
        entry = self.own.get(key)
        return entry if entry is not None and entry.until > now else None

    def find_copy(self, key: str, now: float) -> Entry | None:
        """A fresh copy of what another node owns."""
        entry = self.copies.get(key)
        if entry is None or entry.until <= now:
            return None
        entry.served += 1
        return entry

    def find_stale(self, key: str, now: float) -> Entry | None:
        """A value that is too old, but better than none while the source fails."""
        for each in (self.own.peek(key), self.copies.peek(key)):
            if each is not None and not each.is_missing and each.until + self.limits.stale_if_error > now:
                return each
        return None

    # -- storing

    def keep(self, key: str, entry: Entry, began: int, now: float, *, most: float | None = None) -> bool:
        """Store an own entry that was fetched since ``began``, for ``most`` seconds at the most; tell whether it is stored."""
        ttl = self.limits.negative_ttl if entry.is_missing else self.limits.ttl
        for limit in (ttl, most):
            if limit is not None:
                entry.until = min(entry.until, now + limit)
        if self.log.is_stale(key, began):
            return False
        if entry.until <= now:
            self.own.drop(key)
            return False
        self.copies.drop(key)
        if (before := self.own.peek(key)) is not None:
            entry.asked, entry.asked_since, entry.rate = before.asked, before.asked_since, before.rate
        return self.own.put(key, entry, len(entry.body))

    def keep_copy(self, key: str, entry: Entry, began: int, now: float) -> bool:
        """Store a copy of what another node owns; tell whether it is stored."""
        entry.until = min(entry.until, now + self.limits.hot_ttl)
        if entry.is_missing or entry.until <= now or self.log.is_stale(key, began):
            return False
        return self.copies.put(key, entry, len(entry.body))

    # -- hot keys

    def take_served(self, key: str) -> int:
        """How often a copy was served, since the owner was told."""
        entry = self.copies.peek(key)
        if entry is None:
            return 0
        served, entry.served = entry.served, 0
        return served

    def is_hot(self, entry: Entry, times: int, now: float) -> bool:
        """Count that others wanted an own entry ``times`` more; tell whether they are to keep a copy."""
        entry.asked += times
        passed = now - entry.asked_since
        if passed >= _WINDOW:
            entry.rate = entry.asked / passed
            entry.asked, entry.asked_since = 0, now
        return max(entry.rate, entry.asked / _WINDOW) >= self.limits.hot_rate

    # -- invalidations

    def forget_all(self, now: float) -> None:
        """Begin anew, in another ring: what is held or being fetched now may be older than what was invalidated there."""
        self.log.begin_anew()
        self.since = now
        self.own.clear()
        self.copies.clear()

    def forget(self, what: Invalidation, now: float) -> None:
        """Forget what an invalidation covers. O(1) for a key, else O(entries)."""
        if what.kind == ALL:
            self.since = now
        for room in (self.own, self.copies):
            if what.kind == KEY:
                room.drop(what.text)
            elif what.kind == ALL:
                room.clear()
            else:
                for key in [key for key in room if what.covers(key)]:
                    room.drop(key)
