"""What moves when one hash ring takes the place of another.

Between two neighbouring tokens, of either ring, all keys have one owner before and
one after; where the two differ, the range moves. Costs one pass over both rings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from clusterkit.core.ring_nodes import RingNode, node_id
from clusterkit.core.token_circle import TokenCircle


@dataclass(frozen=True, slots=True)
class Move(Generic[RingNode]):
    """Keys with ``start <= token < end`` go from ``source`` to ``target``.

    ``source`` is None if the old ring had no nodes, ``target`` if the new one has none.
    """

    start: int
    end: int
    source: RingNode | None
    target: RingNode | None


@dataclass(frozen=True, slots=True)
class RingDiff(Generic[RingNode]):
    """The ranges that move, in ascending order, none next to another with the same two nodes.

    ``space`` is the number of all tokens, ``2**bits``.

    >>> from clusterkit.core.hash_ring import HashRing
    >>> before, after = HashRing(["a", "b"]), HashRing(["a", "b", "c"])
    >>> difference = before.diff(after)
    >>> {move.target for move in difference.moves}
    {'c'}
    >>> 0.2 < difference.fraction < 0.5
    True
    """

    moves: tuple[Move[RingNode], ...]
    space: int

    @property
    def fraction(self) -> float:
        """The share of all tokens that moves, from 0 to 1.

        >>> RingDiff((Move(0, 64, "a", "b"),), 256).fraction
        0.25
        """
        return sum(move.end - move.start for move in self.moves) / self.space

    def fractions(self) -> dict[tuple[str | None, str | None], float]:
        """Return the share that moves for each pair of ids (source, target).

        >>> RingDiff((Move(0, 64, "a", "b"), Move(128, 192, "a", "b")), 256).fractions()
        {('a', 'b'): 0.5}
        """
        totals: dict[tuple[str | None, str | None], int] = {}
        for move in self.moves:
            pair = _id_or_none(move.source), _id_or_none(move.target)
            totals[pair] = totals.get(pair, 0) + move.end - move.start
        return {pair: total / self.space for pair, total in totals.items()}

    def __bool__(self) -> bool:
        return bool(self.moves)


def compare_rings(old: TokenCircle[RingNode], new: TokenCircle[RingNode], bits: int) -> RingDiff[RingNode]:
    """Return what moves when ``new`` takes the place of ``old``; O(tokens of both).

    >>> from clusterkit.core.token_circle import build
    >>> old, new = build([("a", [2]), ("b", [6])], bits=3), build([("b", [4])], bits=3)
    >>> compare_rings(old, new, bits=3).moves
    (Move(start=0, end=2, source='a', target='b'), Move(start=6, end=8, source='a', target='b'))
    """
    moves: list[Move[RingNode]] = []
    start = i = j = 0
    # The owner of a key is that of the first token *above* it: a token begins the next range.
    for end in sorted({*old.tokens, *new.tokens, 1 << bits}):
        source, target = _owner(old, i), _owner(new, j)
        if start < end and _id_or_none(source) != _id_or_none(target):
            _append(moves, Move(start, end, source, target))
        start = end
        i, j = _skip(old.tokens, i, end), _skip(new.tokens, j, end)
    return RingDiff(tuple(moves), 1 << bits)


def _owner(circle: TokenCircle[RingNode], index: int) -> RingNode | None:
    return circle.owners[index] if circle.owners else None


def _skip(tokens: Sequence[int], index: int, token: int) -> int:
    while index < len(tokens) and tokens[index] <= token:
        index += 1
    return index


def _append(moves: list[Move[RingNode]], move: Move[RingNode]) -> None:
    """Add a move, as one with the last where both touch and go the same way."""
    if moves:
        last = moves[-1]
        if last.end == move.start and last.source == move.source and last.target == move.target:
            moves[-1] = Move(last.start, move.end, move.source, move.target)
            return
    moves.append(move)


def _id_or_none(node: object) -> str | None:
    return None if node is None else node_id(node)
