"""Accepting connections: where it binds, what does not end it, and that no descriptor is left."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from clusterkit.transport.base import Stream
from clusterkit.transport.doorway import Doorway
from clusterkit.transport.tcp import TcpListener, TcpNetwork, TcpStream
from tests.certificates import Authority
from tests.conftest import eventually

DEADLINE = 10.0


def sockets() -> int:
    """How many are open in this process."""
    gc.collect()
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which they are listed
            count += str(descriptor.readlink()).startswith("socket:")
    return count


@pytest.fixture
async def faults() -> AsyncIterator[list[dict[str, Any]]]:
    """What reaches the loop's exception handler; nothing may."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    yield seen
    assert not seen


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# -- binding


async def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Make the name ``two.test`` stand for these addresses."""
    loop = asyncio.get_running_loop()
    known = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **more: Any) -> Any:
        if host != "two.test":
            return await known(host, port, **more)
        return [(0, socket.SOCK_STREAM, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def test_every_address_of_a_name_is_bound_to_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    await resolves(monkeypatch, "127.0.0.1", "127.0.0.2")
    listener = await TcpNetwork().listen("two.test", 0, lambda stream: stream.abort())
    for address in ("127.0.0.1", "127.0.0.2"):
        stream = await TcpNetwork().connect(address, listener.port)
        assert await stream.read(1) == b""
        stream.abort()
    await listener.aclose()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_ipv6_and_ipv4_share_a_port_number_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    await resolves(monkeypatch, "::", "0.0.0.0")
    listener = await TcpNetwork().listen("two.test", 0, lambda stream: stream.abort())
    seen = [await TcpNetwork().connect(address, listener.port) for address in ("::1", "127.0.0.1")]
    for stream in seen:
        stream.abort()
    await listener.aclose()


async def test_an_address_of_another_machine_is_passed_over_when_one_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    await resolves(monkeypatch, "192.0.2.1", "127.0.0.1")
    listener = await TcpNetwork().listen("two.test", 0, lambda stream: stream.abort())
    (await TcpNetwork().connect("127.0.0.1", listener.port)).abort()
    await listener.aclose()


async def test_no_address_of_ours_is_an_error_that_names_one() -> None:
    before = sockets()
    with pytest.raises(OSError, match="cannot assign requested address") as caught:
        await TcpNetwork().listen("192.0.2.1", 0, lambda stream: stream.abort())
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert sockets() == before


async def test_one_address_in_use_leaves_none_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    await resolves(monkeypatch, "127.0.0.1", "127.0.0.2")
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        before = sockets()
        with pytest.raises(OSError, match=r"127\.0\.0\.2: address already in use"):
            await TcpNetwork().listen("two.test", port, lambda stream: stream.abort())
        assert sockets() == before


# -- what does not end it


class Troubled(socket.socket):
    """A listening socket whose ``accept`` fails as it is told to."""

    errors: list[int]

    def accept(self) -> Any:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


def troubled(*errors: int) -> Troubled:
    sock = Troubled()
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen(8)
    sock.errors = list(errors)
    return sock


async def serves(listener: TcpListener, taken: "asyncio.Queue[TcpStream]") -> None:
    """Somebody who connects is handed up."""
    client = await TcpStream.dial("127.0.0.1", listener.port)
    stream = await taken.get()
    await stream.established()
    client.write(b"served?")
    assert await stream.read(7) == b"served?"
    client.abort()
    stream.abort()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN])
async def test_an_error_of_one_connection_does_not_end_accepting(
    number: int, faults: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    taken: asyncio.Queue[TcpStream] = asyncio.Queue()
    async with asyncio.timeout(DEADLINE):
        listener = TcpListener([troubled(number, number)], taken.put_nowait)
        await serves(listener, taken)
        await listener.aclose()
    assert listener.pauses == 0
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_when_descriptors_run_out_it_pauses_says_so_once_and_goes_on(
    number: int, faults: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    taken: asyncio.Queue[TcpStream] = asyncio.Queue()
    sock = troubled(number, number, number)
    async with asyncio.timeout(DEADLINE):
        listener = TcpListener([sock], taken.put_nowait)
        await serves(listener, taken)
        assert listener.pauses == 3
        sock.errors = [number]
        await serves(listener, taken)
        await listener.aclose()
    assert listener.pauses == 4
    said = [(record.levelname, record.exc_info) for record in caplog.records]
    assert said == [("WARNING", None)] * 2, "one for each shortage, not for each pause"


async def test_a_listener_that_is_closed_while_it_pauses_leaves_nothing(faults: list[dict[str, Any]]) -> None:
    before = sockets()
    listener = TcpListener([troubled(*[errno.EMFILE] * 100)], lambda stream: stream.abort())
    async with asyncio.timeout(DEADLINE):
        client = await TcpStream.dial("127.0.0.1", listener.port)
        await eventually(lambda: listener.pauses)
        await listener.aclose()
        await listener.aclose()
        client.abort()
        await eventually(lambda: sockets() == before)


# -- the accepted socket


async def accept_one(then: Callable[[Stream], None], network: TcpNetwork | None = None) -> None:
    """Let somebody connect, and say nothing; ``then`` is given the stream that was handed up."""
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    listener = await (network or TcpNetwork()).listen("127.0.0.1", 0, taken.put_nowait)
    client = await TcpStream.dial("127.0.0.1", listener.port)
    then(await taken.get())
    with contextlib.suppress(ConnectionError):
        while await client.read(100):
            pass
    client.abort()
    await listener.aclose()


SECURE = TcpNetwork(Authority().tls("any"))


@pytest.mark.parametrize("network", [TcpNetwork(), SECURE], ids=["plain", "tls"])
@pytest.mark.parametrize("turns", range(5))
async def test_an_abort_at_any_turn_of_establishing_leaves_nothing(
    turns: int, network: TcpNetwork, faults: list[dict[str, Any]]
) -> None:
    before = sockets()
    dropping: list[asyncio.Task[None]] = []

    async def drop_later(stream: Stream) -> None:
        establishing = asyncio.create_task(stream.established())
        for _ in range(turns):
            await asyncio.sleep(0)
        stream.abort()
        await asyncio.wait({establishing})
        assert isinstance(establishing.exception(), OSError | None)
        await stream.aclose()

    async with asyncio.timeout(DEADLINE):
        await accept_one(lambda stream: dropping.append(asyncio.create_task(drop_later(stream))), network)
        await asyncio.gather(*dropping)
        await eventually(lambda: sockets() == before)


@pytest.mark.parametrize("network", [TcpNetwork(), SECURE], ids=["plain", "tls"])
@pytest.mark.parametrize("turns", range(5))
async def test_a_wait_that_is_cancelled_at_any_turn_leaves_nothing(
    turns: int, network: TcpNetwork, faults: list[dict[str, Any]]
) -> None:
    before = sockets()

    async def give_up(stream: Stream) -> None:
        establishing = asyncio.create_task(stream.established())
        for _ in range(turns):
            await asyncio.sleep(0)
        establishing.cancel()
        await asyncio.wait({establishing})
        stream.abort()

    tasks: list[asyncio.Task[None]] = []
    async with asyncio.timeout(DEADLINE):
        await accept_one(lambda stream: tasks.append(asyncio.create_task(give_up(stream))), network)
        await asyncio.gather(*tasks)
        await eventually(lambda: sockets() == before)


async def test_a_stream_that_is_aborted_at_once_leaves_nothing(faults: list[dict[str, Any]]) -> None:
    before = sockets()
    async with asyncio.timeout(DEADLINE):
        await accept_one(lambda stream: stream.abort())
        await eventually(lambda: sockets() == before)


async def test_small_writes_are_not_held_back() -> None:
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    listener = await TcpNetwork().listen("127.0.0.1", 0, taken.put_nowait)
    near = await TcpStream.dial("127.0.0.1", listener.port)
    far = await taken.get()
    await far.established()
    for stream in (near, far):
        assert isinstance(stream, TcpStream)
        assert stream._transport is not None
        sock = stream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.abort()
    await listener.aclose()


async def test_over_tcp_there_are_no_names_to_check() -> None:
    listener = await TcpNetwork().listen("127.0.0.1", 0, lambda stream: stream.abort())
    stream = await TcpNetwork().connect("127.0.0.1", listener.port)
    assert stream.names is None
    stream.abort()
    await listener.aclose()


async def test_a_stranger_fills_no_memory_and_nothing_is_lost_on_the_way_in() -> None:
    """Until the other end is proven no more is taken than is asked for; the rest comes afterwards."""
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    listener = await TcpNetwork().listen("127.0.0.1", 0, taken.put_nowait)
    near = await TcpStream.dial("127.0.0.1", listener.port)
    data = bytes(range(256)) * 4_000
    near.write(data)
    async with asyncio.timeout(DEADLINE):
        far = await taken.get()
        await far.established()
        seen = b""
        for size in (1, 37, 5, 1_000):
            seen += (part := await far.read(size))
            assert 0 < len(part) <= size
        assert isinstance(far, TcpStream)
        assert isinstance(far._reader, Doorway)
        assert len(far._reader._came) <= 64
        await far.proven()
        while len(seen) < len(data):
            seen += await far.read(1 << 18)
        assert seen == data
        far.write(b"back")
        assert await near.read(10) == b"back"
        near.abort()
        with contextlib.suppress(OSError):
            assert await far.read(1) == b""
        await far.aclose()
    await listener.aclose()


async def test_a_read_that_is_cancelled_before_the_proof_loses_nothing() -> None:
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    listener = await TcpNetwork().listen("127.0.0.1", 0, taken.put_nowait)
    near = await TcpStream.dial("127.0.0.1", listener.port)
    async with asyncio.timeout(DEADLINE):
        far = await taken.get()
        await far.established()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await far.read(1)
        near.write(b"x")
        assert await far.read(10) == b"x"
        await near.aclose()
        assert await far.read(1) == b""
        with contextlib.suppress(OSError):
            await far.proven()
        await far.aclose()
    await listener.aclose()


async def test_a_stream_that_was_closed_with_much_to_send_may_be_aborted() -> None:
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    listener = await TcpNetwork().listen("127.0.0.1", 0, taken.put_nowait)
    near = await TcpStream.dial("127.0.0.1", listener.port)
    far = await taken.get()
    await far.established()
    await far.proven()
    near.write(bytes(40 << 20))

    async def read_all() -> int:
        size = 0
        while data := await far.read(1 << 16):
            size += len(data)
        return size

    async with asyncio.timeout(DEADLINE):
        size, _ = await asyncio.gather(read_all(), near.aclose())
    assert size == 40 << 20
    near.abort()
    far.abort()
    await listener.aclose()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system bounds nothing")
async def test_the_system_takes_little_that_it_cannot_send() -> None:
    accepted: list[Stream] = []
    listener = await TcpNetwork().listen("127.0.0.1", 0, accepted.append)
    stream = await TcpStream.dial("127.0.0.1", listener.port)
    try:
        assert stream._writer is not None
        sock = stream._writer.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 128 << 10
    finally:
        stream.abort()
        await eventually(lambda: accepted)
        accepted[0].abort()
        await listener.aclose()
