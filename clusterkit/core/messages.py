"""The messages of the kernel: one msgpack array each, the elements of DATA.

::

    RING   [0, payload]                              membership, for the ring actor
    CALL   [1, id, to, handler, ttl, args]           or [..., args, kwargs]
    CAST   [2, to, handler, args]                    or [..., args, kwargs]
    INFO   [3, to, payload]
    REPLY  [4, id, payload]
    ERROR  [5, id, code, maybe, payload]

``id`` is a number of the caller's, ``to`` a name (str) or the serial of a process
(int), ``ttl`` the milliseconds left, ``args`` a bin with a msgpack array, ``kwargs``
one with a map, ``payload`` a bin with any value. Payloads stay packed until the
actor's door. ``code`` says what refused or failed the call, ``maybe`` whether a
handler may have run. docs/wire.md, "Messages".
"""

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any

import msgpack

from clusterkit.errors import ProtocolError


class Op(IntEnum):
    """The first element of a message."""

    RING = 0
    CALL = 1
    CAST = 2
    INFO = 3
    REPLY = 4
    ERROR = 5


class Code(StrEnum):
    """Why a call has no value."""

    RAISED = "raised"  # the handler raised: the payload is the exception
    NO_SERVER = "no_server"
    NO_METHOD = "no_method"
    SERVER_DOWN = "server_down"
    MAILBOX_FULL = "mailbox_full"
    BAD_ARGUMENTS = "bad_arguments"
    FORBIDDEN = "forbidden"


_pack: Callable[[object], bytes] = msgpack.Packer(autoreset=True).pack

_CALL, _CAST, _INFO, _REPLY, _ERROR, _RING = 1, 2, 3, 4, 5, 0


def pack_call(number: int, to: str | int, handler: str, ttl: float, args: bytes, kwargs: bytes | None) -> bytes:
    """Pack a CALL; ``ttl`` in seconds."""
    if kwargs is None:
        return _pack((_CALL, number, to, handler, int(ttl * 1000), args))
    return _pack((_CALL, number, to, handler, int(ttl * 1000), args, kwargs))


def pack_cast(to: str | int, handler: str, args: bytes, kwargs: bytes | None) -> bytes:
    """Pack a CAST."""
    return _pack((_CAST, to, handler, args) if kwargs is None else (_CAST, to, handler, args, kwargs))


def pack_info(to: str | int, payload: bytes) -> bytes:
    """Pack an INFO."""
    return _pack((_INFO, to, payload))


def pack_reply(number: int, payload: bytes) -> bytes:
    """Pack a REPLY."""
    return _pack((_REPLY, number, payload))


def pack_error(number: int, code: Code, payload: bytes, *, maybe: bool) -> bytes:
    """Pack an ERROR."""
    return _pack((_ERROR, number, code.value, maybe, payload))


def pack_ring(payload: bytes) -> bytes:
    """Pack a RING message."""
    return _pack((_RING, payload))


_INT, _STR, _BIN, _TO = (int,), (str,), (bytes,), (str, int)  # exact types: True is no number here
_SHAPES: dict[int, tuple[tuple[tuple[type, ...], ...], ...]] = {
    Op.RING: ((_BIN,),),
    Op.CALL: ((_INT, _TO, _STR, _INT, _BIN), (_INT, _TO, _STR, _INT, _BIN, _BIN)),
    Op.CAST: ((_TO, _STR, _BIN), (_TO, _STR, _BIN, _BIN)),
    Op.INFO: ((_TO, _BIN),),
    Op.REPLY: ((_INT, _BIN),),
    Op.ERROR: ((_INT, _STR, (bool,), _BIN),),
}


def check(message: Any) -> None:
    """Raise `ProtocolError` unless the message has one of the shapes above."""
    if type(message) is list and message and type(message[0]) is int:
        fields = message[1:]
        for shape in _SHAPES.get(message[0], ()):
            if len(shape) == len(fields) and all(
                type(each) in kinds for each, kinds in zip(fields, shape, strict=True)
            ):
                return
    raise ProtocolError("a message of no known shape", proven=True)
