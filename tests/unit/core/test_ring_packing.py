"""The ring's frames as plain lists: what is packed is read again, and nothing else is."""

import re
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Change, Clock, Delta, Full, Item
from clusterkit.core.ring_packing import (
    pack_change,
    pack_claim,
    pack_clock,
    pack_delta,
    pack_full,
    unpack_change,
    unpack_claim,
    unpack_clock,
    unpack_delta,
    unpack_full,
)
from clusterkit.core.ring_state import RingState

A, A2, B = Actor("a", 7), Actor("a", 9), Actor("b", 8)
CLAIM = Claim(9, 3, Rank.DOWN, ready=True)
ENTRY = Entry(9, Stamp(5, *A2), "::1", 7022, b"\x80", Stamp(6, "z", 1), 1_000)
CLOCK = Clock({A: 3, A2: 1}, {"b": 8, "c": 2})
CHANGE = Change(Dot(A2, 2), "c", {Dot(A2, 2): ENTRY, Dot(B, 1): ENTRY}, {A2: 2, B: 1, A: 3}, 5, 6, CLAIM)
GONE = Change(Dot(A2, 2), "c", {}, {A2: 2}, 9, 0, None)
ITEMS = (Item("c", {Dot(A2, 2): ENTRY}, {A2: 2}, 5, CLAIM), Item("d", {}, {A: 3}, 1, None))
DELTA = Delta(CLOCK, Clock({A: 3, A2: 2}, {"b": 8, "c": 2}), ITEMS)
FULL = Full(CLOCK, {"c": {Dot(A2, 1): ENTRY}}, {"d": 4}, {A: {"c": 2, "e": 3}, A2: {"c": 1}}, {A: 1}, {"c": CLAIM})


def wired(body: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(body))


def test_what_is_packed_is_read_again() -> None:
    assert unpack_claim(wired(pack_claim(CLAIM))) == CLAIM
    assert unpack_claim(wired(pack_claim(None))) is None
    assert unpack_clock(wired(pack_clock(CLOCK))) == CLOCK
    assert unpack_change(wired(pack_change(CHANGE))) == CHANGE
    assert unpack_change(wired(pack_change(GONE))) == GONE
    assert unpack_delta(wired(pack_delta(DELTA))) == DELTA
    assert unpack_full(wired(pack_full(FULL))) == FULL


def test_equal_frames_pack_alike() -> None:
    turned = Clock({A2: 1, A: 3}, {"c": 2, "b": 8})
    assert pack_clock(turned)[0] == pack_clock(CLOCK)[0] == [["a", "b", "c"], [[7, 9], 0, 0]]


def test_sizes() -> None:
    seed, members = RingState(Actor("node0", 1 << 60)), 100
    change = seed.announce("10.0.0.100", 7022, b"", 1.7e9)
    for number in range(1, members):
        other = RingState(Actor(f"node{number}", (1 << 60) + number))
        seed.deliver(other.announce("10.0.0.100", 7022, b"", 1.7e9), 1.7e9)
        seed.hear(f"node{number}", Claim((1 << 60) + number, 0, Rank.ALIVE, ready=True))
    assert len(msgpack.packb(pack_change(change))) <= 110
    assert len(msgpack.packb(pack_full(seed.full()))) <= 95 * members
    assert len(msgpack.packb(pack_clock(seed.clock()))) <= 20 * members


def changed(body: Any, path: tuple[int, ...], value: Any) -> Any:
    """The body with another value at a path."""
    if not path:
        return value
    return [changed(each, path[1:], value) if at == path[0] else each for at, each in enumerate(body)]


SIBLING = (4, 0)
NO_CHANGE: list[Any] = [None, 7, {}, [], "text", b"bytes", [1] * 9]
NO_PAIRS: list[Any] = [[1], [0, 0], [99, 1], {}, [0] * 131_074]
MALFORMED: list[tuple[Callable[[Any], object], Any, tuple[int, ...], Any]] = [
    *((unpack_change, pack_change(CHANGE), (), bad) for bad in NO_CHANGE),
    (unpack_change, pack_change(CHANGE), (0,), [["a"], [7, 8]]),
    (unpack_change, pack_change(CHANGE), (0,), [["a", "a"], [7, 9]]),
    (unpack_change, pack_change(CHANGE), (0,), [["bad name"], [7]]),
    (unpack_change, pack_change(CHANGE), (0,), [["a"], [1 << 64]]),
    (unpack_change, pack_change(CHANGE), (0,), [["a", "b"], [list(range(1, 40_000))] * 2]),
    *((unpack_change, pack_change(CHANGE), (1,), bad) for bad in (-1, 99, True, 0.0, None)),
    *((unpack_change, pack_change(CHANGE), (2,), bad) for bad in (0, -1, 1 << 64, "2")),
    *((unpack_change, pack_change(CHANGE), (3,), bad) for bad in (-1, 99)),
    *((unpack_change, pack_change(CHANGE), (5,), bad) for bad in NO_PAIRS),
    *((unpack_change, pack_change(CHANGE), (8,), bad) for bad in ([9, 3, 4, True], [9, 3, 2, 1], [0, 3, 2, True], [9])),
    *((unpack_change, pack_change(CHANGE), (*SIBLING, 2), bad) for bad in (0, None)),
    *((unpack_change, pack_change(CHANGE), (*SIBLING, 3), bad) for bad in (-1, (1 << 64) - 1)),
    *((unpack_change, pack_change(CHANGE), (*SIBLING, 5), bad) for bad in ("no host", "", "a:b", 7, b"::1", "h" * 254)),
    *((unpack_change, pack_change(CHANGE), (*SIBLING, 6), bad) for bad in (0, 65_536, "7022")),
    *((unpack_change, pack_change(CHANGE), (*SIBLING, 7), bad) for bad in ("", None, b"m" * 4_097)),
    *((unpack_change, pack_change(CHANGE), (*SIBLING, 10), bad) for bad in (0, 1_001, True)),
    (unpack_change, pack_change(CHANGE), SIBLING, [0] * 10),
    (unpack_clock, pack_clock(CLOCK), (1,), [[1]]),
    (unpack_clock, pack_clock(CLOCK), (1, 0), [1]),
    (unpack_clock, pack_clock(CLOCK), (1, 0), [1, -1]),
    (unpack_delta, pack_delta(DELTA), (3, 0), []),
    (unpack_delta, pack_delta(DELTA), (3, 0, 3), -1),
    (unpack_full, pack_full(FULL), (4,), []),
    (unpack_full, pack_full(FULL), (4, 0), 7),
    (unpack_full, pack_full(FULL), (2, 0), [0]),
    (unpack_full, pack_full(FULL), (6, 0), [0, [9]]),
    (unpack_claim, pack_claim(CLAIM), (), 7),
]


@pytest.mark.parametrize(("read", "body", "path", "value"), MALFORMED)
def test_what_is_malformed_is_refused(
    read: Callable[[Any], object], body: Any, path: tuple[int, ...], value: Any
) -> None:
    read(body)
    with pytest.raises((ValueError, TypeError)):
        read(changed(body, path, value))


def test_a_state_without_a_claim_where_one_is_listed_is_read_without() -> None:
    assert unpack_full(changed(pack_full(FULL), (6, 0, 1), None)).claims == {}


def test_a_message_does_not_carry_what_it_was_made_of() -> None:
    with pytest.raises(ValueError, match=re.escape("no number from 1 to 65535")) as failed:
        unpack_change(changed(pack_change(CHANGE), (*SIBLING, 6), "x" * 10_000))
    assert len(str(failed.value)) < 200
