"""An app for ``clusterkit start`` that has a bit of everything that a command may ask for: an actor, a service, a cache."""

from typing import Any

from clusterkit import GenServer, Node, on
from clusterkit.services.cache import CacheGroup


class Greeter(GenServer):
    """Says hello."""

    @on("hello")
    async def hello(self, data: Any) -> str:
        return f"hello {data}, this is {self.node.id.name}"


async def load(key: str) -> str:
    """Each key has a value."""
    return f"the score of {key}"


async def main(node: Node) -> None:
    """Start them; what they are is in the log, so that a test can wait for it."""
    await node.start(Greeter(), name="greeter")
    CacheGroup(node, "scores", load, ttl=60.0)
    await node.services.register("greeter", "greetings", meta={"language": "en"})
    print("app runs", flush=True)
