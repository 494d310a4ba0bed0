"""docs/wire.md says what the code does: every hex string is made anew, every table compared.

``PYTHONPATH=. python tests/unit/test_wire_page.py`` prints the generated blocks, for pasting into the page.
"""

import asyncio
import hashlib
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from random import Random
from typing import Any, TypeVar

import msgpack
import pytest

from clusterkit.actors import signals
from clusterkit.config import Config
from clusterkit.core import channel, handshake, messages, payload, record, session
from clusterkit.core import proof as proof_of
from clusterkit.core.channel import Health, Reason
from clusterkit.core.handshake import Admit, Admitted, Initiator, Judge, Judged, Received, Responder, Write
from clusterkit.core.judgement import Here, judge
from clusterkit.core.payload import encode
from clusterkit.core.proof import Party, Role, Status, expand, prepare_cookies
from clusterkit.core.record import Kind, RecordWriter, part
from clusterkit.core.ring_history import hash64
from clusterkit.core.ring_messages import pack
from clusterkit.core.session import Outbox, Resume
from clusterkit.kernel import mailbox, monitors, pushback, turns
from clusterkit.node import Node
from clusterkit.runtime import in_thread
from clusterkit.services.client import Client
from clusterkit.services.command_views import package_version
from clusterkit.transport import tcp
from clusterkit.transport.base import Listener
from clusterkit.transport.base import Stream as AnyStream
from tests.unit.ring_vectors import (
    RING_NEWS,
    of_story,
    ring_digests,
    ring_others,
    ring_whole_reads,
    ring_whole_vectors,
)
from tests.unit.wire_page import PAGE, page_client, rows

T = TypeVar("T")
MIB = 1 << 20
WIDTH = 104  # hex digits in one line


# -- section 10: two nodes and a client, by the machines of core


@dataclass
class Meeting:
    """One handshake, driven through both machines."""

    prk: bytes
    t1: bytes
    auth_i: bytes
    auth_r: bytes

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """The record keys of the two directions."""
        t2 = hashlib.sha256(self.t1 + self.auth_i + self.auth_r).digest()
        return expand(self.prk, b"clusterkit/1 records", t2)


def meet(one: Party, other: Party, cookie: bytes, nonces: tuple[int, int] = (0x11, 0x22)) -> Meeting:
    keys = prepare_cookies(cookie)
    nonce_i, nonce_r = (bytes((each,)) * 32 for each in nonces)
    initiator = Initiator(one, keys[0], nonce_i, expected=None, known_boot=lambda name: 0, now=0.0)
    responder = Responder(other, keys, nonce_r, now=0.0)
    [hello] = written(initiator.start())
    [chal] = written(responder.step(Received(hello), 0.0))
    [auth_i] = written(initiator.step(Received(chal), 0.0))
    responder.step(Received(auth_i[:2]), 0.0)
    assert responder.step(Received(auth_i[2:]), 0.0) == [Admit()]
    [question] = responder.step(Admitted(), 0.0)
    assert isinstance(question, Judge)
    [auth_r] = written(responder.step(Judged(judge(question.caller, Here(other)), other.boot), 0.0))
    return Meeting(keys[0], hashlib.sha256(hello + chal).digest(), auth_i, auth_r)


def written(effects: list[handshake.Effect]) -> list[bytes]:
    return [effect.data for effect in effects if isinstance(effect, Write)]


COOKIE, NEXT_COOKIE = bytes(range(0x20)), bytes(range(0x20, 0x40))
NODE_A = Party("node-a", 0xA1A2A3A4A5A6A7A8, "prod")
NODE_B = Party("node-b", 0xB1B2B3B4B5B6B7B8, "prod")
EVENT = msgpack.packb({"ev": "ping"})


def resume(own: int, peer: int, received: int) -> bytes:
    return part(Kind.RESUME, Resume(own, peer, received, MIB).pack())


def number(kind: Kind, value: int) -> bytes:
    return part(kind, value.to_bytes(8, "big"))


def data(*elements: bytes) -> bytes:
    return channel._data_part(list(elements))


