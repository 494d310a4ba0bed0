"""Children of a supervisor: how they are given to it, and how it lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.handlers import RESERVED
from clusterkit.core.identity import check_name
from clusterkit.core.supervision_events import ChildSpec, Key, Restart
from clusterkit.errors import ConfigError

if TYPE_CHECKING:
    from clusterkit.actors.ref import Ref

A_co = TypeVar("A_co", bound=GenServer, covariant=True)
_LONGEST = 1_000_000_000  # seconds; 31 years


@dataclass(frozen=True, slots=True)
class Child(Generic[A_co]):
    """An actor that a supervisor is to keep running, made by ``factory`` each time it is started.

    >>> Child(GenServer, name="worker", restart="transient").restart
    'transient'
    >>> Child(GenServer, restart="seldom")
    Traceback (most recent call last):
    clusterkit.errors.ConfigError: restart of child 'GenServer' is 'seldom': it must be one of permanent, transient, temporary
    """

    factory: Callable[[], A_co]
    _: KW_ONLY
    name: str | None = None
    """Its name on the node; one without is known by its `Ref` alone."""

    restart: Restart = "permanent"
    """Started again always ("permanent"), unless it ended with "normal" or "shutdown" ("transient"), or never."""

    shutdown: float | None = None
    """Seconds that it has to stop before it is cancelled, 0: cancelled at once. None: 5, for a supervisor as long as
    its children may take."""

    significant: bool = False
    """Whether its end for good may end the supervisor, see `Supervisor.auto_shutdown`."""

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise ConfigError(f"a child is given by what makes it, a class or function: not by {self.factory!r}")
        if self.name is not None:
            check_name(self.name, "actor name")
            if self.name.startswith(RESERVED):
                raise ConfigError(f"actor name {self.name!r}: names that begin with {RESERVED!r} are reserved")
        if self.shutdown is not None and not (type(self.shutdown) in (int, float) and 0 <= self.shutdown < _LONGEST):
            raise ConfigError(f"shutdown of child {self.shown!r} is {self.shutdown!r}: it must be a number of seconds")
        ChildSpec(self.shown, self.restart, self.significant)  # which checks the rest

    @property
    def shown(self) -> str:
        """What to call it in a message to people."""
        made_by = self.factory.func if isinstance(self.factory, partial) else self.factory
        return self.name or str(getattr(made_by, "__name__", type(made_by).__name__))

    def spec(self, key: Key) -> ChildSpec:
        """What the supervisor's machine needs to know of it."""
        return ChildSpec(key, self.restart, self.significant, self)


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """A child of a supervisor as it was when it was asked for."""

    name: str | None
    ref: Ref[Any] | None
    """Of its process; None when there is none."""

    state: str
    """"running", "starting", "stopping", "stopped", "restarting" (its start failed and is tried again) or "ended" (it
    is dealt with when others have been)."""

    restart: Restart
    significant: bool
