"""What a hash ring takes for a node: its id, its zone, its rank.

A node is a string, or a value that carries one. The ring needs three things of it:

- the *id*: the string itself, else the ``id`` attribute, else the ``name``
  attribute (as `NodeId` has). One id is one node, whatever else differs;
- the *zone*: the ``zone`` attribute if it has one that is not None. Nodes of one
  zone (a rack, a site) are lost together, so replicas are spread over zones;
- the *rank*, which decides between two nodes that claim one id when rings are
  merged: the later incarnation, then the greater ``repr``. A node type should
  therefore be a value whose ``repr`` tells all of it, as a dataclass is.
"""

from collections.abc import Hashable
from typing import Protocol, TypeVar


class Identified(Protocol):
    """A value with a string ``id``."""

    @property
    def id(self) -> str: ...  # noqa: D102


class Named(Protocol):
    """A value with a string ``name``, which is its id."""

    @property
    def name(self) -> str: ...  # noqa: D102


RingNode = TypeVar("RingNode", bound=str | Identified | Named)


def node_id(node: object) -> str:
    """Return the id of ``node``; raise `TypeError` if it has none.

    >>> node_id("a")
    'a'
    >>> from clusterkit.core.identity import NodeId
    >>> node_id(NodeId("a", "127.0.0.1", 7022))
    'a'
    """
    if isinstance(node, str):
        return node
    for attribute in ("id", "name"):
        value = getattr(node, attribute, None)
        if isinstance(value, str):
            return value
    raise TypeError(f"a node is a str or has a str .id or .name; {type(node).__name__} has none: {node!r}")


def zone_of(node: object) -> Hashable | None:
    """Return the zone of ``node``, or None if it is in none.

    >>> zone_of("a") is None
    True
    """
    zone: Hashable | None = getattr(node, "zone", None)
    return zone


def rank(node: object) -> tuple[int, str]:
    """Order nodes that claim one id: the later incarnation is greater, then the greater ``repr``.

    >>> rank("a") < rank("b")
    True
    """
    return getattr(node, "incarnation", 0), repr(node)
