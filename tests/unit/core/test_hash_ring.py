"""The hash ring: every call, every edge, and every answer to bad input."""

import copy
import json
import math
import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.identity import NodeId
from clusterkit.core.ketama import KETAMA
from clusterkit.core.tokens import SHA256, TokenScheme
from clusterkit.errors import ConfigError, EmptyRing, UnknownNode

KEYS = [f"key {number}" for number in range(400)]
FIXED = TokenScheme("fixed", 4, int, lambda name, weight: {"a": [1, 9], "b": [4, 12], "c": [9, 14]}[name])


@dataclass(frozen=True)
class Host:
    name: str
    zone: str | None = None


def owners(ring: HashRing[str]) -> list[str]:
    return [ring.find(key) for key in KEYS]


@pytest.fixture
def ring() -> HashRing[str]:
    return HashRing(["a", "b", "c", "d"])


@pytest.fixture
def fixed() -> HashRing[str]:
    """Tokens 1 a, 4 b, 9 a, 9 c, 12 b, 14 c; the token of key "7" is 7."""
    return HashRing(["a", "b", "c"], tokens=FIXED)


class TestLookingUpKeys:
    @pytest.mark.parametrize(
        ("key", "owner"),
        [("0", "a"), ("1", "b"), ("3", "b"), ("4", "a"), ("8", "a"), ("9", "b"), ("13", "c"), ("14", "a")],
    )
    def test_the_owner_is_that_of_the_first_token_above(self, fixed: HashRing[str], key: str, owner: str) -> None:
        assert fixed.find(key) == owner

    def test_str_and_bytes_of_one_text_are_one_key(self, ring: HashRing[str]) -> None:
        assert [ring.find(key.encode()) for key in KEYS] == owners(ring)

    def test_replicas_follow_clockwise(self, fixed: HashRing[str]) -> None:
        assert fixed.range("4", 3) == ("a", "c", "b")
        assert fixed.range("9", 2) == ("b", "c")
        assert fixed.range("15", 1) == ("a",)

    def test_asked_again_for_as_many_fewer_or_more(self, ring: HashRing[str]) -> None:
        for key in KEYS[:50]:
            walk = tuple(ring.walk(key))
            for n in (3, 3, 2, 4, 1, 9, 9, 4, 3):
                assert ring.range(key, n) == walk[:n]

    def test_three_replicas_by_default(self, ring: HashRing[str]) -> None:
        assert len(ring.range("k")) == len(ring.range_prev("k")) == 3

    def test_long_answers_are_not_kept(self) -> None:
        many = HashRing([f"n{number}" for number in range(12)])
        assert len(many.range("k", 12)) == len(many.range("k", 12)) == 12
        assert not any(many._replicas)

    def test_an_answer_survives_no_change(self, ring: HashRing[str]) -> None:
        before = {key: ring.range(key, 2) for key in KEYS}
        ring.remove("b")
        assert all("b" not in ring.range(key, 2) for key in KEYS)
        ring.insert("b")
        assert {key: ring.range(key, 2) for key in KEYS} == before

    def test_counter_clockwise_starts_at_the_greatest_token_below(self, fixed: HashRing[str]) -> None:
        assert fixed.range_prev("4", 3) == ("a", "c", "b")
        assert fixed.range_prev("1", 2) == ("c", "b")
        assert fixed.range_prev("15", 1) == ("c",)

    def test_a_walk_stays_on_the_ring_it_began_on(self, ring: HashRing[str]) -> None:
        walk = ring.walk("k")
        first = next(walk)
        ring.remove(first)
        assert sorted([first, *walk]) == ["a", "b", "c", "d"]

    def test_zones_are_honoured_by_range_alone(self) -> None:
        hosts = [Host(f"h{number}", "east" if number < 8 else "west") for number in range(10)]
        ring = HashRing(hosts)
        for key in KEYS:
            two = ring.range(key, 2)
            assert {host.zone for host in two} == {"east", "west"}
            assert two[0] == ring.find(key)
            assert ring.range(key, 2) == two
        assert any(len({host.zone for host in list(ring.walk(key))[:2]}) == 1 for key in KEYS)


