"""What runs in a child process of `clusterkit.testing.processes`.

``python -m clusterkit.testing.child module:function argument`` imports the function,
calls it with the argument (JSON) and runs the coroutine that it returns. What it wants
its parent to know it says with `report`: one line on stdout, written at once and whole,
so it survives the kill -9 that follows it.

Rules. A child whose parent is gone ends at once: its stdin is a pipe that the parent
holds, and its end is the sign.
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from clusterkit.node import Node

REPORT = "@clusterkit "
ORPHANED = 86  # the exit status of a child whose parent is gone


def report(**facts: Any) -> None:
    """Tell the parent ``facts``, which JSON must be able to carry."""
    os.write(sys.stdout.fileno(), f"{REPORT}{json.dumps(facts)}\n".encode())


def find(target: str) -> Callable[[Any], Coroutine[Any, Any, object]]:
    """Import ``module:function``."""
    module, _, function = target.partition(":")
    found: Callable[[Any], Coroutine[Any, Any, object]] = getattr(importlib.import_module(module), function)
    return found


async def run(target: str, argument: Any) -> None:
    """Await the function, and end when the parent does."""
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _end_with_the_parent)
    await find(target)(argument)


async def member(argument: dict[str, Any]) -> None:
    """Run one node of a `ProcessCluster`: start its app, join, report, and stay until a signal comes."""
    async with Node(argument["address"]) as node:
        if argument["app"] is not None:
            await find(argument["app"])(node)
        await node.ring.join(argument["ring"], argument["seeds"])
        report(node=str(node.id), incarnation=node.id.incarnation)
        await node.run_until_signal()


def _end_with_the_parent() -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        os._exit(ORPHANED)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2])))
