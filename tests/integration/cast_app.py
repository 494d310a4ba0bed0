"""Two processes behind chaos proxies, sending each other numbered casts: see test_casts_through_chaos.py."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from clusterkit import CallError, DeadLetter, GenServer, Node, call, cast
from clusterkit.testing.child import report
from clusterkit.transport.base import Listener, Stream
from clusterkit.transport.tcp import TcpNetwork

BURST = 50
PACE = 0.005  # seconds between two bursts: a flood would be written whole, and lost whole with the first reset


class Behind(TcpNetwork):
    """Reports the port that it listens on: peers dial the proxy's."""

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        listener = await super().listen(host, port, accepted)
        report(listening=listener.port)
        return listener


class Inbox(GenServer):
    """Keeps the numbers that arrive."""

    mailbox_limit = 100_000

    async def init(self) -> None:
        self.numbers: list[int] = []
        self.complete = asyncio.Event()

    @cast
    async def take(self, number: int) -> None:
        self.numbers.append(number)

    @call
    async def end(self) -> None:
        self.complete.set()

    def ranges(self) -> list[tuple[int, int]]:
        """What arrived, as runs of numbers: first and last."""
        runs: list[tuple[int, int]] = []
        for number in self.numbers:
            if runs and number == runs[-1][1] + 1:
                runs[-1] = runs[-1][0], number
            else:
                runs.append((number, number))
        return runs


async def exchange(argument: dict[str, Any]) -> None:
    """Join, send ``count`` casts to the peer, and report what came and what was reported missing."""
    missing: Counter[str] = Counter()
    inbox = Inbox()

    def told(letter: DeadLetter) -> None:
        if letter.target == "inbox.take":
            missing[letter.executed] += 1

    async with Node(argument["address"], listen="127.0.0.1:0", network=Behind()) as node:
        node.on_dead_letter(told)
        await node.start(inbox, name="inbox")
        await node.ring.join("chaos", argument["seeds"], timeout=60)
        report(joined=True)
        peer = node.ref(Inbox, "inbox", on=argument["peer"])
        while argument["peer"] not in node.ring:
            await asyncio.sleep(0.01)
        for number in range(argument["count"]):
            try:
                await peer.cast(Inbox.take, number)
            except CallError as error:
                missing[error.executed] += 1
            if number % BURST == 0:
                await asyncio.sleep(PACE)
        await say_the_end(peer)
        await inbox.complete.wait()
        report(missing=missing, arrived=inbox.ranges())
        await asyncio.get_running_loop().create_future()  # until the parent is done with both


async def say_the_end(peer: Any) -> None:
    """Be answered once: the casts that were sent before have arrived then, or never will."""
    while True:
        try:
            await peer.call(Inbox.end)
            return
        except CallError:
            await asyncio.sleep(0.05)
