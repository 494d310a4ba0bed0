"""What a user may send: values to msgpack and back, with the limits of the receiver.

Carried: None, bool, int (64 bits), float, str, bytes, aware datetime, lists, tuples
and dicts of them with str keys, and objects of the classes marked with `message`, at
most 64 deep and 65,536 wide. A tuple arrives as a list, a bytearray as bytes, a
datetime as UTC; in a field of a message it arrives as the annotation says.

The *sender* checks all of it: several things that a receiver refuses (int keys, a
value too deep) pack without a word. `UnsupportedPayload` names the path inside.

A message is an extension of type 1, which holds another payload: ``[name, fields]``.
The receiver leaves each packed until it comes to it from outside, so that how deep
they nest is known before more is unpacked, and so is the path. Payloads without
messages pay nothing for that.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgpack

from clusterkit.core.field_checks import Mismatch, shown
from clusterkit.core.message_types import MessageType, find_type, type_of
from clusterkit.errors import UnsupportedPayload

MOST_DEEP = 64
MOST_WIDE = 65_536
MESSAGE_EXT = 1

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_STR_ONLY = frozenset({str})
_SEQUENCES = (list, tuple)
_LEAVES = (str, bytes, bytearray, memoryview, int, float)


def _pack_message(value: Any) -> msgpack.ExtType:
    """Pack what msgpack cannot by itself: of all that passed the check, the messages."""
    kind = type_of(value)
    if kind is None:
        raise TypeError(f"{type(value).__name__} has no form on the wire")
    told = [kind.name, kind.read(value)]
    return msgpack.ExtType(MESSAGE_EXT, msgpack.packb(told, datetime=True, default=_pack_message))


_packer = msgpack.Packer(autoreset=True, use_bin_type=True, datetime=True, default=_pack_message)
_pack: Callable[[Any], bytes] = _packer.pack
_unpack: Callable[..., Any] = msgpack.unpackb


class PayloadError(ValueError):
    """Bytes that are no payload, or one over the limits; ``path`` leads to the part that is bad."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def put_under(self, step: str) -> None:
        """Tell where in a larger whole the bad part stood."""
        self.path = step + self.path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


def encode(value: Any, root: str = "args") -> bytes:
    """Pack a value; ``root`` is what its path is called in an error.

    >>> decode(encode([1, ("two", 3.0)]))
    [1, ['two', 3.0]]
    """
    kind = type(value)
    if kind not in _SCALARS and not ((kind is tuple or kind is list) and _is_flat(value)):
        _check(value, root, 1)
    try:
        return _pack(value)
    except (OverflowError, ValueError, TypeError, Mismatch) as error:  # UnicodeEncodeError is a ValueError
        _packer.reset()
        _blame(value, root)
        raise UnsupportedPayload(f"{root}: {error}", path=root) from None


def _is_flat(value: Any) -> bool:
    """Whether a list or tuple holds scalars only, as nearly all arguments do."""
    for each in value:
        if type(each) not in _SCALARS:
            return False
    return len(value) <= MOST_WIDE


def _check(value: Any, path: str, depth: int) -> None:
    """Raise for a shape that the receiver refuses; flat containers are judged at C speed."""
    if type(value) in _SCALARS:
        return
    if isinstance(value, dict):
        _check_dict(value, path, depth)
    elif isinstance(value, _SEQUENCES) and not isinstance(value, msgpack.ExtType):
        _check_width(value, path, depth)
        if not _SCALARS.issuperset(map(type, value)):
            for index, each in enumerate(value):
                _check(each, f"{path}[{index}]", depth + 1)
    elif isinstance(value, datetime):
        _check_datetime(value, path)
    elif (kind := type_of(value)) is not None:
        _check_message(value, kind, path, depth)
    else:
        _check_leaf(value, path)


def _check_dict(value: dict[Any, Any], path: str, depth: int) -> None:
    _check_width(value, path, depth)
    if not _STR_ONLY.issuperset(map(type, value)):
        for key in value:
            if not isinstance(key, str):
                raise _unsupported(f"{path}: a key {key!r} of type {type(key).__name__}; keys are str", path)
    if not _SCALARS.issuperset(map(type, value.values())):
        for key, each in value.items():
            _check(each, f"{path}[{key!r}]", depth + 1)


def _check_message(value: Any, kind: MessageType, path: str, depth: int) -> None:
    if depth > MOST_DEEP:
        raise _unsupported(f"{path}: nested deeper than {MOST_DEEP}", path)
    told = _read(value, kind, path)
    for name, each in told.items():
        _check(each, f"{path}.{name}", depth + 1)
    try:
        kind.check(told)
    except Mismatch as error:
        raise _misfit(error, path) from error


def _read(value: Any, kind: MessageType, path: str) -> dict[str, Any]:
    try:
        return kind.read(value)
    except Mismatch as error:
        raise _misfit(error, path) from error


def _misfit(error: Mismatch, path: str) -> UnsupportedPayload:
    return _unsupported(f"{path}{error.path}: {error.reason}", path + error.path)


def _check_leaf(value: Any, path: str) -> None:
    if isinstance(value, memoryview) and not value.c_contiguous:
        raise _unsupported(f"{path}: a memoryview with gaps; send bytes(view)", path)
    if not isinstance(value, _LEAVES):
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        raise _unsupported(
            f"{path}: {name} cannot cross the wire"
            " (None, bool, int, float, str, bytes, aware datetime, list, tuple, dict and @message classes can)",
            path,
        )


def _check_datetime(value: datetime, path: str) -> None:
    if value.tzinfo is None:
        raise _unsupported(f"{path}: a datetime without a time zone: {value!r}", path)
    try:
        value.astimezone(UTC)
    except Exception as error:  # noqa: BLE001 - a tzinfo may be anybody's code
        raise _unsupported(f"{path}: a datetime that has no UTC time: {error!r}", path) from None


