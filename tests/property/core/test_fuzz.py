"""100,000 random or mutated byte streams: only the documented errors come out, and nothing forged gets in."""

from collections.abc import Callable, Iterable
from random import Random

import msgpack
import pytest

from clusterkit.core.channel import Channel, Deliver, Health, Resumed
from clusterkit.core.handshake import (
    Admit,
    Admitted,
    Challenged,
    Effect,
    Failed,
    Initiator,
    Judge,
    Received,
    Responder,
    Write,
)
from clusterkit.core.identity import NodeId
from clusterkit.core.messages import Code, check, pack_call, pack_cast, pack_error, pack_info, pack_reply
from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.core.proof import Party, RecordKeys, opening, prepare_cookies
from clusterkit.core.record import Kind, RecordReader, RecordWriter, part
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_messages import Hello, HelloAck, News, Pull, State, pack, unpack
from clusterkit.core.ring_state import RingState
from clusterkit.core.session import Outbox, Resume, Session
from clusterkit.errors import AddressError, InvalidChecksum, JoinError, ProtocolError
from clusterkit.kernel.faults import pack_exception, unpack_exception

KEYS = RecordKeys(b"i" * 32, b"r" * 32)
[COOKIE_KEY] = prepare_cookies(bytes(32))
A, B = Party("node-a", 10, "prod"), Party("node-b", 20, "prod")
LIMIT = 1 << 16
RESUME = part(Kind.RESUME, Resume(3, 0, 0, LIMIT).pack())
Parser = Callable[[bytes], object]


def mutated(rng: Random, data: bytes) -> bytes:
    """Some bytes changed, cut, doubled or inserted; sometimes all of them random."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    raw = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(4):
            case 0 if raw:
                raw[at % len(raw)] ^= 1 << rng.randrange(8)
            case 1:
                del raw[at : at + rng.randrange(1, 9)]
            case 2:
                raw[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                raw[at:at] = raw[at : at + 20]
    return bytes(raw)


def pour(machine: Initiator | Responder, data: bytes) -> list[Effect]:
    effects: list[Effect] = []
    while data and machine.wants:
        piece, data = data[: machine.wants], data[machine.wants :]
        effects += machine.step(Received(piece), 0.0)
        if effects[-1:] == [Admit()]:
            effects += machine.step(Admitted(), 0.0)
    for effect in effects:
        assert isinstance(effect, Write | Challenged | Admit | Judge | Failed), effect
        if isinstance(effect, Failed):
            raise effect.error
    return effects


def initiate(data: bytes) -> object:
    return pour(Initiator(A, COOKIE_KEY, b"\x11" * 32, expected=None, known_boot=lambda name: 0, now=0.0), data)


def respond(data: bytes) -> object:
    return pour(Responder(B, [COOKIE_KEY], b"\x22" * 32, now=0.0), data)


def auth_i() -> bytes:
    effects = Initiator(A, COOKIE_KEY, b"\x11" * 32, expected=None, known_boot=lambda name: 0, now=0.0).step(
        Received(opening(2, b"\x22" * 32)), 0.0
    )
    return b"".join(effect.data for effect in effects if isinstance(effect, Write))


def read(data: bytes) -> object:
    return list(RecordReader(KEYS.by_initiator, LIMIT).feed(data))


def read_signed(data: bytes) -> object:
    """Garbage from a holder of the key: the tags are good."""
    writer = RecordWriter(KEYS.by_initiator)
    return list(RecordReader(KEYS.by_initiator, LIMIT).feed(writer.seal([RESUME]) + writer.seal([data])))


def channel(data: bytes) -> object:
    """The same, seen by a channel."""
    writer, session = RecordWriter(KEYS.by_initiator), Session(7, Outbox())
    receiver = Channel(KEYS, initiator=False, most=LIMIT, health=Health(), expects_reply=lambda: False)
    for effect in receiver.receive(writer.seal([RESUME]) + writer.seal([data]), 0.0):
        if isinstance(effect, Resumed):
            receiver.open(session, effect.theirs)
        elif isinstance(effect, Deliver):
            for message in effect.messages:
                check(message)
    return session


def message(data: bytes) -> object:
    try:
        value = msgpack.unpackb(data)
    except Exception:
        return None
    check(value)
    return value


def rebuild(data: bytes) -> object:
    error = unpack_exception(data)
    assert isinstance(error, Exception)
    return error


def parse_node(data: bytes) -> object:
    return NodeId.parse(data.decode("utf-8", "surrogateescape"))


class Odd(Exception):
    """An error with attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.detail = {"text": text}


