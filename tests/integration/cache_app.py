"""A process of the tests of the cache: three groups of one source, and an actor that gets and invalidates as a test orders.

The source is an actor of the test's own process, so that all loads are counted in one place, and can be held up.
"""

import asyncio
from collections import Counter, defaultdict
from random import Random
from typing import Any

from clusterkit import ClusterError, GenServer, Node, call
from clusterkit.core.identity import NodeId
from clusterkit.runtime import now
from clusterkit.services.cache import CacheGroup

SOURCE = "observer"
"""The node that has the source."""
PATIENCE = 10.0  # seconds: where loads are counted, a machine that has much else to do is no silent owner
TIMEOUT = 30.0
AT_ONCE, PAUSE = 8, 0.005  # of the gets that go on all the time


class Source(GenServer):
    """Has a version of each key, 0 at first; a load of a key that is held waits until it is let go."""

    def __init__(self) -> None:
        self.versions = Counter[str]()
        self.loads = Counter[str]()
        self.waiting = Counter[str]()
        self.held = defaultdict[str, asyncio.Event](asyncio.Event)
        self.is_held: dict[str, None] = {}

    def hold(self, key: str) -> None:
        """Let loads of a key wait from now on."""
        self.is_held[key] = None

    def let_go(self, key: str) -> None:
        """Answer them."""
        self.held[key].set()

    @call(concurrent=True)
    async def load(self, key: str) -> list[Any]:
        """What is there when the question comes."""
        self.loads[key] += 1
        version = self.versions[key]
        if key in self.is_held:
            self.waiting[key] += 1
            await self.held[key].wait()
        return [key, version]


class Next:
    """A picker that names the next process: all together go in a circle."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def pick(self, key: str) -> NodeId | None:
        """The node whose name is next in the alphabet."""
        return self._node.ring.get(self._node.id.name.translate(str.maketrans("abc", "bca")))


class Asker(GenServer):
    """Uses the groups of its process."""

    def __init__(self) -> None:
        self.groups: dict[str, CacheGroup] = {}
        self.asked: dict[str, list[asyncio.Task[Any]]] = {}
        self.got: Counter[str] = Counter()
        self.going_on = False

    async def init(self) -> None:
        source = self.node.ref(Source, "source", on=SOURCE).with_(timeout=TIMEOUT)

        async def load(key: str) -> list[Any]:
            return await source.call(Source.load, key)

        self.groups = {
            "scores": CacheGroup(self.node, "scores", load),
            "patient": CacheGroup(self.node, "patient", load, patience=PATIENCE),
            "circle": CacheGroup(self.node, "circle", load, picker=Next(self.node)),
        }

    @call
    async def owned(self, group: str, keys: list[str]) -> list[str]:
        """Those of some keys that this process owns."""
        return [key for key in keys if self.groups[group].is_owner(key)]

    @call
    async def counted(self, group: str) -> int:
        """How many other processes it knows to take part in a group."""
        return len(self.groups[group]._peers.members)

    @call(concurrent=True)
    async def get(self, group: str, keys: list[str]) -> list[list[Any]]:
        """Get some keys, all at once: what each was, and how long it took."""
        return await asyncio.gather(*(self._get(group, key) for key in keys))

    async def _get(self, group: str, key: str) -> list[Any]:
        began = now()
        try:
            value = await self.groups[group].get(key, timeout=TIMEOUT)
        except ClusterError as error:  # it is what the test sees, where it expects a value
            value = f"{type(error).__name__}: {error}"
        return [value, now() - began]

    @call
    async def ask(self, group: str, key: str, times: int) -> None:
        """Begin to get a key so many times at once; all of them wait when this returns."""
        self.asked[key] = [self.create_task(self._get(group, key)) for _ in range(times)]
        await asyncio.sleep(0)

    @call(concurrent=True)
    async def answered(self, key: str) -> list[Any]:
        """What came of those."""
        return [value for value, _ in await asyncio.gather(*self.asked.pop(key))]

    @call(concurrent=True)
    async def invalidate(self, group: str, key: str) -> list[list[str]]:
        """Invalidate a key; who was reached, and who missed it."""
        outcome = await self.groups[group].invalidate(key, timeout=TIMEOUT)
        return [[node.name for node in nodes] for nodes in outcome]

    @call
    async def go_on(self, group: str, keys: list[str]) -> None:
        """Get keys by chance until `enough`."""
        self.going_on = True
        for number in range(AT_ONCE):
            self.create_task(self._go_on(group, keys, Random(f"{self.node.id.name}{number}")))

    async def _go_on(self, group: str, keys: list[str], chance: Random) -> None:
        while self.going_on:
            key = chance.choice(keys)
            try:
                fetched = await self.groups[group].fetch(key, timeout=TIMEOUT)
                self.got[fetched.source if fetched.value[0] == key else "another key's value"] += 1
            except ClusterError as error:
                self.got[f"{type(error).__name__}: {error}"] += 1
            await asyncio.sleep(PAUSE)

    @call
    async def enough(self) -> dict[str, int]:
        """End that, and say how often what came of it."""
        self.going_on = False
        return dict(self.got)


async def start(node: Node) -> None:
    """The app of each process."""
    await node.start(Asker(), name="asker")
