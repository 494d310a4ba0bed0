"""`GossipRing`: the ring of members, as users call it from code; ``node.ring`` is one.

The ways in and out of a ring, changes to it, look-ups, events. What is decided about
members is decided in `clusterkit.core.membership`; docs/membership.md has the guarantees.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId, check_name
from clusterkit.core.members import Member, MemberJoined, RingChanged
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import (
    Accepted,
    Announce,
    Begun,
    Effect,
    Insert,
    Invited,
    Leave,
    LeaveKnown,
    Notify,
    Ready,
    Remove,
    Renew,
    Reweigh,
    Stopped,
)
from clusterkit.core.ring_entries import checked_weight
from clusterkit.core.ring_frames import Full, Verdict
from clusterkit.core.tokens import Key
from clusterkit.errors import (
    AlreadyInRing,
    ConfigError,
    JoinTimeout,
    NameConflict,
    UnknownNode,
    UsageError,
)
from clusterkit.kernel.events import LinkDown, LinkUp
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.discovery import Seeds, Which, check_seeds, name_of, parse_node, parse_seed, read_environment
from clusterkit.ring.driver import Driver
from clusterkit.ring.health import Check, watch_health
from clusterkit.ring.keeping import Keeping
from clusterkit.ring.key_ring import MOVING, KeyRing
from clusterkit.ring.presence import Presence
from clusterkit.ring.seeker import Seeker
from clusterkit.ring.subscribers import EventStream, RingEvent, Subscribers
from clusterkit.runtime import Tasks, now, rng, until, wall_time

logger = logging.getLogger("clusterkit.ring")

E = TypeVar("E")
_MESH = 256  # members that a full mesh is made for
_LEAVE = 2.0  # seconds that all members have to know that this node leaves


class GossipRing:
    """The members of the ring that this node is in, and the ways in and out."""

    def __init__(self, kernel: Kernel, keeping: Keeping) -> None:
        self._kernel = kernel
        self._keeping = keeping
        self._tasks = Tasks(f"ring/{kernel.id.name}")
        self._subscribers = Subscribers()
        self.presence = Presence(self._announce)
        """What this node tells of itself, and who follows the members: for services."""
        self._keys = KeyRing(self.member)
        self._keys.follow(kernel.id.name)  # outside a ring it owns all keys
        self._seen: dict[str, None] = {}  # the members that keys and services follow
        self._moving = False  # it may have changed in this turn
        self._driver: Driver | None = None
        self._seeker = Seeker(kernel, self._outbid)
        self._joined_before = False
        self._ready = True
        self._accepted: dict[str, None] = {}
        self._left = asyncio.Event()
        self._changing = asyncio.Lock()  # one incarnation is taken at a time
        kernel.events.on(LinkUp, self._subscribers.tell)
        kernel.events.on(LinkDown, self._subscribers.tell)

    # -- what is known

    @property
    def id(self) -> str:
        """The ring's id; empty outside a ring."""
        return self._kernel.links.me.ring if self._running() is not None else ""

    @property
    def members(self) -> list[Member]:
        """All members by name, this node and those that are down included, with what is believed of each."""
        running = self._running()
        return list(running.members.values()) if running is not None else [self._alone()]

    @property
    def nodes(self) -> list[NodeId]:
        """All members' ids by name."""
        return [member.node for member in self.members]

    def get(self, node: Which) -> NodeId | None:
        """The member of that name, or None."""
        member = self.member(node)
        return member.node if member else None

    def member(self, node: Which) -> Member | None:
        """The member of that name, with what is believed of it, or None."""
        name, running = name_of(node), self._running()
        if running is not None:
            return running.members.get(name)
        return self._alone() if name == self._kernel.id.name else None

    def _alone(self) -> Member:
        return Member(self._kernel.id, ready=self._ready, meta=self.presence.meta)

    def has(self, node: Which) -> bool:
        """Whether a node is in the ring, down or not."""
        return self.member(node) is not None

    def __contains__(self, node: object) -> bool:
        return isinstance(node, NodeId | str) and self.has(node)

    def __len__(self) -> int:
        return len(self.members)

    def weight(self, node: Which) -> int:
        """The weight of a member; raises `UnknownNode`."""
        return self._known(node).weight

    @property
    def weights(self) -> dict[str, int]:
        """The weights of all members by name."""
        return {member.name: member.weight for member in self.members}

    def quorum(self, least: int | None = None) -> bool:
        """Whether at least ``least`` members, or else more than half of all, are alive as seen from here.

        Members that are down count to "all" until they are removed. Nothing is asked: it is
        what this node believes now, and two sides of a partition may each believe it for the
        seconds of detection.
        """
        members = self.members
        alive = sum(not member.is_out for member in members)
        return alive >= least if least is not None else 2 * alive > len(members)

    def _running(self) -> Membership | None:
        """The machine of the ring that this node is in, or None."""
        driver = self._driver
        return None if driver is None or driver.membership.stopped is not None else driver.membership

    def _known(self, node: Which) -> Member:
        if (member := self.member(node)) is None:
            raise UnknownNode(f"no member is named {name_of(node)!r}")
        return member

    # -- who owns a key

    def find(self, key: Key, *, alive: bool = False) -> NodeId:
        """The member that owns a key; with ``alive`` the first in order that is up and ready.

        Raises `EmptyRing` when ``alive`` and none is.
        """
        return self._keys.find(key, alive=alive)

    def range(self, key: Key, n: int = 3, *, alive: bool = False) -> tuple[NodeId, ...]:
        """The first ``n`` members in the preference order of a key; fewer when there are fewer."""
        return self._keys.range(key, n, alive=alive)

    def next(self, node: Which, n: int = 2) -> tuple[NodeId, ...]:
        """The members that follow one on the ring; raises `UnknownNode`."""
        return self._keys.hashes.next(name_of(node), n)

    def prev(self, node: Which, n: int = 2) -> tuple[NodeId, ...]:
        """The members that precede one on the ring; raises `UnknownNode`."""
        return self._keys.hashes.prev(name_of(node), n)

    # -- events

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every event of a type, at once and in order; returns what ends it.

        The types: `MemberJoined`, `MemberUp`, `MemberSuspect`, `MemberDown`, `MemberLeft`, `MemberRemoved`,
        `MemberUpdated`, `RingChanged`, `LinkUp`, `LinkDown`, and `NameConflict`, the error itself.
        """
        if kind is RingChanged:
            self._note_owners()
        return self._subscribers.on(kind, told)

    def events(self, *, most: int = 1_000) -> EventStream[RingEvent]:
        """All events from now on, for ``async for``; who lets more than ``most`` wait gets a `Lagged`."""
        self._note_owners()
        return self._subscribers.stream(most)

    def _notify(self, event: Notify) -> None:
        told = event.event
        name = told.member.name
        if isinstance(told, MemberJoined) and len(self) == _MESH + 1:
            logger.warning("ring %s has over %d members: more than a full mesh is made for", self.id, _MESH)
        if isinstance(told, MOVING) and not self._moving and self._subscribers.wants(RingChanged):
            self._moving = True
            self._kernel.loop.call_soon(self._tell_what_moved)
        self._look_at(name)
        self._subscribers.tell(told)

    def _look_at(self, *names: str) -> None:
        for name in names:
            self._keys.follow(name)
            self._seen[name] = None
            if self.member(name) is None:
                del self._seen[name]
            self.presence.changed(name)

    def _tell_what_moved(self) -> None:
        """Tell once of all that changed in this turn."""
        self._moving = False
        if moved := self._keys.moved():
            self._subscribers.tell(RingChanged(moved))

    def _note_owners(self) -> None:
        """Begin to compare, with what is now, when the first one listens."""
        if not self._subscribers.wants(RingChanged):
            self._keys.note()

    # -- in

    async def join(self, ring_id: str | None = None, seeds: Seeds = (), timeout: float = 10.0) -> None:
        """Enter a ring through any of its members.

        ``seeds`` are ``host:port``, ``name@host:port`` or ``dns+tcp://host:port`` (all addresses of the
        name), or a callable that returns them. Without ``ring_id`` CLUSTERKIT_RING and CLUSTERKIT_SEEDS
        say both. Returns when a member took this node in; without seeds at once, as a ring of one,
        or of the members that the state directory knows.

        Raises `JoinTimeout` when none did in ``timeout`` seconds (the node is a ring
        of one, dials on, and may be told to join again); `NameConflict` at once;
        `WrongRing`, `VersionMismatch` or `AuthFailed` when every seed refused for
        good, and then the node is in no ring; `AlreadyInRing`, `ConfigError`.
        """
        if ring_id is None:
            settings = read_environment(os.environ)
            ring_id, seeds = settings.ring, seeds or settings.seeds
        if ring_id is None:
            raise ConfigError("no ring id: give join('my-ring') or set CLUSTERKIT_RING")
        seeds = self._check_join(ring_id, seeds, timeout)
        if self.id != ring_id:
            async with self._changing:
                await self._enter(ring_id, has_seeds=bool(seeds))
        if seeds:
            self._seeker.add(seeds, lambda: self.nodes)
        if self._seeker.searching:
            await self._joined(ring_id, timeout)

    def _check_join(self, ring_id: str, seeds: Seeds, timeout: float) -> Seeds:
        if self._kernel.closed:
            raise UsageError(f"node {self._kernel.id.name} is closed")
        self._kernel.check_loop()
        check_name(ring_id, "ring id")
        seeds = check_seeds(seeds)
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout!r}: it must be a positive number of seconds")
        if self.id and (self.id != ring_id or self._seeker.accepted.is_set() or not self._seeker.searching):
            raise AlreadyInRing(f"node {self._kernel.id.name} is in ring {self.id!r}: `await node.ring.leave()` first")
        if not self.id:
            self._keeping.check(ring_id)
        return seeds

    async def _enter(self, ring_id: str, *, has_seeds: bool) -> None:
        await self._seek_no_more()
        saved = self._keeping.load() if not self._joined_before else None
        await self._quit(save=False)
        if self._joined_before:
            await self._renew(0)
        self._joined_before = True
        self._set_ring(ring_id)
        self._begin(saved, seeds=has_seeds or (saved is not None and len(saved.entries) > 1))

    def _begin(self, saved: Full | None, *, seeds: bool) -> None:
        config = self._kernel.config
        membership = Membership(
            self._kernel.id,
            rng(f"ring:{self._kernel.id.name}"),
            wall_time,
            meta=self.presence.packed,
            timers=config.timers,
            auto_remove_after=config.auto_remove_after,
        )
        self._accepted.clear()
        self._left.clear()
        self._driver = self._kernel.inbound.ring = Driver(self._kernel, membership, self._keeping, self._follow)
        self._driver.step(Begun(saved, seeds))
        self._driver.step(Ready(self._ready))

    def _set_ring(self, ring_id: str) -> None:
        self._kernel.links.me = replace(self._kernel.links.me, ring=ring_id)

    async def _renew(self, after: int) -> None:
        await self._kernel.renew(await self._keeping.draw(max(after, self._kernel.id.incarnation)))

    async def _outbid(self, known: int) -> None:
        """Begin again above ``known``, a later incarnation of this name, before anybody took this one in."""
        async with self._changing:
            running = self._running()
            if running is None or running.settled or known < self._kernel.id.incarnation:
                return
            others = [member for member in running.members.values() if member.name != self._kernel.id.name]
            inserted = [member for member in others if not member.node.incarnation]
            await self._quit(save=False)
            await self._renew(known)
            self._begin(None, seeds=True)
            if met := [member.node.address for member in others if member.node.incarnation]:  # from the state file
                self._seeker.add(met, lambda: self.nodes)
            assert self._driver is not None
            for member in inserted:  # what the user did meanwhile
                self._driver.step(Insert(member.node, member.weight))

    async def _joined(self, ring_id: str, timeout: float) -> None:
        deadline, seeker = now() + timeout, self._seeker
        while not seeker.accepted.is_set():
            left = self._kernel.links.me.ring != ring_id or self._seeker is not seeker
            if left and seeker.fatal is None:
                raise UsageError(f"node {self._kernel.id.name} left ring {ring_id!r} while it was joining")
            if seeker.fatal is not None or not seeker.searching:
                await self._refused(seeker)
                return
            seeker.news.clear()
            try:
                await until(deadline, seeker.news.wait())
            except TimeoutError:
                me = self._kernel.id.name
                raise JoinTimeout(
                    f"no seed took {me} into ring {ring_id!r} within {timeout:g} s ({seeker.tried}); dialling goes on"
                ) from None

    async def _refused(self, seeker: Seeker) -> None:
        """Nobody will have us: be in no ring, unless no seed was another node at all."""
        if (error := seeker.refusal) is None:
            return
        async with self._changing:
            await self._seek_no_more()
            await self._quit(save=False)
            self._set_ring("")
        raise error

    # -- out

    async def leave(self, timeout: float = _LEAVE) -> None:
        """Leave the ring: tell every live member, send what is queued, say goodbye. Does nothing outside a ring.

        Takes at most ``timeout`` seconds until they know, as long again for what is queued, and a
        second for the goodbye. `join` may follow.
        """
        self._kernel.check_loop()
        async with self._changing:
            if self._driver is None:
                return
            await self._seek_no_more()
            await self.presence.hand_over(now() + timeout)
            await self._say_leave(now() + timeout)
            self._set_ring("")
            await self._kernel.links.part_all(Reason.LEAVE, now() + timeout)
            await self._quit(save=False)
            await self._keeping.clear()

    async def _seek_no_more(self) -> None:
        """End the search for seeds, and whoever waits for it."""
        seeker, self._seeker = self._seeker, Seeker(self._kernel, self._outbid)
        await seeker.aclose()
        seeker.news.set()

    async def _say_leave(self, deadline: float) -> None:
        if self._running() is not None and self._driver is not None:
            self._driver.step(Leave())
            with suppress(TimeoutError):
                await until(deadline, self._left.wait())

    async def _quit(self, *, save: bool) -> None:
        driver, self._driver = self._driver, None
        self._kernel.inbound.ring = None
        if driver is not None:
            self._look_at(*self._seen)
            await driver.aclose(save=save)

    async def aclose(self, *, leave: bool, deadline: float) -> None:
        """Leave, or only stop; end the ring's tasks. A node that is closing meets nobody."""
        async with self._changing:
            await self._seek_no_more()
            if leave:
                await self._say_leave(min(deadline, now() + _LEAVE))
            await self._quit(save=not leave)
            await self._tasks.aclose()
            if leave:
                await self._keeping.clear()
        self._subscribers.close()

    # -- changes

    async def meet(self, node: Which, timeout: float = 10.0) -> None:
        """Meet the node at an address (``host:port`` or ``name@host:port``), and merge its ring with this one.

        Both are in rings of one id. Raises what refused it (`WrongRing`, `NotInRing`, ...),
        `JoinTimeout`, or the `OSError` of the dial.
        """
        driver = self._in_ring()
        seed = parse_seed(str(node))
        deadline = now() + timeout
        link = await self._kernel.links.dial_seed(seed.host, seed.port, seed.name)
        name = link.peer.name
        if link.open and self.has(name):  # as before: this dial was one too many
            return
        self._accepted.pop(name, None)
        while name not in self._accepted:
            driver.stepped.clear()
            try:
                await until(deadline, driver.stepped.wait())
            except TimeoutError:
                raise JoinTimeout(f"{name} did not answer within {timeout:g} s") from None

    async def insert(self, *nodes: Which, weight: int | None = None) -> None:
        """Put nodes into the ring, ``name@host:port`` or `NodeId`; each is dialled, and let in when it runs.

        One that was removed and still runs is invited to join again. A node in another ring, or in
        none, stays down with that reason. For a member only the weight is set. Raises
        `UsageError` when a member of that name has another address.
        """
        driver = self._in_ring()
        parsed = [parse_node(node) for node in nodes]
        if weight is not None:
            checked_weight(weight)
        for node in parsed:
            if (known := self.get(node)) is not None and known.address != node.address:
                raise UsageError(f"{node.name!r} is a member at {known.address}, not {node.address}: remove it first")
        for node in parsed:
            driver.step(Insert(node, weight))

    async def remove(self, *nodes: Which) -> None:
        """Take members out of the ring, whether they run or not; one that runs is told, and stops taking part.

        Raises `UnknownNode`, and nothing is removed; `UsageError` for this node itself: `leave` does that.
        """
        driver = self._in_ring()
        names = [self._known(node).name for node in nodes]
        if self._kernel.id.name in names:
            raise UsageError("a node does not remove itself: `await node.ring.leave()`")
        for name in names:
            driver.step(Remove(name))

    async def update(self, node: Which, *, weight: int) -> None:
        """Give a member another weight, 1 to 1,000: its part of the keys. Raises `UnknownNode`, `ConfigError`."""
        driver = self._in_ring()
        driver.step(Reweigh(self._known(node).name, checked_weight(weight)))

    def _in_ring(self) -> Driver:
        if self._kernel.closed:
            raise UsageError(f"node {self._kernel.id.name} is closed")
        self._kernel.check_loop()
        if self._running() is None or self._driver is None:
            raise UsageError(f"node {self._kernel.id.name} is in no ring: `await node.ring.join(...)` first")
        return self._driver

    async def converged(self, timeout: float = 5.0) -> None:
        """Wait until every live member has said that it knows and believes what this node does.

        Raises `NotConverged`, which names those that differ.
        """
        await self._in_ring().agreed(timeout)

    # -- health

    @property
    def ready(self) -> bool:
        """Whether this node says that it is ready: look-ups with ``alive=True`` skip one that is not."""
        return self._ready

    def set_ready(self, ready: bool) -> None:
        """Tell the others whether this node is ready for work. It is, unless told otherwise."""
        self._ready = ready
        self._tell(Ready(ready))

    def announce(self, key: str, value: Any) -> None:
        """Tell all members a value of this node, which they read in `Member.meta`; None takes it back.

        It is told in every ring that this node joins. Keys and values take 4,096 bytes together, packed: raises
        `UsageError` past that, `UnsupportedPayload`, `ConfigError` for a key that is taken.
        """
        self.presence.announce(key, value)

    def _announce(self, packed: bytes) -> None:
        self._tell(Announce(packed))

    def _tell(self, event: Ready | Announce) -> None:
        """Tell the others something of this node; outside a ring it is told at the next join."""
        if self._running() is not None and self._driver is not None:
            self._driver.step(event)
        self._look_at(self._kernel.id.name)

    def check_health(self, check: Check, interval: float = 1.0) -> None:
        """Ask ``check`` every ``interval`` seconds whether this node is ready, until the node closes.

        One that raises, or takes longer than ``interval``, is an answer too: not ready.
        """
        if not interval > 0:
            raise ConfigError(f"interval is {interval!r}: it must be a positive number of seconds")
        self._tasks.spawn(watch_health(check, interval, self.set_ready), "health")

    # -- what the machine says

    def _follow(self, effect: Effect) -> None:
        match effect:
            case Notify():
                self._notify(effect)
            case Accepted(name=name):
                self._accepted[name] = None
                self._seeker.accepted.set()
                self._seeker.news.set()
            case Renew(after=after):
                self._tasks.spawn(self._outbid(after), "renew")
            case Stopped(verdict=verdict):
                self._stopped(verdict)
            case Invited(name=name):
                self._tasks.spawn(self._join_again(name), "invited")
            case LeaveKnown():
                self._left.set()

    def _stopped(self, verdict: Verdict) -> None:
        me = self._kernel.id.name
        self._look_at(*self._seen)
        self._tasks.spawn(self._seek_no_more(), "stop seeking")
        if verdict is Verdict.SUPERSEDED:
            logger.error("node %s is out of ring %s: another process has its name", me, self._kernel.links.me.ring)
            self._seeker.fatal = NameConflict(f"another live node is named {me!r}")  # for a `join` that waits
            self._subscribers.tell(self._seeker.fatal)
        else:
            logger.warning("node %s was removed from ring %s", me, self._kernel.links.me.ring)

    async def _join_again(self, name: str) -> None:
        """Somebody inserted this node, which had been removed: join through the one that says so."""
        async with self._changing:
            link = self._kernel.links.get(name)
            if self._driver is not None and link is not None and link.peer.port:  # it has not left meanwhile
                peer = link.peer
                logger.info("node %s is invited by %s, and joins again", self._kernel.id.name, name)
                await self._enter(self._kernel.links.me.ring, has_seeds=True)
                self._seeker.add((str(peer),), lambda: self.nodes)
