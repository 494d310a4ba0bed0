"""Which member owns a key: a `HashRing` that follows the members.

Every member with the same view finds the same owners. Down members keep their keys,
so that a short fault moves none; ``alive=True`` asks for the first in preference order
that can be used now.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member, MemberJoined, MemberLeft, MemberRemoved, MemberUpdated
from clusterkit.core.tokens import Key
from clusterkit.errors import EmptyRing

MOVING = (MemberJoined, MemberLeft, MemberRemoved, MemberUpdated)
"""The events after which keys may have other owners."""
_MANY = 16  # changes past which the ring is built anew: each costs a pass over all tokens


class KeyRing:
    """The owners of keys; ``member`` gives what is believed of a name.

    Changes are only noted; the tokens of new members are drawn when somebody looks.
    """

    def __init__(self, member: Callable[[str], Member | None]) -> None:
        self._hashes: HashRing[NodeId] = HashRing()
        self._noted = self._hashes
        self._changed: dict[str, None] = {}
        self._member = member

    def follow(self, name: str) -> None:
        """Take note that what is in the ring under a name changed."""
        self._changed[name] = None

    @property
    def hashes(self) -> HashRing[NodeId]:
        """The hash ring of all members as they are now."""
        if len(self._changed) > _MANY:
            names = {**dict.fromkeys(self._hashes.weights), **self._changed}
            members = [member for name in names if (member := self._member(name)) is not None]
            self._hashes = HashRing({member.node: member.weight for member in members})
            self._changed.clear()
        while self._changed:
            name, _ = self._changed.popitem()
            member = self._member(name)
            if member is not None:
                self._hashes.update(member.node, member.weight)
            elif name in self._hashes:
                self._hashes.remove(name)
        return self._hashes

    def note(self) -> None:
        """Remember who owns what now, for `moved`."""
        self._noted = self.hashes.copy()

    def moved(self) -> float:
        """The part of all keys, from 0 to 1, that have another owner than at the last `note` or `moved`. O(members)."""
        before, after = self._noted, self.hashes
        if before.weights == after.weights:
            return 0.0
        self.note()
        return before.diff(after).fraction

    def find(self, key: Key, *, alive: bool) -> NodeId:
        """The owner of a key; raises `EmptyRing`."""
        if not alive:
            return self.hashes.find(key)
        found = next(self._available(key), None)
        if found is None:
            raise EmptyRing("no member of the ring is alive and ready")
        return found

    def range(self, key: Key, n: int, *, alive: bool) -> tuple[NodeId, ...]:
        """The first ``n`` owners of a key in preference order; fewer when there are fewer."""
        return tuple(islice(self._available(key), n)) if alive else self.hashes.range(key, n)

    def _available(self, key: Key) -> Iterator[NodeId]:
        for node in self.hashes.walk(key):
            member = self._member(node.name)
            if member is not None and member.available:
                yield node
