"""Who owns a key: the same everywhere, down members too, unless only those that can be used are asked for."""

from dataclasses import replace

import pytest

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member, State
from clusterkit.errors import EmptyRing
from clusterkit.ring.key_ring import KeyRing

KEYS = [f"key {number}" for number in range(50)]


class Members(dict[str, Member]):
    """Members by name, and the ring of keys that follows them."""

    def __init__(self, *names: str) -> None:
        self.keys_of = KeyRing(self.get)
        for number, name in enumerate(names):
            self.put(Member(NodeId(name, f"10.0.0.{number}", 7022, 5)))

    def put(self, member: Member) -> None:
        self[member.name] = member
        self.keys_of.follow(member.name)

    def drop(self, name: str) -> None:
        del self[name]
        self.keys_of.follow(name)


def test_it_is_the_hash_ring_of_the_members_and_their_weights() -> None:
    members = Members("a", "b", "c")
    members.put(replace(members["b"], weight=3))
    hashes: HashRing[NodeId] = HashRing()
    for member in members.values():
        hashes.insert(member.node, member.weight)
    assert [members.keys_of.find(key, alive=False) for key in KEYS] == [hashes.find(key) for key in KEYS]
    assert members.keys_of.range("key", 2, alive=False) == hashes.range("key", 2)


def test_it_follows_who_comes_and_goes() -> None:
    members = Members("a", "b")
    assert set(members.keys_of.hashes.weights) == {"a", "b"}
    members.drop("b")
    members.put(Member(NodeId("c", "10.0.0.9", 7022, 5), weight=2))
    members.keys_of.follow("never there")
    assert dict(members.keys_of.hashes.weights) == {"a": 1, "c": 2}


def test_many_changes_at_once_come_to_the_same_ring_and_to_what_moved() -> None:
    members = Members("a", "b")
    members.keys_of.note()
    for number in range(40):
        members.put(Member(NodeId(f"n{number}", "10.0.1.1", 1024 + number, 5), weight=1 + number % 3))
    members.drop("b")
    hashes: HashRing[NodeId] = HashRing()
    for member in members.values():
        hashes.insert(member.node, member.weight)
    assert [members.keys_of.find(key, alive=False) for key in KEYS] == [hashes.find(key) for key in KEYS]
    assert 0.9 < members.keys_of.moved() < 1.0
    assert members.keys_of.moved() == 0.0


def test_a_member_that_is_down_keeps_its_keys_and_with_alive_the_next_is_chosen() -> None:
    members = Members("a", "b", "c")
    order = members.keys_of.range("key", 3, alive=False)
    first = order[0].name
    members.put(replace(members[first], state=State.DOWN))
    assert members.keys_of.find("key", alive=False).name == first
    assert members.keys_of.find("key", alive=True) == order[1]
    assert members.keys_of.range("key", 3, alive=True) == order[1:]
    members.put(replace(members[order[1].name], ready=False))
    members.put(replace(members[order[2].name], state=State.SUSPECT))
    assert members.keys_of.find("key", alive=True) == order[2]


def test_where_nobody_can_be_used_the_ring_is_empty() -> None:
    members = Members("a")
    members.put(replace(members["a"], ready=False))
    with pytest.raises(EmptyRing, match="alive and ready"):
        members.keys_of.find("key", alive=True)
    assert members.keys_of.range("key", 3, alive=True) == ()
    members.drop("a")
    with pytest.raises(EmptyRing):
        members.keys_of.find("key", alive=False)


def test_one_that_is_gone_and_not_followed_yet_is_not_chosen() -> None:
    members = Members("a", "b")
    assert members.keys_of.hashes
    del members["a"]
    assert members.keys_of.find("key", alive=True).name == "b"
