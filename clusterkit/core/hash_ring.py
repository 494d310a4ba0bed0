"""A consistent hash ring: which nodes own a key, and who owns it when one of them goes.

Every node has 128 tokens (virtual nodes) per unit of weight on a circle of
integers; a key belongs to the node of the first token *above* the key's own, the
last wrapping to the first. A node that comes or goes moves only the keys next to
its own tokens (Karger et al. 1997; weights and preference lists as in Dynamo, 2007).

Rules:

- The state is a function of {id: (node, weight)} alone, whatever the history.
- The circle is never changed in place: copies share it, running iterators keep theirs.
- ``_replicas`` holds, per position, the longest answer of `range` so far. It is
  dropped at each change and filled on demand: n replicas then cost one bisection.

Not thread-safe: change a ring and look up in it from one thread, or look up in a copy.
"""

# ruff: noqa: SLF001  # a value looks into others of its own class

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Self

from clusterkit.core.replica_walk import clockwise, counter_clockwise, distinct, spread, zone_sizes
from clusterkit.core.ring_diff import RingDiff, compare_rings
from clusterkit.core.ring_entries import Entries, checked_count, checked_weight, describe, gather, join, meet, read
from clusterkit.core.ring_nodes import RingNode, node_id
from clusterkit.core.token_circle import TokenCircle, build, drawn_tokens, place_of, position, splice_in, splice_out
from clusterkit.core.tokens import SHA256, Key, TokenScheme
from clusterkit.errors import ConfigError, EmptyRing, UnknownNode

if TYPE_CHECKING:
    from array import array

# Longer answers of `range` are walked anew each time: kept for every token they would fill the memory.
_LONGEST_KEPT = 8


