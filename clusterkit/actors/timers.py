"""The timers of one actor: they end with it, and one that is late does not pile up."""

import asyncio
from collections.abc import Callable

from clusterkit.actors.handlers import check_timeout

_SHORTEST = 0.001  # seconds; a shorter period would leave the loop no time for anything else


class Timer:
    """One timer, as `GenServer.send_after` and `GenServer.every` return it."""

    __slots__ = ("_at", "_handle", "_period", "_timers", "tag", "waits")

    def __init__(self, timers: "Timers", tag: object, at: float, period: float | None) -> None:
        self.tag = tag
        self.waits = False  # its TimerFired is in the mailbox
        self._timers = timers
        self._at = at
        self._period = period
        self._handle: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        kind = "once" if self._period is None else f"every {self._period:g} s"
        return f"<Timer {self.tag!r} {kind}{'' if self.is_live else ', over'}>"

    @property
    def is_live(self) -> bool:
        """Whether it may still be heard of."""
        return self in self._timers.live

    def arm(self) -> None:
        """Run from now on."""
        self._handle = self._timers.loop.call_at(self._at, self._due)

    def _due(self) -> None:
        if not self.waits:
            self.waits = True
            self._timers.fired(self)
        if self._period is not None:
            now = self._timers.loop.time()
            self._at += self._period * max(1, -(-(now - self._at) // self._period))
            self.arm()

    def taken(self) -> bool:
        """The message is taken from the mailbox: say whether it is to be handled."""
        self.waits = False
        if self._period is None:
            return self._timers.live.pop(self, False) is None
        return self.is_live

    def cancel(self) -> bool:
        """Stop it; False when it had fired for good, or was stopped."""
        if self._handle is not None:
            self._handle.cancel()
        return self._timers.live.pop(self, False) is None


class Timers:
    """All timers of one actor; ``fired`` puts the message of one into the mailbox."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fired: Callable[[Timer], None]) -> None:
        self.loop = loop
        self.fired = fired
        self.live: dict[Timer, None] = {}

    def after(self, delay: float, tag: object) -> Timer:
        """Fire once, ``delay`` seconds from now; raises `ConfigError`."""
        return self._begin(tag, check_timeout(delay, "delay", least=0.0), None)

    def every(self, period: float, tag: object) -> Timer:
        """Fire each ``period`` seconds; raises `ConfigError`."""
        return self._begin(tag, period, check_timeout(period, "period", _SHORTEST))

    def _begin(self, tag: object, delay: float, period: float | None) -> Timer:
        timer = Timer(self, tag, self.loop.time() + delay, period)
        self.live[timer] = None
        timer.arm()
        return timer

    def close(self) -> None:
        """Stop them all."""
        for timer in list(self.live):
            timer.cancel()
