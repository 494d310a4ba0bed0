"""The messages between rings: one msgpack array each, inside RING of the kernel.

::

    HELLO      [0, name, boot, host, port, settled, change | nil, claim, about | nil, digests]
    HELLO_ACK  [1, full | nil]              you are in; the state when yours differs and you asked for it
    CLOSED     [2, fence, known]            your boot is over here: removed up to fence, known up to known
    ABSENT     [3, boot, removed]           this run was removed, or superseded, and has not joined again
    INVITE     [4]                          somebody inserted you again: join through me
    NEWS       [5, origin, number, tree, wanted, changes, accusations, refusals]
    GOT        [6, number]                  the news that wanted an answer came
    PROBE      [7, number, digests]         are you there, and do we agree
    PROBE_ACK  [8, number, digests]
    ASK        [9, number, target]          probe that member for me
    ASKED      [10, number, target, ok]
    URGE       [11, target]                 probe that member yourself, now: somebody suspects it
    PULL       [12, clock, digests]         our digests differ: send what I lack
    DELTA      [13, delta]
    FULL       [14, full]
    CLAIMS     [15, [[name, claim], ...], more]   what I believe of each; tell me better if you know better
    PIECE      [16, index, count, bytes]    a part of one of these that is too large to go at once
    GOT_PIECE  [17, index]

``digests`` are two numbers of 64 bits: of the ring, and of what is believed of its
members. docs/wire.md, "Ring messages".
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from clusterkit.core.dissemination import TREES
from clusterkit.core.identity import NodeId, check_name, parse_host_port
from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.core.pieces import GotPiece, Piece
from clusterkit.core.ring_entry import Claim
from clusterkit.core.ring_frames import Change, Clock, Delta, Full
from clusterkit.core.ring_packing import (
    pack_change,
    pack_claim,
    pack_clock,
    pack_delta,
    pack_full,
    unpack_change,
    unpack_claim,
    unpack_clock,
    unpack_delta,
    unpack_full,
)
from clusterkit.errors import ConfigError, ProtocolError

_MOST = 65_536  # elements of one list
Digests = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Hello:
    """Here I am: my entry, what I claim of myself, what I believe of you, and what I know in short."""

    node: NodeId
    settled: bool
    change: Change | None
    claim: Claim
    about: Claim | None
    digests: Digests


@dataclass(frozen=True, slots=True)
class HelloAck:
    """You are in."""

    full: Full | None


@dataclass(frozen=True, slots=True)
class Closed:
    """Your boot is over: removed up to ``fence``, or superseded by ``known``."""

    fence: int
    known: int


@dataclass(frozen=True, slots=True)
class Absent:
    """This run is over: it was ``removed``, and waits to be told to join again, or superseded."""

    boot: int
    removed: bool


@dataclass(frozen=True, slots=True)
class Invite:
    """Somebody inserted you again: join through me."""


@dataclass(frozen=True, slots=True)
class Accusation:
    """What ``by`` believes of a member: a suspicion, a verdict, or the member's own word."""

    name: str
    claim: Claim
    by: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """``by`` dialled a member's boot, and nobody listens there."""

    name: str
    boot: int
    by: str


