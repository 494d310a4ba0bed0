"""What a cache group returns."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from clusterkit.core.identity import NodeId

Source = Literal["hit", "peer", "load"]


class Fetched(NamedTuple):
    """A value, and where it came from: "hit" (held here), "peer" (held by another node), "load" (from the source, now)."""

    value: Any
    source: Source


class Found(dict[str, Any]):
    """The values that `CacheGroup.get_many` found; in ``failed`` is why others were not, `UnknownKey` among it."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, Exception] = {}


class Invalidated(NamedTuple):
    """The other nodes that know of an invalidation, and those that do not know of it yet."""

    reached: tuple[NodeId, ...]
    missed: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What one node of a group has counted since it began, and what it holds now."""

    hits: int
    """Served from this node's own entries, to callers here."""
    hot_hits: int
    """Served from copies of what others own."""
    peer_hits: int
    """Fetched from an owner that had it."""
    peer_loads: int
    """Fetched from an owner that loaded it for that."""
    loads: int
    """Questions to the source, by this node's loader."""
    load_errors: int
    """Those that failed."""
    unknown: int
    """Those for a key that the source does not have."""
    handed_over: int
    """Values that an earlier owner had, so that the source was not asked."""
    stale: int
    """Old values that were served because the source failed."""
    passed_over: int
    """Questions to owners that could not be asked, or gave no word in time."""
    served: int
    """Questions of other nodes."""
    evicted: int
    """Entries that were pushed out."""
    entries: int
    copies: int
    bytes: int
    """What entries and copies take together."""