class HashRing(Generic[RingNode]):
    """A set of weighted nodes on a circle of tokens.

    ``nodes`` are nodes, or a mapping of nodes to weights; a node is a str or has a
    str ``id`` or ``name``; keys are str or bytes. ``tokens`` is the `TokenScheme`,
    the same for all who share the ring. Building costs O(T log T), T being 128
    times the sum of the weights: about 0.2 s for 1000 nodes.

    `TypeError` is raised for a key, node, weight or count of a wrong type (a bool
    is no weight), `ConfigError` for a weight outside 1..1000 and a count below 1,
    `EmptyRing` for a look-up without nodes. A call that raises has changed nothing.

    >>> ring = HashRing(["a", "b", "c"])
    >>> ring.find("some key")
    'c'
    >>> ring.range("some key", 2)
    ('c', 'a')
    >>> len(ring), "a" in ring
    (3, True)
    >>> HashRing({"a": 2, "b": 1}) == HashRing({"b": 1, "a": 2})
    True
    """

    __slots__ = (
        "_circle", "_drawn", "_entries", "_index", "_key_token", "_owners", "_replicas", "_shift", "_tokens", "_zones", "scheme"
    )  # fmt: skip

    def __init__(
        self, nodes: Iterable[RingNode] | Mapping[RingNode, int] = (), *, tokens: TokenScheme = SHA256
    ) -> None:
        entries = gather(nodes)
        self.scheme = tokens
        self._key_token = tokens.of_key
        self._rebuilt(entries)

    # -- changing it

    def insert(self, node: RingNode, weight: int = 1) -> None:
        """Add ``node``; nothing happens if its id is known, also under another address or weight.

        Costs O(T) copies of pointers and 128 ``weight`` bisections.

        >>> ring = HashRing(["a"])
        >>> ring.insert("b", weight=2)
        >>> ring.insert("b", weight=9)
        >>> ring.weights
        {'a': 1, 'b': 2}
        """
        weight = checked_weight(weight)
        name = node_id(node)
        if name not in self._entries:
            drawn = self._draw(name, weight)
            circle = splice_in(self._circle, node, drawn)
            self._settle({**self._entries, name: (node, weight)}, {**self._drawn, name: drawn}, circle)

    def remove(self, node: RingNode | str) -> None:
        """Take out the node with the id of ``node``; raise `UnknownNode` if there is none.

        Costs O(T) copies of pointers and 128 ``weight`` bisections.

        >>> ring = HashRing(["a", "b"])
        >>> ring.remove("b")
        >>> ring.nodes
        ['a']
        """
        name = self._known_id(node)
        entries, drawn = dict(self._entries), dict(self._drawn)
        known, _ = entries.pop(name)
        self._settle(entries, drawn, splice_out(self._circle, known, drawn.pop(name)))

    def update(self, node: RingNode, weight: int | None = None) -> None:
        """Replace the node with the id of ``node``, address and all, and set its weight.

        Without ``weight`` it keeps the one it has. An unknown node is inserted.

        >>> ring = HashRing({"a": 5})
        >>> ring.update("a", weight=2)
        >>> ring.update("b")
        >>> ring.weights
        {'a': 2, 'b': 1}
        """
        name = node_id(node)
        old = self._entries.get(name)
        if old is None:
            self.insert(node, 1 if weight is None else weight)
            return
        new = node, old[1] if weight is None else checked_weight(weight)
        if new != old:
            without = splice_out(self._circle, old[0], self._drawn[name])
            drawn = self._draw(name, new[1])
            circle = splice_in(without, node, drawn)
            self._settle({**self._entries, name: new}, {**self._drawn, name: drawn}, circle)

    def merge(self, other: "HashRing[RingNode]") -> Self:
        """Add the nodes of ``other`` in place, each at the greater of two weights; return this ring.

        Where both have an id with different nodes, the later incarnation stays,
        then the greater ``repr``. Commutative, associative and idempotent. It
        knows no removals: a node that one side removed comes back. `ConfigError`
        if the token schemes differ. ``a | b`` makes a new ring. Costs a build.

        >>> HashRing({"a": 2}).merge(HashRing({"a": 1, "b": 3})).weights
        {'a': 2, 'b': 3}
        """
        self._check_scheme(other)
        return self._rebuilt(join(self._entries, other._entries))

    def intersect(self, other: "HashRing[RingNode]") -> Self:
        """Keep in place the nodes that ``other`` has too, at the smaller weight; return this ring.

        The counterpart of `merge`: of two nodes with one id the lesser stays.
        ``a & b`` makes a new ring. Costs a build.

        >>> HashRing({"a": 2, "b": 1}).intersect(HashRing({"a": 1, "c": 3})).weights
        {'a': 1}
        """
        self._check_scheme(other)
        return self._rebuilt(meet(self._entries, other._entries))

    # -- looking up keys

    def find(self, key: Key) -> RingNode:
        """Return the owner of ``key``: one hash and one bisection, O(log T).

        >>> HashRing(["a", "b", "c"]).find(b"some key")
        'c'
        """
        try:
            draw = self._key_token  # calling the attribute itself would take the slow way of a method call
            token = draw(key)
            bucket = token >> self._shift
            return self._owners[bisect_right(self._tokens, token, self._index[bucket], self._index[bucket + 1])]
        except IndexError:
            raise self._no_owner() from None

    def range(self, key: Key, n: int = 3) -> tuple[RingNode, ...]:
        """Return the first ``n`` distinct nodes clockwise from ``key``: its owner, then its replicas.

        All nodes if there are fewer. The answer for a smaller ``n`` is the head of
        the one for a greater. If nodes have zones, no two of one zone are taken
        while another zone has a node left. Once asked, a stretch of the ring
        answers about as fast as `find`, for ``n`` up to 8; else O(n) to O(T).

        >>> HashRing(["a", "b", "c"]).range("some key", 5)
        ('c', 'a', 'b')
        """
        draw = self._key_token
        token = draw(key)
        bucket = token >> self._shift
        here = bisect_right(self._tokens, token, self._index[bucket], self._index[bucket + 1])
        try:
            known = self._replicas[here]
        except IndexError:  # nothing is kept yet
            known = ()
        if len(known) == n and known and type(n) is int:
            return known
        return self._replicas_at(here, checked_count(n))

    def range_prev(self, key: Key, n: int = 3) -> tuple[RingNode, ...]:
        """Return the first ``n`` distinct nodes counter-clockwise from ``key``, zones not regarded.

        It starts at the greatest token below the key's, so the owner is the first
        only by chance. O(n) to O(T).

        >>> HashRing(["a", "b", "c"]).range_prev("some key", 2)
        ('b', 'c')
        """
        above = bisect_left(self._tokens, self._key_token(key))
        n = min(checked_count(n), len(self))
        if not self._tokens:
            raise self._no_owner()
        return tuple(islice(distinct(self._owners, counter_clockwise(above - 1, self.size)), n))

    def walk(self, key: Key) -> Iterator[RingNode]:
        """Yield every node once, clockwise from ``key``, zones not regarded; lazily.

        Nothing on an empty ring. The walk stays on the ring as it was at the call.

        >>> list(HashRing(["a", "b", "c"]).walk("some key"))
        ['c', 'a', 'b']
        """
        start = position(self._circle, self._key_token(key))
        return distinct(self._owners, clockwise(start, self.size))

    # -- looking up nodes

    def next(self, node: RingNode | str, n: int = 2) -> tuple[RingNode, ...]:
        """Return the first ``n`` distinct other nodes clockwise from the first token of ``node``.

        `UnknownNode` if the ring has no such id. O(n) to O(T). Zones are not regarded.

        >>> HashRing(["a", "b", "c"]).next("a", 1)
        ('c',)
        """
        return self._others(node, n, clockwise)

    def prev(self, node: RingNode | str, n: int = 2) -> tuple[RingNode, ...]:
        """Return the first ``n`` distinct other nodes counter-clockwise; the mirror of `next`.

        >>> HashRing(["a", "b", "c"]).prev("a", 1)
        ('b',)
        """
        return self._others(node, n, counter_clockwise)

    def get(self, node: RingNode | str, default: RingNode | None = None) -> RingNode | None:
        """Return the node of the ring that has the id of ``node``, or ``default``.

        >>> HashRing(["a"]).get("b", "none")
        'none'
        """
        entry = self._entries.get(node_id(node))
        return default if entry is None else entry[0]

    def weight(self, node: RingNode | str) -> int:
        """Return the weight of ``node``; raise `UnknownNode` if there is none of that id.

        >>> HashRing({"a": 3}).weight("a")
        3
        """
        return self._entries[self._known_id(node)][1]

    @property
    def weights(self) -> dict[str, int]:
        """A new dict of ids and weights, in order of id.

        >>> HashRing({"b": 1, "a": 3}).weights
        {'a': 3, 'b': 1}
        """
        return {name: self._entries[name][1] for name in sorted(self._entries)}

    @property
    def nodes(self) -> list[RingNode]:
        """A new list of the nodes, in order of id.

        >>> HashRing(["b", "a"]).nodes
        ['a', 'b']
        """
        return [self._entries[name][0] for name in sorted(self._entries)]

    @property
    def size(self) -> int:
        """The number of tokens.

        >>> HashRing({"a": 2, "b": 1}).size
        384
        """
        return len(self._tokens)

    # -- whole rings

    def diff(self, other: "HashRing[RingNode]") -> RingDiff[RingNode]:
        """Return which token ranges move, from whom to whom, when ``other`` takes this ring's place.

        Only owners are compared, not replicas. O(T log T).

        >>> HashRing(["a", "b"]).diff(HashRing(["a"])).fractions().keys()
        dict_keys([('b', 'a')])
        """
        self._check_scheme(other)
        return compare_rings(self._circle, other._circle, self.scheme.bits)

    def copy(self) -> Self:
        """Return a ring of its own with the same nodes; O(nodes), the tokens are shared until a change.

        >>> ring = HashRing(["a"])
        >>> other = ring.copy()
        >>> other.insert("b")
        >>> len(ring), len(other)
        (1, 2)
        """
        twin = object.__new__(type(self))
        for slot in HashRing.__slots__:
            setattr(twin, slot, getattr(self, slot))
        twin._replicas = []
        return twin

    def checksum(self) -> int:
        """Return 64 bits that are equal where ids, weights and token scheme are; O(nodes).

        Two processes compare it to see whether they send every key to the same id.
        Addresses do not enter.

        >>> HashRing(["a", "b"]).checksum() == HashRing(["b", "a"]).checksum()
        True
        """
        text = repr((self.scheme.name, list(self.weights.items())))
        return int.from_bytes(sha256(text.encode("utf-8", "backslashreplace")).digest()[:8], "big")

    def to_dict(self) -> dict[str, Any]:
        """Return the ring as plain data: the name of its scheme, its nodes with weights, never tokens.

        Ready for JSON or msgpack if the nodes are strings; other nodes stand there
        as they are, in order of id, for the caller to encode.

        >>> HashRing({"a": 2}).to_dict()
        {'tokens': 'sha256', 'nodes': [['a', 2]]}
        """
        return {"tokens": self.scheme.name, "nodes": describe(self._entries)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, tokens: TokenScheme = SHA256) -> Self:
        """Build the ring that `to_dict` described; costs a build.

        `ConfigError` if it was made with another token scheme than ``tokens``,
        names an id twice, has a bad weight or is no such description.

        >>> HashRing.from_dict({"tokens": "sha256", "nodes": [["a", 2]]}) == HashRing({"a": 2})
        True
        """
        if not isinstance(data, Mapping) or not {"tokens", "nodes"} <= data.keys():
            raise ConfigError(f"this describes no hash ring, 'tokens' and 'nodes' are missing: {data!r:.200}")
        if data["tokens"] != tokens.name:
            raise ConfigError(f"the ring was made with tokens {data['tokens']!r}, not {tokens.name!r}")
        return cls(tokens=tokens)._rebuilt(read(data["nodes"]))

    def __or__(self, other: "HashRing[RingNode]") -> Self:
        return self.copy().merge(other)

    def __and__(self, other: "HashRing[RingNode]") -> Self:
        return self.copy().intersect(other)

    # -- as a collection: of nodes to len() and in, of (token, node) to iteration

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self._entries)

    def __contains__(self, node: object) -> bool:
        return node_id(node) in self._entries

    def __iter__(self) -> Iterator[tuple[int, RingNode]]:
        """Yield (token, node) in ascending order of (token, id), of the ring as it is now."""
        return zip(self._tokens, self._owners, strict=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HashRing):
            return NotImplemented
        return self.scheme.name == other.scheme.name and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        return f"<HashRing of {len(self)} nodes, {self.size} tokens ({self.scheme.name})>"

    # -- inside

    def _draw(self, name: str, weight: int) -> "array[int]":
        return drawn_tokens(self.scheme.of_node(name, weight), self.scheme.bits)

    def _rebuilt(self, entries: Entries[RingNode]) -> Self:
        drawn = {name: self._draw(name, entries[name][1]) for name in sorted(entries)}
        circle = build(((entries[name][0], tokens) for name, tokens in drawn.items()), self.scheme.bits)
        self._settle(entries, drawn, circle)
        return self

    def _settle(
        self, entries: Entries[RingNode], drawn: dict[str, "array[int]"], circle: TokenCircle[RingNode]
    ) -> None:
        """Take a new state, whole: all that can fail has been done."""
        self._zones = zone_sizes(node for node, _ in entries.values())
        self._entries = entries
        self._drawn = drawn
        self._circle = circle
        # A look-up needs all four: one attribute each, not two.
        self._tokens, self._owners = circle.tokens, circle.owners
        self._index, self._shift = circle.index, circle.shift
        self._replicas: list[tuple[RingNode, ...]] = []

    def _replicas_at(self, here: int, n: int) -> tuple[RingNode, ...]:
        """Answer `range` from what is kept for the position, or walk and keep the answer."""
        if not self._tokens:
            raise self._no_owner()
        if not self._replicas:
            self._replicas = [()] * len(self._owners)
        known = self._replicas[here]
        n = min(n, len(self))
        if len(known) >= n:
            return known[:n]
        walk = distinct(self._owners, clockwise(here, self.size))
        found = spread(walk, n, self._zones) if self._zones else tuple(islice(walk, n))
        if n <= _LONGEST_KEPT:
            self._replicas[here] = found
        return found

    def _others(self, node: RingNode | str, n: int, order: Callable[[int, int], Iterator[int]]) -> tuple[RingNode, ...]:
        """Return the ``n`` distinct nodes after ``node`` in an order from its first token."""
        name = self._known_id(node)
        start = place_of(self._circle, self._drawn[name][0], self._entries[name][0])
        n = min(checked_count(n), len(self))
        return tuple(islice(distinct(self._owners, order(start, self.size)), 1, n + 1))

    def _known_id(self, node: RingNode | str) -> str:
        name = node_id(node)
        if name not in self._entries:
            raise UnknownNode(f"the hash ring has no node {name!r}")
        return name

    def _check_scheme(self, other: "HashRing[RingNode]") -> None:
        if not isinstance(other, HashRing):
            raise TypeError(f"the other is no HashRing but a {type(other).__name__}: {other!r}")
        if self.scheme.name != other.scheme.name:
            raise ConfigError(f"the rings draw tokens differently: {self.scheme.name!r}, {other.scheme.name!r}")

    def _no_owner(self) -> Exception:
        if self._tokens:
            return ConfigError(
                f"the token of a key is not in range(2**{self.scheme.bits}), as {self.scheme.name!r} says"
            )
        return EmptyRing("the hash ring has no nodes")
