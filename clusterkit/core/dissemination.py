"""Whom to tell what happened: everybody at once, or down two trees.

Up to 128 members the one that has news tells each of them itself: one hop, one message
a member. Above that it tells the first members of two trees, and they pass it on. A
tree is not built: the sorted names of the members, turned by a hash of the news, are
read as a 16-ary heap with the origin on top, and the second tree is turned by half a
circle more, so that who passes on in one is a leaf of the other. 1,000 members take
three hops and two messages each; one that does not pass on costs its part of one tree.

Rules: who has seen a piece of news in a tree does not pass it on again there; views
may differ, and what a tree then misses the digests on the probes bring. Sources: the
heap layout is Williams's; trees over a membership list as in Cassandra's and Riak's
broadcast, without their state.
"""

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b

DIRECT = 128  # members, this one included, that are told straight
ARITY = 16
TREES = 3  # straight from the origin, and two that pass on
_SEEN = 4_096  # pieces of news that are remembered


class Dissemination:
    """What one node has told and passed on.

    >>> spread = Dissemination("a", 1)
    >>> number = spread.next_number()
    >>> sorted(spread.targets(["a", "b", "c"], number))
    [('b', 0), ('c', 0)]
    """

    def __init__(self, me: str, boot: int, direct: int = DIRECT) -> None:
        self._me = me
        self._number = boot  # the next run's numbers begin elsewhere
        self._direct = direct
        self._seen: dict[tuple[str, int, int], None] = {}

    def next_number(self) -> int:
        """Number a piece of news; numbers of other runs of this name differ."""
        self._number = (self._number + 1) % (1 << 64)
        return self._number

    def targets(self, members: Sequence[str], number: int) -> list[tuple[str, int]]:
        """Whom to tell news of our own, each with the number of the tree; ``members`` are sorted names."""
        if len(members) <= self._direct:
            return [(name, 0) for name in members if name != self._me]
        return [(name, tree) for tree in (1, 2) for name in children(members, self._me, number, tree, self._me)]

    def pass_on(self, members: Sequence[str], origin: str, number: int, tree: int) -> list[str] | None:
        """Whom to pass news on to; None when it has been seen in this tree before."""
        key = (origin, number, tree)
        if key in self._seen or origin == self._me:
            return None
        self._seen[key] = None
        if len(self._seen) > _SEEN:
            del self._seen[next(iter(self._seen))]
        return children(members, origin, number, tree, self._me) if tree else []


def children(members: Sequence[str], origin: str, number: int, tree: int, me: str) -> list[str]:
    """Whom ``me`` tells in one tree; O(log n). ``members`` are sorted names.

    >>> names = [f"n{i:03}" for i in range(300)]
    >>> first = children(names, "n000", 7, 1, "n000")
    >>> len(first), sum(len(children(names, "n000", 7, 1, name)) for name in names)
    (16, 299)
    """
    root = _index(members, origin)
    count = len(members) - (root is not None)
    if not count:
        return []
    turn = (_hash(origin, number) + (tree - 1) * (count // 2)) % count

    def at(place: int) -> str:  # places of the heap count from 0, without the origin
        index = (place + turn) % count
        return members[index + (root is not None and index >= root)]

    if me == origin:
        heap = 0
    else:
        mine = _index(members, me)
        if mine is None:
            return []
        heap = (mine - (root is not None and mine > root) - turn) % count + 1
    first = ARITY * heap
    return [at(place) for place in range(first, min(first + ARITY, count))]


def _index(members: Sequence[str], name: str) -> int | None:
    index = bisect_left(members, name)
    return index if index < len(members) and members[index] == name else None


def _hash(origin: str, number: int) -> int:
    return int.from_bytes(blake2b(origin.encode() + number.to_bytes(8, "big"), digest_size=8).digest(), "big")
