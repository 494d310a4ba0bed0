"""Kernels with a ring floor of their own, on a network in memory."""

import contextlib
from types import TracebackType
from typing import Any, Self

from clusterkit import Config, Node
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Party, prepare_cookies
from clusterkit.kernel.kernel import Kernel
from clusterkit.runtime import now
from clusterkit.testing.network import World
from clusterkit.testing.path import Conditions
from tests.conftest import COOKIE

PLAIN = Conditions(latency=0.001, jitter=0.0, fragmentation=0.0)
PORT = 7022


class Floors:
    """A network with nodes and bare kernels on it, all closed in the end."""

    def __init__(self) -> None:
        self.world = World(PLAIN)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.heal()
        await self._stack.aclose()

    def address(self, name: str) -> str:
        """Where a node of that name listens, or would."""
        return f"{self.world.network(name).host}:{PORT}"

    async def kernel(self, name: str, *, boot: int = 10, ring: str = "test", cookie: str = COOKIE) -> Kernel:
        """A kernel that listens, and has no ring yet."""
        network = self.world.network(name)
        me = NodeId(name, network.host, PORT, boot)
        kernel = Kernel(me, Party(name, boot, ring), prepare_cookies(cookie), network, Config())
        await kernel.links.listen(network.host, PORT)
        self._stack.push_async_callback(lambda: kernel.aclose(Reason.STOP, now()))
        return kernel

    async def node(self, name: str, ring: str | None = "test", *, host: str = "", **how: Any) -> Node:
        """A whole node; ``host`` is another's name that it takes the place of."""
        network = self.world.network(host or name)
        node = Node(f"{name}@{network.host}:{PORT}", cookie=how.pop("cookie", COOKIE), network=network, **how)
        await self._stack.enter_async_context(node)
        if ring is not None:
            await node.ring.join(ring)
        return node
