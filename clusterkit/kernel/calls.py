"""Calls that wait: each ends once, in a value, a typed error, or at its deadline.

A call to another node waits in the ``waiting`` of that node's link, under its
number, so that only the peer that was asked can answer it. All wait in one
`Deadlines`, under one timer.
"""

import asyncio
from asyncio import AbstractEventLoop
from typing import Any

from clusterkit.core.identity import NodeId
from clusterkit.core.messages import Code, pack_cancel
from clusterkit.core.session import Fate, Lane, Notice, Outgoing
from clusterkit.errors import (
    CallCycle,
    CallError,
    CallTimeout,
    ClusterError,
    Executed,
    MailboxFull,
    NodeDown,
    NoSuchMethod,
    NoSuchServer,
    ServerDown,
)
from clusterkit.kernel.address import Address
from clusterkit.kernel.deadlines import Deadlines
from clusterkit.kernel.mailbox import From, Inbox
from clusterkit.transport.link import Link

_REQUEST_LANE, _NEW = int(Lane.REQUEST), int(Fate.NEW)
_TICK = 0.01  # seconds; a timeout may come this much late
_NEVER = float("inf")
_REFUSALS: dict[str, type[CallError]] = {
    Code.NO_SERVER: NoSuchServer,
    Code.NO_METHOD: NoSuchMethod,
    Code.SERVER_DOWN: ServerDown,
    Code.MAILBOX_FULL: MailboxFull,
    Code.FORBIDDEN: NoSuchServer,
}


class Call(Outgoing):
    """One call: the request on its way, and who waits for the reply.

    Its future ends in ``(packed, ok, value or error)``. A call on this node is never
    put into a session.
    """

    __slots__ = ("address", "chain", "frm", "future", "handler", "inbox", "link", "number", "slot", "started")

    def __init__(
        self, address: Address, handler: str, future: asyncio.Future[Any], chain: tuple[str, ...] | None = None
    ) -> None:
        self.body = b""
        self.lane = _REQUEST_LANE
        self.by_name = not address.pinned
        self.fate = _NEW
        self.address = address
        self.handler = handler
        self.future = future
        self.link: Link | None = None
        self.number = 0
        self.slot: dict[Call, None] = {}
        self.chain = chain
        self.inbox: Inbox | None = None  # where it waits on this node, as this
        self.frm: From | None = None
        self.started = False  # a local handler took it out of the mailbox

    @property
    def target(self) -> str:
        """Server and handler, for errors."""
        return f"{self.address.to}.{self.handler}"

    def finish(self, outcome: tuple[bool, bool, Any]) -> None:
        """End it, unless it has ended."""
        self.slot.pop(self, None)
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        self.finish((False, False, error))

    def refusal(self, code: str, text: str, node: NodeId, *, maybe: bool) -> Exception:
        """Make the error for a code that the other side gave."""
        if code == Code.BAD_ARGUMENTS:
            return TypeError(text)
        if code == Code.CYCLE:
            return CallCycle(text, node=node, target=self.target, chain=self.chain or ())
        if code == Code.LEAVING:
            return NodeDown(text, node=node, target=self.target, reason="leaving")
        kind = _REFUSALS.get(code, ServerDown)
        return kind(text, node=node, target=self.target, executed="maybe" if maybe else "no")

    def node_down(self, why: str, executed: Executed) -> NodeDown:
        """Make the error for a node that is gone."""
        node = self.link.peer if self.link is not None else self.address.node
        return NodeDown(
            f"node {node.name if node else '?'} is down ({why}): {self.address}, {self.handler!r}",
            node=node,
            target=self.target,
            executed=executed,
            reason=why,
        )

    def withdraw(self) -> bool:
        """Take the request back; True when nobody can have run it."""
        if self.link is None:
            if self.inbox is not None and self.frm is not None and not self.started:
                self.inbox.remove(self.frm)
            return not self.started
        self.link.waiting.pop(self.number, None)
        return self.fate == _NEW or self.link.withdraw(self)

    def cancel(self) -> None:
        """Take the request back because its caller gave up: also from where it waits or runs by now."""
        if self.withdraw():
            return
        if self.link is not None:
            self.link.send_always(Notice(pack_cancel(self.number, self.address.to), _REQUEST_LANE))
        elif self.inbox is not None and self.inbox.holder is not None:
            self.inbox.holder.give_up(None, 0, self)

    def lose(self, why: str, *, never_sent: bool) -> None:
        """End it because its node is gone."""
        if self.link is not None:
            self.link.waiting.pop(self.number, None)
        self.fail(self.node_down(why, "no" if never_sent else "maybe"))


class Waiting:
    """The deadlines of all calls of one node."""

    def __init__(self, me: NodeId, loop: AbstractEventLoop) -> None:
        self._me = me
        self._loop = loop
        self._deadlines = Deadlines[Call](_TICK)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER

    def add(self, call: Call, deadline: float) -> None:
        """End the call at ``deadline``, if nothing ends it sooner."""
        call.slot = self._deadlines.add(call, deadline)
        if deadline < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._deadlines.next_at
        self._timer_at = _NEVER if at is None else at
        if at is not None:
            self._timer = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        for call in self._deadlines.due(self._loop.time()):
            if not call.future.done():
                call.fail(self._expired(call))
        self._arm()

    def _expired(self, call: Call) -> CallTimeout:
        return CallTimeout(
            f"no answer in time from {call.address} to {call.handler!r}",
            node=call.link.peer if call.link is not None else self._me,
            target=call.target,
            executed="no" if call.withdraw() else "maybe",
        )

    def close(self, error: ClusterError) -> None:
        """End all calls with an error."""
        for call in self._deadlines.due(_NEVER):
            call.fail(error)
        self._arm()
