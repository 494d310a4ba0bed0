"""`ProcessCluster`: each node a real process, to be killed, stopped and started again.

::

    async with ProcessCluster(3, app="myapp.cluster:start_actors") as cluster:
        async with cluster.observer() as node:          # a member in this process, to call from
            cluster["b"].kill()                         # kill -9
            await cluster.restart("b")

``app`` names an ``async def app(node: Node)`` in an importable module; it is awaited in
each process before its node joins. What the processes print is kept, and added to an
error that leaves the block. See `clusterkit.testing.processes` for the rules.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusterkit.config import Config
from clusterkit.core.identity import NodeId
from clusterkit.node import Node
from clusterkit.testing.processes import Child, Processes
from clusterkit.testing.sim_cluster import names

_COOKIE_SIZE = 32
_MEETING = 10.0  # seconds in which an observer must have heard of every node
_LOOK = 0.01


class ProcessCluster:
    """``nodes`` processes in one ring, each on a port that the system chose and that it keeps."""

    def __init__(
        self,
        nodes: int | Iterable[str] = 3,
        *,
        app: str | None = None,
        ring: str = "processes",
        logs: Path | None = None,
    ) -> None:
        self.names = names(nodes)
        self.cookie = os.urandom(_COOKIE_SIZE).hex()
        """The cluster's own, drawn anew: clusters of two test runs never meet."""
        self.processes = Processes(logs=logs, environment={"CLUSTERKIT_COOKIE": self.cookie})
        self._app = app
        self._ring = ring
        self._addresses: dict[str, str] = {}

    def __getitem__(self, name: str) -> Child:
        """The process of that node: ``kill``, ``stop``, ``go_on``, ``reports``."""
        return self.processes[name]

    def address(self, name: str) -> str:
        """Where the node listens: ``host:port``."""
        return self._addresses[name]

    async def start(self, name: str, *, timeout: float = 20.0) -> Child:
        """Start a node that does not run, and wait until it is in the ring."""
        child = await self.processes.start(name, "clusterkit.testing.child:member", self._member(name))
        node = NodeId.parse((await child.reported("node", timeout=timeout))["node"])
        self._addresses[name] = node.address
        return child

    async def restart(self, name: str, *, timeout: float = 20.0) -> Child:
        """Kill a node if it runs, and start it again on its port: another incarnation."""
        self[name].kill()
        await self[name].ended(timeout=timeout)
        return await self.start(name, timeout=timeout)

    def _member(self, name: str) -> dict[str, Any]:
        return {
            "address": f"{name}@{self._addresses.get(name, '127.0.0.1:0')}",
            "app": self._app,
            "ring": self._ring,
            "seeds": [address for other, address in self._addresses.items() if other != name],
        }

    @contextlib.asynccontextmanager
    async def observer(self, name: str = "observer", config: Config | None = None) -> AsyncIterator[Node]:
        """A member of the ring in this process, to call the others from; it knows them all."""
        async with Node(f"{name}@127.0.0.1:0", cookie=self.cookie, config=config) as node:
            await node.ring.join(self._ring, list(self._addresses.values()))
            async with asyncio.timeout(_MEETING):
                while not all(each in node.ring for each in self._addresses):  # noqa: ASYNC110 - nothing tells it
                    await asyncio.sleep(_LOOK)
            yield node

    async def __aenter__(self) -> Self:
        await self.processes.__aenter__()
        try:
            for name in self.names:
                await self.start(name)
        except BaseException as error:
            await self.processes.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.processes.__aexit__(kind, error, trace)
