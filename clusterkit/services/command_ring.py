"""Commands about the ring that this node answers alone: who owns which part of the keys, and changes of it."""

from typing import Any

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.identity import NodeId
from clusterkit.core.members import State
from clusterkit.errors import EmptyRing, UnknownNode, UsageError
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.services.command_arguments import MOST_NAMES
from clusterkit.services.command_views import digests, tell_member, tell_node

_MOST_TREE = 1 << 16  # tokens: entries of the longest list that a message may hold
_REPLICAS = 3
_FEW = 16  # members
_LEAVE = 2.0  # seconds for each step of leaving, at the most
_LAST = 2.5  # seconds of the caller's time for the goodbye and the answer


class Shares:
    """Which part of all keys each member owns; worked out anew only when the ring changed. O(tokens) then."""

    def __init__(self, ring: GossipRing) -> None:
        self._ring = ring
        self._hashes: HashRing[str] = HashRing()
        self._shares: dict[str, float] = {}

    @property
    def hashes(self) -> HashRing[str]:
        """The hash ring of the members' names, as it is now: the same tokens as the ring's own."""
        self.get()
        return self._hashes

    def get(self) -> dict[str, float]:
        """The shares by name, from 0 to 1."""
        weights, before = self._ring.weights, self._hashes.weights
        if changed := [name for name in weights.keys() | before.keys() if weights.get(name) != before.get(name)]:
            self._follow(changed, weights)
            self._shares = shares_of(self._hashes)
        return self._shares

    def _follow(self, changed: list[str], weights: dict[str, int]) -> None:
        if len(changed) > _FEW:  # built at once, many cost a quarter
            self._hashes = HashRing(weights)
            return
        for name in changed:
            if name in weights:
                self._hashes.update(name, weights[name])
            else:
                self._hashes.remove(name)


def shares_of(ring: HashRing[str]) -> dict[str, float]:
    """The part of all keys that each node of a hash ring owns. O(tokens).

    >>> shares = shares_of(HashRing({"a": 1, "b": 3}))
    >>> round(shares["a"], 2), sum(shares.values())
    (0.23, 1.0)
    """
    whole = 1 << ring.scheme.bits
    sizes = dict.fromkeys(ring.weights, 0)
    tokens = list(ring)
    before = tokens[-1][0] - whole if tokens else 0
    for token, name in tokens:
        sizes[name] += token - before
        before = token
    return {name: size / whole for name, size in sizes.items()}


# -- reading


def tell_ring(kernel: Kernel, ring: GossipRing, shares: Shares, *, full: bool) -> dict[str, Any]:
    """The ring as this node sees it; with ``full`` every token. Raises `UsageError` when those are too many to tell."""
    members, hashes = ring.members, shares.hashes
    told = {
        "ring": ring.id,
        "name": kernel.id.name,
        "members": len(members),
        "alive": sum(member.state is State.ALIVE for member in members),
        "digest": digests(kernel, ring)[0],
        "tokens": hashes.size,
        "shares": shares.get(),
        "weights": ring.weights,
        "rfactor": 1,
        "pfactor": _REPLICAS,
    }
    if not full:
        return told
    if hashes.size > _MOST_TREE:
        raise UsageError(f"the ring has {hashes.size} tokens, more than the {_MOST_TREE} that one answer takes")
    return told | {"tree": [[f"{token:016x}", name] for token, name in hashes]}


def tell_owner(ring: GossipRing, key: str | bytes, n: int) -> dict[str, Any]:
    """The first ``n`` members in the order of a key, and the first of all that can be used now."""
    owners = [member for node in ring.range(key, n) if (member := ring.member(node)) is not None]
    try:
        available: dict[str, Any] | None = tell_node(ring.find(key, alive=True))
    except EmptyRing:
        available = None
    told = [tell_node(member.node) | {"state": str(member.state)} for member in owners]
    return {"key": key, "owners": told, "available": available}


def tell_balance(ring: GossipRing, shares: Shares) -> dict[str, Any]:
    """How evenly the keys are spread: each member's share beside what its weight asks for."""
    weights, found = ring.weights, shares.get()
    whole = sum(weights.values())
    members = [
        {"name": name, "weight": weight, "share": found.get(name, 0.0), "ideal": weight / whole}
        for name, weight in weights.items()
    ]
    worst = max((found.get(name, 0.0) * whole / weight for name, weight in weights.items()), default=1.0)
    return {"members": members, "worst": worst}


def known(ring: GossipRing, name: str) -> NodeId:
    """The member of a name; raises `UnknownNode`."""
    if (node := ring.get(name)) is None:
        raise UnknownNode(f"no member is named {name.partition('@')[0]!r}")
    return node


# -- changing


async def insert(ring: GossipRing, nodes: list[str], weight: int | None) -> list[dict[str, Any]]:
    """Put nodes into the ring; return all members."""
    if len(ring) + len(nodes) > MOST_NAMES:
        raise UsageError(
            f"{len(ring)} members and {len(nodes)} more: a command makes a ring of {MOST_NAMES} at the most"
        )
    await ring.insert(*nodes, weight=weight)
    return [tell_member(member) for member in ring.members]


async def update(ring: GossipRing, name: str, weight: int) -> list[dict[str, Any]]:
    """Give a member another weight; return all members."""
    await ring.update(name, weight=weight)
    return [tell_member(member) for member in ring.members]


async def remove(ring: GossipRing, names: list[str]) -> list[dict[str, Any]]:
    """Take members out of the ring; return all members."""
    await ring.remove(*names)
    return [tell_member(member) for member in ring.members]


async def leave(ring: GossipRing, left: float, *, force: bool) -> None:
    """Leave the ring within the ``left`` seconds that the caller has; with ``force`` the others are told, and not waited for."""
    await ring.leave(0.0 if force else min(_LEAVE, max(0.1, (left - _LAST) / 3)))
