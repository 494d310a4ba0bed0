"""`LocalCluster`: real nodes on real sockets of loopback, in this process and on this loop.

::

    async with LocalCluster(3, app=start_actors) as cluster:        # nodes a, b and c, in one ring
        await cluster["a"].ref(Counter, "counter", on="c").call(Counter.add, 1)

For what the simulation cannot show: the kernel's sockets, real time, uvloop. Ports are the
system's choice. A node cannot be killed here (`ProcessCluster` does that); it can stop.
"""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from clusterkit.config import Config
from clusterkit.errors import UsageError
from clusterkit.node import Node
from clusterkit.runtime import now
from clusterkit.testing.sim_cluster import App, NotSettled, names
from clusterkit.testing.views import disagreement

COOKIE = "the cookie of a local cluster"
_LOOK = 0.01  # seconds between two looks at a cluster that settles


class LocalCluster:
    """``nodes`` nodes in one ring, each known to each; ``app`` is awaited for each before it joins."""

    def __init__(
        self,
        nodes: int | Iterable[str] = 3,
        *,
        app: App | None = None,
        ring: str = "local",
        config: Config | None = None,
    ) -> None:
        self.names = names(nodes)
        self._app = app
        self._ring = ring
        self._config = config
        self._nodes: dict[str, Node] = {}
        self._ports: dict[str, int] = {}

    def __getitem__(self, name: str) -> Node:
        """The node of that name; raises `UsageError` for one that does not run."""
        if name not in self._nodes:
            raise UsageError(f"no node {name!r} runs: {', '.join(self._nodes) or 'none does'}")
        return self._nodes[name]

    @property
    def running(self) -> list[Node]:
        """All nodes that run."""
        return list(self._nodes.values())

    async def start(self, name: str) -> Node:
        """Start a node that does not run, on the port that it had before; it joins through all that do."""
        if name in self._nodes:
            raise UsageError(f"node {name} runs already")
        seeds = [node.id.address for node in self.running]
        address = f"{name}@127.0.0.1:{self._ports.get(name, 0)}"
        node = await Node(address, cookie=COOKIE, config=self._config).__aenter__()
        self._ports[name] = node.id.port
        try:
            if self._app is not None:
                await self._app(node)
            await node.ring.join(self._ring, seeds)
        except BaseException:
            await node.aclose(drain=False)
            raise
        self._nodes[name] = node
        return node

    async def stop(self, name: str, *, drain: bool = True) -> None:
        """Stop a node: it leaves the ring."""
        node = self[name]
        del self._nodes[name]
        await node.aclose(drain=drain)

    async def restart(self, name: str) -> Node:
        """Stop a node and start it again, under another incarnation."""
        await self.stop(name)
        return await self.start(name)

    async def settle(self, timeout: float = 10.0) -> None:
        """Wait until all nodes see one ring; raises `NotSettled`, which says how they differ."""
        deadline = now() + timeout
        while (why := disagreement(self.running)) is not None:
            if now() >= deadline:
                raise NotSettled(f"no agreement after {timeout:g} s: {why}")
            await asyncio.sleep(_LOOK)

    async def __aenter__(self) -> Self:
        try:
            for name in self.names:
                await self.start(name)
            await self.settle()
        except BaseException:
            await self._end(drain=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(drain=kind is None)

    async def _end(self, *, drain: bool) -> None:
        async with asyncio.TaskGroup() as group:
            for name in list(self._nodes):
                group.create_task(self.stop(name, drain=drain))