def key_schedule() -> dict[str, bytes]:
    first = meet(NODE_A, NODE_B, COOKIE)
    a_i, a_r = expand(first.prk, b"clusterkit/1 auth", first.t1)
    t2 = hashlib.sha256(first.t1 + first.auth_i + first.auth_r).digest()
    k_ir, k_ri = first.keys
    return {
        "PRK": first.prk,
        "T1": first.t1,
        "A_i": a_i,
        "A_r": a_r,
        "AUTH_I": first.auth_i,
        "AUTH_R": first.auth_r,
        "T2": t2,
        "K_ir": k_ir,
        "K_ri": k_ri,
    }


def first_records() -> dict[str, bytes]:
    one, other = map(RecordWriter, meet(NODE_A, NODE_B, COOKIE).keys)
    token = 0x0102030405060708
    early = RecordWriter(meet(NODE_A, NODE_B, COOKIE).keys[1])
    return {
        "I0 RESUME(3,0,0)": one.seal([resume(3, 0, 0)]),
        "R0 RESUME(7,0,0)": early.seal([resume(7, 0, 0)]),
        "R0 RESUME(7,3,0)": other.seal([resume(7, 3, 0)]),
        "I1 DATA[1]": one.seal([data(EVENT)]),
        "I2 PING DATA[2]": one.seal([number(Kind.PING, token), data(EVENT, EVENT)]),
        "R1 PONG ACK(3) DATA[1]": other.seal([number(Kind.PONG, token), number(Kind.ACK, 3), data(b"\xc0")]),
        "I3 DATA[1], lost": one.seal([data(EVENT)]),
    }


def second_meeting() -> dict[str, bytes]:
    again = meet(NODE_A, NODE_B, NEXT_COOKIE, (0x33, 0x44))
    one, other = map(RecordWriter, again.keys)
    return {
        "AUTH_I": again.auth_i,
        "AUTH_R": again.auth_r,
        "I0 RESUME(3,7,1)": one.seal([resume(3, 7, 1)]),
        "R0 RESUME(7,3,3)": other.seal([resume(7, 3, 3)]),
        "I1 DATA[1], number 4": one.seal([data(EVENT)]),
        "I2 ACK(1) GOODBYE(2)": one.seal([number(Kind.ACK, 1), part(Kind.GOODBYE, bytes((Reason.LEAVE,)))]),
    }


def other_proofs() -> dict[str, bytes]:
    ring = meet(NODE_A, Party("node-b", NODE_B.boot, "test"), COOKIE)
    version = meet(Party("node-a", NODE_A.boot, "prod", version=2), NODE_B, COOKIE)
    client = meet(Party("cli-1", NODE_A.boot, "", Role.CLIENT), NODE_B, COOKIE)
    longest = meet(Party("n" * 64, 1, "R" * 64), Party("N" * 64, 2**64 - 1, "R" * 64), b"\xff" * 100)
    return {
        "ring: AUTH_R": ring.auth_r,
        "version: AUTH_I": version.auth_i,
        "version: AUTH_R": version.auth_r,
        "client: AUTH_I": client.auth_i,
        "client: AUTH_R": client.auth_r,
        "client: K_ir": client.keys[0],
        "longest: K_ri": longest.keys[1],
        "longest: mac_i": longest.auth_i[-32:],
    }


# -- section 11: a real client asks a real node, over a network in memory, while time stands still


class World:
    """The chance and the wall clock of the example; the nonces are 33.. and 44.., the boots end in 31.. and 32.."""

    def __init__(self) -> None:
        self._given = {32: iter((0x33, 0x44)), 4: iter((0x31, 0x32)), 6: iter((0x35,))}

    def wall_time(self) -> float:
        return 1_767_225_600.0

    def entropy(self, size: int) -> bytes:
        return bytes((next(self._given[size]),)) * size

    def rng(self, name: str) -> Random:
        return Random(name)

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        return [(host, port)]

    async def in_thread(self, work: Callable[[], T]) -> T:
        return work()


