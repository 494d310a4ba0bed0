"""Whatever is done to it, the map holds what a plain list would that is cut at its bound."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clusterkit.core.lru import OVERHEAD, Lru

MOST = 4 * OVERHEAD
keys = st.sampled_from(["", "a", "b", "c", "long" * 10, "käse"])
sizes = st.integers(0, 60) | st.integers(0, MOST + 1)


class LruMachine(RuleBasedStateMachine):
    """Beside it a plain list of what was used when, the newest last."""

    def __init__(self) -> None:
        super().__init__()
        self.lru = Lru[int](MOST)
        self.plain: list[tuple[str, int, int]] = []
        self.pushed_out = 0
        self.count = 0

    def stands(self, key: str) -> tuple[str, int, int] | None:
        return next((entry for entry in self.plain if entry[0] == key), None)

    @rule(key=keys, size=sizes)
    def put(self, key: str, size: int) -> None:
        self.count += 1
        took = size + (len(key) if key.isascii() else 4 * len(key)) + OVERHEAD
        self.plain = [entry for entry in self.plain if entry[0] != key]
        assert self.lru.put(key, self.count, size) == (took <= MOST)
        if took <= MOST:
            self.plain.append((key, self.count, took))
        while sum(entry[2] for entry in self.plain) > MOST:
            self.plain.pop(0)
            self.pushed_out += 1

    @rule(key=keys)
    def get(self, key: str) -> None:
        entry = self.stands(key)
        assert self.lru.get(key) == (entry and entry[1])
        if entry is not None:
            self.plain.remove(entry)
            self.plain.append(entry)

    @rule(key=keys)
    def peek(self, key: str) -> None:
        entry = self.stands(key)
        assert self.lru.peek(key) == (entry and entry[1])

    @rule(key=keys)
    def drop(self, key: str) -> None:
        entry = self.stands(key)
        assert self.lru.drop(key) == (entry is not None)
        if entry is not None:
            self.plain.remove(entry)

    @precondition(lambda self: len(self.plain) > 2)
    @rule()
    def clear(self) -> None:
        self.lru.clear()
        self.plain = []

    @invariant()
    def the_same_keys_stand_in_the_order_of_their_use(self) -> None:
        assert list(self.lru) == [key for key, _, _ in self.plain]
        assert list(self.lru.newest()) == [key for key, _, _ in reversed(self.plain)]
        assert len(self.lru) == len(self.plain)

    @invariant()
    def its_size_is_exact_and_never_over_the_bound(self) -> None:
        assert self.lru.size == sum(took for _, _, took in self.plain) <= MOST
        assert self.lru.evicted == self.pushed_out


TestLru = LruMachine.TestCase
