"""Which node offers what: the pure part of the service registry.

A node announces the services that it runs as one list in its metadata; nobody else
writes it. A `Catalogue` holds what one node sees of all others, compares each new
view of a member with the one before, and says what follows. A `Backlog` holds what
one reader of those events has not read yet.

Rules: a service is online while its node is up and ready and the service is
healthy. Per node (its incarnation included), module and resource the events are
`ServiceOnline`, `ServiceOffline`, `ServiceOnline` ..., in turns and in that order; a
`ServiceChanged` comes between an online and an offline. What another node announces
is not trusted: what is malformed is left out, and never raises.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sortedcontainers import SortedDict

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Lagged, Member
from clusterkit.core.message_types import type_of
from clusterkit.core.payload import decode, encode
from clusterkit.errors import ConfigError, UnsupportedPayload

META_KEY = "clusterkit.services"
MOST_NAME = 64  # bytes of a module or resource
MOST_REQUIRED = 256  # of one service
_MOST_SERVICES = 512  # more do not fit into the metadata of a node
_NOTHING: Mapping[str, Any] = MappingProxyType({})

Service = tuple[str, str]
"""Module and resource: what tells the services of one node apart."""
Place = tuple[str, str, str]
"""The name of a node, module and resource: the order of all lists."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One service of one node, as this node sees it.

    ``peer`` is the run of the node that offers it, ``module`` the name of the actor to call
    there, ``resource`` what it is good for. ``healthy`` is its own word, from its health check.

    >>> offer = Offer(NodeId("gate-1", "10.0.0.5", 7022, 3), "gate", "gate", requirements=("data",))
    >>> offer.place, offer.healthy
    (('gate-1', 'gate', 'gate'), True)
    """

    peer: NodeId
    module: str
    resource: str
    requirements: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, hash=False)
    healthy: bool = True

    @property
    def service(self) -> Service:
        """Module and resource."""
        return self.module, self.resource

    @property
    def place(self) -> Place:
        """Name of the node, module and resource, in the order of all lists."""
        return self.peer.name, self.module, self.resource


@dataclass(frozen=True, slots=True)
class ServiceOnline:
    """A service can be used: it was registered, became healthy, or its node came or is back."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class ServiceOffline:
    """A service can be used no more; ``why`` says what happened to it or its node. ``offer`` is as it was last."""

    offer: Offer
    why: str


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """What a service that is online tells of itself, or requires, is another than before."""

    offer: Offer


ServiceEvent = ServiceOnline | ServiceOffline | ServiceChanged


@dataclass(frozen=True, slots=True)
class ServiceNode:
    """A member that runs services: whether it is up and ready, what it offers and requires, and what it lacks.

    >>> ServiceNode(NodeId("web", "10.0.0.5", 7022, 3), True, (), ("data",), unmet=("data",)).unmet
    ('data',)
    """

    peer: NodeId
    online: bool
    offers: tuple[Offer, ...]
    requirements: tuple[str, ...]
    unmet: tuple[str, ...]


# -- what users give


def check_text(text: Any, what: str) -> str:
    """Return a name that can be announced, or raise `ConfigError` that says what is wrong with it."""
    if not isinstance(text, str):
        raise ConfigError(f"{what} must be a str, not {type(text).__name__}: {text!r}")
    if not _is_text(text):
        raise ConfigError(f"{what} {text!r}: it needs 1 to {MOST_NAME} bytes of printable text")
    return text


def check_requirements(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return them without doubles, in order; raises `ConfigError`."""
    if isinstance(requirements, str | bytes) or not isinstance(requirements, Iterable):
        raise ConfigError(f"requirements is a list of resources, as [{requirements!r}], not {requirements!r}")
    told = tuple(dict.fromkeys(check_text(each, "requirement") for each in requirements))
    if len(told) > MOST_REQUIRED:
        raise ConfigError(f"{len(told)} requirements of one service: {MOST_REQUIRED} are the most")
    return told


def check_meta(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metadata as others will read it; raises `ConfigError`, `UnsupportedPayload`.

    Messages are refused: a node that does not know their type could read nothing of this one's metadata.
    """
    if meta is not None and not isinstance(meta, Mapping):
        raise ConfigError(f"meta is a mapping of names to values, not {meta!r}")
    plain = dict(meta or {})
    packed = encode(plain, "meta")
    if _has_message(plain):
        raise UnsupportedPayload("meta has a message in it: what is announced is plain values", path="meta")
    read: dict[str, Any] = decode(packed, "meta")
    return read


def _has_message(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_message, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_message, value))
    return type_of(value) is not None


