"""How long a command takes to start: the help, and questions to a node on this machine, as a whole process.

    python -m benchmarks.cli_start

What a shell or a person waits for is the wall clock of an idle machine; the processor time beside it moves
less when the machine has much else to do. Bare `python -c pass` shows what is Python's own.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

COOKIE = "the cookie of a benchmark"
ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("-m", "clusterkit")


class Took(NamedTuple):
    """What starts took, in seconds."""

    wall: list[float]
    processor: list[float]


def measure(environ: dict[str, str], arguments: Sequence[str], rounds: int) -> Took:
    """Run a Python with these arguments, one after the other."""
    took = Took([], [])
    for _ in range(rounds):
        before, begun = _processor(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, check=True)
        took.wall.append(time.perf_counter() - begun)
        took.processor.append(_processor() - before)
    return took


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environ = os.environ | {"CLUSTERKIT_COOKIE": COOKIE, "PYTHONPATH": path}
    started = [sys.executable, *COMMAND, "start", "alpha@127.0.0.1:0", "--ring", "benchmark"]
    node = subprocess.Popen(started, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout is not None
        port = node.stdout.readline().strip().rpartition(":")[2]
        lines = {
            "python -c pass": ("-c", "pass"),
            "clusterkit --help": (*COMMAND, "--help"),
            "clusterkit completion bash": (*COMMAND, "completion", "bash"),
            "clusterkit version": (*COMMAND, "version"),
            "clusterkit ping": (*COMMAND, "-p", port, "ping"),
            "clusterkit members": (*COMMAND, "-p", port, "members"),
        }
        print("| | best, s | median, s | processor, s |\n|---|--:|--:|--:|")
        for line, arguments in lines.items():
            took = measure(environ, arguments, rounds)
            print(
                f"| `{line}` | {min(took.wall):.2f} | {median(took.wall):.2f} | {min(took.processor):.2f} |", flush=True
            )
    finally:
        node.terminate()
        node.communicate()


if __name__ == "__main__":
    main()
