"""What befalls the nodes of the actors' scenarios, and which of it explains what.

Node a lives through; b and c may crash, or be closed in good order, and start again. All may stand still for a
while, connections are reset, ways are cut. Each `Fault` says whom it touched, and from when to when.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clusterkit import ClusterError, Node
from clusterkit.runtime import now, rng
from clusterkit.testing.path import Conditions
from clusterkit.testing.sim_cluster import NotSettled, SimCluster
from tests.simulation.numbered_messages import still_waiting

LATE = 0.02  # seconds: a deadline is found in ticks
TRAVEL = 0.25
"""Seconds in which a message arrives, and its answer, where nothing disturbs the way."""
RECOVERY = 4.0
"""Seconds after a fault in which it still explains what is out of reach, and what comes late."""
UNNOTICED = 16.0  # seconds until a half-open connection is cut
REST = 60.0
"""Seconds in which all that waits must be through, when the faults are over."""
FOR_EVER = float("inf")
"""No time at all, yet."""


@dataclass(slots=True)
class Fault:
    """What touched one node, or the way between two, from ``began`` to ``ended``."""

    kind: str
    nodes: frozenset[str]
    began: float
    ended: float = FOR_EVER

    def touches(self, *nodes: str) -> bool:
        """Whether it is felt between these nodes, or at one of them."""
        return bool(self.nodes & set(nodes)) if len(self.nodes) == 1 else self.nodes <= set(nodes)

    def overlaps(self, since: float, until: float) -> bool:
        """Whether it was felt at some time between these."""
        return self.began <= until and since <= self.ended + RECOVERY


@dataclass(slots=True)
class Evidence:
    """Which lives there were, and what befell them; each scenario adds what was done and seen."""

    faults: list[Fault] = field(default_factory=list)
    lives: dict[str, int] = field(default_factory=dict)
    crashes: dict[str, float] = field(default_factory=dict)
    """When each life that ended so crashed."""
    ends: dict[str, float] = field(default_factory=dict)
    """When each life that was not the last crashed, or was closed in good order."""
    works: dict[str, list[asyncio.Task[None]]] = field(default_factory=dict)
    """What is done by each life."""
    left: list[str] = field(default_factory=list)
    trace: str = ""
    sending: bool = True
    over: bool = False
    """What happens from now on, when the cluster is taken down, is no evidence."""

    def new_life(self, node: Node) -> str:
        """Begin another life of a node: its name and how many it has had."""
        name = node.id.name
        self.lives[name] = self.lives.get(name, 0) + 1
        return self.life(name)

    def begin_work(self, life: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that ends when this life has been closed."""
        task = asyncio.create_task(work)
        self.works.setdefault(life, []).append(task)
        return task

    def life(self, name: str) -> str:
        """The life that a node has now."""
        return f"{name}{self.lives[name]}"

    def live_on(self, *names: str) -> bool:
        """Whether each of these nodes has had one life."""
        return not any(node_of(life) in names for life in self.ends)

    def is_calm(self, since: float, until: float, *nodes: str) -> bool:
        """Whether nothing disturbed these nodes, and what is between them."""
        return not any(fault.touches(*nodes) and fault.overlaps(since, until) for fault in self.faults)

    def is_broken(self, since: float, until: float, *nodes: str) -> bool:
        """Whether these nodes may have been out of reach of each other: a reset alone does not do that."""
        faults = (fault for fault in self.faults if fault.kind != "reset")
        return any(fault.touches(*nodes) and fault.overlaps(since, until) for fault in faults)

    def calm_since(self, at: float, *nodes: str) -> float:
        """When what began to disturb these nodes before that time, or soon after, was over; at least that time."""
        faults = (each for each in self.faults if each.touches(*nodes) and each.began <= at + RECOVERY)
        return max([at, *(each.ended for each in faults)])

    def awake(self, name: str, at: float) -> float:
        """When a node that may stand still at that time, or just after, goes on."""
        pauses = (each for each in self.faults if each.kind == "pause" and name in each.nodes)
        return max([at, *(each.ended for each in pauses if each.began - LATE <= at <= each.ended)])


def node_of(life: str) -> str:
    """The node that a life was one of."""
    return life.rstrip("0123456789")


def a_network(chance: Random) -> Conditions:
    """A near or a far one, that splits what it carries."""
    latency = chance.choice([0.0005, 0.005, 0.02])
    return Conditions(latency, latency, fragmentation=0.2)


# -- faults ---------------------------------------------------------------------------


