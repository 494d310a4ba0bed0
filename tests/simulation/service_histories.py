"""What a node was told of services, and whether that can be true.

`broken_turns` returns one sentence for each rule that a history breaks:

- of each run of a node, module and resource: online, offline, online ..., never one twice in a row;
- a change is told of what is online alone, and is one;
- an earlier run of a node is over before a later one is online, and tells nothing after that;
- a run's announcements are told in the order in which it made them.

Whoever announces puts the number of the announcement into the metadata, as "v".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clusterkit.core.offers import Offer, ServiceEvent, ServiceOffline, ServiceOnline

Key = tuple[str, int, str, str]
"""Name and incarnation of a node, module and resource."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that was told: what, of which service, at which announcement of it."""

    kind: str
    key: Key
    version: int
    at: float = field(compare=False)
    why: str = ""

    @classmethod
    def of(cls, event: ServiceEvent, at: float) -> "Told":
        """Note an event."""
        why = event.why if isinstance(event, ServiceOffline) else ""
        return cls(type(event).__name__, key_of(event.offer), version_of(event.offer), at, why)

    def __str__(self) -> str:
        name, incarnation, module, resource = self.key
        why = f" ({self.why})" if self.why else ""
        return f"{self.at:.3f} {self.kind} {name}/{incarnation} {module} {resource} v{self.version}{why}"


def key_of(offer: Offer) -> Key:
    """Tell a service of a run of a node apart from all others."""
    return offer.peer.name, offer.peer.incarnation, offer.module, offer.resource


def version_of(offer: Offer) -> int:
    """The number of the announcement; 0 for none."""
    version = offer.meta.get("v", 0)
    assert isinstance(version, int)
    return version


def online_at_the_end(history: Iterable[Told]) -> dict[Key, int]:
    """What is online for one who was told all this, with the last version of each."""
    online: dict[Key, int] = {}
    for told in history:
        if told.kind == ServiceOffline.__name__:
            online.pop(told.key, None)
        else:
            online[told.key] = told.version
    return online


def broken_turns(history: Sequence[Told]) -> list[str]:
    """What is wrong in the order of a history."""
    found: list[str] = []
    online: dict[Key, int] = {}
    latest: dict[str, int] = {}
    versions: dict[Key, int] = {}
    for told in history:
        name, incarnation = told.key[:2]
        began = told.kind == ServiceOnline.__name__
        if began == (told.key in online):
            found.append(f"out of turn: {told}")
        if incarnation < latest.get(name, 0):
            late = "over too late" if told.kind == ServiceOffline.__name__ else "a ghost"
            found.append(f"{late}: {told}, after {name}/{latest[name]}")
        if told.version < versions.get(told.key, 0):
            found.append(f"back in time: {told}, after v{versions[told.key]}")
        if told.kind == "ServiceChanged" and told.version == online.get(told.key):
            found.append(f"no change: {told}")
        if told.kind == ServiceOffline.__name__:
            online.pop(told.key, None)
        else:
            online[told.key] = told.version
            latest[name] = max(incarnation, latest.get(name, 0))
        versions[told.key] = max(told.version, versions.get(told.key, 0))
    return found
