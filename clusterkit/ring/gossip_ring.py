"""`GossipRing`: the ring of members, as users call it from code.

``node.ring`` is one. It drives `clusterkit.core.roster` and carries out what that
says: whom to meet, what to tell, whom to forget.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from clusterkit.core import roster
from clusterkit.core.backoff import Backoff
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId, check_name, parse_host_port
from clusterkit.core.roster import Member, Roster
from clusterkit.errors import (
    AlreadyInRing,
    AuthFailed,
    ClusterError,
    ConfigError,
    DialledSelf,
    JoinError,
    JoinTimeout,
    NameConflict,
    NotInRing,
    OldIncarnation,
    ProtocolError,
    UsageError,
    WrongNode,
)
from clusterkit.kernel.kernel import Kernel
from clusterkit.runtime import Tasks, now, rng, until
from clusterkit.transport.link import Link

logger = logging.getLogger("clusterkit.ring")

_MISTRUSTED = 3  # closes after our proof, and no other answer, until a seed's cookie is taken to be another


class GossipRing:
    """The members of the ring that this node is in, and the ways in and out."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._tasks = Tasks(f"ring/{kernel.id.name}")
        self._roster = Roster(kernel.id)
        self._dialling: dict[str, None] = {}  # seeds that are still tried
        self._failures: dict[str, JoinError] = {}
        self._fatal: JoinError | None = None
        self._accepted = asyncio.Event()
        self._news = asyncio.Event()
        self._was_in_ring = False

    # -- what is known

    @property
    def id(self) -> str:
        """The ring's id; empty outside a ring."""
        return self._kernel.links.me.ring

    @property
    def nodes(self) -> list[NodeId]:
        """All members by name, this node and those that are down included."""
        return self._roster.nodes

    @property
    def members(self) -> list[Member]:
        """All members by name, each with what is believed of it."""
        return self._roster.members

    def get(self, name: str) -> NodeId | None:
        """The member of that name, or None."""
        member = self._roster.get(name)
        return member.node if member else None

    def __contains__(self, node: object) -> bool:
        name = node.name if isinstance(node, NodeId) else node
        return isinstance(name, str) and self._roster.get(name.partition("@")[0]) is not None

    def __len__(self) -> int:
        return len(self._roster.members)

    # -- in

    async def join(self, ring_id: str, seeds: Iterable[str] = (), timeout: float = 10.0) -> None:
        """Enter a ring through any of its members.

        ``seeds`` are ``host:port`` or ``name@host:port``. Returns when one of them took
        this node in; without seeds at once, as a ring of one that accepts others.

        Raises `JoinTimeout` when none did in ``timeout`` seconds (the node is a ring
        of one, dials on, and may be told to join again); `NameConflict` at once;
        `WrongRing`, `VersionMismatch` or `AuthFailed` when every seed refused for
        good, and then the node is in no ring; `AlreadyInRing`, `ConfigError`.
        """
        addresses = self._check_join(ring_id, seeds, timeout)
        if self.id != ring_id:
            await self._enter(ring_id)
        for seed, (name, host, port) in addresses.items():
            if seed not in self._dialling:
                self._dialling[seed] = None
                self._tasks.spawn(self._dial_seed(seed, name, host, port), f"seed {seed}")
        if self._dialling:
            await self._joined(timeout)

    def _check_join(self, ring_id: str, seeds: Iterable[str], timeout: float) -> dict[str, tuple[str | None, str, int]]:
        if self._kernel.closed:
            raise UsageError(f"node {self._kernel.id.name} is closed")
        self._kernel.check_loop()
        check_name(ring_id, "ring id")
        if isinstance(seeds, str):
            raise ConfigError(f"seeds is a sequence of addresses, not one str: [{seeds!r}]")
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout!r}: it must be a positive number of seconds")
        if self.id and (self.id != ring_id or self._accepted.is_set() or not self._dialling):
            raise AlreadyInRing(f"node {self._kernel.id.name} is in ring {self.id!r}: `await node.ring.leave()` first")
        return {seed: _parse_seed(seed) for seed in seeds if not self._is_me(seed)}

    def _is_me(self, seed: str) -> bool:
        name, host, port = _parse_seed(seed)
        me = self._kernel.id
        return (host, port) == (me.host, me.port) and name in (None, me.name)

    async def _enter(self, ring_id: str) -> None:
        if self._was_in_ring:
            await self._kernel.renew()
        self._was_in_ring = True
        self._accepted.clear()
        self._fatal = None
        self._failures.clear()
        self._roster = Roster(self._kernel.id)
        self._set_ring(ring_id)

    def _set_ring(self, ring_id: str) -> None:
        self._kernel.links.me = replace(self._kernel.links.me, ring=ring_id)

    async def _joined(self, timeout: float) -> None:
        deadline, ring_id = now() + timeout, self.id
        while not self._accepted.is_set():
            if self.id != ring_id:
                raise UsageError(f"node {self._kernel.id.name} left ring {ring_id!r} while it was joining")
            if self._fatal is not None or not self._dialling:
                error = self._fatal or next(iter(self._failures.values()), None)
                await self._drop_out()
                if error is not None:
                    raise error
                return
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                tried = "; ".join(f"{seed}: {why}" for seed, why in self._failures.items()) or "no answer"
                raise JoinTimeout(
                    f"no seed took {self._kernel.id.name} into ring {self.id!r} within {timeout:g} s ({tried}); dialling goes on"
                ) from None

    async def _drop_out(self) -> None:
        """Nobody will have us: be in no ring, unless no seed was another node at all."""
        if self._fatal is None and not self._failures:
            return  # all seeds were this node itself: a ring of one
        await self._tasks.aclose()
        self._dialling.clear()
        self._set_ring("")

    async def _dial_seed(self, seed: str, name: str | None, host: str, port: int) -> None:
        config = self._kernel.config
        backoff = Backoff(config.redial_first, config.redial_most, rng(f"seed:{seed}"))
        mistrusted = 0
        try:
            while not self._accepted.is_set() and self._fatal is None:
                try:
                    await self._kernel.links.dial_seed(host, port, name)
                    mistrusted = -_MISTRUSTED  # it has taken our cookie
                except DialledSelf as error:
                    if name is not None:
                        self._failures[seed] = WrongNode(f"dialled {name!r}, and {error}")
                    return
                except (OSError, ClusterError) as error:
                    mistrusted += type(error) is AuthFailed
                    guessing = type(error) is AuthFailed and mistrusted < _MISTRUSTED
                    if not guessing and await self._seed_failed(seed, error):
                        return
                with suppress(TimeoutError):
                    await until(now() + config.redial_first + backoff.next(), self._accepted.wait())
        finally:
            self._dialling.pop(seed, None)
            self._news.set()

    async def _seed_failed(self, seed: str, error: OSError | ClusterError) -> bool:
        """Take note of a failure; True when this seed is not to be tried again."""
        if isinstance(error, OldIncarnation) and error.known:
            await self._kernel.renew(error.known)
            self._roster = Roster(self._kernel.id)
            return False
        if isinstance(error, NameConflict):
            self._fatal = error
        if not isinstance(error, JoinError):
            error = NotInRing(str(error) or type(error).__name__)
        self._failures[seed] = error
        return not error.retryable

    # -- out

    async def leave(self, timeout: float = 2.0) -> None:
        """Leave the ring: send what is queued, say goodbye to every member. Does nothing outside a ring.

        Takes at most ``timeout`` seconds and a second for the goodbye. `join` may follow.
        """
        if not self.id:
            return
        self._kernel.check_loop()
        self._set_ring("")
        await self._tasks.aclose()
        self._dialling.clear()
        self._news.set()
        await self._kernel.links.part_all(Reason.LEAVE, now() + timeout)
        self._accepted.clear()
        self._roster = Roster(self._kernel.id)

    async def aclose(self) -> None:
        """End the ring's tasks and take no more news: a node that is closing meets nobody."""
        self._kernel.inbound.ring = None
        await self._tasks.aclose()

    def renamed(self) -> None:
        """Take note of this node's id: its port is known now."""
        self._roster = Roster(self._kernel.id)

    # -- from the kernel

    def link_opened(self, link: Link) -> None:
        """Introduce ourselves."""
        if self.id:
            self._step(roster.LinkOpened(link.peer.name))

    def ring_message(self, link: Link, payload: bytes) -> None:
        """Take membership news."""
        try:
            message = roster.unpack(payload)
        except ProtocolError as error:  # a payload fails alone: its envelope was good
            self._kernel.dead(self._kernel.id, "ring", f"{error}, from {link.peer.name}", "no")
            return
        if isinstance(message, roster.Hello):
            link.moved(message.node)
        if self.id:
            self._step(roster.Heard(link.peer.name, link.peer.incarnation, message))

    def link_down(self, link: Link, why: str) -> None:  # noqa: ARG002
        """Mark a member down."""
        self._step(roster.WentDown(link.peer.name))

    def link_parted(self, link: Link, reason: Reason) -> None:
        """Remove a member that left; mark one down that stopped."""
        self._step(roster.Parted(link.peer.name, link.peer.incarnation, reason is Reason.LEAVE))

    def link_refused(self, link: Link, error: JoinError) -> None:
        """A member will not have us."""
        logger.warning("member %s refuses this node: %s", link.peer.name, error)

    def _step(self, event: roster.Event) -> None:
        for effect in self._roster.step(event):
            match effect:
                case roster.Tell(name=name, message=message):
                    if (link := self._kernel.links.get(name)) is not None:
                        self._tell(link, message)
                case roster.Meet(node=node):
                    if self._kernel.links.link_to(node).down:  # it was called down before it was known
                        self._step(roster.WentDown(node.name))
                case roster.Forget(name=name):
                    self._tasks.spawn(self._kernel.links.forget(name, "left"), f"forget {name}")
                case roster.Joined():
                    self._accepted.set()
                    self._news.set()

    def _tell(self, link: Link, message: roster.Message) -> None:
        self._kernel.send_ring(link, roster.pack(message))


def _parse_seed(seed: str) -> tuple[str | None, str, int]:
    if not isinstance(seed, str):
        raise ConfigError(f"a seed is a str like '127.0.0.1:7022', not {type(seed).__name__}: {seed!r}")
    if "@" in seed:
        node = NodeId.parse(seed)
        return node.name, node.host, node.port
    return None, *parse_host_port(seed)
