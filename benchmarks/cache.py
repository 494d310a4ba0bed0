"""CacheGroup beside Redis and aiocache: a hit at a peer, a hit here, and a load, in one run.

    python -m benchmarks.cache                # about a minute
    python -m benchmarks.cache --quick        # 100 B only, fewer rounds
    python -m benchmarks.cache --loop uvloop  # for all who run in Python, the client of Redis too

Needs the ``bench`` extra (redis, aiocache) and the program redis-server, as Debian packages it.

The pairs are fair in this sense: a peer hit and a GET each have one process that asks and one
that answers, both on 127.0.0.1 over TCP, and each value crosses whole; the asker is the same
process for both, with the same event loop, asyncio's unless ``--loop`` says otherwise. It
owns no key of the group that is the peer's and keeps no copies of hot ones, so that every
get goes to the peer; the run ends with an error if one did not. No two callers ask for the
same key. Redis neither saves nor logs what it holds; its client is redis-py asyncio as
``Redis(host, port)`` makes it, with a connection for each caller, and faster with the package
hiredis, which is used when it is installed. The cache signs each message; Redis signs none.
A hit here and aiocache's in memory need no second process. aiocache is measured with its
default timeout, for which Python 3.11 makes a task at each get, and without one; the target
is read from the faster.

A load is a get of a key that nobody asked for before, from a source that answers at once:
what remains is the price of the flight. Beside it stands what a program does without one:
ask, miss, and set. Nothing there keeps two callers from loading the same key.

Each round measures every contestant for a moment, in the reverse order every other time. A ratio
is that of one round, in which the two stood next to each other; its median is what counts,
the least and the greatest are in brackets. Before it stands what both ends together ran for
one get, ours and the rival's: on a machine that others use, that moves the least.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cache_rivals import Theirs, cache_aside, library, rivals
from benchmarks.cache_rounds import (
    KEYS,
    SIZES,
    Contest,
    Contestant,
    Pair,
    Source,
    in_turn,
    key_of,
    pairs_of,
    rows_of,
    show,
)
from benchmarks.side_by_side import machine
from clusterkit import GenServer, Node, Ref, call
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_results import CacheStats

ROOT = Path(__file__).parent.parent
COOKIE = "a benchmark's cookie, not a secret"
PEER_GROUPS, LOCAL_GROUPS = ("peer", "peer-new"), ("local", "local-new")  # for the same keys, and for new ones
PATIENCE = 2.0  # seconds without a word after which an owner is passed over: the machine may be busy
_START = 20.0  # seconds for a process to come up


# -- the process that owns the keys


class Counter(GenServer):
    """Tells how often the source was asked in the owner's process."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @call
    async def loads(self) -> int:
        """How often."""
        return self.source.loads


async def own() -> None:
    """Be the owner until stdin closes."""
    source = Source()
    async with Node("owner@127.0.0.1:0", cookie=COOKIE) as node:
        await node.ring.join("bench")
        await node.start(Counter(source), name="counter")
        for name in PEER_GROUPS:
            CacheGroup(node, name, source.load, patience=PATIENCE)
        print(node.id.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@asynccontextmanager
async def owner(loop_kind: str) -> AsyncIterator[tuple[int, str]]:
    """Start that process; gives its number and its address."""
    command = [sys.executable, "-m", "benchmarks.cache", "--own", "--loop", loop_kind]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = await asyncio.wait_for(process.stdout.readline(), _START)
        if not said:
            sys.exit("the owner's process ended at once: see above")
        yield process.pid, said.decode().strip()
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _START)
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass
class Ours:
    """Groups whose keys the other process owns, and groups whose keys are all here; of both one that begins empty."""

    pid: int
    peer: CacheGroup
    peer_new: CacheGroup
    local: CacheGroup
    local_new: CacheGroup
    source: Source
    counter: Ref[Counter]

    async def fill(self) -> None:
        """Have the keys loaded."""
        for size in SIZES:
            for number in range(KEYS):
                for group in (self.peer, self.local):
                    assert len(await group.get(key_of(size, number))) == size

    async def loads(self) -> int:
        """How often the source was asked, in both processes."""
        return self.source.loads + await self.counter.call(Counter.loads)


def asking(node: Node, name: str) -> CacheGroup:
    """A group that owns nothing and copies nothing: each get goes to the owner, and waits for it on a busy machine."""
    return CacheGroup(node, name, None, owns=False, hot_fraction=0.0, patience=PATIENCE)


