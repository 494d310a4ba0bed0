"""The laws of `clusterkit.transport.base` over asyncio streams."""

import asyncio
import socket
from collections.abc import Callable

from clusterkit import runtime
from clusterkit.transport.base import Listener, Stream


class TcpStream:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.drain = writer.drain
        self._writer = writer
        self._transport = writer.transport
        self._aborted = False
        where = writer.get_extra_info("peername")
        self._remote = str(where[0]) if where else "?"
        sock = writer.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def remote(self) -> str:
        """The host of the other end."""
        return self._remote

    @property
    def unsent(self) -> int:
        """Bytes in the transport's buffer."""
        return self._transport.get_write_buffer_size()

    async def read(self, size: int) -> bytes:
        """At least one byte; none at the end."""
        return await self._reader.read(size)

    def write(self, data: bytes) -> None:
        """Send now what the system takes, and buffer the rest."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Close without sending what is unsent."""
        self._aborted = True
        self._transport.abort()

    async def aclose(self) -> None:
        """Close after sending what is unsent; abort when cancelled."""
        if self._aborted:
            return  # a wait that was cancelled would cancel this one too: asyncio shares one future
        try:
            self._writer.close()
            await self._writer.wait_closed()
        except OSError:
            pass  # it was lost: closed all the same
        except asyncio.CancelledError:
            self.abort()
            raise


class TcpListener:
    """A listening socket (or one per family, for a name with several addresses)."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self._port = int(server.sockets[0].getsockname()[1])

    @property
    def port(self) -> int:
        """The bound port."""
        return self._port

    async def aclose(self) -> None:
        """Stop accepting; does not wait for accepted connections, which have owners of their own."""
        self._server.close()
        await asyncio.sleep(0)


class TcpNetwork:
    """Real sockets."""

    async def connect(self, host: str, port: int) -> Stream:
        """Try each address of ``host`` in turn."""
        failure: OSError | None = None
        for address, number in await runtime.resolve(host, port):
            try:
                return TcpStream(*await asyncio.open_connection(address, number))
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host!r} has no address")

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        """Bind ``host:port`` and accept from now on."""

        def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted(TcpStream(reader, writer))

        return TcpListener(await asyncio.start_server(came, host, port, backlog=1024))