class TestLookingUpNodes:
    def test_neighbours_are_counted_from_the_first_token(self, fixed: HashRing[str]) -> None:
        assert fixed.next("a", 2) == ("b", "c")
        assert fixed.next("c", 2) == ("b", "a")
        assert fixed.prev("b", 2) == ("a", "c")
        assert fixed.prev("c", 1) == ("a",)

    def test_two_neighbours_by_default_and_never_the_node(self, ring: HashRing[str]) -> None:
        assert len(ring.next("a")) == len(ring.prev("a")) == 2
        assert "a" not in ring.next("a", 99)
        assert "a" not in ring.prev("a", 99)
        assert HashRing(["a"]).next("a") == ()

    def test_a_count_beyond_any_machine_word(self, ring: HashRing[str]) -> None:
        for answer in (ring.range("k", 2**80), ring.range_prev("k", 2**80)):
            assert sorted(answer) == ["a", "b", "c", "d"]
        assert len(ring.next("a", 2**80)) == len(ring.prev("a", 2**80)) == 3

    def test_get(self) -> None:
        node = NodeId("a", "h", 1)
        ring = HashRing([node])
        assert ring.get("a") is node
        assert ring.get(NodeId("a", "elsewhere", 2)) is node
        assert ring.get("b") is None
        assert ring.get("b", node) is node

    def test_weights_and_nodes_are_copies_in_order_of_id(self, ring: HashRing[str]) -> None:
        ring.weights.clear()
        ring.nodes.clear()
        assert list(ring.weights) == ring.nodes == ["a", "b", "c", "d"]
        assert ring.weight("a") == 1

    def test_size_counts_tokens_and_len_nodes(self) -> None:
        ring = HashRing({"a": 3, "b": 1})
        assert (ring.size, len(ring)) == (512, 2)
        assert "a" in ring
        assert "x" not in ring

    def test_iteration_is_over_tokens_and_nodes(self, fixed: HashRing[str]) -> None:
        tokens = iter(fixed)
        fixed.remove("a")
        assert list(tokens) == [(1, "a"), (4, "b"), (9, "a"), (9, "c"), (12, "b"), (14, "c")]
        assert list(fixed) == [(4, "b"), (9, "c"), (12, "b"), (14, "c")]


class TestChanging:
    def test_insert_of_a_known_id_changes_nothing(self, ring: HashRing[str]) -> None:
        before = ring.copy()
        ring.insert("a", 7)
        assert ring == before

    def test_insert_and_remove_undo_each_other(self, ring: HashRing[str]) -> None:
        before = owners(ring)
        ring.insert("e", 3)
        assert "e" in owners(ring)
        ring.remove("e")
        assert owners(ring) == before

    def test_remove_by_id_or_by_node(self) -> None:
        ring = HashRing([NodeId("a", "h", 1), NodeId("b", "h", 2)])
        ring.remove("a")
        ring.remove(NodeId("b", "moved", 9))
        assert len(ring) == ring.size == 0

    def test_update_sets_the_weight_or_keeps_it(self, ring: HashRing[str]) -> None:
        ring.update("a", weight=4)
        assert ring == HashRing({"a": 4, "b": 1, "c": 1, "d": 1})
        ring.update("a")
        assert ring.weight("a") == 4
        ring.update("a", 1)
        assert owners(ring) == owners(HashRing(["a", "b", "c", "d"]))

    def test_update_inserts_an_unknown_node(self, ring: HashRing[str]) -> None:
        ring.update("e")
        ring.update("f", weight=2)
        assert (ring.weight("e"), ring.weight("f")) == (1, 2)

    def test_update_replaces_the_address(self) -> None:
        old, new = NodeId("a", "h", 1), NodeId("a", "h", 2)
        ring = HashRing([old])
        ring.insert(new)
        assert ring.find("k") is old
        ring.update(new)
        assert ring.find("k") is new
        assert ring.get("a") is new

    def test_history_leaves_no_trace(self, ring: HashRing[str]) -> None:
        other = HashRing({"z": 5, "d": 9, "b": 1})
        other.remove("z")
        other.insert("c")
        other.update("d", 1)
        other.insert("a")
        assert other == ring
        assert list(other) == list(ring)
        assert other.checksum() == ring.checksum()


