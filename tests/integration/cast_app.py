"""Two processes behind chaos proxies that cast to each other and call each other: see test_casts_through_chaos.py."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from clusterkit import CallError, Config, DeadLetter, GenServer, LinkDown, Mailbox, Node, Ref, call, cast
from clusterkit.testing.child import report
from clusterkit.transport.base import Listener, Stream
from clusterkit.transport.tcp import TcpNetwork

BURST = 50
PACE = 0.005  # seconds between two bursts: some are sent while there is a connection, and some while there is none
CALLERS = 20
PATIENCE = 60.0  # seconds that a call waits: none of them ends for being late
CHAOS = Config(
    call_timeout=PATIENCE,
    redial_first=0.02,
    redial_most=0.2,
    down_after=10.0,
    ping_after=0.5,
    cut_after=3.0,
    proof_timeout=1.0,
    handshake_timeout=2.0,
    record_timeout=2.0,
)


class Behind(TcpNetwork):
    """Tells the port that it listens on: peers dial the proxy's."""

    def __init__(self, told: Callable[[int], object]) -> None:
        super().__init__()
        self._told = told

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        listener = await super().listen(host, port, accepted)
        self._told(listener.port)
        return listener


def report_port(port: int) -> None:
    report(listening=port)


class Inbox(GenServer):
    """Keeps the numbers that arrive, and answers calls with what only theirs is the answer to."""

    mailbox = Mailbox(1_000_000)

    async def init(self) -> None:
        self.cast_numbers: list[int] = []
        self.call_numbers: list[int] = []
        self.ends = 0
        self.complete = asyncio.Event()

    @cast
    async def take(self, number: int) -> None:
        self.cast_numbers.append(number)

    @call
    async def answer(self, number: int) -> list[Any]:
        self.call_numbers.append(number)
        return [self.node.id.name, number]

    @call
    async def end(self) -> None:
        self.ends += 1
        if self.ends == 2:
            self.complete.set()


class Sender:
    """Sends the casts and calls of one process, and notes what it is told of them."""

    def __init__(self, node: Node, peer: str) -> None:
        self.outcomes: Counter[str] = Counter()  # of calls
        self.failed: dict[str, list[int]] = {"no": [], "maybe": []}  # calls, by what is said of their execution
        self.letters: Counter[str] = Counter()
        self.breaks = 0  # open connections that ended
        self.lost = 0
        self._peer = peer
        self._ref: Ref[Inbox] = node.ref(Inbox, "inbox", on=peer)
        node.on(DeadLetter, self._told)
        node.on(LinkDown, self._broke)

    def _told(self, letter: DeadLetter) -> None:
        self.letters[f"{letter.target} {letter.executed}"] += 1

    def _broke(self, event: LinkDown) -> None:
        self.breaks += 1
        self.lost += event.lost

    async def send(self, casts: int, calls: int) -> None:
        """Send ``casts`` in order, and ``calls`` from several callers meanwhile; return when all have ended."""
        numbers = iter(range(calls))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cast(casts))
            for _ in range(CALLERS):
                group.create_task(self._call(numbers))

    async def _cast(self, count: int) -> None:
        numbers = iter(range(count))
        while burst := list(islice(numbers, BURST)):
            for number in burst:
                await self._ref.cast(Inbox.take, number)
            await asyncio.sleep(PACE)

    async def _call(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            try:
                answered = await self._ref.call(Inbox.answer, number) == [self._peer, number]
            except CallError as error:
                self.outcomes[type(error).__name__] += 1
                self.failed[error.executed].append(number)
                await asyncio.sleep(PACE)
            else:
                self.outcomes["its own value" if answered else "another value"] += 1

    async def say_the_end(self) -> None:
        """Be answered twice: what was sent before has arrived then, and what comes doubled stands between."""
        await self._ref.call(Inbox.end)
        await self._ref.call(Inbox.end)


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as runs of successors: first and last of each."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


async def exchange(argument: dict[str, Any]) -> None:
    """Join, send to the peer, and report what came and what was told of what was sent."""
    inbox = Inbox()
    async with Node(argument["address"], listen="127.0.0.1:0", network=Behind(report_port), config=CHAOS) as node:
        sender = Sender(node, argument["peer"])
        await node.start(inbox, name="inbox")
        await node.ring.join("chaos", argument["seeds"], timeout=60)
        report(joined=True)
        while argument["peer"] not in node.ring:
            await asyncio.sleep(0.01)
        await sender.send(argument["casts"], argument["calls"])
        await sender.say_the_end()
        await inbox.complete.wait()
        report(
            outcomes=sender.outcomes,
            failed=sender.failed,
            letters=sender.letters,
            lost=sender.lost,
            breaks=sender.breaks,
            forged=node.stats()["invalid_checksum"],
            casts=runs(inbox.cast_numbers),
            calls=sorted(inbox.call_numbers),
        )
        await asyncio.get_running_loop().create_future()  # until the parent is done with both
