"""What a user may send: values to msgpack and back, with the limits of the receiver.

Carried: None, bool, int (64 bits), float, str, bytes, aware datetime, and lists,
tuples and dicts of them with str keys, at most 64 deep and 65,536 wide. A tuple
arrives as a list, a bytearray as bytes, a datetime as UTC.

The *sender* checks all of it: several things that a receiver refuses (int keys, a
value too deep) pack without a word. `UnsupportedPayload` names the path inside.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgpack

from clusterkit.errors import UnsupportedPayload

MOST_DEEP = 64
MOST_WIDE = 65_536

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_STR_ONLY = frozenset({str})
_SEQUENCES = (list, tuple)
_LEAVES = (str, bytes, bytearray, memoryview, int, float)

_packer = msgpack.Packer(autoreset=True, use_bin_type=True, datetime=True)
_pack: Callable[[Any], bytes] = _packer.pack
_unpack: Callable[..., Any] = msgpack.unpackb


class PayloadError(ValueError):
    """Bytes that are no payload, or one over the limits."""


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
    except (OverflowError, ValueError, TypeError) as error:  # UnicodeEncodeError is a ValueError
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


def _check_leaf(value: Any, path: str) -> None:
    if isinstance(value, datetime):
        _check_datetime(value, path)
    elif isinstance(value, memoryview) and not value.c_contiguous:
        raise _unsupported(f"{path}: a memoryview with gaps; send bytes(view)", path)
    elif not isinstance(value, _LEAVES):
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        raise _unsupported(
            f"{path}: {name} cannot cross the wire"
            " (None, bool, int, float, str, bytes, aware datetime, list, tuple, dict can)",
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


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"an extension of type {code} with {len(data)} bytes")


def decode(data: bytes) -> Any:
    """Unpack a payload; raises `PayloadError` for anything over the limits of `encode`."""
    try:  # no array or map is longer than its bytes, so short payloads need no limit
        if len(data) <= MOST_WIDE:
            value = _unpack(data, timestamp=3, ext_hook=_no_ext)
        else:
            value = _unpack(data, timestamp=3, ext_hook=_no_ext, max_array_len=MOST_WIDE, max_map_len=MOST_WIDE)
    except Exception as error:  # noqa: BLE001 - StackError and others have no common base
        raise PayloadError(f"{type(error).__name__}: {error}") from None
    kind = type(value)
    if kind not in _SCALARS and not (kind is list and _is_flat(value)):
        _check_decoded(value, MOST_DEEP)
    return value


def _check_decoded(value: Any, deeper: int) -> None:
    """Refuse what `encode` would: keys that are no str, containers nested too deep."""
    kind = type(value)
    if kind is not list and kind is not dict:
        return
    if not deeper:
        raise PayloadError(f"nested deeper than {MOST_DEEP}")
    if kind is dict and not _STR_ONLY.issuperset(map(type, value)):
        raise PayloadError("a map with a key that is no str")
    inner = value.values() if kind is dict else value
    if not _SCALARS.issuperset(map(type, inner)):
        for each in inner:
            _check_decoded(each, deeper - 1)
