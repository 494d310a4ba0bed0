"""The process that is killed again and again under load: see test_kill.py.

What comes into its mailboxes and what runs in it, it says by a system call each, before the
link can acknowledge the one or a handler answers the other: so it outlives the kill -9.
"""

import asyncio
from typing import Any

from clusterkit import GenServer, Node, call, cast
from clusterkit.core.payload import decode
from clusterkit.kernel.mailbox import Inbox, Letter, Mailbox
from clusterkit.testing.child import report
from tests.integration.cast_app import Behind, report_port

BREATH = 0.001  # seconds that a handler now and then waits: it has run then, and others are in the mailbox


class Ledger(GenServer):
    """Says what runs in it."""

    mailbox = Mailbox(1_000_000)

    @call
    async def run(self, number: int) -> int:
        report(ran=number)
        await breathe(number)
        return number

    @cast
    async def take(self, sender: str, number: int) -> None:
        report(took=[sender, number])
        await breathe(number)


async def breathe(number: int) -> None:
    if number % 16 == 0:
        await asyncio.sleep(BREATH)


class WitnessedMailbox(Inbox):
    """Says what comes into it."""

    def put(self, letter: Letter) -> bool:
        taken = super().put(letter)
        if taken and type(letter[2]) is bytes:
            report(**{f"{letter[1]} came": decode(letter[2])})
        return taken


async def serve(argument: dict[str, Any]) -> None:
    """Run a node with its ledgers until it is killed."""
    async with Node(argument["address"], listen=argument["listen"], network=Behind(report_port)) as node:
        for name in argument["ledgers"]:
            await node.start(Ledger(), name=name)
            mailbox = node._kernel.find(name) if node._kernel is not None else None
            assert mailbox is not None
            mailbox.__class__ = WitnessedMailbox
        await node.ring.join("kill", argument["seeds"])
        report(node=str(node.id), incarnation=node.id.incarnation)
        await node.run_until_signal()
