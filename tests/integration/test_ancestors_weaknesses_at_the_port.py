"""W3 to W5 and W21: what whoever reaches the ancestor's port, or its users' commands, could do and learn.

The numbers are those of test_ancestors_weaknesses.py.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from clusterkit import Client, ClusterError
from clusterkit.core.messages import Code, pack_error
from clusterkit.core.record import Kind, RecordReader, RecordWriter, part
from clusterkit.kernel.faults import pack_exception
from tests.conftest import COOKIE, NodeFactory, eventually
from tests.integration.attackers import (
    HELLO,
    MOST,
    PATIENCE,
    SLOW,
    Between,
    Liar,
    Passage,
    Passes,
    Way,
    cast_to_inbox,
    data,
    send_stranger,
    with_inbox,
)

ROOT = Path(__file__).parents[2]

# -- W3: one frame


FRAMES = {
    "nothing": b"",
    "a null": b"null\f",
    "the ancestor's last frame": b'{"type":"message","data":null}\f',
    "an empty JSON object": b"{}\f",
    "nil": msgpack.packb(None),
    "true": msgpack.packb(True),
    "an int": msgpack.packb(7),
    "a negative int": msgpack.packb(-(1 << 60)),
    "a float": msgpack.packb(1.5),
    "a text": msgpack.packb("x" * 40),
    "a bin": msgpack.packb(b"x" * 40),
    "an array": msgpack.packb([1, [2, [None]]]),
    "a map": msgpack.packb({"checkSum": None}),
    "an extension": msgpack.packb(msgpack.ExtType(5, b"x")),
    "what is never used": b"\xc1",
    "an empty record": bytes(4),
    "an empty proof": bytes(2),
    "a lone length": b"\xff\xff",
    "a HELLO": HELLO,
    "a challenge": b"CKT1\x02" + bytes(32),
}


async def test_w3_one_unauthenticated_frame_kills_nothing(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A null ended the ancestor's process; here any frame, at any step, ends its own connection and nothing else."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    a, b = await start_node("a", config=replace(SLOW, proof_timeout=0.2)), await start_node("b")

    async def send(frame: bytes) -> list[int]:
        as_proof = max(46, len(frame)).to_bytes(2, "big") + frame.ljust(46, b"\0")
        return [len(await send_stranger(a, *pieces)) for pieces in ([frame], [HELLO, frame], [HELLO, as_proof])]

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        sent = {what: group.create_task(send(frame)) for what, frame in FRAMES.items()}
    told = {what: task.result() for what, task in sent.items() if not {0, 37}.issuperset(task.result())}
    assert (told, failures, [each for each in caplog.records if each.levelno > logging.INFO]) == ({}, [], [])
    assert a.stats()["refused"] == 3 * len(FRAMES)
    await b.ring.leave()
    await b.ring.join("test", [a.id.address])
    assert await b.ping("a") >= 0


# -- W4: one buffer for all


async def test_w4_15_bytes_of_a_stranger_do_not_touch_anothers_message(start_node: NodeFactory) -> None:
    """The ancestor read all peers into one buffer, so 15 bytes spoilt the next honest message; here each has its own."""
    a, b = await start_node("a", config=SLOW), await start_node("b", ring=None)
    inbox = await with_inbox(a)
    await b.ring.join("test", [a.id.address])
    liars = [await Liar.dial(a, f"c{number}") for number in range(2)]
    records = [
        liar.seal(data([cast_to_inbox("take", [which, n]) for n in range(3)])) for which, liar in enumerate(liars)
    ]
    strangers = []
    for piece in (slice(None, 3), slice(3, 40), slice(40, -1), slice(-1, None)):
        for liar, sealed in zip(liars, records, strict=True):
            _, stranger = await asyncio.open_connection(a.id.host, a.id.port)
            stranger.write(b"half of a frame" if piece.start else HELLO[:15])
            strangers.append(stranger)
            assert await b.ping("a") >= 0  # it has read by then what came before
            liar.stream.write(sealed[piece])
            assert await b.ping("a") >= 0
    await eventually(lambda: len(inbox.seen) == 6)
    for which in range(2):
        assert [value for value in inbox.seen if value[0] == which] == [[which, 0], [which, 1], [which, 2]]
    for stranger in strangers:
        stranger.transport.abort()
    for liar in liars:
        liar.stream.abort()


# -- W5: no limit


PROOF_SIZES = {
    "no handshake at all": (b"A" * 37, b""),
    "a proof too short": (HELLO, (45).to_bytes(2, "big")),
    "a proof too long": (HELLO, (174).to_bytes(2, "big")),
    "the longest proof": (HELLO, (173).to_bytes(2, "big") + b"A" * 173),
}


@pytest.mark.parametrize("what", PROOF_SIZES)
async def test_w5_a_stranger_is_cut_after_212_bytes_at_the_most(what: str, start_node: NodeFactory) -> None:
    """The ancestor read on for ever before any proof; here these bytes suffice, whatever comes or does not come next."""
    a = await start_node("a", config=SLOW)
    assert sum(map(len, PROOF_SIZES[what])) <= 37 + 2 + 173
    assert len(await send_stranger(a, *PROOF_SIZES[what])) in (0, 37)


@pytest.mark.parametrize("opening", [b"", HELLO, HELLO + (173).to_bytes(2, "big")])
async def test_w5_20_mib_without_delimiter_cost_nothing(opening: bytes, start_node: NodeFactory) -> None:
    """They cost the ancestor 3.3 s of CPU and 239 MiB; here a few KiB are read, and the connection is closed."""
    a = await start_node("a", config=SLOW)
    flood = memoryview(opening + b"\xff" * (20 << 20))
    tracemalloc.start()
    try:
        before, began = tracemalloc.get_traced_memory()[0], time.thread_time()
        await asyncio.to_thread(push, a.id.port, flood)
        await eventually(lambda: a.stats()["refused"])
        assert time.thread_time() - began < 0.5
        assert tracemalloc.get_traced_memory()[1] - before < 1 << 20
    finally:
        tracemalloc.stop()


def push(port: int, flood: memoryview) -> None:
    """Send until the other side closes, from a thread of its own."""
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.settimeout(PATIENCE)
        with pytest.raises(ConnectionError):
            stranger.sendall(flood)
            while stranger.recv(65536):
                pass
            raise ConnectionResetError


@pytest.mark.parametrize("length", [0, 4, MOST + 1, 1 << 31, (1 << 32) - 1])
async def test_w5_a_record_of_a_wrong_length_is_refused_at_its_header(length: int, start_node: NodeFactory) -> None:
    """The ancestor knew no largest message, proven or not; here four bytes end the link, and nothing is allocated."""
    a = await start_node("a", config=SLOW)
    liar = await Liar.dial(a)
    liar.stream.write(length.to_bytes(4, "big"))
    await liar.all_parts()


# -- W21: what is told, and what is believed


async def command(port: int, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Run ``clusterkit`` against a port of this machine; its exit code, stdout and stderr."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CLUSTERKIT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clusterkit", "-p", str(port), "-t", "1", *arguments),
        env=kept | {"PYTHONPATH": str(ROOT), "CLUSTERKIT_COOKIE": COOKIE} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(15):
        out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


WRONG = {
    "no handshake": [b"A" * 37],
    "no proof": [HELLO, bytes(2)],
    "a wrong proof": [HELLO, (46).to_bytes(2, "big") + bytes(46)],
    "a record at once": [bytes(4), b"\x91\x93\x04\x01\xa1x"],
    "no end": [HELLO, (173).to_bytes(2, "big")],
}


@pytest.mark.parametrize("what", WRONG)
async def test_w21_an_unproven_connection_is_told_nothing_of_a_fault(what: str, start_node: NodeFactory) -> None:
    """The ancestor sent stack traces to whoever asked; here a stranger gets 37 bytes that say nothing, or none."""
    a = await start_node("a", config=replace(SLOW, proof_timeout=0.2))
    seen = await send_stranger(a, *WRONG[what])
    assert (len(seen), seen[:5]) in ((0, b""), (37, b"CKT1\x02"))


BROKEN = {
    "no msgpack": part(Kind.DATA, b"\xc1"),
    "no message": data([b"\x93\x63\x01\x02"]),
    "an unknown kind": part(99, b""),
    "an impossible acknowledgement": part(Kind.ACK, bytes([255] * 8)),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_w21_a_peer_that_breaks_the_protocol_is_told_nothing_of_it(what: str, start_node: NodeFactory) -> None:
    """A broken rule ends the link without a word: no reason, no text, no goodbye."""
    a = await start_node("a", config=SLOW)
    liar = await Liar.dial(a)
    liar.send(BROKEN[what])
    told = await liar.all_parts()
    assert [kind for kind, _ in told] in ([Kind.RESUME], [Kind.RESUME, Kind.DATA])
    assert all(body.startswith(b"\x91\x92\x00") for _, body in told[1:])  # its own Hello, a ring message


async def test_w21_the_command_refuses_a_reply_that_somebody_changed(start_node: NodeFactory) -> None:
    """The ancestor's command line printed a forged reply; here one changed on the way is refused, and not printed."""

    async def change(passage: Passage, way: Way, _: int, frame: bytes) -> None:
        passage.send(way, frame.replace(b"incarnation", b"reincarnate") if way is Way.BACK else frame)

    a = await start_node("a")
    async with Between(a, change) as between:
        for code, out, error in await asyncio.gather(*(command(between.port, each) for each in ("ping", "members"))):
            assert (code not in (0, None), json.loads(out)["ok"]) == (True, False)
            assert "incarnat" not in out + error
            assert "Traceback" not in out + error
    code, out, _ = await command(a.id.port, "ping")
    assert (code, json.loads(out)["data"]["incarnation"]) == (0, a.id.incarnation)


