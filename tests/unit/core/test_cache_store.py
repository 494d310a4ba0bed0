"""What one node holds of a cache: how long, how much, and never what an invalidation overtook."""

from collections.abc import Callable
from enum import StrEnum
from itertools import count
from typing import Any

import pytest

from clusterkit.core.cache_store import (
    MOST_KEY,
    CacheStore,
    Entry,
    Kind,
    Limits,
    checked_key,
    checked_seconds,
    entry_of,
    missing,
)
from clusterkit.core.invalidations import ALL, KEY, PREFIX, Invalidation, Invalidations
from clusterkit.core.lru import OVERHEAD
from clusterkit.errors import ConfigError, UnsupportedPayload

NAN, INF = float("nan"), float("inf")
NO_KEYS: list[object] = [None, 7, b"x", "", [], "x" * 1_025]


def store(**limits: Any) -> CacheStore:
    return CacheStore(Limits(**limits), Invalidations("me", 5, count(1).__next__), 0.0)


def keep(cache: CacheStore, key: str, value: Any, now: float = 0.0, **options: Any) -> bool:
    return cache.keep(key, entry_of(value), cache.log.seq, now, **options)


def keep_copy(cache: CacheStore, key: str, value: Any, now: float = 0.0) -> bool:
    return cache.keep_copy(key, entry_of(value), cache.log.seq, now)


def what(kind: int, text: str, number: int = 1) -> Invalidation:
    return Invalidation("a", 7, number, kind, text)


def invalidate(cache: CacheStore, invalidated: Invalidation, now: float = 0.0) -> None:
    assert cache.log.apply(invalidated, now)
    cache.forget(invalidated, now)


def held(entry: Entry | None) -> Any:
    return None if entry is None else entry.value


# -- limits


NO_NUMBERS: list[object] = [NAN, True, None, "1"]
POSITIVE, NOT_NEGATIVE = "a number of seconds, positive", "a number of seconds, not negative"


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("max_bytes", [0, -1, 1.5, *NO_NUMBERS], "a positive whole number"),
        ("ttl", [0, 0.0, -1, INF, NAN, True, "1"], POSITIVE),
        ("negative_ttl", [-0.1, INF, *NO_NUMBERS], NOT_NEGATIVE),
        ("stale_if_error", [-0.1, INF, *NO_NUMBERS], NOT_NEGATIVE),
        ("hot_ttl", [-0.1, INF, *NO_NUMBERS], NOT_NEGATIVE),
        ("hot_fraction", [-0.1, 1, 1.5, *NO_NUMBERS], "from 0 to under 1"),
        ("hot_rate", [0, -1, *NO_NUMBERS], "a positive number"),
    ],
)
def test_limits_that_cannot_be(name: str, values: list[Any], text: str) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=f"{name} is {value!r}: it must be {text}"):
            Limits(**{name: value})


def test_limits_that_can_be() -> None:
    Limits(max_bytes=1, ttl=0.001, negative_ttl=0, stale_if_error=0, hot_ttl=0, hot_fraction=0, hot_rate=INF)
    Limits(ttl=None, hot_fraction=0.999, hot_rate=1)


def test_seconds_are_positive_unless_nothing_may_stand_for_none() -> None:
    assert checked_seconds("ttl", 1) == 1
    assert checked_seconds("ttl", 0, or_none=True) == 0
    with pytest.raises(ConfigError, match="ttl is 0: it must be a number of seconds, positive"):
        checked_seconds("ttl", 0)
    with pytest.raises(ConfigError, match="ttl is -1: it must be a number of seconds, not negative"):
        checked_seconds("ttl", -1, or_none=True)


def test_copies_have_a_room_of_their_own_within_the_bound() -> None:
    cache = store(max_bytes=8 * (OVERHEAD + 11), hot_fraction=1 / 4)
    for each in "abcdefghijkl":
        keep(cache, each, bytes(10))
        keep_copy(cache, each.upper(), bytes(10))
    assert (len(cache.own), len(cache.copies)) == (6, 2)
    assert cache.own.size + cache.copies.size == 8 * (OVERHEAD + 11)


def test_without_a_fraction_there_are_no_copies() -> None:
    cache = store(hot_fraction=0)
    assert not keep_copy(cache, "x", b"1")
    assert cache.find_copy("x", 0.0) is None


# -- keys