def _is_text(text: str) -> bool:
    return text.isprintable() and 0 < len(text.encode()) <= MOST_NAME


# -- what is announced


def pack(offers: Iterable[Offer]) -> list[list[Any]]:
    """Make the announcement of a node's services.

    >>> pack([Offer(NodeId("a", "10.0.0.5", 7022, 3), "gate-1", "gate", ("data",), {"zone": "x"})])
    [['gate-1', 'gate', ['data'], {'zone': 'x'}, True]]
    """
    return [
        [each.module, each.resource, list(each.requirements), dict(each.meta), each.healthy]
        for each in sorted(offers, key=lambda each: each.place)
    ]


def unpack(told: object, peer: NodeId) -> list[Offer]:
    """Read the announcement of a node, by module and resource; what is malformed is left out."""
    if type(told) is not list:
        return []
    read: dict[Service, Offer] = {}
    for each in told[:_MOST_SERVICES]:
        if type(each) is list and (offer := _unpack(each, peer)) is not None:
            read.setdefault(offer.service, offer)
    return [offer for _, offer in sorted(read.items())]


def _unpack(told: list[Any], peer: NodeId) -> Offer | None:
    match told:  # a later version may tell more
        case [str(module), str(resource), list(required), dict(meta), bool(healthy), *_]:
            texts = [module, resource, *required[:MOST_REQUIRED]]
            if all(isinstance(each, str) and _is_text(each) for each in texts) and _has_names(meta):
                return Offer(peer, module, resource, tuple(texts[2:]), meta, healthy)
    return None


