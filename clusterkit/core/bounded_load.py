"""Consistent hashing with bounded loads: no node holds more than its share and a little.

A plain ring gives a node its tokens' share of the keys, which strays from the mean,
and far when keys are few. Here a key goes to the first node clockwise that is not
full; full means ``ceil(c * keys * weight / sum of weights)``, ``c`` at least 1. The
price is memory: where a key is, this object remembers, and no hash can tell.

At every moment every load is within its capacity. Where a capacity falls (a key was
released, a node came), what is over moves on, the newest key first; where one rises,
nothing moves back. So loads are the same for the same history, not for any history.

Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016).
"""

from fractions import Fraction
from typing import Generic

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.ring_nodes import RingNode, node_id
from clusterkit.core.tokens import Key
from clusterkit.errors import ConfigError, EmptyRing


class BoundedLoad(Generic[RingNode]):
    """Keys assigned to the nodes of a ring, none of which gets more than ``c`` times its share.

    ``c`` is a number from 1 up: 1.25 is usual, 1 the hardest; the nearer to 1, the
    more keys are off their ring's owner (about 3 % at 1.25, 9 % at 1.1 with 100
    keys a node). `ConfigError` if it is below 1 or not finite. The ring is copied:
    tell of later changes with `move_to`.

    >>> loads = BoundedLoad(HashRing(["a", "b"]), c=1)
    >>> [loads.assign(key) for key in ("k1", "k2", "k3", "k4")].count("a")
    2
    """

    __slots__ = ("_c", "_keys", "_placed", "_ring", "_total_weight", "_weights")

    def __init__(self, ring: HashRing[RingNode], c: float | Fraction = 1.25) -> None:
        if isinstance(c, bool) or not isinstance(c, int | float | Fraction):
            raise TypeError(f"c is a number, not {type(c).__name__}: {c!r}")
        if not 1 <= c < float("inf"):
            raise ConfigError(f"c is finite and at least 1, not {c}")
        self._c = Fraction(c)
        # Per node its keys, oldest first; a dict for its order.
        self._keys: dict[str, dict[Key, None]] = {}
        self._placed: dict[Key, str] = {}
        self._take(ring)

    def assign(self, key: Key) -> RingNode:
        """Return the node of ``key``; assign it, once, if it has none.

        `EmptyRing` if there are no nodes. Expected O(log T + 1 / (c - 1)^2), T tokens.

        >>> loads = BoundedLoad(HashRing(["a"]))
        >>> loads.assign("k"), loads.assign("k"), len(loads)
        ('a', 'a', 1)
        """
        if key not in self._placed:
            self._place(key, len(self._placed) + 1)
        return self._node(self._placed[key])

    def release(self, key: Key) -> None:
        """Forget ``key``; `KeyError` if it is not assigned. O(nodes), and moves what is over.

        >>> loads = BoundedLoad(HashRing(["a"]))
        >>> _ = loads.assign("k")
        >>> loads.release("k")
        >>> len(loads)
        0
        """
        del self._keys[self._placed.pop(key)][key]
        self._shed()

    def move_to(self, ring: HashRing[RingNode]) -> dict[Key, tuple[str, str]]:
        """Go over to a changed ring; return the keys that moved: from which id to which.

        Keys of nodes that are gone are placed anew, then what is over moves on.
        `EmptyRing`, and nothing done, if keys are assigned and ``ring`` has no nodes.

        >>> loads = BoundedLoad(HashRing(["a", "b"]), c=1)
        >>> _ = [loads.assign(key) for key in ("k1", "k2")]
        >>> len(loads.move_to(HashRing(["a"])))
        1
        """
        if self._placed and not len(ring):
            raise EmptyRing(f"{len(self._placed)} keys are assigned and the new ring has no nodes")
        before = dict(self._placed)
        homeless = [key for key, name in before.items() if name not in ring]
        self._take(ring)
        for key in homeless:
            self._place(key, len(before))
        self._shed()
        return {key: (old, self._placed[key]) for key, old in before.items() if self._placed[key] != old}

    def capacity(self, node: RingNode | str) -> int:
        """Return how many keys ``node`` may hold now; `UnknownNode` if the ring has no such id.

        >>> loads = BoundedLoad(HashRing(["a", "b"]), c=1.5)
        >>> _ = loads.assign("k1"), loads.assign("k2")
        >>> loads.capacity("a")
        2
        """
        return self._capacity(self._ring.weight(node), len(self._placed))

    @property
    def loads(self) -> dict[str, int]:
        """A new dict of ids and how many keys each has, in order of id.

        >>> BoundedLoad(HashRing(["b", "a"])).loads
        {'a': 0, 'b': 0}
        """
        return {name: len(self._keys[name]) for name in sorted(self._keys)}

    def __len__(self) -> int:
        """Return the number of assigned keys."""
        return len(self._placed)

    def __contains__(self, key: object) -> bool:
        return key in self._placed

    def _take(self, ring: HashRing[RingNode]) -> None:
        self._ring = ring.copy()
        self._weights = ring.weights
        self._total_weight = sum(self._weights.values())
        self._keys = {name: self._keys.get(name, {}) for name in self._weights}

    def _node(self, name: str) -> RingNode:
        node = self._ring.get(name)
        assert node is not None
        return node

    def _capacity(self, weight: int, keys: int) -> int:
        # Exact, with fractions written out: a float's rounding could leave no room at c = 1.
        return -(-self._c.numerator * keys * weight // (self._c.denominator * self._total_weight))

    def _place(self, key: Key, total: int) -> None:
        """Put ``key`` on the first node with room, ``total`` keys counted."""
        for node in self._ring.walk(key):
            name = node_id(node)
            if len(self._keys[name]) < self._capacity(self._weights[name], total):
                self._keys[name][key] = None
                self._placed[key] = name
                return
        # The capacities add up to c * total at least: only an empty ring has no room.
        raise EmptyRing("the hash ring has no nodes")

    def _shed(self) -> None:
        """Move what is over its node's capacity on, the newest first, nodes in order of id."""
        total = len(self._placed)
        for name in sorted(self._keys):
            most = self._capacity(self._weights[name], total)
            while len(self._keys[name]) > most:
                key, _ = self._keys[name].popitem()
                self._place(key, total)
