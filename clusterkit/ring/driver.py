"""Carries out what `Membership` says: frames onto links, verdicts to them, the timer, the state file.

No decisions here. What concerns the users' calls (accepted, renew, stopped, invited)
and their events is handed upward.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable

from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import (
    Compare,
    Effect,
    Event,
    Forget,
    Heard,
    Hurry,
    Judge,
    LinkLost,
    LinkOpened,
    Meet,
    Outnamed,
    Parted,
    Send,
    SignOfLife,
    Tick,
    Unreached,
)
from clusterkit.core.pieces import GotPiece, Piece, Pieces
from clusterkit.core.ring_messages import Closed, Hello, RingMessage, pack, unpack
from clusterkit.errors import (
    AuthFailed,
    ClusterError,
    JoinError,
    NameConflict,
    NotConverged,
    NotInRing,
    OldIncarnation,
    ProtocolError,
    UnsupportedPayload,
    VersionMismatch,
    WrongNode,
    WrongRing,
)
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.keeping import Keeping
from clusterkit.runtime import Tasks, now, until
from clusterkit.transport.link import Link

logger = logging.getLogger("clusterkit.ring")

_NOT_THERE = (ConnectionRefusedError, NotInRing, WrongRing, WrongNode, VersionMismatch)
_SAVE_AFTER = 1.0  # seconds
_LOOK_AGAIN = 0.2  # seconds until members that differ are asked again


class Driver:
    """One run in one ring; ``upward`` gets the effects that are not for the links."""

    def __init__(
        self, kernel: Kernel, membership: Membership, keeping: Keeping, upward: Callable[[Effect], None]
    ) -> None:
        self.membership = membership
        self.stepped = asyncio.Event()
        """Set at each step."""
        self._kernel = kernel
        self._keeping = keeping
        self._upward = upward
        self._tasks = Tasks(f"ring/{kernel.id.name}")
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # some loops give a handle that does not know
        self._packed: tuple[RingMessage, bytes] | None = None
        self._saved: int | None = None  # the digest of what the state file has
        self._saving: asyncio.Task[None] | None = None
        self._over = False
        self._events: deque[Event] = deque()
        self._stepping = False
        self._pieces: dict[str, Pieces] = {}

    def step(self, event: Event) -> None:
        """Step the machine, and carry out what it says; an event that a user's callback causes has its turn after that."""
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                self._step(self._events.popleft())
        finally:
            self._stepping = False

    async def agreed(self, timeout: float) -> None:
        """Wait until every live member says that it knows what this node does; raises `NotConverged`."""
        deadline = now() + timeout
        self.step(Compare())
        while differ := self.membership.disagreeing:
            self.stepped.clear()
            try:
                await until(min(deadline, now() + _LOOK_AGAIN), self.stepped.wait())
            except TimeoutError:
                if now() >= deadline:
                    raise NotConverged(f"not agreed within {timeout:g} s: {', '.join(differ)}") from None
                self.step(Compare())

    def _step(self, event: Event) -> None:
        if self._over:
            return
        for effect in self.membership.step(event, now()):
            self._carry_out(effect)
        self._arm()
        self.stepped.set()
        if self._keeping.keeps and self._saving is None and self._saved != self.membership.digests[0]:
            self._saving = self._tasks.spawn(self._save_soon(), "save")

    def _carry_out(self, effect: Effect) -> None:
        links = self._kernel.links
        match effect:
            case Send(name=name, message=message):
                if (link := links.get(name)) is not None:
                    self._send(link, message)
            case Meet(node=node):
                links.link_to(node)
            case Judge(name=name, why=why):
                if (link := links.get(name)) is not None:
                    link.judge(why)
            case Hurry(name=name):
                if (link := links.get(name)) is not None:
                    link.hurry()
            case Forget(name=name, gone=gone):
                self._tasks.spawn(self._forget(name, gone=gone), f"forget {name}")
            case _:
                self._upward(effect)

    def _send(self, link: Link, message: RingMessage) -> None:
        try:
            packed = self._bytes_of(message)
        except UnsupportedPayload as error:
            logger.error("ring %s is too large to be told to %s: %s", self._kernel.links.me.ring, link.peer.name, error)
            return
        if Pieces.fits(packed):
            self._kernel.send_ring(link, packed)
            return
        for piece in self._pieces.setdefault(link.peer.name, Pieces()).cut(packed):
            self._kernel.send_ring(link, pack(piece))

    def _bytes_of(self, message: RingMessage) -> bytes:
        """Pack a message; the same one for all who get it."""
        if self._packed is None or self._packed[0] is not message:
            self._packed = message, pack(message)
        return self._packed[1]

    async def _forget(self, name: str, *, gone: bool) -> None:
        links = self._kernel.links
        if gone:
            await links.release(name, now() + self._kernel.config.drain_timeout)
        else:
            await links.drop(name, now() + self._kernel.config.drain_timeout)
        member = self.membership.members.get(name)
        if member is not None and not self._over and self.membership.stopped is None:  # it is in the ring again
            links.link_to(member.node).judge(member.verdict)

    def _arm(self) -> None:
        at = None if self._over else self.membership.next_deadline
        if self._timer is not None:
            if at is not None and self._timer_at == at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer, self._timer_at = asyncio.get_running_loop().call_at(at, self._tick), at

    def _tick(self) -> None:
        self._timer = None
        for name in self.membership.awaited:
            if (link := self._kernel.links.get(name)) is not None:
                self.step(SignOfLife(name, link.heard_at))
        self.step(Tick())

    # -- the state file

    async def _save_soon(self) -> None:
        await asyncio.sleep(_SAVE_AFTER)
        self._saving = None
        await self._save()

    async def _save(self) -> None:
        self._saved = self.membership.digests[0]
        ring_id, boot = self._kernel.links.me.ring, self._kernel.id.incarnation
        await self._keeping.save(ring_id, boot, self.membership.ring.full())

    async def aclose(self, *, save: bool) -> None:
        """Step no more; with ``save`` what is not in the state file yet is written."""
        self._over = True
        self._arm()
        await self._tasks.aclose()
        if save and self._saved != self.membership.digests[0]:
            await self._save()

    # -- from the kernel

    def link_opened(self, link: Link) -> None:
        """Introduce ourselves."""
        self.step(LinkOpened(link.peer.name, link.peer.incarnation))

    def link_lost(self, link: Link) -> None:
        """Take note that a link ended."""
        self._pieces.pop(link.peer.name, None)
        self.step(LinkLost(link.peer.name))

    def ring_message(self, link: Link, payload: bytes) -> None:
        """Take membership news."""
        try:
            message = self._whole(link, unpack(payload))
        except ProtocolError as error:  # a payload fails alone: its envelope was good
            self._kernel.dead(self._kernel.id, "ring", f"{error}, from {link.peer.name}", "no")
            return
        if message is None:
            return
        if isinstance(message, Hello):
            link.moved(message.node)
        self.step(Heard(link.peer.name, link.peer.incarnation, message))

    def _whole(self, link: Link, message: RingMessage) -> RingMessage | None:
        """Put pieces together, and let the next ones go; None while something is missing."""
        if not isinstance(message, Piece | GotPiece):
            return message
        pieces = self._pieces.setdefault(link.peer.name, Pieces())
        if isinstance(message, GotPiece):
            for following in pieces.got(message):
                self._kernel.send_ring(link, pack(following))
            return None
        self._kernel.send_ring(link, pack(GotPiece(message.index)))
        whole = pieces.take(message)
        return unpack(whole) if whole is not None else None

    def unreached(self, dialled: NodeId, error: OSError | ClusterError) -> None:
        """Take note that a member was dialled in vain."""
        if isinstance(error, OldIncarnation) and error.known and self.membership.settled:
            self.step(Heard(dialled.name, dialled.incarnation, Closed(0, error.known)))
            return
        if isinstance(error, NameConflict):
            self.step(Outnamed())
        refused = isinstance(error, _NOT_THERE) and not isinstance(error, AuthFailed)
        self.step(Unreached(dialled, _why(error), refused))

    def link_parted(self, link: Link, reason: Reason) -> None:
        """Take note of a goodbye; that we were no member says nothing of who says so."""
        if reason is Reason.DROP:
            return
        self.step(Parted(link.peer.name, link.peer.incarnation, reason is Reason.LEAVE))

    def link_refused(self, link: Link, error: JoinError) -> None:
        """A node that is no member will not have us."""
        logger.warning("node %s refuses this node: %s", link.peer.name, error)


def _why(error: OSError | ClusterError) -> str:
    """Say in a few words why a member was not reached: of an error of the system its own, without Python's."""
    if (
        isinstance(error, OSError)
        and not isinstance(error, ClusterError)
        and error.errno is not None
        and error.errno > 0
    ):
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
