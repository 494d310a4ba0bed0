"""What a supervisor is told, and what it asks for: the words of `Supervision`.

Events are past tense, effects imperative. A child is known by its key (its name, or a number
for one without), each life of it by its run: what is told of a former run is of no account.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

from clusterkit.errors import ConfigError

Key = str | int
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Cause = Literal["intensity", "significant", "requested"]
Outcome = Literal["ok", "failed", "closing", "not_found", "running", "restarting", "already_started", "already_present"]


def _check_word(what: str, word: object, allowed: Any) -> None:
    if word not in get_args(allowed):
        raise ConfigError(f"{what} is {word!r}: it must be one of {', '.join(get_args(allowed))}")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a supervisor restarts: more than ``intensity`` times within ``period`` seconds, and it ends.

    >>> Policy(strategy="one_for_many")
    Traceback (most recent call last):
    clusterkit.errors.ConfigError: strategy is 'one_for_many': it must be one of one_for_one, one_for_all, rest_for_one
    """

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        _check_word("strategy", self.strategy, Strategy)
        _check_word("auto_shutdown", self.auto_shutdown, AutoShutdown)
        if type(self.intensity) is not int or self.intensity < 0:
            raise ConfigError(f"intensity is {self.intensity!r}: it must be a whole number of restarts, 0 or more")
        if type(self.period) not in (int, float) or not isfinite(self.period) or self.period <= 0:
            raise ConfigError(f"period is {self.period!r}: it must be a positive number of seconds")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child: when it is started again, and whether its own end may end the supervisor."""

    key: Key
    restart: Restart = "permanent"
    significant: bool = False
    what: Any = field(default=None, compare=False, repr=False)
    """What the shell starts; the machine only keeps it."""

    def __post_init__(self) -> None:
        _check_word(f"restart of child {self.key!r}", self.restart, Restart)
        if self.significant and self.restart == "permanent":
            raise ConfigError(f"child {self.key!r} is permanent: it never ends for good, and cannot be significant")


# -- events


@dataclass(frozen=True, slots=True)
class Begun:
    """The supervisor's own start began: its first children are to be started."""


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The start that was asked for succeeded."""

    key: Key
    run: int


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """The process of a child ended: by itself, because it was stopped, or in its start, which failed then."""

    key: Key
    run: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetryCame:
    """It is the turn of a `TryAgain`."""

    key: Key
    run: int


@dataclass(frozen=True, slots=True)
class StartRequested:
    """A further child is asked for."""

    request: int
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A child is to be stopped; it stays in the list unless it is temporary."""

    request: int
    key: Key


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """A stopped child is to be started."""

    request: int
    key: Key


@dataclass(frozen=True, slots=True)
class DeleteRequested:
    """A stopped child is to be struck off the list."""

    request: int
    key: Key


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The supervisor itself was stopped."""


Request = StartRequested | StopRequested | RestartRequested | DeleteRequested
Event = Begun | ChildStarted | ChildEnded | RetryCame | Request | ShutdownRequested


# -- effects


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child; it is answered by `ChildStarted` or `ChildEnded`."""

    key: Key
    run: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a child with "shutdown", by force when its time is over; it is answered by `ChildEnded`."""

    key: Key
    run: int


@dataclass(frozen=True, slots=True)
class Release:
    """Let others know the end of a run: its successor has the name, or there will be none."""

    key: Key
    run: int


@dataclass(frozen=True, slots=True)
class ReportRestart:
    """Say that a child is started again, as the ``restarts``-th restart within the period."""

    key: Key
    reason: str
    restarts: int


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Send `RetryCame` when all that already waits was handled: the start failed."""

    key: Key
    run: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a request."""

    request: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FinishInit:
    """Say that all children run; or, with ``failed``, that this one could not be started and all others are stopped."""

    failed: Key | None = None


@dataclass(frozen=True, slots=True)
class End:
    """End the supervisor with "shutdown": its children are stopped."""

    cause: Cause


Effect = Start | Stop | Release | ReportRestart | TryAgain | Answer | FinishInit | End
