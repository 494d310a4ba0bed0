"""Trees of supervisors under everything at once: crashes, requests, stops and kills, at moments that a seed chooses.

Whatever happened: nobody outlives the tree, every request is answered, and each end is told once.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import pytest

from clusterkit import Child, GenServer, Node, Stop, Supervisor, cast
from clusterkit.actors.process import Process
from clusterkit.errors import ClusterError, ServerDown
from clusterkit.runtime import now, rng
from clusterkit.testing.isolation import _Nowhere

RESTARTS = ("permanent", "permanent", "transient", "temporary")
TREES = 12  # a run
DEPTH = 2


class MishapError(Exception):
    """What an actor was drawn to meet."""


class Actor(GenServer):
    """An actor whose start, life and end go as the seed says."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    async def init(self) -> None:
        await self.step(fails=0.05, hangs=0.01)

    @cast
    async def end(self, reason: str) -> None:
        if reason == "crash":
            raise MishapError("in its life")
        raise Stop(reason)

    @cast
    async def work(self) -> None:
        await self.step(fails=0.3, hangs=0.05)

    async def terminate(self, reason: object) -> None:
        await self.step(fails=0.05, hangs=0.05)

    async def step(self, fails: float, hangs: float) -> None:
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.choice((0.0, 0.01, 0.3)))
        fate = self.chance.random()
        if fate < fails:
            raise MishapError("drawn")
        if fate < fails + hangs:
            await asyncio.get_running_loop().create_future()


class Branch(Supervisor):
    """A supervisor whose options and children the seed chooses; some of these are supervisors."""

    start_timeout = 2.0

    def __init__(self, chance: Random, path: str, depth: int) -> None:
        self.chance = chance
        self.path = path
        self.depth = depth
        self.strategy = chance.choice(("one_for_one", "one_for_all", "rest_for_one"))
        self.intensity = chance.randint(0, 8) if depth < DEPTH else 50
        self.auto_shutdown = chance.choice(("never", "never", "any_significant", "all_significant"))

    def children(self) -> Sequence[Child[Any]]:
        return [self.child(f"{self.path}.{n}") for n in range(self.chance.randint(2, 5))]

    def child(self, name: str) -> Child[Any]:
        chance = self.chance
        restart: Any = chance.choice(RESTARTS)
        significant = restart != "permanent" and self.auto_shutdown != "never" and chance.random() < 0.3
        if self.depth and chance.random() < 0.4:
            inner = partial(Branch, chance, name, self.depth - 1)
            return Child(inner, name=name, restart=restart, significant=significant)
        shutdown = chance.choice((0, 0.1, 1.0))
        return Child(partial(Actor, chance), name=name, restart=restart, shutdown=shutdown, significant=significant)


class Chaos:
    """One tree, and what befalls it."""

    def __init__(self, node: Node, chance: Random) -> None:
        self.node = node
        self.chance = chance
        self.watched: dict[int, None] = {}
        self.downs: Counter[int] = Counter()
        self.requests: list[asyncio.Task[None]] = []

    @property
    def processes(self) -> list[Process]:
        return [process for process in self.node._processes.values() if process.mailbox.name != "clusterkit.command"]

    def watch(self) -> None:
        """Watch all who are new."""
        for process in self.processes:
            serial = process.mailbox.serial
            if serial not in self.watched:
                self.watched[serial] = None
                process.kernel.monitors.watch(process.ref.address, partial(self.hear, serial))

    def hear(self, serial: int, _: str) -> None:
        self.downs[serial] += 1

    async def run(self) -> None:
        root = await self.plant()
        for _ in range(self.chance.randint(1, 100)):
            self.watch()
            if not self.processes:
                break
            with suppress(ServerDown):  # it is stopping
                await self.befall(self.chance.choice(self.processes))
            await asyncio.sleep(self.chance.choice((0.0, 0.0, 0.01, 0.2, 2.0)))
        self.watch()
        if root.task is not None and not root.task.done():
            await self.fell(root)
        await asyncio.wait_for(asyncio.gather(*self.requests), 120)
        begin = now()
        while self.processes and now() - begin < 60:
            await asyncio.sleep(0.1)
        assert [repr(process) for process in self.processes] == []
        assert self.downs == Counter(dict.fromkeys(self.watched, 1))

    async def plant(self) -> Process:
        for _ in range(100):
            root = Branch(self.chance, "r", DEPTH)
            try:
                ref = await self.node.start(root)
            except (MishapError, TimeoutError):
                assert self.processes == []
                continue
            process = self.node._processes.get(int(ref.address.to))
            if process is not None:
                return process
        raise AssertionError("no tree grows")

    async def fell(self, root: Process) -> None:
        if self.chance.random() < 0.5:
            await self.node.stop(root.ref, timeout=self.chance.choice((0.1, 100.0)), drain=self.chance.random() < 0.5)
        else:
            root.kill()

    async def befall(self, process: Process) -> None:
        chance, actor = self.chance, process.actor
        if isinstance(actor, Branch):
            match chance.randrange(4):
                case 0:
                    process.stop(chance.choice(("normal", "shutdown", "boom")))
                case 1 if chance.random() < 0.3:
                    process.kill()
                case _:
                    self.requests.append(asyncio.create_task(self.request(actor)))
            return
        match chance.randrange(4):
            case 0:
                await process.ref.cast(chance.choice(("work", "work", "nothing")))
            case 1:
                process.stop(chance.choice(("normal", "shutdown", "boom")), drain=chance.random() < 0.5)
            case 2:
                process.kill()
            case _:
                await process.ref.cast("end", chance.choice(("normal", "shutdown", "crash", "boom")))

    async def request(self, branch: Branch) -> None:
        which = f"{branch.path}.{self.chance.randint(0, 5)}"
        try:
            match self.chance.randrange(4):
                case 0:
                    await branch.start_child(branch.child(which))
                case 1:
                    await branch.stop_child(which)
                case 2:
                    await branch.restart_child(which)
                case _:
                    await branch.delete_child(which)
        except (ClusterError, MishapError, TimeoutError, RuntimeError):
            return


@pytest.mark.simulation(seeds=8)
async def test_trees_leave_nobody_behind_and_tell_each_end_once() -> None:
    chance = rng("trees")
    async with Node("alone@127.0.0.1:7022", cookie="the cookie of all tests", network=_Nowhere()) as node:
        for _ in range(TREES):
            await Chaos(node, chance).run()
