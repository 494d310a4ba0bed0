"""`Node`: one member of a cluster, as programs hold it. Wiring, no logic.

The main path, for a reader: this file, then `actors/gen_server.py` and
`actors/process.py` (what runs), `kernel/kernel.py` (where a message goes),
`transport/link.py` (how it leaves) and `core/session.py` (what survives it).
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.process import Process
from clusterkit.actors.ref import Ref
from clusterkit.config import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId, check_name, parse_host_port
from clusterkit.core.proof import Party, prepare_cookies
from clusterkit.errors import ConfigError, NoSuchServer, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.events import E
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.discovery import read_environment
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.ring.keeping import Keeping
from clusterkit.runtime import Tasks, in_thread, now, wait_for_signal
from clusterkit.services.command import CommandServer
from clusterkit.storage.state_file import StateFile
from clusterkit.transport.base import Network
from clusterkit.transport.tcp import TcpNetwork
from clusterkit.transport.tls import TLS

A = TypeVar("A", bound=GenServer)
P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("clusterkit.node")

_RESERVED = "clusterkit."


@dataclass(frozen=True, slots=True)
class Replies(Generic[R]):
    """What came of a `Node.multicall` or `Node.abcast`: partial results are results."""

    ok: Mapping[NodeId, R] = field(default_factory=dict)
    failed: Mapping[NodeId, Exception] = field(default_factory=dict)


class Node:
    """One node: its address, its actors, its ring. Enter it with ``async with``.

    ``address`` is ``"name@host:port"``, what others dial; port 0 takes a free one
    (`id` tells). Without it CLUSTERKIT_ADDRESS, _LISTEN and _STATE_DIR are read. ``listen`` is ``"host:port"`` when the socket is bound elsewhere (0.0.0.0, a
    container). ``cookie`` is the cluster's secret, at least 16 bytes, or up to four
    (the first is dialled with, any is accepted); without it CLUSTERKIT_COOKIE is read.
    ``tls`` encrypts all connections, with certificates on both sides. ``state_dir`` is where the
    node keeps what a later run of it needs: its incarnations and the ring (docs/membership.md).

    Leaving the block leaves the ring, lets running handlers end, stops the actors and
    closes; left with an exception it does so without waiting. A closed node stays closed.
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
        self._tasks = Tasks(f"node/{self._given.name}")
        self._processes: dict[int, Process] = {}

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
        try:
            await self._start_process(CommandServer(), COMMAND_SERVER)
            port = await kernel.links.listen(*self._listen)
        except BaseException:
            await self._shut(Reason.STOP, 0.0)
            raise
        if not me.port:
            kernel.set_port(port)
        return self

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
        """Leave the ring, stop the actors, close. May be called twice.

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
        await self._shut(reason, self._config.drain_timeout if drain else 0.5)

    async def _shut(self, reason: Reason, budget: float) -> None:
        assert self._kernel is not None
        assert self._ring is not None
        deadline = now() + budget
        self._kernel.links.leaving = True
        await self._stop_actors(deadline)
        await self._ring.aclose(leave=reason is Reason.LEAVE, deadline=deadline)
        await self._kernel.aclose(reason, deadline)
        await self._tasks.aclose()
        await self._keeping.aclose()

    async def _stop_actors(self, deadline: float) -> None:
        processes = list(reversed(self._processes.values()))
        for process in processes:
            process.stop("shutdown")
        tasks = [process.task for process in processes if process.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - now()))
            for task in late:
                task.cancel()
            _, stuck = await asyncio.wait(tasks, timeout=1.0)
            for task in stuck:
                logger.error("%s does not end: it swallows its cancellation", task.get_name())

    async def run_until_signal(self) -> str:
        """Wait for SIGINT or SIGTERM and return its name; a second one ends the process at once."""
        self._open_kernel()
        return await wait_for_signal()

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
    def config(self) -> Config:
        """How this node is configured."""
        return self._config

    def _open_kernel(self) -> Kernel:
        if self._kernel is None:
            raise UsageError(f"node {self._given.name} is not started: `async with node:` first")
        return self._kernel

    def on(self, kind: type[E], told: Callable[[E], object]) -> Callable[[], None]:
        """Call ``told`` with every `DeadLetter`, `LinkUp` or `LinkDown` of this node; returns what ends it."""
        return self._open_kernel().events.on(kind, told)

    def stats(self) -> dict[str, int]:
        """What this node has counted since it started, by name; docs/architecture.md explains each."""
        kernel = self._open_kernel()
        return {**kernel.links.stats(), **kernel.counters}

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

    async def start(self, actor: A, *, name: str | None = None) -> Ref[A]:
        """Start an actor; returns when its ``init`` has run, and raises what that raised.

        Raises `NameInUse` when another actor has the name, `UsageError` when this one
        runs already or the node is closed.
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
        return await self._start_process(actor, name)

    async def _start_process(self, actor: A, name: str | None) -> Ref[A]:
        kernel = self._open_kernel()
        process = Process(actor, kernel, self, name, self._ended)
        process.ref = Ref(kernel, type(actor), Address(None, process.mailbox.serial))
        self._processes[process.mailbox.serial] = process
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        process.task = self._tasks.spawn(process.run(started), process.mailbox.shown)
        try:
            await started
        except asyncio.CancelledError:
            process.task.cancel()  # who starts it gave up: it is not left half started
            raise
        ref: Ref[A] = process.ref
        return ref

    def _ended(self, process: Process) -> None:
        self._processes.pop(process.mailbox.serial, None)

    async def stop(self, ref: Ref[Any] | str, reason: object = "normal", *, timeout: float = 5.0) -> None:
        """Stop an actor of this node after the handler that runs now; returns when it has ended.

        What waits in its mailbox is answered `ServerDown`. A handler that does not end
        within ``timeout`` seconds is cancelled. An actor that stops itself does so when
        its handler has ended. Raises `NoSuchServer`.
        """
        kernel = self._open_kernel()
        to = ref if isinstance(ref, str) else ref.address.to
        if not isinstance(ref, str) and ref.address.node is not None:
            raise UsageError(f"{ref!r} runs on {ref.node.name}: stop it there")
        mailbox = kernel.find(to)
        process = self._processes.get(mailbox.serial) if mailbox is not None else None
        if process is None or process.task is None:
            raise NoSuchServer(f"no server {to!r} runs on {kernel.id.name}", node=kernel.id, target=str(to))
        kernel.check_loop()
        process.stop(reason)
        if process.is_current:
            return  # it stops when this handler, which asked for it, has ended
        done, _ = await asyncio.wait([process.task], timeout=timeout)
        if not done:
            process.task.cancel()
            await asyncio.wait([process.task], timeout=1.0)

    def ref(self, cls: type[A], name: str, *, on: NodeId | str | None = None) -> Ref[A]:
        """Refer to a named actor, here or ``on`` a member (its name, its address, its `NodeId`).

        Nothing is sent, and the name is looked up anew at each send.
        """
        kernel = self._open_kernel()
        if not isinstance(name, str):
            raise ConfigError(f"actor name must be a str, not {type(name).__name__}: {name!r}")
        return Ref(kernel, cls, Address(None if on is None else self._member(on), name))

    def _member(self, which: NodeId | str) -> NodeId | None:
        """The node that is meant; None for this one."""
        if isinstance(which, str):
            which = NodeId.parse(which) if "@" in which else NodeId(check_name(which), "?", 0)
        if not isinstance(which, NodeId):
            raise ConfigError(f"a node is named by a str or a NodeId, not {which!r}")
        return None if which.name == self.id.name else which

    def whereis(self, name: str) -> Ref[GenServer] | None:
        """The process that has a name on this node now, or None."""
        kernel = self._open_kernel()
        mailbox = kernel.find(name)
        process = self._processes.get(mailbox.serial) if mailbox is not None else None
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
        method: Callable[Concatenate[A, P], Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Replies[Any]: ...
    @overload
    async def multicall(
        self, nodes: Iterable[NodeId | str], name: str, event: str, data: Any = ..., /
    ) -> Replies[Any]: ...
    async def multicall(
        self, nodes: Iterable[NodeId | str], name: str, method: Any, /, *args: Any, **kwargs: Any
    ) -> Replies[Any]:
        """Call the actor of that name on many nodes at once; who answered is in ``.ok``, who did not in ``.failed``."""
        return await self._to_many(nodes, name, lambda ref: ref.call(_name_of(method), *args, **kwargs))

    async def abcast(
        self, nodes: Iterable[NodeId | str], name: str, method: Any, /, *args: Any, **kwargs: Any
    ) -> Replies[None]:
        """Cast to the actor of that name on many nodes at once; ``.ok`` has those whose queue took it."""
        return await self._to_many(nodes, name, lambda ref: ref.cast(_name_of(method), *args, **kwargs))

    async def _to_many(
        self, nodes: Iterable[NodeId | str], name: str, send: Callable[[Ref[GenServer]], Any]
    ) -> Replies[Any]:
        ok: dict[NodeId, Any] = {}
        failed: dict[NodeId, Exception] = {}

        async def one(node: NodeId | str) -> None:
            member = self._member(node) or self.id
            shown = self.ring.get(member.name) or member
            try:
                ok[shown] = await send(self.ref(GenServer, name, on=node))
            except Exception as error:  # noqa: BLE001 - each failure is a result
                failed[shown] = error

        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(one(node))
        return Replies(ok, failed)


def _name_of(method: Any) -> str:
    if isinstance(method, str):
        return method
    mark = getattr(method, "__clusterkit_handler__", None)
    if mark is None:
        raise UsageError(f"{method!r} is no handler: give an exported method, or the name of an event")
    return str(mark.event or method.__name__)


def _cookie(given: str | bytes | Sequence[str | bytes] | None) -> str | bytes | Sequence[str | bytes]:
    if given is not None:
        return given
    found = os.environ.get("CLUSTERKIT_COOKIE")
    if not found:
        raise ConfigError(
            "no cookie: give Node(..., cookie=...) or set CLUSTERKIT_COOKIE; `clusterkit keygen` makes one"
        )
    return found
