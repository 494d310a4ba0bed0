"""Vector clocks: every call, Riak's published cases, and the ancestor's traps."""

import json
import math
import operator
import pickle
import subprocess
import sys
from typing import Any

import msgpack
import pytest

from clusterkit.core.vector_clock import Causality, Stamp, VectorClock
from clusterkit.errors import ConfigError


def clock(**counts: int) -> VectorClock:
    return VectorClock(counts)


def stamped(**entries: tuple[int, float]) -> VectorClock:
    return VectorClock.from_dict({node: [count, at, at] for node, (count, at) in entries.items()})


class TestComparing:
    @pytest.mark.parametrize(
        ("one", "two", "outcome"),
        [
            (clock(), clock(), Causality.EQUAL),
            (clock(a=1, b=2), clock(b=2, a=1), Causality.EQUAL),
            (clock(), clock(a=1), Causality.BEFORE),
            (clock(a=1), clock(a=2), Causality.BEFORE),
            (clock(a=1), clock(a=1, b=1), Causality.BEFORE),
            (clock(a=1, b=1), clock(a=1), Causality.AFTER),
            (clock(a=2, b=1), clock(a=1, b=1), Causality.AFTER),
            (clock(a=1), clock(b=1), Causality.CONCURRENT),
            (clock(a=2, b=1), clock(a=1, b=2), Causality.CONCURRENT),
            (clock(a=2), clock(a=1, b=1), Causality.CONCURRENT),
            (clock(a=2, b=1, c=1), clock(a=3, b=1), Causality.CONCURRENT),
        ],
    )
    def test_compare_and_the_operators_agree(self, one: VectorClock, two: VectorClock, outcome: Causality) -> None:
        mirrored = {Causality.BEFORE: Causality.AFTER, Causality.AFTER: Causality.BEFORE}
        assert one.compare(two) is outcome
        assert two.compare(one) is mirrored.get(outcome, outcome)
        assert (one == two) is (outcome is Causality.EQUAL)
        assert (one < two, two > one) == (outcome is Causality.BEFORE,) * 2
        assert (one <= two, two >= one, two.dominates(one)) == (outcome in {Causality.BEFORE, Causality.EQUAL},) * 3

    def test_an_explicit_zero_is_absent(self) -> None:
        zero = VectorClock({"a": 0, "b": 1})
        assert zero == clock(b=1)
        assert hash(zero) == hash(clock(b=1))
        assert zero.nodes == ["b"]
        assert "a" not in zero
        assert len(zero) == 1
        assert VectorClock({"a": 0}) <= clock()
        assert VectorClock({"a": 0}).compare(clock(b=1)) is Causality.BEFORE

    def test_stamps_say_nothing_about_causality(self) -> None:
        early, late = stamped(a=(1, 5.0)), stamped(a=(1, 9.0))
        assert early == late
        assert hash(early) == hash(late)
        assert early.compare(late) is Causality.EQUAL

    def test_other_types(self) -> None:
        one: Any = clock(a=1)
        assert one != {"a": 1}
        for compare in (operator.lt, operator.le, operator.gt, operator.ge):
            with pytest.raises(TypeError):
                compare(one, 1)

    def test_equal_clocks_are_one_key(self) -> None:
        one = clock(a=1, b=2)
        assert {one: "x"}[VectorClock({"b": 2, "a": 1})] == "x"
        assert hash(one) == hash(one)


