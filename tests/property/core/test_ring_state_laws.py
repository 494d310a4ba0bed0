"""Laws of the ring's state: joins in any order and grouping, exact deltas, digests, and packing.

Replicas come from histories that hypothesis makes: writes of a few members, each passed on to some.
"""

from collections.abc import Callable
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Change, Delta, Full
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

NOW = 1_700_000_000.0
NAMES = ["a", "b", "c", "d"]
READERS = [unpack_change, unpack_claim, unpack_clock, unpack_delta, unpack_full]
numbers = st.integers(0, 3)
steps = st.lists(st.tuples(numbers, numbers, st.integers(0, 7), st.sets(numbers)), max_size=30)


def write(state: RingState, name: str, kind: int) -> Change | None:
    if kind == 0:
        state.forget_removals()
    elif kind == 1:
        state.hear(name, Claim(state.known(name), 0, Rank.SUSPECT, ready=True))
    elif name not in state:
        return state.insert(name, "10.0.0.1", 7022, NOW)
    elif kind < 4 and name != state.me.name:
        return state.remove(name)
    else:
        return state.update(name, kind, NOW)
    return None


def restart(state: RingState) -> RingState:
    made = RingState(Actor(state.me.name, state.me.boot + 100))
    made.merge(state.full(), NOW)
    return made


def replicas(history: list[tuple[int, int, int, set[int]]]) -> list[RingState]:
    """Four replicas after such a history; what is not passed on at once comes by merges."""
    states = [RingState(Actor(f"w{number}", 7)) for number in range(4)]
    for state in states:
        state.announce("10.0.0.1", 7022, b"", NOW)
    for writer, name, kind, hearers in history:
        if kind == 7:
            states[writer] = restart(states[writer])
        change = write(states[writer], NAMES[name], kind)
        for number in sorted(hearers - {writer}):
            if change is not None and kind % 2:
                states[number].deliver(change, NOW)
            else:
                states[number].merge(states[writer].full(), NOW)
    return states


def seen(state: RingState) -> tuple[Any, ...]:
    full = state.full()
    claims = {name: state.claim(name) for name in state.names}
    return full.clock, full.entries, full.fences, claims


def digests(state: RingState) -> tuple[int, int, int]:
    return state.ring_digest, state.claims_digest, state.view_hash()


def copy(state: RingState) -> RingState:
    made = RingState(Actor("copy", 1))
    made.merge(state.full(), NOW)
    return made


def joined(*states: RingState) -> RingState:
    made = copy(states[0])
    for state in states[1:]:
        made.merge(state.full(), NOW)
    return made


@given(steps)
def test_a_merge_is_commutative_associative_and_idempotent(history: list[tuple[int, int, int, set[int]]]) -> None:
    a, b, c, _ = replicas(history)
    assert seen(joined(a, b)) == seen(joined(b, a))
    assert seen(joined(joined(a, b), c)) == seen(joined(a, joined(b, c)))
    assert seen(joined(a, b, b, a)) == seen(joined(a, b))
    assert digests(joined(a, b, c)) == digests(joined(c, b, a))


@given(steps)
def test_a_delta_does_what_a_merge_does(history: list[tuple[int, int, int, set[int]]]) -> None:
    for one in (states := replicas(history)):
        for other in states:
            answer = other.answer(one.clock())
            if isinstance(answer, Delta):
                told, merged = copy(one), joined(one, other)
                assert told.apply(answer, NOW)
                assert seen(told)[:3] == seen(merged)[:3]
                assert told.ring_digest == merged.ring_digest
                assert [item.name for item in answer.items] == sorted({item.name for item in answer.items})


@given(steps)
def test_digests_tell_states_apart_and_nothing_else(history: list[tuple[int, int, int, set[int]]]) -> None:
    for one in (states := replicas(history)):
        for other in states:
            assert (seen(one)[:3] == seen(other)[:3]) == (one.ring_digest == other.ring_digest)
            if one.names == other.names and seen(one)[3] == seen(other)[3]:
                assert one.claims_digest == other.claims_digest
        assert digests(copy(one)) == digests(one)


@given(steps, st.randoms(use_true_random=False))
def test_changes_in_any_order_end_in_one_state(history: list[tuple[int, int, int, set[int]]], chance: Any) -> None:
    """Every change delivered in any order, some twice, then a delta: all equal (I3)."""
    writers = [RingState(Actor(f"w{number}", 7)) for number in range(4)]
    changes = [state.announce("10.0.0.1", 7022, b"", NOW) for state in writers]
    for writer, name, kind, hearers in history:
        if (change := write(writers[writer], NAMES[name], kind)) is not None:
            changes.append(change)
            for number in sorted(hearers - {writer}):
                writers[number].deliver(change, NOW)
    for state in writers:
        order = [*changes, *chance.sample(changes, len(changes) // 2)]
        chance.shuffle(order)
        for change in order:
            state.deliver(change, NOW)
    for one in (*writers, *writers):
        for other in writers:
            answer = other.answer(one.clock(), differs=one.clock() == other.clock())
            one.apply(answer, NOW) if isinstance(answer, Delta) else one.merge(answer, NOW)
    assert len({state.ring_digest for state in writers}) == 1
    assert all(seen(state) == seen(writers[0]) for state in writers)


@given(steps)
def test_what_is_packed_is_read_again(history: list[tuple[int, int, int, set[int]]]) -> None:
    one, other, *_ = replicas(history)
    full, answer, change = one.full(), one.answer(other.clock()), one.own_change()
    assert unpack_full(msgpack.unpackb(msgpack.packb(pack_full(full)))) == full
    assert unpack_clock(msgpack.unpackb(msgpack.packb(pack_clock(full.clock)))) == full.clock
    if isinstance(answer, Delta):
        assert unpack_delta(msgpack.unpackb(msgpack.packb(pack_delta(answer)))) == answer
    if change is not None:
        assert unpack_change(msgpack.unpackb(msgpack.packb(pack_change(change)))) == change
    for name in one.names:
        assert unpack_claim(pack_claim(one.claim(name))) == one.claim(name)


# -- packing, from anybody

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 65) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=9),
    max_leaves=60,
)


def places(body: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    inner = [place for at, each in enumerate(body) for place in places(each, (*path, at))] if type(body) is list else []
    return [path, *inner]


def changed(body: Any, path: tuple[int, ...], value: Any) -> Any:
    if not path:
        return value
    return [changed(each, path[1:], value) if at == path[0] else each for at, each in enumerate(body)]


@given(plain)
def test_any_object_is_read_or_refused(body: Any) -> None:
    for read in READERS:
        try:
            read(body)
        except (ValueError, TypeError):
            continue


@given(steps, st.data())
def test_a_frame_with_one_thing_changed_is_read_or_refused(
    history: list[tuple[int, int, int, set[int]]], data: st.DataObject
) -> None:
    one, other, *_ = replicas(history)
    answer = one.answer(other.clock())
    bodies: list[tuple[Callable[[Any], object], Any]] = [(unpack_full, pack_full(one.full()))]
    if isinstance(answer, Delta):
        bodies.append((unpack_delta, pack_delta(answer)))
    read, body = data.draw(st.sampled_from(bodies))
    path = data.draw(st.sampled_from(places(body)))
    try:
        taken = read(changed(body, path, data.draw(plain)))
    except (ValueError, TypeError):
        return
    assert isinstance(taken, Full | Delta)
