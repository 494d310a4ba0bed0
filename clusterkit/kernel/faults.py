"""Exceptions across nodes: told by type name, arguments and text, rebuilt without pickle.

A builtin exception is rebuilt by its constructor. Another one is rebuilt without
calling ``__init__``, and only when its module is already imported here: nothing
that comes off the wire is ever imported or executed. Everything else arrives as
`RemoteError`. The cause of each is a `RemoteTraceback` with the text of the other
side's traceback.
"""

import builtins
import sys
import traceback
from typing import Any

from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.errors import RemoteError, UnsupportedPayload

_TEXT_LIMIT = 16 << 10
_ALWAYS_REMOTE = (StopIteration, StopAsyncIteration)  # a future refuses the one, a coroutine the other


class RemoteTraceback(Exception):
    """The traceback of the other side, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def pack_exception(error: BaseException, most: int = 1 << 20) -> bytes:
    """Tell an exception in msgpack, in at most ``most`` bytes (48 KiB or more); never raises.

    What cannot cross, or is too large, is left out.
    """
    kind = type(error)
    told: dict[str, Any] = {
        "type": _short(f"{kind.__module__}:{kind.__qualname__}"),
        "text": _short(_text(error)),
        "traceback": _short("".join(traceback.format_exception(error))),
    }
    attributes = getattr(error, "__dict__", {})
    told["attrs"] = {name: value for name, value in attributes.items() if _may_set(name) and _crosses(value)}
    if _crosses(args := list(error.args)):
        told["args"] = args
    packed = encode(told)
    if len(packed) <= most:
        return packed
    return encode({key: told[key] for key in ("type", "text", "traceback")})


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - a foreign __str__ may raise anything
        return f"<no text: its __str__ raised {type(second).__name__}>"


def _may_set(name: str) -> bool:
    """Whether an attribute of that name is the exception's own, and not the machinery's."""
    return not name.startswith("__") and not hasattr(BaseException, name)


def _crosses(value: Any) -> bool:
    try:
        encode([[value]])  # as deep as it will stand in the message
    except UnsupportedPayload:
        return False
    return True


def pack_text(text: str) -> bytes:
    """Pack a text that says why; a long one is cut."""
    return encode(_short(text))


def _short(text: str) -> str:
    """Keep the end, where the error is, and make it packable."""
    return text.encode("utf-8", "replace")[-_TEXT_LIMIT:].decode("utf-8", "replace")


def unpack_exception(payload: bytes) -> Exception:
    """Rebuild an exception; raises nothing, whatever the bytes are."""
    try:
        told = decode(payload)
        type_name, text, trace = str(told["type"]), str(told["text"]), str(told["traceback"])
    except (PayloadError, KeyError, TypeError):
        return RemoteError("unknown", "an error that cannot be read")
    error = _rebuild(type_name, told) or RemoteError(type_name.partition(":")[2] or type_name, text, trace)
    error.__cause__ = RemoteTraceback(trace)
    return error


def _rebuild(type_name: str, told: dict[str, Any]) -> Exception | None:
    kind = _find_type(type_name)
    args, attributes = told.get("args"), told.get("attrs")
    if kind is None or not isinstance(args, list) or not isinstance(attributes, dict):
        return None
    try:
        if kind.__module__ == builtins.__name__:
            error = kind(*args)
        else:
            error = kind.__new__(kind, *args)
            error.args = tuple(args)
        for name, value in attributes.items():
            if _may_set(name):
                setattr(error, name, value)
    except Exception:  # noqa: BLE001 - a foreign constructor may raise anything
        return None
    return error


def _find_type(type_name: str) -> type[Exception] | None:
    module_name, _, path = type_name.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in path.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if not isinstance(found, type) or not issubclass(found, Exception) or issubclass(found, _ALWAYS_REMOTE):
        return None
    return found
