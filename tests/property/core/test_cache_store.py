"""A source whose every change is invalidated, and a store before it: what is served is what the source says."""

from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clusterkit.core.cache_store import CacheStore, Entry, Limits, checked_key, entry_of, missing
from clusterkit.core.invalidations import ALL, KEY, PREFIX, Invalidation, Invalidations
from clusterkit.core.lru import OVERHEAD
from clusterkit.errors import ConfigError

KEYS = ["a", "aa", "ab", "b"]
LIMITS = Limits(
    max_bytes=5 * (OVERHEAD + 20),
    ttl=10.0,
    negative_ttl=2.0,
    stale_if_error=5.0,
    hot_ttl=3.0,
    hot_fraction=0.4,
    hot_rate=5.0,
)


@dataclass
class Fetch:
    """A fetch that has read the source, or a node that has, and has not come back yet."""

    key: str
    began: int
    version: int
    size: int

    @property
    def entry(self) -> Entry:
        return missing() if self.size == 0 else entry_of([self.version, bytes(self.size)])


class StoreMachine(RuleBasedStateMachine):
    """Versions count the changes of each key; each change is invalidated, here or by a node that tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.numbers = count(1)
        self.store = CacheStore(LIMITS, Invalidations("me", 5, self.numbers.__next__, keep=30.0, most=2), self.now)
        self.source = dict.fromkeys(KEYS, 0)
        self.fetches: list[Fetch] = []
        self.stored_at: dict[tuple[bool, str], float] = {}

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 2.5, 3.0, 9.0, 14.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from([0, 1, 10, 100, 2_000]))
    def begin(self, key: str, size: int) -> None:
        self.fetches.append(Fetch(key, self.store.log.seq, self.source[key], size))

    def take(self, data: st.DataObject) -> Fetch:
        return self.fetches.pop(data.draw(st.integers(0, len(self.fetches) - 1)))

    @precondition(lambda self: self.fetches)
    @rule(data=st.data(), most=st.none() | st.sampled_from([0.0, 1.0, 50.0]))
    def keep(self, data: st.DataObject, most: float | None) -> None:
        fetch = self.take(data)
        entry = fetch.entry
        kept = self.store.keep(fetch.key, entry, fetch.began, self.now, most=most)
        assert kept == (self.store.own.peek(fetch.key) is entry)
        if kept:
            assert fetch.version == self.source[fetch.key]
            assert self.now < entry.until <= self.now + (LIMITS.negative_ttl if entry.is_missing else 10.0)
            assert self.store.copies.peek(fetch.key) is None
            self.stored_at[True, fetch.key] = self.now

    @precondition(lambda self: self.fetches)
    @rule(data=st.data())
    def keep_copy(self, data: st.DataObject) -> None:
        fetch = self.take(data)
        entry = fetch.entry
        if self.store.keep_copy(fetch.key, entry, fetch.began, self.now):
            assert fetch.version == self.source[fetch.key]
            assert not entry.is_missing
            assert self.now < entry.until <= self.now + LIMITS.hot_ttl
            self.stored_at[False, fetch.key] = self.now

    @rule(what=st.sampled_from([(KEY, key) for key in KEYS] + [(PREFIX, "a"), (PREFIX, ""), (ALL, "")]))
    def change(self, what: tuple[int, str]) -> None:
        self.heed(self.store.log.make(*what, self.now))

    @rule(what=st.sampled_from([(KEY, "a"), (PREFIX, "a"), (ALL, "")]))
    def hear(self, what: tuple[int, str]) -> None:
        told = Invalidation("other", 7, next(self.numbers), *what)
        assert self.store.log.apply(told, self.now)
        self.heed(told)

    def heed(self, what: Invalidation) -> None:
        for key in KEYS:
            self.source[key] += what.covers(key)
        self.store.forget(what, self.now)
        if what.kind == ALL:
            assert self.store.since == self.now

    @rule()
    def move_to_another_ring(self) -> None:
        self.source = {key: version + 1 for key, version in self.source.items()}
        self.store.forget_all(self.now)
        assert self.store.since == self.now

    def check_version(self, key: str, entry: Entry | None) -> None:
        if entry is not None and not entry.is_missing:
            assert entry.value[0] == self.source[key]

    @invariant()
    def nothing_is_served_that_an_invalidation_overtook(self) -> None:
        for key in KEYS:
            for entry in (self.store.own.peek(key), self.store.copies.peek(key)):
                self.check_version(key, entry)
            self.check_version(key, self.store.find_stale(key, self.now))

    @invariant()
    def nothing_is_served_past_its_time(self) -> None:
        for key in KEYS:
            if (own := self.store.find(key, self.now)) is not None:
                assert self.now - self.stored_at[True, key] < (LIMITS.negative_ttl if own.is_missing else 10.0)
            if self.store.find_copy(key, self.now) is not None:
                assert self.now - self.stored_at[False, key] < LIMITS.hot_ttl
            if self.store.find_stale(key, self.now) is not None:
                assert self.now - max(self.stored_at.get((own, key), 0.0) for own in (True, False)) < 15.0

    @invariant()
    def it_holds_no_more_than_its_bound(self) -> None:
        for room in (self.store.own, self.store.copies):
            assert room.size == sum(
                len(entry.body) + len(key) + OVERHEAD for key in room if (entry := room.peek(key)) is not None
            )
        assert self.store.own.size + self.store.copies.size <= LIMITS.max_bytes

    @rule(key=st.sampled_from(KEYS), times=st.integers(0, 9))
    def be_asked(self, key: str, times: int) -> None:
        entry = self.store.find(key, self.now)
        if entry is not None:
            assert self.store.is_hot(entry, times, self.now) in (True, False)
            assert entry.rate >= 0

    @rule(key=st.sampled_from(KEYS))
    def tell_what_copies_served(self, key: str) -> None:
        assert self.store.take_served(key) >= 0
        assert self.store.take_served(key) == 0


TestStore = StoreMachine.TestCase


surrogates = st.text(st.characters(categories=["Cs", "Lu", "So"]), max_size=5)
long = st.builds(lambda part, times: part * times, st.text("aä😀\n", max_size=3), st.integers(300, 1_100))


@given(st.text() | surrogates | long)
def test_a_text_is_a_key_or_refused_with_a_short_text(text: str) -> None:
    if 1 <= len(text.encode(errors="surrogatepass")) <= 1_024 and not any("\ud800" <= each < "\ue000" for each in text):
        assert checked_key(text) == text
    else:
        with pytest.raises(ConfigError) as failure:
            checked_key(text)
        assert len(str(failure.value)) < 300
