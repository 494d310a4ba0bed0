"""Law 8: whatever is done to a ring, in any order, its tables are those of a ring made anew.

A machine of random changes runs beside a model that is a dict and a sort, with
tokens of 8 and of 12 bits. The look-ups between the changes fill what the ring
keeps, so that anything not dropped in time would show.
"""

from hashlib import sha256
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.tokens import TokenScheme

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = [f"key {number}" for number in range(12)]
some_name = st.sampled_from([f"n{number}" for number in range(9)])
some_weight = st.integers(1, 5)
some_key = st.sampled_from(KEYS)


def truncated(bits: int) -> TokenScheme:
    def short(data: bytes) -> int:
        return int.from_bytes(sha256(data).digest()[:8], "big") >> (64 - bits)

    return TokenScheme.hashing(f"sha256/{bits}", short, bits=bits, per_weight=16)


class RingMachine(RuleBasedStateMachine):
    """A ring, and a dict that says what it should be."""

    bits = 8

    @initialize(members=st.dictionaries(some_name, some_weight, max_size=4))
    def start(self, members: dict[str, int]) -> None:
        self.scheme = truncated(self.bits)
        self.members = dict(members)
        self.ring = HashRing(members, tokens=self.scheme)
        self.open: list[tuple[Iterator[tuple[int, str]], list[tuple[int, str]]]] = []

    def order(self) -> list[tuple[int, str]]:
        return sorted(
            (token, name) for name, weight in self.members.items() for token in self.scheme.of_node(name, weight)
        )

    def walk(self, key: str) -> list[str]:
        order = self.order()
        start = sum(token <= self.scheme.of_key(key) for token, _ in order)
        return list(dict.fromkeys(name for _, name in [*order[start:], *order[:start]]))

    @rule(name=some_name, weight=some_weight)
    def insert(self, name: str, weight: int) -> None:
        self.ring.insert(name, weight)
        self.members.setdefault(name, weight)

    @rule(name=some_name, weight=some_weight)
    def update(self, name: str, weight: int) -> None:
        self.ring.update(name, weight)
        self.members[name] = weight

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.members)))
        self.ring.remove(name)
        del self.members[name]

    @rule(members=st.dictionaries(some_name, some_weight, max_size=3))
    def merge(self, members: dict[str, int]) -> None:
        self.ring.merge(HashRing(members, tokens=self.scheme))
        for name, weight in members.items():
            self.members[name] = max(weight, self.members.get(name, 0))

    @rule(members=st.dictionaries(some_name, some_weight, min_size=3))
    def intersect(self, members: dict[str, int]) -> None:
        self.ring.intersect(HashRing(members, tokens=self.scheme))
        self.members = {name: min(weight, members[name]) for name, weight in self.members.items() if name in members}

    @rule()
    def go_on_with_a_copy(self) -> None:
        self.ring = self.ring.copy()

    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def begin_to_iterate(self) -> None:
        self.open.append((iter(self.ring), self.order()))

    @precondition(lambda self: self.open)
    @rule()
    def finish_iterating(self) -> None:
        iterator, expected = self.open.pop(0)
        assert list(iterator) == expected

    @precondition(lambda self: self.members)
    @rule(key=some_key, n=st.integers(1, 10))
    def ask_for_replicas(self, key: str, n: int) -> None:
        assert list(self.ring.range(key, n)) == self.walk(key)[:n]

    @invariant()
    def the_circle_is_that_of_the_model(self) -> None:
        assert list(self.ring) == self.order()
        assert self.ring.weights == self.members

    @invariant()
    def every_owner_is_that_of_the_model(self) -> None:
        for key in KEYS if self.members else []:
            walk = self.walk(key)
            assert self.ring.find(key) == walk[0]
            assert list(self.ring.walk(key)) == walk

    @invariant()
    def what_is_kept_is_what_a_new_ring_finds(self) -> None:
        anew = HashRing(self.members, tokens=self.scheme)
        assert self.ring == anew
        if self.members:
            assert [self.ring.range(key, 2) for key in KEYS] == [anew.range(key, 2) for key in KEYS]


class WiderRingMachine(RingMachine):
    """The same with tokens of 12 bits: some collide."""

    bits = 12


TestRingOf8Bits = RingMachine.TestCase
TestRingOf12Bits = WiderRingMachine.TestCase
TestRingOf8Bits.settings = TestRingOf12Bits.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
