"""How the cache's benchmark measures: keys, callers, rounds in turn, and ratios with their spread."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from typing import Any

from benchmarks.membership_counters import cpu_seconds
from benchmarks.side_by_side import Turns, per_second, verdict

SIZES = (100, 10 << 10)  # bytes of a value
CALLERS = (64, 1)
SHARE = 20  # keys that one of many callers goes through, again and again
KEYS = SHARE * max(CALLERS)
PEER_TARGET, LOCAL_TARGET = 4.0, 1.0

Get = Callable[[str], Awaitable[Any]]


# -- keys and what they stand for


def key_of(size: int, number: int, kind: str = "same") -> str:
    """Name a key; who loads it reads the size of its value from the name.

    >>> key_of(100, 7), size_of(key_of(100, 7))
    ('same:100:7', 100)
    """
    return f"{kind}:{size}:{number}"


def size_of(key: str) -> int:
    """Read how many bytes stand under a key."""
    return int(key.split(":")[1])


def share_of(keys: list[str], caller: int, callers: int) -> list[str]:
    """Return the keys of one caller: no two callers have one in common, so that none gets what another waits for.

    >>> share_of(["a", "b", "c", "d", "e"], 1, 2)
    ['b', 'd']
    """
    return keys[caller::callers][:SHARE]


class Source:
    """What is behind the cache: it answers at once, and counts."""

    def __init__(self) -> None:
        self.loads = 0
        self._values = {size: os.urandom(size) for size in SIZES}

    async def load(self, key: str) -> bytes:
        """Give the value of a key."""
        self.loads += 1
        return self._values[size_of(key)]


# -- measuring


async def measure(get: Get, shares: list[list[str]], seconds: float) -> tuple[int, float]:
    """Let each caller go through its keys again and again; return the gets, and seconds per get."""
    done = 0
    start = time.perf_counter()
    end = start + seconds

    async def caller(keys: list[str]) -> None:
        nonlocal done
        while time.perf_counter() < end:
            for key in keys:
                await get(key)
            done += len(keys)

    await asyncio.gather(*(caller(keys) for keys in shares))
    return done, (time.perf_counter() - start) / done


async def measure_new(get: Get, keys: Iterator[str], callers: int, seconds: float) -> tuple[int, float]:
    """Let callers get one new key after the other; return the gets, and seconds per get."""
    done = 0
    start = time.perf_counter()
    end = start + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await get(next(keys))
            done += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return done, (time.perf_counter() - start) / done


@dataclass
class Pair:
    """One row of the table: two who do the same, and by how much ours is to be faster."""

    row: str
    ours: str
    rival: str
    callers: int
    size: int
    least: float | None = None


@dataclass(frozen=True)
class Contestant:
    """Who is measured: asked for the same keys, or each time for a ``new`` one; ``clear`` forgets those.

    ``server`` is the process that answers, if that is another one.
    """

    get: Get
    server: int | None = None
    new: bool = False
    clear: Callable[[], Awaitable[Any]] | None = None

    def cpu(self) -> float:
        """Seconds that both ends have run."""
        return time.process_time() + (0.0 if self.server is None else cpu_seconds(self.server))


@dataclass
class Contest:
    """All that is measured, seconds and seconds of CPU, and how many gets each contestant answered."""

    contestants: dict[str, Contestant]
    turns: Turns = field(default_factory=Turns)
    cpu: Turns = field(default_factory=Turns)
    counts: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    async def take(self, name: str, callers: int, size: int, seconds: float, *, counts: bool) -> None:
        """Measure one contestant once; a first round does not count."""
        who, at = self.contestants[name], place(name, callers, size)
        before = who.cpu()
        if who.new:
            new = (key_of(size, number, "new") for number in self._numbers)
            done, each = await measure_new(who.get, new, callers, seconds)
        else:
            keys = [key_of(size, number) for number in range(KEYS)]
            done, each = await measure(who.get, [share_of(keys, one, callers) for one in range(callers)], seconds)
        ran = who.cpu() - before
        if who.clear is not None:
            await who.clear()
        self.counts[name] = self.counts.get(name, 0) + done
        if counts:
            self.turns.seconds.setdefault(at, []).append(each)
            self.cpu.seconds.setdefault(at, []).append(ran / done)


def place(name: str, callers: int, size: int) -> str:
    """What a measurement is noted under.

    >>> place("redis GET", 64, 100)
    'redis GET, 64 callers, 100 B'
    """
    return f"{name}, {callers} caller{'s' if callers > 1 else ''}, {size} B"


def pairs_of(sizes: tuple[int, ...]) -> list[Pair]:
    """All rows, those of a size and a number of callers together."""
    rows = []
    for size in sizes:
        for callers in CALLERS:
            least = PEER_TARGET if (callers, size) == (64, SIZES[0]) else None
            rows.append(Pair("peer hit", "peer hit", "redis GET", callers, size, least))
            rows.append(Pair("load at the peer", "peer load", "redis GET, SET", callers, size))
        rows.append(Pair("local hit", "local hit", "aiocache get", 1, size))
        rows.append(Pair("local hit", "local hit", "aiocache get, no timeout", 1, size, LOCAL_TARGET))
        rows.append(Pair("load here", "local load", "aiocache get, set", 1, size))
    return rows


def in_turn(pairs: list[Pair], number: int) -> Iterator[tuple[str, int, int]]:
    """What one round measures, each once: forwards in even rounds, backwards in odd ones."""
    places: dict[tuple[str, int, int], None] = {}
    for pair in pairs:
        places[pair.ours, pair.callers, pair.size] = None
        places[pair.rival, pair.callers, pair.size] = None
    return iter(places) if number % 2 == 0 else reversed(places)


@dataclass(frozen=True)
class Spread:
    """How many times as fast: the median of the rounds, the least and the greatest."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.least:.2f} to {self.most:.2f})"


def spread(ours: list[float], rival: list[float]) -> Spread:
    """Compare seconds per operation, round by round.

    >>> print(spread([1.0, 1.0, 1.0], [4.0, 2.0, 9.0]))
    4.00 (2.00 to 9.00)
    """
    ratios = [theirs / mine for mine, theirs in zip(ours, rival, strict=True)]
    return Spread(median(ratios), min(ratios), max(ratios))


def rows_of(pairs: list[Pair], turns: Turns, cpu: Turns) -> Iterator[dict[str, Any]]:
    """The figures of the table: medians, and ratios with their spread."""
    for pair in pairs:
        ours, rival = (place(each, pair.callers, pair.size) for each in (pair.ours, pair.rival))
        mine, theirs = turns.seconds[ours], turns.seconds[rival]
        yield {
            "row": place(pair.row, pair.callers, pair.size),
            "rival": pair.rival,
            "ours_seconds": median(mine),
            "rival_seconds": median(theirs),
            "ours_cpu": median(cpu.seconds[ours]),
            "rival_cpu": median(cpu.seconds[rival]),
            "ratio": spread(mine, theirs),
            "target": pair.least,
        }


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    mine, theirs = (f"{per_second(row[each]):>7}/s" for each in ("ours_seconds", "rival_seconds"))
    said = f"  {verdict(row['ratio'].middle, least=row['target'])}" if row["target"] is not None else ""
    cpu = f"{row['ours_cpu'] * 1e6:6.1f} and {row['rival_cpu'] * 1e6:5.1f} us"
    return f"{row['row']:<40}{mine}  {row['rival']:<25}{theirs}  {cpu}   {row['ratio']}{said}"
