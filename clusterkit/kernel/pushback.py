"""Floods are pushed back to their senders: what a mailbox does not take is told, or waits where it was sent.

A sender asks once, behind its first casts and infos to a server, whether its mailbox blocks, and
goes on for a mebibyte; then it waits for the answer, some seconds at the most. If the mailbox does not
block, the sender goes on within its outbox. If it does, no more than two *windows* of messages
are under way to it from then on, each followed by a question that is answered when there is
room: so a flood stays with its sender. What another mailbox refuses is counted, and told
once a turn (REFUSED); the next cast to it raises `MailboxFull`.

While the link is not open the outbox alone bounds what is sent.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusterkit.core.messages import Code, pack_call, pack_refused, pack_reply
from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.core.session import Lane, Notice
from clusterkit.errors import MailboxFull
from clusterkit.kernel.address import Address
from clusterkit.kernel.calls import Call
from clusterkit.kernel.events import Refused
from clusterkit.kernel.mailbox import From
from clusterkit.kernel.telemetry import REFUSED
from clusterkit.transport.link import Link

if TYPE_CHECKING:
    from clusterkit.kernel.kernel import Kernel

ROOM = "clusterkit.room"  # whom both questions are put to
WINDOW = 128 << 10  # bytes between two questions to a mailbox that blocks
_FIRST = 16 << 10  # before the first question
_UNSURE = 8 * WINDOW  # that go while the answer to it is awaited
_SELDOM = 32 * WINDOW  # between two to one that does not: another actor may have its name by now
MESSAGE_COST = 256  # bytes that a message counts beside its own
_MOST_OPEN = 2
_MOST_FLOWS = 4_096  # servers of one peer that are kept account of
_MOST_REFUSED = 1_024
_NO, _YES = b"\xc2", b"\xc3"  # false and true, packed
_PATIENCE = 5.0  # seconds that senders wait to hear whether a mailbox blocks
_FOREVER = 1e9  # seconds: the question has no deadline of its own
_REPLY_LANE, _REQUEST_LANE = int(Lane.REPLY), int(Lane.REQUEST)


class Flow:
    """What is under way to one server of a peer."""

    __slots__ = ("blocks", "cost", "is_held", "line", "open", "unsure_until", "window")

    def __init__(self) -> None:
        self.cost = 0  # bytes since the last question
        self.window = _FIRST  # bytes before the next one
        self.blocks: bool | None = None  # whether its mailbox does; None: that is not known
        self.open = 0  # windows under way
        self.is_held = False  # the next sender has to wait
        self.unsure_until: float | None = None  # how long, if it is for the answer to the first question
        self.line: list[asyncio.Future[None]] = []

    def told(self, blocks: bool | None) -> None:
        """Take what the other side says of its mailbox; None when it did not come to say it."""
        self.blocks = blocks
        self.unsure_until = None
        self.window = _FIRST if blocks is None else WINDOW if blocks else _SELDOM
        self.look_again()

    def look_again(self) -> None:
        """Let all who wait look again, in the order in which they came."""
        self.is_held = bool(self.blocks) and self.open >= _MOST_OPEN
        line, self.line = self.line, []
        for waiter in line:
            if not waiter.done():
                waiter.set_result(None)


class _Question(Call):
    """The question on its way; nobody misses it when the session ends."""

    __slots__ = ()
    is_notice = True


class Pushback:
    """Both sides of it, for one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._untold: dict[Link, Counter[tuple[str | int, Code]]] = {}
        self.refused: dict[Link, OrderedDict[str | int, int]] = {}

    # -- the sender's side

    def new_flow(self, link: Link, to: str | int) -> Flow:
        """Begin the account of one server."""
        if len(link.flows) >= _MOST_FLOWS:
            link.flows.pop(next(iter(link.flows)))
        flow = link.flows[to] = Flow()
        return flow

    async def wait(self, link: Link, address: Address, handler: str, deadline: float) -> None:
        """Wait until the server has room for more, or the link is not open; raises `MailboxFull` at the deadline."""
        while link.open and (flow := link.flows.get(address.to)) is not None and flow.is_held:
            waiter = self._kernel.loop.create_future()
            flow.line.append(waiter)
            patience = deadline if flow.unsure_until is None else min(deadline, flow.unsure_until)
            try:
                async with asyncio.timeout_at(patience):
                    await waiter
            except TimeoutError:
                if patience < deadline:
                    flow.told(False)  # until it says otherwise
                    return
                why = "has had no room for more" if flow.blocks else "has not said whether it has room"
                text = f"{address} {why} since two windows of messages to it"
                raise MailboxFull(text, node=link.peer, target=f"{address.to}.{handler}") from None

    def filled(self, link: Link, flow: Flow, address: Address) -> None:
        """A window is full: ask whether the mailbox blocks, or if it is known to, whether it has room."""
        flow.cost = 0
        if flow.blocks:
            flow.open += 1
            flow.is_held = flow.open >= _MOST_OPEN
            self._ask(link, flow, address, self._has_room)
        elif flow.blocks is None and flow.window == _UNSURE:
            flow.is_held = True
        else:
            if flow.blocks is None:
                flow.window = _UNSURE
                flow.unsure_until = self._kernel.loop.time() + _PATIENCE
            self._ask(link, flow, address, self._has_said)

    def _ask(
        self, link: Link, flow: Flow, address: Address, answered: Callable[[Flow, tuple[bool, bool, Any]], None]
    ) -> None:
        answer: asyncio.Future[Any] = self._kernel.loop.create_future()
        question = _Question(Address(address.node, ROOM), str(address.to), answer)
        question.link = link
        question.number = self._kernel.new_number()
        question.body = pack_call(question.number, ROOM, "", _FOREVER, encode([address.to, bool(flow.blocks)]), None)
        link.waiting[question.number] = question
        link.send_always(question)
        answer.add_done_callback(lambda answer: answered(flow, answer.result()))

    @staticmethod
    def _has_said(flow: Flow, outcome: tuple[bool, bool, Any]) -> None:
        flow.told(outcome[2] == _YES if outcome[1] else None)

    @staticmethod
    def _has_room(flow: Flow, outcome: tuple[bool, bool, Any]) -> None:
        flow.open -= 1
        flow.told(outcome[2] == _YES if outcome[1] else None)

    def look_again(self, link: Link) -> None:
        """Let all who wait look again: the link is not open any more."""
        for flow in link.flows.values():
            flow.look_again()

    def told(self, link: Link, to: str | int, code: str, count: int) -> None:
        """Take note that the peer refused messages of this node."""
        kernel = self._kernel
        kernel.counters["refused_there"] += count
        kernel.events.tell(Refused(link.peer, to, code, count))
        kernel.telemetry.tell(REFUSED, {"count": count}, {"node": str(link.peer), "server": str(to), "reason": code})
        if code == Code.MAILBOX_FULL:
            refused = self.refused.setdefault(link, OrderedDict())
            refused[to] = refused.get(to, 0) + count
            if len(refused) > _MOST_REFUSED:
                refused.popitem(last=False)

    def check(self, link: Link, address: Address, handler: str) -> None:
        """Raise `MailboxFull` if messages before this one were refused; it is said once."""
        refused = self.refused.get(link)
        if refused and (count := refused.pop(address.to, 0)):
            if not refused:
                del self.refused[link]
            lost = f"{count} message{'s' if count > 1 else ''} before this one"
            text = f"the mailbox of {address} was full: {lost} did not get in, and this one was not sent"
            raise MailboxFull(text, node=link.peer, target=f"{address.to}.{handler}")

    # -- the receiver's side

    def asked(self, frm: From, args: bytes) -> None:
        """Say whether a mailbox blocks; for the second question when it has room."""
        to, waits = _question_of(args)
        inbox = self._kernel.find(to)
        if inbox is None or inbox.overflow != "block":
            self._answer(frm, blocks=False)
        elif not waits or inbox.has_room:
            self._answer(frm, blocks=True)
        else:
            inbox.when_room(lambda: self._answer(frm, blocks=True))

    @staticmethod
    def _answer(frm: From, *, blocks: bool) -> None:
        if frm._link.session is frm._waiting:  # else nobody waits any more
            frm._link.send_always(Notice(pack_reply(frm._number, _YES if blocks else _NO), _REPLY_LANE))

    def refuse(self, link: Link, to: str | int, code: Code) -> None:
        """Count a message of the peer that reached nobody; it is told when this turn of the loop has ended."""
        if not self._untold:
            self._kernel.loop.call_soon(self._tell)
        self._untold.setdefault(link, Counter())[to, code] += 1

    def _tell(self) -> None:
        untold, self._untold = self._untold, {}
        for link, counts in untold.items():
            if link.parting:
                continue  # it is told goodbye, and would hear no end of this
            for (to, code), count in counts.items():
                link.send_always(Notice(pack_refused(to, code, count), _REQUEST_LANE))

    def forget(self, link: Link) -> None:
        """Forget the peer's session."""
        self.look_again(link)
        link.flows.clear()
        self.refused.pop(link, None)
        self._untold.pop(link, None)


def _question_of(args: bytes) -> tuple[str | int, bool]:
    """Whom the question is about, nobody when it cannot be read, and whether it waits for room."""
    try:
        to, waits = decode(args)
    except (PayloadError, TypeError, ValueError):
        return "", False
    return (to if isinstance(to, str | int) else ""), waits is True
