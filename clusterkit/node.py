"""`Node`: one member of a cluster, as programs hold it. Wiring, no logic.

The main path, for a reader: this file, then `actors/gen_server.py` and
`actors/process.py` (what runs), `kernel/kernel.py` (where a message goes),
`transport/link.py` (how it leaves) and `core/session.py` (what survives it).
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_origin, overload

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.inspection import ActorInfo, find_handler, inspect_process
from clusterkit.actors.many import Replies, check_handler, to_many
from clusterkit.actors.process import Process
from clusterkit.actors.ref import Ref, check_ref
from clusterkit.actors.signals import NORMAL, SHUTDOWN, Down
from clusterkit.config import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId, check_name, parse_host_port
from clusterkit.core.members import Member
from clusterkit.core.proof import Party, prepare_cookies
from clusterkit.errors import ConfigError, NoSuchServer, ServerDown, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.events import E
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.telemetry import Telemetry
from clusterkit.kernel.watchdog import Watchdog
from clusterkit.ring.discovery import read_environment
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.ring.keeping import Keeping
from clusterkit.runtime import Shielded, Tasks, in_thread, now, wait_for_signal
from clusterkit.services.command import CommandServer
from clusterkit.services.registry import Services
from clusterkit.storage.state_file import StateFile
from clusterkit.transport.base import Network
from clusterkit.transport.tcp import TcpNetwork
from clusterkit.transport.tls import TLS

A = TypeVar("A", bound=GenServer)
P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("clusterkit.node")

_RESERVED = "clusterkit."


class Node:
    """One node: its address, its actors, its ring. Enter it with ``async with``.

    ``address`` is ``"name@host:port"``, what others dial; port 0 takes a free one
    (`id` tells). Without it CLUSTERKIT_ADDRESS, _LISTEN and _STATE_DIR are read. ``listen`` is ``"host:port"`` when the socket is bound elsewhere (0.0.0.0, a
    container). ``cookie`` is the cluster's secret, at least 16 bytes, or up to four
    (the first is dialled with, any is accepted); without it CLUSTERKIT_COOKIE is read.
    ``tls`` encrypts all connections, with certificates on both sides. ``state_dir`` is where the
    node keeps what a later run of it needs: its incarnations and the ring (docs/membership.md).

    Leaving the block stops the actors, each after what waits in its mailbox, leaves the ring and
    closes, all within `Config.drain_timeout`; left with an exception it takes half a second and drains
    nothing. A closed node stays closed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        listen: str | None = None,
        cookie: str | bytes | Sequence[str | bytes] | None = None,
        tls: TLS | None = None,
        config: Config | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        network: Network | None = None,
    ) -> None:
        if tls is not None and network is not None:
            raise ConfigError("tls and network are both given: a network has its own way to TLS")
        if address is None:
            settings = read_environment(os.environ)
            address = settings.address
            listen = settings.listen if listen is None else listen
            state_dir = settings.state_dir if state_dir is None else state_dir
        if address is None:
            raise ConfigError("no address: give Node('name@host:port') or set CLUSTERKIT_ADDRESS")
        self._given = NodeId.parse(address)
        self._listen = parse_host_port(listen) if listen is not None else (self._given.host, self._given.port)
        self._keys = prepare_cookies(_cookie(cookie))
        self._config = config or Config()
        self._network = network or TcpNetwork(tls)
        self._state_dir = state_dir
        self._keeping = Keeping(None)
        self._kernel: Kernel | None = None
        self._ring: GossipRing | None = None
        self._services: Services | None = None
        self._tasks = Tasks(f"node/{self._given.name}")
        self._processes: dict[int, Process] = {}
        self._handled = 0  # messages, by actors that have ended
        self._watchdog: Watchdog | None = None
        self._failed: asyncio.Future[str]  # why an actor that is linked to the node ended

    def __repr__(self) -> str:
        kernel = self._kernel
        state = "not started" if kernel is None else "closed" if kernel.closed else f"ring {self.ring.id!r}"
        return f"<Node {self._given if kernel is None else kernel.id} {state}>"

    # -- life

    async def __aenter__(self) -> Self:
        if self._kernel is not None:
            raise UsageError(f"node {self._given.name} was started already: a Node has one life, make another")
        me = self._given.with_incarnation(await self._first_incarnation())
        kernel = Kernel(me, Party(me.name, me.incarnation), self._keys, self._network, self._config)
        self._kernel = kernel
        self._ring = GossipRing(kernel, self._keeping)
        self._services = Services(kernel, self._ring)
        self._failed = kernel.loop.create_future()
        try:
            self._watch_loop(kernel)
            await self._started(self._spawn(CommandServer(), COMMAND_SERVER))
            port = await kernel.links.listen(*self._listen)
        except BaseException:
            await self._shut(Reason.STOP, 0.0)
            raise
        if not me.port:
            kernel.set_port(port)
        return self

    def _watch_loop(self, kernel: Kernel) -> None:
        if (limit := self._config.watchdog) is not None:
            processes = self._processes
            self._watchdog = Watchdog(
                limit, kernel.id.name, kernel.telemetry, lambda task: find_handler(list(processes.values()), task)
            )
            self._watchdog.start()

    async def _first_incarnation(self) -> int:
        """Draw this run's; with a state directory it is above all earlier ones, and on disk before anybody hears it."""
        if (directory := self._state_dir) is not None:
            name = self._given.name
            self._keeping = Keeping(await in_thread(lambda: StateFile.open(directory, name)))
        try:
            return await self._keeping.draw()
        except BaseException:
            await self._keeping.aclose()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.aclose(drain=kind is None)

    async def aclose(self, *, drain: bool = True, leave: bool = True) -> None:
        """Stop the actors, leave the ring, close. May be called twice.

        Without ``leave`` the node stays a member that is down, as for a restart: with a state
        directory its next run finds the ring there. With ``drain``, running handlers, mailboxes and
        unacknowledged messages get up to `Config.drain_timeout` seconds together; without it half a second.
        """
        kernel = self._open_kernel()
        if kernel.closed:
            return
        kernel.check_loop()
        if any(process.is_current for process in self._processes.values()):
            raise UsageError("an actor cannot close its own node: the node waits for its actors")
        reason = Reason.LEAVE if leave and self.ring.id else Reason.STOP
        await self._shut(reason, self._config.drain_timeout if drain else 0.5, drain=drain)

    async def _shut(self, reason: Reason, budget: float, *, drain: bool = False) -> None:
        assert self._kernel is not None
        assert self._ring is not None
        assert self._services is not None
        deadline = now() + budget
        try:
            await self._services.aclose()
            if drain and reason is Reason.LEAVE:
                await self._ring.presence.hand_over(now() + budget / 4)
            self._kernel.links.leaving = True
            await self._stop_actors(deadline, drain=drain)
            await self._ring.aclose(leave=reason is Reason.LEAVE, deadline=deadline)
            await self._kernel.aclose(reason, deadline)
            await self._tasks.aclose()
            await self._keeping.aclose()
        finally:
            if self._watchdog is not None:
                self._watchdog.close()

    async def _stop_actors(self, deadline: float, *, drain: bool) -> None:
        """Stop them in the reverse of the order in which they started, each after what waits in its mailbox.

        One that takes its time has half of what is left; then the next is asked, and it may go on beside.
        """
        top = [process for process in reversed(self._processes.values()) if process.parent is None]
        for process in top:
            process.stop(SHUTDOWN, drain=drain)
            await process.join(max(0.0, deadline - now()) / 2)
        tasks = [process.task for process in top if process.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - now()))
        for task in late:
            task.cancel()
        if late:
            _, stuck = await asyncio.wait(late, timeout=1.0)
            for task in stuck:
                logger.error("%s does not end: it swallows its cancellation", task.get_name())

    async def run_until_signal(self) -> str:
        """Wait for SIGINT or SIGTERM and return its name; a second one ends the process at once.

        Raises `ServerDown` when an actor that was started with ``link=True`` outside of actors fails.
        """
        kernel = self._open_kernel()
        signalled = self._tasks.spawn(wait_for_signal(), "signal")
        try:
            await asyncio.wait({signalled, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if signalled.done():
                return signalled.result()
            raise ServerDown(self._failed.result(), node=kernel.id, executed="maybe")
        finally:
            signalled.cancel()
            await asyncio.wait({signalled})

    # -- who and where

    @property
    def id(self) -> NodeId:
        """This node: name, address, incarnation."""
        return self._open_kernel().id

    @property
    def ring(self) -> GossipRing:
        """The ring of members."""
        self._open_kernel()
        assert self._ring is not None
        return self._ring

    @property
    def services(self) -> Services:
        """What the members offer each other."""
        self._open_kernel()
        assert self._services is not None
        return self._services

    @property
    def config(self) -> Config:
        """How this node is configured."""
        return self._config

    def _open_kernel(self) -> Kernel:
        if self._kernel is None:
            raise UsageError(f"node {self._given.name} is not started: `async with node:` first")
        return self._kernel

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every `DeadLetter`, `Refused`, `LinkUp` or `LinkDown` of this node; returns what ends it."""
        return self._open_kernel().events.on(kind, told)

    def stats(self) -> dict[str, int]:
        """What this node has counted since it started, by name; docs/architecture.md explains each."""
        kernel = self._open_kernel()
        actors = {
            "actors": len(self._processes),
            "handled": self._handled + sum(p.handled for p in self._processes.values()),
        }
        stalls = {"loop_stalls": self._watchdog.stalls if self._watchdog is not None else 0}
        return {**kernel.links.stats(), **kernel.counters, **actors, **stalls}

    @property
    def telemetry(self) -> Telemetry:
        """Where to attach functions to this node's events (docs/telemetry.md)."""
        return self._open_kernel().telemetry

    def set_cookies(self, cookie: str | bytes | Sequence[str | bytes]) -> None:
        """Take another cookie or list of them, while the node runs.

        Links that were made with one that is no more in the list are made anew, and lose
        nothing by it. Raises `ConfigError`, and the cookies stay. docs/security.md tells how
        to change the cookie of a cluster.
        """
        self._keys = prepare_cookies(cookie)
        if self._kernel is not None and not self._kernel.closed:
            self._kernel.check_loop()
            self._kernel.links.set_keys(self._keys)

    # -- actors

    async def start(self, actor: A, *, name: str | None = None, link: bool = False) -> Ref[A]:
        """Start an actor; returns when its ``init`` has run, and raises what that raised.

        With ``link`` it is linked to the actor that starts it; outside of actors to this node: should it
        end other than normally, `run_until_signal` raises `ServerDown`. Raises `NameInUse` when another actor has
        the name, `UsageError` when this one runs already or the node is closing or closed, `ServerDown` when
        ``init`` raised `Stop`.
        """
        kernel = self._open_kernel()
        if kernel.closed:
            raise UsageError(f"node {kernel.id.name} is closed: no actor can be started")
        kernel.check_loop()
        if not isinstance(actor, GenServer):
            raise UsageError(f"node.start takes a GenServer object, not {actor!r}")
        if name is not None:
            check_name(name, "actor name")
            if name.startswith(_RESERVED):
                raise ConfigError(f"actor name {name!r}: names that begin with {_RESERVED!r} are reserved")
        if kernel.links.leaving:
            raise UsageError(f"node {kernel.id.name} is closing: no actor can be started")
        process = self._spawn(actor, name)
        asking = next((each for each in self._processes.values() if each.is_current), None) if link else None
        if asking is not None:
            asking.ties.link(process.ref)
        ref = await self._started(process)
        if link and asking is None:
            kernel.monitors.watch(ref.address, lambda reason: self._linked_ended(process, reason))
        return ref

    def _linked_ended(self, process: Process, reason: str) -> None:
        if reason != NORMAL and not self._open_kernel().links.leaving and not self._failed.done():
            self._failed.set_result(f"{process.mailbox.shown} ended: {reason}")

    def _spawn(
        self,
        actor: GenServer,
        name: str | None,
        *,
        parent: Process | None = None,
        on_end: Callable[[Process, object], bool] | None = None,
    ) -> Process:
        """Make a process of an actor: from now on it has its name, and its ``init`` runs soon."""
        kernel = self._open_kernel()
        process = Process(actor, kernel, self, name, tasks=self._tasks, ended=self._ended, parent=parent, on_end=on_end)
        self._processes[process.mailbox.serial] = process
        process.task = self._tasks.spawn(process.run(), process.mailbox.shown)
        return process

    async def _started(self, process: Process) -> Ref[Any]:
        try:
            await process.started
        except asyncio.CancelledError:
            process.kill()  # who starts it gave up: it is not left half started
            raise
        return process.ref

    def _ended(self, process: Process) -> None:
        self._processes.pop(process.mailbox.serial, None)
        self._handled += process.handled

    async def stop(
        self, ref: Ref[Any] | str, reason: object = "normal", *, timeout: float = 5.0, drain: bool = True
    ) -> None:
        """Stop an actor of this node; returns when it has ended.

        With ``drain`` it first handles what waits in its mailbox, otherwise that is answered
        `ServerDown`; new messages are refused in both cases, and timers, `Down` and `Exit` that come
        meanwhile are not handled. One that does not end
        within ``timeout`` seconds is cancelled. An actor that stops itself does so when
        its handler has ended. A child of a supervisor is stopped by `Supervisor.stop_child`: stopped here, it is
        started again, if it is permanent. Raises `NoSuchServer`.
        """
        process = self._process_of(ref)
        process.stop(reason, drain=drain)
        if process.is_current:
            return  # it stops when this handler, which asked for it, has ended
        if not await process.join(timeout):
            process.kill()
            if not await process.join(1.0):
                logger.error("%s does not end: it swallows its cancellation", process.mailbox.shown)

    def _process_of(self, ref: Ref[Any] | str) -> Process:
        """The process of this node that is meant."""
        kernel = self._open_kernel()
        kernel.check_loop()
        if not isinstance(ref, str) and check_ref(ref).address_for(kernel).node is not None:
            raise UsageError(f"{ref!r} runs on {ref.node.name}: do it there")
        to = ref if isinstance(ref, str) else ref.address.to
        mailbox = kernel.find(to)
        process = self._processes.get(mailbox.serial) if mailbox is not None else None
        if process is None:
            raise NoSuchServer(f"no server {to!r} runs on {kernel.id.name}", node=kernel.id, target=str(to))
        return process

    async def suspend(self, ref: Ref[Any] | str, *, timeout: float = 5.0) -> None:
        """Hold an actor's mailbox after the handler that runs now: messages wait, none is lost.

        Its bound stays in force. Raises `NoSuchServer`, `TimeoutError` when that handler does not
        end within ``timeout`` seconds: it is then suspended when it does.
        """
        await self._hold(ref, timeout, held=True)

    async def resume(self, ref: Ref[Any] | str, *, timeout: float = 5.0) -> None:
        """Let a suspended actor go on. Raises as `suspend` does."""
        await self._hold(ref, timeout, held=False)

    async def _hold(self, ref: Ref[Any] | str, timeout: float, *, held: bool) -> None:
        process = self._process_of(ref)
        done = process.hold(held=held)
        if not process.is_current:
            assert process.task is not None
            await asyncio.wait({done, process.task}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done.done() and not process.task.done():
                raise TimeoutError(f"{process.mailbox.shown} is busy with {process.handling!r}")

    @contextlib.asynccontextmanager
    async def monitor(self, ref: Ref[Any]) -> AsyncIterator[Awaitable[Down]]:
        """Watch a process, here or on another node, from any code: ``async with node.monitor(ref) as down``.

        ``await down`` gives its `Down`, once it has ended; leaving the block ends the watch. An actor
        uses `GenServer.monitor`. Raises `UsageError` past 65,536 monitors of one other node.
        """
        kernel = self._open_kernel()
        kernel.check_loop()
        down: asyncio.Future[Down] = kernel.loop.create_future()

        def told(reason: str) -> None:
            if not down.done():
                down.set_result(Down(ref, reason, monitor))

        monitor = kernel.monitors.watch(check_ref(ref).address_for(kernel), told)
        try:
            yield Shielded(down)
        finally:
            kernel.monitors.unwatch(monitor)

    def inspect(self) -> list[ActorInfo]:
        """Every actor of this node, by serial: what waits for it, what it does and since when. O(actors)."""
        return [inspect_process(process, now()) for _, process in sorted(self._processes.items())]

    def ref(self, cls: type[A], name: str, *, on: NodeId | str | None = None) -> Ref[A]:
        """Refer to a named actor, here or ``on`` a member (its name, its address, its `NodeId`).

        Nothing is sent, and the name is looked up anew at each send.
        """
        kernel = self._open_kernel()
        cls = get_origin(cls) or cls
        if not isinstance(cls, type) or not issubclass(cls, GenServer):
            raise ConfigError(f"node.ref takes a class of actors, as GenServer, not {cls!r}")
        if not isinstance(name, str):
            raise ConfigError(f"actor name must be a str, not {type(name).__name__}: {name!r}")
        return Ref(kernel, cls, Address(None if on is None else self._member(on), name))

    def _member(self, which: NodeId | str) -> NodeId | None:
        """The node that is meant; None for this one."""
        if isinstance(which, str):
            which = NodeId.parse(which) if "@" in which else NodeId(check_name(which), "?", 0)
        if not isinstance(which, NodeId):
            hint = ": give its .node" if isinstance(which, Member) else ""
            raise ConfigError(f"a node is named by a str or a NodeId, not {which!r}{hint}")
        return None if which.name == self.id.name else which

    @overload
    def whereis(self, name: str, /) -> Ref[GenServer] | None: ...
    @overload
    def whereis(self, name: str, cls: type[A], /) -> Ref[A] | None: ...
    def whereis(self, name: str, cls: type[GenServer] = GenServer, /) -> Ref[Any] | None:
        """The process that has a name on this node now, or None; raises `UsageError` when it is no ``cls``."""
        kernel = self._open_kernel()
        mailbox = kernel.find(name)
        process = self._processes.get(mailbox.serial) if mailbox is not None else None
        cls = get_origin(cls) or cls
        if process is not None and not isinstance(process.actor, cls):
            raise UsageError(f"{name!r} is a {type(process.actor).__name__}, no {cls.__name__}")
        return process.ref if process is not None else None

    # -- many nodes

    async def ping(self, peer: NodeId | str, *, timeout: float = 5.0) -> float:
        """Ask a member whether it lives; return the round trip in seconds. Raises `NodeDown` or `CallTimeout`."""
        start = now()
        await self._open_kernel().call(Address(self._member(peer), COMMAND_SERVER), "ping", (), {}, timeout)
        return now() - start

    @overload
    async def multicall(
        self,
        nodes: Iterable[NodeId | str],
        name: str,
        method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Replies[R]: ...
    @overload
    async def multicall(
        self, nodes: Iterable[NodeId | str], name: str, event: str, data: Any = ..., /
    ) -> Replies[Any]: ...
    async def multicall(
        self, nodes: Iterable[NodeId | str], name: str, method: Any, /, *args: Any, **kwargs: Any
    ) -> Replies[Any]:
        """Call the actor of that name on many nodes at once; who answered is in ``.ok``, who did not in ``.failed``.

        Ends when all have answered or their calls have timed out. Raises `UsageError` for what is no handler; never
        what a call raised.
        """
        check_handler(method, "call")
        return await to_many(self._named(nodes, name), lambda ref: ref.call(method, *args, **kwargs))

    @overload
    async def abcast(
        self,
        nodes: Iterable[NodeId | str],
        name: str,
        method: Callable[Concatenate[A, P], Coroutine[Any, Any, None]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Replies[None]: ...
    @overload
    async def abcast(
        self, nodes: Iterable[NodeId | str], name: str, event: str, data: Any = ..., /
    ) -> Replies[None]: ...
    async def abcast(
        self, nodes: Iterable[NodeId | str], name: str, method: Any, /, *args: Any, **kwargs: Any
    ) -> Replies[None]:
        """Cast to the actor of that name on many nodes at once; ``.ok`` has those whose queue took it."""
        check_handler(method, "cast")
        return await to_many(self._named(nodes, name), lambda ref: ref.cast(method, *args, **kwargs))

    def _named(self, nodes: Iterable[NodeId | str], name: str) -> Iterator[tuple[NodeId, Callable[[], Ref[Any]]]]:
        """The actors of a name on nodes: each with its node, as the ring knows it, and how to refer to it."""
        if isinstance(nodes, str | NodeId):
            raise UsageError(f"nodes is a list of them: [{str(nodes)!r}]")
        for node in nodes:
            member = self._member(node) or self.id
            yield self.ring.get(member.name) or member, partial(self.ref, GenServer, name, on=node)


def _cookie(given: str | bytes | Sequence[str | bytes] | None) -> str | bytes | Sequence[str | bytes]:
    if given is not None:
        return given
    found = os.environ.get("CLUSTERKIT_COOKIE")
    if not found:
        raise ConfigError(
            "no cookie: give Node(..., cookie=...) or set CLUSTERKIT_COOKIE; `clusterkit keygen` makes one"
        )
    return found