class Still(asyncio.SelectorEventLoop):
    """A loop whose clock stands still, so that no timer adds a record."""

    def __init__(self) -> None:
        super().__init__()
        self.environment = World()

    def time(self) -> float:
        return 1000.0


class Pipe:
    """One end of a connection in memory."""

    remote = "memory"
    unsent = 0

    def __init__(self, who: str, log: list[tuple[str, bytes]]) -> None:
        self.peer: Pipe = self
        self._who, self._log = who, log
        self._came: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""

    async def read(self, size: int) -> bytes:
        came = self._rest or await self._came.get()
        self._rest = came[size:]
        return came[:size]

    def write(self, data: bytes) -> None:
        self._log.append((self._who, data))
        self.peer._came.put_nowait(data)

    async def drain(self) -> None:
        """Never full."""

    names = None

    async def established(self) -> None:
        """From the start."""

    async def proven(self) -> None:
        """Nothing is read ahead."""

    def abort(self) -> None:
        self._came.put_nowait(b"")
        self.peer._came.put_nowait(b"")

    async def aclose(self) -> None:
        self.abort()


class Wire:
    """A network of one listener, which writes down all that passes."""

    port = 7022
    pauses = 0

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes]] = []
        self._accepted: Callable[[AnyStream], None]

    async def connect(self, host: str, port: int) -> AnyStream:
        one, other = Pipe("I", self.log), Pipe("R", self.log)
        one.peer, other.peer = other, one
        self._accepted(other)
        return one

    async def listen(self, host: str, port: int, accepted: Callable[[AnyStream], None]) -> Listener:
        self._accepted = accepted
        return self

    async def aclose(self) -> None:
        """Nothing is bound."""


async def ask_a_node() -> list[tuple[str, bytes]]:
    wire = Wire()
    async with Node("node-a@10.0.0.1:7022", cookie=COOKIE, network=wire) as node:
        await node.ring.join("prod")
        async with Client("10.0.0.1", 7022, cookie=COOKIE, network=wire) as client:
            assert [each["name"] for each in await client.call("nodes")] == ["node-a"]
    return wire.log


CLIENT_LINES = (
    "HELLO",
    "CHAL",
    "AUTH_I",
    "AUTH_R",
    "I0 RESUME(1,0,0)",
    "R0 RESUME(1,0,0)",
    "I1 DATA[CALL]",
    "R1 ACK(1) DATA[REPLY]",
    "I2 ACK(1) GOODBYE(1)",
)


@cache
def client_session() -> dict[str, bytes]:
    loop = Still()
    try:
        log = loop.run_until_complete(ask_a_node())
    finally:
        loop.close()
    assert "".join(who for who, _ in log) == "IRIRIRIRI"
    return dict(zip(CLIENT_LINES, (data for _, data in log), strict=True))


def client_keys() -> dict[str, bytes]:
    told = client_session()
    t1 = hashlib.sha256(told["HELLO"] + told["CHAL"]).digest()
    meeting = Meeting(prepare_cookies(COOKIE)[0], t1, told["AUTH_I"], told["AUTH_R"])
    k_ir, k_ri = meeting.keys
    return {"K_ir": k_ir, "K_ri": k_ri}


NODES_CALL = (
    (4, "len: 40 bytes of payload"),
    (4, "mlen: 36"),
    (1, "kind 2, DATA"),
    (1, "array of 1 message"),
    (1, "array of 6 elements"),
    (1, "1, CALL"),
    (1, "id 1"),
    (19, "to: str 'clusterkit.command'"),
    (6, "handler: str 'nodes'"),
    (3, "ttl: 5000 ms"),
    (3, "args: bin of 1 byte, which is an empty array"),
    (16, "tag"),
)
NODES_REPLY = (
    (4, "len: 81"),
    (4, "mlen: 9"),
    (1, "kind 3, ACK"),
    (8, "1 message received"),
    (4, "mlen: 64"),
    (1, "kind 2, DATA"),
    (1, "array of 1 message"),
    (1, "array of 3 elements"),
    (1, "4, REPLY"),
    (1, "id 1"),
    (2, "payload: bin of 59 bytes"),
    (1, "array of 1"),
    (1, "map of 4"),
    (12, "'name': 'node-a'"),
    (14, "'host': '10.0.0.1'"),
    (8, "'port': 7022"),
    (21, "'incarnation': u64"),
    (16, "tag"),
)