async def test_w21_no_byte_of_a_reply_can_be_changed(start_node: NodeFactory) -> None:
    """In each of many connections another byte of the answer is changed: a client has the true one, or an error."""

    async def change(passage: Passage, way: Way, number: int, frame: bytes) -> None:
        if way is Way.BACK and number >= 2 and (which := between.passages.index(passage)):
            at = which - 1 - sum(map(len, passage.frames[Way.BACK][2:number]))
            frame = frame[:at] + bytes([frame[at] ^ (1 << at % 8)]) + frame[at + 1 :] if 0 <= at < len(frame) else frame
        passage.send(way, frame)

    a = await start_node("a")
    async with Between(a, change) as between:
        truth = await asked(between.port)
        size = sum(map(len, between.passages[0].frames[Way.BACK][2:4]))
        answers = await asyncio.gather(*(asked(between.port) for _ in range(size)))
        await asyncio.wait_for(asyncio.gather(*(each.over.wait() for each in between.passages)), PATIENCE)
    assert truth[0]["name"] == "a"
    assert [answer for answer in answers if answer != truth and not isinstance(answer, ClusterError)] == []


async def asked(port: int) -> Any:
    """What a client hears, or the error that it gets."""
    try:
        async with asyncio.timeout(PATIENCE), Client("127.0.0.1", port, cookie=COOKIE) as client:
            return await client.call("nodes", timeout=0.5)
    except ClusterError as error:
        return error