@pytest.mark.parametrize("key", ["a", " ", "\0", "ä" * 512, "x" * MOST_KEY, "😀" * 256])
def test_what_is_a_key(key: str) -> None:
    assert checked_key(key) == key


class Shown(str):
    """A str that shows itself otherwise."""

    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


class Table(StrEnum):
    """Keys of a program."""

    USERS = "users"


@pytest.mark.parametrize(("key", "plain"), [(Shown("x"), "x"), (Table.USERS, "users")])
def test_a_key_of_a_kind_of_str_becomes_a_plain_one(key: str, plain: str) -> None:
    assert checked_key(key) == plain
    assert type(checked_key(key)) is str


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *[(each, "is no key of a cache: a str of 1 to 1024 bytes") for each in NO_KEYS],
        ("ä" * 513, r"a key of 1026 bytes, 'ä{20}'\.\.\.: a cache takes 1 to 1024"),
        ("😀" * 1_024, "a key of 4096 bytes"),
        ("\ud800", "no form in UTF-8"),
    ],
)
def test_what_is_none(key: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as failure:
        checked_key(key)
    assert len(str(failure.value)) < 200


# -- values


@pytest.mark.parametrize("value", [b"", b"x", "", "text", None, 0, 1.5, True, [], {}, {"a": [1, b"2", None]}])
def test_a_value_comes_back(value: object) -> None:
    entry = entry_of(value)
    assert (entry.value, entry.is_missing) == (value, False)
    assert type(entry.value) is type(value)
    assert entry.kind == (Kind.BYTES if type(value) is bytes else Kind.PACKED)
    assert Entry(entry.kind, entry.body).value == value


def test_each_reader_gets_a_copy_of_its_own() -> None:
    given = {"list": [1]}
    entry = entry_of(given)
    given["list"].append(2)
    entry.value["list"].append(3)
    assert entry.value == {"list": [1]}


def test_what_cannot_be_packed_is_said_with_its_path() -> None:
    with pytest.raises(UnsupportedPayload, match="value.*builtins.object"):
        entry_of({"a": object()})


def test_a_missing_one_has_a_kind_of_its_own() -> None:
    assert (missing().kind, missing().is_missing, missing().body) == (Kind.MISSING, True, b"")


def test_how_long_an_entry_has_to_live() -> None:
    assert Entry(Kind.BYTES, b"").left(1.0) is None
    assert Entry(Kind.BYTES, b"", 5.0).left(1.0) == 4.0
    assert Entry(Kind.BYTES, b"", 5.0).left(9.0) == 0.0


# -- own entries


def test_without_a_ttl_a_value_lives_on() -> None:
    cache = store()
    assert keep(cache, "x", b"1")
    assert held(cache.find("x", 1e9)) == b"1"
    assert cache.find("y", 0.0) is None


def test_with_a_ttl_it_lives_until_then() -> None:
    cache = store(ttl=5)
    assert keep(cache, "x", b"1", now=10.0)
    assert held(cache.find("x", 14.9)) == b"1"
    assert cache.find("x", 15.0) is None


def test_a_shorter_bound_holds_and_a_longer_one_changes_nothing() -> None:
    cache = store(ttl=5)
    assert keep(cache, "x", b"1", most=2.0)
    assert keep(cache, "y", b"1", most=7.0)
    assert cache.find("x", 2.0) is None
    assert held(cache.find("y", 4.9)) == b"1"
    assert cache.find("y", 5.0) is None


def test_a_value_that_came_with_less_time_to_live_keeps_it() -> None:
    cache = store(ttl=5)
    assert cache.keep("x", Entry(Kind.BYTES, b"1", 3.0), 0, 0.0)
    assert cache.find("x", 3.0) is None


def test_what_has_no_time_to_live_is_not_stored_and_ends_what_was_there() -> None:
    cache = store()
    keep(cache, "x", b"old")
    assert not keep(cache, "x", b"new", most=0.0)
    assert cache.find("x", 0.0) is None
    assert len(cache.own) == 0


def test_that_there_is_no_such_key_is_remembered_when_asked_for() -> None:
    cache, without = store(negative_ttl=2, ttl=9), store()
    assert cache.keep("x", missing(), 0, 0.0)
    found = cache.find("x", 1.9)
    assert found is not None
    assert found.is_missing
    assert cache.find("x", 2.0) is None
    keep(without, "x", b"old")
    assert not without.keep("x", missing(), 0, 0.0)
    assert without.find("x", 0.0) is None


def test_an_own_entry_takes_the_place_of_a_copy() -> None:
    cache = store()
    keep_copy(cache, "x", b"copy")
    assert keep(cache, "x", b"own")
    assert cache.find_copy("x", 0.0) is None


def test_one_over_the_room_is_not_stored() -> None:
    cache = store(max_bytes=1_000, hot_fraction=0)
    assert not keep(cache, "x", bytes(1_000))
    assert cache.find("x", 0.0) is None


# -- copies


def test_a_copy_lives_for_the_hot_ttl_and_counts_what_it_serves() -> None:
    cache = store(hot_ttl=3)
    assert keep_copy(cache, "x", b"1", now=1.0)
    for _ in range(4):
        assert held(cache.find_copy("x", 3.9)) == b"1"
    assert cache.find_copy("x", 4.0) is None
    assert cache.take_served("x") == 4
    assert cache.take_served("x") == 0
    assert cache.take_served("y") == 0
    assert cache.find("x", 1.0) is None


def test_a_copy_lives_no_longer_than_its_owner_said() -> None:
    cache = store(hot_ttl=3)
    assert cache.keep_copy("x", Entry(Kind.BYTES, b"1", 2.0), 0, 0.0)
    assert cache.find_copy("x", 2.0) is None


def test_no_copy_of_what_is_over_already() -> None:
    cache, without = store(), store(hot_ttl=0)
    assert not cache.keep_copy("x", Entry(Kind.BYTES, b"1", 2.0), 0, 2.0)
    assert not keep_copy(without, "x", b"1")
    assert len(cache.copies) == len(without.copies) == 0


def test_no_copy_of_what_is_missing() -> None:
    cache = store(negative_ttl=9)
    assert not cache.keep_copy("x", missing(), 0, 0.0)
    assert cache.find_copy("x", 0.0) is None


# -- stale ones


def test_a_stale_value_is_there_for_a_while_after_its_ttl() -> None:
    cache = store(ttl=5, stale_if_error=10)
    keep(cache, "x", b"1")
    assert cache.find("x", 5.0) is None
    assert held(cache.find_stale("x", 14.9)) == b"1"
    assert cache.find_stale("x", 15.0) is None
    assert cache.find_stale("y", 0.0) is None


def test_a_stale_copy_will_do_and_a_missing_one_will_not() -> None:
    cache = store(hot_ttl=5, stale_if_error=10, negative_ttl=1)
    keep_copy(cache, "x", b"copy")
    assert held(cache.find_stale("x", 14.9)) == b"copy"
    assert cache.keep("y", missing(), 0, 0.0)
    assert cache.find_stale("y", 2.0) is None


def test_without_stale_if_error_nothing_old_is_served() -> None:
    cache = store(ttl=5)
    keep(cache, "x", b"1")
    assert cache.find_stale("x", 5.0) is None


# -- hot keys


def asked(cache: CacheStore, entry: Entry, at: list[float], times: int = 1) -> list[bool]:
    return [cache.is_hot(entry, times, each) for each in at]


def test_a_key_is_hot_from_the_rate_on() -> None:
    cache, entry = store(hot_rate=3), entry_of(b"")
    assert asked(cache, entry, [100.0, 100.1, 100.2, 100.3, 100.4]) == [False, False, False, True, True]


def test_a_rate_is_of_a_second_at_least() -> None:
    cache, entry = store(hot_rate=3), entry_of(b"")
    assert asked(cache, entry, [100.0 + each for each in range(9)]) == [False] * 9


def test_a_hot_key_stays_so_for_the_next_window_and_cools_down() -> None:
    cache, entry = store(hot_rate=3), entry_of(b"")
    asked(cache, entry, [100.0, 100.1, 100.2, 100.3, 100.4])
    assert asked(cache, entry, [101.0, 101.5]) == [True, True]
    assert asked(cache, entry, [110.0]) == [False]


def test_what_copies_served_counts_so_that_a_key_stays_hot() -> None:
    cache, entry = store(hot_rate=3), entry_of(b"")
    cache.is_hot(entry, 1, 100.0)
    assert cache.is_hot(entry, 30, 110.0)
    assert not cache.is_hot(entry, 29, 120.0)


def test_a_key_that_is_loaded_again_is_as_hot_as_before() -> None:
    cache = store(hot_rate=3, ttl=5)
    keep(cache, "x", b"1", now=100.0)
    entry = cache.find("x", 100.0)
    assert entry is not None
    asked(cache, entry, [100.0, 100.1, 100.2, 100.3, 101.1])
    keep(cache, "x", b"2", now=106.0)
    again = cache.find("x", 106.0)
    assert again is not None
    assert again.rate == entry.rate > 3
    assert cache.is_hot(again, 15, 106.1)


def test_the_first_second_of_a_clock_is_as_any_other() -> None:
    cache, entry = store(hot_rate=3), entry_of(b"")
    assert asked(cache, entry, [0.0, 0.1, 0.2, 0.3, 0.4]) == [False, False, False, True, True]
    assert cache.is_hot(entry, 14, 5.0)


# -- invalidations


@pytest.mark.parametrize(
    ("invalidated", "left"),
    [
        (what(KEY, "user:1"), ["user:2", "x"]),
        (what(PREFIX, "user:"), ["x"]),
        (what(PREFIX, ""), []),
        (what(ALL, ""), []),
        (what(KEY, "user:"), ["user:1", "user:2", "x"]),
    ],
)
def test_what_is_invalidated_is_gone_own_copy_and_stale(invalidated: Invalidation, left: list[str]) -> None:
    cache = store(ttl=5, stale_if_error=100)
    for key in ("user:1", "user:2", "x"):
        keep(cache, key, b"own")
        keep_copy(cache, key, b"copy")
    invalidate(cache, invalidated, 1.0)
    assert list(cache.own) == list(cache.copies) == left
    assert [key for key in ("user:1", "user:2", "x") if cache.find_stale(key, 6.0)] == left


def test_nothing_is_older_than_when_all_was_forgotten() -> None:
    cache = store()
    keep(cache, "x", b"1")
    invalidate(cache, what(KEY, "x"), 1.0)
    invalidate(cache, what(PREFIX, "", 2), 2.0)
    assert cache.since == 0.0
    invalidate(cache, what(ALL, "", 3), 3.0)
    assert cache.since == 3.0
    cache.forget_all(4.0)
    assert cache.since == 4.0


def test_all_can_be_forgotten_own_and_copies() -> None:
    cache = store()
    keep(cache, "x", b"own")
    keep_copy(cache, "y", b"copy")
    cache.forget_all(1.0)
    assert list(cache.own) == list(cache.copies) == []
    assert cache.own.size == cache.copies.size == 0
    assert keep(cache, "x", b"new")


Storing = Callable[[CacheStore, int], bool]
Overtaking = Callable[[CacheStore], None]


def own(cache: CacheStore, began: int) -> bool:
    return cache.keep("x", entry_of(b"old"), began, 0.0)


def copied(cache: CacheStore, began: int) -> bool:
    return cache.keep_copy("x", entry_of(b"old"), began, 0.0)


def absent(cache: CacheStore, began: int) -> bool:
    return cache.keep("x", missing(), began, 0.0)


OVERTAKING: list[Overtaking] = [
    lambda cache: invalidate(cache, what(KEY, "x")),
    lambda cache: invalidate(cache, what(PREFIX, "x")),
    lambda cache: invalidate(cache, what(ALL, "")),
    lambda cache: cache.forget_all(0.0),
]


@pytest.mark.parametrize("storing", [own, copied, absent])
@pytest.mark.parametrize("overtaking", OVERTAKING, ids=["key", "prefix", "all", "forgotten"])
def test_nothing_is_stored_that_an_invalidation_overtook(storing: Storing, overtaking: Overtaking) -> None:
    cache = store(negative_ttl=9)
    began = cache.log.seq
    overtaking(cache)
    assert not storing(cache, began)
    assert cache.find("x", 0.0) is None
    assert cache.find_copy("x", 0.0) is None
    assert cache.find_stale("x", 0.0) is None
    assert storing(cache, cache.log.seq)


def test_what_was_overtaken_leaves_a_newer_value_alone() -> None:
    cache = store()
    began = cache.log.seq
    invalidate(cache, what(KEY, "x"))
    keep(cache, "x", b"new")
    assert not own(cache, began)
    assert held(cache.find("x", 0.0)) == b"new"
