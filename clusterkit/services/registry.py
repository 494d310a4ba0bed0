"""The service registry: who offers what in the ring; ``node.services`` is a `Services`.

Each node announces its own services in its ring entry, and reads those of all others:
there is no place where they are registered, and nobody is asked. What is decided about
them is decided in `clusterkit.core.offers`; docs/registry.md has the guarantees.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, Literal

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member
from clusterkit.core.offers import (
    META_KEY,
    Catalogue,
    Offer,
    Place,
    Service,
    ServiceNode,
    ServiceOffline,
    check_meta,
    check_requirements,
    check_text,
    offers_of,
    pack,
    required_by,
)
from clusterkit.core.tokens import Key
from clusterkit.errors import ConfigError, NoOffer, OfferTimeout, UnknownNode, UsageError
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.discovery import name_of
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.ring.health import Check, watch_health
from clusterkit.runtime import Tasks, now, rng, until
from clusterkit.services.offer_events import E, Listeners, ServiceStream

Pick = Literal["random", "ring", "least"]


class _Own:
    """One service of this node: what is told of it, and what asks for its health."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer  # its peer is the run that registered it
        self.check: asyncio.Task[None] | None = None

    def end_check(self) -> None:
        if self.check is not None:
            self.check.cancel()


class Registration:
    """One service of this node, from `Services.register`."""

    def __init__(
        self, own: _Own, withdraw: Callable[[list[_Own]], None], change: Callable[[_Own, Offer], None]
    ) -> None:
        self._own = own
        self._withdraw = withdraw
        self._change = change

    def __repr__(self) -> str:
        return f"<Registration {self.module!r} of {self.resource!r}>"

    @property
    def module(self) -> str:
        """The name of the actor to call."""
        return self._own.offer.module

    @property
    def resource(self) -> str:
        """What it is good for."""
        return self._own.offer.resource

    @property
    def healthy(self) -> bool:
        """The last answer of its health check; True for one that has none."""
        return self._own.offer.healthy

    async def deregister(self) -> None:
        """Offer it no more. Does nothing when it is not registered, or was registered again since."""
        self._withdraw([self._own])

    async def update(self, *, meta: Mapping[str, Any] | None = None, requirements: Iterable[str] | None = None) -> None:
        """Tell other metadata, or other requirements; what is not given stays.

        Raises as `Services.register` does, and nothing is changed; `UsageError` when this is not
        registered any more.
        """
        offer = self._own.offer
        if meta is not None:
            offer = replace(offer, meta=check_meta(meta))
        if requirements is not None:
            offer = replace(offer, requirements=check_requirements(requirements))
        self._change(self._own, offer)


