"""Seeing inside: the events of a node, its counters, and what each actor is doing.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/telemetry.py
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from clusterkit import Config, GenServer, Mailbox, MailboxFull, Node, call, cast


class Clerk(GenServer):
    mailbox = Mailbox(limit=2)

    @call
    async def ask(self) -> str:
        print(*self.node.inspect(), sep="\n")  # every actor: what waits, what runs, since when
        return "done"

    @call
    async def hold_up(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:  # blocks: nothing else runs on this loop meanwhile
            pass

    @cast
    async def note(self, text: str) -> None: ...


def attach(node: Node) -> None:
    def slow(event: str, took: Mapping[str, float], about: Mapping[str, Any]) -> None:
        if took["seconds"] > 0.3:
            print(event, about["server"], about["method"], "asked by", about["caller"])

    node.telemetry.attach("clusterkit.call.stop", slow)
    node.telemetry.attach("clusterkit.loop.lag", lambda e, _, about: print(e, about["server"], about["handler"]))
    node.telemetry.attach("clusterkit.mailbox.full", lambda e, n, about: print(e, about["server"], n["depth"]))
    node.telemetry.attach("clusterkit.dead_letter", lambda e, _, about: print(e, about["target"], about["reason"]))


async def main() -> None:
    async with Node("foo@127.0.0.1:0", config=Config(watchdog=0.3)) as node:
        attach(node)
        clerk = await node.start(Clerk(), name="clerk")
        await clerk.cast("unknown")
        print(await clerk.call(Clerk.ask))
        await clerk.call(Clerk.hold_up, 0.6)
        try:
            for number in range(3):  # of which two may wait
                await clerk.cast(Clerk.note, f"note {number}")
        except MailboxFull as error:
            print("refused:", error)
        print({name: count for name, count in node.stats().items() if count})


if __name__ == "__main__":
    asyncio.run(main())
