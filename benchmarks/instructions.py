"""Machine instructions per call and per cast: a figure that a busy machine does not move.

    python -m benchmarks.instructions                     # this tree
    python -m benchmarks.instructions --against REVISION  # and a git revision, by the same program

Two nodes in one process, over TCP on the loopback. What is counted is what the process
itself executes, at both ends together and without the kernel. The program runs under
callgrind once with a base load of every kind, and once for each row with more of that
kind; the difference, over the number of additional calls, is the figure: start-up,
handshake, warm-up and shutdown cancel out. Needs valgrind, and git for ``--against``.

A program under valgrind is some fifty times slower and its timers are not, so each
would be counted fifty times as often as a user pays for it. Therefore the loop's clock
goes by turns, not by the machine: a turn takes a fixed time, about what it takes
outside valgrind, and the timers have their usual share in every run.

Not seen: what the kernel does, and waiting. Seen too large: a record's MAC, because
valgrind has no SHA instructions and OpenSSL computes without them.
"""

import argparse
import asyncio
import io
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import clusterkit
from benchmarks.side_by_side import machine, verdict
from clusterkit import GenServer, Mailbox, Node, Ref, call, cast

ROOT = Path(__file__).parent.parent
COOKIE = "a benchmark's cookie, not a secret"
PAYLOAD = b"x" * 64
BURST = 200  # casts in a turn of the loop
TIMEOUT = 900.0  # seconds for one run of the program under valgrind
MOST = 1.10  # what a change may cost a call, as a ratio


@dataclass(frozen=True)
class Row:
    """One kind of load."""

    callers: int  # 0 = casts
    base: int  # operations in every run
    more: int  # additional operations in the run that is compared with the base
    turn: float  # seconds that a turn of the loop takes outside valgrind under this load


ROWS = {
    "call, 1 caller": Row(callers=1, base=200, more=2_000, turn=15e-6),
    "call, 64 callers": Row(callers=64, base=1_280, more=12_800, turn=110e-6),
    "cast, one call at the end": Row(callers=0, base=2_000, more=20_000, turn=1.2e-3),
}
_START = 50e-6  # seconds a turn until the first load


class Echo(GenServer):
    """Answers with what it gets; counts casts."""

    mailbox = Mailbox(1_000_000)

    def __init__(self) -> None:
        self.count = 0

    @call
    async def echo(self, data: bytes) -> bytes:
        """Give it back."""
        return data

    @cast
    async def note(self, data: bytes) -> None:  # noqa: ARG002 - the argument is what is measured
        """Count."""
        self.count += 1

    @call
    async def counted(self) -> int:
        """How many casts came."""
        return self.count


class Turns(selectors.DefaultSelector):
    """A selector that is a clock as well: a turn takes ``turn`` seconds, a wait what it waited."""

    turn = _START
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as ever, and let the time pass."""
        ready = super().select(timeout)
        self.now += self.turn if ready or not timeout else timeout
        return ready


class TurnLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, by the clock of its turns."""

    def __init__(self) -> None:
        self.turns = Turns()
        super().__init__(self.turns)

    def time(self) -> float:
        """Seconds of the turns."""
        return self.turns.now


# -- the program that is counted


@asynccontextmanager
async def cluster() -> AsyncIterator[Ref[Echo]]:
    """Two nodes of one ring; gives a reference from the one to the actor of the other."""
    async with Node("server@127.0.0.1:0", cookie=COOKIE) as server, Node("client@127.0.0.1:0", cookie=COOKIE) as client:
        await server.ring.join("bench")
        await server.start(Echo(), name="echo")
        await client.ring.join("bench", seeds=[server.id.address])
        yield client.ref(Echo, "echo", on="server").with_(timeout=60.0)