def anatomy(whole: bytes, pieces: tuple[tuple[int, str], ...]) -> str:
    lines, at = [], 0
    for size, meaning in pieces:
        lines.append(f"    {whole[at : at + size].hex():<44}{meaning}")
        at += size
    assert at == len(whole), (at, len(whole))
    return "\n".join(lines)


def actor_messages() -> dict[str, bytes]:
    five = msgpack.packb([5])
    return {
        "CALL": messages.pack_call(7, "till", "pay", 5.0, five, None),
        "CALL, kwargs": messages.pack_call(8, 12, "pay", 5.0, msgpack.packb([]), msgpack.packb({"amount": 5})),
        "CALL, chain": messages.pack_call(9, "till", "pay", 4.75, five, None, ("foo/2f6ac1d0/7:12/front",)),
        "CALL, room": messages.pack_call(10, pushback.ROOM, "", pushback._FOREVER, encode(["till", False]), None),
        "CAST": messages.pack_cast("till", "note", encode(["paid"]), None),
        "INFO": messages.pack_info("till", encode({"open": True})),
        "REPLY": messages.pack_reply(7, encode(95)),
        "ERROR, cycle": messages.pack_error(9, messages.Code.CYCLE, encode("waits"), maybe=False),
        "REFUSED": messages.pack_refused("till", messages.Code.MAILBOX_FULL, 3),
        "CANCEL": messages.pack_cancel(7, "till"),
        "MONITOR": messages.pack_monitor(1, "till"),
        "LINK": messages.pack_link(2, "till", 7),
        "LINKED": messages.pack_linked(2, 12),
        "DEMONITOR": messages.pack_demonitor(1),
        "DOWN": messages.pack_down(1, "ValueError: no"),
        "EXIT": messages.pack_exit(2, "normal"),
    }


# -- the page


def block(vectors: dict[str, bytes]) -> str:
    """Vectors as they stand on the page: a label, then hex; the rest in lines below."""
    label_width = max(map(len, vectors)) + 1
    width = (WIDTH - label_width) // 16 * 16
    lines = []
    for label, value in vectors.items():
        first, *rest = textwrap.wrap(value.hex(), width)
        lines.append(f"    {label:<{label_width}}{first}")
        lines += [" " * (4 + label_width) + each for each in rest]
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "key schedule": lambda: block(key_schedule()),
    "first records": lambda: block(first_records()),
    "second meeting": lambda: block(second_meeting()),
    "other proofs": lambda: block(other_proofs()),
    "ring joins": lambda: block(of_story("HELLO")),
    "ring changes": lambda: block(of_story("NEWS", "PULL", "DELTA")),
    "ring digests": lambda: block(ring_digests()),
    "ring whole": lambda: block(ring_whole_vectors()),
    "ring whole reads": ring_whole_reads,
    "ring news": lambda: anatomy(of_story("NEWS")["NEWS of a"], RING_NEWS),
    "ring others": lambda: block({name: pack(message) for name, message in ring_others().items()}),
    "actor messages": lambda: block(actor_messages()),
    "client session": lambda: block(client_session()),
    "client keys": lambda: block(client_keys()),
    "nodes call": lambda: anatomy(client_session()["I1 DATA[CALL]"], NODES_CALL),
    "nodes reply": lambda: anatomy(client_session()["R1 ACK(1) DATA[REPLY]"], NODES_REPLY),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_of_hex_is_what_the_code_makes(name: str) -> None:
    assert BLOCKS[name]() in PAGE


