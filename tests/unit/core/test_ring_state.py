"""One process' ring: what it may write, how it stands, and when old boots retire."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clusterkit.core.hybrid_clock import HybridClock, stamp_at
from clusterkit.core.ring_entry import Actor, Claim, Dot, Rank, Stamp
from clusterkit.core.ring_frames import Change, Clock, Delivery, Delta, Full, Safeguards, Verdict
from clusterkit.core.ring_state import RingState
from clusterkit.errors import UsageError

NOW = 1_700_000_000.0
SAFE = Safeguards()


def announced(name: str, boot: int, safeguards: Safeguards = SAFE) -> RingState:
    made = RingState(Actor(name, boot), safeguards=safeguards)
    made.announce("10.0.0.1", 7022, b"", NOW)
    return made


def agree(*states: RingState) -> None:
    """Bring copies to one state."""
    for one in (*states, *states):
        for two in states:
            one.merge(two.full(), NOW)
    assert len({state.ring_digest for state in states}) == 1


def reports(to: RingState, *others: RingState) -> None:
    for other in others:
        to.report(other.me.name, other.ring_digest)


# -- reading


def test_an_empty_ring() -> None:
    state = RingState(Actor("a", 7))
    assert (state.names, len(state), "a" in state, state.entry("a"), dict(state.siblings("a"))) == (
        [],
        0,
        False,
        None,
        {},
    )
    assert (state.ring_digest, state.claims_digest, state.view_hash(), state.skew, state.parked) == (0, 0, 0, 0.0, 0)
    assert (state.fence("a"), state.known("a"), state.closed("a", 7)) == (0, 0, False)
    assert state.claim("a") == Claim(0, 0, Rank.ALIVE, ready=False)
    assert state.clock() == Clock({}, {})
    assert state.own_change() is None
    assert state.retire() is None


def test_what_is_taken_and_told_comes_out_again() -> None:
    a, b = announced("a", 7), announced("b", 8)
    change = a.update("a", 5, NOW)
    assert b.deliver(change, NOW) is Delivery.PARKED
    assert b.parked == 1
    assert b.lacks(a.clock())
    delta = a.answer(b.clock())
    assert isinstance(delta, Delta)
    assert b.apply(delta, NOW)
    assert not b.lacks(a.clock())
    assert b.take_changed() == ["b", "a"]
    last = a.insert("c", "10.0.0.3", 7022, NOW, weight=3, meta=b"\x80")
    assert b.deliver(last, NOW) is Delivery.NEW
    assert b.take_delivered() == [last]
    entry = b.entry("c")
    assert entry is not None
    assert (entry.boot, entry.weight, entry.meta) == (1, 3, b"\x80")
    assert isinstance(a.answer(a.clock(), differs=True), Full)
    assert b.hear("c", Claim(1, 0, Rank.DOWN, ready=False))
    assert b.claim("c").rank is Rank.DOWN


def test_removal_records_are_listed_and_forgotten() -> None:
    state = announced("a", 7)
    state.insert("c", "10.0.0.3", 7022, NOW)
    state.remove("c")
    assert state.removed() == ["c"]
    state.forget_removals()
    assert state.removed() == []
    assert state.fence("c") == 1


# -- writing


def test_an_announcement_keeps_the_weight_that_was_set() -> None:
    state = announced("a", 7)
    state.update("a", 9, NOW)
    state.announce("10.0.0.2", 7023, b"\x80", NOW, weight=4)
    entry = state.entry("a")
    assert entry is not None
    assert (entry.host, entry.port, entry.meta, entry.weight) == ("10.0.0.2", 7023, b"\x80", 9)


def test_the_configured_weight_is_for_the_first_announcement() -> None:
    state = RingState(Actor("a", 7))
    state.announce("10.0.0.1", 7022, b"", NOW, weight=4)
    entry = state.entry("a")
    assert entry is not None
    assert entry.weight == 4


def test_a_write_is_stamped_above_what_it_replaces() -> None:
    ahead, behind = announced("a", 7), RingState(Actor("b", 8), clock=HybridClock())
    ahead.update("a", 2, NOW + 3600)
    behind.merge(ahead.full(), NOW)
    assert behind.skew == pytest.approx(3600)
    behind.update("a", 3, NOW)
    entry = behind.entry("a")
    assert entry is not None
    assert (entry.weight, entry.weighed) == (3, (stamp_at(NOW + 3600) + 1, "b", 8))
    assert entry.announced == (stamp_at(NOW), "a", 7)


def test_an_insert_comes_above_the_fence() -> None:
    state = announced("a", 7)
    for boot in (1, 2):
        state.insert("c", "10.0.0.3", 7022, NOW)
        entry = state.entry("c")
        assert entry is not None
        assert entry.boot == boot
        state.remove("c")


def test_a_removal_fences_every_boot_that_is_known() -> None:
    state = announced("a", 7)
    state.insert("c", "10.0.0.3", 7022, NOW)
    state.hear("c", Claim(77, 0, Rank.ALIVE, ready=True))
    assert state.remove("c").fence == state.fence("c") == 77


def test_a_member_leaves() -> None:
    state, other = announced("a", 7), announced("b", 8)
    agree(state, other)
    state.hear("a", Claim(7, 3, Rank.SUSPECT, ready=True))
    change = state.leave()
    assert change.claim == Claim(7, 3, Rank.LEFT, ready=True)
    assert (change.fence, dict(change.siblings)) == (7, {})
    assert state.verdict() is Verdict.REMOVED
    assert other.deliver(change, NOW) is Delivery.NEW
    assert other.names == ["b"]
    assert other.claim("a").rank is Rank.LEFT


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda state: state.insert("a", "10.0.0.3", 7022, NOW), "'a' is a member already"),
        (lambda state: state.insert("gone", "10.0.0.3", 7022, NOW), "cannot be a member any more"),
        (lambda state: state.remove("c"), "'c' is no member"),
        (lambda state: state.remove("a"), "does not remove itself"),
        (lambda state: state.update("c", 1, NOW), "'c' is no member"),
    ],
)
def test_what_is_forbidden(write: Callable[[RingState], object], reason: str) -> None:
    state = announced("a", 7)
    state.insert("gone", "10.0.0.3", 7022, NOW)
    state.hear("gone", Claim((1 << 64) - 1, 0, Rank.ALIVE, ready=True))
    state.remove("gone")
    with pytest.raises(UsageError, match=reason):
        write(state)


# -- how a process stands


def test_a_process_announces_itself_when_its_entry_is_not_there() -> None:
    state = RingState(Actor("a", 7))
    assert state.verdict() is Verdict.UNANNOUNCED
    state.announce("10.0.0.1", 7022, b"", NOW)
    assert state.verdict() is Verdict.IN


def test_a_removed_process_writes_nothing() -> None:
    state, other = announced("a", 7), announced("b", 8)
    agree(state, other)
    state.deliver(other.remove("a"), NOW)
    assert state.verdict() is Verdict.REMOVED
    with pytest.raises(UsageError, match="'a' was removed"):
        state.insert("c", "10.0.0.3", 7022, NOW)
    assert state.own_change() is None


def test_an_outdone_process_writes_nothing() -> None:
    state = announced("a", 7)
    state.merge(announced("a", 9).full(), NOW)
    assert state.verdict() is Verdict.SUPERSEDED
    with pytest.raises(UsageError, match="'a' was superseded"):
        state.leave()


def test_two_members_that_remove_each_other_both_stop() -> None:
    one, two = announced("a", 7), announced("b", 8)
    agree(one, two)
    first, second = one.remove("b"), two.remove("a")
    assert one.deliver(second, NOW) is Delivery.CLOSED
    one.merge(two.full(), NOW)
    assert two.deliver(first, NOW) is Delivery.CLOSED
    two.merge(one.full(), NOW)
    assert one.verdict() is two.verdict() is Verdict.REMOVED


def test_a_reset_begins_anew_and_tells_who_is_gone() -> None:
    state = announced("a", 7)
    state.insert("c", "10.0.0.3", 7022, NOW)
    state.take_changed()
    state.reset(Actor("a", 9))
    assert (state.me, state.names, state.ring_digest) == (Actor("a", 9), [], 0)
    assert state.take_changed() == ["a", "c"]


def test_the_own_announcement_is_told_again_as_it_was() -> None:
    state, other = announced("a", 7), announced("b", 8)
    first = state.own_change()
    assert first is not None
    agree(state, other)
    state.deliver(other.update("a", 5, NOW), NOW)
    assert state.own_change() == first
    state.hear("a", Claim(7, 0, Rank.ALIVE, ready=True))
    again = state.own_change()
    assert again is not None
    assert again.claim == Claim(7, 0, Rank.ALIVE, ready=True)
    assert RingState(Actor("c", 1)).deliver(again, NOW) is Delivery.NEW


def test_the_own_announcement_names_what_it_replaced_of_retired_boots() -> None:
    a, b = announced("a", 7), announced("b", 8)
    agree(a, b)
    a.update("b", 5, NOW)
    agree(a, b)
    a, late = restarted(a, 9), RingState(Actor("c", 3))
    agree(a, b)
    reports(a, b)
    assert a.retire() is not None
    agree(a, b, late)
    b.announce("10.0.0.2", 7022, b"", NOW)
    change = b.own_change()
    assert change is not None
    late.deliver(change, NOW)
    assert late.siblings("b").keys() == {change.dot}


# -- retirement


def restarted(state: RingState, boot: int, safeguards: Safeguards = SAFE) -> RingState:
    made = RingState(Actor(state.me.name, boot), safeguards=safeguards)
    made.merge(state.full(), NOW)
    made.announce("10.0.0.1", 7022, b"", NOW)
    return made


def two_members(safeguards: Safeguards = SAFE) -> tuple[RingState, RingState]:
    """One that has just restarted, and another."""
    a, b = announced("a", 7), announced("b", 8)
    agree(a, b)
    a = restarted(a, 9, safeguards)
    agree(a, b)
    return a, b


def test_old_boots_retire_when_all_have_reported() -> None:
    a, b = two_members()
    assert a.retire() is None
    reports(a, b)
    change = a.retire()
    assert change is not None
    assert change.floor == 9
    assert a.clock() == Clock({Actor("a", 9): 2, Actor("b", 8): 1}, {"a": 9})
    assert b.deliver(change, NOW) is Delivery.NEW
    assert b.ring_digest == a.ring_digest
    assert a.retire() is None


def test_every_other_member_has_to_report() -> None:
    a, b = two_members()
    c = announced("c", 5)
    agree(a, b, c)
    reports(a, b, b)
    assert a.retire() is None
    reports(a, c)
    assert a.retire() is not None


def test_a_report_of_another_state_does_not_count() -> None:
    a, b = two_members()
    b.update("a", 5, NOW)
    reports(a, b, a)
    a.report("stranger", a.ring_digest)
    assert a.retire() is None


def test_reports_are_for_one_view() -> None:
    a, b = two_members()
    reports(a, b)
    a.insert("c", "10.0.0.3", 7022, NOW)
    assert a.retire() is None
    a.remove("c")
    assert a.retire() is None
    agree(a, b)
    reports(a, b)
    assert a.retire() is not None


def test_a_member_that_never_started_blocks() -> None:
    a, b = two_members()
    a.insert("c", "10.0.0.3", 7022, NOW)
    agree(a, b)
    reports(a, b)
    assert a.retire() is None


def test_only_one_who_is_in_retires_and_only_its_own() -> None:
    a, b = two_members()
    reports(b, a)
    assert b.retire() is None
    reports(a, b)
    a.merge(announced("a", 11).full(), NOW)
    assert a.retire() is None
    assert a.verdict() is Verdict.SUPERSEDED
    lonely = RingState(Actor("a", 12))
    lonely.merge(announced("a", 7).full(), NOW)
    assert lonely.retire() is None
    assert lonely.verdict() is Verdict.UNANNOUNCED


def test_without_the_reports_old_boots_retire_at_once() -> None:
    a, _ = two_members(Safeguards(full_reports=False))
    assert isinstance(a.retire(), Change)


# -- what is taken from others


def test_what_this_process_never_wrote_is_not_taken_as_its_own() -> None:
    state = announced("a", 7)
    assert state.takes(Clock({Actor("a", 7): 1}, {}), 1)
    assert not state.takes(Clock({Actor("a", 7): 2}, {}), 1)
    assert state.takes(Clock({Actor("a", 6): 9}, {}), 1)


def test_no_state_is_taken_that_no_frame_could_tell_of() -> None:
    state = announced("a", 7)
    counts = {Actor(f"x{number}", 1): 1 for number in range(65_535)}
    assert state.takes(Clock(counts, {}), 1)
    assert not state.takes(Clock({**counts, Actor("y", 1): 1}, {}), 1)
    assert state.takes(Clock({}, {}), 100_000)
    assert not state.takes(Clock({}, {}), 140_000)


def test_what_is_written_over_the_highest_stamp_can_still_be_read_by_others() -> None:
    a, b = announced("a", 7), announced("b", 8)
    top = (1 << 64) - (1 << 32)
    change = a.update("a", 2, NOW)
    [entry] = change.siblings.values()
    high = replace(entry, weighed=Stamp(top, "a", 7))
    b.merge(a.full(), NOW)
    b.deliver(replace(change, dot=Dot(Actor("a", 7), 3), siblings={Dot(Actor("a", 7), 3): high}), NOW)
    [written] = b.update("a", 3, NOW).siblings.values()
    assert written.weighed.time == top
