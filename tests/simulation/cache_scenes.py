"""What rarely befalls a cache, played out by hand: each scene returns what is wrong, nothing when all is well.

A `Stage` is a cluster whose nodes share a cache of a source that the scene writes. A node's place in the order of a
key decides what it is for that key, so each scene chooses its key: "cab" stands for one that c owns, then a, then b.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from clusterkit import Node
from clusterkit.core.identity import NodeId
from clusterkit.errors import CallTimeout
from clusterkit.runtime import now, rng
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_results import Invalidated
from clusterkit.testing.path import Conditions
from clusterkit.testing.sim_cluster import SimCluster

SECOND = 1.0
LONG = 100.0  # seconds: longer than anything is repeated without a reason
GONE = 12.0  # seconds after which a dead node is down


class Stage:
    """A cluster, the groups of its nodes, and their source: ``versions`` by key; each load takes ``takes`` seconds."""

    def __init__(self, **options: Any) -> None:
        self.versions = Counter[str]()
        self.loads = Counter[str]()
        self.takes = 0.0
        self.groups: dict[str, CacheGroup] = {}
        self._options = options
        self._numbers = count(1_000)

    async def begin(self, node: Node) -> None:
        """Start what each node needs."""
        self.groups[node.id.name] = CacheGroup(node, "scores", self.load, **self._options)

    async def load(self, key: str) -> int:
        """Read the source at once, and return it later."""
        self.loads[key] += 1
        found = self.versions[key]
        await asyncio.sleep(self.takes)
        return found

    @asynccontextmanager
    async def on(self, names: str, conditions: Conditions | None = None) -> AsyncIterator[SimCluster]:
        """Have nodes of these names."""
        async with SimCluster(list(names), app=self.begin, conditions=conditions) as self.sim:
            yield self.sim

    def key(self, order: str) -> str:
        """A key whose preference order begins with these nodes, another one each time."""
        ring = self.sim[order[0]].ring
        while True:
            key = f"key {next(self._numbers)}"
            if [node.name for node in ring.range(key, len(order))] == list(order):
                self.versions[key] = 1
                return key

    async def get(self, name: str, key: str) -> int:
        """Get a key on a node."""
        found: int = await self.sim.run(name, self.groups[name].get(key))
        return found

    async def change(self, name: str, key: str, *, timeout: float = 1.0) -> Invalidated:
        """Write another version, and invalidate it on a node."""
        self.versions[key] += 1
        return await self.sim.run(name, self.groups[name].invalidate(key, timeout=timeout))

    async def look(self, name: str, key: str) -> list[str]:
        """Say what is wrong when a node does not give the last version."""
        got = await self.get(name, key)
        return (
            [] if got == self.versions[key] else [f"{name} gives v{got}, not v{self.versions[key]}, at {now():.1f} s"]
        )


def expect(outcome: Invalidated, missed: str) -> None:
    """The scene is about an invalidation that these missed."""
    assert "".join(node.name for node in outcome.missed) == missed, outcome


# -- in time ------------------------------------------------------------------------------


async def an_owner_that_stands_still() -> list[str]:
    """A get is answered within a second, though its owner gives no word."""
    stage, wrong = Stage(), []
    async with stage.on("abc") as sim:
        for how in ("pause", "crash", "kill", "cut"):
            key = stage.key("cab")
            match how:
                case "pause":
                    sim.pause("c")
                case "cut":
                    sim.partition("c")
                case _:
                    sim.crash("c", reset=how == "kill")
            began = now()
            wrong += await stage.look("a", key)
            if now() - began > SECOND:
                wrong.append(f"{how}: it took {now() - began:.3f} s")
            sim.heal()
            if how == "pause":
                sim.resume("c")
            elif how != "cut":
                await sim.start("c")
            await sim.settle()
            await asyncio.sleep(2 * SECOND)
    return wrong


async def a_crowd_before_a_silent_owner() -> list[str]:
    """Many keys of an owner that stands still, one soon after the other: each is answered within a second."""
    stage, wrong = Stage(), []

    async def get(after: float, key: str) -> None:
        await asyncio.sleep(after)
        began = now()
        wrong.extend(await stage.look("a", key))
        if now() - began > SECOND:
            wrong.append(f"it took {now() - began:.3f} s")

    async with stage.on("abc") as sim:
        keys = [stage.key("cab") for _ in range(30)]
        sim.pause("c")
        await asyncio.gather(*(get(0.005 * (number // 2), key) for number, key in enumerate(keys)))
        sim.resume("c")
    return wrong


class Next:
    """A picker that always names the next node of the three: no two agree, and all together go in a circle."""

    def __init__(self) -> None:
        self.node: Node | None = None

    def pick(self, key: str) -> NodeId | None:
        """Name the next one; its name is in the key."""
        assert self.node is not None
        return self.node.ring.get(self.node.id.name.translate(str.maketrans("abc", "bca")))


async def owners_in_a_circle() -> list[str]:
    """Each node takes the next for the owner: all are answered within a second."""
    stage, wrong, slowest = Stage(), [], 0.0

    async def begin(node: Node) -> None:
        picker = Next()
        picker.node = node
        stage.groups[node.id.name] = CacheGroup(node, "scores", stage.load, picker=picker)

    async def get(name: str, key: str) -> None:
        nonlocal slowest
        began = now()
        try:
            wrong.extend(await stage.look(name, key))
        except CallTimeout as error:
            wrong.append(str(error))
        slowest = max(slowest, now() - began)

    async with SimCluster(list("abc"), app=begin) as stage.sim, asyncio.TaskGroup() as group:
        for number in range(30):
            for name in "abc":
                group.create_task(get(name, f"key {number}"))
    return wrong if slowest < SECOND else [*wrong, f"it took {slowest:.3f} s"]


# -- once -----------------------------------------------------------------------------------


async def cold_keys() -> list[str]:
    """However many ask for a cold key, wherever, give up or not: it is loaded once."""
    stage, chance, wrong = Stage(), rng("cold"), []
    latency = chance.choice([0.0005, 0.005, 0.02])
    async with stage.on("abc", Conditions(latency, latency)):
        for number in range(4):
            key = f"key {number}"
            stage.versions[key], stage.takes = number + 1, chance.choice([0.0, 0.1, 0.7, 2.5])
            tasks = [asyncio.ensure_future(get_late(stage, key)) for _ in range(chance.choice([2, 10, 100, 300]))]
            await asyncio.sleep(0.05 * chance.random())
            for task in tasks[:: chance.choice([1, 2, 5])][1:]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            odd = {repr(each) for each in found if each != number + 1 and not isinstance(each, asyncio.CancelledError)}
            wrong += [f"{len(tasks)} callers got {each}" for each in sorted(odd)]
            for name in "abc":
                wrong += await stage.look(name, key)
        wrong += [f"{key} was loaded {times} times" for key, times in stage.loads.items() if times != 1]
    return wrong


async def get_late(stage: Stage, key: str) -> int:
    """Get it somewhere, soon."""
    chance = rng("callers")
    await asyncio.sleep(0.1 * chance.random())
    return await stage.get(chance.choice("abc"), key)


# -- who is reached, and who is told later --------------------------------------------------


async def one_who_knows_asks_one_who_does_not() -> list[str]:
    """b missed it; a, which was reached, asks b, and gets the new one."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        sim.partition("b", "c")
        expect(await stage.change("c", key), "b")
        return await stage.look("a", key)


