"""A node with a watchdog in a process that can be stopped, for test_seeing_inside.py."""

import logging
from typing import Any

from clusterkit import Config, Node
from clusterkit.testing.child import report


class _Tell(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        report(logged=record.getMessage())


async def serve(argument: dict[str, Any]) -> None:
    """Be a node whose loop may stand still for ``limit`` seconds; report what it logs and every loop.lag."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Tell()])
    async with Node("watched@127.0.0.1:0", config=Config(watchdog=argument["limit"])) as node:
        node.telemetry.attach("clusterkit.loop.lag", lambda event, took, meta: report(lag={**took, **meta}))
        report(port=node.id.port)
        await node.run_until_signal()
