"""One copy of the ring's state, and what copies tell each other to become equal.

An observed-remove map (Bieniusa et al., 2012) with one vector clock for all of it and
exact deltas (Almeida et al., 2018). What is incorporated here is a change, when all
that it depends on is; a delta, at the clock that it was made for or a later one; or a
full state. Rules R1, R3, R4, R6, R8 and R10 of docs/membership.md.

The rule of every join: an entry that both have stays, and so does one that the other
side's clock does not cover. A covered dot that the other does not hold was replaced
there. Nothing is judged here: concurrent entries stay siblings.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from clusterkit.core.hybrid_clock import HybridClock
from clusterkit.core.ring_entry import Actor, Dot, Entry
from clusterkit.core.ring_frames import Change, Clock, Delivery, Delta, Full, Item, Safeguards
from clusterkit.core.ring_history import History
from clusterkit.core.ring_map import RingMap
from clusterkit.core.ring_parking import Parking

_NONE: Mapping[Dot, Entry] = {}


class Replica:
    """Entries, claims and history of one member.

    ``skew`` is by how many seconds a stamp was ahead of the wall clock, the worst
    beyond what the hybrid clock follows.

    >>> from clusterkit.core.ring_entry import Stamp
    >>> one, two = (Replica(HybridClock(), Safeguards()) for _ in range(2))
    >>> dot, stamp = Dot(Actor("a", 7), 1), Stamp(5, "a", 7)
    >>> entry = Entry(7, stamp, "10.0.0.1", 7022, b"", stamp, 1)
    >>> one.deliver(Change(dot, "a", {dot: entry}, {dot.actor: 1}, 0, 0, None), wall=0.0)
    <Delivery.NEW: 'new'>
    >>> two.apply(one.answer(two.history.clock()), wall=0.0), two.digest == one.digest
    (True, True)
    """

    def __init__(self, hlc: HybridClock, safeguards: Safeguards) -> None:
        self.history = History()
        self.map = RingMap(fenced=safeguards.fences)
        self.parking = Parking()
        self._delivered: list[Change] = []
        self.skew = 0.0
        self._hlc = hlc
        self._safe = safeguards

    @property
    def digest(self) -> int:
        """64 bits over clock, fences and live dots."""
        return self.history.digest ^ self.map.digest

    def known(self, name: str) -> int:
        """The highest boot of the name that is known in any way; 0 for none."""
        return max(self.map.boot(name), self.history.floors.get(name, 0) - 1, *self.history.boots(name))

    def closed(self, name: str, boot: int) -> bool:
        """Tell whether that boot was removed or superseded."""
        return boot <= self.map.fences.get(name, 0) or boot < self.known(name)

    def take_delivered(self) -> list[Change]:
        """The changes that `deliver` incorporated since the last call, in order."""
        delivered, self._delivered = self._delivered, []
        return delivered

    # -- one change

    def deliver(self, change: Change, wall: float) -> Delivery:
        """Incorporate a change, or park it; one that makes others ready incorporates them too."""
        ready: deque[Change] = deque()
        delivery = self._take(change, wall, ready)
        self._take_all(ready, wall)
        return delivery

    def _take_all(self, ready: deque[Change], wall: float) -> None:
        while ready:
            self._take(ready.popleft(), wall, ready)

    def _take(self, change: Change, wall: float, ready: deque[Change]) -> Delivery:
        """Judge one change (R3, R10); what it makes ready is added to ``ready``."""
        if self.history.covers(*change.dot):
            return Delivery.KNOWN
        if self._safe.closed_boots and self.closed(*change.dot.actor):
            return Delivery.CLOSED
        blocker = self._blocker(change) if self._safe.causal_wait else None
        if blocker is not None:
            self.parking.park(change, blocker)
            return Delivery.PARKED
        ready.extend(self._incorporate(change, wall))
        return Delivery.NEW

    def _blocker(self, change: Change) -> Actor | None:
        """An actor that the change waits for.

        A floor is taken only from the retirement itself, whose context has all that
        it retires: a later change may come without, when the log forgot.
        """
        actor, n = change.dot
        if n > self.history.counts.get(actor, 0) + 1:
            return actor
        for other, last in change.context.items():
            if other != actor and not self.history.covers(other, last):
                return other
        retired = Actor(change.name, change.floor)
        return retired if actor != retired and change.floor > self.history.floors.get(change.name, 0) else None

    def _incorporate(self, change: Change, wall: float) -> list[Change]:
        """Join one change; return those that waited for it."""
        name, context = change.name, change.context
        siblings = self._joined(name, change.siblings, lambda actor, n: context.get(actor, 0) >= n, wall)
        risen = change.floor > self.history.floors.get(name, 0)
        self.history.record(change.dot, name)
        self.map.raise_fence(name, change.fence)
        self.history.raise_floor(name, change.floor)
        self.map.settle(name, siblings)
        if change.claim is not None:
            self.map.hear(name, change.claim)
        self._delivered.append(change)
        return self.parking.take_all() if risen else self.parking.take(change.dot.actor)

    # -- deltas and full states

    def full(self) -> Full:
        """A copy of everything."""
        names = list(self.map.names())
        said = {name: self.map.said(name) for name in names}
        return Full(
            self.history.clock(),
            {name: self.map.siblings(name) for name in names},
            dict(self.map.fences),
            {actor: dict(log) for actor, log in self.history.log.items() if log},
            dict(self.history.forgotten),
            {name: claim for name, claim in said.items() if claim is not None},
        )

    def answer(self, clock: Clock, *, differs: bool = False) -> Delta | Full:
        """What a replica with that clock lacks: a delta where it can be exact, else a full state (R4, R4a).

        ``differs`` says that its digest differs from ours though its clock does not.
        """
        if differs or clock.floors != self.history.floors or not self._has_all_removals_since(clock):
            return self.full()
        items = tuple(self._item(name) for name in self.history.unknown_to(clock))
        return Delta(clock, self.history.clock(), items)

    def apply(self, delta: Delta, wall: float) -> bool:
        """Join a delta; False if its base is not covered any more: nothing changed, ask again (R4)."""
        if self._safe.delta_base and not self.history.covers_clock(delta.base):
            return False
        self._join(_as_state(delta), [item.name for item in delta.items], wall)
        return True

    def merge(self, full: Full, wall: float) -> None:
        """Join a whole state (R1)."""
        self._join(full, [*full.entries, *(name for name in self.map.names() if name not in full.entries)], wall)

    def _join(self, state: Full, names: Iterable[str], wall: float) -> None:
        covers = state.clock.covers
        joined = {name: self._joined(name, state.entries.get(name, _NONE), covers, wall) for name in names}
        self.history.join(state.clock, state.log, state.forgotten)
        for name, fence in state.fences.items():
            self.map.raise_fence(name, fence)
        for name, siblings in joined.items():
            self.map.settle(name, siblings)
        for name, claim in state.claims.items():
            self.map.hear(name, claim)
        self._take_all(deque(self.parking.take_all()), wall)

    def _joined(
        self, name: str, theirs: Mapping[Dot, Entry], covers: Callable[[Actor, int], bool], wall: float
    ) -> Mapping[Dot, Entry]:
        """Join the siblings of a name with those of a side that covers so much."""
        ours = self.map.siblings(name)
        if ours.keys() == theirs.keys():
            return ours
        kept = {dot: entry for dot, entry in ours.items() if dot in theirs or not covers(*dot)}
        for dot, entry in theirs.items():
            if dot not in ours and not self.history.covers(*dot):
                kept[dot] = entry
                self._follow(entry, wall)
        return kept

    def _follow(self, entry: Entry, wall: float) -> None:
        """Let the own hybrid clock follow what others stamped (R2a)."""
        for stamp in (entry.announced, entry.weighed):
            self.skew = max(self.skew, self._hlc.observe(stamp.time, wall))

    # -- removal records

    def forget(self, names: Iterable[str] | None = None) -> None:
        """Forget the records of removals, of these names or of all; a fence stays (R8)."""
        for name in self.removed() if names is None else names:
            if name not in self.map:
                self.history.forget(name)

    def removed(self) -> list[str]:
        """The names that are not visible and have a record of it, in order."""
        return sorted(name for name in self.history.logged() if name not in self.map)

    def _has_all_removals_since(self, clock: Clock) -> bool:
        if not self._safe.removal_frontier:
            return True
        return all(clock.covers(actor, n) for actor, n in self.history.forgotten.items())

    def _item(self, name: str) -> Item:
        fence = self.map.fences.get(name, 0)
        return Item(name, self.map.siblings(name), self.history.context(name), fence, self.map.said(name))


def _as_state(delta: Delta) -> Full:
    """Write a delta as a state that has only what changed."""
    log: dict[Actor, dict[str, int]] = {}
    for item in delta.items:
        for actor, n in item.log.items():
            log.setdefault(actor, {})[item.name] = n
    return Full(
        delta.clock,
        {item.name: item.siblings for item in delta.items},
        {item.name: item.fence for item in delta.items},
        log,
        {},
        {item.name: item.claim for item in delta.items if item.claim is not None},
    )