WRITER = RecordWriter(KEYS.by_initiator)
STREAM = b"".join(WRITER.seal([each]) for each in (RESUME, part(Kind.DATA, b"\x91\xc0"), part(Kind.PING, bytes(8))))
MESSAGES = [
    pack_call(7, "srv", "get", 5.0, encode([1]), encode({"a": 1})),
    pack_cast(9, "put", encode([]), None),
    pack_info("srv", encode("x")),
    pack_reply(7, encode({"a": [1, 2.0, None]})),
    pack_error(7, Code.RAISED, pack_exception(Odd("x")), maybe=True),
]
DATA = part(Kind.ACK, bytes(8)) + part(Kind.DATA, b"\x95" + b"".join(MESSAGES)) + part(Kind.PING, bytes(8))
PAYLOADS = [encode(value) for value in ([1, "two", {"three": [4.0, None, b"5"]}], {"a": {"b": [True] * 20}}, "x" * 99)]
HELLO, NODE = NodeId("a", "127.0.0.1", 7022, 5), NodeId("b", "::1", 7023, 2**64 - 1)
RING = RingState(Actor("a", 5))
ANNOUNCED = RING.announce("127.0.0.1", 7022, encode({"zone": "z"}), 0.0)
INSERTED = RING.insert("b", "::1", 7023, 0.0, weight=3)
CLAIM = Claim(5, 1, Rank.SUSPECT, True)
RING_MESSAGES = [
    pack(Hello(HELLO, True, ANNOUNCED, CLAIM, None, (1, 2))),
    pack(HelloAck(RING.full())),
    pack(News("a", 7, 1, False, (ANNOUNCED, INSERTED))),
    pack(Pull(RING.clock(), (1, 2))),
    pack(State(RING.full())),
]

TARGETS: dict[str, tuple[Parser, list[bytes], tuple[type[Exception], ...], int]] = {
    "initiator": (initiate, [opening(2, bytes(32)) + auth_i()], (ProtocolError, JoinError), 8_000),
    "responder": (respond, [opening(1, b"\x11" * 32) + auth_i()], (ProtocolError,), 8_000),
    "records": (read, [STREAM], (ProtocolError,), 16_000),
    "signed records": (read_signed, [DATA], (ProtocolError,), 12_000),
    "channel": (channel, [DATA], (ProtocolError,), 12_000),
    "messages": (message, MESSAGES, (ProtocolError,), 12_000),
    "ring messages": (unpack, RING_MESSAGES, (ProtocolError,), 8_000),
    "payloads": (decode, PAYLOADS, (PayloadError,), 12_000),
    "exceptions": (rebuild, [pack_exception(Odd("x")), pack_exception(KeyError("k", 1))], (), 6_000),
    "nodes": (parse_node, [str(HELLO).encode(), str(NODE).encode()], (AddressError,), 6_000),
}


def test_there_are_a_hundred_thousand() -> None:
    assert sum(count for *_, count in TARGETS.values()) == 100_000


@pytest.mark.parametrize("name", TARGETS)
def test_only_the_documented_errors_come_out(name: str) -> None:
    parse, seeds, documented, count = TARGETS[name]
    rng, refused = Random(f"fuzz {name}"), 0
    for number in range(count):
        data = mutated(rng, seeds[number % len(seeds)])
        try:
            parse(data)
        except documented:
            refused += 1
        except Exception as error:
            pytest.fail(f"{name} {data.hex()}: {error!r}")
    assert bool(refused) == bool(documented)


@pytest.mark.parametrize("name", ["initiator", "responder"])
def test_a_mutated_proof_is_never_taken(name: str) -> None:
    parse, [good], _, _ = TARGETS[name]
    for bit in range(37 * 8 if name == "responder" else 0, len(good) * 8):
        raw = bytearray(good)
        raw[bit // 8] ^= 1 << bit % 8
        try:
            effects = parse(bytes(raw))
        except (ProtocolError, JoinError):
            continue
        assert isinstance(effects, list)
        assert all(isinstance(effect, Write | Challenged) for effect in effects)


def flips(record: bytes) -> Iterable[bytes]:
    for bit in range(len(record) * 8):
        raw = bytearray(record)
        raw[bit // 8] ^= 1 << bit % 8
        yield bytes(raw)


def test_of_a_record_of_200_bytes_with_any_bit_flipped_none_is_accepted() -> None:
    writer = RecordWriter(KEYS.by_initiator)
    first = writer.seal([RESUME])
    record = writer.seal([part(Kind.DATA, b"\x91\xc4" + bytes((172,)) + bytes(172))])
    assert len(record) == 200
    accepted = errors = waiting = 0
    for flipped in flips(record):
        reader = RecordReader(KEYS.by_initiator, LIMIT)
        assert len(list(reader.feed(first))) == 1
        try:
            accepted += len(list(reader.feed(flipped)))
        except (InvalidChecksum, ProtocolError):
            errors += 1
        else:
            waiting += reader.inside_record  # its length says that more is to come
    assert accepted == 0
    assert errors + waiting == 1_600


def test_a_channel_delivers_nothing_of_records_that_another_key_signed() -> None:
    rng = Random("forger")
    for _ in range(500):
        forger = RecordWriter(rng.randbytes(32))
        receiver = Channel(KEYS, initiator=False, most=LIMIT, health=Health(), expects_reply=lambda: False)
        with pytest.raises(InvalidChecksum):
            list(receiver.receive(forger.seal([RESUME]) + forger.seal([DATA]), 0.0))
