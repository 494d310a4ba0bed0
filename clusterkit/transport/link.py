"""The link to one peer: its session, the connection that carries it, and the redial.

A link lives as long as its peer is of interest; connections come and go under it, and
the session outlives them: what is sent while there is none waits, and what was written
and not acknowledged goes again on the next one (`clusterkit.core.session`).

Rules (docs/wire.md, "Sessions"): one connection at a time is open, the newest; a
connection that was given up takes nothing from the session and brings nothing into it;
the session ends with a goodbye for good, with another incarnation of the peer, with a
broken rule, or when this side forgets the peer.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clusterkit.core import reach
from clusterkit.core.backoff import Backoff
from clusterkit.core.channel import OVERHEAD, Channel, Reason
from clusterkit.core.handshake import Proven
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Role
from clusterkit.core.session import Lane, Outgoing, Resume, Session
from clusterkit.errors import (
    AuthFailed,
    ClusterError,
    CrossedDials,
    DialledSelf,
    NameConflict,
    OldIncarnation,
    PeerLeaving,
    VersionMismatch,
    WrongRing,
)
from clusterkit.runtime import Tasks, now, rng, until
from clusterkit.transport.base import Stream
from clusterkit.transport.connection import SHARE, Connection, Ended
from clusterkit.transport.senders import Room, Senders

if TYPE_CHECKING:
    from clusterkit.transport.links import Links

logger = logging.getLogger("clusterkit.transport")


_FINAL = (DialledSelf, NameConflict, OldIncarnation, VersionMismatch, WrongRing)  # another dial will not help
_REQUEST = int(Lane.REQUEST)
CROSSING = 1.0  # seconds in which a dial of ours that is opening spares the other one


class Link:
    """One peer. ``waiting`` holds the calls that wait for its replies, by number; ``flows`` what is under way to whom."""

    def __init__(self, links: "Links", peer: NodeId, role: Role = Role.NODE) -> None:
        config = links.config
        self.peer = peer
        self.role = role
        self.waiting: dict[int, Any] = {}
        self.flows: dict[str | int, Any] = {}
        self.session = links.new_session()
        self.connection: Connection | None = None
        self.down = False  # the peer is called down: calls fail at once
        self._judged = False  # the ring says whether it is down, and not the failures of a dial
        self._verdict = ""  # why the ring called it down
        self._heard_at = 0.0
        self._said_farewell = False  # the peer has said goodbye for good, and has not come back
        self.parting = False  # nothing new is taken: we say goodbye, or have said it
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
        self._senders = Senders[Outgoing]()
        self._changed = asyncio.Event()  # opened, down, forgotten, or a connection ended
        self._forgotten = False
        self._carried = 0  # connections, open or opening
        self._openings = 0  # how many connections have opened
        self._told: Session | None = None  # what a RESUME of ours has named: the peer may have met it
        self._opening: dict[Connection, float] = {}  # proven, since when; their RESUMEs are not both through
        self._mismatch_told = False

    def __repr__(self) -> str:
        return f"<Link to {self.peer} {'open' if self.open else 'down' if self.down else 'closed'}>"

    @property
    def open(self) -> bool:
        """Whether a connection is open."""
        return self.connection is not None and self.connection.open

    @property
    def wanted(self) -> bool:
        """Whether this peer is dialled whenever there is no connection."""
        return self._reach.wanted

    @property
    def unused(self) -> bool:
        """Whether nobody wants this peer, and no connection is open or opening."""
        return not self.wanted and not self._carried

    @property
    def resumable(self) -> bool:
        """Whether the peer has or may have an object of the session: the next connection goes on with it."""
        return bool(self.session.peer) or self.session is self._told

    @property
    def why(self) -> str:
        """Why the peer is down, or what the last failure was."""
        return self._verdict or self._reach.why

    @property
    def heard_at(self) -> float:
        """When a record last came from the peer, on this connection or one before; 0 when none has."""
        connection = self.connection
        return self._heard_at if connection is None else max(self._heard_at, connection.channel.heard_at)

    # -- sending

    def send(self, message: Outgoing) -> bool:
        """Queue a message; False when the outbox is full, or when others wait for room in it."""
        if (self._senders and message.lane >= _REQUEST) or not self.session.put(message):
            return False
        connection = self.connection
        if connection is not None:
            if connection.flushing:
                connection.busy = True
                connection.held += 1
                if connection.held >= SHARE:
                    connection.share()
            else:
                connection.flush_soon()
        return True

    def send_always(self, message: Outgoing) -> None:
        """Queue a message that must not be lost and that something bounded already, however full the outbox is."""
        self.session.put_always(message)
        if self.connection is not None:
            self.connection.flush_soon()

    async def send_when_room(self, message: Outgoing, deadline: float) -> Room:
        """Wait until the outbox takes a message, in the order in which senders came."""
        if self.send(message):
            return Room.TAKEN
        try:
            return await self._senders.wait(message, deadline)
        except asyncio.CancelledError:
            self.withdraw(message)
            raise

    def withdraw(self, message: Outgoing) -> bool:
        """Take back a message that was never written; False when it was."""
        withdrawn = self.session.withdraw(message)
        self._made_room()
        return withdrawn

    def _made_room(self) -> None:
        if self._senders:
            self._senders.let_in(self.session.put)
            if self.connection is not None and self.session.has_queued:
                self.connection.flush_soon()

    # -- reaching the peer

    def want(self) -> None:
        """Keep a connection to this peer from now on."""
        self._step(reach.Wanted())

    def judge(self, why: str | None) -> None:
        """Take the ring's verdict, which stands from now on: why the peer is down, or None when it is not.

        A connection to one that is down is made anew: the path may have forgotten it.
        """
        self._judged = True
        was_down, self.down, self._verdict = self.down, why is not None, why or ""
        if why is not None and not was_down:
            if self.connection is not None:
                self.connection.cut("the ring called it down")
            self._call_down(why)

    def release(self) -> None:
        """Dial no more: the peer has left, and says goodbye when it has sent all that it had."""
        self._judged = False
        self._step(reach.Unwanted())

    async def parted_by(self, deadline: float) -> None:
        """Wait until the peer has said goodbye, is wanted again, or until ``deadline``."""
        while not (self._said_farewell or self.wanted) and now() < deadline:
            self._changed.clear()
            with suppress(TimeoutError):
                await until(deadline, self._changed.wait())

    def hurry(self) -> None:
        """Dial now, if a dial is due later: there is reason to think that the peer is back."""
        self._step(reach.Hurry())

    def _step(self, event: reach.Event) -> None:
        effects = self._reach.step(event, now())
        if not self._judged:
            self.down = self._reach.down
        for effect in effects:
            match effect:
                case reach.Dial():
                    self._dial = self._tasks.spawn(self._dial_once(), "dial")
                case reach.CallDown(why=why) if not self._judged:
                    self._call_down(why)
        self._arm()

    def _call_down(self, why: str) -> None:
        if self.role is Role.NODE:
            logger.info("node %s is down: %s", self.peer, why)
        self._look_again()  # before room is made for them
        self._up.down(self, why)

    def _look_again(self) -> None:
        """Wake all who wait for this link: it opened, is down, or is closing."""
        self._changed.set()
        self._senders.turn_away()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := self._reach.next_deadline) is not None and not self._forgotten:
            self._timer = asyncio.get_running_loop().call_at(at, self._step, reach.Tick())

    async def _dial_once(self) -> None:
        peer = self.peer
        try:
            stream, proven = await self._links.dial(self.peer.host, self.peer.port, self.peer.name, self._challenged)
        except (OSError, ClusterError) as error:
            self.challenged_at = None
            self._dial_failed(peer, error)
            return
        try:
            await self.carry(stream, proven, dialled=True)
        finally:
            self.challenged_at = None

    def _challenged(self) -> None:
        self.challenged_at = now()

    def _dial_failed(self, peer: NodeId, error: OSError | ClusterError) -> None:
        if self.open:
            return
        if self._judged:
            self._up.unreached(self, peer, error)
        elif isinstance(error, PeerLeaving):
            self._step(reach.Parted("leaving"))
            return
        elif isinstance(error, _FINAL) and not (isinstance(error, OldIncarnation) and not error.known):
            self._up.refused(self, error)
            self._step(reach.Parted(str(error)))  # it may still dial us
            return
        if isinstance(error, AuthFailed) and not self._mismatch_told:
            self._mismatch_told = True
            logger.warning("node %s does not take this node's cookie: %s", self.peer, error)
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
        if dialled and self._is_second_dial():
            stream.abort()
            self._never_opened(Ended("another dial is opening"), dialled=True)
            return
        connection = self._connection(stream, proven, dialled=dialled)
        if dialled:
            self._finish_closing()
            self._meet(proven.peer.boot)
            connection.start(self.session)
            self._told = self.session
        self._opening[connection] = now()
        try:
            end = await self._run(connection)
        finally:
            self._opening.pop(connection, None)
            self._changed.set()
        if end.forged:
            self._links.counters["invalid_checksum"] += 1
        if connection is self.connection:
            self._ended(end)
        elif not self.open:
            self._never_opened(end, dialled=dialled)

    def _connection(self, stream: Stream, proven: Proven, *, dialled: bool) -> Connection:
        channel = Channel(
            proven.keys,
            initiator=dialled,
            most=self._links.config.message_limit,
            health=self._links.health,
            expects_reply=lambda: bool(self.waiting),
        )
        boot, openings = proven.peer.boot, self._openings
        return Connection(
            stream,
            channel,
            cookie=proven.cookie,
            dialled=dialled,
            resumed=lambda which, theirs: self._resumed(which, theirs, boot, openings),
            deliver=lambda messages: self._up.delivered(self, messages),
            progressed=self._made_room,
        )

    async def _run(self, connection: Connection) -> Ended:
        opening = asyncio.get_running_loop().call_later(self._links.config.handshake_timeout, self._late, connection)
        try:
            return await connection.run()
        finally:
            opening.cancel()

    def _late(self, connection: Connection) -> None:
        if connection in self._opening:
            connection.cut("no RESUME in time")

    def _resumed(self, connection: Connection, theirs: Resume, boot: int, openings: int) -> None:
        """Open: of all connections to this peer the newest stays. ``openings`` had opened when it was proven."""
        self._refuse_late(connection, boot, openings)
        if not connection.dialled and self._dial is not None and not self.open:
            self._dial.cancel()
        self._give_up_others(connection, "another connection opened")
        self._meet(boot)
        before = self.session.peer
        lost = connection.channel.open(self.session, theirs)
        self._opening.pop(connection, None)
        self.connection = connection
        self._said_farewell = False
        self._openings += 1
        connection.open = True
        self.challenged_at = None
        self._mismatch_told = False
        self.most_body = min(self._links.config.message_limit, theirs.most) - OVERHEAD
        self._links.attached(self)
        if before not in (0, self.session.peer):
            self._up.session_ended(self, lost, [], "the peer ended the session")
        if lost:
            self._up.closed(self, "the peer ended the session", _count(lost))
        if over := self.session.withdraw_over(self.most_body):
            self._up.too_large(self, over)
        self._step(reach.Opened())
        self._made_room()
        connection.flush_soon()
        self._changed.set()
        self._up.opened(self)

    def _refuse_late(self, connection: Connection, boot: int, openings: int) -> None:
        """Raise `CrossedDials` for a connection that something overtook since it was proven."""
        name = self.peer.name
        if self._forgotten:
            raise CrossedDials(f"{name} was forgotten meanwhile")
        if self.role is Role.NODE and boot < self._links.known_boot(name):
            raise CrossedDials(f"a later incarnation of {name} was admitted meanwhile")
        if not self._links.accepts(connection.cookie):
            raise CrossedDials("its cookie was withdrawn meanwhile")
        if not connection.dialled and openings != self._openings:
            raise CrossedDials("another connection opened meanwhile: what it says of the session may be old")
        if not connection.dialled and self._is_crossed(boot):
            raise CrossedDials(f"our own connection to {name} is opening")

    def _is_crossed(self, boot: int) -> bool:
        """Whether both sides sent RESUME on a dial of their own: the one by the lower name stays.

        Else each would close its own for the other's, and both would be lost. A dial that is not
        open soon spares nothing: its other end may be gone.
        """
        late = now() - CROSSING
        resuming = any(each.dialled and not each.closed and since > late for each, since in self._opening.items())
        lower = self._links.me.name < self.peer.name
        return resuming and lower and not self.open and boot == self.peer.incarnation

    def _give_up_others(self, but: Connection | None, why: str) -> None:
        """Cut all connections but one, and those that only open; the session goes on without them."""
        if self.connection is not None and self.connection is not but:
            self._heard_at = self.heard_at
            self.connection.cut(why)
            self.connection = None
        for each in self._opening:
            if each is not but:
                each.cut(why)

    def _finish_closing(self) -> None:
        """Cut a connection that has said goodbye: what it brought after our RESUME would not be in its count."""
        if (closing := self.connection) is not None:
            closing.cut("another connection opens")
            self._ended(Ended("another connection opens"))

    def _is_second_dial(self) -> bool:
        """Whether a dial of ours is opening; one that has not opened in a second is given up for the new one.

        One RESUME of ours is under way at a time: the peer could not tell which of two is older.
        """
        dials = [each for each in self._opening if each.dialled and not each.closed]
        if any(now() - self._opening[each] < CROSSING for each in dials):
            return True
        for each in dials:
            each.cut("dialled anew")
        return False

    def _meet(self, boot: int) -> None:
        """Take note of the incarnation that proved itself: another one gets what was never written."""
        if boot != self.peer.incarnation:
            if self.peer.incarnation and (lost := self._end_session("restarted", to_next=True)):
                self._up.closed(self, "restarted", lost)
            self.peer = self.peer.with_incarnation(boot)

    def _ended(self, end: Ended) -> None:
        """Take note that the open connection ended; the session waits for the next one, if it may."""
        self._heard_at = self.heard_at
        self.connection = None
        logger.debug("link to %s ended: %s", self.peer, end.why)
        for_good = end.goodbye if end.goodbye is not Reason.AGAIN else None
        lost = self._end_session(end.why) if for_good or end.broken else 0
        self._up.closed(self, end.why, lost)
        if for_good:
            self._said_farewell = True
            self._step(reach.Lost(end.why) if self._judged else reach.Parted(end.why))
            self._up.parted(self, for_good)
            return
        if self.resumable:
            self._links.detached(self)
        self._step(reach.Lost(end.why, silent=end.silent, again=end.goodbye is Reason.AGAIN))

    def _never_opened(self, end: Ended, *, dialled: bool) -> None:
        if end.broken and (lost := self._end_session(end.why)):
            self._up.closed(self, end.why, lost)
        if self._reach.open and self.connection is None:  # the open one had been given up for it
            self._step(reach.Lost(end.why))
        elif dialled:
            self._step(reach.DialFailed(refused=False, why=end.why))
        if self.resumable and self.connection is None:
            self._links.detached(self)

    # -- the session

    def end_session(self, why: str) -> None:
        """End the session, with the connections that carry it; the next connection begins another."""
        self._give_up_others(None, why)
        self._up.closed(self, why, self._end_session(why))

    def _end_session(self, why: str, *, to_next: bool = False) -> int:
        """Report what is in doubt and what was never sent; return how many are in doubt.

        With ``to_next`` what was never sent and is addressed by name stays queued, for
        the next incarnation.
        """
        written, queued = self.session.end()
        self.session = self._links.new_session()
        self._links.attached(self)
        refused = [each for each in queued if not (to_next and each.by_name and self.session.put(each))]
        self._senders.turn_away()  # what is for the earlier incarnation alone must not come into this one
        self._up.session_ended(self, written, refused, why)
        return _count(written)

    # -- the end

    def cookies_changed(self) -> None:
        """Make the link anew if its cookie was withdrawn; the session goes on."""
        for each in self._opening:
            if not self._links.accepts(each.cookie):
                each.cut("its cookie was withdrawn")
        if (connection := self.connection) is not None and not self._links.accepts(connection.cookie):
            self._tasks.spawn(connection.part(Reason.AGAIN), "another cookie")

    async def part(self, reason: Reason, deadline: float) -> None:
        """Say goodbye and forget the peer; what it does not have by ``deadline`` is reported.

        While there is no connection, or when it breaks before the peer has heard it, the next one says it.
        """
        await self.settle(deadline)
        while not await self._said_goodbye(reason, deadline):
            await self.settle(deadline)
        await self.forget("left" if reason == Reason.LEAVE else "stopped")

    async def _said_goodbye(self, reason: Reason, deadline: float) -> bool:
        """Say it; False when it may have been in vain and there is another connection."""
        connection = self.connection
        said = connection is not None and connection.open and await connection.part(reason)
        return said or not await self._comes_back(deadline)

    async def settle(self, deadline: float) -> None:
        """Take nothing new, and wait until the peer has all, or until ``deadline``.

        A connection that breaks meanwhile may come back and go on with what is left.
        """
        self.parting = True
        self._judged, self.down = False, self.down or self._reach.down  # the ring may judge no more
        self._senders.turn_away()
        while not await self._settled(deadline):
            pass

    async def _settled(self, deadline: float) -> bool:
        """Wait until the peer has all, or nothing more can be done; False when it is to be looked at again."""
        if self.connection is not None and await self.connection.settled(deadline):
            return True
        return not len(self.session) or not await self._comes_back(deadline)

    async def _comes_back(self, deadline: float) -> bool:
        """Wait until a connection opens, or something else changes; False when nothing can be hoped for any more."""
        out_of_reach = not self._reach.wanted or (self.down and not self._opening)
        if out_of_reach or now() >= deadline:
            return False
        self._changed.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def forget(self, why: str) -> None:
        """End all that belongs to this peer, now."""
        self._forgotten = self.parting = True
        self._step(reach.Unwanted())
        self._look_again()
        was_open = self.connection is not None
        self._give_up_others(None, why)
        if (lost := self._end_session(why)) or was_open:
            self._up.closed(self, why, lost)
        await self._tasks.aclose()

    async def alive(self, timeout: float) -> bool:
        """Whether the open connection answers a PING within ``timeout`` seconds."""
        return self.connection is not None and await self.connection.alive(timeout)

    def moved(self, node: NodeId) -> None:
        """Take the address that the peer announced itself."""
        if (node.name, node.incarnation) == (self.peer.name, self.peer.incarnation):
            self.peer = replace(self.peer, host=node.host, port=node.port)


def _count(messages: list[Outgoing]) -> int:
    """How many of them somebody sent; what keeps the ring is no loss, and a notice none."""
    return sum(message.lane != Lane.CONTROL and not message.is_notice for message in messages)
