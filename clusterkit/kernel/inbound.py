"""What comes up from the links: messages to mailboxes and calls, and the end of peers.

The one gate behind the handshake. Rules: a reply is taken only from the peer that
was asked; a client reaches the command server and nothing else; a message of no
known shape breaks the protocol, a payload that cannot be read only its own call.
"""

from typing import TYPE_CHECKING, Any, Protocol

import msgpack

from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.messages import Code, check
from clusterkit.core.messages import Op as Kind
from clusterkit.core.payload import PayloadError, decode
from clusterkit.core.proof import Role
from clusterkit.core.session import Fate, Lane, Outgoing
from clusterkit.errors import CallError, ClusterError, Executed, JoinError, ProtocolError
from clusterkit.kernel.calls import Call
from clusterkit.kernel.events import LinkDown, LinkUp
from clusterkit.kernel.faults import unpack_exception
from clusterkit.kernel.mailbox import From, Inbox, Letter, Op
from clusterkit.kernel.pushback import ROOM
from clusterkit.kernel.telemetry import LINK_DOWN, LINK_UP
from clusterkit.kernel.turns import cycle_text
from clusterkit.transport.link import Link

if TYPE_CHECKING:
    from clusterkit.kernel.kernel import Kernel

COMMAND_SERVER = "clusterkit.command"  # the one actor that a client reaches
_NODE, _CLIENT = Role.NODE, Role.CLIENT  # an enum's attribute costs 100 ns
_RING, _CALL, _CAST, _INFO, _REPLY, _ERROR = range(6)
_OP_CALL, _OP_CAST, _OP_INFO = int(Op.CALL), int(Op.CAST), int(Op.INFO)


class RingDoor(Protocol):
    """What the ring is told."""

    def link_opened(self, link: Link) -> None:
        """A link to a node opened."""

    def ring_message(self, link: Link, payload: bytes) -> None:
        """Membership news came; a payload that is none raises `ProtocolError`."""

    def link_lost(self, link: Link) -> None:
        """A link to a node ended."""

    def unreached(self, dialled: NodeId, error: OSError | ClusterError) -> None:
        """A member was dialled in vain."""

    def link_parted(self, link: Link, reason: Reason) -> None:
        """A node said goodbye."""

    def link_refused(self, link: Link, error: JoinError) -> None:
        """A node will not have us."""


