"""The laws of `clusterkit.transport.base` over asyncio streams.

Rules of accepting: a connection is handed up the moment it is accepted, so that whoever counts
the unproven ones counts it through its TLS handshake too; nothing that befalls one connection
ends the accepting of others; out of descriptors it pauses, says so once, and goes on.
"""

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from clusterkit import runtime
from clusterkit.transport.base import Listener, Stream
from clusterkit.transport.doorway import Doorway
from clusterkit.transport.tls import TLS, TlsStream

logger = logging.getLogger("clusterkit.transport")

_BACKLOG = 4096  # connections that the system keeps waiting, if it allows so many
_AT_ONCE = 32  # of them taken in one turn, so that a flood leaves turns to others
_PAUSE = 0.1  # seconds without accepting when descriptors have run out
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # an address of the name that this machine does not have
_UNSENT = 128 << 10  # bytes that the system takes beyond what is on the way
_PORTS_TRIED = 8  # until one is free on every address of the name


class TcpStream:
    """One TCP connection: one that was dialled, or an accepted socket that `established` gives to the loop.

    An accepted one is a `Doorway` until the other end is `proven`.
    """

    _reader: asyncio.StreamReader | Doorway
    _writer: asyncio.StreamWriter | None = None
    _transport: asyncio.WriteTransport | None = None

    def __init__(self, remote: str, accepted: socket.socket | None = None) -> None:
        self._remote = remote
        self._accepted = accepted
        self._aborted = False
        self._closed = False

    @classmethod
    async def dial(cls, address: str, port: int) -> "TcpStream":
        """Connect to an address; raises `OSError`."""
        stream = cls(address)
        stream._carry(*await asyncio.open_connection(address, port))
        return stream

    def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._transport = reader, writer, writer.transport
        _bound_unsent(writer.get_extra_info("socket"))

    @property
    def remote(self) -> str:
        """The host of the other end."""
        return self._remote

    @property
    def names(self) -> frozenset[str] | None:
        """Nothing to check: without TLS there are no certificates."""
        return None

    @property
    def unsent(self) -> int:
        """Bytes in the transport's buffer."""
        return 0 if self._aborted or self._transport is None else self._transport.get_write_buffer_size()

    async def established(self) -> None:
        """Let the loop carry the accepted socket."""
        accepted, self._accepted = self._accepted, None
        if accepted is not None:
            self._reader = await Doorway.of(accepted)
            self._transport = self._reader.transport
        if self._aborted:
            self.abort()
            raise ConnectionAbortedError(errno.ECONNABORTED, "aborted before it was established")

    async def proven(self) -> None:
        """Read ahead from now on."""
        if isinstance(self._reader, Doorway):
            self._carry(*self._reader.enter())

    async def read(self, size: int) -> bytes:
        """At least one byte; none at the end."""
        return await self._reader.read(size)

    async def drain(self) -> None:
        """Wait until the buffer is low; what is written before the proof fits into any."""
        if self._writer is not None:
            await self._writer.drain()

    def write(self, data: bytes) -> None:
        """Send now what the system takes, and buffer the rest."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Close without sending what is unsent."""
        self._aborted = True
        if self._closed:
            return  # asyncio's transport is gone, and fails when it is aborted after it had to flush
        if self._transport is not None:
            self._transport.abort()
        elif self._accepted is not None:
            self._accepted.close()
            self._accepted = None

    async def aclose(self) -> None:
        """Close after sending what is unsent; abort when cancelled."""
        if self._transport is None:
            self.abort()
        if self._aborted or self._transport is None:
            return  # a wait that was cancelled would cancel this one too: asyncio shares one future
        try:
            self._transport.close()
            if self._writer is not None:
                await self._writer.wait_closed()
            elif isinstance(self._reader, Doorway):
                await asyncio.shield(self._reader.lost)
        except OSError:
            pass  # it was lost: closed all the same
        except asyncio.CancelledError:
            self.abort()
            raise
        self._closed = True


def _bound_unsent(sock: socket.socket) -> None:
    """Let the system hold little that it has not sent: a probe stands behind all of it."""
    if (option := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, _UNSENT)


