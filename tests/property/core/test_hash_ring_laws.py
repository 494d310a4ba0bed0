"""The laws of the hash ring, for any names, weights and histories, collisions included.

The numbers are those of the study that the ring was designed from. Most laws are
tried with tokens of 8 and 12 bits, where nearly every token collides, as well as
with the real ones.
"""

import json
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterkit.core.bounded_load import BoundedLoad
from clusterkit.core.hash_ring import HashRing
from clusterkit.core.identity import NodeId
from clusterkit.core.tokens import SHA256, TokenScheme
from clusterkit.errors import EmptyRing

if TYPE_CHECKING:
    from collections.abc import Callable


def truncated(bits: int) -> TokenScheme:
    """SHA-256 cut to a few bits, 8 tokens per weight: collisions everywhere."""

    def short(data: bytes) -> int:
        return int.from_bytes(sha256(data).digest()[:8], "big") >> (64 - bits)

    return TokenScheme.hashing(f"sha256/{bits}", short, bits=bits, per_weight=8)


SCHEMES = [truncated(8), truncated(12), SHA256]
KEYS = [f"key {number}" for number in range(60)]
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
weights = st.integers(1, 4)
memberships = st.dictionaries(names, weights, max_size=7)
populated = st.dictionaries(names, weights, min_size=1, max_size=7)
schemes = st.sampled_from(SCHEMES)


def owners(ring: HashRing[Any]) -> list[Any]:
    return [ring.find(key) for key in KEYS]


def brute_order(ring: HashRing[str], members: dict[str, int]) -> list[tuple[int, str]]:
    return sorted((token, name) for name, weight in members.items() for token in ring.scheme.of_node(name, weight))


@settings(deadline=None)
@given(memberships, schemes, st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.binary(), max_size=20))
def test_1_the_owner_is_that_of_the_first_token_above_the_key(
    members: dict[str, int], scheme: TokenScheme, keys: list[str | bytes]
) -> None:
    ring = HashRing(members, tokens=scheme)
    order = brute_order(ring, members)
    assert list(ring) == order
    for key in keys:
        token = scheme.of_key(key)
        if order:
            assert ring.find(key) == next((name for at, name in order if at > token), order[0][1])
        else:
            with pytest.raises(EmptyRing):
                ring.find(key)


@settings(deadline=None)
@given(populated, schemes, st.data())
def test_2_the_state_is_a_function_of_the_members_alone(
    members: dict[str, int], scheme: TokenScheme, data: st.DataObject
) -> None:
    ring = HashRing[str](tokens=scheme)
    detours = data.draw(st.lists(st.tuples(names, weights), max_size=4))
    for name, weight in [*detours, *data.draw(st.permutations(list(members.items())))]:
        ring.update(name, weight)
    for name in ring.nodes:
        if name not in members:
            ring.remove(name)
    direct = HashRing(members, tokens=scheme)
    merged = HashRing[str](tokens=scheme)
    for name in data.draw(st.permutations(list(members))):
        merged.merge(HashRing({name: members[name]}, tokens=scheme))
    for other in (ring, merged):
        assert other == direct
        assert list(other) == list(direct)
        assert owners(other) == owners(direct)
        assert other.to_dict() == direct.to_dict()
        assert other.checksum() == direct.checksum()


@settings(deadline=None)
@given(populated, names, weights, weights, schemes)
def test_3_opposite_changes_undo_each_other(
    members: dict[str, int], name: str, weight: int, other_weight: int, scheme: TokenScheme
) -> None:
    members.pop(name, None)
    ring = HashRing(members, tokens=scheme)
    before = list(ring)
    ring.insert(name, weight)
    present = list(ring)
    ring.insert(name, other_weight)
    assert list(ring) == present
    ring.update(name, other_weight)
    ring.update(name, weight)
    assert list(ring) == present
    ring.remove(name)
    assert list(ring) == before


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_3_update_replaces_the_address(old_port: int, new_port: int) -> None:
    ring = HashRing([NodeId("a", "h", old_port), NodeId("b", "h", 1)])
    ring.update(NodeId("a", "h", new_port))
    assert {node.port for _, node in ring if node.name == "a"} == {new_port}


