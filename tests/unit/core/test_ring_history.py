"""Counts, floors, the log and the frontier of one replica."""

from clusterkit.core.ring_entry import Actor, Dot
from clusterkit.core.ring_frames import Clock
from clusterkit.core.ring_history import History, hash64

A, A2, B = Actor("a", 7), Actor("a", 9), Actor("b", 8)


def history(*events: tuple[Actor, int, str]) -> History:
    made = History()
    for actor, n, name in events:
        made.record(Dot(actor, n), name)
    return made


def test_a_hash_is_the_same_everywhere_and_tells_kinds_apart() -> None:
    assert hash64("count", "a", 7, 1) == 0x2D9051BCF19CD4A2
    assert hash64("count", "a", 7, 1) != hash64("dot", "a", 7, 1) != hash64("dot", "a", 71)


def test_events_are_counted_and_logged() -> None:
    its = history((A, 1, "a"), (A, 2, "b"), (A, 3, "a"), (B, 1, "b"))
    assert its.clock() == Clock({A: 3, B: 1}, {})
    assert its.log == {A: {"a": 3, "b": 2}, B: {"b": 1}}
    assert its.context("b") == {A: 2, B: 1}
    assert its.context("c") == {}
    assert list(its.logged()) == ["a", "b"]
    assert its.covers(A, 3)
    assert not its.covers(A, 4)


def test_what_a_clock_lacks_is_found_by_the_log() -> None:
    its = history((A, 1, "a"), (A, 2, "b"), (B, 1, "c"), (A, 3, "a"))
    assert its.unknown_to(Clock({}, {})) == ["a", "b", "c"]
    assert its.unknown_to(Clock({A: 2, B: 1}, {})) == ["a"]
    assert its.unknown_to(Clock({A: 3, B: 1}, {})) == []
    assert its.unknown_to(Clock({B: 1}, {"a": 8})) == []


def test_a_clock_is_covered_with_all_its_counts_and_floors() -> None:
    its = history((A, 1, "a"))
    its.raise_floor("b", 5)
    assert its.covers_clock(Clock({A: 1, Actor("b", 4): 77}, {"b": 5}))
    assert not its.covers_clock(Clock({A: 2}, {}))
    assert not its.covers_clock(Clock({}, {"b": 6}))


def test_a_floor_stands_for_all_older_boots() -> None:
    its = history((A, 1, "a"), (A, 2, "b"), (B, 1, "b"), (A2, 1, "a"))
    its.forget("b")
    its.raise_floor("a", 9)
    assert its.clock() == Clock({A2: 1, B: 1}, {"a": 9})
    assert its.covers(A, 1_000)
    assert its.log.keys() == {A2, B}
    assert its.context("a") == {A2: 1}
    assert its.forgotten == {B: 1}
    assert list(its.boots("a")) == [9]
    its.raise_floor("a", 8)
    assert its.floors == {"a": 9}


def test_a_name_only_the_retired_wrote_about_leaves_the_log() -> None:
    its = history((A, 1, "c"))
    its.raise_floor("a", 9)
    assert list(its.logged()) == []


def test_forgetting_leaves_a_frontier() -> None:
    its = history((A, 1, "b"), (A, 2, "a"), (A, 3, "b"))
    its.forget("b")
    its.forget("never logged")
    assert its.forgotten == {A: 3}
    assert its.log == {A: {"a": 2}}
    its.record(Dot(A, 4), "b")
    assert its.context("b") == {A: 4}


def test_a_join_takes_the_greater_of_everything() -> None:
    one, two = history((A, 1, "a"), (A, 2, "b"), (B, 1, "b")), history((A, 1, "a"), (A2, 1, "a"))
    two.raise_floor("a", 9)
    two.forget("a")
    two.record(Dot(A2, 2), "a")
    clock, log, forgotten = one.clock(), {actor: dict(names) for actor, names in one.log.items()}, dict(one.forgotten)
    one.join(two.clock(), two.log, two.forgotten)
    two.join(clock, log, forgotten)
    two.join(Clock({}, {}), {A: {"b": 2}, B: {"b": 1}}, {A: 2, B: 0})
    assert one.clock() == two.clock() == Clock({A2: 2, B: 1}, {"a": 9})
    assert one.log == two.log == {A2: {"a": 2}, B: {"b": 1}}
    assert one.forgotten == two.forgotten == {A2: 1}
    assert one.digest == two.digest


def test_equal_clocks_have_equal_digests_whatever_their_history() -> None:
    one, two = history((A, 1, "a"), (B, 1, "b"), (A, 2, "c")), history((B, 1, "x"), (A, 1, "y"), (A, 2, "y"))
    assert one.digest == two.digest != history((A, 2, "a")).digest
    one.raise_floor("a", 9)
    two.raise_floor("a", 8)
    assert one.digest != two.digest
    two.raise_floor("a", 9)
    assert one.digest == two.digest
