"""Exceptions across nodes: told by type name, arguments and text, rebuilt without pickle.

A builtin exception is rebuilt by its constructor. Another one is rebuilt without
calling ``__init__``, and only when its module is already imported here: nothing
that comes off the wire is ever imported or executed. Everything else arrives as
`RemoteError`. An ``ExceptionGroup`` is rebuilt with what it holds. The cause of each is a `RemoteTraceback` with the text of the other
side's traceback.
"""

import builtins
import sys
import traceback
from typing import Any

from clusterkit.core.payload import PayloadError, decode, decode_without_messages, encode
from clusterkit.errors import RemoteError

_TEXT_LIMIT = 16 << 10
_MOST_GROUPED, _MOST_DEEP = 64, 4  # errors of a group that cross, and groups in groups


class ControlFlow(Exception):
    """What a handler raises to direct its own process: it means nothing to another one, and never reaches it."""


ALWAYS_REMOTE = (StopIteration, StopAsyncIteration, ControlFlow)
"""What arrives as `RemoteError` always: a future refuses the first, a coroutine the second."""


class RemoteTraceback(Exception):
    """The traceback of the other side, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def _attributes(error: BaseException) -> dict[str, Any]:
    """What of its attributes can cross; a foreign class may raise anything when it is asked."""
    try:
        attributes = dict(error.__dict__)
        return {name: value for name, value in attributes.items() if _may_set(name) and _crosses(value)}
    except Exception:  # noqa: BLE001
        return {}


def _arguments(error: BaseException) -> list[Any] | None:
    try:
        args = list(error.args)
    except Exception:  # noqa: BLE001 - as above
        return None
    return args if _crosses(args) else None


def pack_exception(error: BaseException, most: int = 1 << 20, *, trace: bool = True) -> bytes:
    """Tell an exception in msgpack, in at most ``most`` bytes (48 KiB or more); never raises.

    What cannot cross, or is too large, is left out, and the traceback too without ``trace``.
    """
    told = _tell(error, trace=trace)
    if isinstance(error, ExceptionGroup):
        told["exceptions"] = _tell_group(error, [_MOST_GROUPED], _MOST_DEEP)
    packed = encode(told)
    if len(packed) <= most:
        return packed
    return encode({key: told[key] for key in ("type", "text", "traceback")})


def _tell(error: BaseException, *, trace: bool) -> dict[str, Any]:
    kind = type(error)
    told: dict[str, Any] = {
        "type": _short(f"{kind.__module__}:{kind.__qualname__}"),
        "text": _short(_text(error)),
        "traceback": _short(_traceback(error)) if trace else "",
    }
    told["attrs"] = _attributes(error)
    if (args := _arguments(error)) is not None:
        told["args"] = args
    return told


def _tell_group(group: ExceptionGroup[Exception], left: list[int], deeper: int) -> list[dict[str, Any]]:
    """Tell what a group holds, without tracebacks of their own: the group's has them all."""
    told: list[dict[str, Any]] = []
    for error in group.exceptions:
        if left[0] <= 0:
            break
        left[0] -= 1
        told.append(_tell(error, trace=False))
        if isinstance(error, ExceptionGroup) and deeper:
            told[-1]["exceptions"] = _tell_group(error, left, deeper - 1)
    return told


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - a foreign __str__ may raise anything
        return f"<no text: its __str__ raised {type(second).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as second:  # noqa: BLE001 - as above
        return f"<no traceback: {type(second).__name__}>"


def _may_set(name: object) -> bool:
    """Whether an attribute of that name is the exception's own, and not the machinery's."""
    return isinstance(name, str) and not name.startswith("__") and not hasattr(BaseException, name)


def _crosses(value: Any) -> bool:
    try:
        encode([[value]])  # as deep as it will stand in the message
    except Exception:  # noqa: BLE001 - a subclass of dict or list may raise anything
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
        return _remake(_decode_told(payload))
    except (PayloadError, KeyError, TypeError, RecursionError):
        return RemoteError("unknown", "an error that cannot be read")


def _remake(told: dict[str, Any], deeper: int = _MOST_DEEP + 1) -> Exception:
    type_name, text, trace = str(told["type"]), str(told["text"]), str(told["traceback"])
    error: Exception | None
    if type_name == "builtins:ExceptionGroup" and deeper and isinstance(told.get("exceptions"), list):
        error = _regroup(text, told["exceptions"][:_MOST_GROUPED], deeper)
    else:
        error = _rebuild(type_name, told)
    error = error or RemoteError(type_name.partition(":")[2] or type_name, text, trace)
    error.__cause__ = RemoteTraceback(trace) if trace else None
    return error


def _regroup(text: str, exceptions: list[Any], deeper: int) -> Exception | None:
    """Make a group of what was told of its members; its text ends with their number, which is not its own."""
    members = [_remake(each, deeper - 1) for each in exceptions]
    return ExceptionGroup(text.rpartition(" (")[0], members) if members else None


def _decode_told(payload: bytes) -> Any:
    """Decode; when a message inside cannot be built here, leave out what may hold it."""
    try:
        return decode(payload)
    except PayloadError:
        told = decode_without_messages(payload)
        return {key: told[key] for key in ("type", "text", "traceback")}


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
    if not isinstance(found, type) or not issubclass(found, Exception) or issubclass(found, ALWAYS_REMOTE):
        return None
    return found