async def a_crowd_and_an_invalidation() -> list[str]:
    """A question waits to go with others when a hears of an invalidation; b, who is asked then, missed it."""
    stage = Stage(hot_rate=0.01)
    async with stage.on("abc") as sim:
        key, *others = [stage.key("bac") for _ in range(6)]
        for each in (key, *others):
            await stage.get("b", each)
        for _ in range(3):
            await stage.get("c", key)
            await asyncio.sleep(SECOND)
        for way in (("a", "b"), ("b", "a")):
            sim.world.shape(Conditions(0.1, 0.0), *way)
        early = [asyncio.ensure_future(stage.get("a", each)) for each in others[:2]]
        for each in (*others[2:], key):
            await asyncio.sleep(0.005)
            early.append(asyncio.ensure_future(stage.get("a", each)))
        await asyncio.sleep(0.005)
        sim.partition("b", "c")
        expect(await stage.change("c", key, timeout=0.05), "b")
        await asyncio.gather(*early)
        return await stage.look("a", key)


async def two_invalidations_cross() -> list[str]:
    """x hears what b made, and then what a had made before; c knows the earlier one alone."""
    stage = Stage()
    async with stage.on("abcx") as sim:
        key = stage.key("cxab")
        await stage.get("x", key)
        sim.partition("x", ["a", "c"])
        sim.partition("a", "b")
        expect(await stage.change("a", key, timeout=0.2), "bx")
        await stage.get("a", key)
        sim.partition("b", "c")
        expect(await stage.change("b", key, timeout=0.2), "ac")
        sim.heal("x")
        await asyncio.sleep(0.5)
        return await stage.look("x", key)


async def two_ways_that_are_cut() -> list[str]:
    """b cannot be reached by c, nor by a, whom c asks first to tell it."""
    stage = Stage()
    async with stage.on("abcd") as sim:
        key = stage.key("bdac")
        await stage.get("b", key)
        sim.partition("b", ["a", "c"])
        expect(await stage.change("c", key), "b")
        await asyncio.sleep(2 * GONE)
        return await stage.look("b", key)


async def a_way_that_is_cut_for_long() -> list[str]:
    """b cannot be reached by c alone: others tell it."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        sim.partition("b", "c")
        expect(await stage.change("c", key), "b")
        await asyncio.sleep(GONE)
        return await stage.look("b", key)


async def an_invalidator_that_dies() -> list[str]:
    """c told a, could not tell b, and dies: a tells it."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        sim.partition("b", "c")
        expect(await stage.change("c", key, timeout=0.3), "b")
        sim.crash("c", reset=True)
        await asyncio.sleep(GONE)
        return await stage.look("b", key)


