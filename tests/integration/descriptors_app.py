"""A node in a process that may open few files, for test_descriptors.py."""

import asyncio
import logging
import resource

from clusterkit import Config, Node
from clusterkit.runtime import Tasks
from clusterkit.testing.child import report


class _Tell(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        report(logged=record.levelname, text=record.getMessage(), traceback=record.exc_info is not None)


async def serve(argument: dict[str, int]) -> None:
    """Be a node with ``limit`` descriptors; report what is logged, and how often accepting paused."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Tell()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (argument["limit"], argument["limit"]))
    tasks = Tasks("app")
    async with Node("few@127.0.0.1:0", config=Config(proof_timeout=0.3)) as node:
        await node.ring.join("test")
        tasks.spawn(_report_pauses(node), "pauses")
        report(port=node.id.port)
        await node.run_until_signal()
        await tasks.aclose()


async def _report_pauses(node: Node) -> None:
    listener = node._open_kernel().links._listener
    assert listener is not None
    while True:
        await asyncio.sleep(0.05)
        report(pauses=listener.pauses)
