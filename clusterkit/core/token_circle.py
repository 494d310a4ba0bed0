"""The circle under a hash ring: tokens in order, and beside each the node that owns it.

Tokens and owners stand in order of (token, id). ``owners`` has one entry more than
``tokens``, the first again, so that a position is never wrapped. The tokens are
machine words in an array: an int object each would cost 36 bytes, and a miss of the
processor's cache at every step of a bisection.

The *index* cuts the circle into equal buckets by the high bits of a token, of one
token or two on a small circle and of up to sixteen on a large one: the first token
of bucket ``b`` is at ``index[b]``, so a look-up bisects a few neighbours only.

One id is one object on a circle, so owners are told apart by identity.

Circles are values: a change copies the runs between the changed positions into a
new circle and leaves the old one to its readers.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Generic

from clusterkit.core.ring_nodes import RingNode, node_id
from clusterkit.errors import ConfigError

_FINE_WIDTH = 11  # up to as many bits the buckets hold one token or two
_COARSE = 4  # beyond, eight to sixteen


@dataclass(frozen=True, slots=True)
class TokenCircle(Generic[RingNode]):
    """Tokens in ascending order, their owners with the first once more, and the index.

    ``index`` has one entry more than buckets; a token is in bucket ``token >> shift``.
    """

    tokens: "array[int]"
    owners: list[RingNode]
    index: list[int]
    shift: int


def drawn_tokens(node_tokens: Sequence[int], bits: int) -> "array[int]":
    """Return the tokens of a node as an array; raise `ConfigError` if they are not all in ``range(2**bits)``.

    >>> drawn_tokens([5, 1], bits=3)
    array('Q', [5, 1])
    """
    if not node_tokens or min(node_tokens) < 0 or max(node_tokens) >> bits:
        raise ConfigError(f"a token scheme must give tokens, all in range(2**{bits}), not {node_tokens!r:.200}")
    return array("Q", node_tokens)


def build(drawn: Iterable[tuple[RingNode, Sequence[int]]], bits: int) -> TokenCircle[RingNode]:
    """Make a circle of nodes, in order of id, with their tokens of ``bits`` bits; O(T log T).

    >>> circle = build([("a", [5, 1]), ("b", [3, 5])], bits=3)
    >>> list(circle.tokens), circle.owners
    ([1, 3, 5, 5], ['a', 'b', 'a', 'b', 'a'])
    """
    tokens: list[int] = []
    owners: list[RingNode] = []
    for node, node_tokens in drawn:
        tokens += node_tokens
        owners += [node] * len(node_tokens)
    # Sorting is stable and the ids came in order: equal tokens end up in order of id.
    order = sorted(range(len(tokens)), key=tokens.__getitem__)
    words = array("Q", [tokens[i] for i in order])
    return _indexed(words, _closed([owners[i] for i in order]), bits)


def position(circle: TokenCircle[RingNode], token: int) -> int:
    """Return where the owner of a key of this token stands: at the first token above it.

    >>> position(build([("a", [5, 1]), ("b", [3, 5])], bits=3), 3)
    2
    """
    bucket = token >> circle.shift
    return bisect_right(circle.tokens, token, circle.index[bucket], circle.index[bucket + 1])


def place_of(circle: TokenCircle[RingNode], token: int, node: RingNode, low: int = 0) -> int:
    """Return the first position from ``low`` on with this token of ``node``, the object that is in the circle.

    >>> place_of(build([("a", [1, 5]), ("b", [3, 5])], bits=3), 5, "b")
    3
    """
    here = bisect_left(circle.tokens, token, low)
    while circle.owners[here] is not node:  # another node has the same token
        here += 1
    return here


def splice_in(circle: TokenCircle[RingNode], node: RingNode, node_tokens: Iterable[int]) -> TokenCircle[RingNode]:
    """Return the circle with the tokens of a new ``node`` put in. O(T), nearly all of it copying.

    >>> circle = splice_in(build([("a", [1, 5])], bits=3), "b", [5, 3])
    >>> list(circle.tokens), circle.owners
    ([1, 3, 5, 5], ['a', 'b', 'a', 'b', 'a'])
    """
    new = sorted(node_tokens)
    tokens, owners = circle.tokens[:0], circle.owners[:0]
    done = 0
    for token in new:
        here = _room_for(circle, token, node, done)
        tokens += circle.tokens[done:here]
        tokens.append(token)
        owners += circle.owners[done:here]
        owners.append(node)
        done = here
    tokens += circle.tokens[done:]
    owners += circle.owners[done:-1]
    return _reindexed(circle, tokens, _closed(owners), new, 1)


def splice_out(circle: TokenCircle[RingNode], node: RingNode, node_tokens: Iterable[int]) -> TokenCircle[RingNode]:
    """Return the circle without the tokens of ``node``, the object that is in it. O(T), as `splice_in`.

    >>> circle = splice_out(build([("a", [1, 5]), ("b", [3, 5])], bits=3), "b", [3, 5])
    >>> list(circle.tokens), circle.owners
    ([1, 5], ['a', 'a', 'a'])
    """
    old = sorted(node_tokens)
    old_tokens, old_owners = circle.tokens, circle.owners
    tokens, owners = old_tokens[:0], old_owners[:0]
    done = 0
    for token in old:
        here = place_of(circle, token, node, done)
        if here > done:
            tokens += old_tokens[done:here]
            owners += old_owners[done:here]
        done = here + 1
    tokens += old_tokens[done:]
    owners += old_owners[done:-1]
    return _reindexed(circle, tokens, _closed(owners), old, -1)


def _room_for(circle: TokenCircle[RingNode], token: int, node: RingNode, low: int) -> int:
    """Return the first position from ``low`` on that is not before (token, id of node)."""
    tokens, owners = circle.tokens, circle.owners
    here = bisect_left(tokens, token, low)
    while here < len(tokens) and tokens[here] == token and node_id(owners[here]) < node_id(node):
        here += 1
    return here


def _closed(owners: list[RingNode]) -> list[RingNode]:
    owners += owners[:1]
    return owners


def _bits(circle: TokenCircle[RingNode]) -> int:
    return circle.shift + _width(circle.index)


def _width(index: list[int]) -> int:
    return (len(index) - 1).bit_length() - 1


def _width_for(tokens: "array[int]", bits: int) -> int:
    """Tell how many high bits shall choose the bucket: a longer index would cost a change more than it saves."""
    length = len(tokens).bit_length()
    return min(bits, max(0, min(length - 1, _FINE_WIDTH), length - _COARSE))


def _indexed(tokens: "array[int]", owners: list[RingNode], bits: int) -> TokenCircle[RingNode]:
    """Make the index from nothing."""
    width = _width_for(tokens, bits)
    shift = bits - width
    index = [0]
    for bucket in range(1, 1 << width):
        index.append(bisect_left(tokens, bucket << shift, index[-1]))
    index.append(len(tokens))
    return TokenCircle(tokens, owners, index, shift)


def _reindexed(
    circle: TokenCircle[RingNode], tokens: "array[int]", owners: list[RingNode], changed: list[int], step: int
) -> TokenCircle[RingNode]:
    """Make the index from the old one: behind each changed token all starts move by ``step``."""
    bits, width = _bits(circle), _width(circle.index)
    if abs(_width_for(tokens, bits) - width) > 1:
        return _indexed(tokens, owners, bits)
    steps = [0] * len(circle.index)
    for token in changed:
        steps[(token >> circle.shift) + 1] += step
    index = list(map(add, circle.index, accumulate(steps)))
    return TokenCircle(tokens, owners, index, circle.shift)
