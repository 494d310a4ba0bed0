"""Bounded loads: the bound itself, and what moves when keys and nodes come and go."""

from fractions import Fraction
from math import ceil, inf, nan
from typing import Any

import pytest

from clusterkit.core.bounded_load import BoundedLoad
from clusterkit.core.hash_ring import HashRing
from clusterkit.errors import ConfigError, EmptyRing, UnknownNode

KEYS = [f"key {number}" for number in range(200)]


def within_bounds(loads: BoundedLoad[str]) -> bool:
    return all(load <= loads.capacity(name) for name, load in loads.loads.items())


def test_every_step_keeps_the_bound() -> None:
    loads = BoundedLoad(HashRing(["a", "b", "c"]), c=1.1)
    for total, key in enumerate(KEYS, 1):
        node = loads.assign(key)
        assert max(loads.loads.values()) <= ceil(Fraction(1.1) * total / 3)
        assert loads.assign(key) == node
        assert len(loads) == total
        assert key in loads


def test_c_of_one_is_an_even_split() -> None:
    loads = BoundedLoad(HashRing(["a", "b", "c", "d"]), c=1)
    for key in KEYS:
        loads.assign(key)
    assert loads.loads == {"a": 50, "b": 50, "c": 50, "d": 50}


def test_a_large_c_is_plain_hashing() -> None:
    ring = HashRing(["a", "b", "c"])
    loads = BoundedLoad(ring, c=1000.0)
    assert [loads.assign(key) for key in KEYS] == [ring.find(key) for key in KEYS]


def test_capacity_follows_weight() -> None:
    loads = BoundedLoad(HashRing({"a": 3, "b": 1}), c=1)
    for key in KEYS:
        loads.assign(key)
    assert loads.loads == {"a": 150, "b": 50}
    assert (loads.capacity("a"), loads.capacity("b")) == (150, 50)


def test_releasing_keeps_the_bound_by_moving_keys_on() -> None:
    loads = BoundedLoad(HashRing(["a", "b"]), c=1)
    for key in KEYS:
        loads.assign(key)
    of_a = [key for key in KEYS if loads.assign(key) == "a"]
    for key in of_a:
        loads.release(key)
        assert within_bounds(loads)
    assert loads.loads == {"a": 50, "b": 50}
    with pytest.raises(KeyError):
        loads.release("never assigned")


def test_a_node_that_leaves_hands_its_keys_on() -> None:
    ring = HashRing(["a", "b", "c"])
    loads = BoundedLoad(ring, c=1.25)
    before = {key: loads.assign(key) for key in KEYS}
    ring.remove("b")
    assert loads.loads["b"] > 0  # the ring was copied: nothing moves unasked
    moved = loads.move_to(ring)
    after = {key: loads.assign(key) for key in KEYS}
    assert moved == {key: (before[key], after[key]) for key in KEYS if before[key] != after[key]}
    assert {key for key in KEYS if before[key] == "b"} <= set(moved)
    assert within_bounds(loads)
    assert len(loads) == len(KEYS)


def test_a_node_that_joins_takes_what_is_over() -> None:
    ring = HashRing(["a", "b"])
    loads = BoundedLoad(ring, c=1)
    for key in KEYS:
        loads.assign(key)
    ring.insert("c")
    moved = loads.move_to(ring)
    assert sorted(loads.loads.values()) == [66, 67, 67]
    assert {new for _, new in moved.values()} >= {"c"}


def test_the_same_history_gives_the_same_loads() -> None:
    def history() -> list[str]:
        loads = BoundedLoad(HashRing(["a", "b", "c"]), c=1.05)
        for key in KEYS:
            loads.assign(key)
        for key in KEYS[::3]:
            loads.release(key)
        return [loads.assign(key) for key in KEYS]

    assert history() == history()


def test_an_empty_ring() -> None:
    loads = BoundedLoad(HashRing[str]())
    with pytest.raises(EmptyRing):
        loads.assign("k")
    assert loads.loads == {}
    assert len(loads) == 0
    assert "k" not in loads
    assert loads.move_to(HashRing(["a"])) == {}
    assert loads.assign("k") == "a"
    with pytest.raises(EmptyRing, match="1 keys are assigned"):
        loads.move_to(HashRing())
    assert loads.loads == {"a": 1}
    loads.release("k")
    assert loads.move_to(HashRing()) == {}


def test_bad_input() -> None:
    ring = HashRing(["a"])
    for c in (0.99, 0, -1, nan, inf):
        with pytest.raises(ConfigError, match="c is finite and at least 1"):
            BoundedLoad(ring, c)
    wrong: Any
    for wrong in ("1", None, True):
        with pytest.raises(TypeError, match="c is a number"):
            BoundedLoad(ring, wrong)
    for wrong in (1, None, bytearray(b"k")):
        with pytest.raises(TypeError):
            BoundedLoad(ring).assign(wrong)
    with pytest.raises(UnknownNode):
        BoundedLoad(ring).capacity("x")