@asynccontextmanager
async def clusterkit(loop_kind: str) -> AsyncIterator[Ours]:
    """Run the owner, and the asker here."""
    async with owner(loop_kind) as (pid, address), Node("asker@127.0.0.1:0", cookie=COOKIE) as node:
        await node.ring.join("bench", seeds=[address])
        source = Source()
        peer, peer_new = (asking(node, name) for name in PEER_GROUPS)
        local, local_new = (CacheGroup(node, name, source.load) for name in LOCAL_GROUPS)
        ours = Ours(pid, peer, peer_new, local, local_new, source, node.ref(Counter, "counter", on="owner"))
        async with asyncio.timeout(_START):
            await ours.fill()
        yield ours


@dataclass(frozen=True)
class Tally:
    """How often the source was asked, and what the groups counted whose keys are the peer's."""

    loads: int
    held: CacheStats
    new: CacheStats


async def tally(ours: Ours) -> Tally:
    return Tally(await ours.loads(), ours.peer.stats, ours.peer_new.stats)


def check(before: Tally, after: Tally, counts: Mapping[str, int]) -> str:
    """Say that the figures are of what they are called; ends the program when they are not."""
    for old, new in ((before.held, after.held), (before.new, after.new)):
        if new.hits > old.hits or new.hot_hits > old.hot_hits:
            sys.exit(f"not each get went to the peer: {new}")
    loads, new_keys = after.loads - before.loads, counts["peer load"] + counts["local load"]
    if loads != new_keys:
        sys.exit(f"the source was asked {loads:,} times for {new_keys:,} new keys")
    return f"the source was asked {loads:,} times: once for each new key, and never during the {counts['peer hit']:,} peer hits"


# -- one run


def contestants_of(ours: Ours, theirs: Theirs) -> dict[str, Contestant]:
    """All that are measured, by the names in `pairs_of`."""
    redis_aside, memory_aside = cache_aside(theirs.redis_new, Source()), cache_aside(theirs.new, Source())
    return {
        "peer hit": Contestant(ours.peer.get, ours.pid),
        "redis GET": Contestant(theirs.redis.get, theirs.pid),
        "peer load": Contestant(ours.peer_new.get, ours.pid, new=True),
        "redis GET, SET": Contestant(redis_aside, theirs.pid, new=True, clear=theirs.redis_new.flushdb),
        "local hit": Contestant(ours.local.get),
        "aiocache get": Contestant(theirs.timed.get),
        "aiocache get, no timeout": Contestant(theirs.untimed.get),
        "local load": Contestant(ours.local_new.get, new=True),
        "aiocache get, set": Contestant(memory_aside, new=True, clear=theirs.new.clear),
    }


async def compare(options: argparse.Namespace) -> tuple[list[Pair], Contest, str]:
    """Measure all rows for some rounds, after one that does not count."""
    pairs = pairs_of(SIZES[:1] if options.quick else SIZES)
    async with AsyncExitStack() as stack:
        theirs = await stack.enter_async_context(rivals(unix=options.unix))
        ours = await stack.enter_async_context(clusterkit(options.loop))
        contest = Contest(contestants_of(ours, theirs))
        before = await tally(ours)
        for number in range(options.rounds + 1):
            for name, callers, size in in_turn(pairs, number):
                await contest.take(name, callers, size, options.seconds, counts=number > 0)
        return pairs, contest, check(before, await tally(ours), contest.counts)


def run(loop_kind: str, main: Any) -> Any:
    """Run a coroutine on the loop of that kind."""
    return library("uvloop").run(main) if loop_kind == "uvloop" else asyncio.run(main)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--unix", action="store_true", help="the client of Redis takes a Unix socket, not TCP")
    parser.add_argument("--quick", action="store_true", help="100 B only, three rounds")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each measurement (default 0.3)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.own:
        run(options.loop, own())
        return
    if options.quick:
        options.rounds = min(options.rounds, 3)
    pairs, contest, said = run(options.loop, compare(options))
    rows = list(rows_of(pairs, contest.turns, contest.cpu))
    if options.json:
        print(json.dumps({"rows": rows, "seconds": contest.turns.seconds, "cpu": contest.cpu.seconds}, default=vars))
        return
    busy = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine()}; {busy}; {options.loop}; {options.rounds} rounds of {options.seconds:g} s")
    for row in rows:
        print(show(row))
    print(said)


if __name__ == "__main__":
    main()
