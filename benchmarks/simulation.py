"""What a simulation costs: a loop, ten minutes apart, a thousand seeds of calls under faults.

``python benchmarks/simulation.py [seeds]``; times are of the processor, best of three.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from clusterkit.testing import SimCluster, simulate
from tests.simulation.calls_under_faults import broken_promises, calls_under_faults


async def nothing() -> None:
    """The least that a loop can do."""
    await asyncio.sleep(1)


async def ten_minutes_apart() -> None:
    """Three nodes, one of them cut off for ten minutes, then at rest again."""
    async with SimCluster(3) as sim:
        await sim.settle()
        sim.partition("a", ["b", "c"])
        await asyncio.sleep(600)
        sim.heal()
        await sim.settle()


def best_of_three(work: Callable[[], object]) -> float:
    """Processor seconds of the quickest of three runs."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def main(seeds: int) -> None:
    """Print one line for each claim."""
    print(f"a loop, made, run and closed: {best_of_three(lambda: simulate(nothing)) * 1e3:8.3f} ms")
    print(f"ten minutes of partition:     {best_of_three(lambda: simulate(ten_minutes_apart, seed=1)) * 1e3:8.1f} ms")
    started = time.process_time()
    broken = sum(bool(broken_promises(simulate(calls_under_faults, seed=seed))) for seed in range(seeds))
    print(f"{seeds} seeds of 800 calls:      {time.process_time() - started:8.1f} s, {broken} with a broken promise")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
