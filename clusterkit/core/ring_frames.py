"""What replicas of the ring tell each other: one change, a delta, or everything.

A `Clock` says which events a replica has. Counts are contiguous: a count of n means
that the events 1 to n of that actor are known. A *floor* stands for all older boots
of a name: their events count as known, and their counts are gone.

A `Change` is one event with all it depends on. A `Delta` is exact for the one clock
that it answers, its base. A `Full` is a whole state, also what a file keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry


@dataclass(frozen=True, slots=True)
class Clock:
    """Which events are known: counts of actors, and per name the boot below which all are.

    >>> clock = Clock({Actor("a", 7): 3}, {"a": 7})
    >>> clock.covers(Actor("a", 7), 3), clock.covers(Actor("a", 7), 4), clock.covers(Actor("a", 6), 99)
    (True, False, True)
    """

    counts: Mapping[Actor, int]
    floors: Mapping[str, int]

    def covers(self, actor: Actor, n: int) -> bool:
        """Tell whether the n-th event of the actor is known."""
        return self.counts.get(actor, 0) >= n or actor.boot < self.floors.get(actor.name, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """One event: what stands of the name after it, and what it knew.

    ``context`` has the newest known event about the name of every actor, this one and
    all that it replaced included. ``fence`` is the highest removed boot of the name,
    ``floor`` its retired one.
    """

    dot: Dot
    name: str
    siblings: Mapping[Dot, Entry]
    context: Mapping[Actor, int]
    fence: int
    floor: int
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Item:
    """A name that changed, in a delta: all its siblings, and who changed it last."""

    name: str
    siblings: Mapping[Dot, Entry]
    log: Mapping[Actor, int]
    fence: int
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Delta:
    """What a replica with the clock ``base`` lacks of the one with ``clock``."""

    base: Clock
    clock: Clock
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Full:
    """A whole state. ``forgotten`` is up to where records of removals were dropped."""

    clock: Clock
    entries: Mapping[str, Mapping[Dot, Entry]]
    fences: Mapping[str, int]
    log: Mapping[Actor, Mapping[str, int]]
    forgotten: Mapping[Actor, int]
    claims: Mapping[str, Claim]


class Known(NamedTuple):
    """The highest boot of a name that a state has heard of, and the highest removed one; 0 for none."""

    boot: int
    fence: int


def known_in(full: Full, name: str) -> Known:
    """Read what a received state alone knows of a name: a joiner is judged by its seed's, not by its own."""
    fence = full.fences.get(name, 0)
    boots = [fence, full.clock.floors.get(name, 0) - 1]
    boots += [entry.boot for entry in full.entries.get(name, {}).values()]
    boots += [actor.boot for actor in full.clock.counts if actor.name == name]
    if name in full.claims:
        boots.append(full.claims[name].boot)
    return Known(max(*boots, 0), fence)


class Delivery(Enum):
    """What became of a change."""

    NEW = "new"  # incorporated, and parked ones with it that waited for it
    KNOWN = "known"  # incorporated before
    PARKED = "parked"  # something that it depends on is missing
    CLOSED = "closed"  # of a boot that was removed or superseded: dropped


class Verdict(Enum):
    """How this process stands in its ring, after everything received."""

    IN = "in"
    REMOVED = "removed"  # stops writing, accusing and probing
    SUPERSEDED = "superseded"  # the same: a later boot of this name is known
    UNANNOUNCED = "unannounced"  # announces itself again


@dataclass(frozen=True, slots=True)
class Safeguards:
    """Each is a rule that keeps the ring right; an ablation turns one off to see it missed."""

    causal_wait: bool = True  # a change waits for what it depends on
    removal_frontier: bool = True  # who lacks a forgotten removal is sent everything
    delta_base: bool = True  # a delta is applied to the clock it was made for, or a later one
    fences: bool = True  # what has a removed boot is deleted wherever it is seen
    closed_boots: bool = True  # a change by a removed or superseded boot is dropped
    full_reports: bool = True  # old counts retire only when every member has said that it knows them