def test_no_hex_stands_on_the_page_but_in_these_blocks() -> None:
    rest, made = PAGE, ""
    for make in BLOCKS.values():
        rest = rest.replace(make(), "")
        made += make()
    made += f"{hash64('count', 'a', 7, 1):x}"  # the example of 7.3
    assert [each for each in re.findall(r"\b[0-9a-f]{12,}\b", rest) if each not in made] == []


def pairs(heading: str, which: int = 0) -> dict[str, int]:
    return {cells[1]: int(cells[0].strip("| ")) for cells in rows(heading, which)}


def test_the_tables_of_numbers_are_the_enums() -> None:
    assert pairs("2.3 The verdict of R") == {each.name: each.value for each in Status}
    assert pairs("3. Records") == {each.name: each.value for each in Kind}
    assert pairs("3. Records", 1) == {each.name: each.value for each in Reason}
    assert pairs("6. Messages") == {each.name: each.value for each in messages.Op}
    assert list(pairs("2.3 The verdict of R")) == [*[*Status.__members__][1:], "ACCEPT"]  # in the order of judging


def test_the_table_of_error_codes_is_the_enum() -> None:
    told = {cells[0].strip("| `") for cells in rows("6.2 Why a call has no value")}
    assert told == {str(each) for each in messages.Code}


def test_the_sizes_of_bodies() -> None:
    sizes = {"u64": 8, "u32": 4, "u8": 1}
    for cells in rows("3. Records"):
        kind, body = Kind[cells[1]], re.findall(r"u\d+", cells[2])
        assert record._BODY_SIZE.get(kind, 0) == sum(sizes[each] for each in body)


Shape = tuple[frozenset[type], ...]
TYPES: dict[str, type] = {"bin": bytes, "int": int, "str": str, "bool": bool, "nil": type(None), "array": list}


def shape_of(elements: str) -> Shape:
    """The types of ``name: type or type, ...``."""
    return tuple(
        frozenset(TYPES[each] for each in field.split(": ")[1].split(" or ")) for field in elements.split(", ")
    )


def shapes_of(op: messages.Op) -> list[Shape]:
    return [tuple(frozenset(kinds) for kinds in shape) for shape in messages._SHAPES[op]]


def test_the_elements_of_messages() -> None:
    for cells in rows("6. Messages"):
        [elements] = re.findall(r"\[\d+, ([^\]]*)\]", cells[2])
        shape = shape_of(elements)
        longer = (
            re.findall(r"- \(a\) Or with `([^`]*)` at the end, or with `([^`]*)`", PAGE)[0] if "(a)" in cells[2] else ()
        )
        longer = ("kwargs: bin",) if "kwargs: bin" in cells[2] else longer
        assert [shape, *((*shape, *shape_of(more)) for more in longer)] == shapes_of(messages.Op[cells[1]])


def test_the_numbers_of_chains_monitors_and_pushback() -> None:
    text = " ".join(PAGE.split())
    for said in (
        f"of more than {turns._MOST_CHAIN} the newest {turns._MOST_CHAIN} are kept",
        f"`reason` is of 1 to {signals._LONGEST:,} bytes",
        f"holds {monitors._MOST:,} of this peer",
        f"`{pushback.ROOM}`",
        f"`ttl` is {int(pushback._FOREVER * 1000):,}",
        f"Count {pushback.MESSAGE_COST} bytes for each message",
        f"the first {pushback._FIRST >> 10} KiB to a server",
        f"up to {pushback._UNSURE >> 20} MiB more, then waits for the answer",
        f"behind each {pushback.WINDOW >> 10} KiB",
        f"asks again after {pushback._SELDOM >> 20} MiB",
        f"takes {mailbox._AHEAD:,} messages and {mailbox._AHEAD_SIZE >> 20} MiB over its limit",
    ):
        assert said in text, said
    told = {cells[0].strip("| `").split("`, `")[0] for cells in rows("6.6 Monitors and links")}
    assert {signals.NORMAL, signals.KILLED, monitors.NOPROC, monitors.NOCONNECTION} <= told