class TestWholeRings:
    def test_merge_takes_the_greater_and_intersect_the_smaller_weight(self) -> None:
        one, two = HashRing({"a": 2, "b": 1}), HashRing({"b": 3, "c": 1})
        assert (one | two).weights == {"a": 2, "b": 3, "c": 1}
        assert (one & two).weights == {"b": 1}
        assert one.weights == {"a": 2, "b": 1}
        assert one.merge(two) is one
        assert one.weights == {"a": 2, "b": 3, "c": 1}
        assert two.intersect(HashRing(["c"])) is two
        assert two.weights == {"c": 1}

    def test_one_id_with_two_addresses_merges_alike_both_ways(self) -> None:
        old, new = NodeId("a", "h", 9, incarnation=1), NodeId("a", "h", 1, incarnation=2)
        assert (HashRing([old]) | HashRing([new])).nodes == (HashRing([new]) | HashRing([old])).nodes == [new]
        assert (HashRing([old]) & HashRing([new])).nodes == (HashRing([new]) & HashRing([old])).nodes == [old]

    def test_rings_of_other_tokens_do_not_mix(self, ring: HashRing[str]) -> None:
        other = HashRing(["a"], tokens=KETAMA)
        assert other != HashRing(["a"])
        for mix in (ring.merge, ring.intersect, ring.diff):
            with pytest.raises(ConfigError, match="draw tokens differently: 'sha256', 'ketama'"):
                mix(other)
            with pytest.raises(TypeError, match="is no HashRing"):
                mix(["a"])  # type: ignore[arg-type]

    def test_a_copy_is_independent(self, ring: HashRing[str]) -> None:
        ring.range("k", 2)
        twin = ring.copy()
        assert twin == ring
        assert twin.range("k", 2) == ring.range("k", 2)
        twin.remove("a")
        assert "a" in ring
        assert "a" not in twin

    def test_copies_of_the_standard_library(self, ring: HashRing[str]) -> None:
        ring.range("k", 2)
        for twin in (copy.copy(ring), copy.deepcopy(ring), pickle.loads(pickle.dumps(ring))):
            assert twin == ring
            assert owners(twin) == owners(ring)
            twin.remove("a")
            assert "a" in ring

    def test_a_pickled_ring_of_values_can_be_changed(self) -> None:
        nodes = [NodeId(name, "h", 1) for name in "abc"]
        for twin in (copy.deepcopy(HashRing(nodes)), pickle.loads(pickle.dumps(HashRing(nodes)))):
            twin.remove("b")
            assert list(twin) == list(HashRing([nodes[0], nodes[2]]))

    def test_a_zone_that_cannot_be_counted_changes_nothing(self) -> None:
        ring = HashRing([Host("a", "east")])
        with pytest.raises(TypeError, match="unhashable"):
            ring.insert(Host("b", ["west"]))  # type: ignore[arg-type]
        assert ring == HashRing([Host("a", "east")])
        assert ring.size == 128

    def test_equality(self, ring: HashRing[str]) -> None:
        assert ring != HashRing(["a"])
        assert ring != ["a", "b", "c", "d"]
        with pytest.raises(TypeError, match="unhashable"):
            hash(ring)

    def test_checksums_differ_where_owners_may(self, ring: HashRing[str]) -> None:
        sums = {r.checksum() for r in (ring, HashRing({"a": 2}), HashRing(["a"]), HashRing(["a"], tokens=KETAMA))}
        assert len(sums) == 4

    def test_diff_of_a_join_moves_keys_to_the_joiner_only(self, ring: HashRing[str]) -> None:
        difference = ring.diff(HashRing(["a", "b", "c", "d", "e"]))
        assert {target for _, target in difference.fractions()} == {"e"}
        assert math.isclose(difference.fraction, 0.2, abs_tol=0.06)

    def test_plain_data_survives_json_and_msgpack(self) -> None:
        ring = HashRing({"b": 2, "a": 1, "": 3, "ü": 4})
        data = ring.to_dict()
        assert data == {"tokens": "sha256", "nodes": [["", 3], ["a", 1], ["b", 2], ["ü", 4]]}
        assert HashRing.from_dict(json.loads(json.dumps(data))) == ring
        assert HashRing.from_dict(msgpack.unpackb(msgpack.packb(data))) == ring
        assert HashRing.from_dict(HashRing(["a"], tokens=KETAMA).to_dict(), tokens=KETAMA).find("k") == "a"

    def test_other_nodes_stand_in_plain_data_as_they_are(self) -> None:
        ring = HashRing({NodeId("a", "h", 1, 7): 2})
        assert HashRing.from_dict(ring.to_dict()) == ring

    def test_repr(self, ring: HashRing[str]) -> None:
        assert repr(ring) == "<HashRing of 4 nodes, 512 tokens (sha256)>"


