"""A network in memory, with the faults of a real one, on a simulation's loop.

A `World` is the whole network; each node has its own door to it, a `HostNetwork`,
which keeps the laws of `clusterkit.transport.base`. Faults are the world's::

    world = World()
    a, b = world.network("a"), world.network("b")
    world.partition("a", "b")       # both ways; packets stall, and go again after heal()
    world.cut("a", "b")             # from a to b alone
    world.crash("b")                # silence: the power is out; reset=True: the process died

Rules. Each node has a host of its own, 10.0.x.y, that its name resolves to; loopback
is one machine that all share. Where nobody listens a connect is refused; where nobody
is, or the way is cut, it hangs until its caller gives up or the way is healed. The
seed decides latency, loss and fragments; each path draws from a stream of its own.
"""

import asyncio
import contextvars
import errno
import itertools
from collections.abc import Callable, Iterable

from clusterkit.testing.loop import running_simulation
from clusterkit.testing.machine import here
from clusterkit.testing.path import Conditions, Path
from clusterkit.testing.stream import MemoryStream, Pipe
from clusterkit.transport.base import Listener, Stream

Address = tuple[str, int]
_FIRST_EPHEMERAL_PORT = 49_152
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - what a simulated node may listen on


class World:
    """All nodes, the paths between them and the connections they have open.

    Must be made inside a simulation; raises `UsageError` elsewhere.
    """

    def __init__(self, conditions: Conditions | None = None) -> None:
        self._loop = running_simulation()
        self._conditions = conditions or Conditions()
        self._hosts: dict[str, str] = {}
        self._networks: dict[str, HostNetwork] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._cuts: dict[tuple[str, str], None] = {}
        self._dark: dict[str, None] = {}
        self._streams: dict[MemoryStream, None] = {}
        self._dials: dict[int, tuple[HostNetwork, Path, Path]] = {}
        self._listeners: dict[Address, MemoryListener] = {}
        self._numbers = itertools.count(1)
        self._ports = itertools.count(_FIRST_EPHEMERAL_PORT)

    # -- nodes and connections ----------------------------------------------------

    def network(self, name: str) -> "HostNetwork":
        """The network as the node ``name`` sees it: one object until the node crashes, then another."""
        if name not in self._hosts:
            number = len(self._hosts) + 1
            self._hosts[name] = f"10.0.{number // 256}.{number % 256}"
            self._loop.environment.hosts[name] = [self._hosts[name]]
        if name not in self._networks:
            self._networks[name] = HostNetwork(self, name, self._hosts[name])
        return self._networks[name]

    @property
    def quiet(self) -> bool:
        """No connect is under way, no byte unsent, in flight or unread; what a cut or a halted node holds up is not counted."""
        dialling = any(not (who.stands_still or to.blocked or fro.blocked) for who, to, fro in self._dials.values())
        return not (dialling or any(stream.busy for stream in self._streams))

    def path(self, src: str, dst: str) -> Path:
        """The way from ``src`` to ``dst``."""
        if (src, dst) not in self._paths:
            path = self._paths[src, dst] = Path(self._loop, src, dst, self._conditions)
            path.blocked = self._blocked(src, dst)
        return self._paths[src, dst]

    def shape(self, conditions: Conditions, src: str | None = None, dst: str | None = None) -> None:
        """Set the conditions of the way from ``src`` to ``dst``; None stands for every node known so far.

        A window holds for connections made later.
        """
        if src is None and dst is None:
            self._conditions = conditions
        for one in [src] if src else self._hosts:
            for other in [dst] if dst else self._hosts:
                self.path(one, other).conditions = conditions

    # -- faults -------------------------------------------------------------------

    def cut(self, src: str, dst: str) -> None:
        """Let nothing pass from ``src`` to ``dst``; the other direction stays as it is."""
        self._trace("cut", src, dst)
        self._cuts[src, dst] = None
        self._refresh(src, dst)

    def partition(self, *sides: str | Iterable[str], reset: bool = False) -> None:
        """Cut both ways between all ``sides``; one side alone is cut off from all others.

        Packets stall as they do in TCP. With ``reset``, the connections between
        the sides are lost at once, at both ends.
        """
        groups = [[side] if isinstance(side, str) else list(side) for side in sides]
        if len(groups) == 1:
            groups.append([name for name in self._hosts if name not in groups[0]])
        for one, other in itertools.permutations(groups, 2):
            for src, dst in itertools.product(one, other):
                self.cut(src, dst)
                if reset:
                    self.reset(src, dst)

    def heal(self, *names: str) -> None:
        """Undo all cuts, or those that touch one of ``names``; what had stalled goes again."""
        self._trace("heal", *names)
        for src, dst in list(self._cuts):
            if not names or src in names or dst in names:
                del self._cuts[src, dst]
                self._refresh(src, dst)

    def reset(self, one: str, other: str, *, seen_by: str | None = None) -> None:
        """Lose every connection between two nodes, with all that is in flight; both ends see it.

        With ``seen_by`` one of them sees it, and the other sends into nothing until it is told so.
        """
        self._trace("reset", one, other, *([seen_by] if seen_by else []))
        for stream in self._between(one, other):
            if seen_by in (None, stream.ends[0]):
                stream.lose(f"the connection of {one} and {other} was reset")

    def forget(self, one: str, other: str) -> None:
        """Make every connection between two nodes half open for ever: nothing arrives, no end sees it.

        So does a middlebox that was restarted. New connections are not touched.
        """
        self._trace("forget", one, other)
        for stream in self._between(one, other):
            stream.lose_touch()

    def crash(self, name: str, *, reset: bool = False) -> None:
        """End all that ``name`` has on the network.

        Silent, as when its power fails: peers are told nothing, and connects hang until
        `revive`. With ``reset``, as when its process is killed: peers see resets, and
        connects are refused. What runs there is not stopped (`SimulationLoop.halt` does that),
        but its network is dead for good; `network` makes another for the node's next life.
        """
        self._trace("crash", name, "reset" if reset else "silence")
        if (network := self._networks.pop(name, None)) is not None:
            network.dead = True
        for listener in [each for each in self._listeners.values() if each.network.name == name]:
            listener.close()
        for stream in [each for each in self._streams if each.ends[0] == name]:
            if reset:
                stream.send_reset(f"{name} was killed")
            stream.vanish()
        if not reset:
            self._dark[name] = None
        self._refresh_all(name)

    def revive(self, name: str) -> None:
        """The node's host answers again: connects are refused, or taken by a new listener."""
        self._trace("revive", name)
        self._dark.pop(name, None)
        self._refresh_all(name)

    def _blocked(self, src: str, dst: str) -> bool:
        return (src, dst) in self._cuts or src in self._dark or dst in self._dark

    def _refresh(self, src: str, dst: str) -> None:
        path = self.path(src, dst)
        if path.blocked != self._blocked(src, dst):
            path.block(not path.blocked)

    def _refresh_all(self, name: str) -> None:
        for src, dst in list(self._paths):
            if name in (src, dst):
                self._refresh(src, dst)

    def _between(self, one: str, other: str) -> list[MemoryStream]:
        return [stream for stream in self._streams if stream.ends in ((one, other), (other, one))]

    def _trace(self, fault: str, *names: str) -> None:
        self._loop.trace.add(fault, *names)

    # -- connecting ---------------------------------------------------------------

    def bind(
        self, network: "HostNetwork", host: str, port: int, accepted: Callable[[Stream], None]
    ) -> "MemoryListener":
        """Give ``network`` the address; raises `OSError` when it is taken or another node's."""
        host = network.host if host in _ANY else host
        if self._owner(host, network) not in (network.name, None):
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of {network.name}")
        port = port or next(self._ports)
        if (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use")
        listener = MemoryListener(self, network, (host, port), accepted)
        self._listeners[host, port] = listener
        self._loop.open[listener] = repr(listener)
        return listener

    def unbind(self, listener: "MemoryListener") -> None:
        """Take the listener's address back."""
        self._listeners.pop(listener.address, None)
        self._loop.open.pop(listener, None)

    async def dial(self, network: "HostNetwork", address: Address) -> MemoryStream:
        """Open a connection; hangs while the way is cut; raises `ConnectionRefusedError`."""
        while (there := self._who_has(address, network)) is None:
            await self._loop.create_future()  # nobody has this address: nobody answers
        number, to, fro = next(self._numbers), self.path(network.name, there), self.path(there, network.name)
        self._dials[number] = network, to, fro
        try:
            await to.travel()
            listener = self._listeners.get(address)
            await fro.travel()
        finally:
            del self._dials[number]
        network.check_alive()
        return self._open(number, network, address, listener)

    def _who_has(self, address: Address, asking: "HostNetwork") -> str | None:
        listener = self._listeners.get(address)
        return listener.network.name if listener else self._owner(address[0], asking)

    def _open(
        self, number: int, network: "HostNetwork", address: Address, listener: "MemoryListener | None"
    ) -> MemoryStream:
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {address[0]}:{address[1]}")
        here, there = network.name, listener.network.name
        to, fro = self.path(here, there), self.path(there, here)
        outgoing, incoming = Pipe(f"{here}>{there}#{number}", to, fro), Pipe(f"{there}>{here}#{number}", fro, to)
        near = self._track(MemoryStream(address[0], outgoing, incoming, network.machine, self._untrack))
        far = MemoryStream(network.host, incoming, outgoing, listener.network.machine, self._untrack)
        self._streams[far] = None  # faults find it from now on; it is the listener's to close when it arrives
        near.join(far)
        far.join(near)
        self._trace("open", outgoing.label)
        outgoing.launch(lambda: self._arrive(far, listener))
        return near

    def _arrive(self, stream: MemoryStream, listener: "MemoryListener") -> None:
        if stream in self._streams:
            self._track(stream)
        listener.take(stream)

    def _owner(self, host: str, asking: "HostNetwork") -> str | None:
        if host.startswith("127."):
            return asking.name
        return next((name for name, own in self._hosts.items() if own == host), None)

    def _track(self, stream: MemoryStream) -> MemoryStream:
        self._streams[stream] = None
        self._loop.open[stream] = repr(stream)
        return stream

    def _untrack(self, stream: MemoryStream) -> None:
        self._streams.pop(stream, None)
        self._loop.open.pop(stream, None)


class HostNetwork:
    """The network as one node sees it: a `clusterkit.transport.base.Network`."""

    def __init__(self, world: World, name: str, host: str) -> None:
        self._world = world
        self.name = name
        self.host = host
        """The address that is this node's own."""
        self.machine = here()
        """Where this node runs; while it is halted, nothing leaves it."""
        self.dead = False
        """The node has crashed: this network does nothing any more."""

    @property
    def stands_still(self) -> bool:
        """Nothing happens here: the node has crashed, or its machine is halted."""
        return self.dead or (self.machine is not None and self.machine.halted)

    async def connect(self, host: str, port: int) -> Stream:
        """Try each address of ``host`` in turn; raises `OSError`."""
        self.check_alive()
        failure: OSError | None = None
        environment = running_simulation().environment
        for address in await environment.resolve(host, port):
            try:
                return await self._world.dial(self, address)
            except OSError as error:
                failure = error
        raise failure or OSError(errno.EADDRNOTAVAIL, f"{host!r} has no address")

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        """Bind ``host:port``, or a free port for 0; raises `OSError`."""
        self.check_alive()
        address = host
        if host not in _ANY:
            address = (await running_simulation().environment.resolve(host, port))[0][0]
        return self._world.bind(self, address, port, accepted)

    def check_alive(self) -> None:
        """Raise `OSError` when the node has crashed."""
        if self.dead:
            raise OSError(errno.ENETDOWN, f"{self.name} has crashed")


class MemoryListener:
    """A bound address: a `clusterkit.transport.base.Listener`."""

    pauses = 0  # nothing runs out in memory

    def __init__(
        self, world: World, network: HostNetwork, address: Address, accepted: Callable[[Stream], None]
    ) -> None:
        self._world = world
        self.network = network
        self.address = address
        self._accepted = accepted
        self._open = True
        # `accepted` is the node's own code: it waits while its machine is halted.
        self._context = contextvars.copy_context()

    def __repr__(self) -> str:
        return f"<MemoryListener of {self.network.name} on {self.address[0]}:{self.address[1]}>"

    @property
    def port(self) -> int:
        """The bound port."""
        return self.address[1]

    def take(self, stream: MemoryStream) -> None:
        """A connection is complete: hand it over, or reset it when this listener is closed."""
        if self._open:
            asyncio.get_running_loop().call_soon(self._hand_over, stream, context=self._context)
        else:
            stream.send_reset(f"{self.network.name} stopped listening")
            stream.vanish()

    def _hand_over(self, stream: MemoryStream) -> None:
        if self._open:
            self._accepted(stream)
        else:
            stream.abort()

    def close(self) -> None:
        """Stop accepting."""
        self._open = False
        self._world.unbind(self)

    async def aclose(self) -> None:
        """Stop accepting. Streams that were accepted live on."""
        self.close()
        await asyncio.sleep(0)
