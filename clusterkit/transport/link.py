"""The link to one peer: its session, the connection that carries it, and the redial.

A link lives as long as its peer is of interest; connections come and go under it.
What is sent while there is none waits in the session, within its bounds.

Until sessions resume, the end of a connection ends the session (docs/wire.md,
"Ending"): what was written is in doubt and reported as "maybe"; casts that were
never written and are addressed by name stay queued; the next connection makes a
new session object with a new number.
"""

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from clusterkit.core import reach
from clusterkit.core.backoff import Backoff
from clusterkit.core.channel import OVERHEAD, Channel, Reason
from clusterkit.core.handshake import Proven
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Role
from clusterkit.core.session import Outgoing, Resume
from clusterkit.errors import (
    ClusterError,
    CrossedDials,
    DialledSelf,
    JoinError,
    NameConflict,
    OldIncarnation,
    PeerLeaving,
    VersionMismatch,
    WrongRing,
)
from clusterkit.runtime import Tasks, now, rng
from clusterkit.transport.base import Stream
from clusterkit.transport.connection import SHARE, Connection, Ended

if TYPE_CHECKING:
    from clusterkit.transport.links import Links

logger = logging.getLogger("clusterkit.transport")


_FINAL = (DialledSelf, NameConflict, OldIncarnation, VersionMismatch, WrongRing)  # another dial will not help


class Upward(Protocol):
    """What the floor above is told."""

    def delivered(self, link: "Link", messages: list[Any]) -> None:
        """Messages came, in order. Raises `ProtocolError` for one that is none."""

    def opened(self, link: "Link") -> None:
        """A connection opened, whoever dialled."""

    def session_ended(self, link: "Link", written: list[Outgoing], queued: list[Outgoing], why: str) -> None:
        """The session ended: what was written is in doubt, what was queued was never sent."""

    def too_large(self, link: "Link", messages: list[Outgoing]) -> None:
        """Queued messages are over what the peer takes; they were taken back."""

    def down(self, link: "Link", why: str) -> None:
        """The peer cannot be reached."""

    def parted(self, link: "Link", reason: Reason) -> None:
        """The peer said goodbye."""

    def refused(self, link: "Link", error: JoinError) -> None:
        """The peer will not have us, and trying again will not help."""


