"""Copies of the ring become equal: by changes in any order, by deltas, by whole states."""

from dataclasses import replace

import pytest

from clusterkit.core.hybrid_clock import HybridClock, stamp_at
from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Change, Delivery, Delta, Full, Safeguards
from clusterkit.core.ring_parking import PARKED
from clusterkit.core.ring_replica import Replica

NOW = 1_700_000_000.0
SAFE = Safeguards()
A, A2, B = Actor("a", 7), Actor("a", 9), Actor("b", 8)
ALIVE = Claim(7, 0, Rank.ALIVE, ready=True)


def replica(safeguards: Safeguards = SAFE) -> Replica:
    return Replica(HybridClock(), safeguards)


def entry(boot: int = 7, time: int = 5, weight: int = 1, weighed: int = 5) -> Entry:
    return Entry(boot, Stamp(time, "a", boot), "10.0.0.1", 7022, b"", Stamp(weighed, "a", boot), weight)


def change(actor: Actor, n: int, name: str, boot: int = 7, after: dict[Actor, int] | None = None) -> Change:
    """An event that gives a name an entry; a boot of 0 removes it."""
    siblings = {Dot(actor, n): entry(boot)} if boot else {}
    return Change(Dot(actor, n), name, siblings, {**(after or {}), actor: n}, 0 if boot else 7, 0, None)


def delivered(*changes: Change, safeguards: Safeguards = SAFE) -> Replica:
    made = replica(safeguards)
    for each in changes:
        made.deliver(each, NOW)
    return made


def same(one: Replica, two: Replica) -> bool:
    def state(its: Replica) -> Full:
        return replace(its.full(), log={}, forgotten={})

    return state(one) == state(two) and one.digest == two.digest


A1, A_2, B1 = change(A, 1, "a"), change(A, 2, "c", 1), change(B, 1, "b", 8)
GONE = change(B, 2, "c", 0, {A: 2})

# -- one change


def test_a_change_is_taken_once() -> None:
    its = replica()
    assert its.deliver(A1, NOW) is Delivery.NEW
    assert its.deliver(A1, NOW) is Delivery.KNOWN
    assert its.take_delivered() == [A1]
    assert its.take_delivered() == []


def test_changes_wait_for_what_they_depend_on() -> None:
    its = replica()
    assert [its.deliver(each, NOW) for each in (GONE, A_2, B1)] == [Delivery.PARKED, Delivery.PARKED, Delivery.NEW]
    assert len(its.parking) == 2
    assert its.deliver(A1, NOW) is Delivery.NEW
    assert its.take_delivered() == [B1, A1, A_2, GONE]
    assert len(its.parking) == 0
    assert list(its.map.names()) == ["a", "b"]


def test_a_long_row_of_parked_changes_is_taken_at_once() -> None:
    its, row = replica(), [change(A, n, "a", after={}) for n in range(1, PARKED + 1)]
    for each in reversed(row):
        its.deliver(each, NOW)
    assert its.take_delivered() == row


def test_without_the_wait_it_comes_at_once() -> None:
    its = replica(Safeguards(causal_wait=False))
    assert its.deliver(GONE, NOW) is Delivery.NEW


def test_a_change_replaces_what_its_context_covers_and_no_more() -> None:
    its = delivered(A1, B1, A_2)
    other = Change(Dot(B, 2), "c", {Dot(B, 2): entry(1, 6)}, {B: 2}, 0, 0, None)
    its.deliver(other, NOW)
    assert its.map.siblings("c").keys() == {Dot(A, 2), Dot(B, 2)}
    its.deliver(Change(Dot(B, 3), "c", {Dot(B, 3): entry(1, 7)}, {A: 2, B: 3}, 0, 0, None), NOW)
    assert its.map.siblings("c").keys() == {Dot(B, 3)}


def test_a_claim_comes_with_its_change() -> None:
    its = delivered(replace(A1, claim=ALIVE))
    assert its.map.claim("a") == ALIVE


def test_changes_of_closed_boots_are_dropped() -> None:
    its = delivered(A1, B1, GONE, change(A2, 1, "a", 9, {A: 1}))
    assert its.closed("a", 7)
    assert not its.closed("a", 9)
    assert its.deliver(change(A, 2, "d"), NOW) is Delivery.CLOSED
    its.map.raise_fence("a", 9)
    assert its.closed("a", 9)
    open_to_all = delivered(A1, change(A2, 1, "a", 9, {A: 1}), safeguards=Safeguards(closed_boots=False))
    assert open_to_all.deliver(change(A, 2, "d"), NOW) is Delivery.NEW


def test_what_is_known_of_a_name() -> None:
    its = replica()
    assert its.known("a") == 0
    its.deliver(change(A, 1, "c"), NOW)
    assert its.known("a") == 7
    its.history.raise_floor("a", 12)
    assert its.known("a") == 11


# -- retirement


def retirement(known: dict[Actor, int]) -> Change:
    return Change(Dot(A2, 1), "a", {Dot(A2, 1): entry(9)}, {**known, A2: 1}, 0, 9, None)


