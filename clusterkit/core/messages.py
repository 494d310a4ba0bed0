"""The messages of the kernel: one msgpack array each, the elements of DATA.

::

    RING   [0, payload]                              membership, for the ring actor
    CALL   [1, id, to, handler, ttl, args]           or [..., args, kwargs] or [..., args, kwargs, chain]
    CAST   [2, to, handler, args]                    or [..., args, kwargs]
    INFO   [3, to, payload]
    REPLY  [4, id, payload]
    ERROR  [5, id, code, maybe, payload]
    REFUSED [6, to, code, count]                     casts and infos that reached nobody
    CANCEL [7, id, to]                               the caller of CALL id waits no more
    MONITOR [8, id, to]                              answered by DOWN, once
    LINK   [9, id, to, serial]                       a MONITOR both ways: EXIT tells the end of process ``serial``
    DEMONITOR [10, id]
    DOWN   [11, id, reason]                          what MONITOR or LINK id watched has ended
    EXIT   [12, id, reason]                          the process that sent LINK id has ended
    LINKED [13, id, serial]                          the process that LINK id found

``id`` is a number of the sender's own (of the other side's in REPLY, ERROR, DOWN and LINKED), ``to`` a
name (str) or the serial of a process (int), ``ttl`` the milliseconds left, ``args`` a bin
with a msgpack array, ``kwargs`` one with a map (nil for none, before a chain), ``chain`` an
array of strings, the turns that wait for this call, ``payload`` a bin with any value. Payloads stay packed until
the actor's door. ``code`` says what refused or failed the call, ``maybe`` whether a
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
    REFUSED = 6
    CANCEL = 7
    MONITOR = 8
    LINK = 9
    DEMONITOR = 10
    DOWN = 11
    EXIT = 12
    LINKED = 13


class Code(StrEnum):
    """Why a call has no value."""

    RAISED = "raised"  # the handler raised: the payload is the exception
    NO_SERVER = "no_server"
    NO_METHOD = "no_method"
    SERVER_DOWN = "server_down"
    MAILBOX_FULL = "mailbox_full"
    BAD_ARGUMENTS = "bad_arguments"
    FORBIDDEN = "forbidden"
    CYCLE = "cycle"  # the server waits, directly or not, for this call: the payload is the chain
    LEAVING = "leaving"  # the node takes no new requests


_pack: Callable[[object], bytes] = msgpack.Packer(autoreset=True).pack

_CALL, _CAST, _INFO, _REPLY, _ERROR, _RING = 1, 2, 3, 4, 5, 0
_REFUSED, _CANCEL, _MONITOR, _LINK, _DEMONITOR, _DOWN, _EXIT, _LINKED = range(6, 14)


def pack_call(
    number: int,
    to: str | int,
    handler: str,
    ttl: float,
    args: bytes,
    kwargs: bytes | None,
    chain: tuple[str, ...] | None = None,
) -> bytes:
    """Pack a CALL; ``ttl`` in seconds."""
    if chain is not None:
        return _pack((_CALL, number, to, handler, int(ttl * 1000), args, kwargs, chain))
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


def pack_refused(to: str | int, code: Code, count: int) -> bytes:
    """Pack a REFUSED."""
    return _pack((_REFUSED, to, code.value, count))


def pack_cancel(number: int, to: str | int) -> bytes:
    """Pack a CANCEL."""
    return _pack((_CANCEL, number, to))


def pack_monitor(number: int, to: str | int) -> bytes:
    """Pack a MONITOR."""
    return _pack((_MONITOR, number, to))


def pack_link(number: int, to: str | int, serial: int) -> bytes:
    """Pack a LINK from the process ``serial``."""
    return _pack((_LINK, number, to, serial))


def pack_demonitor(number: int) -> bytes:
    """Pack a DEMONITOR."""
    return _pack((_DEMONITOR, number))


def pack_down(number: int, reason: str) -> bytes:
    """Pack a DOWN."""
    return _pack((_DOWN, number, reason))


def pack_exit(number: int, reason: str) -> bytes:
    """Pack an EXIT."""
    return _pack((_EXIT, number, reason))


def pack_linked(number: int, serial: int) -> bytes:
    """Pack a LINKED."""
    return _pack((_LINKED, number, serial))


def pack_ring(payload: bytes) -> bytes:
    """Pack a RING message."""
    return _pack((_RING, payload))


_INT, _STR, _BIN, _TO = (int,), (str,), (bytes,), (str, int)  # exact types: True is no number here
_BIN_OR_NIL, _ARRAY = (bytes, type(None)), (list,)
_SHAPES: dict[int, tuple[tuple[tuple[type, ...], ...], ...]] = {
    Op.RING: ((_BIN,),),
    Op.CALL: (
        (_INT, _TO, _STR, _INT, _BIN),
        (_INT, _TO, _STR, _INT, _BIN, _BIN),
        (_INT, _TO, _STR, _INT, _BIN, _BIN_OR_NIL, _ARRAY),
    ),
    Op.CAST: ((_TO, _STR, _BIN), (_TO, _STR, _BIN, _BIN)),
    Op.INFO: ((_TO, _BIN),),
    Op.REPLY: ((_INT, _BIN),),
    Op.ERROR: ((_INT, _STR, (bool,), _BIN),),
    Op.REFUSED: ((_TO, _STR, _INT),),
    Op.CANCEL: ((_INT, _TO),),
    Op.MONITOR: ((_INT, _TO),),
    Op.LINK: ((_INT, _TO, _INT),),
    Op.DEMONITOR: ((_INT,),),
    Op.DOWN: ((_INT, _STR),),
    Op.EXIT: ((_INT, _STR),),
    Op.LINKED: ((_INT, _INT),),
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
