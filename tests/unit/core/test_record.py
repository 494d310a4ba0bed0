"""Signed records: in order, whole, by the other end, or not at all."""

import hmac

import pytest

from clusterkit.core.record import Kind, Part, RecordReader, RecordWriter, part
from clusterkit.errors import InvalidChecksum, ProtocolError

KEY = bytes(range(32))
LIMIT = 1 << 16
RESUME = part(Kind.RESUME, bytes(28))
PING = part(Kind.PING, bytes(8))
DATA = part(Kind.DATA, b"\x91\xc0")


def reader() -> RecordReader:
    return RecordReader(KEY, LIMIT)


def opened() -> tuple[RecordWriter, RecordReader]:
    """Both ends after the first record."""
    writer, there = RecordWriter(KEY), reader()
    assert list(there.feed(writer.seal([RESUME]))) == [[(Kind.RESUME, bytes(28))]]
    return writer, there


def sealed(number: int, payload: bytes, length: int | None = None) -> bytes:
    """A record made by hand, with any number and length."""
    head = (len(payload) if length is None else length).to_bytes(4, "big")
    return head + payload + hmac.digest(KEY, number.to_bytes(8, "big") + head + payload, "sha256")[:16]


def test_parts_come_out_as_they_went_in() -> None:
    writer, there = opened()
    goodbye = part(Kind.GOODBYE, b"\x01")
    [parts] = there.feed(writer.seal([PING, DATA, goodbye]))
    assert parts == [(Kind.PING, bytes(8)), (Kind.DATA, b"\x91\xc0"), (Kind.GOODBYE, b"\x01")]


def test_several_records_in_one_chunk_come_out_in_order() -> None:
    writer, there = RecordWriter(KEY), reader()
    stream = writer.seal([RESUME]) + writer.seal([PING]) + writer.seal([DATA])
    assert [parts[0][0] for parts in there.feed(stream)] == [Kind.RESUME, Kind.PING, Kind.DATA]


def test_bytes_one_by_one_give_the_same_records() -> None:
    writer, there = RecordWriter(KEY), reader()
    stream = writer.seal([RESUME]) + writer.seal([DATA])
    got: list[list[Part]] = []
    for at in range(len(stream)):
        got += there.feed(stream[at : at + 1])
    assert [parts[0][0] for parts in got] == [Kind.RESUME, Kind.DATA]


def test_a_reader_knows_whether_it_is_inside_a_record() -> None:
    writer, there = opened()
    record = writer.seal([DATA])
    assert not there.inside_record
    assert not list(there.feed(record[:3]))
    assert there.inside_record
    assert list(there.feed(record[3:]))
    assert not there.inside_record


def test_no_bytes_are_no_record() -> None:
    assert not list(reader().feed(b""))


@pytest.mark.parametrize("length", [0, 4, 32, 34, LIMIT, 2**32 - 1])
def test_the_first_record_has_33_bytes_and_others_are_refused_unread(length: int) -> None:
    with pytest.raises(ProtocolError, match="33 to 33"):
        list(reader().feed(length.to_bytes(4, "big")))


@pytest.mark.parametrize("length", [0, 4, LIMIT + 1, 2**32 - 1])
def test_a_length_outside_the_limits_is_refused_unread(length: int) -> None:
    _, there = opened()
    with pytest.raises(ProtocolError, match=f"5 to {LIMIT} are allowed") as caught:
        list(there.feed(length.to_bytes(4, "big")))
    assert not caught.value.proven


def test_the_largest_record_is_accepted() -> None:
    writer, there = opened()
    body = bytes(LIMIT - 5)
    assert list(there.feed(writer.seal([part(Kind.DATA, body)]))) == [[(Kind.DATA, body)]]


@pytest.mark.parametrize("wrong", ["lost", "repeated", "sent back", "changed"])
def test_a_record_that_is_not_the_next_of_the_other_end_has_a_wrong_tag(wrong: str) -> None:
    writer, there = opened()
    first, second = writer.seal([DATA]), writer.seal([PING])
    stream = {
        "lost": second,
        "repeated": first + first,
        "sent back": RecordWriter(bytes(32)).seal([DATA]),
        "changed": first[:-17] + bytes((first[-17] ^ 1,)) + first[-16:],
    }[wrong]
    with pytest.raises(InvalidChecksum, match="^INVALID_CHECKSUM$") as caught:
        list(there.feed(stream))
    assert not caught.value.proven


def test_after_an_error_nothing_more_is_read() -> None:
    writer, there = opened()
    bad = bytearray(writer.seal([DATA]))
    bad[-1] ^= 1
    with pytest.raises(InvalidChecksum):
        list(there.feed(bytes(bad)))
    with pytest.raises(ProtocolError):
        list(there.feed(writer.seal([DATA])))


@pytest.mark.parametrize(
    "payload",
    [
        PING * 2 + bytes(3),  # 29 bytes that end inside a length
        part(Kind.DATA, bytes(28)),
        part(Kind.ACK, bytes(28)),
        part(Kind.PING, bytes(8)) + part(Kind.DATA, bytes(15)),
    ],
)
def test_the_first_record_is_one_resume_and_nothing_else(payload: bytes) -> None:
    payload = payload.ljust(33, b"\0")
    with pytest.raises(ProtocolError) as caught:
        list(reader().feed(sealed(0, payload)))
    assert caught.value.proven


BROKEN = {
    "a part of no length": bytes(4) + PING,
    "a part longer than the rest": (99).to_bytes(4, "big") + bytes(8),
    "a length cut short": PING + bytes(3),
    "an unknown kind": part(7, bytes(8)),
    "kind 0": part(0, b""),
    "an ACK of 7 bytes": part(Kind.ACK, bytes(7)),
    "a PING of 9 bytes": part(Kind.PING, bytes(9)),
    "a PONG of none": part(Kind.PONG, b""),
    "a GOODBYE of 2 bytes": part(Kind.GOODBYE, bytes(2)),
    "a second RESUME": RESUME,
    "two DATA": DATA + DATA,
    "a GOODBYE that is not last": part(Kind.GOODBYE, b"\x01") + PING,
}


@pytest.mark.parametrize("payload", BROKEN.values(), ids=BROKEN)
def test_a_holder_of_the_key_that_breaks_the_structure_is_named(payload: bytes) -> None:
    _, there = opened()
    with pytest.raises(ProtocolError) as caught:
        list(there.feed(sealed(1, payload)))
    assert caught.value.proven


def test_what_came_before_an_error_has_been_yielded() -> None:
    writer, there = opened()
    got: list[list[Part]] = []
    with pytest.raises(ProtocolError):
        for parts in there.feed(writer.seal([DATA]) + bytes(4)):
            got.append(parts)  # noqa: PERF402 - an extend would lose them
    assert [parts[0][0] for parts in got] == [Kind.DATA]


def test_a_part_of_no_length_takes_nothing_from_the_tag() -> None:
    """The byte behind it looks like DATA, which has any length."""
    _, there = opened()
    records = (sealed(1, part(Kind.PING, number.to_bytes(8, "big")) + bytes(4)) for number in range(10_000))
    with pytest.raises(ProtocolError) as caught:
        list(there.feed(next(record for record in records if record[-16] == Kind.DATA)))
    assert caught.value.proven
