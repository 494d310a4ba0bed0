"""Mistakes that one could make with the rules of the ring, each planted by a switch or by a patch.

Every function plants one, and returns the safeguards to run with. The model must notice each of them
(`test_ring_model.py`), which shows that the rule is needed and that the model can see.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from clusterkit.core import ring_map
from clusterkit.core.hybrid_clock import HybridClock
from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank
from clusterkit.core.ring_frames import Change, Clock, Delta, Full, Safeguards
from clusterkit.core.ring_history import History
from clusterkit.core.ring_map import RingMap
from clusterkit.core.ring_replica import Replica
from clusterkit.core.ring_state import RingState
from tests.simulation.ring_model import World
from tests.simulation.ring_process import Process

Plant = Callable[[pytest.MonkeyPatch], Safeguards]
SAFE = Safeguards()


def no_removal_frontier(patch: pytest.MonkeyPatch) -> Safeguards:
    """R4: whoever lacks a forgotten removal is told a delta all the same."""
    return Safeguards(removal_frontier=False)


def no_causal_wait(patch: pytest.MonkeyPatch) -> Safeguards:
    """R3: a change is incorporated though what it depends on is missing."""
    return Safeguards(causal_wait=False)


def no_base_on_deltas(patch: pytest.MonkeyPatch) -> Safeguards:
    """R4: a delta is applied though it was made for a later state than this one."""
    return Safeguards(delta_base=False)


def no_fence(patch: pytest.MonkeyPatch) -> Safeguards:
    """R6: what a removed boot writes stands."""
    return Safeguards(fences=False)


def retirement_without_reports(patch: pytest.MonkeyPatch) -> Safeguards:
    """R9: old counts retire at once."""
    return Safeguards(full_reports=False)


def reports_outlive_the_view(patch: pytest.MonkeyPatch) -> Safeguards:
    """R9: a report counts though a member joined since."""

    def all_reported(self: RingState) -> bool:
        return {name for name in self.names if name != self.me.name} <= self._reported

    def report(self: RingState, name: str, ring_digest: int) -> None:
        if ring_digest == self.ring_digest:
            self._reported.add(name)

    patch.setattr(RingState, "_all_reported", all_reported)
    patch.setattr(RingState, "report", report)
    return SAFE


def any_digest_is_a_report(patch: pytest.MonkeyPatch) -> Safeguards:
    """R9: a member reports whatever it has."""
    whole = RingState.report
    patch.setattr(RingState, "report", lambda self, name, digest: whole(self, name, self.ring_digest))
    return SAFE


def closed_boots_accepted(patch: pytest.MonkeyPatch) -> Safeguards:
    """R10: changes and states of removed and superseded boots are taken."""
    patch.setattr(World, "is_closed", lambda self, process, sender: False)
    return Safeguards(closed_boots=False)


def winner_chosen_at_merge(patch: pytest.MonkeyPatch) -> Safeguards:
    """R2: of concurrent entries only the newest is kept."""
    settle = RingMap.settle

    def judge(self: RingMap, name: str, siblings: Mapping[Dot, Entry]) -> None:
        newest = max(siblings, key=lambda dot: (siblings[dot].boot, siblings[dot].announced), default=None)
        settle(self, name, {} if newest is None else {newest: siblings[newest]})

    patch.setattr(RingMap, "settle", judge)
    return SAFE


def whole_value_winner(patch: pytest.MonkeyPatch) -> Safeguards:
    """R2: the newest entry wins with both its parts."""
    patch.setattr(
        ring_map, "resolve", lambda siblings: max(siblings.values(), key=lambda each: (each.boot, each.announced))
    )
    return SAFE


def weights_win_with_their_address(patch: pytest.MonkeyPatch) -> Safeguards:
    """R2: the last write of any kind wins whole."""
    newest = lambda siblings: max(siblings.values(), key=lambda each: max(each.announced, each.weighed))  # noqa: E731
    patch.setattr(ring_map, "resolve", newest)
    return SAFE


def fence_dropped_by_gc(patch: pytest.MonkeyPatch) -> Safeguards:
    """R8: with the record of a removal its fence goes."""
    forget = Replica.forget

    def forget_all(self: Replica, names: Iterable[str] | None = None) -> None:
        gone = self.removed() if names is None else list(names)
        forget(self, gone)
        for name in gone:
            if name not in self.map:
                self.map.fences.pop(name, None)

    patch.setattr(Replica, "forget", forget_all)
    return SAFE


def one_actor_over_restarts(patch: pytest.MonkeyPatch) -> Safeguards:
    """Section 1: a restarted process goes on counting as the actor that it was."""

    def draw(self: World, process: Process, after: int = 0) -> Actor:
        return Actor(process.name, (after or 7 << 22) | 1)

    patch.setattr(World, "draw", draw)
    return SAFE


def stamp_not_above_what_it_replaces(patch: pytest.MonkeyPatch) -> Safeguards:
    """R2a: a write is stamped by the own clock alone."""
    tick = HybridClock.tick
    patch.setattr(HybridClock, "tick", lambda self, now, after=0: tick(self, now))
    return SAFE


def floors_cover_nothing(patch: pytest.MonkeyPatch) -> Safeguards:
    """Section 1: events of retired boots count as unknown."""
    patch.setattr(History, "covers", lambda self, actor, n: self.counts.get(actor, 0) >= n)
    patch.setattr(Clock, "covers", lambda self, actor, n: self.counts.get(actor, 0) >= n)
    return SAFE


def fence_stays_behind(patch: pytest.MonkeyPatch) -> Safeguards:
    """R6: a fence does not travel with the change that writes it."""
    make = RingState._change
    patch.setattr(RingState, "_change", lambda self, *its: replace(make(self, *its), fence=0))
    return SAFE


def fence_not_in_deltas(patch: pytest.MonkeyPatch) -> Safeguards:
    """R6: a fence does not travel with deltas."""
    make = Replica._item
    patch.setattr(Replica, "_item", lambda self, name: replace(make(self, name), fence=0))
    return SAFE


def context_without_what_was_replaced(patch: pytest.MonkeyPatch) -> Safeguards:
    """R3: the context is the log alone, which has nothing of retired boots."""
    patch.setattr(RingState, "_context", lambda self, name: self._history.context(name))
    return SAFE


def removal_fences_only_entries(patch: pytest.MonkeyPatch) -> Safeguards:
    """R6: a removal fences the boots of the entries, not all that are known."""

    def shallow(self: RingState, name: str) -> Change:
        return self._write(name, None, fence=max(entry.boot for entry in self.siblings(name).values()))

    patch.setattr(RingState, "remove", shallow)
    return SAFE


def insert_under_a_removed_boot(patch: pytest.MonkeyPatch) -> Safeguards:
    """R6a: an insert takes the removed boot again."""
    enter = RingState._enter

    def low(self: RingState, who: Actor, *its: Any) -> Change:
        return enter(self, Actor(who.name, who.boot - 1 or 1) if who.name != self.me.name else who, *its)

    patch.setattr(RingState, "_enter", low)
    return SAFE


def claims_fall(patch: pytest.MonkeyPatch) -> Safeguards:
    """R5: the last claim heard holds, whatever its number."""

    def hear(self: RingMap, name: str, claim: Claim) -> bool:
        self._claims.pop(name, None)
        return whole(self, name, claim)

    whole = RingMap.hear
    patch.setattr(RingMap, "hear", hear)
    return SAFE


def claims_of_old_boots_count(patch: pytest.MonkeyPatch) -> Safeguards:
    """R5a: what was said of an earlier boot is read for the one that is there now."""
    patch.setattr(RingMap, "claim", lambda self, name: self._claims.get(name, Claim(0, 0, Rank.ALIVE, ready=False)))
    return SAFE


def delta_for_another_floor(patch: pytest.MonkeyPatch) -> Safeguards:
    """R4: a delta is made though the other has retired less."""

    def answer(self: Replica, clock: Clock, *, differs: bool = False) -> Delta | Full:
        if differs or not self._has_all_removals_since(clock):
            return self.full()
        return Delta(clock, self.history.clock(), tuple(self._item(name) for name in self.history.unknown_to(clock)))

    patch.setattr(Replica, "answer", answer)
    return SAFE


def floor_taken_from_any_change(patch: pytest.MonkeyPatch) -> Safeguards:
    """R9: a floor is taken from a change that comes without what it retires."""
    blocker = Replica._blocker
    patch.setattr(Replica, "_blocker", lambda self, change: blocker(self, replace(change, floor=0)))
    return SAFE


def retirement_without_its_context(patch: pytest.MonkeyPatch) -> Safeguards:
    """R9: a retirement does not name the counts that it retires."""
    write = RingState._write

    def bare(self: RingState, *its: Any, retired: Mapping[Actor, int] = {}, **how: Any) -> Change:
        change = write(self, *its, retired=retired, **how)
        return replace(change, context={actor: n for actor, n in change.context.items() if actor not in retired})

    patch.setattr(RingState, "_write", bare)
    return SAFE


def removal_forgets_without_a_frontier(patch: pytest.MonkeyPatch) -> Safeguards:
    """R8: dropping a record leaves no trace."""
    patch.setattr(History, "_forget_to", lambda self, actor, n: None)
    return SAFE


def merge_takes_the_greater_side(patch: pytest.MonkeyPatch) -> Safeguards:
    """R1: the side with more events wins whole."""

    def joined(self: Replica, name: str, theirs: Mapping[Dot, Entry], covers: Any, wall: float) -> Mapping[Dot, Entry]:
        ours = self.map.siblings(name)
        return theirs if all(covers(*dot) for dot in ours) else ours

    patch.setattr(Replica, "_joined", joined)
    return SAFE


def merge_is_a_union(patch: pytest.MonkeyPatch) -> Safeguards:
    """R1: whatever one side has stays."""
    patch.setattr(Replica, "_joined", lambda self, name, theirs, *_: {**self.map.siblings(name), **theirs})
    return SAFE


def removed_state_is_kept(patch: pytest.MonkeyPatch) -> Safeguards:
    """R12: a process that was removed joins again with what it had, under its old boot."""

    def come_back(self: World, process: Process) -> None:
        process.out = False
        self.join(process)

    patch.setattr(World, "come_back", come_back)
    return SAFE


def forgotten_frontier_not_merged(patch: pytest.MonkeyPatch) -> Safeguards:
    """R1: who takes a whole state does not take its frontier of forgotten removals."""
    merge = Replica.merge
    patch.setattr(Replica, "merge", lambda self, full, wall: merge(self, replace(full, forgotten={}), wall))
    return SAFE


def lower_boots_stand(patch: pytest.MonkeyPatch) -> Safeguards:
    """R7: of two boots of a name the later announcement wins, not the higher boot."""

    def resolve(siblings: Mapping[Dot, Entry]) -> Entry:
        node = max(siblings.values(), key=lambda each: each.announced)
        weight = max(siblings.values(), key=lambda each: each.weighed)
        return replace(node, weighed=weight.weighed, weight=weight.weight)

    patch.setattr(ring_map, "resolve", resolve)
    return SAFE


def refutation_without_a_number(patch: pytest.MonkeyPatch) -> Safeguards:
    """R5: a member answers an accusation without raising its number."""

    def refute(self: World, process: Process) -> None:
        claim = process.state.claim(process.name)
        self.believe(process, process.name, Claim(claim.boot, claim.inc, Rank.ALIVE, process.ready))

    patch.setattr(World, "refute", refute)
    return SAFE


MISTAKES: list[Plant] = [
    each
    for name, each in list(globals().items())
    if callable(each) and getattr(each, "__module__", None) == __name__ and not name.startswith("_")
]