class Services:
    """What the members of the ring offer each other, as this node sees it."""

    def __init__(self, kernel: Kernel, ring: GossipRing) -> None:
        self._kernel = kernel
        self._ring = ring
        self._own: dict[Service, _Own] = {}
        self._catalogue = Catalogue()
        self._listeners = Listeners()
        self._tasks = Tasks(f"services/{kernel.id.name}")
        self._rng = rng(f"services:{kernel.id.name}")
        self._resolved: dict[Place, int] = {}  # the number of the last time
        self._turns = count(1)
        self._changed = asyncio.Event()  # made anew at each change
        self._closed = False
        ring.presence.follow(self._look)

    # -- what this node offers

    async def register(
        self,
        module: str,
        resource: str,
        requirements: Iterable[str] = (),
        meta: Mapping[str, Any] | None = None,
        health: Check | None = None,
        *,
        interval: float = 1.0,
    ) -> Registration:
        """Offer a resource to all members: ``module`` is the name of the actor to call for it.

        ``requirements`` are the resources that it needs itself. ``health`` is asked before anybody hears of it, and
        then every ``interval`` seconds; one that raises, or takes longer than that, says no. The same module and
        resource again take the place of the earlier ones. Outside a ring it is told at the next join.

        Raises `ConfigError` for names that cannot be, `UnsupportedPayload` for ``meta``, `UsageError` when all that
        this node announces takes more than 4,096 bytes: then nothing is changed.
        """
        self._check_open()
        check_text(module, "module")
        check_text(resource, "resource")
        offer = Offer(self._kernel.id, module, resource, check_requirements(requirements), check_meta(meta))
        if health is not None and not callable(health):
            raise ConfigError(f"health is {health!r}: it must be a function that says whether the service is healthy")
        if not interval > 0:
            raise ConfigError(f"interval is {interval!r}: it must be a positive number of seconds")
        own = _Own(offer)
        try:
            if health is not None:
                await self._first_answer(own, health, interval)
            before = self._own.get(offer.service)
            self._announce({**self._own, offer.service: own})
        except BaseException:
            own.end_check()
            raise
        if before is not None:
            before.end_check()
        return Registration(own, self._withdraw, self._change)

    async def _first_answer(self, own: _Own, health: Check, interval: float) -> None:
        """Begin to ask, and wait until it has answered: within ``interval`` seconds it has."""
        first: asyncio.Future[None] = self._kernel.loop.create_future()

        def told(healthy: bool) -> None:
            offer = replace(own.offer, healthy=healthy)
            if self._own.get(offer.service) is own and not self._closed:
                self._change(own, offer)
            else:
                own.offer = offer
            if not first.done():
                first.set_result(None)

        name = f"health of {own.offer.module} {own.offer.resource}"
        check = own.check = self._tasks.spawn(watch_health(health, interval, told), name)
        await asyncio.wait((first, check), return_when=asyncio.FIRST_COMPLETED)
        self._check_open()
        if not first.done():
            raise UsageError(f"the {name} ended before it answered")

    async def deregister(self, module: str | Registration, resource: str | None = None) -> None:
        """Offer a service no more; without ``resource`` all of that module.

        Raises `UsageError` when nothing is registered so, except while the node closes.
        """
        if isinstance(module, Registration):
            await module.deregister()
            return
        services = [each for each in self._own if each[0] == module and resource in (None, each[1])]
        if not services and not self._closed:
            what = f"{module!r}" if resource is None else f"{module!r} of {resource!r}"
            raise UsageError(f"node {self._kernel.id.name} has no service {what} registered")
        self._withdraw([self._own[service] for service in services])

    def _withdraw(self, gone: list[_Own]) -> None:
        """Take away those that are registered."""
        found = {each.offer.service for each in gone if self._own.get(each.offer.service) is each}
        for service in found:
            self._own[service].end_check()
        if found and not self._closed:
            self._announce({service: own for service, own in self._own.items() if service not in found})

    def _change(self, own: _Own, offer: Offer) -> None:
        """Announce something else for one that is registered."""
        self._check_open()
        if self._own.get(offer.service) is not own:
            raise UsageError(f"{offer.module!r} of {offer.resource!r} is not registered any more: register it again")
        before, own.offer = own.offer, offer
        try:
            self._announce(self._own)
        except BaseException:
            own.offer = before
            raise

    def _announce(self, own: dict[Service, _Own]) -> None:
        """Take these as what this node offers, and tell; raises before anything is changed."""
        before, self._own = self._own, own
        try:
            self._ring.presence.put(META_KEY, pack(each.offer for each in own.values()) or None)
        except BaseException:
            self._own = before
            raise
        self._look(self._kernel.id.name)  # the ring may be busy, and look later

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"node {self._kernel.id.name} is closing: its services are over")
        self._kernel.check_loop()

    # -- what is seen

    def _member(self, name: str) -> Member | None:
        """A member; of itself this node believes what it tells, whatever the ring says."""
        if name == self._kernel.id.name:
            return Member(self._kernel.id, ready=self._ring.ready, meta=self._ring.presence.meta)
        return self._ring.member(name)

    def _look(self, name: str) -> None:
        """Look at a member that may have changed. May be called again and again: what is seen decides."""
        gone = "left or removed" if self._ring.id else "this node is out of the ring"
        events = self._catalogue.look(name, self._member(name), gone)
        if not events:
            return
        for event in events:
            if isinstance(event, ServiceOffline):
                self._resolved.pop(event.offer.place, None)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._listeners.tell(events)

    def offers(self, resource: str | None = None) -> list[Offer]:
        """All services that are online, or those of one resource; by node, module and resource."""
        return self._catalogue.offers(resource)

    def get_requirements(self, node: NodeId | str | None = None) -> list[Offer]:
        """The services that are online and that a node requires: this one, or any member, online or not.

        Those of this node count. Nobody is asked. Raises `UnknownNode`.
        """
        return self._catalogue.of_any(self._required(node))

    def unmet(self, node: NodeId | str | None = None) -> list[str]:
        """The resources that a node requires and nobody offers now. Raises `UnknownNode`."""
        return list(self._catalogue.lacking(self._required(node)))

    def _required(self, node: NodeId | str | None) -> tuple[str, ...]:
        name = self._kernel.id.name if node is None else name_of(node)
        if (member := self._member(name)) is None:
            raise UnknownNode(f"no member is named {name!r}")
        return required_by(offers_of(member))

    def nodes(self) -> list[ServiceNode]:
        """The members that have registered anything, online or not, by name. O(members and their services)."""
        names = sorted({self._kernel.id.name, *(member.name for member in self._ring.members)})
        found = [(member, offers_of(member)) for name in names if (member := self._member(name)) is not None]
        return [self._node(member, offers) for member, offers in found if offers]

    def _node(self, member: Member, offers: list[Offer]) -> ServiceNode:
        required = required_by(offers)
        lacking = self._catalogue.lacking(required)
        return ServiceNode(member.node, member.available, tuple(offers), required, lacking)

    # -- one of many

    def resolve(self, resource: str, pick: Pick = "random", *, key: Key | None = None) -> Offer:
        """Choose one service that is online and offers a resource.

        ``random``: any. ``ring``: the first node in the preference order of ``key``, so that all
        members choose the same for one key. ``least``: the node for which the fewest calls of this one wait now (of this
        node itself: what waits in the actor's mailbox), among equals the one that was resolved longest ago.
        O(offers), for ``ring`` O(members) at the worst. Raises `NoOffer`, `ConfigError`.
        """
        check_text(resource, "resource")
        if (pick == "ring") != (key is not None):
            raise ConfigError(f"pick is {pick!r} and key is {key!r}: a key goes with pick='ring', and only with that")
        offers = self.offers(resource)
        if not offers:
            raise NoOffer(f"no node that is up offers {resource!r}, as {self._kernel.id.name} sees it", (resource,))
        if pick == "random":
            chosen = self._rng.choice(offers)
        elif key is not None:
            chosen = self._in_order(key, offers)
        elif pick == "least":
            chosen = min(offers, key=lambda offer: (self._load(offer), self._resolved.get(offer.place, 0)))
        else:
            raise ConfigError(f"pick is {pick!r}: it is 'random', 'ring' or 'least'")
        self._resolved[chosen.place] = next(self._turns)
        return chosen

    def _in_order(self, key: Key, offers: list[Offer]) -> Offer:
        """The first of the first node in the preference order of a key."""
        first = {offer.peer.name: offer for offer in reversed(offers)}
        members, n = len(self._ring), 1
        while n < members:
            n = min(4 * n, members)
            for node in self._ring.range(key, n):
                if node.name in first:
                    return first[node.name]
        return offers[0]  # of the only member, or of this node on its way out of the ring

    def _load(self, offer: Offer) -> int:
        """The calls that wait for the node of a service."""
        if offer.peer.name != self._kernel.id.name:
            link = self._kernel.links.get(offer.peer.name)
            return len(link.waiting) if link is not None else 0
        if (inbox := self._kernel.find(offer.module)) is None:
            return 0
        return len(inbox) + (inbox.holder is not None and inbox.holder.turn is not None)

    # -- when something changes

    async def wait_for(self, *resources: str, timeout: float = 30.0) -> dict[str, list[Offer]]:
        """Wait until each of some resources is offered; without names, all that this node's own services require.

        Returns the offers of each. Raises `OfferTimeout`, whose ``missing`` has the others.
        """
        for resource in resources:
            check_text(resource, "resource")
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout!r}: it must be a positive number of seconds")
        deadline = now() + timeout
        while True:
            self._check_open()
            wanted = resources or self._required(None)
            missing = self._catalogue.lacking(dict.fromkeys(wanted))
            if not missing:
                return {resource: self.offers(resource) for resource in wanted}
            if now() >= deadline:  # and after a stall of the loop it may be there all the same
                text = f"within {timeout:g} s nobody offered {', '.join(map(repr, missing))}"
                raise OfferTimeout(text, missing)
            with suppress(TimeoutError):
                await until(deadline, self._changed.wait())

    def watch(self, resource: str | None = None, *, most: int = 1_000) -> ServiceStream:
        """What is online now, and then each change: ``async for event in node.services.watch("gate")``.

        It begins with a `ServiceOnline` for each, and leaves no gap between. Who lets more than ``most`` events wait is
        told by a `Lagged` how many are put together, and then what is another than it was told last.
        """
        if resource is not None:
            check_text(resource, "resource")
        return self._listeners.stream(resource, self.offers(resource), most)

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every event of a type from now on, in order; returns what ends it.

        The types: `ServiceOnline`, `ServiceOffline`, `ServiceChanged`. It runs on the loop, in the middle of the ring's
        work: it must be quick. What was online before is in `offers`.
        """
        return self._listeners.on(kind, told)

    # -- the end

    async def aclose(self) -> None:
        """Tell the others that nothing here can be used any more; end the health checks and the watches."""
        if self._closed:
            return
        self._closed = True
        self._listeners.close()
        self._changed.set()
        if self._own:
            closing = [replace(each.offer, healthy=False) for each in self._own.values()]
            self._ring.presence.put(META_KEY, pack(closing))
        await self._tasks.aclose()
