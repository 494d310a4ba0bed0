"""The laws of `clusterkit.transport.base`, kept over TCP, over TLS and in memory alike.

One suite, three networks: what holds for one and not for another is a fault of one
of them. Each law is a test of its own. What has sockets runs on both kinds of loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from clusterkit.testing.network import World
from clusterkit.transport.base import Listener, Network, Stream
from clusterkit.transport.tcp import TcpNetwork
from tests.certificates import Authority

DEADLINE = 10.0
MEGABYTE = 1 << 20


class Pair:
    """Two ends of one connection, and the listener that took it."""

    def __init__(self, near: Stream, far: Stream, listener: Listener, network: Network, host: str) -> None:
        self.near, self.far, self.listener, self.network, self.host = near, far, listener, network, host


@contextlib.asynccontextmanager
async def connected(client: Network, server: Network, host: str) -> AsyncIterator[Pair]:
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    async with asyncio.timeout(DEADLINE):
        listener = await server.listen(host, 0, taken.put_nowait)
        near, far = await asyncio.gather(client.connect(host, listener.port), first(taken))
        try:
            yield Pair(near, far, listener, client, host)
        finally:
            near.abort()
            far.abort()
            await near.aclose()
            await far.aclose()
            await listener.aclose()


async def first(taken: asyncio.Queue[Stream]) -> Stream:
    stream = await taken.get()
    await stream.established()
    return stream


async def read_all(stream: Stream) -> bytes:
    """Read to the end of the stream; a lost connection ends it too."""
    parts = []
    with contextlib.suppress(OSError):
        while part := await stream.read(65536):
            parts.append(part)
    return b"".join(parts)


async def fill(stream: Stream) -> None:
    """Write until the network takes no more."""
    while stream.unsent < MEGABYTE:
        stream.write(bytes(MEGABYTE))
        await asyncio.sleep(0)


class NetworkLaws:
    """The suite; a subclass says on what it runs."""

    def pair(self) -> contextlib.AbstractAsyncContextManager[Pair]:
        raise NotImplementedError

    async def test_bytes_arrive_in_order_both_ways(self) -> None:
        async with self.pair() as pair:
            pair.near.write(b"one")
            pair.near.write(b"two")
            pair.far.write(b"three")
            assert await exactly(pair.far, 6) == b"onetwo"
            assert await exactly(pair.near, 5) == b"three"

    async def test_a_read_returns_at_most_what_was_asked_for(self) -> None:
        async with self.pair() as pair:
            pair.near.write(b"x" * 1000)
            first = await pair.far.read(10)
            assert 1 <= len(first) <= 10
            assert await exactly(pair.far, 1000 - len(first)) == b"x" * (1000 - len(first))

    async def test_what_was_written_before_aclose_arrives_before_the_end_of_the_stream(self) -> None:
        async with self.pair() as pair:
            reader = asyncio.create_task(read_all(pair.far))
            for number in range(100):
                pair.near.write(bytes([number]) * 10_000)
            await pair.near.aclose()
            got = await reader
            assert got == b"".join(bytes([number]) * 10_000 for number in range(100))

    async def test_the_end_of_the_stream_is_read_again_and_again(self) -> None:
        async with self.pair() as pair:
            await pair.near.aclose()
            assert await pair.far.read(10) == b""
            assert await pair.far.read(10) == b""

    async def test_an_end_that_was_closed_there_can_still_be_written_to_without_an_error(self) -> None:
        async with self.pair() as pair:
            await pair.near.aclose()
            assert await pair.far.read(10) == b""
            pair.far.write(b"late")
            pair.far.write(b"later")

    async def test_a_write_neither_blocks_nor_raises_when_nobody_reads(self) -> None:
        async with self.pair() as pair:
            await fill(pair.near)
            assert pair.near.unsent >= MEGABYTE

    async def test_drain_waits_until_the_reader_has_made_room(self) -> None:
        async with self.pair() as pair:
            await fill(pair.near)
            drained = asyncio.create_task(pair.near.drain())
            await asyncio.sleep(0)
            assert not drained.done()
            reader = asyncio.create_task(read_all(pair.far))
            await drained
            assert pair.near.unsent < MEGABYTE
            pair.near.abort()
            await reader

    async def test_drain_returns_at_once_when_little_is_unsent(self) -> None:
        async with self.pair() as pair:
            pair.near.write(b"little")
            await pair.near.drain()

    async def test_an_abort_loses_what_is_unsent_and_never_changes_bytes(self) -> None:
        async with self.pair() as pair:
            block = bytes(range(256)) * 4096
            while pair.near.unsent < MEGABYTE:
                pair.near.write(block)
                await asyncio.sleep(0)
            pair.near.abort()
            assert pair.near.unsent == 0
            got = await read_all(pair.far)
            assert got == (block * (len(got) // len(block) + 1))[: len(got)]

    async def test_abort_may_be_called_twice_and_after_aclose(self) -> None:
        async with self.pair() as pair:
            pair.near.abort()
            pair.near.abort()
            await pair.near.aclose()
            pair.near.abort()

    async def test_a_waiting_read_ends_when_its_own_end_aborts(self) -> None:
        async with self.pair() as pair:
            reader = asyncio.create_task(read_all(pair.near))
            await asyncio.sleep(0)
            pair.near.abort()
            assert await reader == b""

    async def test_a_waiting_read_ends_when_the_other_end_aborts(self) -> None:
        async with self.pair() as pair:
            reader = asyncio.create_task(read_all(pair.far))
            await asyncio.sleep(0)
            pair.near.abort()
            assert await reader == b""

    async def test_a_waiting_drain_raises_oserror_when_the_connection_is_lost(self) -> None:
        async with self.pair() as pair:
            await fill(pair.near)
            drained = asyncio.create_task(pair.near.drain())
            await asyncio.sleep(0)
            pair.far.abort()
            with pytest.raises(OSError):
                await drained

    async def test_writing_on_to_an_end_that_is_gone_ends_in_oserror_at_drain(self) -> None:
        async with self.pair() as pair:
            pair.far.abort()
            with pytest.raises(OSError):
                while True:
                    pair.near.write(b"anybody there?")
                    await pair.near.drain()
                    await asyncio.sleep(0.001)

    async def test_a_write_after_the_loss_is_dropped_in_silence(self) -> None:
        async with self.pair() as pair:
            pair.near.abort()
            pair.near.write(b"lost")
            await pair.near.aclose()
            assert pair.near.unsent == 0

    async def test_aclose_that_is_cancelled_aborts(self) -> None:
        async with self.pair() as pair:
            await fill(pair.near)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pair.near.aclose()
            assert pair.near.unsent == 0
            got = await read_all(pair.far)
            assert got == bytes(len(got))

    async def test_aclose_does_not_raise_for_a_lost_connection(self) -> None:
        async with self.pair() as pair:
            pair.far.abort()
            await read_all(pair.near)
            await pair.near.aclose()

    async def test_a_connect_where_nobody_listens_raises_oserror(self) -> None:
        async with self.pair() as pair:
            await pair.listener.aclose()
            with pytest.raises(OSError):
                await pair.network.connect(pair.host, pair.listener.port)

    async def test_streams_live_on_when_their_listener_is_closed(self) -> None:
        async with self.pair() as pair:
            await pair.listener.aclose()
            pair.near.write(b"still here")
            assert await exactly(pair.far, 10) == b"still here"

    async def test_an_address_in_use_raises_oserror(self) -> None:
        async with self.pair() as pair:
            with pytest.raises(OSError):
                await self.again(pair, pair.listener.port)

    async def test_a_port_is_free_again_when_its_listener_is_closed(self) -> None:
        async with self.pair() as pair:
            port = pair.listener.port
            assert port > 0
            await pair.listener.aclose()
            # Over TCP the accepted connection still holds the port, as it should not.
            listener = await self.again(pair, port)
            assert listener.port == port
            await listener.aclose()

    async def test_remote_is_the_host_of_the_other_end(self) -> None:
        async with self.pair() as pair:
            assert pair.near.remote == pair.host
            assert pair.far.remote == self.client_host(pair)

    async def test_established_may_be_asked_for_again(self) -> None:
        async with self.pair() as pair:
            await pair.near.established()
            await pair.far.established()

    async def test_before_it_is_established_a_stream_tells_its_remote_and_can_be_dropped(self) -> None:
        async with self.pair() as pair:
            taken: asyncio.Queue[Stream] = asyncio.Queue()
            listener = await self.again(pair, 0, taken.put_nowait)
            dialling = asyncio.create_task(read_from(pair.network, pair.host, listener.port))
            stream = await taken.get()
            assert stream.remote == self.client_host(pair)
            stream.abort()
            with pytest.raises(OSError):
                await stream.established()
                await stream.drain()
            await stream.aclose()
            assert await dialling == b""
            await listener.aclose()

    async def test_nothing_had_to_wait_for_descriptors(self) -> None:
        async with self.pair() as pair:
            assert pair.listener.pauses == 0

    async def again(self, pair: Pair, port: int, accepted: Callable[[Stream], None] | None = None) -> Listener:
        return await pair.network.listen(pair.host, port, accepted or drop)

    def client_host(self, pair: Pair) -> str:
        return pair.host


def drop(stream: Stream) -> None:
    stream.abort()


async def read_from(network: Network, host: str, port: int) -> bytes:
    """Connect, and read to the end, which may come before the connection is there."""
    try:
        stream = await network.connect(host, port)
    except OSError:
        return b""
    data = await read_all(stream)
    stream.abort()
    return data


async def exactly(stream: Stream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = await stream.read(size - len(got))
        assert part, f"the stream ended after {len(got)} of {size} bytes"
        got += part
    return got


class TestTcp(NetworkLaws):
    """Over real sockets."""

    def pair(self) -> contextlib.AbstractAsyncContextManager[Pair]:
        network = TcpNetwork()
        return connected(network, network, "127.0.0.1")


class TestTls(NetworkLaws):
    """Over real sockets and TLS, with certificates on both sides."""

    tls = Authority().tls("any")

    def pair(self) -> contextlib.AbstractAsyncContextManager[Pair]:
        network = TcpNetwork(self.tls)
        return connected(network, network, "127.0.0.1")


@pytest.mark.simulation(seeds=3)
class TestMemory(NetworkLaws):
    """In memory, between two nodes on their own hosts."""

    def pair(self) -> contextlib.AbstractAsyncContextManager[Pair]:
        self.world = World()
        client, server = self.world.network("client"), self.world.network("server")
        return connected(client, server, server.host)

    async def again(self, pair: Pair, port: int, accepted: Callable[[Stream], None] | None = None) -> Listener:
        return await self.world.network("server").listen(pair.host, port, accepted or drop)

    def client_host(self, pair: Pair) -> str:
        return self.world.network("client").host


def test_the_suite_covers_all() -> None:
    def kept(suite: type) -> int:
        return sum(name.startswith("test_") for name in dir(suite))

    assert kept(TestTcp) == kept(TestTls) == kept(TestMemory) > 15