async def test_w21_the_command_believes_no_server_without_the_cookie(start_node: NodeFactory) -> None:
    """A server that cannot prove the cookie gets the command's proof, and nothing that it then says is printed."""
    fake = await start_node("forged", cookie="another cookie, as long")
    code, out, error = await command(fake.id.port, "ping")
    assert (code, json.loads(out)["error"]["code"]) == (5, "cookie")
    assert "forged" not in out + error

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(37)
        writer.write(b"CKT1\x02" + bytes(32))
        await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        fields = b"\x04\x01\x00" + (1).to_bytes(8, "big") + b"\x04test\x06forged"
        writer.write((len(fields) + 32).to_bytes(2, "big") + fields + bytes(32))
        writer.write(RecordWriter(bytes(32)).seal([part(Kind.RESUME, bytes(7) + b"\x01" + bytes(18) + b"\x10\x00")]))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    code, out, error = await command(server.sockets[0].getsockname()[1], "ping")
    server.close()
    assert (code, json.loads(out)["error"]["code"]) == (5, "cookie")
    assert "forged" not in out + error


async def test_w21_a_remote_traceback_is_shown_with_debug_alone(start_node: NodeFactory) -> None:
    """The traceback of a handler crosses to members, who are trusted; the command shows its last line, and no more."""
    a = await start_node("a")
    for options in ((), ("--debug",)):
        async with Between(a, instead_of_the_reply(raised_deep_inside())) as between:
            code, out, error = await command(between.port, *options, "-o", "table", "ping")
        assert (code, out) == (1, "")
        assert "what the user may know" in error
        assert ("raised_deep_inside" in error) is bool(options)
        assert ("Traceback" in error) is bool(options)


def raised_deep_inside() -> bytes:
    """An error as a node packs it, with its traceback."""
    try:
        raise ValueError("what the user may know")
    except ValueError as error:
        return pack_exception(error)


def instead_of_the_reply(payload: bytes) -> Passes:
    """Pass on all but replies, as one who knows the cookie can: calls end in this error."""
    writers: dict[Passage, tuple[RecordReader, RecordWriter]] = {}

    async def passes(passage: Passage, way: Way, number: int, frame: bytes) -> None:
        if way is Way.OUT or number < 2:
            passage.send(way, frame)
            return
        if passage not in writers:
            key = passage.keys()[1].by_responder
            writers[passage] = RecordReader(key, MOST), RecordWriter(key)
        reader, writer = writers[passage]
        for parts in reader.feed(frame):
            told = [part(kind, body) for kind, body in parts]
            for at, (kind, body) in enumerate(parts):
                if kind == Kind.DATA and body[1:3] == b"\x93\x04":
                    told[at] = data([pack_error(msgpack.unpackb(body)[0][1], Code.RAISED, payload, maybe=True)])
            passage.send(way, writer.seal(told))

    return passes
