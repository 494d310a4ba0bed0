"""The kernel: names to mailboxes, calls to their replies, messages here or to a link.

One way for local and remote: who sends does not care where the receiver is. Local
payloads pass by reference and count as given away; remote ones are packed here and
unpacked at the receiver's door.

Rules: a call ends in a value, a typed error, or at its deadline; a reply goes into
the session that asked, and no other; what cannot be delivered is a dead letter,
never silence. What comes from the links is in `clusterkit.kernel.inbound`.
"""

import asyncio
import logging
from asyncio import get_running_loop
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Any, NoReturn

from clusterkit.config import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId, draw_incarnation
from clusterkit.core.messages import Code, pack_call, pack_cast, pack_error, pack_info, pack_reply, pack_ring
from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.core.proof import Party, Role
from clusterkit.core.session import Lane, Outgoing
from clusterkit.errors import (
    CallCycle,
    CallError,
    CallTimeout,
    Executed,
    LinkFull,
    MailboxFull,
    MessageTooLarge,
    NameInUse,
    NodeDown,
    NoSuchServer,
    RemoteError,
    ServerDown,
    UsageError,
)
from clusterkit.kernel.address import Address
from clusterkit.kernel.calls import Call, Waiting
from clusterkit.kernel.events import DeadLetter, Events
from clusterkit.kernel.faults import ALWAYS_REMOTE, pack_exception, pack_text
from clusterkit.kernel.inbound import Inbound
from clusterkit.kernel.mailbox import From, Inbox, Letter, Mailbox, Op
from clusterkit.kernel.monitors import Monitors
from clusterkit.kernel.pushback import MESSAGE_COST, Flow, Pushback
from clusterkit.kernel.telemetry import DEAD_LETTER, MAILBOX_FULL, Telemetry
from clusterkit.kernel.turns import AMBIENT, cycle_text, inherited
from clusterkit.runtime import entropy, wall_time
from clusterkit.transport.base import Network
from clusterkit.transport.link import Link
from clusterkit.transport.links import Links
from clusterkit.transport.senders import Room

logger = logging.getLogger("clusterkit.kernel")

_RENEW_TIMEOUT = 2.0
_ERROR_HEAD = 64  # bytes of an ERROR beside its payload
# Plain ints on the path of every message: an enum's attribute costs 100 ns.
_CALL, _CAST, _INFO = int(Op.CALL), int(Op.CAST), int(Op.INFO)
_REPLY_LANE, _REQUEST_LANE, _CONTROL_LANE = int(Lane.REPLY), int(Lane.REQUEST), int(Lane.CONTROL)


_COUNTED = (
    "dead_letters",
    "late_replies",
    "mailbox_full",
    "refused_there",
    "expired",
    "cancelled",
    "cycles",
    "restarts",
)


def new_incarnation(after: int = 0) -> int:
    """Draw the incarnation of a run that begins now."""
    return draw_incarnation(int(wall_time() * 1000), int.from_bytes(entropy(4), "big"), after)


