"""Maelstrom's four workloads over the public API: small services, and clients that record what they see.

The services are as simple as they can be and keep their promises: what one node
acknowledged it tells the others every half second until they have it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from clusterkit import CallError, GenServer, Node, call, cast
from clusterkit.runtime import Tasks, rng
from clusterkit.testing.history import History
from clusterkit.testing.sim_cluster import SimCluster

TELL_EVERY = 0.5  # seconds
CLIENTS = 6
OPERATIONS = 30


class Service(GenServer):
    """All four in one: echo, ids, a set that grows, a count that only adds."""

    async def init(self) -> None:
        self.values: dict[int, None] = {}
        self.counts: dict[str, int] = {}
        self.given = 0
        self.tasks = Tasks("service")
        self.tasks.spawn(self._tell_the_others(), "tell")

    async def terminate(self, reason: object) -> None:
        await self.tasks.aclose()

    @call
    async def echo(self, value: int) -> int:
        return value

    @call
    async def generate(self) -> str:
        self.given += 1
        return f"{self.node.id.name}-{self.node.id.incarnation}-{self.given}"

    @call
    async def broadcast(self, value: int) -> None:
        self.values[value] = None

    @call
    async def add(self, number: int) -> None:
        me = f"{self.node.id.name}/{self.node.id.incarnation}"
        self.counts[me] = self.counts.get(me, 0) + number

    @call
    async def values_here(self) -> list[int]:
        return list(self.values)

    @call
    async def sum_here(self) -> int:
        return sum(self.counts.values())

    @cast
    async def merge(self, values: list[int], counts: dict[str, int]) -> None:
        self.values |= dict.fromkeys(values)
        for name, count in counts.items():
            self.counts[name] = max(count, self.counts.get(name, 0))

    async def _tell_the_others(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY)
            for peer in self.node.ring.nodes:
                if peer.name != self.node.id.name:
                    await self._tell(peer.name)

    async def _tell(self, name: str) -> None:
        with contextlib.suppress(CallError):  # it is told again
            await self.node.ref(Service, "service", on=name).cast(Service.merge, list(self.values), dict(self.counts))


async def start(node: Node) -> None:
    await node.start(Service(), name="service")


Operation = Callable[[Node, str, int], Awaitable[object]]


def _on(node: Node, name: str) -> Service:
    return node.ref(Service, "service", on=name).with_(timeout=1.0).proxy


OPERATIONS_OF: dict[str, Operation] = {
    "echo": lambda node, on, value: _on(node, on).echo(value),
    "generate": lambda node, on, _: _on(node, on).generate(),
    "broadcast": lambda node, on, value: _on(node, on).broadcast(value),
    "add": lambda node, on, value: _on(node, on).add(value),
}
READS: dict[str, Operation] = {
    "broadcast": lambda node, on, _: _on(node, on).values_here(),
    "add": lambda node, on, _: _on(node, on).sum_here(),
}


async def run(workload: str) -> History:
    """Let clients work while the network is cut and healed, then read on every node what it has."""
    history = History()
    async with SimCluster(3, app=start) as sim:
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(_client(sim, history, workload, client))
            group.create_task(_cuts(sim))
        await asyncio.sleep(20)
        if workload in READS:
            for name in sim.names:
                work = READS[workload](sim[name], name, 0)
                await history.record(name, "final_read", None, work)
    return history


async def _client(sim: SimCluster, history: History, workload: str, client: int) -> None:
    chance = rng(f"client {client}")
    for number in range(OPERATIONS):
        await asyncio.sleep(chance.random())
        home, on, value = chance.choice(sim.names), chance.choice(sim.names), client * OPERATIONS + number
        reads = workload in READS and chance.random() < 0.2
        name, operation = ("read", READS[workload]) if reads else (workload, OPERATIONS_OF[workload])
        await history.record(f"client {client}", name, None if reads else value, operation(sim[home], on, value))


async def _cuts(sim: SimCluster) -> None:
    chance = rng("cuts")
    for _ in range(3):
        await asyncio.sleep(3 * chance.random())
        sim.partition(chance.choice(sim.names))
        await asyncio.sleep(4 * chance.random())
        sim.heal()