class TestBadInput:
    @pytest.mark.parametrize("data", [None, 5, [], {}, {"nodes": []}, {"tokens": "sha256"}, "tokens nodes"])
    def test_what_describes_no_ring(self, data: Any) -> None:
        with pytest.raises(ConfigError, match="describes no hash ring"):
            HashRing.from_dict(data)

    def test_a_description_with_other_tokens(self) -> None:
        with pytest.raises(ConfigError, match="made with tokens 'ketama', not 'sha256'"):
            HashRing.from_dict({"tokens": "ketama", "nodes": []})

    def test_an_empty_ring_owns_nothing(self) -> None:
        ring: HashRing[str] = HashRing()
        for look_up in (ring.find, ring.range, ring.range_prev):
            with pytest.raises(EmptyRing, match="no nodes"):
                look_up("k")
        assert isinstance(EmptyRing(), LookupError)
        assert (list(ring.walk("k")), list(ring), ring.nodes) == ([], [], [])
        assert len(ring) == ring.size == 0
        assert ring == HashRing([])

    def test_a_ring_that_was_emptied(self, ring: HashRing[str]) -> None:
        ring.range("k")
        for node in ring.nodes:
            ring.remove(node)
        for look_up in (ring.find, ring.range, ring.range_prev):
            with pytest.raises(EmptyRing):
                look_up("k")

    @pytest.mark.parametrize("key", [1, None, 1.5, bytearray(b"k"), ("k",)])
    def test_keys(self, ring: HashRing[str], key: Any) -> None:
        for look_up in (ring.find, ring.range, ring.range_prev, ring.walk):
            with pytest.raises(TypeError, match="a key is a str or bytes"):
                look_up(key)

    @pytest.mark.parametrize(
        ("n", "error"),
        [(0, ConfigError), (-1, ConfigError), (True, TypeError), (2.0, TypeError), ("2", TypeError), (None, TypeError)],
    )
    def test_counts(self, ring: HashRing[str], n: Any, error: type[Exception]) -> None:
        ring.range("k", 1)
        ring.range("k", 2)
        for call in (ring.range, ring.range_prev):
            with pytest.raises(error, match="a number of nodes"):
                call("k", n)
        for neighbours in (ring.next, ring.prev):
            with pytest.raises(error, match="a number of nodes"):
                neighbours("a", n)

    @pytest.mark.parametrize("weight", [0, -1, 1001, True, False, 1.0, 2.5, math.nan, math.inf, "1", b"1"])
    def test_weights(self, ring: HashRing[str], weight: Any) -> None:
        before = ring.copy()
        for call in (ring.insert, ring.update):
            for node in ("a", "new"):
                with pytest.raises((TypeError, ConfigError), match="a weight is an int"):
                    call(node, weight)
        with pytest.raises((TypeError, ConfigError), match="a weight is an int"):
            HashRing({"a": weight})
        assert ring == before
        assert list(ring) == list(before)

    def test_no_weight_is_no_weight_to_insert(self, ring: HashRing[str]) -> None:
        with pytest.raises(TypeError, match="a weight is an int"):
            ring.insert("new", None)  # type: ignore[arg-type]

    def test_unknown_nodes(self, ring: HashRing[str]) -> None:
        for call in (ring.remove, ring.weight, ring.next, ring.prev):
            with pytest.raises(UnknownNode, match="no node 'x'"):
                call("x")
        assert isinstance(UnknownNode(), LookupError)

    @pytest.mark.parametrize("node", [5, None, b"a", ("a", 1)])
    def test_things_that_are_no_nodes(self, ring: HashRing[str], node: Any) -> None:
        for call in (ring.insert, ring.remove, ring.update, ring.get, ring.weight, ring.next, ring.__contains__):
            with pytest.raises(TypeError, match="a node is a str or has"):
                call(node)
        with pytest.raises(TypeError, match="a node is a str or has"):
            HashRing([node])

    def test_a_name_that_is_no_text_changes_nothing(self, ring: HashRing[str]) -> None:
        with pytest.raises(UnicodeEncodeError):
            ring.insert("\ud800")
        assert len(ring) == 4

    def test_a_token_scheme_that_gives_no_tokens(self) -> None:
        none = TokenScheme("none", 8, lambda _key: 0, lambda _name, _weight: [])
        with pytest.raises(ConfigError, match="must give tokens"):
            HashRing(["a"], tokens=none)

    def test_a_token_of_a_key_out_of_range_is_told_from_an_empty_ring(self) -> None:
        wide = TokenScheme("wide", 4, lambda _key: 1 << 20, SHA256.of_node)
        narrow = TokenScheme("narrow", 4, wide.of_key, lambda _name, _weight: [3])
        with pytest.raises(ConfigError, match="the token of a key"):
            HashRing(["a"], tokens=narrow).find("k")


def test_importing_it_loads_no_asyncio() -> None:
    code = "import sys, clusterkit.core.hash_ring; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
