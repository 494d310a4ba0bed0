"""A node in a process of its own that registers services as a test orders, and notes all that it is told of services."""

import asyncio
from typing import Any

from clusterkit.core.offers import Offer, ServiceChanged, ServiceEvent, ServiceOffline, ServiceOnline
from clusterkit.errors import ClusterError
from clusterkit.node import Node
from clusterkit.runtime import Tasks, now
from clusterkit.services.offer_events import ServiceStream
from clusterkit.testing.child import report
from tests.integration.ring_app import Obeyed, OtherClock, join


def tell_offer(offer: Offer) -> list[Any]:
    return [offer.peer.name, offer.peer.incarnation, offer.module, offer.resource, offer.meta.get("v", 0)]


def tell_event(event: ServiceEvent) -> list[Any]:
    why = event.why if isinstance(event, ServiceOffline) else ""
    return [type(event).__name__, *tell_offer(event.offer), now(), why]


class Registrar(Obeyed):
    """Obeys what has to do with services too."""

    def __init__(self, node: Node, clock: OtherClock, tasks: Tasks) -> None:
        super().__init__(node, clock)
        self._called: list[list[Any]] = []
        self._watched: list[list[Any]] = []
        node.services.on(ServiceOnline, self._note_call)
        node.services.on(ServiceOffline, self._note_call)
        node.services.on(ServiceChanged, self._note_call)
        tasks.spawn(self._read(node.services.watch()), "watch")
        self._own |= {
            "register": self.register,
            "deregister": self.deregister,
            "registry": self.registry,
            "histories": self.histories,
        }

    def _note(self, event: Any) -> None:
        super()._note(event)
        self._events[-1]["at"] = now()

    def _note_call(self, event: ServiceEvent) -> None:
        self._called.append(tell_event(event))

    async def _read(self, events: ServiceStream) -> None:
        async for event in events:
            assert isinstance(event, ServiceOnline | ServiceOffline | ServiceChanged)  # nobody reads too slowly here
            self._watched.append(tell_event(event))

    async def register(self, module: str, resource: str, requirements: list[str], version: int) -> None:
        """Register a service, or another version of it."""
        await self._node.services.register(module, resource, requirements, {"v": version})

    async def deregister(self, module: str) -> None:
        """Take all services of a module away."""
        await self._node.services.deregister(module)

    async def registry(self, nodes: str) -> dict[str, Any]:
        """What is offered, what each of these nodes finds, who is online, and what each of them lacks."""
        services = self._node.services
        return {
            "offers": [tell_offer(each) for each in services.offers()],
            "own": [tell_offer(each) for each in services.get_requirements()],
            "found": {name: [tell_offer(each) for each in services.get_requirements(name)] for name in nodes},
            "online": {each.peer.name: each.online for each in services.nodes()},
            "unmet": {each.peer.name: list(each.unmet) for each in services.nodes() if each.peer.name in nodes},
        }

    async def histories(self) -> dict[str, list[list[Any]]]:
        """All that was told, to callbacks and to a watch."""
        return {"called": self._called, "watched": self._watched}


async def serve(argument: dict[str, Any]) -> None:
    """Run a node: register what it is to register, report where it listens, obey, join, and stay."""
    tasks = Tasks("registrar")
    try:
        async with Node(argument["address"]) as node:
            obeyed = Registrar(node, OtherClock(0.0), tasks)
            for service in argument["services"]:
                await obeyed.register(*service)
            async with await asyncio.start_unix_server(obeyed.obey, argument["orders"]):
                report(listening=str(node.id), incarnation=node.id.incarnation)
                await join(node, argument)
                await node.run_until_signal()
    except ClusterError as error:
        report(failed=type(error).__name__, text=str(error))
    finally:
        await tasks.aclose()