@settings(deadline=None)
@given(populated, names, weights, schemes)
def test_4_a_change_moves_only_the_keys_of_the_node_that_changed(
    members: dict[str, int], name: str, weight: int, scheme: TokenScheme
) -> None:
    members.pop(name, None)
    without, present = HashRing(members, tokens=scheme), HashRing({**members, name: weight}, tokens=scheme)
    heavier = HashRing({**members, name: weight + 1}, tokens=scheme)
    for key in KEYS:
        if present.find(key) != name and members:
            assert without.find(key) == present.find(key)
        if heavier.find(key) != name:
            assert present.find(key) == heavier.find(key)
    assert all(move.target == name for move in without.diff(present).moves)
    assert all(move.source == name for move in present.diff(without).moves)
    assert all(move.target == name for move in present.diff(heavier).moves)


@settings(deadline=None)
@given(populated, names, st.integers(1, 9), schemes)
def test_5_replicas(members: dict[str, int], name: str, n: int, scheme: TokenScheme) -> None:
    members.pop(name, None)
    ring, joined = HashRing(members, tokens=scheme), HashRing({**members, name: 1}, tokens=scheme)
    for key in KEYS[:20]:
        found = joined.range(key, n)
        assert len(found) == len(set(found)) == min(n, len(joined))
        assert found[0] == joined.find(key)
        assert joined.range(key, n + 1)[:n] == found
        if members:
            before = ring.range(key, n)
            assert set(found) - set(before) <= {name}
            survivors = [node for node in found if node != name]
            assert survivors == list(before[: len(survivors)])


@settings(deadline=None)
@given(populated, st.integers(1, 9), schemes)
def test_6_neighbours(members: dict[str, int], n: int, scheme: TokenScheme) -> None:
    ring = HashRing(members, tokens=scheme)
    order = brute_order(ring, members)
    for name in members:
        start = order.index((scheme.of_node(name, members[name])[0], name))
        after = [other for _, other in [*order[start:], *order[:start]]]
        before = [other for _, other in [*order[start::-1], *order[:start:-1]]]
        assert list(ring.next(name, n)) == list(dict.fromkeys(after))[1 : n + 1]
        assert list(ring.prev(name, n)) == list(dict.fromkeys(before))[1 : n + 1]
    for key in KEYS[:20]:
        below = [name for token, name in order if token < scheme.of_key(key)]
        backwards = [*below[::-1], *[name for _, name in order[len(below) :][::-1]]]
        assert list(ring.range_prev(key, n)) == list(dict.fromkeys(backwards))[:n]


nodes = st.builds(NodeId, st.sampled_from("abcd"), st.just("h"), st.integers(1, 2), st.integers(0, 1))
rings = st.dictionaries(nodes, weights, max_size=5).map(lambda members: HashRing(members, tokens=SCHEMES[0]))


@settings(deadline=None)
@given(rings, rings, rings)
def test_7_merge_and_intersect_are_a_lattice(
    one: HashRing[NodeId], two: HashRing[NodeId], three: HashRing[NodeId]
) -> None:
    assert one | two == two | one
    assert one & two == two & one
    assert (one | two) | three == one | (two | three)
    assert (one & two) & three == one & (two & three)
    assert one | one == one & one == one
    assert one | (one & two) == one & (one | two) == one
    for name, weight in (one | two).weights.items():
        assert weight == max(ring.weight(name) for ring in (one, two) if name in ring)
    for name, weight in (one & two).weights.items():
        assert weight == min(one.weight(name), two.weight(name))


@settings(deadline=None)
@given(memberships, schemes)
def test_9_plain_data_gives_the_ring_back(members: dict[str, int], scheme: TokenScheme) -> None:
    ring = HashRing(members, tokens=scheme)
    for through in (json.loads(json.dumps(ring.to_dict())), msgpack.unpackb(msgpack.packb(ring.to_dict()))):
        again = HashRing[str].from_dict(through, tokens=scheme)
        assert again == ring
        assert list(again) == list(ring)
    assert ring.size == sum(len(scheme.of_node(name, weight)) for name, weight in members.items())
    assert len(ring) == len(ring.nodes) == len(members)
    ring.weights.clear()
    assert ring.weights == members


