"""The replicated state of the gossip ring, as one process holds it: reading and writing.

The rules R1 to R11 and the invariants are in docs/membership.md; a comment here names
the rule that it follows. How copies become equal is in `clusterkit.core.ring_replica`.

- A write is applied here at once and returned as a `Change` for the others. It
  replaces what this replica sees of the name, and is stamped above all of it.
- A process that was removed, or outdone by a later boot of its name, writes nothing.
- A boot is never continued: every new boot is another `Actor`, with its own counts.

``wall`` is Unix time in seconds; it decides between concurrent updates of one entry,
and nothing else. Digests cost O(1) per change, a change O(siblings + writers of the
name), a delta what it tells, a full state O(members).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from clusterkit.core.hybrid_clock import HybridClock
from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Change, Clock, Delivery, Delta, Full, Safeguards, Verdict
from clusterkit.core.ring_replica import Replica
from clusterkit.errors import UsageError

_TOP_BOOT = (1 << 64) - 1
_TOP_TIME = (1 << 64) - (1 << 32)  # of a stamp that others read
MOST = 65_536  # names, or actors, that one frame can tell of
_SAFE = Safeguards()
_NOTHING: Mapping[Actor, int] = {}


class RingState:
    """One member's copy of the ring, empty at first.

    >>> a, b = RingState(Actor("a", 7)), RingState(Actor("b", 8))
    >>> b.deliver(a.announce("10.0.0.1", 7022, b"", wall=1000.0), wall=1000.0)
    <Delivery.NEW: 'new'>
    >>> b.deliver(a.insert("c", "10.0.0.3", 7022, wall=1001.0), wall=1001.0)
    <Delivery.NEW: 'new'>
    >>> b.names, b.ring_digest == a.ring_digest
    (['a', 'c'], True)
    """

    def __init__(self, me: Actor, *, clock: HybridClock | None = None, safeguards: Safeguards = _SAFE) -> None:
        self._hlc = HybridClock() if clock is None else clock
        self._safe = safeguards
        self._begin(me)

    def _begin(self, me: Actor) -> None:
        self.me = me
        self._replica = Replica(self._hlc, self._safe)
        self._map = self._replica.map
        self._history = self._replica.history
        self._reported: set[str] = set()
        self._reported_view = 0
        self._told: Change | None = None  # the newest own event about this process

    def reset(self, me: Actor) -> None:
        """Begin anew as another actor, with an empty state: after a removal, a leave, or a boot that was outdone."""
        gone = self.names
        self._begin(me)
        self._map.note(gone)

    # -- reading

    @property
    def names(self) -> list[str]:
        """The visible names, in order."""
        return list(self._map.names())

    def __contains__(self, name: object) -> bool:
        return name in self._map

    def __len__(self) -> int:
        return len(self._map)

    def entry(self, name: str) -> Entry | None:
        """What stands of a name, its siblings read as one; None if it is not visible."""
        return self._map.entry(name)

    def siblings(self, name: str) -> Mapping[Dot, Entry]:
        """The concurrent entries of a name."""
        return self._map.siblings(name)

    def claim(self, name: str) -> Claim:
        """What holds of a name's liveness (R5a): alive and not ready until something is said of its boot."""
        return self._map.claim(name)

    def fence(self, name: str) -> int:
        """The highest boot of the name that was removed; 0 for none."""
        return self._map.fences.get(name, 0)

    def known(self, name: str) -> int:
        """The highest boot of the name that is known in any way; 0 for none."""
        return self._replica.known(name)

    def closed(self, name: str, boot: int) -> bool:
        """Tell whether that boot was removed or superseded: nothing more is taken from it (R10)."""
        return self._replica.closed(name, boot)

    @property
    def ring_digest(self) -> int:
        """64 bits over clock, fences and live dots: equal on replicas of equal state."""
        return self._replica.digest

    @property
    def claims_digest(self) -> int:
        """64 bits over the claims of the visible names, as they are read."""
        return self._map.claims_digest

    @property
    def skew(self) -> float:
        """By how many seconds a stamp was ahead of the wall clock, the worst beyond the 60 s that are followed."""
        return self._replica.skew

    @property
    def parked(self) -> int:
        """How many changes wait for others."""
        return len(self._replica.parking)

    def view_hash(self) -> int:
        """64 bits over the visible names with their boots, and the fences."""
        return self._map.view

    def verdict(self) -> Verdict:
        """Judge how this process stands, after everything received (R11)."""
        if self.fence(self.me.name) >= self.me.boot:
            return Verdict.REMOVED
        if self.known(self.me.name) > self.me.boot:
            return Verdict.SUPERSEDED
        own = self.siblings(self.me.name).values()
        return Verdict.IN if any(entry.boot == self.me.boot for entry in own) else Verdict.UNANNOUNCED

    def take_changed(self) -> list[str]:
        """The names whose entry, fence or claim changed since the last call, in order, each once."""
        return self._map.take_changed()

    def take_delivered(self) -> list[Change]:
        """The changes of others that `deliver` incorporated since the last call, in order: what to relay."""
        return self._replica.take_delivered()

    # -- writing

    def announce(self, host: str, port: int, meta: bytes, wall: float, weight: int = 1) -> Change:
        """Say where this process is; ``weight`` counts only where nobody has set one: its stamp is below all others."""
        return self._enter(self.me, host, port, meta, wall, weight, Stamp(0, *self.me))

    def insert(self, name: str, host: str, port: int, wall: float, weight: int = 1, meta: bytes = b"") -> Change:
        """Make a node a member by hand: any boot that it comes with will be higher (R6a)."""
        if name in self:
            raise UsageError(f"{name!r} is a member already")
        if self.fence(name) == _TOP_BOOT:
            raise UsageError(f"{name!r} cannot be a member any more: no boot is above the one that was removed")
        return self._enter(Actor(name, self.fence(name) + 1), host, port, meta, wall, weight)

    def update(self, name: str, weight: int, wall: float) -> Change:
        """Give a member another weight; its own part stays as it is."""
        entry = self._visible(name)
        return self._write(name, replace(entry, weighed=self._stamp(name, wall), weight=weight))

    def remove(self, name: str) -> Change:
        """Remove a member, with every boot of it that is known here (R6)."""
        if name == self.me.name:
            raise UsageError("a member does not remove itself, it leaves")
        self._visible(name)
        return self._write(name, None, fence=self.known(name))

    def leave(self) -> Change:
        """Remove this process, and say that it left by itself (R6b)."""
        self._visible(self.me.name)
        self._check_standing()
        left = self.claim(self.me.name)._replace(rank=Rank.LEFT)
        self._map.hear(self.me.name, left)
        return replace(self._write(self.me.name, None, fence=self.known(self.me.name)), claim=left)

    def own_change(self) -> Change | None:
        """Tell the newest own event about this process again, as it was, with what holds of it now.

        None while this process is not in the ring. Made anew from what stands it would
        be wrong: what it replaced of retired boots is in no log.
        """
        if self._told is None or self.verdict() is not Verdict.IN:
            return None
        return replace(self._told, claim=self._map.said(self.me.name))

    def _enter(
        self, who: Actor, host: str, port: int, meta: bytes, wall: float, weight: int, weighed: Stamp | None = None
    ) -> Change:
        stamp, before = self._stamp(who.name, wall), self.entry(who.name)
        weighed, weight = (weighed or stamp, weight) if before is None else (before.weighed, before.weight)
        return self._write(who.name, Entry(who.boot, stamp, host, port, meta, weighed, weight))

    def _visible(self, name: str) -> Entry:
        entry = self.entry(name)
        if entry is None:
            raise UsageError(f"{name!r} is no member")
        return entry

    def _check_standing(self) -> None:
        verdict = self.verdict()
        if verdict in (Verdict.REMOVED, Verdict.SUPERSEDED):
            raise UsageError(f"{self.me.name!r} was {verdict.value}: it writes nothing until it joins again")

    def _stamp(self, name: str, wall: float) -> Stamp:
        """A stamp above all that the write replaces (R2a)."""
        siblings = self.siblings(name).values()
        highest = max((max(entry.announced.time, entry.weighed.time) for entry in siblings), default=0)
        return Stamp(self._hlc.tick(wall, after=min(highest, _TOP_TIME - 1)), *self.me)

    def _context(self, name: str) -> dict[Actor, int]:
        """Each actor's newest event about the name, those that wrote what stands included (R3)."""
        context = self._history.context(name)
        for actor, n in self.siblings(name):
            context[actor] = max(n, context.get(actor, 0))
        return context

    def _write(
        self, name: str, entry: Entry | None, *, fence: int = 0, retired: Mapping[Actor, int] = _NOTHING
    ) -> Change:
        """Replace all that is seen of a name; the only way in which an event comes to be."""
        self._check_standing()
        dot = Dot(self.me, self._history.counts.get(self.me, 0) + 1)
        context = {**self._context(name), **retired, self.me: dot.n}
        self._history.record(dot, name)
        self._map.raise_fence(name, fence)
        if retired:
            self._history.raise_floor(name, self.me.boot)
        self._map.settle(name, {} if entry is None else {dot: entry})
        change = self._change(dot, name, context)
        if name == self.me.name:
            self._told = change
        return change

    def _change(self, dot: Dot, name: str, context: Mapping[Actor, int]) -> Change:
        floor = self._history.floors.get(name, 0)
        return Change(dot, name, self.siblings(name), context, self.fence(name), floor, self._map.said(name))

    # -- agreement on retirement (R9)

    def retire(self) -> Change | None:
        """Retire the counts of this name's older boots.

        None if there are none, or if not every other member has reported since the
        view last changed: what it alone had of those boots would be lost.
        """
        name, boot = self.me
        old = [Actor(name, each) for each in self._history.boots(name) if each < boot]
        entry = self.entry(name)
        if not old or entry is None or self.verdict() is not Verdict.IN or not self._all_reported():
            return None
        return self._write(name, entry, retired={actor: self._history.counts[actor] for actor in old})

    def report(self, name: str, ring_digest: int) -> None:
        """Take a member's ring digest: one equal to ours says that it knows what we know, and sees what we see.

        Reports count for one view: a change of it discards them.
        """
        if ring_digest == self.ring_digest and name in self and name != self.me.name:
            if self._reported_view != self.view_hash():
                self._reported_view = self.view_hash()
                self._reported.clear()
            self._reported.add(name)

    def _all_reported(self) -> bool:
        if not self._safe.full_reports:
            return True
        reported = len(self._reported) if self._reported_view == self.view_hash() else 0
        return reported == len(self) - 1

    # -- liveness

    def hear(self, name: str, claim: Claim) -> bool:
        """Take a claim (R5); tell whether it was higher than the one stored, and is stored now."""
        return self._map.hear(name, claim)

    # -- exchange

    def takes(self, clock: Clock, names: int) -> bool:
        """Tell whether a state with that clock and so many names may be joined.

        Not one that has events of this process which it never wrote: somebody lies, or it is a
        copy. Nor one that could make this state more than frames can tell of.
        """
        history = self._history
        actors = len(history.counts) + sum(actor not in history.counts for actor in clock.counts)
        known = len(self._map) + len(self._map.fences) + len(history.floors) + len(history.logged())
        told = 4 * names + len(clock.floors)
        is_true = clock.counts.get(self.me, 0) <= history.counts.get(self.me, 0)
        return is_true and actors <= MOST and known + told <= 8 * MOST

    def deliver(self, change: Change, wall: float) -> Delivery:
        """Take a change of another: incorporate or park it, or drop it (R3, R10)."""
        return self._replica.deliver(change, wall)

    def clock(self) -> Clock:
        """Which events are known here, for a pull."""
        return self._history.clock()

    def lacks(self, clock: Clock) -> bool:
        """Tell whether that clock covers something that is not known here."""
        return not self._history.covers_clock(clock)

    def answer(self, clock: Clock, *, differs: bool = False) -> Delta | Full:
        """What a replica with that clock lacks (R4); ``differs`` if its digest differs at an equal clock (R4a)."""
        return self._replica.answer(clock, differs=differs)

    def apply(self, delta: Delta, wall: float) -> bool:
        """Join a delta; False if its base is not covered here: nothing changed, ask again."""
        return self._replica.apply(delta, wall)

    def full(self) -> Full:
        """A copy of everything: for a newcomer, or for a file."""
        return self._replica.full()

    def merge(self, full: Full, wall: float) -> None:
        """Join a whole state (R1)."""
        self._replica.merge(full, wall)

    def removed(self) -> list[str]:
        """The names that are not visible and have a record of it, in order."""
        return self._replica.removed()

    def forget_removals(self, names: Iterable[str] | None = None) -> None:
        """Forget the records of removals, of these names or of all (R8); fences stay."""
        self._replica.forget(names)
