"""Which nodes take part in a cache group, who owns a key, and who owned it before.

Each node tells in its ring entry which groups it serves. The owner of a key is the
first that serves the group in the key's preference order, among those that are up and
ready: nobody is asked, and peers change when the ring does.

When the ring changed, what the new owner of a key lacks the old one may still have.
Who that is, is read from the rings of the last ten minutes, and, while this node is new
in the group, from the next nodes in the key's order: they owned it without this one.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member
from clusterkit.errors import EmptyRing
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.runtime import now

META = "clusterkit.cache"
_REMEMBER = 600.0  # seconds for which an old owner is asked
_RINGS = 4  # changes that are remembered
_MOST_FORMER = 3


class PeerPicker(Protocol):
    """Says who owns a key. The default asks the ring; give a `CacheGroup` another to shard otherwise."""

    def pick(self, key: str) -> NodeId | None:
        """The node that owns a key, None for this one. Called at each miss: it must not block."""


class CachePeers:
    """The nodes of one group as the node named ``me`` sees them; ``life`` is another for each group that it opens."""

    def __init__(self, ring: GossipRing, me: str, group: str, life: int) -> None:
        self._ring = ring
        self._me = me
        self._group = group
        self._life = life
        self._owners: HashRing[NodeId] = HashRing()
        self._noted: dict[str, None] = {}
        self._former: deque[tuple[float, HashRing[NodeId]]] = deque(maxlen=_RINGS)
        self._new_since = now()
        self.members: dict[str, NodeId] = {}
        """All others that serve the group or ask it, those that are down included, by name."""
        self.lives: dict[str, tuple[int, int]] = {}
        """Of each of them, its incarnation and the number of its group there."""
        self._changed: Callable[[str], None] = lambda _name: None
        self._end = ring.presence.follow(self._look)

    def follow(self, changed: Callable[[str], None]) -> None:
        """Call ``changed`` with the name of each node that is there, and of each that came, went or changed."""
        self._changed = changed
        for member in self._ring.members:
            self._look(member.name)

    def close(self) -> None:
        """Follow no more."""
        self._end()

    def announce(self, owns: bool | None) -> None:
        """Tell the ring that this node serves the group, or only asks it; None: neither."""
        groups = dict(self._ring.presence.meta.get(META, {}))
        groups.pop(self._group, None)
        if owns is not None:
            groups[self._group] = [owns, self._life]
        self._ring.presence.put(META, groups or None)

    # -- following

    def _look(self, name: str) -> None:
        member = self._ring.member(name)
        self._noted[name] = None
        role = self._role(member)
        if member is None or role is None:
            self.members.pop(name, None)
            self.lives.pop(name, None)
        elif name != self._me:
            self.members[name] = member.node
            self.lives[name] = member.node.incarnation, role[1]
        self._changed(name)

    def _role(self, member: Member | None) -> tuple[bool, int] | None:
        """Whether a member owns keys of the group, and which of its lives this is; None when it is no part of it."""
        groups = None if member is None else member.meta.get(META)
        match groups.get(self._group) if isinstance(groups, dict) else None:
            case [bool(owns), int(life)]:
                return owns, life
        return None

    @property
    def owners(self) -> HashRing[NodeId]:
        """The nodes that own keys now."""
        if self._noted:
            self._follow()
        return self._owners

    def _follow(self) -> None:
        before = self._owners.copy()
        while self._noted:
            name, _ = self._noted.popitem()
            member = self._ring.member(name)
            role = self._role(member)
            if member is not None and member.available and role is not None and role[0]:
                self._owners.update(member.node, member.weight)
            elif name in self._owners:
                self._owners.remove(name)
        if before.weights == self._owners.weights:
            return
        if not len(before) or list(before.weights) == [self._me]:
            self._new_since = now()
        else:
            self._former.append((now(), before))

    # -- asking

    def pick(self, key: str) -> NodeId | None:
        """The owner of a key, None for this node; also when nobody owns any."""
        if self._noted:
            self._follow()
        try:
            owner = self._owners.find(key)
        except EmptyRing:
            return None
        return None if owner.name == self._me else owner

    def next_owner(self, key: str, skip: Callable[[str], bool]) -> NodeId | None:
        """The first other owner in a key's preference order that is not to be skipped."""
        order = self.owners.walk(key)
        return next((node for node in order if node.name != self._me and not skip(node.name)), None)

    def former(self, key: str) -> list[NodeId]:
        """The nodes that may hold what this node as the new owner lacks, the last owner first."""
        since = now() - _REMEMBER
        found: dict[str, None] = {}
        for at, ring in reversed(self._former):
            if at >= since:
                found[ring.find(key).name] = None
        if self._new_since >= since and len(self.owners):
            found |= dict.fromkeys(node.name for node in self.owners.range(key, _MOST_FORMER))
        found.pop(self._me, None)
        return [node for name in islice(found, _MOST_FORMER) if (node := self._up(name)) is not None]

    def _up(self, name: str) -> NodeId | None:
        """The node of that name, if it can be asked."""
        member = self._ring.member(name)
        return None if member is None or member.is_out else member.node

    def is_out(self, name: str) -> bool:
        """Whether a node cannot be asked: it is down, or in the ring no more."""
        return self._up(name) is None