async def calls(echo: Ref[Echo], count: int, callers: int) -> None:
    """Let each caller call again as soon as it is answered."""

    async def caller() -> None:
        for _ in range(count // callers):
            assert await echo.call(Echo.echo, PAYLOAD) == PAYLOAD

    await asyncio.gather(*(caller() for _ in range(callers)))


async def casts(echo: Ref[Echo], count: int) -> None:
    """Cast in bursts, then ask once whether all have come."""
    before = await echo.call(Echo.counted)
    for _ in range(count // BURST):
        for _ in range(BURST):
            await echo.cast(Echo.note, PAYLOAD)
        await asyncio.sleep(0)
    assert await echo.call(Echo.counted) == before + count


async def load(echo: Ref[Echo], row: Row, count: int, turns: Turns) -> None:
    """One load, by its own length of a turn."""
    turns.turn = row.turn
    await (calls(echo, count, row.callers) if row.callers else casts(echo, count))


async def program(more: str, turns: Turns) -> None:
    """The base load of every kind, then more of one kind or of none."""
    async with cluster() as echo:
        for row in ROWS.values():
            await load(echo, row, row.base, turns)
        if more:
            await load(echo, ROWS[more], ROWS[more].more, turns)


def run_program(more: str) -> None:
    """Be the program."""
    assert Path(clusterkit.__file__).is_relative_to(Path.cwd()), "this is not the tree that was to be counted"
    loop = TurnLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(program(more, loop.turns))


# -- counting


def extract(folder: Path, revision: str | None) -> None:
    """Put clusterkit, as it is now or was in a git revision, and this program into a folder."""
    if revision is None:
        shutil.copytree(ROOT / "clusterkit", folder / "clusterkit", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        git = ["git", "-C", str(ROOT), "archive", "--format=zip", revision, "clusterkit"]
        packed = subprocess.run(git, check=True, stdout=subprocess.PIPE).stdout
        zipfile.ZipFile(io.BytesIO(packed)).extractall(folder)
    (folder / "benchmarks").mkdir()
    for name in (Path(__file__).name, "side_by_side.py"):
        shutil.copy(ROOT / "benchmarks" / name, folder / "benchmarks")


def run_in(folder: Path, more: str, under: tuple[str, ...] = ()) -> str:
    """Run the program on the tree in that folder; return what it wrote to stderr."""
    command = [*under, sys.executable, "-m", "benchmarks.instructions", "--program", more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    said = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**environment, "PYTHONHASHSEED": "0", "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
    )
    if said.returncode:
        sys.exit(f"{' '.join(command)} in {folder} failed:\n{said.stderr}")
    return said.stderr


def instructions(folder: Path, more: str) -> int:
    """Count what one run of the program executes."""
    callgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    found = re.search(r"Collected : (\d+)", run_in(folder, more, callgrind))
    assert found is not None
    return int(found[1])


def measure(revision: str | None) -> dict[str, float]:
    """Instructions per operation of every row, for this tree or for a git revision."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extract(folder, revision)
        run_in(folder, "")  # it works, and its modules are compiled
        base = instructions(folder, "")
        return {row: (instructions(folder, row) - base) / ROWS[row].more for row in ROWS}


def table(now: dict[str, float], before: dict[str, float] | None) -> None:
    """Print a row for each kind of load."""
    print(
        f"{'instructions per':28}"
        + (f"{'before':>12}" if before else "")
        + f"{'now':>12}"
        + (f"{'ratio':>8}" if before else "")
    )
    for row, count in now.items():
        if before is None:
            print(f"{row:28}{count:12,.0f}")
            continue
        ratio = count / before[row]
        judged = f"  {verdict(ratio, most=MOST)}" if ROWS[row].callers else ""
        print(f"{row:28}{before[row]:12,.0f}{count:12,.0f}{ratio:8.3f}{judged}")


def main() -> None:
    """Read the arguments and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REVISION", help="a git revision to compare this tree with")
    parser.add_argument("--revision", help="count this git revision and not this tree")
    parser.add_argument("--program", metavar="ROW", choices=["", *ROWS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.program is not None:
        run_program(options.program)
        return
    if shutil.which("valgrind") is None:
        sys.exit("no `valgrind` on this machine: apt-get install valgrind")
    print(machine(), flush=True)
    before = measure(options.against) if options.against else None
    table(measure(options.revision), before)


if __name__ == "__main__":
    main()