class Kernel:
    """The message router of one node or client. It belongs to the loop it was made on."""

    def __init__(self, me: NodeId, party: Party, keys: tuple[bytes, ...], network: Network, config: Config) -> None:
        self.id = me
        self.config = config
        self.loop = get_running_loop()
        self.inbound = Inbound(self)
        self.links = Links(party, keys, network, config, self.inbound)
        self.counters: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
        self.telemetry = Telemetry()
        self.events = Events()
        self.monitors = Monitors(self)
        self.pushback = Pushback(self)
        self.closed = False
        self.find: Callable[[str | int], Inbox | None]
        self._boxes: dict[str | int, Inbox] = {}
        self.find = self._boxes.get  # the mailbox of a name or serial on this node
        self._serials = count(1)
        self._numbers = count(1)
        self.new_number: Callable[[], int] = self._numbers.__next__  # of a call or a monitor, never used twice
        self._waiting = Waiting(me, self.loop)

    # -- names

    def register(self, name: str | None, policy: Mailbox) -> Inbox:
        """Make an inbox; raises `NameInUse`."""
        if name is not None and name in self._boxes:
            raise NameInUse(f"an actor named {name!r} runs on {self.id.name}: stop it first, or take another name")
        inbox: Inbox = Inbox(next(self._serials), name, policy, lambda letter, why: self._drop(inbox, letter, why))
        self._boxes[inbox.serial] = inbox
        if name is not None:
            self._boxes[name] = inbox
        return inbox

    def unregister(self, inbox: Inbox) -> None:
        """Close an inbox: what waits in it is answered, or a dead letter."""
        self._boxes.pop(inbox.serial, None)
        if inbox.name is not None and self._boxes.get(inbox.name) is inbox:
            del self._boxes[inbox.name]
        for letter in inbox.close():
            self._refuse(inbox, letter, Code.SERVER_DOWN, f"{inbox.shown} stopped before it took {letter[1]!r}")

    def _drop(self, inbox: Inbox, letter: Letter, why: str) -> None:
        """Take note of a letter that its inbox dropped for another."""
        self.mailbox_full(inbox, letter[4])
        self._refuse(inbox, letter, Code.MAILBOX_FULL, f"{why}: {letter[1]!r} was dropped")

    def _refuse(self, inbox: Inbox, letter: Letter, code: Code, text: str) -> None:
        frm = letter[4]
        if letter[0] == _CALL:
            self.fail(frm, code, text, maybe=False)
        else:
            self.dead(self.id, f"{inbox.shown}.{letter[1]}", text, "no")

    def mailbox_full(self, inbox: Inbox, frm: From) -> None:
        """Count and tell that an inbox did not take a message."""
        self.counters["mailbox_full"] += 1
        if self.telemetry.wants(MAILBOX_FULL):
            who = {"server": inbox.shown, "overflow": inbox.overflow, "sender": str(frm.peer)}
            self.telemetry.tell(MAILBOX_FULL, {"depth": len(inbox)}, who)

    # -- calls

    async def call(
        self, address: Address, handler: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float
    ) -> Any:
        """Ask a server, here or elsewhere, and return its answer.

        Raises what the handler raised, or a `CallError`; never waits longer than
        ``timeout`` seconds, nor past a deadline that it inherits.
        """
        loop = self.loop
        if self.closed or get_running_loop() is not loop:
            self._misused()
        future = loop.create_future()
        now = loop.time()
        deadline, chain = now + timeout, None
        if AMBIENT.get() is not None:
            deadline, chain = inherited(deadline)
        call = Call(address, handler, future, chain)
        try:
            if deadline <= now:
                raise self._too_late(address, handler)
            if address.node is None:
                if (unsent := self._call_here(call, args, kwargs, deadline)) is not None:
                    await self._wait_for_place(*unsent, deadline)
            elif (link := self._call_there(call, address.node, args, kwargs, deadline - now)) is not None:
                await self._wait_for_room(link, call, address, handler, deadline)
        except CallError:
            await asyncio.sleep(0)  # else who tries again and again would keep the loop from ever changing anything
            raise
        self._waiting.add(call, deadline)
        try:
            packed, ok, value = await future
        except asyncio.CancelledError:
            call.cancel()  # nobody waits any more
            call.finish((False, False, None))
            raise
        if not ok:
            raise value
        return self._unpack_reply(call, value) if packed else value

    def _too_late(self, address: Address, handler: str) -> CallTimeout:
        text = f"the deadline passed before {handler!r} was sent to {address}"
        return CallTimeout(text, node=address.node or self.id, target=f"{address.to}.{handler}", executed="no")

    def _unpack_reply(self, call: Call, payload: bytes) -> Any:
        try:
            return decode(payload, "reply")
        except PayloadError as error:
            raise RemoteError("PayloadError", f"the reply of {call.address} cannot be read: {error}") from None

    def check_loop(self) -> None:
        """Raise `UsageError` unless the node's own loop runs."""
        if get_running_loop() is not self.loop:
            raise UsageError(f"node {self.id.name} runs on another event loop: call it from there")

    def _misused(self) -> NoReturn:
        if self.closed:
            raise UsageError(f"node {self.id.name} is closed")
        raise UsageError(f"node {self.id.name} runs on another event loop: call it from there")

    def _call_here(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], deadline: float
    ) -> tuple[Inbox, Letter] | None:
        """Queue a request; return it, with its inbox, when its sender has to wait for room."""
        frm = call.frm = From(self.id, deadline, None, 0, call, True, call.chain)
        return self._put_here(call.address, (_CALL, call.handler, args, kwargs, frm, False), call)

    def _put_here(self, address: Address, letter: Letter, call: Call | None = None) -> tuple[Inbox, Letter] | None:
        """Put a letter into the inbox of an actor of this node; return both when its sender has to wait for room."""
        inbox = self.find(address.to)
        handler = letter[1]
        if inbox is None:
            text = f"no server {address.to!r} runs on {self.id.name}"
            raise NoSuchServer(text, node=self.id, target=f"{address.to}.{handler}")
        if call is not None:
            call.inbox = inbox
            if (chain := call.chain) is not None and self.is_cycle(inbox, handler, chain):
                raise CallCycle(cycle_text(inbox, chain), node=self.id, target=call.target, chain=chain)
        if inbox.put(letter):
            return None
        if not inbox.closing and inbox.overflow == "block":
            return inbox, letter
        raise self._not_taken(inbox, letter)

    def _not_taken(self, inbox: Inbox, letter: Letter) -> CallError:
        target = f"{inbox.shown}.{letter[1]}"
        if inbox.closing:
            return ServerDown(inbox.full_text, node=self.id, target=target)
        self.mailbox_full(inbox, letter[4])
        return MailboxFull(inbox.full_text, node=self.id, target=target)

    def is_cycle(self, inbox: Inbox, handler: str, chain: Iterable[str]) -> bool:
        """Whether a server waits, directly or not, for the very call that reaches it."""
        if inbox.holder is None or (turn := inbox.holder.turn) is None or turn not in chain:
            return False
        if handler in inbox.concurrent:
            return False
        self.counters["cycles"] += 1
        return True

    async def _wait_for_place(self, inbox: Inbox, letter: Letter, deadline: float) -> None:
        """Wait for room in an inbox of this node that blocks its senders; raises `MailboxFull` at the deadline."""
        if not await inbox.put_when_room(letter, deadline):
            raise self._not_taken(inbox, letter)

    def _call_there(
        self, call: Call, node: NodeId, args: tuple[Any, ...], kwargs: dict[str, Any], ttl: float
    ) -> Link | None:
        """Queue a request; return the link when its outbox has no room now."""
        address, handler = call.address, call.handler
        link = call.link = self.link_to(address, node, handler)
        if link.down:
            raise call.node_down(link.why, "no")
        number = call.number = self.new_number()
        packed = encode(kwargs, "kwargs") if kwargs else None
        body = call.body = pack_call(number, address.to, handler, ttl, encode(args), packed, call.chain)
        if len(body) > link.most_body:
            raise self.too_large(link, len(body), address, handler)
        if not link.send(call):
            return link
        link.waiting[number] = call
        return None

    def too_large(self, link: Link, size: int, address: Address, handler: str) -> MessageTooLarge:
        """Make the error for a message over the peer's limit."""
        text = f"a message of {size} bytes to {address}: {link.most_body} are the most"
        return MessageTooLarge(text, node=link.peer, target=f"{address.to}.{handler}")

    async def _wait_for_room(
        self, link: Link, message: Outgoing, address: Address, handler: str, deadline: float
    ) -> None:
        """Queue a message when the full outbox has room again; raises `LinkFull` at the deadline."""
        call = message if isinstance(message, Call) else None
        room = Room.CHANGED
        while room is not Room.TAKEN:
            room = await link.send_when_room(message, deadline)
            if room is Room.CHANGED:
                assert address.node is not None
                self.link_to(address, address.node, handler)  # says so when the link is closing
                if link.down and call is not None:
                    raise call.node_down(link.why, "no")
            if room is Room.FULL:
                held = f"{len(link.session)} messages, {link.session.size} bytes"
                text = f"the outbox to {link.peer.name} stayed full ({held}): {address}, {handler!r}"
                raise LinkFull(text, node=link.peer, target=f"{address.to}.{handler}")
        if call is not None:
            link.waiting[call.number] = call

    def link_to(self, address: Address, node: NodeId, handler: str) -> Link:
        """The link that a message for ``address`` takes; raises `NodeDown` when there is none."""
        link = self.links.get(node.name)
        if link is not None and not link.parting and not (address.pinned and node.incarnation != link.peer.incarnation):
            return link
        target = f"{address.to}.{handler}"
        if link is not None and link.parting:
            raise NodeDown(f"the link to {node.name} is being closed", node=node, target=target, reason="leaving")
        if link is not None:
            text = f"{address} belongs to an earlier incarnation of {node.name}"
            raise NodeDown(text, node=node, target=target, reason="restarted")
        known = ", ".join(sorted(each.peer.name for each in self.links if each.role is Role.NODE)) or "none"
        raise NodeDown(
            f"no node {node.name!r} is known here (known: {known})", node=node, target=target, reason="unknown"
        )

    # -- casts and infos

    async def cast(
        self, address: Address, handler: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float
    ) -> None:
        """Send without an answer; returns when the mailbox here or the outbox has taken it."""
        if self.closed or get_running_loop() is not self.loop:
            self._misused()
        try:
            if address.node is None:
                frm = From(self.id, None, None, 0, None, False)
                if (waiting := self._put_here(address, (_CAST, handler, args, kwargs, frm, False))) is not None:
                    await self._wait_for_place(*waiting, inherited(self.loop.time() + timeout)[0])
                return
            body = pack_cast(address.to, handler, encode(args), encode(kwargs, "kwargs") if kwargs else None)
            if (unsent := self._send_there(address, address.node, handler, body)) is not None:
                await self._send_when_room(*unsent, address, handler, timeout)
        except CallError:
            await asyncio.sleep(0)  # as in `call`
            raise

    async def info(self, address: Address, value: Any, timeout: float) -> None:
        """Send a value to ``handle_info``; promises what `cast` does."""
        if self.closed or get_running_loop() is not self.loop:
            self._misused()
        try:
            if address.node is None:
                frm = From(self.id, None, None, 0, None, False)
                if (waiting := self._put_here(address, (_INFO, "info", (value,), {}, frm, False))) is not None:
                    await self._wait_for_place(*waiting, inherited(self.loop.time() + timeout)[0])
                return
            body = pack_info(address.to, encode(value, "info"))
            if (unsent := self._send_there(address, address.node, "info", body)) is not None:
                await self._send_when_room(*unsent, address, "info", timeout)
        except CallError:
            await asyncio.sleep(0)
            raise

    def _send_there(self, address: Address, node: NodeId, handler: str, body: bytes) -> tuple[Link, Outgoing] | None:
        """Queue a message that nobody answers; return it, with its link, when it has to wait for room."""
        link = self.link_to(address, node, handler)
        if len(body) > link.most_body:
            raise self.too_large(link, len(body), address, handler)
        if self.pushback.refused:
            self.pushback.check(link, address, handler)
        message = Outgoing(body, _REQUEST_LANE, not address.pinned)
        flow: Flow = link.flows.get(address.to) or self.pushback.new_flow(link, address.to)
        if flow.is_held or not link.send(message):
            return link, message
        flow.cost += len(body) + MESSAGE_COST
        if flow.cost >= flow.window:
            self.pushback.filled(link, flow, address)
        return None

    async def _send_when_room(
        self, link: Link, message: Outgoing, address: Address, handler: str, timeout: float
    ) -> None:
        """Queue a message when its server, and then the outbox, has room."""
        deadline = inherited(self.loop.time() + timeout)[0]
        await self.pushback.wait(link, address, handler, deadline)
        await self._wait_for_room(link, message, address, handler, deadline)
        flow: Flow = link.flows.get(address.to) or self.pushback.new_flow(link, address.to)
        flow.cost += len(message.body) + MESSAGE_COST
        if flow.cost >= flow.window:
            self.pushback.filled(link, flow, address)

    # -- replies

    def reply(self, frm: From, value: Any) -> None:
        """Answer a call; a second answer, or one that nobody waits for, is dropped.

        Raises `UnsupportedPayload` or `MessageTooLarge`, and the call still waits.
        """
        if not frm.expects_reply:
            return
        link = frm._link
        if link is None:
            frm.expects_reply = False
            frm._waiting.finish((False, True, value))
            return
        body = pack_reply(frm._number, encode(value, "reply"))
        if len(body) > link.most_body:
            raise MessageTooLarge(f"a reply of {len(body)} bytes: {link.most_body} are the most", node=frm.peer)
        frm.expects_reply = False
        self._send_back(frm, body)

    def fail(self, frm: From, code: Code, error: BaseException | str, *, maybe: bool) -> None:
        """End a call with an error."""
        if not frm.expects_reply:
            return
        if frm._link is None:
            frm.expects_reply = False
            frm._waiting.fail(self._error_here(frm._waiting, code, error, maybe=maybe))
            return
        most = frm._link.most_body - _ERROR_HEAD
        trace = self.config.tracebacks and frm._link.role is Role.NODE
        payload = pack_exception(error, most, trace=trace) if isinstance(error, BaseException) else pack_text(error)
        frm.expects_reply = False
        self._send_back(frm, pack_error(frm._number, code, payload, maybe=maybe))

    def _send_back(self, frm: From, body: bytes) -> None:
        link = frm._link
        if link.session is not frm._waiting or not link.send(Outgoing(body, _REPLY_LANE)):
            self.dead(frm.peer, "reply", "the session that asked has ended, or its outbox is full", "maybe")

    def _error_here(self, call: Call, code: Code, error: BaseException | str, *, maybe: bool) -> BaseException:
        if not isinstance(error, Exception):
            return call.refusal(code, str(error), self.id, maybe=maybe)
        if isinstance(error, ALWAYS_REMOTE):
            return RemoteError(type(error).__name__, str(error))
        if isinstance(error, CallError):
            error.executed = "maybe"  # it tells of another call, which this handler made
        return error

    # -- dead letters

    def dead(self, node: NodeId, target: str, reason: str, executed: Executed) -> None:
        """Count and tell of a message that reached nobody."""
        self.counters["dead_letters"] += 1
        logger.debug("dead letter for %s on %s: %s", target, node.name, reason)
        self.events.tell(DeadLetter(node, target, reason, executed))
        if self.telemetry.wants(DEAD_LETTER):
            letter = {"target": target, "node": str(node), "reason": reason, "executed": executed}
            self.telemetry.tell(DEAD_LETTER, {"count": 1}, letter)

    # -- the ring, and the end

    def send_ring(self, link: Link, payload: bytes) -> None:
        """Send membership news while the link is open; otherwise it is discarded, and told anew at the next open."""
        if link.open:
            link.send(Outgoing(pack_ring(payload), _CONTROL_LANE))

    def set_port(self, port: int) -> None:
        """Take the port that was bound where 0 was asked for."""
        self.id = replace(self.id, port=port)

    async def renew(self, incarnation: int) -> None:
        """Become another incarnation: all links and sessions end first, actors live on."""
        await self.links.part_all(Reason.DROP, self.loop.time() + _RENEW_TIMEOUT)
        self.id = self.id.with_incarnation(incarnation)
        self.links.me = replace(self.links.me, boot=self.id.incarnation)

    async def aclose(self, reason: Reason, deadline: float) -> None:
        """Say goodbye to all peers and end what still waits."""
        await self.links.aclose(reason, deadline)
        self.closed = True
        self._waiting.close(UsageError(f"node {self.id.name} was closed while the call waited"))