def test_a_retirement_waits_for_all_that_it_retires() -> None:
    its = replica()
    assert its.deliver(retirement({A: 2}), NOW) is Delivery.PARKED
    its.deliver(A1, NOW)
    assert len(its.parking) == 1
    its.deliver(A_2, NOW)
    assert list(its.history.counts) == [A2]
    assert its.map.siblings("c").keys() == {Dot(A, 2)}


def test_a_floor_is_taken_from_the_retirement_alone() -> None:
    its, later = delivered(), replace(change(B, 1, "a", 10), floor=9)
    assert its.deliver(later, NOW) is Delivery.PARKED
    its.deliver(A1, NOW)
    its.deliver(A_2, NOW)
    assert len(its.parking) == 1
    its.deliver(retirement({A: 2}), NOW)
    assert its.take_delivered()[-1] == later


def test_a_floor_makes_ready_what_waited_for_a_retired_boot() -> None:
    its = delivered(A1)
    assert its.deliver(change(B, 1, "d", after={A: 3}), NOW) is Delivery.PARKED
    its.deliver(retirement({A: 1}), NOW)
    assert len(its.parking) == 0


# -- deltas and whole states


def test_a_delta_has_exactly_what_is_lacking() -> None:
    full, behind = delivered(A1, A_2, B1, GONE), delivered(A1, A_2)
    delta = full.answer(behind.history.clock())
    assert isinstance(delta, Delta)
    assert [item.name for item in delta.items] == ["b", "c"]
    merged = delivered(A1, A_2)
    merged.merge(full.full(), NOW)
    assert behind.apply(delta, NOW)
    assert same(behind, merged)
    assert same(behind, full)
    assert behind.history.log == full.history.log


def test_a_delta_brings_the_claims_of_its_names() -> None:
    full, behind = delivered(A1, B1), delivered(B1)
    full.map.hear("a", ALIVE)
    delta = full.answer(behind.history.clock())
    assert isinstance(delta, Delta)
    behind.apply(delta, NOW)
    assert behind.map.claim("a") == ALIVE


def test_a_delta_for_a_later_state_is_refused() -> None:
    full, behind = delivered(A1, A_2, B1, GONE), delivered(A1, A_2)
    delta = full.answer(behind.history.clock())
    assert isinstance(delta, Delta)
    restored = delivered(A1)
    assert not restored.apply(delta, NOW)
    assert same(restored, delivered(A1))
    assert delivered(A1, safeguards=Safeguards(delta_base=False)).apply(delta, NOW)


def test_who_lacks_a_forgotten_removal_is_sent_everything() -> None:
    full, behind = delivered(A1, A_2, B1, GONE), delivered(A1, A_2, B1)
    full.forget()
    assert full.removed() == []
    assert isinstance(full.answer(behind.history.clock()), Full)
    assert isinstance(full.answer(full.history.clock()), Delta)
    behind.merge(full.full(), NOW)
    assert same(behind, full)
    assert behind.history.forgotten == full.history.forgotten
    careless = delivered(A1, A_2, B1, GONE, safeguards=Safeguards(removal_frontier=False))
    careless.forget()
    assert isinstance(careless.answer(delivered(A1).history.clock()), Delta)


def test_records_of_removals_are_forgotten_by_name_and_fences_stay() -> None:
    its = delivered(A1, A_2, B1, GONE)
    assert its.removed() == ["c"]
    its.forget(["a"])
    assert its.removed() == ["c"]
    its.forget(["c"])
    assert its.removed() == []
    assert its.map.fences == {"c": 7}


def test_another_floor_or_another_digest_is_answered_with_everything() -> None:
    full, behind = delivered(A1, retirement({A: 1})), delivered(A1)
    assert isinstance(full.answer(behind.history.clock()), Full)
    assert isinstance(full.answer(full.history.clock(), differs=True), Full)


def test_a_merge_keeps_what_the_other_does_not_know_and_drops_what_it_replaced() -> None:
    one, two = delivered(A1, A_2, B1, GONE), delivered(A1, A_2, change(Actor("d", 3), 1, "d", 3))
    one.map.hear("a", ALIVE)
    before = one.full()
    one.merge(two.full(), NOW)
    two.merge(before, NOW)
    assert same(one, two)
    assert list(one.map.names()) == ["a", "b", "d"]
    assert two.map.claim("a") == ALIVE


def test_a_merge_makes_parked_changes_ready() -> None:
    its = delivered(GONE)
    its.merge(delivered(A1, A_2, B1).full(), NOW)
    assert its.take_delivered() == [GONE]


# -- the hybrid clock


def test_the_own_clock_follows_what_is_seen_up_to_a_minute() -> None:
    hlc = HybridClock()
    its, near, far = Replica(hlc, Safeguards()), stamp_at(NOW + 30), stamp_at(NOW + 3600)
    its.deliver(replace(A1, siblings={Dot(A, 1): entry(time=near, weighed=far)}), NOW)
    assert hlc.last == near
    assert its.skew == pytest.approx(3600)
