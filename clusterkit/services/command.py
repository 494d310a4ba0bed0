"""The command server: what a client of a node may ask.

An actor named ``clusterkit.command`` on every node, the only one that a client
(role 2 of the handshake) reaches. The command line is such a client. Members ask each
other's, for a client that asks one of them about all.

Rules: a reply is plain msgpack types; what a client gives is checked before anything is
done; what waits for others, or for an event, runs beside the server and holds up no other
answer, is bounded in time, in number and for each asker, and ends with the server. A
change of the ring that has begun goes on when its client is gone.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn

from clusterkit.actors.gen_server import GenServer, NoReply, running
from clusterkit.actors.handlers import call
from clusterkit.actors.signals import TimerFired
from clusterkit.errors import ClusterError, ConfigError, JoinError, MailboxFull, UsageError
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.kernel.mailbox import From
from clusterkit.runtime import now, wall_time
from clusterkit.services import command_caches, command_ring
from clusterkit.services.chronicle import Asker, Page
from clusterkit.services.command_arguments import (
    MOST_NAMES,
    checked_count,
    checked_flag,
    checked_text,
    checked_texts,
    checked_wait,
    show,
)
from clusterkit.services.command_events import READ_FOR, Reporter
from clusterkit.services.command_questions import Others, ask_server, tell_server
from clusterkit.services.command_views import (
    is_linked,
    package_version,
    queued_to,
    tell_actors,
    tell_links,
    tell_member,
    tell_node,
    tell_nodes,
    tell_services,
    tell_view,
)

Told = dict[str, Any]

_READERS = "readers"  # the tag of a timer
_MOST_ASKED, _MOST_ASKED_EACH = 1_024, 128  # answers that wait for something, of all askers and of one
_MOST_WAIT = 4.0  # seconds for an event
_MOST_CHECK, _MOST_ASK = 10.0, 300.0  # seconds
_MOST_JOIN = 10.0
_ROOM = 0.5  # seconds of the caller's time for the answer
_MOST_KEY = 64 << 10  # characters


class CommandServer(GenServer):
    """Answers for its node."""

    async def init(self) -> None:
        """Begin to follow the ring."""
        kernel = self._kernel = running(self).kernel
        ring = self._ring = self.node.ring
        self._began = now()
        self._asked: dict[asyncio.Task[None], Asker] = {}
        self._others = Others(kernel, ring)
        self._shares = command_ring.Shares(ring)
        self._reporter = Reporter(self.node, kernel)

    async def terminate(self, reason: object) -> None:  # noqa: ARG002
        """Follow the ring no more. Who waits for an answer is told `ServerDown`."""
        self._reporter.close()

    def handle_info(self, info: Any) -> Any:
        """Look in time whether anybody still reads events."""
        if info != TimerFired(_READERS):
            return super().handle_info(info)
        if self._reporter.is_read:
            self.send_after(READ_FOR, _READERS)
        else:
            self._reporter.read_no_more()
        return None

    # -- answers that take their time

    def _later(self, work: Coroutine[Any, Any, Any]) -> NoReturn:
        """Answer with what ``work`` comes to, until the caller's deadline."""
        self._beside(work, is_change=False)

    def _change(self, work: Coroutine[Any, Any, None]) -> NoReturn:
        """Answer when a change is made; it goes on when the caller waits no more."""
        self._beside(work, is_change=True)

    def _beside(self, work: Coroutine[Any, Any, Any], *, is_change: bool) -> NoReturn:
        """Work beside the server, whose end does not wait for it (for what is deferred it would).

        Raises `MailboxFull` when the caller, or all together, wait for too many answers.
        """
        frm, me = self.caller, _asker(self.caller)
        mine = sum(asker == me for asker in self._asked.values())
        if mine >= _MOST_ASKED_EACH or len(self._asked) >= _MOST_ASKED:
            work.close()
            raise MailboxFull(f"{frm.peer.name} waits for {mine} answers, all for {len(self._asked)}: no more at once")
        task = self.create_task(self._answer(frm, work, is_change=is_change))
        self._asked[task] = me
        task.add_done_callback(lambda done: self._asked.pop(done, None))
        task.add_done_callback(lambda _: work.close())  # which it may never have begun
        raise NoReply

    async def _answer(self, frm: From, work: Coroutine[Any, Any, Any], *, is_change: bool) -> None:
        try:
            async with asyncio.timeout_at(None if is_change else frm.deadline) as limit:
                value = await work
            await self.reply(frm, self._tell_self() if is_change else value)
        except Exception as error:  # noqa: BLE001 - the caller's to handle
            if not limit.expired():
                await self.reply_error(frm, _of_change(error) if is_change else error)

    def _time_left(self) -> float:
        """The seconds for which the caller waits yet."""
        deadline = self.caller.deadline
        return _MOST_JOIN if deadline is None else max(0.0, deadline - now())

    # -- this node and its ring

    @call
    async def ping(self) -> Told:
        """Tell who answers."""
        return self._tell_self()

    def _tell_self(self) -> Told:
        known = {"ring": self._ring.id, "version": package_version()}
        return tell_node(self._kernel.id) | known | {"uptime": now() - self._began, "at": wall_time()}

    @call
    async def members(self, rtt: bool = False) -> list[Told]:
        """Tell the members that this node knows, and what it believes of them; with ``rtt`` it pings them first."""
        if checked_flag(rtt, "rtt"):
            self._later(self._members_with_round_trips())
        return self._tell_members({})

    async def _members_with_round_trips(self) -> list[Told]:
        return self._tell_members(await self._others.round_trips())

    def _tell_members(self, times: dict[str, float]) -> list[Told]:
        shares, kernel, me = self._shares.get(), self._kernel, self._kernel.id.name
        return [
            tell_member(member)
            | {
                "share": shares.get(member.name, 0.0),
                "self": member.name == me,
                "rtt": times.get(member.name),
                "since": self._reporter.since(member),
                "queue": queued_to(kernel, member.name),
                "linked": is_linked(kernel, member.name),
            }
            for member in self._ring.members
        ]

    @call
    async def nodes(self) -> list[Told]:
        """Tell who and where the members are."""
        return tell_nodes(self._ring)

    @call
    async def get(self, name: str) -> Told:
        """Tell where a member is; raises `UnknownNode`."""
        return tell_node(command_ring.known(self._ring, checked_text(name, "name")))

    @call
    async def has(self, name: str) -> bool:
        """Tell whether a node is a member, down or not."""
        return self._ring.has(checked_text(name, "name"))

    @call
    async def weight(self, name: str) -> int:
        """Tell the weight of a member; raises `UnknownNode`."""
        return self._ring.weight(checked_text(name, "name"))

    @call
    async def weights(self) -> dict[str, int]:
        """Tell the weights of all members."""
        return self._ring.weights

    @call
    async def inspect(self, full: bool = False) -> Told:
        """Tell the hash ring; with ``full`` all its tokens."""
        return command_ring.tell_ring(self._kernel, self._ring, self._shares, full=checked_flag(full, "full"))

    @call
    async def owner(self, key: str | bytes, n: int = 3) -> Told:
        """Tell the members that come first in the order of a key."""
        if not isinstance(key, bytes):
            checked_text(key, "key", _MOST_KEY)
        return command_ring.tell_owner(self._ring, key, checked_count(n, "n", MOST_NAMES))

    @call
    async def balance(self) -> Told:
        """Tell how evenly the keys are spread."""
        return command_ring.tell_balance(self._ring, self._shares)

    # -- changes of the ring

    @call(timeout=_MOST_JOIN)
    async def join(self, ring: str, seeds: list[str] = [], timeout: float | None = None) -> Told:  # noqa: B006 - never changed
        """Enter a ring, as `GossipRing.join` does, in the time that the caller has."""
        checked_text(ring, "ring id")
        seeds = checked_texts(seeds, "seeds")
        self._change(self._ring.join(ring, seeds, self._change_time(timeout)))

    @call(timeout=_MOST_JOIN)
    async def meet(self, address: str, timeout: float | None = None) -> Told:
        """Meet the node at an address, and merge the rings."""
        self._change(self._ring.meet(checked_text(address, "address"), self._change_time(timeout)))

    def _change_time(self, timeout: float | None) -> float:
        left = max(0.1, self._time_left() - _ROOM)
        return min(_MOST_JOIN, left if timeout is None else max(0.1, checked_wait(timeout, "timeout", left)))

    @call(timeout=_MOST_JOIN)
    async def leave(self, force: bool = False) -> Told:
        """Leave the ring; with ``force`` nobody is waited for."""
        force = checked_flag(force, "force")
        self._change(command_ring.leave(self._ring, self._time_left(), force=force))

    @call
    async def insert(self, nodes: list[str], weight: int | None = None) -> list[Told]:
        """Put nodes into the ring, each ``name@host:port``; tell all members after that."""
        if weight is not None:
            weight = checked_count(weight, "weight")
        return await command_ring.insert(self._ring, checked_texts(nodes, "nodes"), weight)

    @call
    async def update(self, name: str, weight: int) -> list[Told]:
        """Give a member another weight."""
        return await command_ring.update(self._ring, checked_text(name, "name"), checked_count(weight, "weight"))

    @call
    async def remove(self, names: list[str]) -> list[Told]:
        """Take members out of the ring."""
        return await command_ring.remove(self._ring, checked_texts(names, "names"))

    # -- what the members see

    @call
    async def view(self) -> Told:
        """Tell what this node sees of the ring, and whom it reaches."""
        return tell_view(self._kernel, self._ring)

    @call(timeout=_MOST_CHECK)
    async def check(self, timeout: float = 2.0) -> Told:
        """Ask every member for its view; tell the views, and who gave none in ``timeout`` seconds."""
        self._later(self._others.check(max(0.05, checked_wait(timeout, "timeout", _MOST_CHECK))))

    @call
    async def diff(self, node: str) -> Told:
        """Tell this node's view beside that of another member."""
        self._later(self._others.diff(checked_text(node, "node")))

    @call(timeout=30.0)
    async def through(self, node: str, command: str, args: list[Any] = [], timeout: float = 5.0) -> Any:  # noqa: B006 - never changed
        """Give a command to another member's command server, and hand back its answer, or its error."""
        if not isinstance(args, list):
            raise ConfigError(f"args is {show(args)}: it must be a list")
        within = max(0.05, checked_wait(timeout, "timeout", _MOST_ASK))
        self._later(self._others.through(checked_text(node, "node"), checked_text(command, "command"), args, within))

    # -- what runs here

    @call
    async def actors(self, most: int = 1_000) -> list[Told]:
        """Tell the actors of this node; of more than ``most`` the busiest."""
        return tell_actors(self.node, checked_count(most, "most", 1_000))

    @call
    async def links(self) -> list[Told]:
        """Tell the links of this node, and what waits on them."""
        return tell_links(self._kernel, self._ring)

    @call
    async def stats(self) -> dict[str, int]:
        """Tell what this node has counted."""
        return self.node.stats()

    @call
    async def services(self) -> list[Told]:
        """Tell what the members that have services offer and require, as this node sees it."""
        return [tell_services(node) for node in self.node.services.nodes()]

    @call(timeout=30.0)
    async def ask(self, node: str, server: str, event: str, data: Any = None, timeout: float = 5.0) -> Told:
        """Call a server on a member from this node, and tell how it went."""
        if server == COMMAND_SERVER and node == self._kernel.id.name:
            raise UsageError("the command server cannot call itself")
        within = checked_wait(timeout, "timeout", _MOST_ASK)
        self._later(ask_server(self.node, node, server, event, data, within))

    @call(timeout=30.0)
    async def tell(self, node: str, server: str, event: str, data: Any = None, timeout: float = 5.0) -> Told:
        """Cast to a server on a member from this node, and tell whether it was sent."""
        within = checked_wait(timeout, "timeout", _MOST_ASK)
        self._later(tell_server(self.node, node, server, event, data, within))

    # -- caches

    @call
    async def caches(self) -> list[Told]:
        """Tell the cache groups of this node, and what each has counted."""
        return command_caches.tell_caches(self.node, self._kernel)

    @call(timeout=30.0)
    async def invalidate(
        self, group: str, key: str | None = None, prefix: str | None = None, everything: bool = False
    ) -> Told:
        """Forget a key, a prefix or everything in all caches of a group; tell who knows of it by the caller's deadline."""
        found = command_caches.pick_group(self.node, self._kernel, checked_text(group, "group"))
        everything, left = checked_flag(everything, "everything"), max(0.05, self._time_left() - _ROOM)
        self._later(command_caches.invalidate(found, key, prefix, everything=everything, timeout=left))

    @call(timeout=30.0)
    async def fetch(self, group: str, key: str) -> Told:
        """Get a value through this node's part of a cache group, as any caller does."""
        found = command_caches.pick_group(self.node, self._kernel, checked_text(group, "group"))
        self._later(command_caches.fetch(found, key, max(0.05, self._time_left())))

    # -- events

    @call
    async def events(self, cursor: int | None = None, wait: float = _MOST_WAIT) -> Page:
        """Tell what happened after a cursor: at once, or when something does, or nothing after ``wait`` seconds."""
        if cursor is not None and type(cursor) is not int:
            raise ConfigError(f"cursor is {show(cursor)}: it must be a number that an earlier answer gave, or None")
        wait = checked_wait(wait, "wait", _MOST_WAIT)
        if self._reporter.begin_reading():
            self.send_after(READ_FOR, _READERS)
        self._later(self._reporter.poll(_asker(self.caller), cursor, wait))


def _asker(frm: From) -> Asker:
    return frm.peer.name, frm.peer.incarnation


def _of_change(error: Exception) -> Exception:
    """An `OSError` of this node's own dial is not the caller's: it would take it for one of its own connection."""
    if isinstance(error, OSError) and not isinstance(error, ClusterError):
        return JoinError(f"it cannot be reached from this node: {error.strerror or error}")
    return error