class TestChanging:
    def test_increment_makes_a_new_clock(self) -> None:
        old = clock(a=1)
        new = old.increment("a").increment("b")
        assert (old, new) == (clock(a=1), clock(a=2, b=1))

    def test_stamps_keep_the_first_update_and_the_last(self) -> None:
        one = VectorClock().increment("a", now=5.0).increment("a", now=9).increment("a", now=7.0)
        assert one.stamp("a") == Stamp(5.0, 9)
        assert one.increment("a").stamp("a") == Stamp(5.0, 9)
        assert one.stamp("b") is None

    def test_merge_is_the_least_that_dominates_both(self) -> None:
        one, two = clock(a=3, b=1, c=2), clock(a=1, b=4, d=1)
        assert one.merge(two) == two.merge(one) == clock(a=3, b=4, c=2, d=1)
        assert one.merge(one) == one

    def test_stamps_go_with_the_greater_count(self) -> None:
        one, two = stamped(a=(1, 9.0), b=(2, 3.0)), stamped(a=(2, 5.0), c=(1, 1.0))
        for merged in (one.merge(two), two.merge(one)):
            assert merged.to_dict() == {"a": [2, 5.0, 5.0], "b": [2, 3.0, 3.0], "c": [1, 1.0, 1.0]}

    def test_stamps_of_equal_counts_span_both(self) -> None:
        one, two = stamped(a=(1, 9.0)), stamped(a=(1, 5.0))
        assert one.merge(two).stamp("a") == two.merge(one).stamp("a") == Stamp(5.0, 9.0)
        assert one.merge(clock(a=1)).stamp("a") == clock(a=1).merge(one).stamp("a") == Stamp(9.0, 9.0)
        assert one.merge(clock(a=2)).stamp("a") is None

    def test_remove_forgets(self) -> None:
        assert stamped(a=(1, 2.0), b=(1, 2.0)).remove("a", "unknown").to_dict() == {"b": [1, 2.0, 2.0]}


class TestTrimming:
    """Cases of Riak's own tests, with its names: small, young, big, old."""

    def test_a_small_clock_stays(self) -> None:
        old = stamped(a=(1, 0.0), b=(2, 0.0), c=(3, 0.0))
        assert old.trim(3.2e7, lower_bound=4) == (old, {})

    def test_a_young_clock_stays(self) -> None:
        young = stamped(a=(1, 99.0), b=(2, 99.0), c=(3, 99.0))
        assert young.trim(100.0, lower_bound=1, young_bound=1000) == (young, {})

    def test_a_big_clock_is_cut(self) -> None:
        big = stamped(a=(1, 0.0), b=(2, 0.0), c=(3, 0.0))
        trimmed, dropped = big.trim(1000.0, lower_bound=1, young_bound=1, upper_bound=2, old_bound=100_000)
        assert (trimmed, dropped) == (clock(b=2, c=3), {"a": 1})

    def test_old_entries_go(self) -> None:
        mixed = stamped(a=(1, 99_000.0), b=(2, 0.0), c=(3, 0.0))
        trimmed, dropped = mixed.trim(100_000.0, lower_bound=1, young_bound=1, upper_bound=2, old_bound=10_000)
        assert (trimmed, dropped) == (clock(a=1), {"b": 2, "c": 3})

    def test_of_equal_times_the_lesser_node_goes_in_any_order(self) -> None:
        one, two = stamped(a=(1, 0.0), b=(2, 0.0)), stamped(b=(2, 0.0), a=(1, 0.0))
        options: dict[str, Any] = {"lower_bound": 1, "young_bound": 1, "upper_bound": 2, "old_bound": 10_000}
        assert one.trim(100_000.0, **options) == two.trim(100_000.0, **options) == (clock(b=2), {"a": 1})

    def test_edges(self) -> None:
        one = stamped(a=(1, 0.0), b=(1, 50.0))
        assert one.trim(20.0, lower_bound=1, young_bound=20, upper_bound=1).dropped == {"a": 1}  # as old as young: goes
        assert one.trim(19.9, lower_bound=1, young_bound=20, upper_bound=1).dropped == {}
        assert one.trim(60.0, lower_bound=1, upper_bound=2, old_bound=60).dropped == {}  # not older than old: stays
        assert one.trim(60.1, lower_bound=1, upper_bound=2, old_bound=60).dropped == {"a": 1}

    def test_the_defaults_are_the_ancestors(self) -> None:
        many = VectorClock.from_dict({f"n{number:02}": [1, float(number), float(number)] for number in range(60)})
        trimmed, dropped = many.trim(100.0)
        assert len(trimmed) == 50
        assert list(dropped) == [f"n{number:02}" for number in range(10)]
        assert len(many.trim(200_000.0).clock) == 10

    def test_an_empty_clock(self) -> None:
        assert clock().trim(0.0, lower_bound=0) == (clock(), {})

    def test_an_entry_without_a_stamp_is_the_oldest(self) -> None:
        mixed = clock(z=5).merge(stamped(a=(1, 50.0)))
        assert mixed.trim(100.0, lower_bound=1, upper_bound=1).dropped == {"z": 5}

    def test_what_was_trimmed_comes_back_with_a_merge(self) -> None:
        one = stamped(a=(1, 0.0), b=(1, 9.0))
        assert one.trim(1e9, lower_bound=1).clock.merge(one).to_dict() == one.to_dict()

    @pytest.mark.parametrize("name", ["lower_bound", "upper_bound", "young_bound", "old_bound"])
    def test_bounds_below_zero(self, name: str) -> None:
        with pytest.raises(ConfigError, match="no bound is below 0"):
            clock().trim(0.0, **{name: -1})

    def test_bounds_of_wrong_types_and_times_that_are_none(self) -> None:
        with pytest.raises(TypeError, match="a bound on the size is an int"):
            clock().trim(0.0, lower_bound=1.5)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="no bound"):
            clock().trim(0.0, old_bound=math.nan)
        with pytest.raises(ConfigError, match="finite"):
            clock().trim(math.nan)
        with pytest.raises(TypeError, match="a time is a number"):
            clock().increment("a", now="5")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a time is a number"):
            clock().trim(True)