class Link:
    """One peer. ``waiting`` holds the calls that wait for its replies, by number."""

    def __init__(self, links: "Links", peer: NodeId, role: Role = Role.NODE) -> None:
        config = links.config
        self.peer = peer
        self.role = role
        self.waiting: dict[int, Any] = {}
        self.session = links.new_session()
        self.connection: Connection | None = None
        self.down = False  # the peer is called down: calls fail at once
        self.challenged_at: float | None = None  # our dial got its CHAL then, and is not open
        self.most_body = config.message_limit - OVERHEAD
        self._links = links
        self._up = links.upward
        self._reach = reach.Reach(
            Backoff(config.redial_first, config.redial_most, rng(f"redial:{peer.name}")), config.down_after
        )
        self._tasks = Tasks(f"link/{peer.name}", links.tasks)
        self._dial: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._room: list[asyncio.Future[None]] = []
        self._forgotten = False
        self.parting = False  # nothing new is taken: we say goodbye, or have said it
        self._carried = 0  # connections, open or opening
        self._resuming = False  # our dial sent RESUME and is not open

    def __repr__(self) -> str:
        return f"<Link to {self.peer} {'open' if self.open else 'down' if self.down else 'closed'}>"

    @property
    def open(self) -> bool:
        """Whether a connection is open."""
        return self.connection is not None and self.connection.open

    @property
    def unused(self) -> bool:
        """Whether nobody wants this peer, and no connection is open or opening."""
        return not self._reach.wanted and not self._carried

    @property
    def why(self) -> str:
        """What the last failure was."""
        return self._reach.why

    # -- sending

    def send(self, message: Outgoing) -> bool:
        """Queue a message; False when the outbox is full."""
        connection = self.connection
        if not self.session.put(message):
            return False
        if connection is not None:
            if connection.flushing:
                connection.busy = True
                connection.held += 1
                if connection.held >= SHARE:
                    connection.share()
            else:
                connection.flush_soon()
        return True

    def withdraw(self, message: Outgoing) -> bool:
        """Take back a message that was never written; False when it was."""
        withdrawn = self.session.withdraw(message)
        self._made_room()
        return withdrawn

    async def room(self, deadline: float) -> bool:
        """Wait until the outbox may have room; False at ``deadline``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            return False
        finally:
            if waiter in self._room:
                self._room.remove(waiter)
        return True

    def _made_room(self) -> None:
        if self._room:
            waiters, self._room = self._room, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # -- reaching the peer

    def want(self) -> None:
        """Keep a connection to this peer from now on."""
        self._step(reach.Wanted())

    def _step(self, event: reach.Event) -> None:
        effects = self._reach.step(event, now())
        self.down = self._reach.down
        for effect in effects:
            match effect:
                case reach.Dial():
                    self._dial = self._tasks.spawn(self._dial_once(), "dial")
                case reach.CallDown(why=why):
                    logger.info("node %s is down: %s", self.peer, why)
                    self._up.down(self, why)
                    self._made_room()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := self._reach.next_deadline) is not None and not self._forgotten:
            self._timer = asyncio.get_running_loop().call_at(at, self._step, reach.Tick())

    async def _dial_once(self) -> None:
        try:
            stream, proven = await self._links.dial(self.peer.host, self.peer.port, self.peer.name, self._challenged)
        except (OSError, ClusterError) as error:
            self.challenged_at = None
            self._dial_failed(error)
            return
        try:
            await self.carry(stream, proven, dialled=True)
        finally:
            self.challenged_at = None

    def _challenged(self) -> None:
        self.challenged_at = now()

    def _dial_failed(self, error: OSError | ClusterError) -> None:
        if self.open:
            return
        if isinstance(error, PeerLeaving):
            self._step(reach.Parted("leaving"))
            return
        if isinstance(error, _FINAL) and not (isinstance(error, OldIncarnation) and not error.known):
            self._up.refused(self, error)
            self._step(reach.Parted(str(error)))  # it may still dial us
            return
        refused = isinstance(error, ConnectionRefusedError)
        self._step(reach.DialFailed(refused=refused, why=str(error) or type(error).__name__))

    # -- connections

    async def carry(self, stream: Stream, proven: Proven, *, dialled: bool) -> None:
        """Run a proven connection to its end; ours is given up if another opened meanwhile."""
        self._carried += 1
        try:
            await self._carry(stream, proven, dialled=dialled)
        finally:
            self._carried -= 1

    async def _carry(self, stream: Stream, proven: Proven, *, dialled: bool) -> None:
        if self._forgotten or (dialled and self.open):
            stream.abort()
            return
        channel = Channel(
            proven.keys,
            initiator=dialled,
            most=self._links.config.message_limit,
            health=self._links.health,
            expects_reply=lambda: bool(self.waiting),
        )
        boot = proven.peer.boot
        connection = Connection(
            stream,
            channel,
            resumed=lambda which, theirs: self._resumed(which, theirs, boot, dialled=dialled),
            deliver=lambda messages: self._up.delivered(self, messages),
            progressed=self._made_room,
        )
        if dialled:
            self._meet(boot)
            connection.start(self.session)
            self._resuming = True
        try:
            end = await self._run(connection)
        finally:
            self._resuming = self._resuming and not dialled
        if connection is self.connection:
            self._ended(end)
        elif dialled and not self.open:
            self._step(reach.DialFailed(refused=False, why=end.why))

    async def _run(self, connection: Connection) -> Ended:
        opening = asyncio.get_running_loop().call_later(self._links.config.handshake_timeout, self._late, connection)
        try:
            return await connection.run()
        finally:
            opening.cancel()

    @staticmethod
    def _late(connection: Connection) -> None:
        if not connection.open:
            connection.cut()

    def _resumed(self, connection: Connection, theirs: Resume, boot: int, *, dialled: bool) -> None:
        """Open: of all connections to this peer the newest stays."""
        if self._forgotten:
            raise CrossedDials(f"{self.peer.name} was forgotten meanwhile")
        if self.role is Role.NODE and boot < self._links.known_boot(self.peer.name):
            raise CrossedDials(f"a later incarnation of {self.peer.name} was admitted meanwhile")
        if not dialled:
            if self._is_crossed(boot):
                raise CrossedDials(f"our own connection to {self.peer.name} is opening")
            if self._dial is not None and not self.open:
                self._dial.cancel()
            self._drop_connection("another connection opened")
            self._meet(boot)
        lost = connection.channel.open(self.session, theirs)
        self.connection = connection
        connection.open = True
        self._resuming = False
        self.challenged_at = None
        self.most_body = min(self._links.config.message_limit, theirs.most) - OVERHEAD
        if lost:
            self._up.session_ended(self, lost, [], "the peer ended the session")
        if over := self.session.withdraw_over(self.most_body):
            self._up.too_large(self, over)
        self._step(reach.Opened())
        connection.flush_soon()
        self._up.opened(self)

    def _is_crossed(self, boot: int) -> bool:
        """Whether both sides sent RESUME on a dial of their own: the one by the lower name stays.

        Else each would close its own for the other's, and both would be lost.
        """
        lower = self._links.me.name < self.peer.name
        return self._resuming and lower and not self.open and boot == self.peer.incarnation

    def _drop_connection(self, why: str) -> None:
        if (connection := self.connection) is not None:
            self.connection = None
            connection.cut()
            self.end_session(why)

    def _meet(self, boot: int) -> None:
        """Take note of the incarnation that proved itself."""
        if boot != self.peer.incarnation:
            if self.peer.incarnation:
                self.end_session("restarted")
            self.peer = self.peer.with_incarnation(boot)

    def _ended(self, end: Ended) -> None:
        self.connection = None
        logger.debug("link to %s ended: %s", self.peer, end.why)
        self.end_session(end.why, keep_casts=end.goodbye is None and not end.broken)
        if end.goodbye is not None and end.goodbye is not Reason.AGAIN:
            self._step(reach.Parted("stopped" if end.goodbye == Reason.STOP else "left"))
            self._up.parted(self, end.goodbye)
        else:
            self._step(reach.Lost(end.why))

    def end_session(self, why: str, *, keep_casts: bool = True) -> None:
        """End the session and begin another; report what is in doubt and what was never sent."""
        written, queued = self.session.end()
        self.session = self._links.new_session()
        refused = [each for each in queued if not (keep_casts and each.by_name and self.session.put(each))]
        self._made_room()
        self._up.session_ended(self, written, refused, why)

    # -- the end

    async def part(self, reason: Reason, deadline: float) -> None:
        """Say goodbye and forget the peer; what was not written by ``deadline`` is reported."""
        self.parting = True
        if (connection := self.connection) is not None:
            await connection.part(reason, deadline)
        await self.forget("left" if reason == Reason.LEAVE else "stopped")

    async def forget(self, why: str) -> None:
        """End all that belongs to this peer, now."""
        self._forgotten = self.parting = True
        self._step(reach.Unwanted())
        if (connection := self.connection) is not None:
            self.connection = None
            connection.cut()
        self.end_session(why, keep_casts=False)
        await self._tasks.aclose()

    async def alive(self, timeout: float) -> bool:
        """Whether the open connection answers a PING within ``timeout`` seconds."""
        return self.connection is not None and await self.connection.alive(timeout)

    def moved(self, node: NodeId) -> None:
        """Take the address that the peer announced itself."""
        if (node.name, node.incarnation) == (self.peer.name, self.peer.incarnation):
            self.peer = replace(self.peer, host=node.host, port=node.port)
