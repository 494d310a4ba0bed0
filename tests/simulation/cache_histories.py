"""What was got from a cache while its source changed, and whether that can be true.

A model of a source has a version of each key; whoever changes some invalidates them then. `broken_promises` returns one
sentence for each rule that a history breaks:

- a get that begins after an invalidation returned, on a node that it reached or on the invalidator itself, is
  answered with nothing that is older;
- where an invalidation did not come at once, it is known soon after one that knows of it can be reached;
- a copy is served for its time, counted from when it was fetched;
- a get ends in a value, in `UnknownKey`, in `LoadFailed` where a load did fail, or in `CallTimeout`, at its deadline and not before;
- one node loads a key once at a time, unless an invalidation came between.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from clusterkit.core.invalidations import ALL, KEY
from tests.simulation import actor_faults
from tests.simulation.actor_faults import FOR_EVER, LATE, RECOVERY

SOON = 12.0
"""Seconds after which one that can be reached again knows what it missed: others tell it once it is known who is gone."""
SEARCH = 2.0
"""Seconds that a load may ask around before it asks the source."""
ABSENT = "there is no such key"


@dataclass(slots=True)
class Version:
    """What the source had under a key, from a moment on."""

    number: int
    at: float
    absent: bool = False


@dataclass(slots=True)
class Load:
    """One question to the source, by a life of a group; what it read when."""

    life: str
    key: str
    began: float
    number: int = 0
    ended: float = FOR_EVER
    failed: bool = False


@dataclass(slots=True)
class Got:
    """One get, and how it ended: "value", ABSENT, or the name of an error; ``own`` for what the node held as its own."""

    name: str
    life: str
    key: str
    began: float
    deadline: float
    ended: float = FOR_EVER
    outcome: str = ""
    number: int = 0
    source: str = ""
    is_copy: bool = False
    text: str = ""

    def __str__(self) -> str:
        what = f"v{self.number} ({self.source}{', a copy' if self.is_copy else ''})"
        end = what if self.outcome == "value" else f"{self.outcome} {self.text}"
        return f"get {self.key} on {self.life} at {self.began:.3f} till {self.ended:.3f}: {end}"


@dataclass(slots=True)
class Dropped:
    """One invalidation: of what, whom it reached, and the versions that count from then on."""

    name: str
    life: str
    kind: int
    text: str
    began: float
    numbers: dict[str, int]
    returned: float = FOR_EVER
    knowing: dict[str, str] = field(default_factory=dict)
    """Who knows of it when it returned: the lives of the group, and their nodes."""
    missed: list[str] = field(default_factory=list)

    def covers(self, key: str) -> bool:
        """Whether a key is meant."""
        return self.kind == ALL or (key == self.text if self.kind == KEY else key.startswith(self.text))

    def __str__(self) -> str:
        what = f"{('key', 'prefix', 'all')[self.kind]} {self.text}".rstrip()
        known = f"known to {', '.join(sorted(self.knowing))}, missed by {', '.join(self.missed) or 'none'}"
        return f"invalidation of {what} by {self.life}, {self.began:.3f} to {self.returned:.3f}, {known}"


@dataclass(slots=True)
class Cached(actor_faults.Evidence):
    """What befell the nodes, what the source had, and what came of each get."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    gets: list[Got] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    """The life of its group that each node has now."""
    group_began: dict[str, float] = field(default_factory=dict)
    group_ended: dict[str, float] = field(default_factory=dict)
    """When each life of a group began, and when its end did."""
    hot_ttl: float = 10.0
    at_rest: list[str] = field(default_factory=list)

    def lived(self, life: str, since: float, until: float) -> bool:
        """Whether a life of a group lasted all this time."""
        return self.group_began[life] <= since and until <= self.group_ended.get(life, FOR_EVER)

    def latest(self, key: str) -> Version:
        """What the source has now."""
        return self.versions[key][-1]


def broken_promises(evidence: Cached) -> list[str]:
    """Hold what was got against what the source had, and who knew of what."""
    return [
        *old_values(evidence),
        *late_news(evidence),
        *old_copies(evidence),
        *strange_ends(evidence),
        *double_loads(evidence),
        *evidence.at_rest,
        *(f"{what} when all was over" for what in evidence.left),
    ]


def is_older(evidence: Cached, got: Got, number: int) -> bool:
    """Whether a get was answered with what the source had before a version, and not after."""
    if got.outcome == ABSENT:
        later = (each for each in evidence.versions[got.key] if each.number >= number and each.at <= got.ended)
        return not any(each.absent for each in later)
    return got.outcome == "value" and got.number < number


def old_values(evidence: Cached) -> Iterator[str]:
    """Who was reached gets nothing that is older than the invalidation."""
    for got in evidence.gets:
        for each in evidence.dropped:
            knew = each.returned <= got.began and got.life in each.knowing and each.covers(got.key)
            if knew and is_older(evidence, got, each.numbers[got.key]):
                yield f"old: {got}, after {each}"


def late_news(evidence: Cached) -> Iterator[str]:
    """Who was not reached hears of it from any that knows, soon after it can."""
    for got in evidence.gets:
        since = got.began - SOON
        for each in evidence.dropped:
            if got.life in each.knowing or not each.covers(got.key) or each.returned > since - RECOVERY:
                continue
            if is_older(evidence, got, each.numbers[got.key]) and can_have_heard(evidence, got, each, since):
                yield f"not told: {got}, after {each}"


def can_have_heard(evidence: Cached, got: Got, what: Dropped, since: float) -> bool:
    """Whether one that knows was in reach for long enough."""
    if not evidence.lived(got.life, since - RECOVERY, got.began):
        return False
    for life, name in what.knowing.items():
        if evidence.lived(life, what.returned, got.began) and evidence.is_calm(since, got.began, name, got.name):
            return True
    return False


def old_copies(evidence: Cached) -> Iterator[str]:
    """A copy comes from a question of this node, and lives for `hot_ttl`."""
    fetched: dict[tuple[str, str, int], float] = {}
    for got in sorted(evidence.gets, key=lambda got: got.ended):
        what = got.life, got.key, got.number
        if got.is_copy and fetched.get(what, -FOR_EVER) + evidence.hot_ttl + LATE < got.began:
            yield f"a copy that is too old: {got}"
        elif got.outcome == "value" and got.source != "hit":
            fetched[what] = got.ended


def strange_ends(evidence: Cached) -> Iterator[str]:
    """A get ends in time, and in what is promised."""
    failed = defaultdict[str, list[float]](list)
    for load in evidence.loads:
        if load.failed:
            failed[load.key].append(load.ended)
    for got in evidence.gets:
        due = evidence.awake(got.name, got.deadline) + LATE
        if got.ended == FOR_EVER and evidence.crashes.get(got.life.partition(".")[0], FOR_EVER) <= due:
            continue
        if got.ended > due:
            yield f"too late: {got}, its deadline was {got.deadline:.3f}"
        match got.outcome:
            case "value" | "cancelled":
                continue
            case outcome if outcome == ABSENT:
                ok = any(each.absent for each in evidence.versions[got.key])
            case "LoadFailed":
                ok = any(got.began - RECOVERY <= at <= got.ended for at in failed[got.key])
            case "CallTimeout":
                ok = got.ended >= got.deadline - LATE
            case "UsageError":
                ok = evidence.group_ended.get(got.life, FOR_EVER) <= got.ended
            case _:
                ok = False
        if not ok:
            yield f"nothing explains: {got}"


def double_loads(evidence: Cached) -> Iterator[str]:
    """Two loads of one key on one node overlap where an invalidation may have come between alone."""
    by_key = defaultdict[tuple[str, str], list[Load]](list)
    for load in evidence.loads:
        by_key[load.life, load.key].append(load)
    for (life, key), loads in by_key.items():
        for one, other in pairwise(sorted(loads, key=lambda load: load.began)):
            if other.began < one.ended and not may_have_come(evidence, life, key, one.began - SEARCH, other.began):
                yield f"loaded twice at once: {key} on {life} at {one.began:.3f} till {one.ended:.3f} and at {other.began:.3f}"


def may_have_come(evidence: Cached, life: str, key: str, since: float, until: float) -> bool:
    """Whether a life of a group may have heard of an invalidation of a key in that time, early or late."""
    for each in evidence.dropped:
        knew = life in each.knowing and each.returned < since
        if each.covers(key) and each.began <= until and not knew:
            return True
    return False