class TestReading:
    def test_get_nodes_len_in_iteration(self) -> None:
        one = clock(b=2, a=1)
        assert (one.get("b"), one.get("x"), one.nodes, list(one), len(one)) == (2, 0, ["a", "b"], ["a", "b"], 2)
        assert "a" in one
        assert "x" not in one
        assert 5 not in one
        assert repr(one) == "VectorClock({'a': 1, 'b': 2})"

    @pytest.mark.parametrize("node", ["", "__proto__", "constructor", "toString", "ü", "0", " ", "\x00"])
    def test_any_string_is_an_ordinary_node(self, node: str) -> None:
        one = VectorClock().increment(node)
        assert node not in VectorClock()
        assert VectorClock().get(node) == 0
        assert one.get(node) == 1
        assert one.increment(node).get(node) == 2
        assert VectorClock.from_dict(json.loads(json.dumps(one.to_dict()))) == one

    def test_plain_data_survives_json_msgpack_and_pickle(self) -> None:
        one = clock(z=2**63).merge(stamped(a=(1, 2.5)))
        data = one.to_dict()
        assert list(data) == ["a", "z"]
        for copy in (json.loads(json.dumps(data)), msgpack.unpackb(msgpack.packb(data))):
            assert VectorClock.from_dict(copy).to_dict() == data
        assert pickle.loads(pickle.dumps(one)).to_dict() == data

    def test_nothing_is_shared_with_a_caller(self) -> None:
        counts = {"a": 1}
        one = VectorClock(counts)
        counts["a"] = 9
        one.to_dict()["a"] = 9
        one.nodes.clear()
        assert one == clock(a=1)

    def test_a_zero_brings_no_stamp(self) -> None:
        assert VectorClock.from_dict({"a": [0, 1.0, 1.0]}).to_dict() == {}


class TestBadInput:
    @pytest.mark.parametrize("count", [True, 1.0, "1", None, math.nan])
    def test_counts_that_are_no_ints(self, count: Any) -> None:
        with pytest.raises(TypeError, match="a count is an int from 0"):
            VectorClock({"a": count})

    def test_counts_below_zero(self) -> None:
        with pytest.raises(ConfigError, match="a count is an int from 0, not -1"):
            VectorClock({"a": -1})

    @pytest.mark.parametrize("node", [1, None, b"a", ("a",)])
    def test_nodes_that_are_no_strings(self, node: Any) -> None:
        with pytest.raises(TypeError, match="a node is a str"):
            VectorClock({node: 1})
        with pytest.raises(TypeError, match="a node is a str"):
            VectorClock().increment(node)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            5,
            [1],
            "a",
            {"a": "x"},
            {"a": [1]},
            {"a": [1, 2, 3, 4]},
            {"a": [1, "x", 2]},
            {"a": [1, math.inf, 2]},
            {"a": -1},
            {1: 1},
        ],
    )
    def test_what_describes_no_clock(self, data: Any) -> None:
        with pytest.raises(ConfigError, match="describes no vector clock"):
            VectorClock.from_dict(data)


def test_importing_it_loads_no_asyncio() -> None:
    code = "import sys, clusterkit.core.vector_clock; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
