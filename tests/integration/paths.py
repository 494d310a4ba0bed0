"""Two nodes of this process that reach each other through proxies alone: a test may stall, cut or slow their way."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from clusterkit import Config, DeadLetter, GenServer, LinkDown, LinkUp, Mailbox, Node, call, cast
from clusterkit.testing import ChaosProxy, Plan
from clusterkit.transport.base import Listener, Stream
from clusterkit.transport.link import Link
from clusterkit.transport.tcp import TcpNetwork
from tests.conftest import COOKIE, QUICK, eventually


class Sink(GenServer):
    """Keeps what comes, in order."""

    mailbox = Mailbox(1_000_000)

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.gate = asyncio.Event()
        self.waited = 0
        self.answering: Callable[[], object] = lambda: None

    @cast
    async def take(self, value: Any, fill: bytes = b"") -> None:
        self.seen.append(value)

    @call
    async def echo(self, value: Any, fill: bytes = b"") -> Any:
        self.answering()
        return value

    @call
    async def wait(self, data: Any = None) -> str:
        self.waited += 1
        await self.gate.wait()
        return "the answer"

    async def handle_info(self, info: Any) -> None:
        self.seen.append(info)


class Behind(TcpNetwork):
    """The network of a node that others reach through a proxy; ``send_buffer`` is what its sockets hold, in bytes."""

    def __init__(self, proxy: ChaosProxy, send_buffer: int | None = None) -> None:
        super().__init__()
        self._proxy = proxy
        self._send_buffer = send_buffer

    async def connect(self, host: str, port: int) -> Stream:
        stream: Any = await super().connect(host, port)
        self._shrink(stream._transport.get_extra_info("socket"))
        return stream  # type: ignore[no-any-return]

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        listener: Any = await super().listen(host, port, accepted)
        for sock in listener._sockets:
            self._shrink(sock)  # what is accepted inherits it
        self._proxy.target = host, listener.port
        return listener  # type: ignore[no-any-return]

    def _shrink(self, sock: Any) -> None:
        if self._send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)


class Side:
    """One of the two, with its sink and all that it told."""

    def __init__(self, node: Node, proxy: ChaosProxy, sink: Sink) -> None:
        self.node = node
        self.proxy = proxy
        self.sink = sink
        self.letters: list[DeadLetter] = []
        self.downs: list[LinkDown] = []
        self.ups: list[LinkUp] = []
        node.on(DeadLetter, self.letters.append)
        node.on(LinkDown, self.downs.append)
        node.on(LinkUp, self.ups.append)

    def link(self, to: str) -> Link:
        found = self.node._open_kernel().links.get(to)
        assert found is not None
        return found


class Pair:
    """Both sides, and what befalls the way between them."""

    def __init__(self, a: Side, b: Side) -> None:
        self.a, self.b = a, b
        self.to_b = a.node.ref(Sink, "sink", on="b")
        self.to_a = b.node.ref(Sink, "sink", on="a")

    def stall(self) -> None:
        for side in (self.a, self.b):
            side.proxy.stall()

    def refuse(self) -> None:
        for side in (self.a, self.b):
            side.proxy.refuse()

    def reset(self) -> None:
        for side in (self.a, self.b):
            side.proxy.reset()

    def go_on(self) -> None:
        for side in (self.a, self.b):
            side.proxy.go_on()

    async def fill(self, count: int, fill: bytes = b"", start: int = 0) -> None:
        """Cast numbers from a to b."""
        for number in range(start, start + count):
            await self.to_b.cast(Sink.take, number, fill)


@contextlib.asynccontextmanager
async def pair(
    config: Config = QUICK,
    *,
    plan: Plan | None = None,
    send_buffer: int | None = None,
    cookie: str | Sequence[str] = COOKIE,
) -> AsyncIterator[Pair]:
    """Two nodes, a and b, in ring ``test``, both behind proxies."""
    async with contextlib.AsyncExitStack() as stack:
        sides: list[Side] = []
        for name in "ab":
            proxy = await stack.enter_async_context(ChaosProxy("127.0.0.1", 0, plan=plan, seed=ord(name)))
            stack.callback(proxy.go_on)
            node = await stack.enter_async_context(
                Node(
                    f"{name}@127.0.0.1:{proxy.port}",
                    listen="127.0.0.1:0",
                    cookie=cookie,
                    config=config,
                    network=Behind(proxy, send_buffer),
                )
            )
            sink = Sink()
            await node.start(sink, name="sink")
            sides.append(Side(node, proxy, sink))
        a, b = sides
        await a.node.ring.join("test")
        await b.node.ring.join("test", [a.node.id.address])
        await eventually(lambda: "b" in a.node.ring and a.link("b").open and b.link("a").open)
        yield Pair(a, b)
