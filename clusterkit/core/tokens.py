"""Tokens: the points of a hash ring, drawn from ids and keys.

A token is an integer in ``range(2**bits)``. A `TokenScheme` says how the tokens of
a node and of a key are drawn; it is the only thing besides nodes and weights that
decides where a key goes, so every process that shares a ring must use one scheme.
Its name travels with the ring and is checked wherever two rings meet.

Rules for a scheme:

- the same arguments give the same tokens, in every process and for ever;
- a greater weight keeps the tokens of the smaller one and adds to them, else
  raising a weight would also take keys from the node;
- colliding tokens are harmless: the ring orders entries by (token, id).

The default draws 64-bit tokens from SHA-256: the fastest cryptographic hash of the
standard library on today's processors, and allowed where MD5 is not. A digest is
cut into four tokens, as libketama cuts its MD5 digests, so a node costs 32 hashes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from struct import Struct
from typing import Self

Key = str | bytes

TOKENS_PER_WEIGHT = 128
_FIRST_WORD = Struct(">Q").unpack_from
_FRESH_HASH = sha256().copy
_FOUR_WORDS = Struct(">4Q").unpack
_DIGESTS_PER_WEIGHT = TOKENS_PER_WEIGHT // 4


@dataclass(frozen=True, slots=True)
class TokenScheme:
    """How the tokens of nodes and keys are drawn.

    ``name`` tells schemes apart; ``bits`` is the width of a token, at most 64;
    ``of_key(key)`` gives the token of a key, and raises `TypeError` for a key that
    is neither str nor bytes; ``of_node(id, weight)`` gives the tokens of a node, in
    an order that never changes: the first is where `HashRing.next` starts.
    """

    name: str
    bits: int
    of_key: Callable[[Key], int]
    of_node: Callable[[str, int], list[int]]

    @classmethod
    def hashing(cls, name: str, function: Callable[[bytes], int], *, bits: int = 64, per_weight: int = 128) -> Self:
        """Make a scheme of one hash function from bytes to ``range(2**bits)``.

        Token ``i`` of a node is the hash of ``id_i``, counted from 1; the token of
        a key is the hash of the key, a str as UTF-8.

        >>> from zlib import crc32
        >>> crc = TokenScheme.hashing("crc32", crc32, bits=32, per_weight=2)
        >>> crc.of_node("a", 1) == [crc32(b"a_1"), crc32(b"a_2")]
        True
        """
        return cls(name, bits, partial(_hash_key, function), partial(_hash_node, function, per_weight))


def key_bytes(key: Key) -> bytes:
    """Return the bytes of a key, a str as UTF-8; raise `TypeError` for any other type.

    >>> key_bytes("é") == "é".encode()
    True
    """
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    raise TypeError(f"a key is a str or bytes, not {type(key).__name__}: {key!r}")


def _hash_key(function: Callable[[bytes], int], key: Key) -> int:
    return function(key_bytes(key))


def _hash_node(function: Callable[[bytes], int], per_weight: int, node_id: str, weight: int) -> list[int]:
    return [function(f"{node_id}_{number}".encode()) for number in range(1, weight * per_weight + 1)]


def _sha256_key(key: Key) -> int:
    # Every look-up passes here: the usual case comes first, and copying a hash is quicker than making one.
    state = _FRESH_HASH()
    state.update(key.encode() if type(key) is str else key_bytes(key))
    token: int = _FIRST_WORD(state.digest())[0]
    return token


def _sha256_node(node_id: str, weight: int) -> list[int]:
    tokens: list[int] = []
    for number in range(1, weight * _DIGESTS_PER_WEIGHT + 1):
        tokens += _FOUR_WORDS(sha256(f"{node_id}_{number}".encode()).digest())
    return tokens


SHA256 = TokenScheme("sha256", 64, _sha256_key, _sha256_node)
