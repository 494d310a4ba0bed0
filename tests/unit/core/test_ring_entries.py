"""The entries of a hash ring: what is accepted, and the lattice of merging."""

from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.ring_entries import checked_count, checked_weight, describe, gather, join, meet, read
from clusterkit.errors import ConfigError

OLD, NEW = NodeId("a", "h", 1, incarnation=1), NodeId("a", "h", 2, incarnation=2)


def test_gather_a_list_and_a_mapping() -> None:
    assert gather(["b", "a"]) == {"b": ("b", 1), "a": ("a", 1)}
    assert gather({"a": 3}) == {"a": ("a", 3)}


def test_of_two_nodes_with_one_id_the_first_is_gathered() -> None:
    assert gather([OLD, NEW]) == {"a": (OLD, 1)}


@pytest.mark.parametrize("nodes", ["abc", b"abc"])
def test_one_string_is_not_a_list_of_nodes(nodes: Any) -> None:
    with pytest.raises(TypeError, match="nodes are a list or a mapping"):
        gather(nodes)


def test_join_and_meet_pick_node_and_weight_apart() -> None:
    one, two = {"a": (OLD, 5)}, {"a": (NEW, 2)}
    assert join(one, two) == join(two, one) == {"a": (NEW, 5)}
    assert meet(one, two) == meet(two, one) == {"a": (OLD, 2)}


def test_join_keeps_what_one_has_and_meet_drops_it() -> None:
    one, two = gather(["a", "b"]), gather(["b", "c"])
    assert join(one, two) == gather(["a", "b", "c"])
    assert meet(one, two) == gather(["b"])


def test_describe_and_read() -> None:
    entries = gather({"b": 2, "a": 1})
    assert describe(entries) == [["a", 1], ["b", 2]]
    assert read(describe(entries)) == entries
    assert read([("a", 1)]) == gather(["a"])


@pytest.mark.parametrize(
    "description",
    [5, None, [1], ["a"], ["ab"], [["a"]], [["a", 1, 2]], [[1, 1]], [["a", 0]], [["a", True]], [["a", 1.0]]],
)
def test_what_describes_no_entries_is_refused(description: Any) -> None:
    with pytest.raises(ConfigError, match="describes no nodes"):
        read(description)


def test_an_id_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'a' twice"):
        read([["a", 1], ["a", 2]])


@pytest.mark.parametrize("weight", [1, 2, 1000])
def test_weights(weight: int) -> None:
    assert checked_weight(weight) == weight


@pytest.mark.parametrize("weight", [0, -1, -(2**70), 1001, 2**70])
def test_weights_out_of_range(weight: int) -> None:
    with pytest.raises(ConfigError, match="a weight is an int from 1 to 1000, not"):
        checked_weight(weight)


@pytest.mark.parametrize("weight", [True, False, 1.0, 2.5, float("nan"), float("inf"), "1", None, b"1", [1]])
def test_weights_that_are_no_ints(weight: Any) -> None:
    with pytest.raises(TypeError, match="a weight is an int from 1 to 1000, not"):
        checked_weight(weight)


def test_counts() -> None:
    assert checked_count(10**9) == 10**9
    with pytest.raises(ConfigError, match="a number of nodes is an int from 1, not 0"):
        checked_count(0)
    with pytest.raises(TypeError, match="a number of nodes is an int from 1, not bool"):
        checked_count(True)