def _check_width(value: Any, path: str, depth: int) -> None:
    if depth > MOST_DEEP:
        raise _unsupported(f"{path}: nested deeper than {MOST_DEEP}", path)
    if len(value) > MOST_WIDE:
        raise _unsupported(f"{path}: {len(value)} elements, {MOST_WIDE} are the most", path)


def _blame(value: Any, path: str) -> None:
    """Find the scalar that would not pack, and raise with its path."""
    if isinstance(value, dict):
        for key, each in value.items():
            _blame(key, f"{path}[{key!r}]")
            _blame(each, f"{path}[{key!r}]")
    elif isinstance(value, _SEQUENCES):
        for index, each in enumerate(value):
            _blame(each, f"{path}[{index}]")
    elif (kind := type_of(value)) is not None:
        for name, each in _read(value, kind, path).items():
            _blame(each, f"{path}.{name}")
    else:
        try:
            msgpack.packb(value, datetime=True)
        except (OverflowError, ValueError, TypeError) as error:
            raise _unsupported(f"{path}: {_reason(value, error)}", path) from None


def _reason(value: Any, error: Exception) -> str:
    if isinstance(value, int):
        return f"an int of {value.bit_length()} bits, 64 are the most"
    if isinstance(value, str):
        return "a str with a lone surrogate has no UTF-8"
    return str(error)


def _unsupported(message: str, path: str) -> UnsupportedPayload:
    return UnsupportedPayload(message, path=path)


class _Packed:
    """A message that is still packed."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


_NESTED = frozenset({list, dict, _Packed})


def _ext(code: int, data: bytes) -> _Packed:
    if code == MESSAGE_EXT:
        return _Packed(data)
    raise ValueError(f"an extension of type {code} with {len(data)} bytes")


def decode(data: bytes, root: str = "args") -> Any:
    """Unpack a payload; raises `PayloadError` for anything over the limits of `encode`.

    Objects of classes marked with `message` are built, and checked in doing so.
    ``root`` is what the path is called in an error.
    """
    try:  # no array or map is longer than its bytes, so short payloads need no limit
        if len(data) <= MOST_WIDE:
            value = _unpack(data, timestamp=3, ext_hook=_ext)
        else:
            value = _unpack(data, timestamp=3, ext_hook=_ext, max_array_len=MOST_WIDE, max_map_len=MOST_WIDE)
    except Exception as error:  # noqa: BLE001 - StackError and others have no common base
        raise PayloadError(f"{type(error).__name__}: {error}", root) from None
    kind = type(value)
    if kind not in _SCALARS and not (kind is list and _is_flat(value)):
        try:
            return _opened(value, MOST_DEEP)
        except PayloadError as error:
            error.put_under(root)
            raise
    return value


def decode_without_messages(data: bytes) -> Any:
    """Unpack a payload with None for each message, whether it could be built here or not."""
    try:
        value = _unpack(data, timestamp=3, ext_hook=_leave_out, max_array_len=MOST_WIDE, max_map_len=MOST_WIDE)
    except Exception as error:  # noqa: BLE001 - StackError and others have no common base
        raise PayloadError(f"{type(error).__name__}: {error}") from None
    return _opened(value, MOST_DEEP)


def _leave_out(code: int, data: bytes) -> None:
    _ext(code, data)


def _opened(value: Any, deeper: int) -> Any:
    """Build the messages inside; refuse what `encode` would: keys that are no str, too deep a nesting."""
    kind = type(value)
    if not deeper and kind in _NESTED:
        raise PayloadError(f"nested deeper than {MOST_DEEP}")
    if kind is list:
        if not _SCALARS.issuperset(map(type, value)):
            _open_inside(value, enumerate(value), deeper - 1)
    elif kind is dict:
        if not _STR_ONLY.issuperset(map(type, value)):
            raise PayloadError("a map with a key that is no str")
        if not _SCALARS.issuperset(map(type, value.values())):
            _open_inside(value, value.items(), deeper - 1)
    elif kind is _Packed:
        return _build(value, deeper - 1)
    return value


def _open_inside(value: Any, items: Iterable[tuple[Any, Any]], deeper: int) -> None:
    step: Any = 0
    try:
        for step, each in items:
            if type(each) in _NESTED:
                value[step] = _opened(each, deeper)
    except PayloadError as error:
        error.put_under(f"[{shown(step) if type(step) is str else step}]")
        raise


def _build(packed: _Packed, deeper: int) -> Any:
    """Build a message, whose fields may be nested as deep as ``deeper`` says."""
    name, told = _name_and_fields(packed)
    try:
        kind = find_type(name)
        kind.sift(told)
        for field, value in told.items():
            told[field] = _opened_field(field, value, deeper)
        return kind.build(told)
    except Mismatch as error:
        raise PayloadError(error.reason, error.path) from error


def _name_and_fields(packed: _Packed) -> tuple[str, dict[str, Any]]:
    try:
        inner = _unpack(packed.data, timestamp=3, ext_hook=_ext, max_array_len=MOST_WIDE, max_map_len=MOST_WIDE)
    except Exception as error:  # noqa: BLE001 - StackError and others have no common base
        raise PayloadError(f"{type(error).__name__}: {error}") from None
    packed.data = b""  # of messages in each other one copy at a time, not one for each level
    match inner:
        case [str(name), dict(told)] if _STR_ONLY.issuperset(map(type, told)):
            return name, told
    raise PayloadError("a message that is no [name, map of fields by name]")


def _opened_field(name: str, value: Any, deeper: int) -> Any:
    try:
        return _opened(value, deeper)
    except PayloadError as error:
        error.put_under(f".{name}")
        raise