@dataclass(frozen=True, slots=True)
class News:
    """What happened, for all. ``tree`` 0 comes straight from the origin; 1 and 2 are passed on."""

    origin: str
    number: int
    tree: int
    wanted: bool
    changes: tuple[Change, ...] = ()
    accusations: tuple[Accusation, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Got:
    """News that wanted an answer came."""

    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Are you there, and do we agree. The answer is a `ProbeAck`."""

    number: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class ProbeAck:
    """I am here."""

    number: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class Ask:
    """Probe that member for me."""

    number: int
    target: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it."""

    number: int
    target: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Urge:
    """Probe that member yourself, now."""

    target: str


@dataclass(frozen=True, slots=True)
class Pull:
    """Send what I lack."""

    clock: Clock
    digests: Digests


@dataclass(frozen=True, slots=True)
class Update:
    """What you lack."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class State:
    """All that I know."""

    full: Full


@dataclass(frozen=True, slots=True)
class Claims:
    """What I believe of each member; with ``more`` tell me what you know better."""

    claims: tuple[tuple[str, Claim], ...]
    more: bool


RingMessage = (
    Hello
    | HelloAck
    | Closed
    | Absent
    | Invite
    | News
    | Got
    | Probe
    | ProbeAck
    | Ask
    | Asked
    | Urge
    | Pull
    | Update
    | State
    | Claims
    | Piece
    | GotPiece
)

# -- fields to plain values and back, by their declared types


def _u64(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"no number of 64 bits: {value!r}")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"no bytes: {value!r:.40}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"neither true nor false: {value!r}")
    return value


def _tree(value: Any) -> int:
    if type(value) is not int or not 0 <= value < TREES:
        raise ValueError(f"no tree has the number {value!r}")
    return value


def _digests(value: Any) -> Digests:
    ring, claims = value
    return _u64(ring), _u64(claims)


def _many(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(values: Any) -> tuple[Any, ...]:
        if type(values) is not list or len(values) > _MOST:
            raise TypeError("no list, or one that is too long")
        return tuple(read(value) for value in values)

    return read_all


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _claim(value: Any) -> Claim:
    if (claim := unpack_claim(value)) is None:
        raise TypeError("no claim")
    return claim


def _named_claim(value: Any) -> tuple[str, Claim]:
    name, claim = value
    return check_name(name), _claim(claim)


def _accusation(value: Any) -> Accusation:
    name, claim, by = value
    return Accusation(check_name(name), _claim(claim), check_name(by))


def _refusal(value: Any) -> Refusal:
    name, boot, by = value
    return Refusal(check_name(name), _u64(boot), check_name(by))


def _same(value: Any) -> Any:
    return value


def _if_any(pack: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else pack(value)


def _each(pack: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda values: [pack(value) for value in values]


_Field = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_NUMBER: _Field = (_same, _u64)
_FLAG: _Field = (_same, _flag)
_NAME: _Field = (_same, check_name)
_DIGESTS: _Field = (list, _digests)
_CLOCK: _Field = (pack_clock, unpack_clock)
_CHANGE: _Field = (_if_any(pack_change), _or_none(unpack_change))
_FULL: _Field = (_if_any(pack_full), _or_none(unpack_full))

_SHAPES: dict[int, tuple[type, tuple[_Field, ...]]] = {
    1: (HelloAck, (_FULL,)),
    2: (Closed, (_NUMBER, _NUMBER)),
    3: (Absent, (_NUMBER, _FLAG)),
    4: (Invite, ()),
    5: (
        News,
        (
            _NAME,
            _NUMBER,
            (_same, _tree),
            _FLAG,
            (_each(pack_change), _many(unpack_change)),
            (_each(lambda each: [each.name, pack_claim(each.claim), each.by]), _many(_accusation)),
            (_each(lambda each: [each.name, each.boot, each.by]), _many(_refusal)),
        ),
    ),
    6: (Got, (_NUMBER,)),
    7: (Probe, (_NUMBER, _DIGESTS)),
    8: (ProbeAck, (_NUMBER, _DIGESTS)),
    9: (Ask, (_NUMBER, _NAME)),
    10: (Asked, (_NUMBER, _NAME, _FLAG)),
    11: (Urge, (_NAME,)),
    12: (Pull, (_CLOCK, _DIGESTS)),
    13: (Update, ((pack_delta, unpack_delta),)),
    14: (State, ((pack_full, unpack_full),)),
    16: (Piece, (_NUMBER, _NUMBER, (_same, _bytes))),
    17: (GotPiece, (_NUMBER,)),
    15: (Claims, ((_each(lambda each: [each[0], pack_claim(each[1])]), _many(_named_claim)), _FLAG)),
}
_KINDS = {kind: number for number, (kind, _) in _SHAPES.items()}
_NAMES = {kind: [field.name for field in fields(kind)] for kind in _KINDS}


def pack(message: RingMessage) -> bytes:
    """Pack a message.

    >>> unpack(pack(Probe(7, (1, 2))))
    Probe(number=7, digests=(1, 2))
    """
    if isinstance(message, Hello):
        return encode([0, *_pack_hello(message)])
    number = _KINDS[type(message)]
    values = [getattr(message, name) for name in _NAMES[type(message)]]
    return encode([number, *(put(value) for (put, _), value in zip(_SHAPES[number][1], values, strict=True))])


def unpack(payload: bytes) -> RingMessage:
    """Read a message; raises `ProtocolError` for anything else."""
    try:
        number, *values = decode(payload)
        if type(number) is not int:
            raise TypeError(f"no message begins with {number!r}")
        if number == 0:
            return _unpack_hello(values)
        kind, shape = _SHAPES[number]
        message: RingMessage = kind(*(read(value) for (_, read), value in zip(shape, values, strict=True)))
    except (PayloadError, ConfigError, ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"a ring message that cannot be read: {error!r}", proven=True) from None
    return message


def _pack_hello(hello: Hello) -> list[Any]:
    node = hello.node
    return [
        node.name,
        node.incarnation,
        node.host,
        node.port,
        hello.settled,
        _CHANGE[0](hello.change),
        pack_claim(hello.claim),
        pack_claim(hello.about),
        list(hello.digests),
    ]


def _unpack_hello(values: list[Any]) -> Hello:
    name, boot, host, port, settled, change, claim, about, digests = values
    node = NodeId(check_name(name), host, port, _u64(boot))
    if type(port) is not int or parse_host_port(node.address) != (host, port) or not boot or not port:
        raise ValueError(f"no address of a node: {host!r}, {port!r}")
    return Hello(node, _flag(settled), _CHANGE[1](change), _claim(claim), unpack_claim(about), _digests(digests))
