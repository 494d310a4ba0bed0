"""How to test your own actor: three lines of test."""

import asyncio

import pytest

from clusterkit import GenServer, Node, call
from clusterkit.testing import SimCluster


class Greeter(GenServer):
    @call
    async def greet(self, name: str, after: float = 0.0) -> str:
        await asyncio.sleep(after)
        return f"hello, {name}"


async def app(node: Node) -> None:
    await node.start(Greeter(), name="greeter")


@pytest.mark.simulation(seed=7)
async def test_my_actor() -> None:
    async with SimCluster(2, app=app) as sim:
        assert await sim["a"].ref(Greeter, "greeter", on="b").proxy.greet("world", after=4.0) == "hello, world"
