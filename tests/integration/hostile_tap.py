"""Listeners that stand where another was meant: they own what they serve, and a `Tap` passes it on."""

import asyncio
from typing import TYPE_CHECKING, Self

from clusterkit.runtime import Tasks
from tests.integration.hostile_wire import flipped

if TYPE_CHECKING:
    from tests.integration.hostile import Siege


class Listener:
    """Takes connections, and owns what serves them."""

    def __init__(self) -> None:
        self._server: asyncio.Server
        self._tasks: Tasks

    @property
    def port(self) -> int:
        """The port to dial."""
        return int(self._server.sockets[0].getsockname()[1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection; it is dropped at the end."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._tasks = Tasks("listener")
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._tasks.aclose()

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._serve(reader, writer), "serve")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except (OSError, EOFError, ExceptionGroup):
            pass  # one end is lost
        finally:
            writer.transport.abort()


class Tap(Listener):
    """A proxy before the victim, or another port, that keeps what passes and may flip one bit of it.

    ``flip`` is the direction (0 towards the target, 1 back) and the place of a bit counted
    from the beginning of that direction; it holds for the one connection that comes next.
    """

    def __init__(self, siege: "Siege", port: int | None = None) -> None:
        super().__init__()
        self.flip: tuple[int, int] | None = None
        self.target = port or siege.port
        self._siege = siege
        self._open: dict[asyncio.StreamWriter, tuple[_Way, _Way]] = {}

    def reset(self) -> None:
        """Drop all that passes now."""
        for writer in self._open:
            writer.transport.abort()

    def learn(self) -> None:
        """Take note of the secrets of what passes now; those of what has passed are known."""
        for ways in self._open.values():
            self._learn(*ways)

    def _learn(self, out: "_Way", back: "_Way") -> None:
        self._siege.secrets.learn(bytes(out.came), bytes(back.left))
        self._siege.secrets.learn(bytes(out.left), bytes(back.came))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on both ways until one end is lost."""
        flip, self.flip = self.flip, None
        source = next(self._siege.sources)
        there, onward = await asyncio.open_connection("127.0.0.1", self.target, local_addr=(source, 0))
        out, back = (_Way(flip[1] if flip is not None and flip[0] == way else None) for way in (0, 1))
        self._open[writer] = out, back
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(out.carry(reader, onward))
                both.create_task(back.carry(there, writer))
        finally:
            del self._open[writer]
            onward.transport.abort()
            self._learn(out, back)


class _Way:
    """One direction of a connection on its way through a tap."""

    def __init__(self, flip: int | None) -> None:
        self.came = bytearray()
        self.left = bytearray()
        self._flip = flip

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what comes, one bit of it changed, until the end of the stream."""
        while data := await reader.read(1 << 16):
            bit = None if self._flip is None else self._flip - 8 * len(self.came)
            self.came += data
            if bit is not None and 0 <= bit < 8 * len(data):
                data = flipped(data, bit)
            self.left += data
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
