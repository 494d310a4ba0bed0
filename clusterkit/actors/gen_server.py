"""`GenServer`: a server of one's own, after Erlang's gen_server.

Subclass it, export handlers with `call`, `cast` and `on`, or override the OTP
callbacks, and start it with ``node.start(server, name=...)``.

Rules: one handler at a time; only what is exported can be reached; an object is
inert until it is started and may be started again after it stopped; what a call
handler raises goes to its caller and the server lives, what any other handler
raises stops the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, cast

from clusterkit.actors.handlers import Handler, table_of, targets_of
from clusterkit.errors import UsageError
from clusterkit.kernel.faults import ControlFlow
from clusterkit.kernel.mailbox import Mailbox

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from clusterkit.actors.process import Process
    from clusterkit.actors.ref import Ref
    from clusterkit.actors.timers import Timer
    from clusterkit.kernel.mailbox import From
    from clusterkit.kernel.monitors import Monitor
    from clusterkit.node import Node


R = TypeVar("R")


class _NoReplyValue:
    def __repr__(self) -> str:
        return "NOREPLY"


NOREPLY: Final[Any] = _NoReplyValue()
"""What ``handle_call`` returns to answer later, with ``self.reply(frm, value)``; a typed handler raises `NoReply`."""


class NoReply(ControlFlow):
    """Raise it in any handler of a call to answer later, with ``self.reply(frm, value)``."""


class Stop(ControlFlow):
    """Raise it in any callback to stop the server, after ``reply`` if that is given to a call.

    ``reason`` is what ``terminate`` is told, and monitors and supervisors: "normal" and
    "shutdown" are ordinary ends, everything else is a failure.
    """

    def __init__(self, reason: object = "normal", *, reply: Any = NOREPLY) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


class GenServer:
    """The base class of actors.

    Override ``init``, ``handle_continue``, ``handle_call``, ``handle_cast``, ``handle_info`` and
    ``terminate`` as needed; all have a default, and ``handle_*`` may be plain ``def``. A subclass needs
    no ``super().__init__()``. A context variable that one handler sets may or may not be seen by the next:
    set none, or reset them.
    """

    mailbox: ClassVar[Mailbox | None] = None
    """How much may wait for this actor, and what then; None: `Config.mailbox` messages, 64 MiB, "reject"."""

    crash_on: ClassVar[tuple[type[Exception], ...]] = ()
    """What a call handler raises of these goes to its caller and stops the server too."""

    trap_exit: bool = False
    """Whether the end of a linked process arrives as `Exit` in ``handle_info``, and does not stop this one."""

    __handlers__: ClassVar[dict[str, Handler]] = {}
    __concurrent__: ClassVar[frozenset[str]] = frozenset()
    __cancellable__: ClassVar[frozenset[str]] = frozenset()
    __calls__: ClassVar[dict[Any, tuple[str, float | None]]] = {}
    __casts__: ClassVar[dict[Any, tuple[str, float | None]]] = {}
    _clusterkit_process: Process | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.mailbox is not None and not isinstance(cls.mailbox, Mailbox):
            raise TypeError(f"{cls.__qualname__}.mailbox is {cls.mailbox!r}: it must be a Mailbox, as Mailbox(10)")
        if not isinstance(cls.crash_on, tuple):
            raise TypeError(f"{cls.__qualname__}.crash_on is {cls.crash_on!r}: it must be a tuple of exceptions")
        cls.__handlers__ = table_of(cls, _RESERVED)
        cls.__calls__ = targets_of(cls, cls.__handlers__, "call")
        cls.__casts__ = targets_of(cls, cls.__handlers__, "cast")
        cls.__concurrent__ = frozenset(name for name, each in cls.__handlers__.items() if each.concurrent)
        cls.__cancellable__ = frozenset(name for name, each in cls.__handlers__.items() if each.cancellable)

    # -- what the runtime gives a running actor

    @property
    def node(self) -> Node:
        """The node that this actor runs on; raises `UsageError` before the start."""
        node: Node = running(self).node
        return node

    @property
    def ref(self) -> Ref[Self]:
        """The reference to this very process; raises `UsageError` before the start."""
        ref: Ref[Self] = running(self).ref
        return ref

    @property
    def caller(self) -> From:
        """Who sent the message that is being handled; raises `UsageError` outside a handler."""
        return running(self).caller

    # -- answers

    async def reply(self, frm: From, value: Any) -> None:
        """Answer a call that was left open by `NoReply`, `NOREPLY` or `defer`.

        A reply that nobody waits for any more is dropped. Raises `UsageError` when this actor has stopped: its
        open calls were answered then.
        """
        running(self).handlers.reply(frm, value)

    async def reply_error(self, frm: From, error: Exception) -> None:
        """Answer such a call with an error: its caller gets what a handler that raised it would give."""
        running(self).handlers.fail(frm, error)

    def defer(self, frm: From, work: Coroutine[Any, Any, R]) -> R:
        """Answer a call later with what ``work`` returns or raises, and go on with other messages.

        Write ``return self.defer(self.caller, self._fetch(url))``. The work runs as a task of this
        actor under the caller's deadline, and is cancelled when the caller gives up or the actor ends. Deferred
        from a cast, its failure is the actor's.
        """
        running(self).side.defer(frm, work)
        return cast("R", NOREPLY)

    def create_task(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run ``work`` beside the handlers, as long as this actor lives.

        It is cancelled before ``terminate``; what it raises stops the actor, as in a cast.
        """
        return running(self).side.spawn(work, getattr(work, "__name__", "task"))

    def continue_with(self, arg: Any) -> None:
        """Run ``handle_continue(arg)`` right after this callback, before any other message.

        From `init` it is what is not to hold up ``node.start``, which returns first.
        """
        running(self).continues.append(arg)

    # -- timers

    def send_after(self, delay: float, tag: object) -> Timer:
        """Give `TimerFired` with ``tag`` to ``handle_info`` after ``delay`` seconds. It ends with the actor. Raises `ConfigError`."""
        return running(self).timers.after(delay, tag)

    def every(self, period: float, tag: object) -> Timer:
        """Give `TimerFired` with ``tag`` to ``handle_info`` each ``period`` seconds, first after one.

        One of them waits in the mailbox at the most: periods that pass meanwhile are left out. The least period is a
        millisecond. Raises `ConfigError`.
        """
        return running(self).timers.every(period, tag)

    def cancel_timer(self, timer: Timer) -> bool:
        """Stop a timer, also one whose `TimerFired` waits in the mailbox; False when it had fired or was stopped."""
        return timer.cancel()

    # -- the ends of others

    def monitor(self, ref: Ref[Any]) -> Monitor:
        """Get one `Down` in ``handle_info`` when that process ends, at once ("noproc") if there is none.

        Across nodes it costs a message each way. Raises `UsageError` past 65,536 of one other node.
        """
        return running(self).ties.monitor(ref)

    def demonitor(self, monitor: Monitor) -> None:
        """Watch no more: its `Down` does not come, also when it waits in the mailbox already."""
        running(self).ties.demonitor(monitor)

    def link(self, ref: Ref[Any]) -> None:
        """End together: when either ends other than normally, the other is stopped for the same reason.

        With `trap_exit` this one gets `Exit` in ``handle_info`` instead, for a normal end too. A link that
        there is already stays as it is. A process that there is not has ended for the reason "noproc", one without a way
        to it for "noconnection".
        """
        running(self).ties.link(ref)

    def unlink(self, ref: Ref[Any]) -> None:
        """Undo a link for both sides, whichever made it.

        One between nodes is found by an equal reference, or by that of the process that linked to this one.
        """
        running(self).ties.unlink(ref)

    def monitor_nodes(self) -> None:
        """Get `MemberUp` and `MemberDown` of the ring in ``handle_info`` from now on.

        At most 1,024 of them wait; then `Lagged` says how many were left out.
        """
        running(self).ties.monitor_nodes()

    # -- the runtime's own

    async def _clusterkit_begin(self) -> None:
        """Go on after ``init``, as supervisors do."""

    async def _clusterkit_end(self) -> None:
        """Go before ``terminate``."""

    # -- callbacks

    async def init(self) -> None:
        """Prepare; runs inside the actor, before any message.

        What it raises, ``node.start`` raises, and `terminate` does not run.
        """

    def handle_continue(self, arg: Any) -> Any:  # noqa: ARG002
        """Go on after a callback that asked for it by `continue_with`."""
        raise _NotHandled

    def handle_call(self, request: Any, frm: From) -> Any:  # noqa: ARG002
        """Answer a call that no exported handler takes; return the reply, or `NOREPLY`.

        ``request`` is the event, or ``(event, data)`` when data was given.
        """
        raise _NotHandled

    def handle_cast(self, request: Any) -> Any:  # noqa: ARG002
        """Take a cast that no exported handler takes; by default it is a dead letter."""
        raise _NotHandled

    def handle_info(self, info: Any) -> Any:  # noqa: ARG002
        """Take what is neither call nor cast, `Down`, `Exit` and `TimerFired` among it; by default it is a dead letter."""
        raise _NotHandled

    async def terminate(self, reason: object) -> None:
        """Clean up; the last thing that runs. ``reason`` is "normal", "shutdown", what `Stop` said, or the error.

        Does not run when the actor was cancelled, as one that takes too long to stop is.
        """


def running(actor: GenServer) -> Process:
    """The life of an actor; raises `UsageError` when it has none."""
    if actor._clusterkit_process is None:  # noqa: SLF001 - of this module
        raise UsageError(f"{type(actor).__name__} is not started: `await node.start(actor)` first")
    return actor._clusterkit_process  # noqa: SLF001


class _NotHandled(ControlFlow):
    """The default of a callback: nobody takes this message."""


_RESERVED = frozenset(name for name in dir(GenServer) if not name.startswith("__"))
