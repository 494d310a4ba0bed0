"""Any chunking of any byte stream gives the same messages, or the same refusal."""

from collections.abc import Iterable

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.channel import Channel, Health, Resumed
from clusterkit.core.handshake import (
    Admit,
    Admitted,
    Closed,
    Effect,
    Failed,
    Initiator,
    Judge,
    Judged,
    Received,
    Responder,
    Write,
)
from clusterkit.core.judgement import Here, judge
from clusterkit.core.proof import Party, RecordKeys, prepare_cookies
from clusterkit.core.record import Kind, Part, RecordReader, RecordWriter, part
from clusterkit.core.session import Lane, Outbox, Outgoing, Resume, Session
from clusterkit.errors import ClusterError, ProtocolError

KEYS = RecordKeys(b"i" * 32, b"r" * 32)
[COOKIE_KEY] = prepare_cookies(bytes(32))
A, B = Party("node-a", 10, "prod"), Party("node-b", 20, "prod")
MOST = 1 << 16

later_parts = st.one_of(
    st.binary(max_size=60).map(lambda body: part(Kind.DATA, body)),
    st.sampled_from([Kind.ACK, Kind.PING, Kind.PONG]).map(lambda kind: part(kind, bytes(8))),
    st.just(part(Kind.GOODBYE, b"\x01")),
    st.binary(max_size=12),
)
cuts = st.lists(st.integers(1, 60), max_size=40)
damage = st.none() | st.tuples(st.integers(0, 2_000), st.integers(1, 255))


def chunked(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def damaged(data: bytes, how: tuple[int, int] | None) -> bytes:
    """One byte changed, anywhere, or none."""
    if how is None or not data:
        return data
    at, mask = how[0] % len(data), how[1]
    return data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]


def read_records(chunks: Iterable[bytes]) -> tuple[list[list[Part]], str]:
    reader, got = RecordReader(KEYS.by_initiator, MOST), list[list[Part]]()
    try:
        for chunk in chunks:
            for parts in reader.feed(chunk):
                got.append(parts)
    except ProtocolError as error:
        return got, repr(error)
    return got, "inside" if reader.inside_record else "between"


@given(st.lists(st.lists(later_parts, min_size=1, max_size=3), max_size=6), damage, cuts)
def test_records(later: list[list[bytes]], how: tuple[int, int] | None, sizes: list[int]) -> None:
    writer = RecordWriter(KEYS.by_initiator)
    stream = damaged(b"".join(map(writer.seal, [[part(Kind.RESUME, bytes(28))], *later])), how)
    assert read_records(chunked(stream, sizes)) == read_records([stream])


def converse(machine: Initiator | Responder, stream: bytes, sizes: Iterable[int]) -> list[Effect]:
    """Feed a stream in pieces, never more than is wanted; answer what is asked; close at the end."""
    effects: list[Effect] = []
    for chunk in chunked(stream, sizes):
        rest = chunk
        while rest and machine.wants:
            piece, rest = rest[: machine.wants], rest[machine.wants :]
            for effect in machine.step(Received(piece), 0.0):
                effects += answered(machine, effect)
    effects += machine.step(Closed(), 0.0)
    return effects


def answered(machine: Initiator | Responder, effect: Effect) -> list[Effect]:
    """An effect, and what follows from its answer."""
    match effect:
        case Admit():
            return [each for asked in machine.step(Admitted(), 0.0) for each in answered(machine, asked)]
        case Judge(caller=caller):
            return [effect, *machine.step(Judged(judge(caller, Here(B)), B.boot), 0.0)]
    return [effect]


def shown(effects: list[Effect]) -> list[str]:
    """Effects as they compare: an error by its type and text."""
    return [repr(effect.error) if isinstance(effect, Failed) else repr(effect) for effect in effects]


def initiator() -> Initiator:
    return Initiator(A, COOKIE_KEY, b"\x11" * 32, expected=None, known_boot=lambda name: 0, now=0.0)


def responder() -> Responder:
    return Responder(B, [COOKIE_KEY], b"\x22" * 32, now=0.0)


def written(effects: Iterable[Effect]) -> bytes:
    return b"".join(effect.data for effect in effects if isinstance(effect, Write))


def transcript() -> tuple[bytes, bytes]:
    """All that an initiator and a responder say to one another."""
    one, other = initiator(), responder()
    hello = written(one.start())
    chal = written(other.step(Received(hello), 0.0))
    auth_i = written(one.step(Received(chal), 0.0))
    answer = written(converse(responder(), hello + auth_i, []))
    return hello + auth_i, answer


SAID_BY_INITIATOR, SAID_BY_RESPONDER = transcript()


@given(damage, cuts, st.binary(max_size=5))
def test_the_responders_handshake(how: tuple[int, int] | None, sizes: list[int], more: bytes) -> None:
    stream = damaged(SAID_BY_INITIATOR, how) + more
    assert shown(converse(responder(), stream, sizes)) == shown(converse(responder(), stream, []))


@given(damage, cuts, st.binary(max_size=5))
def test_the_initiators_handshake(how: tuple[int, int] | None, sizes: list[int], more: bytes) -> None:
    stream = damaged(SAID_BY_RESPONDER, how) + more
    assert shown(converse(initiator(), stream, sizes)) == shown(converse(initiator(), stream, []))


def run_channel(chunks: Iterable[bytes]) -> tuple[list[object], str, int, int]:
    """What a responder's channel makes of a stream."""
    session = Session(7, Outbox())
    assert session.put(Outgoing(b"\xc0", Lane.REQUEST))
    channel = Channel(KEYS, initiator=False, most=MOST, health=Health(), expects_reply=lambda: False)
    effects: list[object] = []
    why = ""
    try:
        for chunk in chunks:
            for effect in channel.receive(chunk, 0.0):
                effects.append(effect)
                if isinstance(effect, Resumed):
                    channel.open(session, effect.theirs)
                    channel.next_record(0.0)
                    channel.next_record(0.0)  # one message is written now
    except ClusterError as error:
        why = repr(error)
    return effects, why, session.received, session.acked


channel_parts = st.one_of(
    st.lists(st.integers() | st.text(max_size=9), min_size=1, max_size=5).map(
        lambda messages: part(Kind.DATA, msgpack.packb([str(each) for each in messages]))
    ),
    st.integers(0, 2).map(lambda number: part(Kind.ACK, number.to_bytes(8, "big"))),
    st.just(part(Kind.PING, bytes(8))),
    st.just(part(Kind.PONG, bytes(8))),
    st.integers(0, 4).map(lambda reason: part(Kind.GOODBYE, bytes((reason,)))),
)


@given(st.lists(channel_parts, max_size=8), damage, cuts)
def test_a_channel(later: list[bytes], how: tuple[int, int] | None, sizes: list[int]) -> None:
    writer = RecordWriter(KEYS.by_initiator)
    first = part(Kind.RESUME, Resume(3, 0, 0, MOST).pack())
    stream = damaged(b"".join(writer.seal([each]) for each in [first, *later]), how)
    assert run_channel(chunked(stream, sizes)) == run_channel([stream])
