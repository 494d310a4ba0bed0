"""What the children of test_processes.py run."""

import asyncio
import os
from typing import Any

from clusterkit.testing.child import report


async def serve(argument: dict[str, Any]) -> None:
    """Echo on a free port, and count what was echoed."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            report(echoed=len(data))
        writer.close()

    print("hello from", argument["name"], flush=True)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    report(port=server.sockets[0].getsockname()[1], pid=os.getpid())
    await asyncio.get_running_loop().create_future()


async def fail(argument: str) -> None:
    """Die of an exception."""
    raise ValueError(argument)


async def flood(count: int) -> None:
    """Report as fast as possible, then wait to be killed."""
    for number in range(count):
        report(number=number)
    await asyncio.get_running_loop().create_future()


async def env(name: str) -> None:
    """Report a variable of the environment."""
    report(value=os.environ.get(name))
