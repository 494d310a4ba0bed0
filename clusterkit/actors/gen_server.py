"""`GenServer`: a server of one's own, after Erlang's gen_server.

Subclass it, export handlers with `call`, `cast` and `on`, or override the OTP
callbacks, and start it with ``node.start(server, name=...)``.

Rules: one handler at a time; only what is exported can be reached; an object is
inert until it is started and may be started again after it stopped; what a call
handler raises goes to its caller and the server lives, what any other handler
raises stops the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from clusterkit.actors.handlers import Handler, table_of, targets_of
from clusterkit.errors import UsageError

if TYPE_CHECKING:
    from clusterkit.actors.process import Process
    from clusterkit.actors.ref import Ref
    from clusterkit.kernel.mailbox import From
    from clusterkit.node import Node


class _NoReplyValue:
    def __repr__(self) -> str:
        return "NOREPLY"


NOREPLY: Final[Any] = _NoReplyValue()
"""What ``handle_call`` returns to answer later, with ``self.reply(frm, value)``."""


class NoReply(Exception):
    """Raise it in any handler of a call to answer later, with ``self.reply(frm, value)``."""


class GenServer:
    """The base class of actors.

    Override ``init``, ``handle_call``, ``handle_cast``, ``handle_info`` and
    ``terminate`` as needed; all have a default. A subclass needs no
    ``super().__init__()``.
    """

    mailbox_limit: ClassVar[int | None] = None
    """Messages that may wait for this actor; None: as the node's configuration says."""

    __handlers__: ClassVar[dict[str, Handler]] = {}
    __targets__: ClassVar[dict[Any, tuple[str, float | None]]] = {}
    _process: Process | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__handlers__ = table_of(cls, _RESERVED)
        cls.__targets__ = targets_of(cls, cls.__handlers__)

    # -- what the runtime gives a running actor

    @property
    def node(self) -> Node:
        """The node that this actor runs on; raises `UsageError` before the start."""
        node: Node = self._running().node
        return node

    @property
    def ref(self) -> Ref[Self]:
        """The reference to this very process; raises `UsageError` before the start."""
        ref: Ref[Self] = self._running().ref
        return ref

    @property
    def caller(self) -> From:
        """Who sent the message that is being handled; raises `UsageError` outside a handler."""
        frm = self._running().current
        if frm is None:
            raise UsageError("self.caller is for handlers: no message is being handled")
        return frm

    def _running(self) -> Process:
        if self._process is None:
            raise UsageError(f"{type(self).__name__} is not started: `await node.start(actor)` first")
        return self._process

    async def reply(self, frm: From, value: Any) -> None:
        """Answer a call that was left open by `NoReply` or `NOREPLY`.

        A reply that nobody waits for any more is dropped.
        """
        self._running().reply(frm, value)

    # -- callbacks

    async def init(self) -> None:
        """Prepare; runs inside the actor, before any message. What it raises, ``node.start`` raises."""

    async def handle_call(self, request: Any, frm: From) -> Any:  # noqa: ARG002
        """Answer a call that no exported handler takes; return the reply, or `NOREPLY`.

        ``request`` is the event, or ``(event, data)`` when data was given.
        """
        raise _NotHandled

    async def handle_cast(self, request: Any) -> None:  # noqa: ARG002
        """Take a cast that no exported handler takes; by default it is a dead letter."""
        raise _NotHandled

    async def handle_info(self, info: Any) -> None:  # noqa: ARG002
        """Take what is neither call nor cast; by default it is a dead letter."""
        raise _NotHandled

    async def terminate(self, reason: object) -> None:
        """Clean up; the last thing that runs. ``reason`` is "normal", "shutdown", or the error."""


class _NotHandled(Exception):
    """The default of a callback: nobody takes this message."""


_RESERVED = frozenset(name for name in dir(GenServer) if not name.startswith("__"))