class Inbound:
    """The upward side of a kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self.ring: RingDoor | None = None
        self._kernel = kernel
        self._cancels: dict[str | int, set[int]] = {}  # of the batch that is being taken: server to numbers of calls

    # -- messages

    def delivered(self, link: Link, messages: list[Any]) -> None:
        """Take a batch off the wire; raises `ProtocolError` at the first that is no message."""
        waiting = link.waiting
        now = self._kernel.loop.time()
        self._cancels.clear()
        for message in messages:
            try:
                op = message[0]
                if type(op) is not int:
                    check(message)
                if op == _REPLY:
                    _, number, payload = message
                    if type(payload) is not bytes or type(number) is not int:
                        check(message)
                    call = waiting.pop(number, None)
                    if call is None:
                        self._kernel.counters["late_replies"] += 1
                    else:
                        call.slot.pop(call, None)
                        if not call.future.done():
                            call.future.set_result((True, True, payload))
                elif op == _CALL:
                    self._call(link, message, now)
                elif op == _CAST:
                    self._cast(link, message)
                else:
                    check(message)
                    self._other(link, message)
            except (TypeError, ValueError, IndexError, KeyError):
                check(message)
                raise
        if self._cancels:
            self._cancel(link)

    def _call(self, link: Link, message: list[Any], now: float) -> None:
        kernel = self._kernel
        kwargs: Any = None
        chain: Any = None
        if len(message) == 6:
            _, number, to, handler, ttl, args = message
        elif len(message) == 7:
            _, number, to, handler, ttl, args, kwargs = message
            if kwargs is None:
                raise TypeError(message)
        else:
            _, number, to, handler, ttl, args, kwargs, chain = message
            chain = _read_chain(chain)
        if type(number) is not int or type(ttl) is not int or not _is_send(to, handler, args, kwargs):
            raise TypeError(message)
        frm = From(link.peer, now + ttl / 1000, link, number, link.session, True, chain)
        inbox = kernel.find(to)
        if inbox is None or chain is not None or kernel.links.leaving or link.role is _CLIENT:
            if (refusal := self._refusal(link, to, handler, frm, inbox)) is not None:
                kernel.fail(frm, *refusal, maybe=False)
                return
            if inbox is None:
                kernel.pushback.asked(frm, args)
                return
        letter = (_OP_CALL, handler, args, kwargs, frm, True)
        if not (inbox.put(letter) or self._squeeze(inbox, letter)):
            kernel.fail(frm, Code.SERVER_DOWN if inbox.closing else Code.MAILBOX_FULL, inbox.full_text, maybe=False)

    def _refusal(
        self, link: Link, to: str | int, handler: str, frm: From, inbox: Inbox | None
    ) -> tuple[Code, str] | None:
        """Why a call is not taken."""
        kernel = self._kernel
        if link.role is _CLIENT:
            if to != COMMAND_SERVER:
                return Code.FORBIDDEN, f"a client reaches {COMMAND_SERVER} alone, not {to!r}"
        elif to == ROOM:
            return None
        elif kernel.links.leaving:
            return Code.LEAVING, f"node {kernel.id.name} is stopping"
        if inbox is None:
            return Code.NO_SERVER, f"no server {to!r} runs on {kernel.id.name}"
        if frm._chain is not None and kernel.is_cycle(inbox, handler, frm._chain):
            return Code.CYCLE, cycle_text(inbox, frm._chain)
        return None

    def _squeeze(self, inbox: Inbox, letter: Letter) -> bool:
        """Put what a peer sent into an inbox that is full: False when the peer is to be told that it was not taken."""
        if inbox.overflow == "block" and inbox.put_anyway(letter):
            return True
        if not inbox.closing:
            self._kernel.mailbox_full(inbox, letter[4])
        return False

    def _other(self, link: Link, message: list[Any]) -> None:
        op = message[0]
        if op == _INFO:
            frm = From(link.peer, None, link, 0, link.session, False)
            self._put(link, message[1], (_OP_INFO, "info", message[2], None, frm, True))
        elif op == _ERROR:
            self._error(link, message)
        elif link.role is _NODE:
            self._from_member(link, op, message[1:])

    def _from_member(self, link: Link, op: int, fields: list[Any]) -> None:
        monitors, pushback = self._kernel.monitors, self._kernel.pushback
        match op:
            case Kind.RING if self.ring is not None:
                self.ring.ring_message(link, fields[0])
            case Kind.CANCEL:
                self._cancels.setdefault(fields[1], set()).add(fields[0])
            case Kind.REFUSED:
                pushback.told(link, *fields)
            case Kind.MONITOR | Kind.LINK:
                monitors.asked(link, *fields)
            case Kind.DEMONITOR:
                monitors.dropped(link, *fields)
            case Kind.DOWN:
                monitors.down(link, *fields)
            case Kind.EXIT:
                monitors.exit(link, *fields)
            case Kind.LINKED:
                monitors.linked(link, *fields)

    def _cancel(self, link: Link) -> None:
        """Take out requests whose callers wait no more, or stop the handlers that run for them, if that may be."""
        cancels, self._cancels = self._cancels, {}
        for to, numbers in cancels.items():
            if (inbox := self._kernel.find(to)) is None:
                continue
            for frm in inbox.numbered(link, numbers):
                if inbox.remove(frm):
                    numbers.discard(frm._number)
                    self._kernel.counters["cancelled"] += 1
            for number in numbers:
                if inbox.holder is not None:
                    inbox.holder.give_up(link, number, None)

    def _cast(self, link: Link, message: list[Any]) -> None:
        kwargs: Any = None
        if len(message) == 4:
            _, to, handler, args = message
        else:
            _, to, handler, args, kwargs = message
            if kwargs is None:
                raise TypeError(message)
        if not _is_send(to, handler, args, kwargs):
            raise TypeError(message)
        letter = (_OP_CAST, handler, args, kwargs, From(link.peer, None, link, 0, link.session, False), True)
        inbox = self._kernel.find(to)
        if inbox is None or link.role is not _NODE or not inbox.put(letter):
            self._put(link, to, letter)

    def _put(self, link: Link, to: str | int, letter: Letter) -> None:
        kernel = self._kernel
        inbox = kernel.find(to) if link.role is _NODE else None
        if inbox is None:
            reason = f"no server {to!r}, for a message from {link.peer.name}"
            code = Code.NO_SERVER
        elif inbox.put(letter) or self._squeeze(inbox, letter):
            return
        else:
            reason = f"{inbox.full_text}, for a message from {link.peer.name}"
            code = Code.SERVER_DOWN if inbox.closing else Code.MAILBOX_FULL
        kernel.dead(kernel.id, f"{to}.{letter[1]}", reason, "no")
        if link.role is _NODE:
            kernel.pushback.refuse(link, to, code)

    def _error(self, link: Link, message: list[Any]) -> None:
        _, number, code, maybe, payload = message
        call: Call | None = link.waiting.pop(number, None)
        if call is None:
            self._kernel.counters["late_replies"] += 1
        elif code == Code.RAISED:
            error = unpack_exception(payload)
            if isinstance(error, CallError):
                error.executed = "maybe"  # it tells of another call, which this handler made
            error.add_note(f"raised by {call.target} on {link.peer}" + _called_by(call))
            call.fail(error)
        else:
            call.fail(call.refusal(code, _text(payload, code), link.peer, maybe=maybe))

    # -- peers

    def opened(self, link: Link) -> None:
        """Pass on: a link opened."""
        self._kernel.events.tell(LinkUp(link.peer))
        self._kernel.telemetry.tell(LINK_UP, {}, {"peer": str(link.peer)})
        if self.ring is not None and link.role is _NODE:
            self.ring.link_opened(link)

    def closed(self, link: Link, why: str, lost: int) -> None:
        """Tell: a link ended, or its session did."""
        self._kernel.events.tell(LinkDown(link.peer, why, lost))
        self._kernel.telemetry.tell(LINK_DOWN, {"lost": lost}, {"peer": str(link.peer), "why": why})
        self._kernel.pushback.look_again(link)
        if self.ring is not None and link.role is _NODE and not link.open:
            self.ring.link_lost(link)

    def session_ended(self, link: Link, written: list[Outgoing], queued: list[Outgoing], why: str) -> None:
        """End the calls of the session, and report what nobody waits for."""
        never = {id(message) for message in queued}
        for call in list(link.waiting.values()):
            if id(call) in never:
                call.lose(why, never_sent=True)
            elif call.fate != Fate.QUEUED:
                call.lose(why, never_sent=False)
        self._kernel.pushback.forget(link)
        self._kernel.monitors.forget(link)
        self._report(link, written, why, "maybe")
        self._report(link, queued, why, "no")

    def too_large(self, link: Link, messages: list[Outgoing]) -> None:
        """Fail messages that were queued before the peer said how much it takes."""
        for message in messages:
            if isinstance(message, Call):
                link.waiting.pop(message.number, None)
                message.fail(self._kernel.too_large(link, len(message.body), message.address, message.handler))
        self._report(link, messages, f"over the {link.most_body} bytes that the peer takes", "no")

    def down(self, link: Link, why: str) -> None:
        """End the calls that wait for a peer that is down."""
        for call in list(link.waiting.values()):
            call.lose(why, never_sent=call.withdraw())
        self._kernel.monitors.unreachable(link)

    def parted(self, link: Link, reason: Reason) -> None:
        """Pass on: a node said goodbye."""
        if self.ring is not None and link.role is _NODE:
            self.ring.link_parted(link, reason)

    def unreached(self, link: Link, dialled: NodeId, error: OSError | ClusterError) -> None:  # noqa: ARG002
        """Pass on: a member was dialled in vain."""
        if self.ring is not None:
            self.ring.unreached(dialled, error)

    def refused(self, link: Link, error: JoinError) -> None:
        """Pass on: a node will not have us."""
        if self.ring is not None:
            self.ring.link_refused(link, error)

    def _report(self, link: Link, messages: list[Outgoing], why: str, executed: Executed) -> None:
        for message in messages:
            if not (isinstance(message, Call) or message.is_notice or message.lane == Lane.CONTROL):
                self._kernel.dead(link.peer, _target_of(message.body), why, executed)


def _is_send(to: Any, handler: Any, args: Any, kwargs: Any) -> bool:
    """Whether the elements that CALL and CAST share have their types."""
    named = kwargs is None or type(kwargs) is bytes
    return (type(to) is str or type(to) is int) and type(handler) is str and type(args) is bytes and named


def _text(payload: bytes, code: str) -> str:
    try:
        return str(decode(payload))
    except PayloadError:
        return code


def _target_of(body: bytes) -> str:
    """Where a message of our own was going; read again, so that sending need not note it."""
    fields = msgpack.unpackb(body)
    if fields[0] in (_REPLY, _ERROR):
        return "reply"
    return f"{fields[1]}.{fields[2] if fields[0] == _CAST else 'info'}"


def _read_chain(chain: Any) -> tuple[str, ...]:
    if type(chain) is not list or not all(type(turn) is str for turn in chain):
        raise ProtocolError("a chain of something else than strings", proven=True)
    return tuple(chain)


def _called_by(call: Call) -> str:
    return f", called by {' -> '.join(call.chain)}" if call.chain else ""
