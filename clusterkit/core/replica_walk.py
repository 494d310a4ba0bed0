"""Walking a ring: which distinct nodes come next, and how replicas spread over zones.

The functions here read the parallel lists of a ring and change nothing. An *order*
is a sequence of positions; a walk yields each node once, at its first position.

Zones: a node's *depth* is the number of nodes of its zone that the walk met before
it; replicas are taken by (depth, place in the walk). So no zone holds a second
replica while another zone has none, none a third while another could take a second,
and the list for n is a prefix of the list for n + 1. A node without a zone is a
zone of its own.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice

from clusterkit.core.ring_nodes import RingNode, node_id, zone_of


def clockwise(start: int, size: int) -> Iterator[int]:
    """Positions from ``start`` upwards, once round.

    >>> list(clockwise(2, 4))
    [2, 3, 0, 1]
    """
    return chain(range(start, size), range(start))


def counter_clockwise(start: int, size: int) -> Iterator[int]:
    """Positions from ``start`` downwards, once round.

    >>> list(counter_clockwise(2, 4))
    [2, 1, 0, 3]
    """
    return chain(range(start, -1, -1), range(size - 1, start, -1))


def distinct(owners: Sequence[RingNode], order: Iterable[int]) -> Iterator[RingNode]:
    """Yield the owners met in ``order``, each object once.

    Identity is enough, and fast: a ring holds one object for each id.

    >>> list(distinct(["b", "a", "b", "c"], [0, 2, 3, 1]))
    ['b', 'c', 'a']
    """
    seen: set[int] = set()
    for position in order:
        owner = owners[position]
        identity = id(owner)
        if identity not in seen:
            seen.add(identity)
            yield owner


def zone_sizes(nodes: Iterable[object]) -> Counter[Hashable]:
    """Count the nodes of each zone; empty if no node has a zone.

    >>> zone_sizes(["a", "b"])
    Counter()
    """
    members = list(nodes)
    if all(zone_of(node) is None for node in members):
        return Counter()
    return Counter(_zone_key(node) for node in members)


def spread(walk: Iterator[RingNode], n: int, sizes: Counter[Hashable]) -> tuple[RingNode, ...]:
    """Take ``n`` nodes from ``walk``, the zones in turn; all nodes if there are fewer.

    ``sizes`` is `zone_sizes` of all nodes of the walk. The walk is followed until
    no later node can come before one already met: the whole ring at worst.
    """
    depth_limit, quota = _quota(n, sizes)
    met: Counter[Hashable] = Counter()
    levels: list[list[RingNode]] = [[] for _ in range(depth_limit)]
    missing = sum(quota)
    for node in walk:
        if missing == 0:
            break
        zone = _zone_key(node)
        depth = met[zone]
        met[zone] += 1
        if depth < depth_limit and len(levels[depth]) < quota[depth]:
            levels[depth].append(node)
            missing -= 1
    return tuple(islice(chain.from_iterable(levels), n))


def _quota(n: int, sizes: Counter[Hashable]) -> tuple[int, list[int]]:
    """Tell how many of ``n`` replicas are taken at each depth: all there are, until ``n`` are had."""
    quota: list[int] = []
    while (missing := n - sum(quota)) > 0:
        deep_enough = sum(size > len(quota) for size in sizes.values())
        if deep_enough == 0:
            break
        quota.append(min(missing, deep_enough))
    return len(quota), quota


def _zone_key(node: object) -> Hashable:
    zone = zone_of(node)
    # A pair for a node without a zone: no zone that users name can be equal to it by accident.
    return zone if zone is not None else (_zone_key, node_id(node))
