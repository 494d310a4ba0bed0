"""Which methods of an actor can be reached, and how: `call`, `cast`, `on`.

Only what is decorated can be reached. The table of a class is made once, when the
class is, and everything that could not work is a `TypeError` there.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from clusterkit.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["call", "cast", "on"]
_MARK = "__clusterkit_handler__"
_LONGEST = 1_000_000_000  # seconds; 31 years


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator leaves on a function."""

    kind: Kind
    event: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Handler:
    """One entry of an actor's table."""

    kind: Kind
    attribute: str
    is_async: bool
    takes_frm: bool
    timeout: float | None


@overload
def call(function: F, /) -> F: ...
@overload
def call(*, timeout: float | None = None) -> Callable[[F], F]: ...
def call(function: Any = None, /, *, timeout: float | None = None) -> Any:
    """Export an ``async def`` method that answers its caller.

    ``timeout`` (seconds) is what callers wait when they say nothing else.
    """
    if timeout is not None:
        check_timeout(timeout)
    if function is None:
        return lambda given: _marked(given, Mark("call", timeout=timeout))
    return _marked(function, Mark("call"))


def check_timeout(timeout: float) -> float:
    """Return a duration in seconds, or raise `ConfigError`: never zero, never endless."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST:
        raise ConfigError(f"timeout is {timeout!r}: it must be a positive number of seconds, at most {_LONGEST:,}")
    return float(timeout)


def cast(function: F, /) -> F:
    """Export an ``async def`` method that answers nothing: its senders do not wait for it."""
    return _marked(function, Mark("cast"))


def on(event: str, /) -> Callable[[F], F]:
    """Export a method for an event: ``(data)`` or ``(data, frm)``, ``def`` or ``async def``.

    Called or cast; what it returns is the reply of a call.
    """
    if not isinstance(event, str) or not event:
        raise TypeError(f"@on takes the name of an event, as @on('hello'), not {event!r}")
    return lambda function: _marked(function, Mark("on", event))


def _marked(function: F, mark: Mark) -> F:
    if not inspect.isfunction(function):
        raise TypeError(f"@{mark.kind} goes on a method, not on {function!r}")
    if mark.kind != "on" and not inspect.iscoroutinefunction(function):
        raise TypeError(f"@{mark.kind} {function.__qualname__} must be `async def`: its caller awaits it")
    setattr(function, _MARK, mark)
    return function


def table_of(cls: type, reserved: frozenset[str]) -> dict[str, Handler]:
    """Collect the handlers of a class, its bases' too; raises `TypeError` for what cannot be.

    ``reserved`` are the names that the base class keeps to itself.
    """
    handlers: dict[str, Handler] = {}
    for base in reversed(cls.__mro__):
        for attribute, function in vars(base).items():
            mark = getattr(function, _MARK, None)
            if isinstance(mark, Mark):
                if attribute in reserved:
                    raise TypeError(f"{cls.__qualname__}.{attribute}: the name {attribute!r} is GenServer's own")
                handlers[mark.event or attribute] = _handler(attribute, function, mark)
    return handlers


def targets_of(cls: type, handlers: dict[str, Handler]) -> dict[Any, tuple[str, float | None]]:
    """What a caller may name, its method or its event, to the event and the timeout: looked up at each call."""
    targets: dict[Any, tuple[str, float | None]] = {}
    for event, handler in handlers.items():
        targets[event] = targets[getattr(cls, handler.attribute)] = (event, handler.timeout)
    return targets


def _handler(attribute: str, function: Any, mark: Mark) -> Handler:
    takes_frm = False
    if mark.kind == "on":
        plain = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if not 2 <= len(plain) <= 3:
            raise TypeError(f"@on {function.__qualname__} takes (self, data) or (self, data, frm)")
        takes_frm = len(plain) == 3
    return Handler(mark.kind, attribute, inspect.iscoroutinefunction(function), takes_frm, mark.timeout)