async def an_invalidator_that_begins_anew() -> list[str]:
    """c told a, could not tell b, is killed and started again at once."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        sim.partition("b", "c")
        expect(await stage.change("c", key, timeout=0.3), "b")
        await sim.restart("c")
        await asyncio.sleep(GONE)
        return await stage.look("b", key)


async def an_invalidator_whose_clock_is_behind() -> list[str]:
    """c comes back with its wall clock behind: what it invalidates then counts."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        await stage.change("c", key)
        await stage.get("b", key)
        sim.crash("c", reset=True)
        await asyncio.sleep(GONE)
        await sim.start("c", skew=-LONG)
        await sim.settle()
        expect(await stage.change("c", key), "")
        return [*await stage.look("b", key), *await stage.look("a", key)]


async def a_new_life_takes_what_is_old() -> list[str]:
    """d begins anew, and takes over what b has, which missed an invalidation: both are told."""
    stage = Stage()
    async with stage.on("abcd") as sim:
        key = stage.key("dbac")
        sim.crash("d", reset=True)
        await asyncio.sleep(GONE)
        await stage.get("b", key)
        await sim.start("d")
        await sim.settle()
        sim.partition("b", "c")
        expect(await stage.change("c", key, timeout=0.2), "b")
        await sim.restart("d")
        await stage.get("d", key)
        await asyncio.sleep(GONE)
        return [*await stage.look("d", key), *await stage.look("a", key)]


async def one_that_began_beyond_a_cut(*, orphaned: bool = False) -> list[str]:
    """b and e are cut off from a and c, who invalidate; d is new, begins on b's side, and takes over what b has: all are told in the end."""
    stage = Stage()
    async with stage.on("abce") as sim:
        keys = [stage.key("bac") for _ in range(60)]
        for key in keys:
            await stage.get("b", key)
        sim.partition(["b", "e"], ["a", "c"])
        sim.partition("d", ["a", "c"])
        await asyncio.sleep(GONE)
        for key in keys:
            expect(await stage.change("c", key), "be")
        await asyncio.sleep(GONE)
        await sim.start("d", seeds="be")
        await asyncio.sleep(GONE)
        for key in keys:
            await stage.get("d", key)
        assert stage.groups["d"].stats.handed_over
        if orphaned:
            sim.crash("c", reset=True)
            await asyncio.sleep(GONE)
        sim.heal()
        await asyncio.sleep(2 * GONE)
        await sim.settle()
        return [wrong for name in "deab" for key in keys for wrong in await stage.look(name, key)]


async def one_that_began_beyond_a_cut_and_an_invalidator_that_died() -> list[str]:
    """The same, and who invalidated is gone when the cut is healed: a knows."""
    return await one_that_began_beyond_a_cut(orphaned=True)


async def one_who_was_out_of_the_ring() -> list[str]:
    """b leaves the ring with what it holds, and joins again later than anybody repeats what was invalidated."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        await sim.run("b", sim["b"].ring.leave())
        expect(await stage.change("a", key), "")
        await asyncio.sleep(10 * LONG)
        await sim.run("b", sim["b"].ring.join("simulation", [sim.address("a")]))
        await sim.settle()
        return [*await stage.look("b", key), *await stage.look("a", key)]


async def one_who_was_removed() -> list[str]:
    """b is cut off and removed, and inserted again when it can be reached."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        before = sim["b"].id
        sim.partition("b")
        await asyncio.sleep(GONE)
        await sim["a"].ring.remove("b")
        expect(await stage.change("a", key), "")
        await asyncio.sleep(10 * LONG)
        await sim["a"].ring.insert(before)
        sim.heal()
        await asyncio.sleep(2 * GONE)
        return [*await stage.look("b", key), *await stage.look("a", key)]


async def more_than_anybody_remembers() -> list[str]:
    """b is away for so many invalidations that the first are forgotten."""
    stage = Stage()
    async with stage.on("abc") as sim:
        key = stage.key("bac")
        await stage.get("b", key)
        sim.partition("b")
        await asyncio.sleep(GONE)
        for group in stage.groups.values():
            group.store.log._most = 10
        expect(await stage.change("a", key), "b")
        for number in range(20):
            await stage.change("c", f"another {number}")
        sim.heal()
        await asyncio.sleep(GONE)
        return await stage.look("b", key)


async def a_load_that_is_overtaken() -> list[str]:
    """The source changes while it is read: who waited before may get the old one, nobody later, and nobody keeps it."""
    stage, wrong = Stage(), []
    async with stage.on("abc") as sim:
        for stage.takes in (0.2, 2.0):  # before an owner says that it takes long, and after
            key = stage.key("bac")
            early = [asyncio.ensure_future(stage.get(name, key)) for name in "abc"]
            await asyncio.sleep(stage.takes / 2)
            expect(await stage.change("c", key), "")
            late = [asyncio.ensure_future(stage.look(name, key)) for name in "abc"]
            await asyncio.gather(*early)
            for each in await asyncio.gather(*late):
                wrong += each
            await sim.settle()
            for name in "abc":
                wrong += await stage.look(name, key)
    return wrong
