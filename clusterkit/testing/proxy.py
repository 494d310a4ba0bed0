"""A TCP proxy that mistreats what passes through it, as a seed decides.

It stands between two real processes on real sockets, and does to bytes what networks
and middleboxes do: delays them, stalls, hands them on one by one, flips bits, resets
the connection in the middle of a record.

Rules. Faults fall on byte offsets, not on chunks or moments: the same bytes through
the same connection meet the same faults, however the kernel cuts them up. Each
direction of each connection draws from a stream of its own. A reset is a real one
(SO_LINGER 0), seen at both ends.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from clusterkit import runtime
from clusterkit.errors import UsageError

Span = tuple[float, float]
_CHUNK = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What befalls each direction of a connection. A span is drawn from evenly; None never happens.

    >>> Plan(reset_after=(1_000, 50_000), single_bytes=(0, 100))
    Plan(reset_after=(1000, 50000), stall_after=None, stall=1.0, single_bytes=(0, 100), flip_every=None, delay=(0.0, 0.0))
    """

    reset_after: Span | None = None
    """Bytes until the connection is reset."""
    stall_after: Span | None = None
    """Bytes until nothing passes, again and again."""
    stall: float = 1.0
    """Seconds that a stall lasts."""
    single_bytes: Span | None = None
    """Bytes from the start that are handed on one at a time."""
    flip_every: Span | None = None
    """Bytes from one flipped bit to the next."""
    delay: Span = (0.0, 0.0)
    """Seconds that each chunk is held back."""


class ChaosProxy:
    """Listens on ``proxy.port`` of loopback and passes on to the target, by its plan.

    ::

        async with ChaosProxy("127.0.0.1", 7022, seed=7, plan=Plan(reset_after=(0, 9_000))) as proxy:
            await node.ring.join("demo", seeds=[f"127.0.0.1:{proxy.port}"])
    """

    def __init__(self, target_host: str, target_port: int, *, seed: int = 0, plan: Plan | None = None) -> None:
        self.target = target_host, target_port
        self.plan = plan or Plan()
        """May be changed at any time: it holds for connections that come later."""
        self.resets = 0
        """Connections that a plan or `reset` has reset so far."""
        self._seed = seed
        self._connections = 0
        self._open: dict[_Passage, None] = {}
        self._passing = asyncio.Event()
        self._passing.set()
        self._accepting = True
        self._tasks: runtime.Tasks | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port to dial instead of the target's."""
        if self._server is None:
            raise UsageError("the proxy listens inside `async with` alone")
        return int(self._server.sockets[0].getsockname()[1])

    def reset(self) -> None:
        """Reset every connection that is open now."""
        for passage in list(self._open):
            passage.reset()

    def stall(self) -> None:
        """Let nothing pass until `go_on`; connections stay open, as when packets are lost."""
        self._passing.clear()

    def go_on(self) -> None:
        """End a `stall` and a `refuse`."""
        self._accepting = True
        self._passing.set()

    def refuse(self) -> None:
        """Reset what is open and what comes, until `go_on`."""
        self._accepting = False
        self.reset()

    async def __aenter__(self) -> Self:
        self._tasks = runtime.Tasks("chaos proxy")
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._tasks is not None
        self._server.close()
        await self._tasks.aclose()
        self._server = None

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._tasks is not None
        self._connections += 1
        self._tasks.spawn(self._serve(self._connections, reader, writer), f"connection {self._connections}")

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passage = _Passage(self, writer)
        self._open[passage] = None
        try:
            if not self._accepting:
                passage.reset()
                return
            there, to_target = await asyncio.open_connection(*self.target)
            passage.writers.append(to_target)
            fates = [_Fate(self.plan, random.Random(f"{self._seed}:{number}:{way}")) for way in ("out", "back")]  # noqa: S311
            async with asyncio.TaskGroup() as both:
                both.create_task(passage.carry(reader, to_target, fates[0]))
                both.create_task(passage.carry(there, writer, fates[1]))
            await passage.finish()
        except (OSError, ExceptionGroup):
            passage.reset()  # one end is lost: so is the other
        finally:
            del self._open[passage]
            passage.abort()

    async def may_pass(self) -> None:
        """Wait while the proxy is stalled."""
        await self._passing.wait()


class _Fate:
    """What befalls one direction of one connection, byte by byte."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self._plan = plan
        self._chance = chance
        self._offset = 0
        self._reset = self._draw(plan.reset_after)
        self._stall = self._draw(plan.stall_after)
        self._flip = self._draw(plan.flip_every)
        self._singles = self._draw(plan.single_bytes, never=0)

    def _draw(self, span: Span | None, never: float = float("inf")) -> float:
        return never if span is None else self._chance.uniform(*span)

    def parts(self, data: bytes) -> Iterator[tuple[float, bytes, bool]]:
        """Cut ``data`` where something happens: seconds to wait, bytes to hand on, and whether a reset follows."""
        data = self._flipped(data)
        while data:
            size, wait = len(data), self._chance.uniform(*self._plan.delay)
            if self._offset >= self._stall:
                wait += self._plan.stall
                self._stall = self._offset + max(1.0, self._draw(self._plan.stall_after))
            if self._offset < self._singles:
                size = 1
            size = max(0, int(min(size, self._stall - self._offset + 1, self._reset - self._offset)))
            self._offset += size
            lost = self._offset + 1 > self._reset
            yield wait, data[:size], lost
            if lost:
                return
            data = data[size:]

    def _flipped(self, data: bytes) -> bytes:
        changed = bytearray(data)
        while self._flip < self._offset + len(data):
            changed[int(self._flip - self._offset)] ^= 1 << self._chance.randrange(8)
            self._flip += max(1.0, self._draw(self._plan.flip_every))
        return bytes(changed)


class _Passage:
    """One connection on its way through the proxy: a socket on each side."""

    def __init__(self, proxy: ChaosProxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self.writers = [writer]

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: _Fate) -> None:
        """Hand on what comes until the end of the stream; raises `ConnectionResetError` when fate says so."""
        while data := await reader.read(_CHUNK):
            for wait, part, lost in fate.parts(data):
                await asyncio.sleep(wait)
                await self._proxy.may_pass()
                writer.write(part)
                await writer.drain()
                if lost:
                    raise ConnectionResetError
        if writer.can_write_eof():
            writer.write_eof()

    def reset(self) -> None:
        """Drop both sides with a reset."""
        self._proxy.resets += 1
        for writer in self.writers:
            peer = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def finish(self) -> None:
        """Close both sides when what was written has left."""
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            await writer.wait_closed()

    def abort(self) -> None:
        """Release both sides at once."""
        for writer in self.writers:
            writer.transport.abort()
