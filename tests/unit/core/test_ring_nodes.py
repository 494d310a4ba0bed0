"""What a hash ring takes for a node."""

from dataclasses import dataclass

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.ring_nodes import node_id, rank, zone_of


@dataclass(frozen=True)
class Machine:
    id: str
    zone: str | None = None
    name: str = "ignored"


def test_the_id_of_a_str_is_the_str_itself() -> None:
    assert node_id("a") == "a"


def test_the_id_of_a_value_is_its_id_then_its_name() -> None:
    assert node_id(Machine("m1")) == "m1"
    assert node_id(NodeId("n1", "127.0.0.1", 1)) == "n1"


@pytest.mark.parametrize("thing", [5, None, b"a", 1.5, ("a", 1), object()])
def test_a_thing_without_a_str_id_is_no_node(thing: object) -> None:
    with pytest.raises(TypeError, match="a node is a str or has a str"):
        node_id(thing)


def test_zones() -> None:
    assert zone_of("a") is None
    assert zone_of(Machine("m")) is None
    assert zone_of(Machine("m", zone="east")) == "east"


def test_a_later_incarnation_outranks_any_address() -> None:
    early, late = NodeId("a", "z", 9, incarnation=1), NodeId("a", "a", 1, incarnation=2)
    assert rank(early) < rank(late)


def test_of_one_incarnation_the_repr_decides() -> None:
    assert rank(NodeId("a", "h", 1)) < rank(NodeId("a", "h", 2))
