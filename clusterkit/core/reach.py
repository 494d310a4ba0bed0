"""Can a peer be reached: when to dial it, and when to call it down.

The machine of one peer. While the peer is *wanted* and no link to it is open, it
is dialled, with back-off between the tries, for ever. It is *down* when a dial was
refused, when none was answered for ``patience`` seconds, or when its link was cut
because it gave no sign; another break whose redial succeeds is never down. Down is
said once and unsaid by `Opened`. A link that stood for a second is dialled again at once
when it is lost; one that did not waits its turn, or it would be made and lost in a loop.

Who uses it carries out the effects and steps it with `Tick` at ``next_deadline``.
"""

from dataclasses import dataclass
from enum import Enum

from clusterkit.core.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Wanted:
    """The peer is a member, or a message waits for it."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The peer left or was removed: dial it no more."""


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial ended without a link; ``refused`` when nobody listens there."""

    refused: bool
    why: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A link opened, whoever dialled."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The open link ended, and the peer did not part.

    ``silent``: it was cut because the peer gave no sign; that is down. ``again``:
    the peer asked for another link at once.
    """

    why: str
    silent: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Parted:
    """The peer said goodbye for good."""

    why: str


@dataclass(frozen=True, slots=True)
class Hurry:
    """The peer may be back: dial it now, if a dial is due later."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed."""


Event = Wanted | Unwanted | DialFailed | Opened | Lost | Parted | Hurry | Tick


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial the peer now; answer with `Opened` or `DialFailed`."""


@dataclass(frozen=True, slots=True)
class CallDown:
    """The peer is down: end what waits for it."""

    why: str


Effect = Dial | CallDown


_STOOD = 1.0  # seconds


class _State(Enum):
    IDLE = "idle"
    DIALLING = "dialling"
    WAITING = "waiting"
    OPEN = "open"


class Reach:
    """The machine of one peer.

    >>> from random import Random
    >>> reach = Reach(Backoff(0.1, 5.0, Random(1)))
    >>> reach.step(Wanted(), 0.0)
    [Dial()]
    >>> reach.step(DialFailed(refused=True, why="connection refused"), 0.1)
    [CallDown(why='connection refused')]
    >>> reach.down, reach.next_deadline > 0.1
    (True, True)
    """

    def __init__(self, backoff: Backoff, patience: float = 3.0) -> None:
        self.down = False
        self.wanted = False
        self.why = ""
        self._backoff = backoff
        self._patience = patience
        self._state = _State.IDLE
        self._since: float | None = None  # since when there is no link though one is wanted
        self._dial_at: float | None = None
        self._opened_at = 0.0

    @property
    def open(self) -> bool:
        """Whether a link is open."""
        return self._state is _State.OPEN

    @property
    def next_deadline(self) -> float | None:
        """When to step with `Tick`, in seconds."""
        give_up = self._since + self._patience if self._since is not None and not self.down else None
        return min((at for at in (give_up, self._dial_at) if at is not None), default=None)

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event."""
        effects = self._step(event, now)
        if self._since is not None and not self.down and now >= self._since + self._patience:
            effects += self._call_down(self.why or f"no answer for {self._patience:g} s")
        if self._dial_at is not None and now >= self._dial_at:
            self._dial_at = None
            self._state = _State.DIALLING
            effects.append(Dial())
        return effects

    def _step(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Wanted():
                self._want(now)
            case Unwanted() if self._state is _State.OPEN:
                self.wanted = False
            case Unwanted():
                self._rest()
            case Hurry() if self._state is _State.WAITING:
                self._dial_at = now
            case Opened():
                self._state, self._since, self._dial_at, self.down, self.why = _State.OPEN, None, None, False, ""
                self._opened_at = now
                self._backoff.reset()
            case Lost():
                return self._lost(event, now)
            case Parted(why=why):
                self._rest()
                return self._call_down(why)
            case DialFailed() if self._state is _State.DIALLING:
                return self._dial_failed(event, now)
        return []

    def _want(self, now: float) -> None:
        self.wanted = True
        if self._state is _State.IDLE:
            self._state, self._dial_at, self._since = _State.WAITING, now, now

    def _rest(self) -> None:
        self.wanted = False
        self._state, self._since, self._dial_at = _State.IDLE, None, None

    def _lost(self, event: Lost, now: float) -> list[Effect]:
        self.why = event.why
        if not self.wanted:
            self._rest()
            return self._call_down(event.why)
        stood = now - self._opened_at >= _STOOD
        delay = 0.0 if event.again or stood else self._backoff.next()
        self._state, self._since, self._dial_at = _State.WAITING, now, now + delay
        return self._call_down(event.why) if event.silent else []

    def _dial_failed(self, event: DialFailed, now: float) -> list[Effect]:
        self.why = event.why
        self._state, self._dial_at = _State.WAITING, now + self._backoff.next()
        return self._call_down(event.why) if event.refused else []

    def _call_down(self, why: str) -> list[Effect]:
        if self.down:
            return []
        self.down, self.why = True, why
        return [CallDown(why)]
