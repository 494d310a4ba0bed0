"""What may come to the port without the cookie, or break the rules with it: nothing gets in."""

import asyncio
import gc
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest

from clusterkit import Client, Config, GenServer, Node, NoSuchServer, call
from clusterkit.core.handshake import Initiator
from clusterkit.core.proof import Party, Role, prepare_cookies
from clusterkit.core.record import Kind, RecordWriter, part
from clusterkit.core.session import Resume
from clusterkit.runtime import now
from clusterkit.transport.handshaking import initiate
from clusterkit.transport.tcp import TcpNetwork
from tests.conftest import COOKIE, NodeFactory, eventually


class Echo(GenServer):
    def __init__(self) -> None:
        self.calls = 0

    @call
    async def echo(self, value: Any) -> Any:
        self.calls += 1
        return value


def descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def garbage(rng: random.Random) -> bytes:
    """Something that is no handshake, or only the beginning of one."""
    hello = b"CKT1\x01" + rng.randbytes(32)
    return rng.choice(
        [
            rng.randbytes(rng.randrange(1, 200)),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            hello[: rng.randrange(1, 37)],
            hello + b"\xff\xff" + rng.randbytes(64),
            hello + b"\x00\x00",
            hello + (46).to_bytes(2, "big") + rng.randbytes(46),
            hello + (173).to_bytes(2, "big") + rng.randbytes(173),
            hello + b"\x00\x37\x03\x01\x01" + rng.randbytes(52),
            b"CKT1\x02" + rng.randbytes(300),
            b"\x00" * 5000,
            b"",
        ]
    )


