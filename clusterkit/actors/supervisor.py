"""`Supervisor`: an actor that starts other actors, and starts them again when they end, after Erlang's.

List its children in `Supervisor.children`; it starts them in that order and stops them in
reverse. What follows when one ends is decided by `clusterkit.core.supervision`, whose
rules are OTP's; what it takes to do it, by `clusterkit.actors.supervising`.

Rules: a child is a fresh object from its factory each time, with a new `Ref`, and a name means the new one
before anybody hears of the old one's end; a supervisor ends with "shutdown" when it gave up or was told to,
and its own supervisor goes on from there; nothing that it started outlives it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from clusterkit.actors.child import Child, ChildInfo
from clusterkit.actors.gen_server import GenServer, running
from clusterkit.actors.handlers import call, check_timeout
from clusterkit.actors.supervising import Supervising
from clusterkit.core.supervision_events import AutoShutdown, Policy, Strategy
from clusterkit.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from clusterkit.actors.ref import Ref

A = TypeVar("A", bound=GenServer)


class Supervisor(GenServer):
    """The base class of supervisors: override `children`, and the class variables as needed.

    ::

        class App(Supervisor):
            strategy = "rest_for_one"

            def children(self) -> Sequence[Child[Any]]:
                return [Child(Database, name="db"), Child(partial(Web, port=80), name="web")]

    It is a `GenServer`: ``await node.start(App(), name="app")`` returns when all children run, and raises what
    the start of one of them raised, after those before it were stopped. It may have handlers of its own, and the callbacks:
    its ``init`` runs before the children start, its ``terminate`` after they have stopped.

    Not promised: that the state of a child survives; that messages in its mailbox do.
    """

    strategy: Strategy = "one_for_one"
    """Who is started again with a child: nobody, all ("one_for_all"), or those started after it ("rest_for_one")."""

    intensity: int = 1
    """Restarts within `period` that are taken for bad luck; one more, and the supervisor stops all and ends."""

    period: float = 5.0
    """Seconds."""

    auto_shutdown: AutoShutdown = "never"
    """Whether the supervisor stops all and ends when a significant child has ended, or the last of them."""

    start_timeout: float = 60.0
    """Seconds that the ``init`` of a child may take; then its start has failed. A supervisor among the
    children has that for each of its own."""

    _clusterkit_supervising: Supervising | None = None

    def children(self) -> Sequence[Child[Any]]:
        """List the children to start, in order; called at each start of the supervisor."""
        return ()

    async def _clusterkit_begin(self) -> None:
        """Start the children. Raises what the start of one raised, `ConfigError` for what cannot be."""
        policy = Policy(self.strategy, self.intensity, self.period, self.auto_shutdown)
        timeout = check_timeout(self.start_timeout)
        children = self.children()
        if not isinstance(children, Iterable):
            if inspect.iscoroutine(children):
                children.close()
            raise ConfigError(
                f"{type(self).__name__}.children gives {children!r}: it must be a list of Child, and no coroutine"
            )
        self._clusterkit_supervising = Supervising(running(self), policy, list(children), timeout)
        await self._clusterkit_supervising.begin()

    async def _clusterkit_end(self) -> None:
        """Stop the children, the last one first."""
        if self._clusterkit_supervising is not None:
            await self._clusterkit_supervising.close()

    @call(concurrent=True)
    async def start_child(self, child: Child[A]) -> Ref[A]:
        """Start a further child, as the last one; it is kept running as the others are.

        Callable on this node, by a handler of the supervisor or through its `Ref`. Raises what the start raised (then the
        child is not kept), `NameInUse` when a child or another actor has the name, `ServerDown` when the supervisor stops.
        One start follows the other: a child that asks for another in its ``init`` waits for itself.
        """
        return await self._clusterkit_active().start(child)

    @call(concurrent=True)
    async def stop_child(self, which: str | Ref[Any]) -> None:
        """Stop a child, given by its name or `Ref`; it stays in the list, unless it is temporary. Raises `NoSuchServer`."""
        await self._clusterkit_active().stop(which)

    @call(concurrent=True)
    async def restart_child(self, which: str | Ref[Any]) -> Ref[Any]:
        """Start a child that was stopped, or has ended for good; a `Ref` of any of its lives will do.

        Raises what the start raised, `NoSuchServer`, `UsageError` when the child runs or is being restarted.
        """
        return await self._clusterkit_active().restart(which)

    @call(concurrent=True)
    async def delete_child(self, which: str | Ref[Any]) -> None:
        """Strike a child that does not run off the list. Raises as `restart_child` does."""
        await self._clusterkit_active().delete(which)

    @call(concurrent=True)
    async def which_children(self) -> tuple[ChildInfo, ...]:
        """All children on the list, in the order of their start, as they are at this moment."""
        return self._clusterkit_active().list()

    def _clusterkit_active(self) -> Supervising:
        running(self)
        if self._clusterkit_supervising is None or self._clusterkit_supervising.is_over:
            raise UsageError(f"{type(self).__name__}.init did not run: an `init` of one's own calls super().init()")
        return self._clusterkit_supervising
