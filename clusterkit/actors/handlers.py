"""Which methods of an actor can be reached, and how: `call`, `cast`, `on`.

Only what is decorated can be reached. The table of a class is made once, when the
class is, and everything that could not work is a `TypeError` there.
"""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from clusterkit.errors import ConfigError

if TYPE_CHECKING:
    from clusterkit.kernel.mailbox import From

F = TypeVar("F", bound=Callable[..., Any])
Answering = TypeVar("Answering", bound=Callable[..., Coroutine[Any, Any, Any]])
Event = TypeVar("Event", bound="Callable[[Any, Any], Any] | Callable[[Any, Any, From], Any]")
Silent = TypeVar("Silent", bound=Callable[..., Coroutine[Any, Any, None]])
Kind = Literal["call", "cast", "on"]
RESERVED = "clusterkit."
_MARK = "__clusterkit_handler__"
_LONGEST = 1_000_000_000  # seconds; 31 years


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator leaves on a function."""

    kind: Kind
    event: str | None = None
    timeout: float | None = None
    concurrent: bool = False
    cancellable: bool = False


@dataclass(frozen=True, slots=True)
class Handler:
    """One entry of an actor's table."""

    kind: Kind
    attribute: str
    is_async: bool
    takes_frm: bool
    timeout: float | None
    concurrent: bool = False
    cancellable: bool = False


@overload
def call(function: Answering, /) -> Answering: ...
@overload
def call(
    *, concurrent: bool = False, cancellable: bool = False, timeout: float | None = None
) -> Callable[[Answering], Answering]: ...
def call(
    function: Any = None, /, *, concurrent: bool = False, cancellable: bool = False, timeout: float | None = None
) -> Any:
    """Export an ``async def`` method that answers its caller.

    ``timeout`` (seconds) is what callers wait when they say nothing else. A ``concurrent``
    handler runs beside others: it starts in its turn, and what comes behind it need not wait for its
    end; one that its caller's own turn waits for starts at once. A ``cancellable`` one is cancelled at its next await when its caller gives up or the
    deadline passes; any other runs to its end.
    """
    if timeout is not None:
        check_timeout(timeout)
    mark = Mark("call", timeout=timeout, concurrent=concurrent, cancellable=cancellable)
    if function is None:
        return lambda given: _marked(given, mark)
    return _marked(function, mark)


def check_timeout(timeout: float, what: str = "timeout", least: float = 1e-9) -> float:
    """Return a duration in seconds, or raise `ConfigError`: never too short, never endless."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not least <= timeout <= _LONGEST:
        floor = "a positive number of seconds" if least == 1e-9 else f"a number of seconds, at least {least:g}"
        raise ConfigError(f"{what} is {timeout!r}: it must be {floor}, at most {_LONGEST:,}")
    return float(timeout)


@overload
def cast(function: Silent, /) -> Silent: ...
@overload
def cast() -> Callable[[Silent], Silent]: ...
def cast(function: Any = None, /) -> Any:
    """Export an ``async def`` method that answers nothing: its senders do not wait for it."""
    if function is None:
        return lambda given: _marked(given, Mark("cast"))
    return _marked(function, Mark("cast"))


def on(event: str, /) -> Callable[[Event], Event]:
    """Export a method for an event: ``(data)`` or ``(data, frm)``, ``def`` or ``async def``.

    Called or cast; what it returns is the reply of a call.
    """
    if not isinstance(event, str) or not event:
        raise TypeError(f"@on takes the name of an event, as @on('hello'), not {event!r}")
    if event.startswith(RESERVED):
        raise TypeError(f"@on({event!r}): names that begin with {RESERVED!r} are reserved")
    return lambda function: _marked(function, Mark("on", event))


def _marked(function: F, mark: Mark) -> F:
    if not inspect.isfunction(function):
        raise TypeError(f"@{mark.kind} goes on a method, not on {function!r}")
    if mark.kind != "on" and not inspect.iscoroutinefunction(function):
        raise TypeError(f"@{mark.kind} {function.__qualname__} must be `async def`: its caller awaits it")
    setattr(function, _MARK, mark)
    return function


def mark_of(function: Any) -> Mark | None:
    """What a decorator left on a function; None when there was none."""
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, Mark) else None


def table_of(cls: type, reserved: frozenset[str]) -> dict[str, Handler]:
    """Collect the handlers of a class, its bases' too; raises `TypeError` for what cannot be.

    ``reserved`` are the names that the base class keeps to itself.
    """
    handlers: dict[str, Handler] = {}
    for base in reversed(cls.__mro__):
        own: dict[str, str] = {}
        for attribute, function in vars(base).items():
            if (mark := mark_of(function)) is not None:
                if attribute in reserved:
                    raise TypeError(f"{cls.__qualname__}.{attribute}: the name {attribute!r} is GenServer's own")
                event = mark.event or attribute
                if own.setdefault(event, attribute) != attribute:
                    raise TypeError(f"{cls.__qualname__}: {own[event]} and {attribute} both handle {event!r}")
                handlers[event] = _handler(attribute, function, mark)
    return {event: _as_overridden(cls, handler) for event, handler in handlers.items()}


def _as_overridden(cls: type, handler: Handler) -> Handler:
    """A method may be overridden without its decorator, and by plain ``def``."""
    is_async = inspect.iscoroutinefunction(getattr(cls, handler.attribute))
    return handler if is_async == handler.is_async else replace(handler, is_async=is_async)


def targets_of(cls: type, handlers: dict[str, Handler], kind: Kind) -> dict[Any, tuple[str, float | None]]:
    """What a sender may name, a method of this kind or any event, to the event and the timeout: looked up at each send."""
    targets: dict[Any, tuple[str, float | None]] = {}
    for event, handler in handlers.items():
        targets[event] = event, handler.timeout
        if handler.kind in (kind, "on"):
            targets[getattr(cls, handler.attribute)] = event, handler.timeout
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
    return Handler(
        mark.kind,
        attribute,
        inspect.iscoroutinefunction(function),
        takes_frm,
        mark.timeout,
        mark.concurrent,
        mark.cancellable,
    )