class TcpListener:
    """Listening sockets, one per address of the host.

    Not `loop.sock_accept`: cancelled at the wrong moment it drops a connection that it has taken.
    """

    def __init__(self, sockets: Sequence[socket.socket], accepted: Callable[[TcpStream], None]) -> None:
        self._sockets = sockets
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._exhausted = False
        self._pauses = 0
        self._resuming: dict[socket.socket, asyncio.TimerHandle] = {}
        for sock in sockets:
            self._loop.add_reader(sock, self._accept, sock)

    @property
    def port(self) -> int:
        """The bound port, the same on every address."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def pauses(self) -> int:
        """How often accepting has waited for descriptors."""
        return self._pauses

    def _accept(self, sock: socket.socket) -> None:
        try:
            for _ in range(_AT_ONCE):
                connection, where = sock.accept()
                connection.setblocking(False)
                self._accepted(TcpStream(where[0], connection))
        except BlockingIOError:
            self._exhausted = False  # nobody waits: what may come is another shortage
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause(sock, error)
            else:  # the fault of one connection, which was gone before it was taken
                logger.debug("a connection was not accepted: %s", error)

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        if not self._exhausted:
            self._exhausted = True
            logger.warning("no connection can be accepted for now (%s): trying again every %g s", error, _PAUSE)
        self._pauses += 1
        self._loop.remove_reader(sock)
        self._resuming[sock] = self._loop.call_later(_PAUSE, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        del self._resuming[sock]
        self._loop.add_reader(sock, self._accept, sock)

    async def aclose(self) -> None:
        """Stop accepting; does not wait for accepted connections, which have owners of their own."""
        for timer in self._resuming.values():
            timer.cancel()
        self._resuming.clear()
        for sock in self._sockets:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
                sock.close()
        await asyncio.sleep(0)


def _bind_all(host: str, addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Bind every address that this machine has, all to one port."""
    order = deque(addresses)
    for _ in range(_PORTS_TRIED):
        try:
            return _bind_each(host, order, port)
        except OSError as error:
            failure = error
            if port or error.errno != errno.EADDRINUSE:
                break
            order.rotate()  # another address draws the port, which was in use on one of them
    raise failure


def _bind_each(host: str, addresses: Iterable[str], port: int) -> list[socket.socket]:
    with ExitStack() as undo:
        bound: list[socket.socket] = []
        missing = OSError(errno.EADDRNOTAVAIL, f"{host!r} has no address")
        for address in addresses:
            try:
                bound.append(undo.enter_context(_bind(address, port)))
            except OSError as error:
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
                missing = OSError(error.errno, reason if address == host else f"{address}: {reason}")
                if error.errno not in _NOT_OURS:
                    raise missing from None
            else:
                port = int(bound[-1].getsockname()[1])
        if not bound:
            raise missing
        undo.pop_all()
        return bound


def _whole(family: socket.AddressFamily, address: str, port: int) -> tuple[Any, ...]:
    """The socket address of a numeric one, with the scope that an address of IPv6 may name; asks no resolver."""
    return socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4]


def _bind(address: str, port: int) -> socket.socket:
    with ExitStack() as undo:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        sock.setblocking(False)
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(_whole(family, address, port))
        sock.listen(_BACKLOG)
        undo.pop_all()
        return sock


class TcpNetwork:
    """Real sockets, with TLS on all of them or on none."""

    def __init__(self, tls: TLS | None = None) -> None:
        self._tls = tls

    async def connect(self, host: str, port: int) -> Stream:
        """Try each address of ``host`` in turn; `ssl.SSLError` when TLS failed there."""
        failure: OSError | None = None
        for address, number in await runtime.resolve(host, port):
            try:
                return await self._dial(host, address, number)
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host!r} has no address")

    async def _dial(self, host: str, address: str, port: int) -> Stream:
        stream = await TcpStream.dial(address, port)
        if self._tls is None:
            return stream
        secured = TlsStream(stream, self._tls, (host, port))
        await secured.established()
        return secured

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        """Bind all addresses of ``host``, and accept from now on."""
        addresses = [address for address, _ in await runtime.resolve(host, port)]
        tls = self._tls
        sockets = _bind_all(host, addresses, port)
        if tls is None:
            return TcpListener(sockets, accepted)
        return TcpListener(sockets, lambda stream: accepted(TlsStream(stream, tls)))
