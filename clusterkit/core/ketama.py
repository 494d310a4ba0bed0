"""Rings that agree with libketama and its many clients, point by point.

libketama (Richard Jones, last.fm, 2007) hashes ``server-0``, ``server-1`` ... with
MD5 and reads each digest as four little-endian 32-bit points; a server has 40
digests, shared out by memory: ``floor(share * 40 * servers)``. A key belongs to
the first point *not below* its hash, where this package asks for a point *above*
the token: the token of a key is therefore its hash less one.

Use it to take over keys from such a client, not for a new ring: 32-bit points
collide, MD5 is not allowed everywhere, and since a server's points follow from its
share of the whole, any change of memory moves points of servers it does not touch.
"""

from collections.abc import Mapping
from hashlib import md5
from struct import Struct, pack, unpack

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.tokens import Key, TokenScheme, key_bytes
from clusterkit.errors import ConfigError

DIGESTS_PER_SERVER = 40
_SPACE = 1 << 32
_FOUR_POINTS = Struct("<4I").unpack
_FIRST_POINT = Struct("<I").unpack_from


def ketama_hash(key: Key) -> int:
    """Return libketama's 32-bit hash of a key.

    >>> ketama_hash("test")
    3446378249
    """
    value: int = _FIRST_POINT(md5(key_bytes(key), usedforsecurity=False).digest())[0]
    return value


def _key_token(key: Key) -> int:
    return (ketama_hash(key) - 1) % _SPACE


def _server_points(server: str, digests: int) -> list[int]:
    points: list[int] = []
    for number in range(digests):
        points += _FOUR_POINTS(md5(f"{server}-{number}".encode(), usedforsecurity=False).digest())
    return points


KETAMA = TokenScheme("ketama", 32, _key_token, _server_points)
"""One unit of weight is one digest, four points: servers of one size have weight 40."""


def ketama_ring(servers: Mapping[str, int]) -> HashRing[str]:
    """Build the ring that libketama builds of servers and their memory, in any unit.

    A server whose share is under a fortieth of the mean gets no points there, and
    is left out here. `ConfigError` if a memory is no positive int, or if one
    server would get more than 1000 digests.

    >>> ring = ketama_ring({"127.0.0.1:11211": 600, "127.0.0.1:11212": 400})
    >>> ring.size, ring.find("test")
    (320, '127.0.0.1:11211')
    """
    if any(type(memory) is not int or memory < 1 for memory in servers.values()):
        raise ConfigError(f"memory is a positive int, not all of these are: {dict(servers)!r:.200}")
    total = sum(servers.values())
    digests = {server: _digests(memory, total, len(servers)) for server, memory in servers.items()}
    return HashRing({server: count for server, count in digests.items() if count}, tokens=KETAMA)


def _digests(memory: int, total: int, servers: int) -> int:
    # The reference computes the share as a C float: its rounding is part of the result.
    return int(_as_float32(_as_float32(_as_float32(memory) / _as_float32(total)) * DIGESTS_PER_SERVER * servers))


def _as_float32(value: float) -> float:
    rounded: float = unpack("f", pack("f", value))[0]
    return rounded