async def befall(sim: SimCluster, evidence: Evidence, turns: int, most: float = 8.0) -> None:
    """Let one thing after the other happen, each for up to ``most`` seconds."""
    chance = rng("faults")
    for _ in range(turns):
        await asyncio.sleep(2 * chance.random())
        one, other = chance.sample(sim.names, 2)
        lasting = most * chance.random() ** 2
        match chance.choice(["reset", "reset", "half open", "cut", "one way", "pause", "crash", "kill", "close"]):
            case "reset":
                sim.world.reset(one, other, seen_by=chance.choice([None, one]))
                evidence.faults.append(Fault("reset", frozenset((one, other)), now(), now()))
            case "half open":
                sim.world.forget(one, other)
                evidence.faults.append(Fault("half open", frozenset((one, other)), now(), now() + UNNOTICED))
            case "pause":
                await pause(sim, evidence, one, lasting)
            case "crash" | "kill" as how:
                await crash(sim, evidence, chance.choice(sim.names[1:]), lasting, reset=how == "kill")
            case "close":
                await close(sim, evidence, chance.choice(sim.names[1:]), lasting)
            case how:
                await cut(sim, evidence, one, other, lasting, both=how == "cut")


async def pause(sim: SimCluster, evidence: Evidence, name: str, lasting: float) -> None:
    """Let a node stand still."""
    evidence.faults.append(fault := Fault("pause", frozenset((name,)), now()))
    sim.pause(name)
    await asyncio.sleep(lasting)
    sim.resume(name)
    fault.ended = now()


async def crash(sim: SimCluster, evidence: Evidence, name: str, lasting: float, *, reset: bool) -> None:
    """Let a node crash, and start it again."""
    evidence.faults.append(fault := Fault("crash", frozenset((name,)), now()))
    evidence.ends[evidence.life(name)] = evidence.crashes[evidence.life(name)] = now()
    sim.crash(name, reset=reset)
    await asyncio.sleep(lasting)
    await sim.start(name)
    fault.ended = now()


async def close(sim: SimCluster, evidence: Evidence, name: str, lasting: float) -> None:
    """Close a node in good order, and start it again."""
    life = evidence.life(name)
    evidence.faults.append(fault := Fault("close", frozenset((name,)), now()))
    evidence.ends[life] = now()
    await sim.stop(name)
    for work in evidence.works.get(life, []):
        work.cancel()
    await asyncio.sleep(lasting)
    await sim.start(name)
    fault.ended = now()


async def cut(sim: SimCluster, evidence: Evidence, one: str, other: str, lasting: float, *, both: bool) -> None:
    """Let nothing pass from one node to another, or both ways."""
    evidence.faults.append(fault := Fault("cut", frozenset((one, other)), now()))
    sim.cut(one, other)
    if both:
        sim.cut(other, one)
    await asyncio.sleep(lasting)
    sim.heal()
    fault.ended = now()


# -- what the scenarios share -----------------------------------------------------------


async def in_each_life(sim: SimCluster, evidence: Evidence, name: str, work: Any) -> None:
    """Do ``work(node)`` as part of a node, and again in its next life when it ended over that."""
    while evidence.sending:
        if any(node.id.name == name for node in sim.running) and (life := evidence.life(name)) not in evidence.ends:
            task = evidence.begin_work(life, sim.run(name, work(sim[name])))
            try:
                await asyncio.wait({task})
            finally:
                task.cancel()
            error = None if task.cancelled() else task.exception()
            if error is not None and not (isinstance(error, ClusterError) and life in evidence.ends):
                raise error
            if not (task.cancelled() or error):
                return
        await asyncio.sleep(0.25)


async def run_on(sim: SimCluster, name: str, work: Coroutine[Any, Any, Any]) -> Any:
    """Do something as part of a node; raises `ClusterError` when there is none, or none any more."""
    try:
        return await sim.run(name, work)
    finally:
        work.close()


async def all_of(*works: Coroutine[Any, Any, None]) -> None:
    """Do all at once."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def come_to_rest(sim: SimCluster, evidence: Evidence, held: Callable[[Node], Iterable[str]]) -> None:
    """Wait until nothing waits any more; note what does all the same."""
    deadline, left = now() + REST, [""]
    while left and now() < deadline:
        await asyncio.sleep(0.5)
        try:
            await sim.settle()
            left = [f"{node.id.name}: {what}" for node in sim.running for what in (*still_waiting(node), *held(node))]
        except NotSettled as error:
            left = [str(error)]
    evidence.left = left
    evidence.trace = sim.trace.digest()
    evidence.over = True
