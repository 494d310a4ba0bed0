"""VectorClock beside PyPI's vectorclock, in one run.

    python -m benchmarks.vector_clock [--quick]

Needs the ``bench`` extra (vectorclock). About twenty seconds. "order test" asks
whether one clock is before another that it is before, "equality" compares two
equal clocks that are not one object: the whole of both is looked at. The rival's
clocks are changed in place and cannot be merged, so those rows stand alone.
"""

import argparse
import importlib
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack

from benchmarks.side_by_side import Contestants, Turns, machine, per_second, take_turns, verdict
from clusterkit.core.vector_clock import VectorClock

SIZES = (1, 10, 100)
TARGETS = {"order test": 2.5, "equality": 3.0}  # at 100 nodes


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def timed(calls: dict[str, Callable[[], object]], size: int, rounds: int) -> Turns:
    times = 20_000 // (size + 10)
    contestants: Contestants = {name: (partial(repeat, call, times), times) for name, call in calls.items()}
    return take_turns(contestants, rounds)


def clocks(size: int) -> tuple[VectorClock, VectorClock, VectorClock]:
    """A clock, one that is after it, and one concurrent to the second; made in different orders."""
    chance = random.Random(size)
    counts = {f"node-{number}": chance.randrange(1, 1000) for number in range(size)}
    shuffled = dict(chance.sample(sorted(counts.items()), size))
    base = VectorClock(counts)
    return base, VectorClock(shuffled).increment("node-0"), base.increment("another")


def compare(size: int, rounds: int) -> None:
    rival: Any = importlib.import_module("vectorclock.vectorclock").VectorClock
    base, after, concurrent = clocks(size)
    same = VectorClock(base.to_dict())  # type: ignore[arg-type]  # no stamps: counts alone
    theirs, theirs_after, theirs_same = (rival(clock.to_dict()) for clock in (base, after, same))
    packed = msgpack.packb(base.to_dict())
    print(f"\n{size} nodes")
    rows: dict[str, dict[str, Callable[[], object]]] = {
        "order test": {"ours": lambda: base < after, "rival": lambda: theirs < theirs_after},
        "equality": {"ours": lambda: base == same, "rival": lambda: theirs == theirs_same},
        "compare": {"ours": lambda: base.compare(after)},
        "compare concurrent": {"ours": lambda: after.compare(concurrent)},
        "increment": {"ours": lambda: base.increment("node-0")},
        "merge concurrent": {"ours": lambda: after.merge(concurrent)},
        "merge equal": {"ours": lambda: base.merge(same)},
        "to msgpack": {"ours": lambda: msgpack.packb(base.to_dict())},
        "from msgpack": {"ours": lambda: VectorClock.from_dict(msgpack.unpackb(packed))},
    }
    for what, calls in rows.items():
        show_row(what, timed(calls, size, rounds), TARGETS.get(what) if size == SIZES[-1] else None)
    print(f"{'msgpack size':<20}{len(packed):>8} bytes")


def show_row(what: str, turns: Turns, least: float | None) -> None:
    line = f"{what:<20}{per_second(turns.best('ours')):>8}/s"
    if "rival" in turns.seconds:
        ratio = turns.ratio("ours", "rival")
        line += f"   vectorclock {per_second(turns.best('rival')):>8}/s   {ratio:.2f} ({turns.median_ratio('ours', 'rival'):.2f})"
        line += f"  {verdict(ratio, least=least)}" if least else ""
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description="VectorClock beside PyPI's vectorclock")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    print(f"VectorClock and vectorclock; {machine()}; ratios: best (median)")
    for size in SIZES:
        compare(size, 8 if options.quick else 40)


if __name__ == "__main__":
    main()