def test_the_limits_are_the_defaults() -> None:
    told = {cells[0].strip("| `"): cells[1] for cells in rows("9.1 Limits")}
    default = Config()
    elsewhere = {"timers", "auto_remove_after", "tracebacks", "watchdog"}  # docs/membership.md, 6.3, docs/telemetry.md
    assert set(told) == {field.name for field in fields(Config)} - elsewhere
    for name, text in told.items():
        assert float(text.split()[0].replace(",", "")) == getattr(default, name), name


def test_the_fixed_limits() -> None:
    told = {cells[0].strip("| "): cells[1].rstrip("| ") for cells in rows("9.1 Limits", 1)}
    most = proof_of.AUTH_LENGTHS[-1]
    assert told == {
        "bytes read from an unproven connection": f"{proof_of.OPENING_SIZE} + 2 + {most}",
        "cookies accepted": f"{proof_of.MOST_COOKIES}",
        "ring messages queued, per session": f"{Outbox().control:,} bytes",
        "messages in one DATA": f"{session._MOST_ELEMENTS:,}",
        "a record from its first byte to its last": f"{Health().record_within:g} s",
        "PINGs that wait for their PONG": f"{channel._MOST_PONGS}; older ones are dropped, and one record answers"
        f" at most {channel._PONGS_A_RECORD}",
        "depth and width of a payload": f"{payload.MOST_DEEP}, {payload.MOST_WIDE:,}",
        "no descriptor free": f"accepting pauses for {tcp._PAUSE * 1000:g} ms at a time",
    }


def test_the_numbers_in_the_text() -> None:
    health = Health()
    for said in (
        f"at the latest {health.ack_delay * 1000:g} ms",
        f"for a record to ride on until there are {channel._RING_MESSAGES}",
        f"at {channel._ACK_MESSAGES:,} messages or {channel._ACK_SIZE >> 10} KiB",
        f"`max` less {channel.OVERHEAD} bytes",
        f"at most {channel.FLUSH_SIZE >> 10} KiB of messages plus one message",
        f"no byte came for {health.ping_after:g} s",
        f"the same for {health.cut_after:g} s",
        f"no progress for {health.write_stall:g} s",
        f"did not end within {health.record_within:g} s",
        f"{proof_of.AUTH_LENGTHS[0]} to {proof_of.AUTH_LENGTHS[-1]}",
        f"`{proof_of.MAGIC.decode()}`",
    ):
        assert said in " ".join(PAGE.split()), said


def test_the_page_has_120_columns() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 120] == []


# -- the client of the page


@pytest.fixture
async def node() -> Any:
    async with Node("node-a@127.0.0.1:0", cookie=COOKIE) as node:
        await node.ring.join("prod")
        yield node


async def test_the_client_of_the_page_talks_to_a_node(node: Node) -> None:
    link_class = page_client()["Link"]

    def talk() -> Iterator[Any]:
        link = link_class("127.0.0.1", node.id.port, COOKIE)
        yield link.call("ping", [])
        yield link.call("members", [])
        yield link.call("ask", ["node-a", "nobody", "hello"])
        with pytest.raises(RuntimeError, match="no_method"):
            link.call("no such command", [])
        link.close()

    pinged, members, asked = await in_thread(lambda: list(talk()))
    assert pinged.pop("uptime") > 0.0
    assert pinged.pop("at") > 0.0
    assert pinged == {
        "name": "node-a",
        "host": "127.0.0.1",
        "port": node.id.port,
        "incarnation": node.id.incarnation,
        "ring": "prod",
        "version": package_version(),
    }
    assert [(each["name"], each["state"]) for each in members] == [("node-a", "alive")]
    assert (asked["ok"], asked["error"], asked["executed"]) == (False, "NoSuchServer", "no")


async def test_the_client_of_the_page_with_another_cookie(node: Node) -> None:
    link_class = page_client()["Link"]

    def talk() -> None:
        with pytest.raises(ConnectionError):
            link_class("127.0.0.1", node.id.port, NEXT_COOKIE)

    await in_thread(talk)


if __name__ == "__main__":
    for title, make in BLOCKS.items():
        print(f"{title}\n\n{make()}\n")
