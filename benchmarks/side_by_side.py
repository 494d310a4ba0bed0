"""Timing rivals in one run, in turns, so that a busy machine slows both alike.

Each round runs every contestant once, each from the same state of the caches as the
others. A ratio is taken twice: of the best rounds (what the code costs when nothing
disturbs it; the targets are read from this one) and as the median over the rounds
(what a disturbed machine shows).
"""

import gc
import platform
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

Contestants = dict[str, tuple[Callable[[], object], int]]  # a call, and how many operations it makes


@dataclass
class Turns:
    """The durations of each contestant, in seconds per operation, round by round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def best(self, name: str) -> float:
        """The shortest time."""
        return min(self.seconds[name])

    def ratio(self, ours: str, rival: str) -> float:
        """How many times faster our best round was than the best of ``rival``."""
        return self.best(rival) / self.best(ours)

    def median_ratio(self, ours: str, rival: str) -> float:
        """The median of the ratios of the rounds, each taken next to the other."""
        pairs = zip(self.seconds[rival], self.seconds[ours], strict=True)
        return median(theirs / mine for theirs, mine in pairs)


def take_turns(contestants: Contestants, rounds: int) -> Turns:
    """Time the contestants for some rounds, after one that does not count."""
    turns = Turns({name: [] for name in contestants})
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds + 1):
            for name, (call, operations) in contestants.items():
                start = time.perf_counter()
                call()
                seconds = (time.perf_counter() - start) / operations
                if number:
                    turns.seconds[name].append(seconds)
    finally:
        gc.enable()
    return turns


def memory_of(make: Callable[[], object]) -> int:
    """Return the bytes that what ``make`` returns holds, by tracemalloc."""
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return held


def per_second(seconds: float) -> str:
    """Write a rate with three digits: 1.53M, 867k, 9.4k."""
    rate = 1 / seconds
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if rate >= size:
            return f"{rate / size:.3g}{unit}"
    return f"{rate:.3g}"


def verdict(value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Say whether a value meets its target."""
    met = (least is None or value >= least) and (most is None or value <= most)
    wanted = " and ".join(f"{sign} {bound}" for sign, bound in ((">=", least), ("<=", most)) if bound is not None)
    return f"{wanted}: {'met' if met else 'MISSED'}"


def machine() -> str:
    """Name the machine and the day."""
    day = time.strftime("%Y-%m-%d")
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {day}"
