"""Clocks cover by counts and by floors, and a received state alone tells what it knows of a name."""

from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Clock, Full, known_in

A = Actor("a", 7)
EMPTY = Full(Clock({}, {}), {}, {}, {}, {}, {})


def test_a_clock_covers_what_is_counted_and_what_is_below_the_floor() -> None:
    clock = Clock({A: 3}, {"a": 7})
    assert [clock.covers(A, n) for n in (1, 3, 4)] == [True, True, False]
    assert clock.covers(Actor("a", 6), 99)
    assert not clock.covers(Actor("b", 6), 1)


def test_nothing_is_known_in_an_empty_state() -> None:
    assert known_in(EMPTY, "a") == (0, 0)


def test_what_is_known_is_the_highest_boot_anywhere() -> None:
    stamp = Stamp(1, *A)
    entries = {"a": {Dot(A, 1): Entry(7, stamp, "h", 1, b"", stamp, 1)}}
    fences, floors, counts, claims = {"a": 3}, {"a": 10}, {Actor("a", 8): 1}, {"a": Claim(12, 0, Rank.ALIVE, False)}
    assert known_in(Full(Clock({}, {}), {}, fences, {}, {}, {}), "a") == (3, 3)
    assert known_in(Full(Clock({}, {}), entries, fences, {}, {}, {}), "a") == (7, 3)
    assert known_in(Full(Clock(counts, {}), entries, fences, {}, {}, {}), "a") == (8, 3)
    assert known_in(Full(Clock(counts, floors), entries, fences, {}, {}, {}), "a") == (9, 3)
    assert known_in(Full(Clock(counts, floors), entries, fences, {}, {}, claims), "a") == (12, 3)
    assert known_in(Full(Clock(counts, floors), entries, fences, {}, {}, claims), "b") == (0, 0)
