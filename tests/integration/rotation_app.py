"""The processes of test_rotation.py: each calls and casts to every other without pause, and keeps what goes wrong."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from clusterkit import DeadLetter, GenServer, LinkDown, Node, call
from clusterkit.runtime import Tasks
from clusterkit.testing.child import report
from tests.integration.stalled_app import Runs, Sink

RING = "rotation"
CALLERS = 4  # of each peer


class Busy(GenServer):
    """Calls its peers, each answer at once followed by the next call; every hundredth is a numbered cast as well."""

    def __init__(self, peers: Sequence[str]) -> None:
        self.peers = peers
        self.done: Counter[str] = Counter()
        self.failed: list[tuple[str, str]] = []
        self.letters: list[str] = []
        self.downs: list[tuple[str, str, int]] = []
        self.sent = {peer: Runs() for peer in peers}
        self.tasks = Tasks("busy")

    async def init(self) -> None:
        self.node.on(DeadLetter, lambda letter: self.letters.append(repr(letter)))
        self.node.on(LinkDown, lambda event: self.downs.append((event.peer.name, event.why, event.lost)))
        for peer in self.peers:
            self.tasks.spawn(self._cast_for_ever(peer), f"cast {peer}")
            for _ in range(CALLERS):
                self.tasks.spawn(self._call_for_ever(peer), f"call {peer}")

    async def terminate(self, reason: object) -> None:
        await self.tasks.aclose()

    async def _call_for_ever(self, peer: str) -> None:
        sink, number = self.node.ref(Sink, "sink", on=peer), 0
        while True:
            number += 1
            try:
                if await sink.call(Sink.echo, number) != number:
                    self.failed.append((peer, "another answer"))
                self.done[peer] += 1
            except Exception as error:
                self.failed.append((peer, repr(error)))
                await asyncio.sleep(0.01)

    async def _cast_for_ever(self, peer: str) -> None:
        sink, number = self.node.ref(Sink, "sink", on=peer), 0
        while True:
            number += 1
            try:
                await sink.cast(Sink.take, self.node.id.name, number, b"")
                self.sent[peer].add(number)
            except Exception as error:
                self.failed.append((peer, repr(error)))
            await asyncio.sleep(0.001)

    def facts(self) -> dict[str, Any]:
        """What was seen since the last mark."""
        return {
            "done": dict(self.done),
            "failed": self.failed,
            "letters": self.letters,
            "downs": self.downs,
        }

    @call
    async def mark(self) -> dict[str, Any]:
        """What was seen since the last mark, and what the node has counted."""
        facts = self.facts() | {"stats": self.node.stats()}
        self.failed, self.letters, self.downs = [], [], []
        self.done.clear()
        return facts

    @call
    async def take_cookies(self, cookies: list[str]) -> None:
        """Go over to other cookies, and go on."""
        self.node.set_cookies(cookies)

    @call
    async def rest(self) -> dict[str, Any]:
        """End the load; tell which casts were taken, by peer."""
        await self.tasks.aclose()
        return {peer: sent.runs for peer, sent in self.sent.items()}


async def enter(node: Node, seeds: Sequence[str]) -> None:
    """Join, and be called by the others from now on."""
    await node.start(Sink(), name="sink")
    await node.ring.join(RING, seeds)


async def begin(node: Node, peers: Sequence[str]) -> Busy:
    """Call the others, once they are all there."""
    while not all(peer in node.ring for peer in peers):
        await asyncio.sleep(0.01)
    busy = Busy(peers)
    await node.start(busy, name="busy")
    return busy


async def take_part(argument: dict[str, Any]) -> None:
    """Run a node until it is told to end, and report what it saw."""
    async with Node(argument["address"], cookie=argument["cookies"]) as node:
        await enter(node, argument["seeds"])
        report(address=node.id.address)
        busy = await begin(node, argument["peers"])
        report(busy=True)
        await node.run_until_signal()
    report(ended=busy.facts())
