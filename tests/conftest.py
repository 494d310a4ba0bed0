"""What many tests need: a cookie, nodes on loopback, quick timers."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from clusterkit import Config, Node

os.environ["XDG_CONFIG_HOME"] = "/nonexistent"  # whoever runs the tests may have a current context

COOKIE = "the cookie of all tests"
QUICK = Config(redial_first=0.02, redial_most=0.1, down_after=0.5, connect_timeout=1.0, drain_timeout=2.0)

NodeFactory = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start_node() -> AsyncIterator[NodeFactory]:
    """Start nodes that are closed when the test ends: ``await start_node("a", ring="r", seeds=[b])``."""
    async with AsyncExitStack() as stack:

        async def start(
            name: str,
            ring: str | None = "test",
            seeds: tuple[Node, ...] = (),
            config: Config = QUICK,
            cookie: str = COOKIE,
        ) -> Node:
            node = await stack.enter_async_context(Node(f"{name}@127.0.0.1:0", cookie=cookie, config=config))
            if ring is not None:
                await node.ring.join(ring, seeds=[seed.id.address for seed in seeds])
            return node

        yield start


async def eventually(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait until a condition holds; fails after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)
