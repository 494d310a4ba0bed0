"""What the nodes of the command line's tests run: an actor that answers, fails or hangs, a service, a cache."""

import asyncio
from typing import Any

from clusterkit import GenServer, Node, UnknownKey, on
from clusterkit.services.cache import CacheGroup


class Clerk(GenServer):
    """Does what it is asked, well or not."""

    async def init(self) -> None:
        self._cast: list[Any] = []

    @on("echo")
    async def echo(self, data: Any) -> Any:
        return data

    @on("name")
    async def name(self, _: Any) -> str:
        return self.node.id.name

    @on("fail")
    async def fail(self, data: Any) -> None:
        raise LookupError(f"no {data}")

    @on("note")
    async def note(self, data: Any) -> None:
        self._cast.append(data)

    @on("noted")
    async def noted(self, _: Any) -> list[Any]:
        return self._cast


class Sleeper(GenServer):
    """Never answers."""

    @on("hang")
    async def hang(self, _: Any) -> None:
        await asyncio.get_running_loop().create_future()


async def load(key: str) -> Any:
    if key == "nosuch":
        raise UnknownKey(key)
    return {"length": len(key)}


async def main(node: Node) -> None:
    await node.start(Clerk(), name="clerk")
    await node.start(Sleeper(), name="sleeper")
    CacheGroup(node, "lengths", load)
    await node.services.register("clerk", "clerking", requirements=["paper"])
    print("app runs", flush=True)
    await asyncio.get_running_loop().create_future()
