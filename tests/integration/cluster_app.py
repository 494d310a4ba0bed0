"""The actors of the processes in the tests of real clusters: a witness of what runs, and one that calls all the time."""

import asyncio
from typing import Any

from clusterkit import Config, GenServer, Node, call, cast
from clusterkit.runtime import Tasks, now
from clusterkit.testing.child import report

CALL_EVERY = 0.05  # seconds
TIMEOUT = 1.0
QUICK = Config(redial_first=0.02, redial_most=0.2, ping_after=0.5, cut_after=1.5, down_after=2.0, connect_timeout=1.0)


class Witness(GenServer):
    """Says which calls ran before it answers them, so that the log outlives a kill -9."""

    @call
    async def run(self, number: int) -> int:
        report(ran=number)
        return number

    @cast
    async def note(self, number: int) -> None:
        report(noted=number)


async def start(node: Node) -> None:
    """The app of each process."""
    await node.start(Witness(), name="witness")


class Echo(GenServer):
    """Answers."""

    @call
    async def echo(self, number: int) -> int:
        return number


class Caller(GenServer):
    """Calls every peer, again and again, and reports what comes of each call."""

    def __init__(self, peers: list[str]) -> None:
        self.peers = peers
        self.tasks = Tasks("caller")

    async def init(self) -> None:
        for peer in self.peers:
            self.tasks.spawn(self._call_for_ever(peer), peer)

    async def terminate(self, reason: object) -> None:
        await self.tasks.aclose()

    async def _call_for_ever(self, peer: str) -> None:
        echo = self.node.ref(Echo, "echo", on=peer).with_(timeout=TIMEOUT)
        number = 0
        while True:
            number, began = number + 1, now()
            try:
                outcome = "ok" if await echo.call(Echo.echo, number) == number else "wrong"
            except Exception as error:
                outcome = f"{type(error).__name__} {getattr(error, 'executed', 'untyped')}"
            report(peer=peer, number=number, outcome=outcome, took=now() - began)
            await asyncio.sleep(CALL_EVERY)


async def call_each_other(argument: dict[str, Any]) -> None:
    """Run a node that joins through ``seeds`` and calls ``peers`` until it is killed."""
    async with Node(argument["address"], config=QUICK) as node:
        await node.start(Echo(), name="echo")
        await node.ring.join("namespaces", argument["seeds"])
        report(joined=str(node.id))
        await node.start(Caller(argument["peers"]))
        await asyncio.get_running_loop().create_future()
