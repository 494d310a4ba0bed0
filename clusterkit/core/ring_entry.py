"""The values of the gossip ring: who wrote what about a member, and what is believed of it.

Two layers, never mixed. An `Entry` is what an administrator or a join decided; a
`Claim` is what detectors believe. Every change of an entry has a `Dot`, the n-th
event of one run of one process, and no dot is ever used twice: each boot is an
`Actor` of its own.

An entry has two parts: the member itself owns its address, administrators own its
weight. Concurrent entries stay *siblings* and are resolved when read, each part by
itself: the address of the highest boot, the weight of the highest stamp. A winner of
whole entries would lose a weight to an address that moved, or the address to a weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple


class Actor(NamedTuple):
    """One run of one member. A restarted process is another actor."""

    name: str
    boot: int


class Dot(NamedTuple):
    """The n-th event of an actor, from 1."""

    actor: Actor
    n: int


class Stamp(NamedTuple):
    """When and by whom a part of an entry was written: a hybrid time of 64 bits, then the writer.

    >>> Stamp(5, "a", 1) < Stamp(5, "b", 1) < Stamp(6, "a", 1)
    True
    """

    time: int
    name: str
    boot: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ring says of a member.

    ``boot``, ``announced``, ``host``, ``port`` and ``meta`` (a packed map, or nothing)
    are the member's own part; ``weighed`` and ``weight`` (1 to 1,000) the administrators'.

    >>> Entry(7, Stamp(1, "a", 7), "127.0.0.1", 7022, b"", Stamp(1, "a", 7), 1).port
    7022
    """

    boot: int
    announced: Stamp
    host: str
    port: int
    meta: bytes
    weighed: Stamp
    weight: int


class Rank(IntEnum):
    """How far an accusation has gone: of two claims about one boot and number the higher holds."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


class Claim(NamedTuple):
    """What is said of a member's liveness; the greatest claim holds.

    Only the member itself raises ``inc``: to refute an accusation, and when ``ready``
    changes. An accusation raises the rank and repeats the rest.

    >>> max(Claim(7, 0, Rank.DOWN, False), Claim(7, 1, Rank.ALIVE, True)).rank
    <Rank.ALIVE: 0>
    """

    boot: int
    inc: int
    rank: Rank
    ready: bool


def resolve(siblings: Mapping[Dot, Entry]) -> Entry:
    """Read concurrent entries as one: the newest address of the highest boot, and the newest weight.

    No local clock plays a part, so equal siblings read the same everywhere. There is
    at least one sibling.

    >>> moved = Entry(7, Stamp(5, "a", 7), "10.0.0.2", 7022, b"", Stamp(1, "a", 7), 1)
    >>> weighed = Entry(7, Stamp(1, "a", 7), "10.0.0.1", 7022, b"", Stamp(4, "b", 3), 9)
    >>> read = resolve({Dot(Actor("a", 7), 2): moved, Dot(Actor("b", 3), 1): weighed})
    >>> read.host, read.weight
    ('10.0.0.2', 9)
    """
    entries = siblings.values()
    node = max(entries, key=_newest_node)
    weight = max(entries, key=_newest_weight)
    return node if node.weighed == weight.weighed else replace(node, weighed=weight.weighed, weight=weight.weight)


def _newest_node(entry: Entry) -> tuple[int, Stamp]:
    return entry.boot, entry.announced


def _newest_weight(entry: Entry) -> Stamp:
    return entry.weighed
