"""`SimCluster`: a cluster on virtual time and a network in memory, decided by a seed.

::

    @pytest.mark.simulation(seed=7)
    async def test_my_cluster():
        async with SimCluster(3, app=start_actors) as sim:      # nodes a, b and c, in one ring
            sim.partition("a", ["b", "c"])
            await asyncio.sleep(600)                            # ten minutes, in milliseconds
            sim.heal()
            await sim.settle()
            assert await sim["a"].ref(Counter, "counter", on="c").call(Counter.total) == 10

Rules. Each node runs on a `Machine` of its own: it can stand still, die, and have a wrong
clock. What a test calls on ``sim["a"]`` runs as the test's own, except for what leaves
on the network; `SimCluster.run` runs a coroutine as the node's. A node that crashed does
nothing until the cluster is left; then what it left is cleaned up, unseen by the others.
A node packs what it sends to its own actors too, so where an actor runs changes no payload.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from clusterkit.config import Config
from clusterkit.errors import ClusterError, JoinTimeout, UsageError
from clusterkit.node import Node
from clusterkit.runtime import now
from clusterkit.testing.loop import running_simulation
from clusterkit.testing.machine import Machine
from clusterkit.testing.network import HostNetwork, World
from clusterkit.testing.path import Conditions
from clusterkit.testing.remote_payloads import look_remote
from clusterkit.testing.trace import Trace
from clusterkit.testing.views import disagreement, filled_mailboxes, unacknowledged

T = TypeVar("T")
App = Callable[[Node], Awaitable[object]]
PORT = 7022
COOKIE = "the cookie of a simulated cluster"
_LOOK = 0.05  # seconds between two looks at a cluster that settles: more than an acknowledgement waits
_BURIAL = 60.0  # seconds that what a dead node left may take to end


class NotSettled(ClusterError, TimeoutError):
    """The cluster did not come to rest in time; the text says what still differs or moves."""


class Crashed(ClusterError, RuntimeError):
    """The node crashed before what was awaited on it had ended."""


def names(nodes: int | Iterable[str]) -> list[str]:
    """Name the nodes of a cluster: ``3`` stands for a, b and c.

    >>> names(3), names(["foo", "bar"])
    (['a', 'b', 'c'], ['foo', 'bar'])
    """
    if not isinstance(nodes, int):
        return list(nodes)
    return [chr(ord("a") + number) if nodes <= 26 else f"n{number}" for number in range(nodes)]


class _Life:
    """One life of one node: its machine, its network, and the task that holds it open."""

    def __init__(self, name: str, network: HostNetwork, machine: Machine) -> None:
        self.name = name
        self.network = network
        self.machine = network.machine = machine
        self.node: Node | None = None
        self.leaving = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.task = self.machine.spawn(work, f"node {self.name}")
        return self.task

    async def first_of(self, *ends: asyncio.Future[Any]) -> None:
        """Wait until one of ``ends`` has ended; raises `Crashed` when this life ends before."""
        await asyncio.wait([*ends, self.crashed], return_when=asyncio.FIRST_COMPLETED)
        if self.crashed.done() and not any(end.done() for end in ends):
            raise Crashed(f"node {self.name} crashed")


class SimCluster:
    """``nodes`` nodes in one ring; must be made in a simulation, else `UsageError`.

    Entered, it is at rest: every node knows every other. ``app`` is awaited for each
    node when it starts, before it joins: it starts the node's actors. ``conditions`` are those of the network, ``config`` that of every node.
    """

    def __init__(
        self,
        nodes: int | Iterable[str] = 3,
        *,
        app: App | None = None,
        ring: str = "simulation",
        config: Config | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        self.loop = running_simulation()
        self.world = World(conditions)
        """The network, for faults that have no shorter name here."""
        self.names = names(nodes)
        self._app = app
        self._ring = ring
        self._config = config
        self._lives: dict[str, _Life] = {}
        self._dead: list[_Life] = []

    @property
    def trace(self) -> Trace:
        """What happened so far."""
        return self.loop.trace

    def __getitem__(self, name: str) -> Node:
        """The node of that name; raises `UsageError` for one that does not run."""
        node = self._life(name).node
        if node is None:
            raise UsageError(f"node {name} is starting")
        return node

    def address(self, name: str) -> str:
        """Where a node listens when it runs: a seed for `Node.ring`."""
        return f"{self.world.network(name).host}:{PORT}"

    @property
    def running(self) -> list[Node]:
        """All nodes that have not crashed or stopped, those that stand still included."""
        return [life.node for life in self._lives.values() if life.node is not None]

    def _life(self, name: str) -> _Life:
        if name not in self._lives:
            raise UsageError(f"no node {name!r} runs: {', '.join(self._lives) or 'none does'}")
        return self._lives[name]

    # -- faults of the network ------------------------------------------------------

    def partition(self, *sides: str | Iterable[str], reset: bool = False) -> None:
        """Cut both ways between the sides; see `World.partition`."""
        self.world.partition(*sides, reset=reset)

    def cut(self, src: str, dst: str) -> None:
        """Let nothing pass from one node to another."""
        self.world.cut(src, dst)

    def heal(self, *nodes: str) -> None:
        """Undo all cuts, or those that touch one of ``nodes``."""
        self.world.heal(*nodes)

    # -- faults of nodes --------------------------------------------------------------

    def pause(self, name: str) -> None:
        """Let a node stand still: its loop runs nothing, its sockets stay open."""
        self.trace.add("pause", name)
        self.loop.halt(self._life(name).machine)

    def resume(self, name: str) -> None:
        """Let a paused node go on, late."""
        self.trace.add("resume", name)
        self.loop.resume(self._life(name).machine)

    def skew(self, name: str, seconds: float) -> None:
        """Set how far a node's wall clock is ahead."""
        self.trace.add("skew", name, seconds)
        self._life(name).machine.skew = seconds

    def crash(self, name: str, *, reset: bool = False) -> None:
        """End a node between two callbacks: silently, or with resets as a killed process does."""
        life = self._lives.pop(name, None) or self._life(name)
        self.loop.halt(life.machine)
        self.world.crash(name, reset=reset)
        life.crashed.set_result(None)
        self._dead.append(life)

    # -- lives ------------------------------------------------------------------------

    async def start(self, name: str, *, seeds: Iterable[str] | None = None, skew: float = 0.0) -> Node:
        """Start a node that does not run; it joins through ``seeds``, and dials on if none answers in time.

        Raises `Crashed` when it crashes over that. ``seeds`` are names of nodes, running or not: all that run, unless told. ``skew``: how
        many seconds its wall clock is ahead.
        """
        if name in self._lives:
            raise UsageError(f"node {name} runs already")
        self.world.revive(name)
        addresses = [self.address(seed) for seed in (self._lives if seeds is None else seeds)]
        life = self._lives[name] = _Life(name, self.world.network(name), Machine(name, skew))
        ready: asyncio.Future[Node] = self.loop.create_future()
        task = life.begin(self._live(life, addresses, ready))
        await life.first_of(ready, task)
        if not ready.done():
            del self._lives[name]
            await task
        life.node = ready.result()
        return life.node

    async def _live(self, life: _Life, seeds: list[str], ready: "asyncio.Future[Node]") -> None:
        address = f"{life.name}@{life.network.host}:{PORT}"
        async with Node(address, cookie=COOKIE, config=self._config, network=life.network) as node:
            look_remote(node)
            if self._app is not None:
                await self._app(node)
            try:
                await node.ring.join(self._ring, seeds)
            except JoinTimeout as error:
                self.trace.add("alone", life.name, str(error))
            ready.set_result(node)
            await life.leaving.wait()

    async def stop(self, name: str) -> None:
        """Stop a node gracefully: it leaves the ring. Raises `Crashed`."""
        life = self._life(name)
        life.leaving.set()
        assert life.task is not None
        await life.first_of(life.task)
        self._lives.pop(name, None)
        await life.task

    async def restart(self, name: str) -> Node:
        """Start a node again under another incarnation; one that runs is killed first."""
        if name in self._lives:
            self.crash(name, reset=True)
        return await self.start(name)

    async def run(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` as part of a node: it stands still and dies with it. Raises `Crashed`."""
        life = self._life(name)
        task = life.machine.spawn(work)
        try:
            await life.first_of(task)
        except BaseException:
            task.cancel()  # dead or paused, it ends when its machine goes on
            raise
        return await task

    # -- rest -------------------------------------------------------------------------

    async def settle(self, timeout: float = 60.0) -> None:
        """Wait until every message has arrived, no mailbox is filled, and all that can talk see one ring.

        Paused nodes, and what is on its way to a node that is out of reach, do not
        count. Raises `NotSettled` after ``timeout`` seconds of virtual time.
        """
        deadline, calm = now() + timeout, 0
        while calm < 2:
            if now() >= deadline:
                raise NotSettled(f"not at rest after {timeout:g} s: {self._unrest()}")
            await asyncio.sleep(_LOOK)
            calm = 0 if self._unrest() else calm + 1

    def _unrest(self) -> str | None:
        for node in self.running:
            name = node.id.name
            if waiting := [peer for peer in unacknowledged(node) if self._can_hear(name, peer)]:
                return f"messages of {name} are on their way to {', '.join(waiting)}"
            if filled := filled_mailboxes(node):
                return f"letters wait on {node.id.name} for {', '.join(filled)}"
        return next((why for island in self._islands() if (why := disagreement(island))), None)

    def _islands(self) -> list[list[Node]]:
        """The running nodes, grouped by who can talk with whom, both ways."""
        left = [node for node in self.running if not self._life(node.id.name).machine.halted]
        islands: list[list[Node]] = []
        while left:
            island = [left.pop(0)]
            for member in island:  # grows while it is walked
                near = [node for node in left if self._connected(member.id.name, node.id.name)]
                island += near
                left = [node for node in left if node not in near]
            islands.append(island)
        return islands

    def _can_hear(self, name: str, peer: str) -> bool:
        both = [self._lives.get(each) for each in (name, peer)]
        return all(life is not None and not life.machine.halted for life in both) and self._connected(name, peer)

    def _connected(self, one: str, other: str) -> bool:
        return not (self.world.path(one, other).blocked or self.world.path(other, one).blocked)

    # -- the block ----------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            for name in self.names:
                await self.start(name)
            await self.settle()
        except BaseException:
            await self._end(gently=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(gently=kind is None)

    async def _end(self, *, gently: bool) -> None:
        living, self._lives = list(self._lives.values()), {}
        self.world.heal()
        for life in living:
            self.loop.resume(life.machine)
            life.leaving.set()
            if not gently and life.task is not None:
                life.task.cancel()
        failed = await _ended(living)
        for life in self._dead:
            self.loop.resume(life.machine)
            if (
                life.task is not None and not life.leaving.is_set()
            ):  # who was stopping when it crashed goes on with that
                life.task.cancel()
        await _ended(self._dead)
        if gently and failed:
            raise failed[0]


async def _ended(lives: list[_Life]) -> list[BaseException]:
    """Wait until the lives have ended; return what they raised."""
    tasks = [life.task for life in lives if life.task is not None]
    if not tasks:
        return []
    done, _ = await asyncio.wait(tasks, timeout=_BURIAL)
    return [error for task in tasks if task in done and not task.cancelled() and (error := task.exception())]
