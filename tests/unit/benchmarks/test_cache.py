"""`benchmarks.cache`: keys, callers, turns and ratios are what the table says they are."""

import asyncio
import doctest
import importlib
import shutil

import pytest

from benchmarks.cache_rivals import cache_aside, redis_server
from benchmarks.cache_rounds import (
    CALLERS,
    KEYS,
    PEER_TARGET,
    SIZES,
    Contest,
    Contestant,
    Source,
    in_turn,
    key_of,
    measure,
    measure_new,
    pairs_of,
    place,
    rows_of,
    share_of,
    show,
    spread,
)
from benchmarks.side_by_side import Turns


@pytest.mark.parametrize("name", ["cache_rivals", "cache_rounds"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.mark.parametrize("callers", CALLERS)
def test_no_two_callers_share_a_key(callers: int) -> None:
    keys = [key_of(SIZES[0], number) for number in range(KEYS)]
    shares = [share_of(keys, at, callers) for at in range(callers)]
    flat = [key for share in shares for key in share]
    assert len(flat) == len(set(flat))
    assert len({len(share) for share in shares}) == 1


async def test_the_source_counts_and_gives_what_the_key_says() -> None:
    source = Source()
    found = [await source.load(key_of(size, 1)) for size in SIZES]
    assert (source.loads, [len(each) for each in found]) == (len(SIZES), list(SIZES))


async def test_each_caller_goes_through_its_own_keys() -> None:
    asked: list[str] = []

    async def get(key: str) -> None:
        asked.append(key)
        await asyncio.sleep(0)

    done, seconds = await measure(get, [["a", "b"], ["c", "d"]], 0.001)
    assert done == len(asked) > 0
    assert {asked.count(key) > 0 for key in "abcd"} == {True}
    assert seconds * done >= 0.001


async def test_no_new_key_is_asked_for_twice() -> None:
    asked: list[str] = []

    async def get(key: str) -> None:
        asked.append(key)
        await asyncio.sleep(0)

    done, _ = await measure_new(get, (str(number) for number in range(1_000_000)), 3, 0.001)
    assert done == len(asked) == len(set(asked)) > 0


async def test_a_contestant_that_is_cleared_gets_new_keys_in_each_round() -> None:
    asked: list[str] = []
    cleared: list[int] = []

    async def get(key: str) -> None:
        asked.append(key)
        await asyncio.sleep(0)

    async def clear() -> None:
        cleared.append(len(asked))

    contest = Contest({"load": Contestant(get, new=True, clear=clear)})
    for number in range(3):
        await contest.take("load", 2, SIZES[0], 0.001, counts=number > 0)
    assert len(asked) == len(set(asked)) == contest.counts["load"]
    assert len(cleared) == 3
    assert len(contest.turns.seconds[place("load", 2, SIZES[0])]) == 2
    assert len(contest.cpu.seconds[place("load", 2, SIZES[0])]) == 2


async def test_cache_aside_loads_once() -> None:
    class Cache:
        def __init__(self) -> None:
            self.held: dict[str, bytes] = {}

        async def get(self, key: str) -> bytes | None:
            return self.held.get(key)

        async def set(self, key: str, value: bytes) -> None:
            self.held[key] = value

    source = Source()
    get = cache_aside(Cache(), source)
    first, second = await get(key_of(100, 1)), await get(key_of(100, 1))
    assert (first == second, source.loads) == (True, 1)


def test_a_round_measures_each_once_and_the_next_one_backwards() -> None:
    pairs = pairs_of(SIZES)
    forwards, backwards = list(in_turn(pairs, 0)), list(in_turn(pairs, 1))
    assert forwards == backwards[::-1]
    assert len(forwards) == len(set(forwards))
    assert {(each, pair.callers, pair.size) for pair in pairs for each in (pair.ours, pair.rival)} == set(forwards)


def test_rivals_stand_next_to_each_other() -> None:
    order = list(in_turn(pairs_of(SIZES), 0))
    for pair in pairs_of(SIZES):
        apart = abs(
            order.index((pair.ours, pair.callers, pair.size)) - order.index((pair.rival, pair.callers, pair.size))
        )
        assert apart <= 2


def test_ratios_are_of_one_round_each() -> None:
    found = spread([2.0, 1.0, 4.0], [8.0, 3.0, 20.0])
    assert (found.middle, found.least, found.most) == (4.0, 3.0, 5.0)
    with pytest.raises(ValueError, match="zip"):
        spread([1.0], [1.0, 2.0])


def test_the_table_says_whether_the_target_is_met() -> None:
    pair = next(pair for pair in pairs_of(SIZES) if pair.least == PEER_TARGET)
    ours, rival = (place(name, pair.callers, pair.size) for name in (pair.ours, pair.rival))
    for theirs, said in ((4e-6, ">= 4.0: met"), (3.9e-6, ">= 4.0: MISSED")):
        (row,) = rows_of(
            [pair], Turns({ours: [1e-6, 1e-6], rival: [theirs, theirs]}), Turns({ours: [2e-6], rival: [9e-6]})
        )
        assert show(row).endswith(said)
        assert "1M/s" in show(row)
        assert "2.0 and   9.0 us" in show(row)


def test_who_lacks_the_program_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(SystemExit, match="apt-get install redis-server"):
        redis_server()