def _has_names(meta: dict[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in meta)


def offers_of(member: Member) -> list[Offer]:
    """Read what a member announces, whether it is online or not."""
    return unpack(member.meta.get(META_KEY), member.node)


def required_by(offers: Iterable[Offer]) -> tuple[str, ...]:
    """All that some services require, sorted."""
    return tuple(sorted({resource for offer in offers for resource in offer.requirements}))


# -- what is seen


class Catalogue:
    """The services that are online, as one node sees them."""

    def __init__(self) -> None:
        self._nodes: SortedDict[str, dict[Service, Offer]] = SortedDict()
        self._resources: dict[str, SortedDict[Place, Offer]] = {}

    def look(self, name: str, member: Member | None, gone: str = "") -> list[ServiceEvent]:
        """Look at a member again, and tell what is new; ``gone`` says why there is none. O(its services).

        First all that is offline now, then the rest, each by module and resource.
        """
        before = self._nodes.get(name, {})
        told = {} if member is None else {offer.service: offer for offer in offers_of(member)}
        usable = member is not None and member.available
        after = {service: offer for service, offer in told.items() if usable and offer.healthy}
        ended = (offer for service, offer in before.items() if not _goes_on(offer, after.get(service)))
        over = [ServiceOffline(offer, _why(offer, member, gone, told=offer.service in told)) for offer in ended]
        events = [*over, *_begun(before, after)]
        for event in events:
            self._note(event)
        if after:
            self._nodes[name] = after
        else:
            self._nodes.pop(name, None)
        return events

    def _note(self, event: ServiceEvent) -> None:
        offer = event.offer
        places = self._resources.setdefault(offer.resource, SortedDict())
        if not isinstance(event, ServiceOffline):
            places[offer.place] = offer
            return
        del places[offer.place]
        if not places:
            del self._resources[offer.resource]

    def offers(self, resource: str | None = None) -> list[Offer]:
        """Those of one resource, or all, by node, module and resource."""
        if resource is None:
            return [offer for services in self._nodes.values() for offer in services.values()]
        return list(self._resources.get(resource, {}).values())

    def of_any(self, resources: Collection[str]) -> list[Offer]:
        """Those of some resources, by node, module and resource."""
        found = [offer for resource in set(resources) for offer in self._resources.get(resource, {}).values()]
        return sorted(found, key=lambda offer: offer.place)

    def lacking(self, resources: Iterable[str]) -> tuple[str, ...]:
        """Those of some resources that nobody offers, in their order."""
        return tuple(resource for resource in resources if resource not in self._resources)


def _goes_on(before: Offer | None, after: Offer | None) -> bool:
    """Whether it is the same service of the same run."""
    return before is not None and after is not None and before.peer == after.peer


def _begun(before: dict[Service, Offer], after: dict[Service, Offer]) -> Iterator[ServiceEvent]:
    for service, offer in after.items():
        was = before.get(service)
        if not _goes_on(was, offer):
            yield ServiceOnline(offer)
        elif was != offer:
            yield ServiceChanged(offer)


def _why(offer: Offer, member: Member | None, gone: str, *, told: bool) -> str:
    """Why a service that was online is not."""
    if member is None:
        return gone
    if member.node.incarnation != offer.peer.incarnation:
        return "restarted"
    if member.node != offer.peer:
        return "moved"
    if member.verdict is not None:
        return member.verdict
    if not member.ready:
        return "not ready"
    return "not healthy" if told else "deregistered"


# -- what a reader has not read yet


class _Behind:
    """What a reader was told of one node, and is otherwise by now."""

    def __init__(self) -> None:
        self.over: OrderedDict[Place, str] = OrderedDict()
        """What the reader believes online and is not, or in an earlier run of the node; and why."""
        self.now: OrderedDict[Place, Offer] = OrderedDict()
        """What is online, and new to the reader or another than it was told."""

    def fold(self, event: ServiceEvent, told: Offer | None) -> None:
        """Take an event of a service of which the reader was last ``told`` that."""
        offer, place = event.offer, event.offer.place
        self.now.pop(place, None)
        if isinstance(event, ServiceOffline):
            if told is not None:
                self.over.setdefault(place, event.why)
            return
        if told is not None and told.peer == offer.peer:
            self.over.pop(place, None)
        if offer != told:
            self.now[place] = offer


class Backlog:
    """The events that wait for one reader, who may be slow; begins with what is online now.

    Past ``most`` events the reader is told by a `Lagged` how many are put together, and then, node by
    node, what is another than it was told last. So it holds ``most`` events and twice the services at the
    most, and what is read alternates as what happened does: an earlier run of a node is over before a later one begins.
    """

    def __init__(self, present: Iterable[Offer], most: int) -> None:
        self._told: dict[Place, Offer] = {}
        self._behind: OrderedDict[str, _Behind] = OrderedDict()
        self._waiting: deque[ServiceEvent] = deque()  # of nodes that are not in the above
        self._most = most
        self._missed = 0
        for offer in present:
            self._fold(ServiceOnline(offer))

    def put(self, event: ServiceEvent) -> None:
        """Take an event."""
        if event.offer.peer.name in self._behind:
            self._fold(event)
        elif len(self._waiting) < self._most:
            self._waiting.append(event)
        else:
            self._missed += len(self._waiting) + 1
            for each in (*self._waiting, event):
                self._fold(each)
            self._waiting.clear()

    def _fold(self, event: ServiceEvent) -> None:
        name = event.offer.peer.name
        behind = self._behind.setdefault(name, _Behind())
        behind.fold(event, self._told.get(event.offer.place))
        self._drop_if_even(name)

    def _drop_if_even(self, name: str) -> None:
        if not self._behind[name].over and not self._behind[name].now:
            del self._behind[name]

    def take(self) -> ServiceEvent | Lagged | None:
        """What the reader is told next; None when it has read all."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return Lagged(missed)
        if self._behind:
            return self._catch_up()
        if not self._waiting:
            return None
        event = self._waiting.popleft()
        if isinstance(event, ServiceOffline):
            del self._told[event.offer.place]
        else:
            self._told[event.offer.place] = event.offer
        return event

    def _catch_up(self) -> ServiceEvent:
        name, behind = next(iter(self._behind.items()))
        event: ServiceEvent
        if behind.over:
            place, why = behind.over.popitem(last=False)
            event = ServiceOffline(self._told.pop(place), why)
        else:
            place, offer = behind.now.popitem(last=False)
            event = ServiceChanged(offer) if place in self._told else ServiceOnline(offer)
            self._told[place] = offer
        self._drop_if_even(name)
        return event
