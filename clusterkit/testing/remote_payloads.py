"""Local calls that look remote: payloads are packed and unpacked on one node too.

In production a local payload passes by reference. A test that ran on that would not
see that a tuple arrives as a list, that an object of one's own cannot be sent, that
what the receiver changes is not what the sender holds. So a node under test gets a
`PackingKernel`, which hands every local payload through the same `encode` and
`decode` as the wire does; nothing in the product knows of it.

Rules. Payloads alone are the wire's: arguments, infos, replies and exceptions, with the
limit on their size; not what the runtime itself tells an actor (`Down`, `TimerFired` ...), nor what a supervisor is asked
for (`Child`), which stays on a node. The rest of a local send stays local: it takes no time and no link
can break, and a cast into a full mailbox raises.
"""

# ruff: noqa: SLF001 - From is the kernel's own ticket, and this is a kernel

from typing import Any

from clusterkit.actors.process import Process
from clusterkit.actors.signals import Down, Exit, TimerFired
from clusterkit.actors.supervisor import Supervisor
from clusterkit.core.channel import OVERHEAD
from clusterkit.core.members import Lagged, MemberDown, MemberUp
from clusterkit.core.messages import Code, pack_call, pack_cast, pack_info, pack_reply
from clusterkit.core.payload import encode
from clusterkit.errors import MessageTooLarge
from clusterkit.kernel.address import Address
from clusterkit.kernel.calls import Call
from clusterkit.kernel.faults import pack_exception, unpack_exception
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import From, Inbox, Letter, Op
from clusterkit.node import Node

_SIGNALS = (Down, Exit, TimerFired, MemberUp, MemberDown, Lagged)  # a test may send them to a ``handle_info``
_MOST_DIGITS = 1 << 32  # a call's number as wide as any that a long run draws


def _supervises(inbox: Inbox | None) -> bool:
    holder = inbox.holder if inbox is not None else None
    return isinstance(holder, Process) and isinstance(holder.actor, Supervisor)


def _asks_supervisor(frm: From) -> bool:
    call = frm._waiting
    return isinstance(call, Call) and call.handler in Supervisor.__handlers__ and _supervises(call.inbox)


def look_remote(node: Node) -> None:
    """From now on pack what this started node sends to its own actors."""
    kernel = node._open_kernel()  # Node shows no kernel
    kernel.__class__ = PackingKernel


class PackingKernel(Kernel):
    """A kernel whose local letters and replies are packed, as remote ones are."""

    def _put_here(self, address: Address, letter: Letter, call: Call | None = None) -> tuple[Inbox, Letter] | None:
        op, handler, args, kwargs, frm, _ = letter
        if self._stays_here(address, letter):
            return super()._put_here(address, letter, call)
        if op == Op.INFO:
            packed, named = encode(args[0], "info"), None
            body = pack_info(address.to, packed)
        else:
            packed, named = encode(args), encode(kwargs, "kwargs") if kwargs else None
            body = self._pack_request(op, address, handler, packed, named)
        self._check_size(body, f"a message of {len(body)} bytes to {address}", f"{address.to}.{handler}")
        return super()._put_here(address, (op, handler, packed, named, frm, True), call)

    def _stays_here(self, address: Address, letter: Letter) -> bool:
        """What never crosses: what the runtime tells an actor, and what a supervisor is asked for."""
        op, handler, args = letter[:3]
        if op == Op.INFO:
            return isinstance(args[0], _SIGNALS)
        return handler in Supervisor.__handlers__ and _supervises(self.find(address.to))

    @staticmethod
    def _pack_request(op: int, address: Address, handler: str, args: bytes, kwargs: bytes | None) -> bytes:
        if op == Op.CALL:
            return pack_call(_MOST_DIGITS, address.to, handler, 1.0, args, kwargs)
        return pack_cast(address.to, handler, args, kwargs)

    def reply(self, frm: From, value: Any) -> None:
        """Answer a call with what the value is on the other side."""
        if frm._link is not None or not frm.expects_reply or _asks_supervisor(frm):
            super().reply(frm, value)
            return
        payload = encode(value, "reply")
        body = pack_reply(_MOST_DIGITS, payload)
        self._check_size(body, f"a reply of {len(body)} bytes", "reply")
        frm.expects_reply = False
        frm._waiting.finish((True, True, payload))

    def fail(self, frm: From, code: Code, error: BaseException | str, *, maybe: bool) -> None:
        """End a call with the error that the other side would rebuild."""
        if frm._link is None and isinstance(error, BaseException):
            error = unpack_exception(pack_exception(error, self._most))
        super().fail(frm, code, error, maybe=maybe)

    def _check_size(self, body: bytes, what: str, target: str) -> None:
        if len(body) > self._most:
            raise MessageTooLarge(f"{what}: {self._most} are the most", node=self.id, target=target)

    @property
    def _most(self) -> int:
        return self.config.message_limit - OVERHEAD
