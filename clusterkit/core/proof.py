"""What the handshake is made of: parties, keys, and the bytes of its four messages.

::

    HELLO   I->R  "CKT1" | 01 | nonce_i[32]
    CHAL    R->I  "CKT1" | 02 | nonce_r[32]
    AUTH_I  I->R  u16 len | 03 | version | role   | boot u64 | lp(ring) | lp(name) | mac[32]
    AUTH_R  R->I  u16 len | 04 | version | status | boot u64 | lp(ring) | lp(name) | mac[32]

Keys come from the cookie by HKDF (RFC 5869), bound to both nonces and to all that
was said. docs/wire.md, "Handshake". `clusterkit.core.handshake` says who sends what
when, `clusterkit.core.judgement` whom a listener takes.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from clusterkit.core.identity import NAME
from clusterkit.errors import ConfigError, ProtocolError

VERSION = 1
MAGIC = b"CKT1"
NONCE_SIZE = 32
OPENING_SIZE = 37
AUTH_LENGTHS = range(46, 174)
MOST_COOKIES = 4
LEAST_COOKIE = 16


class Role(IntEnum):
    """What the initiator is: a node that may be a member, or a client that never is."""

    NODE = 1
    CLIENT = 2


class Status(IntEnum):
    """The responder's verdict, in the order in which it judges."""

    ACCEPT = 0
    VERSION = 1
    SELF = 2
    RING = 3
    OLD_BOOT = 4
    NAME_TAKEN = 5
    CROSSED = 6
    LEAVING = 7
    FULL = 8


@dataclass(frozen=True, slots=True)
class Party:
    """What one side says of itself in its proof."""

    name: str
    boot: int
    ring: str = ""
    role: Role = Role.NODE
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RecordKeys:
    """The keys of the two directions of one link; never shown."""

    by_initiator: bytes
    by_responder: bytes

    def __repr__(self) -> str:
        return "RecordKeys(...)"


# -- keys ---------------------------------------------------------------------------


def prepare_cookies(cookies: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    """Check cookies and return their HKDF keys; the first is dialled with, any is accepted.

    Text is UTF-8. Raises `ConfigError` when there is none, more than four, or one
    with less than 16 bytes; the message never has the cookie in it.
    """
    several = [cookies] if isinstance(cookies, str | bytes) else cookies
    if not isinstance(several, Sequence):
        raise ConfigError(f"a cookie is a str or bytes, not {type(cookies).__name__}")
    if not 1 <= len(several) <= MOST_COOKIES:
        raise ConfigError(f"{len(several)} cookies given: one is needed, {MOST_COOKIES} are the most")
    return tuple(_extract(_cookie_bytes(cookie)) for cookie in several)


def _cookie_bytes(cookie: str | bytes) -> bytes:
    if not isinstance(cookie, str | bytes):
        raise ConfigError(f"a cookie is a str or bytes, not {type(cookie).__name__}")
    try:
        raw = cookie.encode() if isinstance(cookie, str) else cookie
    except UnicodeEncodeError:
        raise ConfigError("the cookie is a str that has no UTF-8") from None
    if len(raw) < LEAST_COOKIE:
        raise ConfigError(
            f"the cookie has {len(raw)} bytes, {LEAST_COOKIE} are the least: `clusterkit keygen` makes one"
        )
    return raw


def _extract(cookie: bytes) -> bytes:
    return hmac.digest(b"clusterkit/1 cookie", cookie, "sha256")


def expand(key: bytes, label: bytes, transcript: bytes) -> tuple[bytes, bytes]:
    """HKDF-Expand to two keys of 32 bytes, bound to a label and a transcript hash."""
    info = label + b"\0" + transcript
    first = hmac.digest(key, info + b"\x01", "sha256")
    return first, hmac.digest(key, first + info + b"\x02", "sha256")


def sha256(*parts: bytes) -> bytes:
    """Hash the parts as one."""
    return hashlib.sha256(b"".join(parts)).digest()


# -- messages -----------------------------------------------------------------------


def opening(kind: int, nonce: bytes) -> bytes:
    """HELLO (kind 1) or CHAL (kind 2)."""
    return MAGIC + bytes((kind,)) + nonce


def check_opening(data: bytes, kind: int) -> None:
    """Raise `ProtocolError` unless these are a HELLO (1) or a CHAL (2)."""
    if not data.startswith(MAGIC + bytes((kind,))):
        raise ProtocolError("this is no clusterkit handshake")


def proof(kind: int, party: Party, flag: int, sign: Callable[[bytes], bytes]) -> bytes:
    """AUTH_I (kind 3, flag = role) or AUTH_R (kind 4, flag = status)."""
    ring, name = party.ring.encode(), party.name.encode()
    fields = bytes((kind, party.version, flag)) + party.boot.to_bytes(8, "big")
    fields += bytes((len(ring),)) + ring + bytes((len(name),)) + name
    body = (len(fields) + 32).to_bytes(2, "big") + fields
    return body + sign(body)


def parse_proof(data: bytes, kind: int) -> tuple[Party, int]:
    """Read a proof whose MAC was good: what the party says, and the flag."""
    body = data[2:-32]
    found, version, flag = body[:3]
    boot = int.from_bytes(body[3:11], "big")
    ring, rest = _length_prefixed(body[11:])
    name, rest = _length_prefixed(rest)
    if found != kind or rest or not boot:
        raise ProtocolError("a proof with wrong fields", proven=True)
    if not NAME.fullmatch(name) or (ring and not NAME.fullmatch(ring)):
        raise ProtocolError("a proof with a name that is not allowed", proven=True)
    return Party(name, boot, ring, Role.NODE, version), flag


def _length_prefixed(data: bytes) -> tuple[str, bytes]:
    if not data or len(data) <= data[0]:
        raise ProtocolError("a proof with a field cut short", proven=True)
    end = 1 + data[0]
    return data[1:end].decode("latin-1"), data[end:]
