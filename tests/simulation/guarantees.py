"""docs/guarantees.md, as its tests read and play it: tables, two nodes, and what goes on beside a send.

``a`` sends, ``b`` is the other node.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import pytest

from clusterkit import GenServer, LinkFull, Mailbox, Node, NoReply, Ref, Stop, call, cast
from clusterkit.errors import ClusterError
from clusterkit.kernel.address import Address
from clusterkit.testing import SimCluster

PAGE = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text(encoding="utf-8")
LONG = 100.0  # seconds that a handler holds the turn: longer than any scenario
LARGE = 2 << 20


class Server(GenServer):
    """Does whatever a scenario needs."""

    mailbox: ClassVar[Mailbox] = Mailbox(2)

    @call
    async def hold(self, seconds: float = LONG) -> str:
        await asyncio.sleep(seconds)
        return "held"

    @call
    async def fail(self) -> None:
        raise ValueError("no")

    @call
    async def stop(self) -> None:
        raise Stop("enough")

    @call
    async def never(self) -> None:
        raise NoReply

    @call
    async def call_back(self) -> None:
        await self.ref.call(Server.hold)

    @call
    async def call_on(self, node: str) -> None:
        await self.node.ref(Server, "server", on=node).call(Server.hold)

    @call
    async def give(self) -> object:
        return object()

    @cast
    async def note(self, text: str = "") -> None:
        """Take note."""

    @cast
    async def stumble(self) -> None:
        raise ValueError("no")


class DropsOldest(Server):
    mailbox = Mailbox(2, overflow="drop_oldest")


class Blocks(Server):
    mailbox = Mailbox(2, overflow="block")


async def app(node: Node) -> None:
    await node.start(Server(), name="server")
    await node.start(DropsOldest(), name="drops")
    await node.start(Blocks(), name="blocks")


class Scene:
    """Two nodes, and what goes on beside the send that matters."""

    def __init__(self, sim: SimCluster, group: asyncio.TaskGroup) -> None:
        self.sim = sim
        self._group = group
        self._beside: list[asyncio.Task[Any]] = []

    def ref(self, on: str = "b", name: str = "server", timeout: float = 5.0) -> Ref[Server]:
        return self.sim["a"].ref(Server, name, on=on).with_(timeout=timeout)

    async def beside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let something go on, and get as far as it will by itself."""

        async def quietly() -> Any:
            try:
                return await work
            except ClusterError as error:
                return error

        task = self._group.create_task(quietly())
        self._beside.append(task)
        await asyncio.sleep(0.3)
        return task

    async def busy(self, ref: Ref[Server], waiting: int = 0, seconds: float = LONG) -> None:
        """Let a handler run, and so many calls wait behind it."""
        await self.beside(ref.call(Server.hold, seconds))
        for _ in range(waiting):
            await self.beside(ref.call(Server.hold))

    async def process_there(self) -> Ref[Server]:
        """A process of b, as a refers to it."""
        ref = await self.sim["b"].start(Server())
        to, kernel = ref.address.to, self.sim["a"]._open_kernel()
        return Ref(kernel, Server, Address(self.sim["b"].id, to, pinned=True))

    async def no_connection(self) -> None:
        """Cut the nodes off from each other, and let both know it; neither is called down yet."""
        self.sim.partition("a", "b", reset=True)
        await asyncio.sleep(0.1)

    async def fill_outbox(self) -> None:
        """Queue as much for b as may be."""
        for size in (100_000, 100, 0):
            with pytest.raises(LinkFull):
                while True:
                    await self.ref(timeout=0.1).cast("note", "x" * size)

    def end(self) -> None:
        for task in self._beside:
            task.cancel()


Scenario = Callable[[Scene], Awaitable[object]]


def table(head: str) -> dict[str, list[str]]:
    """A table of the page: its first cells, to the others."""
    [found] = re.findall(rf"^\| {re.escape(head)}.*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    lines = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in found.splitlines()]
    return {first: rest for first, *rest in lines}
