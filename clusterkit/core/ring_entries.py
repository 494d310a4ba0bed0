"""What a hash ring is made of: {id: (node, weight)}, and the rules for it.

Weights are ints from 1 to 1000; there is no weight 0: a node that shall own nothing
is not in the ring. `join` and `meet` make a lattice of rings, so that merging is
commutative, associative and idempotent, and each absorbs the other.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from clusterkit.core.ring_nodes import RingNode, node_id, rank
from clusterkit.errors import ConfigError

MAX_WEIGHT = 1000

Entries = dict[str, tuple[RingNode, int]]


def gather(nodes: Iterable[RingNode] | Mapping[RingNode, int]) -> Entries[RingNode]:
    """Make entries of nodes (of weight 1) or of a mapping to weights; of two with one id the first stays.

    >>> gather({"a": 2})
    {'a': ('a', 2)}
    """
    if isinstance(nodes, str | bytes):
        raise TypeError(f"nodes are a list or a mapping, not one {type(nodes).__name__}: {nodes!r}")
    weighted = nodes.items() if isinstance(nodes, Mapping) else ((node, 1) for node in nodes)
    entries: Entries[RingNode] = {}
    for node, weight in weighted:
        entries.setdefault(node_id(node), (node, checked_weight(weight)))
    return entries


def join(one: Entries[RingNode], two: Entries[RingNode]) -> Entries[RingNode]:
    """Return the entries of both; of one id the node of higher rank and the greater weight.

    >>> join({"a": ("a", 2)}, {"a": ("a", 1), "b": ("b", 1)})
    {'a': ('a', 2), 'b': ('b', 1)}
    """
    both = {name: _pick(max, one[name], two[name]) for name in one.keys() & two.keys()}
    return {**one, **two, **both}


def meet(one: Entries[RingNode], two: Entries[RingNode]) -> Entries[RingNode]:
    """Return the entries of ids that both have; of each the node of lower rank and the smaller weight.

    >>> meet({"a": ("a", 2)}, {"a": ("a", 1), "b": ("b", 1)})
    {'a': ('a', 1)}
    """
    return {name: _pick(min, one[name], two[name]) for name in one.keys() & two.keys()}


def describe(entries: Entries[RingNode]) -> list[list[Any]]:
    """Return ``[node, weight]`` for each entry, in order of id.

    >>> describe({"b": ("b", 1), "a": ("a", 2)})
    [['a', 2], ['b', 1]]
    """
    return [list(entries[name]) for name in sorted(entries)]


def read(description: Iterable[Any]) -> Entries[Any]:
    """Read what `describe` wrote, in any order; raise `ConfigError` for anything else.

    >>> read([["a", 2]])
    {'a': ('a', 2)}
    """
    entries: Entries[Any] = {}
    try:
        for node, weight in description:
            if node_id(node) in entries:
                raise ConfigError(f"the description of the ring names {node_id(node)!r} twice")
            entries[node_id(node)] = node, checked_weight(weight)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"this describes no nodes of a hash ring: {error}") from error
    return entries


def checked_weight(weight: int) -> int:
    """Return ``weight`` if it is an int from 1 to 1000, else raise `TypeError` or `ConfigError`.

    >>> checked_weight(2)
    2
    """
    return _checked(weight, "weight", MAX_WEIGHT)


def checked_count(n: int) -> int:
    """Return ``n`` if it is an int above 0, else raise `TypeError` or `ConfigError`.

    >>> checked_count(3)
    3
    """
    return _checked(n, "number of nodes", None)


def _checked(value: int, what: str, most: int | None) -> int:
    wanted = f"a {what} is an int from 1" if most is None else f"a {what} is an int from 1 to {most}"
    if type(value) is not int:  # a bool is an int to isinstance, and a mistake here
        raise TypeError(f"{wanted}, not {type(value).__name__}: {value!r}")
    if value < 1 or (most is not None and value > most):
        raise ConfigError(f"{wanted}, not {value}")
    return value


def _pick(better: Any, one: tuple[RingNode, int], two: tuple[RingNode, int]) -> tuple[RingNode, int]:
    return better(one[0], two[0], key=rank), better(one[1], two[1])
