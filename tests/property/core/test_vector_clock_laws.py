"""The laws of vector clocks, numbered as in the study they were designed from."""

import json
from typing import Any

import msgpack
from hypothesis import assume, given
from hypothesis import strategies as st

from clusterkit.core.vector_clock import Causality, VectorClock

some_node = st.sampled_from(["a", "b", "c", "d", "", "__proto__", "constructor", "ü"])
times = st.integers(0, 50).map(float)
entries = st.integers(0, 3) | st.tuples(st.integers(0, 3), times, times).map(lambda e: [e[0], min(e[1:]), max(e[1:])])
clocks = st.dictionaries(some_node, entries, max_size=6).map(VectorClock.from_dict)
stamped_clocks = st.dictionaries(
    st.text(max_size=2), st.tuples(st.integers(1, 3), times).map(lambda e: [e[0], e[1], e[1]]), max_size=12
).map(VectorClock.from_dict)
bounds = st.fixed_dictionaries(
    {
        "lower_bound": st.integers(1, 4),
        "young_bound": times,
        "upper_bound": st.integers(0, 8),
        "old_bound": times,
    }
)


def whole(clock: VectorClock) -> dict[str, Any]:
    """Counts and stamps: what ``==`` leaves out, too."""
    return clock.to_dict()


@given(clocks, clocks, clocks)
def test_12_merge_is_the_least_upper_bound_stamps_included(
    one: VectorClock, two: VectorClock, three: VectorClock
) -> None:
    assert whole(one.merge(two)) == whole(two.merge(one))
    assert whole(one.merge(two).merge(three)) == whole(one.merge(two.merge(three)))
    assert whole(one.merge(one)) == whole(one)
    assert one <= one.merge(two) >= two
    if one <= three and two <= three:
        assert one.merge(two) <= three


@given(clocks, clocks, clocks)
def test_13_the_order_is_partial_and_compare_tells_it(one: VectorClock, two: VectorClock, three: VectorClock) -> None:
    assert one <= one
    if one <= two <= three:
        assert one <= three
    outcome = one.compare(two)
    assert (outcome is Causality.EQUAL) == (one == two) == (one <= two and two <= one)
    assert (outcome is Causality.BEFORE) == (one < two) == (one <= two and not two <= one)
    assert (outcome is Causality.AFTER) == (one > two) == (two.compare(one) is Causality.BEFORE)
    assert (outcome is Causality.CONCURRENT) == (not one <= two and not two <= one)
    assert one.dominates(two) == (two <= one) == all(one.get(node) >= two.get(node) for node in {*one, *two})
    if one == two:
        assert hash(one) == hash(two)


@given(st.dictionaries(some_node, st.integers(0, 3)))
def test_13_a_missing_node_counts_zero(counts: dict[str, int]) -> None:
    padded = VectorClock({**dict.fromkeys(["a", "b", "x"], 0), **counts})
    assert padded == VectorClock(counts)
    assert hash(padded) == hash(VectorClock(counts))
    assert padded.compare(VectorClock(counts)) is Causality.EQUAL


@given(clocks, some_node, some_node, st.none() | times)
def test_14_increment_goes_strictly_up(clock: VectorClock, one: str, two: str, now: float | None) -> None:
    before = whole(clock)
    after = clock.increment(one, now)
    assert after > clock
    assert after.get(one) == clock.get(one) + 1
    assert whole(clock) == before
    assume(one != two)
    assert after.compare(clock.increment(two, now)) is Causality.CONCURRENT


@given(stamped_clocks, times, bounds, st.randoms(use_true_random=False))
def test_15_trim(clock: VectorClock, now: float, options: dict[str, Any], chance: Any) -> None:
    trimmed, dropped = clock.trim(now, **options)
    left = whole(trimmed)
    assert left.items() <= whole(clock).items()
    assert trimmed <= clock
    assert {**{node: clock.get(node) for node in trimmed}, **dropped} == {node: clock.get(node) for node in clock}
    again = trimmed.trim(now, **options)
    assert (whole(again.clock), again.dropped) == (left, {})
    shuffled = list(whole(clock).items())
    chance.shuffle(shuffled)
    assert whole(VectorClock.from_dict(dict(shuffled)).trim(now, **options).clock) == left
    in_order = sorted((clock.stamp(node), node) for node in clock)
    assert [node for _, node in in_order[: len(dropped)]] == list(dropped)
    if in_order:
        assert in_order[-1][1] in trimmed
        oldest = in_order[0][0]
        assert oldest is not None
        if len(clock) <= options["lower_bound"] or now - oldest.last < options["young_bound"]:
            assert not dropped
    if dropped and len(trimmed) > max(options["lower_bound"], options["upper_bound"]):
        stopped_at = in_order[len(dropped)][0]
        assert stopped_at is not None
        assert now - stopped_at.last < options["young_bound"]


@given(stamped_clocks, stamped_clocks, times, bounds)
def test_16_trimming_and_merging(clock: VectorClock, other: VectorClock, now: float, options: dict[str, Any]) -> None:
    assert whole(clock.trim(now, **options).clock.merge(clock)) == whole(clock)
    here, there = clock.merge(other), other.merge(clock)
    assert whole(here.trim(now, **options).clock) == whole(there.trim(now, **options).clock)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**63)), times)
def test_17_plain_data_gives_the_clock_back_and_shares_nothing(counts: dict[str, int], now: float) -> None:
    clock = VectorClock(counts)
    for node in list(counts)[:2]:
        clock = clock.increment(node, now)
    data = whole(clock)
    for through in (json.loads(json.dumps(data)), msgpack.unpackb(msgpack.packb(data))):
        again = VectorClock.from_dict(through)
        through.clear()
        assert whole(again) == data
    data.clear()
    assert VectorClock.from_dict(whole(clock)) == clock
