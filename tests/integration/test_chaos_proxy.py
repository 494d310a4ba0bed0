"""The chaos proxy on real sockets: each fault happens, where the seed says, and nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from clusterkit.errors import UsageError
from clusterkit.testing.proxy import ChaosProxy, Plan

DEADLINE = 10.0
DATA = bytes(range(256)) * 400  # 102,400 bytes


@contextlib.asynccontextmanager
async def echo_through(plan: Plan, seed: int = 0) -> AsyncIterator[ChaosProxy]:
    """An echo server, and the proxy in front of it."""
    tasks: list[asyncio.Task[None]] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(echo(reader, writer)))

    async with asyncio.timeout(DEADLINE):
        server = await asyncio.start_server(came, "127.0.0.1", 0)
        target = server.sockets[0].getsockname()[1]
        async with ChaosProxy("127.0.0.1", target, seed=seed, plan=plan) as proxy:
            yield proxy
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def talk(port: int, data: bytes) -> tuple[bytes, str]:
    """Send ``data`` and read all that comes back; also how it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    ended = "end"
    try:
        sending = asyncio.get_running_loop().create_task(send(writer, data))
        while part := await reader.read(65536):
            got += part
            if len(got) == len(data):
                break
    except ConnectionResetError:
        ended = "reset"
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return bytes(got), ended


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def test_without_a_plan_all_passes_unchanged() -> None:
    async with echo_through(Plan()) as proxy:
        assert await talk(proxy.port, DATA) == (DATA, "end")
        assert proxy.resets == 0


async def test_a_reset_comes_after_the_byte_that_the_seed_says() -> None:
    async def lengths(seed: int) -> list[int]:
        async with echo_through(Plan(reset_after=(1_000, 50_000), single_bytes=(0, 0)), seed) as proxy:
            talks = [await talk(proxy.port, DATA) for _ in range(5)]
            assert proxy.resets == 5
            for got, ended in talks:
                assert DATA.startswith(got)
                assert ended == "reset"
            return [len(got) for got, _ in talks]

    assert all(length < 50_000 for length in await lengths(1))


async def test_single_bytes_arrive_in_order() -> None:
    async with echo_through(Plan(single_bytes=(500, 500))) as proxy:
        assert await talk(proxy.port, DATA[:5000]) == (DATA[:5000], "end")


async def test_flipped_bits_fall_on_the_same_bytes_each_time() -> None:
    async def flipped(seed: int) -> list[int]:
        async with echo_through(Plan(flip_every=(1_000, 30_000)), seed) as proxy:
            got, _ = await talk(proxy.port, DATA)
            assert len(got) == len(DATA)
            return [at for at, (sent, came) in enumerate(zip(DATA, got, strict=True)) if sent != came]

    first = await flipped(3)
    assert 4 <= len(first) <= 200
    assert first == await flipped(3)
    assert first != await flipped(4)


async def test_a_stall_by_plan_holds_what_follows() -> None:
    async with echo_through(Plan(stall_after=(50_000, 50_000), stall=0.2)) as proxy:
        started = asyncio.get_running_loop().time()
        assert await talk(proxy.port, DATA) == (DATA, "end")
        assert asyncio.get_running_loop().time() - started >= 0.4  # twice in each direction, both at once


async def test_a_delay_holds_each_chunk() -> None:
    async with echo_through(Plan(delay=(0.05, 0.06))) as proxy:
        started = asyncio.get_running_loop().time()
        assert await talk(proxy.port, b"x") == (b"x", "end")
        assert asyncio.get_running_loop().time() - started >= 0.1


async def test_a_stall_by_hand_lasts_until_it_goes_on() -> None:
    async with echo_through(Plan()) as proxy:
        proxy.stall()
        talking = asyncio.get_running_loop().create_task(talk(proxy.port, DATA))
        done, _ = await asyncio.wait([talking], timeout=0.2)
        assert not done
        proxy.go_on()
        assert await talking == (DATA, "end")


async def test_a_reset_by_hand_and_refusing() -> None:
    async with echo_through(Plan(delay=(0.5, 0.5))) as proxy:
        talking = asyncio.get_running_loop().create_task(talk(proxy.port, DATA))
        while not proxy._open:
            await asyncio.sleep(0.001)
        proxy.refuse()
        assert (await talking)[1] == "reset"
        assert (await talk(proxy.port, DATA))[0] == b""
        proxy.plan = Plan()
        proxy.go_on()
        assert await talk(proxy.port, DATA) == (DATA, "end")


async def test_a_target_that_is_not_there_is_a_reset() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with asyncio.timeout(DEADLINE), ChaosProxy("127.0.0.1", port) as proxy:
        assert (await talk(proxy.port, b"x"))[0] == b""


async def test_the_end_of_a_stream_passes_in_each_direction_on_its_own() -> None:
    async with echo_through(Plan()) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read(-1) == b"last words"
        writer.close()
        await writer.wait_closed()


async def test_outside_its_block_the_proxy_has_no_port() -> None:
    with pytest.raises(UsageError, match="async with"):
        _ = ChaosProxy("127.0.0.1", 1).port