async def visit(port: int, data: bytes, *, wait: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{2 + len(data) % 50}", 0))
    try:
        writer.write(data)
        if wait:
            async with asyncio.timeout(10):
                await reader.read(-1)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def test_2000_garbage_connections_leave_nothing_behind(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = Config(proof_timeout=0.15)
    a = await start_node("a", config=config)
    b = await start_node("b", seeds=(a,))
    echo = Echo()
    await a.start(echo, name="echo")
    ref = b.ref(Echo, "echo", on="a")
    rng = random.Random(7)
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for _ in range(40):
        await asyncio.gather(*(visit(a.id.port, garbage(rng), wait=rng.random() < 0.3) for _ in range(50)))
        assert await ref.call(Echo.echo, 1) == 1  # the node goes on
    await eventually(lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks)
    assert echo.calls == 40
    assert a._open_kernel().counters["dead_letters"] == 0
    assert not caplog.records, caplog.text
    assert a._open_kernel().links.counters["accepted"] >= 2000


async def test_half_open_strangers_do_not_keep_a_member_out(start_node: NodeFactory) -> None:
    a = await start_node("a", config=Config(unproven_limit=64, proof_timeout=1.0))
    idle = [await asyncio.open_connection("127.0.0.1", a.id.port) for _ in range(300)]
    async with asyncio.timeout(3):
        b = await start_node("b", seeds=(a,))
        await b.ping("a")
    for _, writer in idle:
        writer.transport.abort()
    assert a._open_kernel().links.counters["evicted"] >= 200
    await eventually(lambda: not a._open_kernel().links._unproven)


async def test_a_stranger_sees_37_bytes_that_say_nothing(start_node: NodeFactory) -> None:
    a = await start_node("secret-name", ring="secret-ring", config=Config(proof_timeout=0.3))
    reader, writer = await asyncio.open_connection("127.0.0.1", a.id.port)
    writer.write(b"CKT1\x01" + bytes(32))
    async with asyncio.timeout(5):
        seen = await reader.read(-1)
    assert len(seen) == 37
    assert seen.startswith(b"CKT1\x02")
    writer.transport.abort()


async def member_link(node: Node, cookie: str = COOKIE, name: str = "forger", **party: Any) -> tuple[Any, Any]:
    """A connection that has proven itself, for a test to misuse."""
    key = prepare_cookies(cookie)[0]
    me = Party(name, party.pop("boot", 1 << 60), party.pop("ring", "test"), party.pop("role", Role.NODE))
    stream = await TcpNetwork().connect(node.id.host, node.id.port)
    machine = Initiator(me, key, os.urandom(32), expected=None, known_boot=lambda _: 0, now=now())
    return stream, await initiate(stream, machine, me, lambda: None)


async def read_to_end(stream: Any) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        try:
            while more := await stream.read(65536):
                data += more
        except ConnectionError:
            pass
    stream.abort()
    return data


RESUME = part(Kind.RESUME, Resume(1, 0, 0, 1 << 20).pack())

BROKEN = {
    "a map": b"\x81\xa1a\x01",
    "no array": b"\x01",
    "an empty array": b"\x90",
    "msgpack that is cut": b"\x92\x01",
    "a message that is no array": b"\x91\xa1x",
    "an unknown kind": b"\x91\x93\x63\x01\x02",
    "a call cut short": b"\x91\x93\x01\x01\x02",
    "a call with a list as its target": b"\x91\x96\x01\x01\x90\xa1x\x01\xc4\x01\x90",
    "a call with text as arguments": b"\x91\x96\x01\x01\xa1x\xa1y\x01\xa1z",
    "a reply with a map as its number": b"\x91\x93\x04\x80\xc4\x00",
    "a call with no number": b"\x91\x96\x01\xc0\xa1x\xa1y\x01\xc4\x01\x90",
    "a call with a fraction as its time": b"\x91\x96\x01\x01\xa1x\xa1y\xcb" + bytes(8) + b"\xc4\x01\x90",
    "a reply of no bytes": b"\x91\x93\x04\x01\xa1x",
    "a deep array": b"\x91" * 3000,
    "an extension": b"\x91\xd4\x05\x00",
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_member_that_breaks_the_protocol_is_cut_and_the_node_goes_on(
    what: str, start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    a = await start_node("a")
    stream, proven = await member_link(a)
    writer = RecordWriter(proven.keys.by_initiator)
    stream.write(writer.seal([RESUME]))
    stream.write(writer.seal([part(Kind.DATA, BROKEN[what])]))
    await read_to_end(stream)
    assert not caplog.records, caplog.text
    assert await a.ping("a") >= 0


async def test_what_cannot_be_read_fails_its_own_call_only(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.start(Echo(), name="echo")
    stream, proven = await member_link(a)
    writer = RecordWriter(proven.keys.by_initiator)
    stream.write(writer.seal([RESUME]))
    bad_call = b"\x96\x01\x07\xa4echo\xa4echo\xcd\x13\x88\xc4\x01\xc1"  # its arguments are no msgpack
    good_call = b"\x96\x01\x08\xa4echo\xa4echo\xcd\x13\x88\xc4\x02\x91\x05"
    stream.write(writer.seal([part(Kind.DATA, b"\x92" + bad_call + good_call)]))
    seen = b""
    async with asyncio.timeout(5):
        while b"\x93\x04\x08\xc4\x01\x05" not in seen:
            seen += await stream.read(65536)
    assert b"bad_arguments" in seen
    stream.abort()


async def test_no_flipped_bit_is_accepted(start_node: NodeFactory) -> None:
    a = await start_node("a")
    echo = Echo()
    await a.start(echo, name="echo")
    rng = random.Random(3)
    for boot in range(1 << 60, (1 << 60) + 30):
        stream, proven = await member_link(a, boot=boot)
        writer = RecordWriter(proven.keys.by_initiator)
        stream.write(writer.seal([RESUME]))
        record = bytearray(
            writer.seal([part(Kind.DATA, b"\x91\x96\x01\x08\xa4echo\xa4echo\xcd\x13\x88\xc4\x02\x91\x05")])
        )
        record[rng.randrange(4, len(record))] ^= 1 << rng.randrange(8)
        stream.write(bytes(record))
        await read_to_end(stream)
    assert echo.calls == 0


async def test_a_replayed_session_is_refused(start_node: NodeFactory) -> None:
    """Everything that one side sent in a good session, sent again on a new connection."""
    a = await start_node("a")
    echo = Echo()
    await a.start(echo, name="echo")
    sent: list[bytes] = []
    stream = await TcpNetwork().connect(a.id.host, a.id.port)
    plain_write = stream.write
    stream.write = lambda data: (sent.append(data), plain_write(data))[1]  # type: ignore[method-assign,func-returns-value]
    key = prepare_cookies(COOKIE)[0]
    me = Party("victim", 1 << 60, "test")
    machine = Initiator(me, key, os.urandom(32), expected=None, known_boot=lambda _: 0, now=now())
    proven = await initiate(stream, machine, me, lambda: None)
    writer = RecordWriter(proven.keys.by_initiator)
    stream.write(writer.seal([RESUME]))
    stream.write(writer.seal([part(Kind.DATA, b"\x91\x96\x01\x08\xa4echo\xa4echo\xcd\x13\x88\xc4\x02\x91\x05")]))
    await eventually(lambda: echo.calls == 1)
    stream.abort()
    for _ in range(100):
        reader, raw = await asyncio.open_connection(a.id.host, a.id.port)
        raw.write(b"".join(sent))
        async with asyncio.timeout(5):
            try:
                seen = await reader.read(-1)
            except ConnectionError:
                seen = b""
        assert len(seen) in (0, 37)  # a challenge at most
        raw.transport.abort()
    assert echo.calls == 1


async def test_reflected_bytes_are_refused(start_node: NodeFactory) -> None:
    """A listener that sends a node its own bytes back gets nowhere."""
    a = await start_node("a", ring=None)
    taken = 0

    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += 1
        while data := await reader.read(65536):
            writer.write(data.replace(b"CKT1\x01", b"CKT1\x02"))
        writer.close()

    server = await asyncio.start_server(mirror, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Exception, match=r"AUTH|proof|handshake|cookie|closed|wrong"):
        await a._open_kernel().links.dial_seed("127.0.0.1", port)
    assert taken == 1
    server.close()


async def test_a_client_reaches_the_command_server_alone(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.start(Echo(), name="echo")
    async with Client("127.0.0.1", a.id.port, cookie=COOKIE) as client:
        assert (await client.call("ping"))["name"] == "a"
        assert [member["name"] for member in await client.call("members")] == ["a"]
        kernel = client._kernel
        assert kernel is not None
        with pytest.raises(NoSuchServer, match="reaches"):
            address = type(a.ref(Echo, "echo").address)(client.peer, "echo")
            await kernel.call(address, "echo", (1,), {}, 2.0)
    assert [str(node.name) for node in a.ring.nodes] == ["a"]
