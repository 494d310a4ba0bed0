"""An accepted connection before its other end has proven anything.

asyncio's stream reads a quarter of a megabyte ahead of its reader, and so would a stranger
fill our memory. Here nothing is taken from the network but what a read asks for.
"""

import asyncio
import socket
from typing import cast

_UNASKED = 64  # bytes that a loop may take before the first read is asked for; they wait for it


class Doorway(asyncio.BufferedProtocol):
    """The protocol of such a connection, until `enter` hands it over to a stream."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._came = bytearray()
        self._buffer = bytearray(_UNASKED)
        self._ended = False
        self._reader: asyncio.Future[None] | None = None

    @classmethod
    async def of(cls, accepted: socket.socket) -> "Doorway":
        """Put an accepted socket under the loop; raises `OSError`."""
        _, doorway = await asyncio.get_running_loop().connect_accepted_socket(cls, accepted)
        return doorway

    # -- from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read nothing unasked."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - what the loop would like is not asked for
        """Give room for what is asked for."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self._came += self._buffer[:nbytes]
        self._wake()

    def eof_received(self) -> None:
        """The other end says no more; the loop closes then."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - read says it
        """Nothing will come any more."""
        self._ended = True
        if not self.lost.done():
            self.lost.set_result(None)
        self._wake()

    def _wake(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- to the stream

    async def read(self, size: int) -> bytes:
        """At least one byte and at most ``size``, ``b""`` at the end or when the connection is lost."""
        if not self._came and not self._ended:
            self._buffer = bytearray(size)
            self._reader = asyncio.get_running_loop().create_future()
            self.transport.resume_reading()
            try:
                await self._reader
            finally:
                self._reader = None
                if not self.transport.is_closing():
                    self.transport.pause_reading()
        data = bytes(self._came[:size])
        del self._came[:size]
        return data

    def enter(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Hand the connection over to asyncio's streams, which read ahead; raises `ConnectionError` when it is lost."""
        if self.lost.done() or self.transport.is_closing():
            raise ConnectionAbortedError("lost before it was used")
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self._came:
            reader.feed_data(bytes(self._came))
        self.transport.resume_reading()
        return reader, asyncio.StreamWriter(self.transport, protocol, reader, loop)
