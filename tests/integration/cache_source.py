"""What stands behind the caches of the tests: it counts who asks, and answers when it is let to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from clusterkit import Config, Node
from clusterkit.services.cache import CacheGroup
from clusterkit.testing import SimCluster
from tests.conftest import eventually


class Source:
    """Values by key; ``load`` is the loader of all groups."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: BaseException | None = None

    async def load(self, key: str) -> Any:
        self.asked.append(key)
        value = self.values.get(key, self.values.get("*"))  # as it is now: what is told later may be old by then
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if value is None:
            raise KeyError(key)
        return value

    async def is_asked(self, times: int = 1) -> None:
        """Wait until it was asked so often."""
        await eventually(lambda: len(self.asked) >= times)


def serving(group: str, node: Node) -> int:
    """How many members a node sees that take part in a group."""
    return sum(group in member.meta.get("clusterkit.cache", {}) for member in node.ring.members)


async def groups_of(nodes: Iterable[Node], source: Source, name: str = "scores", **options: Any) -> list[CacheGroup]:
    """Make a group of nodes, and wait until each knows of all."""
    nodes = list(nodes)
    made = [CacheGroup(node, name, source.load, **options) for node in nodes]
    await eventually(lambda: all(serving(name, node) == len(nodes) for node in nodes))
    return made


def owned(group: CacheGroup, begin: str = "key") -> str:
    """A key that a node owns, as it sees it."""
    return next(key for number in count() if group.is_owner(key := f"{begin}-{number}"))


def owned_many(group: CacheGroup, most: int, begin: str = "key") -> list[str]:
    found: list[str] = []
    for number in count():
        if group.is_owner(key := f"{begin}-{number}"):
            found.append(key)
        if len(found) == most:
            return found
    raise AssertionError


class Pick:
    """A picker that says what a test tells it to."""

    def __init__(self, owner: Callable[[str], Any]) -> None:
        self.pick = owner


class Caches(dict[str, CacheGroup]):
    """A simulated cluster whose nodes have a group, by node."""

    def __init__(self, source: Source, nodes: int, config: Config | None, options: dict[str, Any]) -> None:
        super().__init__()
        self.source = source
        self.sim = SimCluster(nodes, app=self._start, config=config)
        self._options = options

    async def _start(self, node: Node) -> None:
        self[node.id.name] = CacheGroup(node, "scores", self.source.load, **self._options)

    def key_of(self, name: str, begin: str = "key") -> str:
        return owned(self[name], begin)

    def now(self) -> float:
        return self.sim.loop.time()


@asynccontextmanager
async def caches(
    source: Source, nodes: int = 2, *, config: Config | None = None, **options: Any
) -> AsyncIterator[Caches]:
    """A simulated cluster whose nodes have a group each."""
    made = Caches(source, nodes, config, options)
    async with made.sim:
        yield made
