"""What was registered, found and told in the scenario of the registry's rules, and those who listen there.

Whoever registers notes it: what a node should find of another is read from there, and so is whether what was told was ever so.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from clusterkit import GenServer, Node, ServiceChanged, ServiceOffline, ServiceOnline
from clusterkit.core.members import Lagged
from clusterkit.core.offers import ServiceEvent
from clusterkit.runtime import now, rng
from clusterkit.services.offer_events import ServiceStream
from tests.simulation import actor_faults
from tests.simulation.service_histories import Key, Told

FIRST = "a"
"""The node that lives through, is always ready and administers the ring."""
INTERVAL = 0.5  # seconds between two health checks
SLOW = 2.0  # seconds at the most between two events that the slow one takes
MEDDLES = 0.05  # the chance that a callback changes something
Service = tuple[str, str]
"""Module and resource."""
LISTENERS = ("meddler", "callback", "watch", "slow")


@dataclass(slots=True)
class Registered:
    """What a life of a node has registered, by module and resource."""

    versions: dict[Service, int] = field(default_factory=dict)
    requirements: dict[Service, tuple[str, ...]] = field(default_factory=dict)
    sick: dict[Service, None] = field(default_factory=dict)
    """Those that are not healthy."""
    ready: bool = True
    """Whether the node itself says that it is."""
    changed: float = 0.0
    """When others may have heard of the last change at the latest, if nothing had kept them from it."""

    def offered(self, name: str, incarnation: int) -> dict[Key, int]:
        """What should be online while it runs under this incarnation."""
        if not self.ready:
            return {}
        healthy = {service: version for service, version in self.versions.items() if service not in self.sick}
        return {(name, incarnation, *service): version for service, version in healthy.items()}

    @property
    def required(self) -> list[str]:
        """All that it requires."""
        return sorted({resource for each in self.requirements.values() for resource in each})


@dataclass(slots=True)
class Registries(actor_faults.Evidence):
    """And what was registered, found and told."""

    registered: dict[str, Registered] = field(default_factory=lambda: defaultdict(Registered))
    """By life."""
    announced: dict[int, tuple[str, Service, float]] = field(default_factory=dict)
    """By version the life, the service and when; a version is the number of the announcement, among all of all nodes."""
    histories: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """By life and listener."""
    wrong: list[str] = field(default_factory=list)
    lagged: int = 0
    looks: int = 0
    """How often what one found of another that nothing disturbed was right."""

    async def begin(self, node: Node) -> None:
        """Listen, and register what each node has, before it joins."""
        life = self.new_life(node)
        self.registered[life].changed = now()
        await node.start(Listener(self, life))
        await self.register(node, life, ("base", "common"), ("common", "red"))

    async def register(self, node: Node, life: str, service: Service, requirements: tuple[str, ...]) -> Any:
        """Register a service, perhaps in the place of an earlier one."""
        mine, version = self.registered[life], len(self.announced) + 1
        self.announced[version] = life, service, now()
        check = (lambda: service not in mine.sick) if service[0] == "m0" else None
        registration = await node.services.register(*service, requirements, {"v": version}, check, interval=INTERVAL)
        self.note(life, service, version, requirements)
        return registration

    def note(self, life: str, service: Service, version: int | None, requirements: tuple[str, ...] = ()) -> None:
        """Take note of what is registered from now on; without a version nothing is."""
        mine = self.registered[life]
        mine.changed = now()
        if version is None:
            del mine.versions[service], mine.requirements[service]
            mine.sick.pop(service, None)
        else:
            mine.versions[service], mine.requirements[service] = version, requirements

    def hear(self, listener: str, event: ServiceEvent | Lagged) -> None:
        """Take note of what a listener was told."""
        if self.over:
            return
        if isinstance(event, Lagged):
            self.lagged += event.missed
        else:
            self.histories[listener].append(Told.of(event, now()))

    def set_ready(self, node: Node, ready: bool) -> None:
        """Say whether a node is ready."""
        mine = self.registered[self.life(node.id.name)]
        mine.ready, mine.changed = ready, now()
        node.ring.set_ready(ready)


class Listener(GenServer):
    """Those that listen on one node: two callbacks for each type, a watch, and a watch that is read slowly.

    The first callback meddles: now and then it says in the middle of the telling that its node is not ready, or is again.
    """

    def __init__(self, evidence: Registries, life: str) -> None:
        self.evidence = evidence
        self.life = life

    async def init(self) -> None:
        services, self.chance = self.node.services, rng(f"meddler {self.life}")
        for called in (self.meddle, self.called):
            services.on(ServiceOnline, called)
            services.on(ServiceOffline, called)
            services.on(ServiceChanged, called)
        self.create_task(self.read("watch", services.watch()))
        self.create_task(self.read("slow", services.watch(most=2), SLOW))

    def meddle(self, event: ServiceEvent) -> None:
        self.evidence.hear(f"{self.life} meddler", event)
        name = self.node.id.name
        if self.evidence.sending and name != FIRST and self.chance.random() < MEDDLES:
            self.evidence.set_ready(self.node, not self.node.ring.ready)

    def called(self, event: ServiceEvent) -> None:
        self.evidence.hear(f"{self.life} callback", event)

    async def read(self, how: str, events: ServiceStream, most: float = 0.0) -> None:
        chance = rng(f"{how} {self.life}")
        async for event in events:
            self.evidence.hear(f"{self.life} {how}", event)
            if most and self.evidence.sending:
                await asyncio.sleep(most * chance.random())
