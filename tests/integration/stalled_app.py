"""The processes of test_stalled_peers.py: one that sends at full rate and calls others meanwhile, and those it sends to."""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

from clusterkit import CallError, Config, DeadLetter, GenServer, LinkDown, Mailbox, Node, call, cast
from clusterkit.runtime import Tasks, now
from clusterkit.testing.child import report

RING = "stalled"
SENDERS = 4
CALLERS = 2  # per peer
PAGE = os.sysconf("SC_PAGESIZE")
LOOK = 0.05  # seconds between two looks at the memory
PAUSE = 0.002  # between two calls of a caller: what is measured is the answer's time, not this machine's limit


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Runs:
    """Numbers in order, kept as first and last of each run without a gap."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []

    def add(self, number: int) -> None:
        """Add one, which is greater than all before, unless something is wrong: then it begins a run too."""
        if self.runs and number == self.runs[-1][1] + 1:
            self.runs[-1][1] = number
        else:
            self.runs.append([number, number])


class Sink(GenServer):
    """Takes numbered casts, and answers calls."""

    mailbox = Mailbox(1_000_000)

    def __init__(self) -> None:
        self.taken: dict[int | str, Runs] = {}

    @cast
    async def take(self, sender: int | str, number: int, fill: bytes) -> None:
        self.taken.setdefault(sender, Runs()).add(number)

    @call
    async def echo(self, number: int) -> int:
        return number

    @call
    async def runs(self) -> dict[str, list[list[int]]]:
        """What each sender's casts were, as runs."""
        return {str(sender): runs.runs for sender, runs in self.taken.items()}


class Sender(GenServer):
    """Casts to one peer as fast as its link takes them, calls that peer too, and calls the others at a steady pace."""

    def __init__(self, peer: str, others: list[str], size: int) -> None:
        self.peer = peer
        self.fill = bytes(size)
        self.others = others
        self.taken = [Runs() for _ in range(SENDERS)]
        self.sending = True
        self.ends: Counter[str] = Counter()
        self.slowest = 0.0
        self.took: list[float] = []
        self.failed: list[str] = []
        self.most = 0
        self.letters = 0
        self.downs: list[tuple[str, str, int]] = []
        self.flood, self.load = Tasks("flood"), Tasks("load")

    async def init(self) -> None:
        self.node.on(DeadLetter, lambda _: setattr(self, "letters", self.letters + 1))
        self.node.on(LinkDown, lambda event: self.downs.append((event.peer.name, event.why, event.lost)))
        for sender, taken in enumerate(self.taken):
            self.flood.spawn(self._send(sender, taken), "send")
            self.flood.spawn(self._ask(), "ask")
        for other in self.others:
            for _ in range(CALLERS):
                self.load.spawn(self._call(other), f"call {other}")
        self.load.spawn(self._look(), "look")

    async def terminate(self, reason: object) -> None:
        await self.flood.aclose()
        await self.load.aclose()

    async def _send(self, sender: int, taken: Runs) -> None:
        ref, number = self.node.ref(Sink, "sink", on=self.peer), 0
        while self.sending:
            began = now()
            try:
                await ref.cast(Sink.take, sender, number, self.fill)
                taken.add(number)
            except CallError as error:
                self._ended("cast", error, now() - began)
            number += 1
            if number % 50 == 0:
                await asyncio.sleep(0)

    async def _ask(self) -> None:
        ref = self.node.ref(Sink, "sink", on=self.peer)
        while self.sending:
            began = now()
            try:
                await ref.call(Sink.echo, 1)
            except CallError as error:
                self._ended("call", error, now() - began)
            await asyncio.sleep(LOOK)

    async def _answered(self) -> bool:
        try:
            return await self.node.ref(Sink, "sink", on=self.peer).call(Sink.echo, 1) == 1
        except CallError:
            return False

    def _ended(self, what: str, error: CallError, took: float) -> None:
        self.ends[f"{what} {type(error).__name__} {error.executed}"] += 1
        self.slowest = max(self.slowest, took)

    async def _call(self, other: str) -> None:
        ref = self.node.ref(Sink, "sink", on=other)
        while True:
            began = now()
            try:
                await ref.call(Sink.echo, 1)
            except Exception as error:
                self.failed.append(repr(error))
            self.took.append(now() - began)
            await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, resident())
            await asyncio.sleep(LOOK)

    @call
    async def mark(self) -> dict[str, Any]:
        """What was seen since the last mark."""
        facts = {
            "resident": resident(),
            "most": self.most,
            "took": self.took,
            "failed": self.failed,
            "ends": dict(self.ends),
            "slowest": self.slowest,
            "sent": sum(last - first + 1 for taken in self.taken for first, last in taken.runs),
        }
        self.took, self.failed, self.most, self.slowest = [], [], 0, 0.0
        self.ends.clear()
        return facts

    @call(timeout=60.0)
    async def finish(self) -> dict[str, Any]:
        """End the flood, and be answered again; tell what was taken of it, and what became of links and messages."""
        self.sending = False
        while len(self.flood) or not await self._answered():
            await asyncio.sleep(LOOK)
        return {
            "taken": {str(sender): taken.runs for sender, taken in enumerate(self.taken)},
            "letters": self.letters,
            "dead_letters": self.node.stats()["dead_letters"],
            "downs": self.downs,
        }


async def stand(argument: dict[str, Any]) -> None:
    """Run a node that takes what is sent; with ``peer``, it sends as soon as it is told ``flood``."""
    async with Node(argument["address"], config=Config(**argument["config"])) as node:
        await node.start(Sink(), name="sink")
        await node.start(Starter(argument), name="starter")
        await node.ring.join(RING, argument["seeds"])
        report(address=node.id.address)
        await node.run_until_signal()


class Starter(GenServer):
    """Starts the sender when all are there."""

    def __init__(self, argument: dict[str, Any]) -> None:
        self.argument = argument

    @call
    async def flood(self, peer: str, others: list[str], size: int) -> None:
        await self.node.start(Sender(peer, others, size), name="sender")
