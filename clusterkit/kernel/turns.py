"""What a call inherits from where it is made: a deadline, and the chain of those who wait for it.

A *turn* is one handler at work. Calls that it makes end at its caller's deadline, and name
it in their chain: a server in the chain waits, directly or not, for this very call, and
could never answer it. A task that outlives the turn it was started in inherits nothing.
"""

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar, Token
from math import inf
from types import TracebackType
from typing import Self

from clusterkit.errors import ConfigError, UsageError
from clusterkit.kernel.mailbox import From, Inbox

_MOST_CHAIN = 64  # turns that a chain names: a longer cycle ends at its deadline


class Bounded:
    """A `deadline` block: what it was entered in, and when it ends (loop time)."""

    __slots__ = ("at", "frm")

    def __init__(self, at: float, frm: From | None) -> None:
        self.at = at
        self.frm = frm


AMBIENT: ContextVar[From | Bounded | None] = ContextVar("clusterkit_ambient", default=None)
"""The message that is being handled here, or a deadline inside of that; asked by each call."""


def current_turn() -> From | None:
    """The message that is being handled here."""
    ambient = AMBIENT.get()
    return ambient.frm if type(ambient) is Bounded else ambient  # type: ignore[return-value]


def inherited(deadline: float) -> tuple[float, tuple[str, ...] | None]:
    """The deadline of a call that is made here now, ``deadline`` at the latest, and its chain."""
    ambient = AMBIENT.get()
    if isinstance(ambient, Bounded):
        deadline = min(deadline, ambient.at)
        ambient = ambient.frm
    if ambient is None or (holder := ambient._holder) is None:
        return deadline, None
    if ambient.deadline is not None and ambient.deadline < deadline:
        deadline = ambient.deadline
    chain = ambient._chain
    if holder.is_held_by(ambient) and (turn := holder.turn) is not None:
        chain = (*chain[1 - _MOST_CHAIN :], turn) if chain else (turn,)
    return deadline, chain


def cycle_text(inbox: Inbox, chain: Iterable[str]) -> str:
    """Say who waits for whom."""
    turns = list(chain)
    if inbox.holder is not None and turns[-1:] == [inbox.holder.turn]:
        return f"{inbox.shown} calls itself and would wait for ever: `await self.method()` needs no call"
    return f"{inbox.shown} waits for this very call: {' -> '.join([*turns, inbox.shown])}"


class deadline:  # noqa: N801 - used like a function
    """Bound the calls that are made inside, here and onward on other nodes, to ``seconds`` together.

    ::

        with deadline(2.0):
            await ref.call(...)

    Past it they raise `CallTimeout`. The body is not cancelled: what it awaits beside calls and
    casts goes on. An outer deadline that ends sooner stays in force. 0 lets no call begin. ``async with`` works
    too. Raises `ConfigError`, and `UsageError` when it is entered twice.
    """

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ConfigError(f"deadline({seconds!r}): it must be a number of seconds, not negative")
        self._seconds = seconds
        self._token: Token[From | Bounded | None] | None = None
        self._bounded: Bounded | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise UsageError("a deadline is entered once: make another")
        at = asyncio.get_running_loop().time() + self._seconds
        outer = AMBIENT.get()
        if isinstance(outer, Bounded):
            at = min(at, outer.at)
        self._bounded = Bounded(at, current_turn())
        self._token = AMBIENT.set(self._bounded)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        assert self._bounded is not None
        self._bounded.at = inf  # a task that was started inside and goes on is bounded no more
        AMBIENT.reset(self._token)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
