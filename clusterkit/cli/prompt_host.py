"""What lives behind the prompt: a loop in a thread of its own, and the node that it may host.

The prompt and the commands have the main thread, so that Ctrl-C is theirs; the node answers
and the events are followed whether somebody types or a command runs.

Rules: a node that is hosted leaves its ring when the prompt ends, within two seconds; an
address that was not given is on loopback, on port 7022 or, if that is taken, a free one.
"""

import asyncio
import os
import platform
import re
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, TypeVar

from clusterkit.cli.failure import Exit, Failure, of_question, of_start, usage
from clusterkit.config import Config
from clusterkit.core.identity import NodeId, format_host_port
from clusterkit.errors import ClusterError, ListenError
from clusterkit.node import Node
from clusterkit.runtime import Daemon, Tasks
from clusterkit.services.client import Client
from clusterkit.transport.tls import TLS

T = TypeVar("T")

RING = "cluster"
"""The ring of a node that was given none."""

_HOST, _PORT = "127.0.0.1", 7022
_CONFIG = Config(drain_timeout=1.5)
_LEAVE = 2.0  # seconds that the end of the prompt waits for the node to have left


class Backstage:
    """A loop in a thread, for what goes on while the main thread waits for a line or runs a command."""

    def __init__(self) -> None:
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._ending = asyncio.Event()
        self._tasks = Tasks("prompt")
        self._daemon = Daemon("prompt", lambda _: asyncio.run(self._live(ready)))
        self._loop = ready.result()

    async def _live(self, ready: "Future[asyncio.AbstractEventLoop]") -> None:
        ready.set_result(asyncio.get_running_loop())
        try:
            await self._ending.wait()
        finally:
            await self._tasks.aclose()

    def do(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run ``work`` on the loop and wait for it; whoever gives up, by Ctrl-C or at the time, cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Start what goes on by itself."""

        async def spawn() -> "asyncio.Task[None]":
            return self._tasks.spawn(work, name)

        return self.do(spawn())

    def end(self, task: "asyncio.Task[None]") -> None:
        """End what was begun."""
        self._loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End all that goes on, and the thread."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._daemon.stop()


class Host:
    """The node that the prompt hosts, once there is one. Everything here runs on the loop behind."""

    def __init__(self, cookies: Sequence[bytes], tls: TLS | None, timeout: float) -> None:
        self.node: Node | None = None
        self._cookies = list(cookies)
        self._tls = tls
        self._timeout = timeout

    async def start(self, address: str | None, ring: str) -> Node:
        """Start a node that is a ring of its own; raises `Failure`."""
        if self.node is not None:
            raise usage(f"this prompt hosts {self.node.id} already", "join_cluster IP PORT joins it to another's ring")
        try:
            node = self.node = await self._open(address)
            await node.ring.join(ring)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, ClusterError):
                raise of_start(error) from error
            raise
        return node

    async def join(self, host: str, port: int) -> Node:
        """Let the node join the ring of the one that is there, and host one if there is none; raises `Failure`."""
        ring = await self._ring_of(host, port)
        hosted = self.node
        try:
            if hosted is None:
                self.node = await self._open(None)
            assert self.node is not None
            _check_reachable(self.node.id, host)
            await self._enter(self.node, ring, format_host_port(host, port))
        except BaseException as error:
            if hosted is None:
                await self.aclose()
            if isinstance(error, ClusterError | OSError):
                raise of_start(error) if isinstance(error, ClusterError) else of_question(error, host, 0) from error
            raise
        return self.node

    async def _enter(self, node: Node, ring: str, seed: str) -> None:
        if node.ring.id == ring:
            await node.ring.meet(seed, timeout=self._timeout)
            return
        if node.ring.id:
            if len(node.ring) > 1:
                message = f"{node.id.name} is in ring {node.ring.id} with others, and the node at {seed} in ring {ring}"
                raise Failure(Exit.REFUSED, "in-ring", message, "`leave` first")
            await node.ring.leave(timeout=0.5)
        try:
            await node.ring.join(ring, [seed], timeout=self._timeout)
        except ClusterError:
            await node.ring.leave(timeout=0.5)
            raise

    async def _ring_of(self, host: str, port: int) -> str:
        """The ring of the node that is there; raises `Failure`."""
        where = format_host_port(host, port)
        try:
            async with asyncio.timeout(self._timeout):
                async with Client(host, port, cookie=self._cookies[0], tls=self._tls) as client:
                    told = await client.call("ping", timeout=self._timeout)
        except (OSError, ClusterError) as error:
            raise of_question(error, where, self._timeout) from error
        if not told["ring"]:
            raise Failure(
                Exit.REFUSED, "not-in-ring", f"{told['name']} at {where} is in no ring", "start_cluster there"
            )
        return str(told["ring"])

    async def _open(self, address: str | None) -> Node:
        """Start a node in no ring."""
        for choice in addresses(address, platform.node()):
            node = Node(choice, cookie=self._cookies, tls=self._tls, config=_CONFIG)
            try:
                return await node.__aenter__()
            except ListenError:
                if choice.endswith(f":{_PORT}") and address != choice:
                    continue  # not what was asked for, only what is tried first
                raise
        raise AssertionError("the last choice is tried")

    async def aclose(self) -> None:
        """Leave the ring and close the node, if there is one."""
        node, self.node = self.node, None
        if node is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await node.aclose()


def addresses(given: str | None, machine: str) -> list[str]:
    """The addresses to try for a node: the one that was given, or what is made of its name, or of the machine's."""
    if given is not None and "@" in given:
        return [given]
    name = given or default_name(machine)
    return [f"{name}@{_HOST}:{_PORT}", f"{name}@{_HOST}:0" if given else f"{name}-{os.getpid()}@{_HOST}:0"]


def default_name(machine: str) -> str:
    """The name of a node that was given none: that of the machine, as far as it can be one.

    >>> default_name("ada's laptop.local"), default_name(""), default_name("x" * 80) == "x" * 40
    ('ada-s-laptop', 'node', True)
    """
    return re.sub("[^A-Za-z0-9_-]+", "-", machine.partition(".")[0]).strip("-")[:40] or "node"


def _check_reachable(me: NodeId, other: str) -> None:
    """See that a member on another machine can dial this one; raises `Failure`."""
    with suppress(ValueError):  # a host name tells nothing
        if ip_address(me.host).is_loopback and not ip_address(other).is_loopback:
            hint = "start_cluster NAME@HOST:PORT first, with an address of this machine that the others reach"
            raise usage(f"{other} is another machine, and {me} is only reached from this one", hint)