@settings(deadline=None)
@given(populated, st.integers() | st.booleans() | st.floats() | st.text(max_size=2), schemes)
def test_10_any_count_and_weight_gives_an_answer_or_an_error(
    members: dict[str, int], wild: Any, scheme: TokenScheme
) -> None:
    ring = HashRing(members, tokens=scheme)
    before = list(ring)
    name = next(iter(members))
    calls: list[Callable[[], object]] = [
        lambda: ring.range("k", wild),
        lambda: ring.range_prev("k", wild),
        lambda: ring.next(name, wild),
        lambda: ring.prev(name, wild),
    ]
    for call in calls:
        if type(wild) is int and wild >= 1:
            call()
        else:
            with pytest.raises((TypeError, ValueError)):
                call()
    if not (type(wild) is int and 1 <= wild <= 1000):
        for change in (ring.insert, ring.update):
            with pytest.raises((TypeError, ValueError)):
                change(name, wild)
    assert list(ring) == before


steps = st.lists(
    st.tuples(st.sampled_from(["assign", "release", "release", "join", "leave"]), st.integers(0, 30)), max_size=60
)


@settings(deadline=None)
@given(populated, st.integers(0, 31), steps, st.fractions(1, Fraction(3, 2)))
def test_11_no_load_is_over_its_bound(
    members: dict[str, int], keys: int, history: list[tuple[str, int]], c: Fraction
) -> None:
    ring = HashRing(members, tokens=SCHEMES[1])
    loads = BoundedLoad(ring, c)
    for number in range(keys):
        loads.assign(f"key {number}")
    for step, number in history:
        if step == "assign":
            loads.assign(f"key {number}")
        elif step == "release" and f"key {number}" in loads:
            loads.release(f"key {number}")
        elif step == "join":
            ring.insert(f"joiner {number % 5}")
            loads.move_to(ring)
        elif step == "leave" and len(ring) > 1:
            ring.remove(ring.nodes[number % len(ring)])
            loads.move_to(ring)
        total_weight = sum(ring.weights.values())
        for name, load in loads.loads.items():
            assert load <= ceil(c * len(loads) * ring.weight(name) / total_weight)
        assert sum(loads.loads.values()) == len(loads)


@settings(deadline=None)
@given(memberships, memberships, schemes)
def test_diff_tells_what_each_key_does(before: dict[str, int], after: dict[str, int], scheme: TokenScheme) -> None:
    old, new = HashRing(before, tokens=scheme), HashRing(after, tokens=scheme)
    difference = old.diff(new)
    for one, two in pairwise(difference.moves):
        assert one.end <= two.start
        assert one.end < two.start or (one.source, one.target) != (two.source, two.target)
    for key in KEYS:
        token = scheme.of_key(key)
        pair = (old.find(key) if before else None, new.find(key) if after else None)
        found = [(move.source, move.target) for move in difference.moves if move.start <= token < move.end]
        assert found == ([pair] if pair[0] != pair[1] else [])
    assert 0 <= difference.fraction <= 1


@dataclass(frozen=True)
class Host:
    name: str
    zone: str | None


hosts = st.dictionaries(names, st.sampled_from([None, "east", "west", "north"]), min_size=1, max_size=9).map(
    lambda zones: [Host(name, zone) for name, zone in zones.items()]
)


@settings(deadline=None)
@given(hosts, names, st.sampled_from(["east", "west"]), schemes)
def test_replicas_are_spread_over_zones(members: list[Host], name: str, zone: str, scheme: TokenScheme) -> None:
    members = [host for host in members if host.name != name]
    joiner = Host(name, zone)
    ring, joined = HashRing(members, tokens=scheme), HashRing([*members, joiner], tokens=scheme)
    for key in KEYS[:10]:
        whole = joined.range(key, 99)
        assert sorted(host.name for host in whole) == sorted(host.name for host in joined.nodes)
        for n in range(1, len(joined) + 1):
            found = joined.range(key, n)
            assert found == whole[:n]
            assert found[0] == joined.find(key)
            per_zone = [sum(host.zone == other.zone for other in found) if host.zone else 1 for host in found]
            rest = {host.zone or host.name for host in joined.nodes if host not in found}
            used = {host.zone or host.name for host in found}
            assert max(per_zone) == 1 or not rest - used
            if members:
                assert set(found) - set(ring.range(key, n)) <= {joiner}
