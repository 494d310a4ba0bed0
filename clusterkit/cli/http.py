"""An HTTP server in the loop of the node: uvicorn, without its hold on the process.

Rules: signals stay with whoever runs the node; a port that cannot be had is a
`ListenError`; it stops in two steps, so that requests that wait can be told why they
get nothing; no connection outlives it, also one whose client does not read.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Generator, Sequence
from typing import Any

import uvicorn

from clusterkit.core.identity import format_host_port
from clusterkit.errors import ListenError
from clusterkit.runtime import Tasks, now, resolve, until

_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # an address of the name that this machine does not have
_LATE = 0.3  # seconds for those that wait to be told that it ends, and for uvicorn to end


class HttpServer(uvicorn.Server):
    """An ASGI app on a host and port, served from `start` to `aclose`; port 0 takes a free one."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host,
                port,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )
        self._tasks = Tasks("http")
        self._listening = asyncio.Event()
        self._ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave them to whoever runs the node."""
        yield

    async def start(self) -> int:
        """Listen; return the port. Raises `ListenError`."""
        sockets = await _bind(self.config.host, self.config.port)
        self._serving = self._tasks.spawn(self.serve(sockets), "serve")
        listening = self._tasks.spawn(self._listening.wait(), "listening")
        await asyncio.wait({self._serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()
        return int(sockets[0].getsockname()[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell that it does."""
        await super().startup(sockets)
        self._listening.set()

    async def main_loop(self) -> None:
        """Wait for the end; once a second the date of the answers is set."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await until(now() + 1.0, self._ending.wait())

    async def stop(self, grace: float) -> None:
        """Take no more connections, close idle ones, and give requests that run so many seconds."""
        self.should_exit = True
        self._ending.set()
        await asyncio.wait({self._serving}, timeout=grace)

    async def aclose(self) -> None:
        """End what is left: requests that wait still are cancelled, then all connections aborted."""
        self.force_exit = True
        await self.stop(0.0)
        for request in self.server_state.tasks:
            request.cancel()
        await asyncio.wait({self._serving, *self.server_state.tasks}, timeout=_LATE)
        for connection in self.server_state.connections:
            connection.transport.abort()
        await asyncio.wait({self._serving}, timeout=_LATE)
        await self._tasks.aclose()


async def _bind(host: str, port: int) -> list[socket.socket]:
    """Bind every address of ``host`` that this machine has, all to one port."""
    try:
        return _bind_each([address for address, _ in await resolve(host, port)], port)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error.strerror or error)
        raise ListenError(f"cannot serve HTTP on {format_host_port(host, port)}: {reason}") from None


def _bind_each(addresses: Sequence[str], port: int) -> list[socket.socket]:
    with contextlib.ExitStack() as undo:
        bound: list[socket.socket] = []
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                sock = undo.enter_context(socket.create_server((address, port), family=family))
            except OSError as error:
                if error.errno not in _NOT_OURS or (address == addresses[-1] and not bound):
                    raise
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
                bound.append(sock)
                port = int(sock.getsockname()[1])
        undo.pop_all()
        return bound
