"""Vector clocks: which events of which node are known here.

A clock counts the events of each node that it has seen. Comparing two tells whether
one state happened before the other, or whether both went on without knowing of each
other (Fidge 1988; Mattern 1989).

Rules:

- A clock is a value: every change makes a new one, nothing is shared with a caller.
- Only counts say anything about causality. A node that is absent counts 0, and a
  count of 0 is never kept: clocks that know the same events are equal.
- Stamps (first and last update, in seconds of any axis that all writers share) are
  carried for `trim` alone. They enter neither comparison, equality nor hash.
- A node is named by any str; none is special.
"""

# ruff: noqa: SLF001  # a value looks into others of its own class

from collections.abc import Iterator, Mapping
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple, Self

from clusterkit.errors import ConfigError


class Causality(Enum):
    """How one clock stands to another."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


class Stamp(NamedTuple):
    """When a node's entry was first and last updated, in seconds."""

    first: float
    last: float


class Trimmed(NamedTuple):
    """A trimmed clock, and the counts that it lost."""

    clock: "VectorClock"
    dropped: dict[str, int]


class VectorClock:
    """An immutable count of known events per node.

    ``counts`` maps nodes to ints from 0 up. `TypeError` for a node that is no str
    or a count that is no int, `ConfigError` for a count below 0.

    >>> a = VectorClock().increment("a")
    >>> b = VectorClock().increment("b")
    >>> a.compare(b)
    <Causality.CONCURRENT: 'concurrent'>
    >>> a <= a.merge(b), a == VectorClock({"a": 1, "b": 0})
    (True, True)
    """

    __slots__ = ("_counts", "_hash", "_stamps")

    _counts: dict[str, int]
    _stamps: dict[str, Stamp]
    _hash: int | None

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        kept = {_checked_node(node): _checked_count(count) for node, count in (counts or {}).items()}
        self._counts = {node: count for node, count in kept.items() if count}
        self._stamps = {}
        self._hash = None

    @classmethod
    def _of(cls, counts: dict[str, int], stamps: dict[str, Stamp]) -> Self:
        """Make a clock of dicts that are its own, and known to be right."""
        clock = object.__new__(cls)
        clock._counts, clock._stamps, clock._hash = counts, stamps, None
        return clock

    # -- making new ones

    def increment(self, node: str, now: float | None = None) -> Self:
        """Return the clock after one more event of ``node``; O(nodes).

        ``now``, in seconds, becomes its last update, and its first if it had none;
        a time before the last one is not taken over.

        >>> VectorClock({"a": 1}).increment("a").get("a")
        2
        """
        counts = {**self._counts, _checked_node(node): self._counts.get(node, 0) + 1}
        if now is None:
            return self._of(counts, self._stamps)
        first, last = self._stamps.get(node, (now, _checked_time(now)))
        return self._of(counts, {**self._stamps, node: Stamp(first, max(last, now))})

    def merge(self, other: "VectorClock") -> Self:
        """Return the least clock that dominates both; O(nodes of both).

        Commutative, associative, idempotent, stamps included: the stamp goes with
        the greater count; of equal counts the earlier first and the later last stay.

        >>> VectorClock({"a": 2, "b": 1}).merge(VectorClock({"a": 1, "c": 1})).to_dict()
        {'a': 2, 'b': 1, 'c': 1}
        """
        mine, theirs = self._counts, other._counts
        if mine == theirs and self._stamps == other._stamps:
            return self
        counts = {**mine, **theirs}
        for node in mine.keys() & theirs.keys():
            if mine[node] > theirs[node]:
                counts[node] = mine[node]
        if not (self._stamps or other._stamps):
            return self._of(counts, {})
        return self._of(counts, _merged_stamps(self, other))

    def remove(self, *nodes: str) -> Self:
        """Return the clock without ``nodes``, known or not; it forgets all their events.

        For nodes that are gone for good, on all replicas alike: an entry comes
        back with the next merge from a clock that still has it.

        >>> VectorClock({"a": 2, "b": 1}).remove("a").to_dict()
        {'b': 1}
        """
        return self._without(frozenset(nodes))

    def trim(
        self,
        now: float,
        *,
        lower_bound: int = 10,
        young_bound: float = 20.0,
        upper_bound: int = 50,
        old_bound: float = 86_400.0,
    ) -> Trimmed:
        """Return the clock with its oldest entries dropped, and what was dropped; O(n log n).

        Entries are looked at in order of (last update, node); one without a stamp
        counts as updated at 0. While there are more than ``lower_bound`` and the
        oldest has an age of ``young_bound`` seconds or more, it is dropped if there
        are more than ``upper_bound`` or it is older than ``old_bound`` seconds.
        Riak's rules, edges included, so at least ``lower_bound`` entries stay.

        Trimming loses causality: a trimmed clock no longer dominates what it
        dominated. Equal clocks with equal stamps are trimmed alike everywhere.

        >>> clock = VectorClock().increment("a", now=0.0).increment("b", now=90.0)
        >>> trimmed, dropped = clock.trim(100.0, lower_bound=1, upper_bound=1)
        >>> trimmed.to_dict(), dropped
        ({'b': [1, 90.0, 90.0]}, {'a': 1})
        """
        _checked_time(now)
        _check_bounds(lower_bound, young_bound, upper_bound, old_bound)
        left = len(self._counts)
        dropped: dict[str, int] = {}
        for last, node in sorted((self._last(node), node) for node in self._counts):
            age = now - last
            if left <= lower_bound or age < young_bound or (left <= upper_bound and age <= old_bound):
                break
            dropped[node] = self._counts[node]
            left -= 1
        return Trimmed(self._without(dropped.keys()) if dropped else self, dropped)

    # -- comparing

    def compare(self, other: "VectorClock") -> Causality:
        """Tell how this clock stands to ``other``: equal, before, after or concurrent; O(nodes).

        >>> VectorClock({"a": 1}).compare(VectorClock({"a": 2}))
        <Causality.BEFORE: 'before'>
        """
        mine, theirs = self._counts, other._counts
        if mine == theirs:
            return Causality.EQUAL
        ahead = behind = False
        shared = 0
        for node, count in mine.items():
            known = theirs.get(node, 0)
            shared += known > 0
            ahead = ahead or count > known
            behind = behind or count < known
            if ahead and behind:
                return Causality.CONCURRENT
        if shared < len(theirs):
            return Causality.CONCURRENT if ahead else Causality.BEFORE
        return Causality.AFTER if ahead else Causality.BEFORE

    def dominates(self, other: "VectorClock") -> bool:
        """Tell whether every event known to ``other`` is known here; the same as ``other <= self``.

        A clock dominates itself; ``other < self`` asks for strictly more.

        >>> VectorClock({"a": 2, "b": 1}).dominates(VectorClock({"a": 1}))
        True
        """
        # Most clocks that meet are equal, and dicts tell that fastest.
        return self._counts == other._counts or _reaches(self._counts, other._counts)

    def __le__(self, other: "VectorClock") -> bool:
        return other.dominates(self) if isinstance(other, VectorClock) else NotImplemented

    def __ge__(self, other: "VectorClock") -> bool:
        return self.dominates(other) if isinstance(other, VectorClock) else NotImplemented

    def __lt__(self, other: "VectorClock") -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return self._counts != other._counts and _reaches(other._counts, self._counts)

    def __gt__(self, other: "VectorClock") -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return self._counts != other._counts and _reaches(self._counts, other._counts)

    def __eq__(self, other: object) -> bool:
        return self._counts == other._counts if isinstance(other, VectorClock) else NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._counts.items()))
        return self._hash

    # -- reading

    def get(self, node: str) -> int:
        """Return how many events of ``node`` are known: 0 if it is unknown.

        >>> VectorClock({"a": 2}).get("b")
        0
        """
        return self._counts.get(node, 0)

    def stamp(self, node: str) -> Stamp | None:
        """Return when the entry of ``node`` was updated, or None if that is not known.

        >>> VectorClock().increment("a", now=5.0).increment("a", now=7.0).stamp("a")
        Stamp(first=5.0, last=7.0)
        """
        return self._stamps.get(node)

    @property
    def nodes(self) -> list[str]:
        """A new list of the nodes with known events, in order.

        >>> VectorClock({"b": 1, "a": 2, "c": 0}).nodes
        ['a', 'b']
        """
        return sorted(self._counts)

    def to_dict(self) -> dict[str, int | list[float]]:
        """Return plain data for JSON or msgpack: a count per node, or ``[count, first, last]``.

        In order of node, so equal clocks with equal stamps give equal bytes.

        >>> VectorClock({"a": 2}).increment("b", now=1.5).to_dict()
        {'a': 2, 'b': [1, 1.5, 1.5]}
        """
        stamps = self._stamps
        return {
            node: [count, *stamps[node]] if node in stamps else count for node, count in sorted(self._counts.items())
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; `ConfigError` for anything else.

        >>> VectorClock.from_dict({"a": 2, "b": [1, 1.5, 1.5]}).stamp("b")
        Stamp(first=1.5, last=1.5)
        """
        counts: dict[str, int] = {}
        stamps: dict[str, Stamp] = {}
        try:
            for node, entry in data.items():
                if isinstance(entry, list | tuple):
                    counts[node], first, last = entry
                    stamps[node] = Stamp(_checked_time(first), _checked_time(last))
                else:
                    counts[node] = entry
            clock = cls(counts)
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"this describes no vector clock: {error}") from error
        return cls._of(clock._counts, {node: stamps[node] for node in stamps if node in clock})

    def __len__(self) -> int:
        """Return the number of nodes with known events."""
        return len(self._counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __contains__(self, node: object) -> bool:
        return node in self._counts

    def __repr__(self) -> str:
        return f"VectorClock({dict(sorted(self._counts.items()))})"

    def _last(self, node: str) -> float:
        stamp = self._stamps.get(node)
        return 0.0 if stamp is None else stamp.last

    def _without(self, nodes: Any) -> Self:
        counts = {node: count for node, count in self._counts.items() if node not in nodes}
        return self._of(counts, {node: stamp for node, stamp in self._stamps.items() if node not in nodes})


def _reaches(mine: dict[str, int], theirs: dict[str, int]) -> bool:
    """Tell whether every count of ``theirs`` is reached in ``mine``."""
    try:
        for node, count in theirs.items():
            if mine[node] < count:
                return False
    except KeyError:  # no zeros are kept: an absent node is behind
        return False
    return True


def _merged_stamps(one: VectorClock, two: VectorClock) -> dict[str, Stamp]:
    """Return the stamps of the merged clock: those of the greater count, of equal counts the widest."""
    merged: dict[str, Stamp] = {}
    for node in {*one, *two}:
        if one.get(node) != two.get(node):
            stamps = [(one if one.get(node) > two.get(node) else two).stamp(node)]
        else:
            stamps = [one.stamp(node), two.stamp(node)]
        known = [stamp for stamp in stamps if stamp is not None]
        if known:
            merged[node] = Stamp(min(stamp.first for stamp in known), max(stamp.last for stamp in known))
    return merged


def _checked_node(node: str) -> str:
    if not isinstance(node, str):
        raise TypeError(f"a node is a str, not {type(node).__name__}: {node!r}")
    return node


def _checked_count(count: int) -> int:
    if type(count) is not int:
        raise TypeError(f"a count is an int from 0, not {type(count).__name__}: {count!r}")
    if count < 0:
        raise ConfigError(f"a count is an int from 0, not {count}")
    return count


def _checked_time(now: float) -> float:
    if isinstance(now, bool) or not isinstance(now, int | float):
        raise TypeError(f"a time is a number of seconds, not {type(now).__name__}: {now!r}")
    if not isfinite(now):
        raise ConfigError(f"a time is a finite number of seconds, not {now}")
    return now


def _check_bounds(lower: int, young: float, upper: int, old: float) -> None:
    for bound in (lower, upper):
        if type(bound) is not int:
            raise TypeError(f"a bound on the size is an int, not {type(bound).__name__}: {bound!r}")
    if lower < 0 or upper < 0 or not (young >= 0 and old >= 0):
        raise ConfigError(f"no bound is below 0: lower {lower}, young {young}, upper {upper}, old {old}")
