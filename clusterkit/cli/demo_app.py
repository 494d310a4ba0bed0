"""What the demo's nodes run: a greeter, which also can hold a call open for ever."""

import asyncio
import os
import signal
import sys
from typing import Any

from clusterkit.actors.gen_server import GenServer, NoReply
from clusterkit.actors.handlers import on
from clusterkit.kernel.mailbox import From
from clusterkit.node import Node

GREETER = "greeter"


class Greeter(GenServer):
    """Says hello, and by which process."""

    async def init(self) -> None:
        """Hold nobody yet."""
        self._held: list[From] = []

    @on("hello")
    async def hello(self, caller: str) -> dict[str, Any]:
        """Greet a caller."""
        me = self.node.id
        return {"text": f"hello {caller}, this is {me.name}", "name": me.name, "pid": os.getpid()}

    @on("hold")
    async def hold(self, _: Any, frm: From) -> None:
        """Take a call and never answer it: work that is lost when the process dies."""
        self._held.append(frm)
        raise NoReply

    @on("held")
    async def held(self, _: Any) -> int:
        """Tell how many calls are held."""
        return len(self._held)


async def main(node: Node) -> None:
    """Start the greeter; leave when the demo that started this process is gone."""
    await node.start(Greeter(), name=GREETER)
    await _stdin_closed()
    signal.raise_signal(signal.SIGTERM)


async def _stdin_closed() -> None:
    """Wait until stdin ends, as it does with the process that holds its other end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stdin = sys.__stdin__.fileno() if sys.__stdin__ is not None else 0

    def readable() -> None:
        if not os.read(stdin, 4096) and not ended.done():
            ended.set_result(None)

    loop.add_reader(stdin, readable)
    try:
        await ended
    finally:
        loop.remove_reader(stdin)
