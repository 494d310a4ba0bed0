"""Signed records: what follows the handshake, bytes to parts and parts to bytes.

::

    record  = u32 len | payload[len] | tag[16]
    payload = one or more of  u32 mlen | kind u8 | body[mlen - 1]

One MAC covers one record, that is all that one turn of the writer carries. Its
key belongs to one direction of one link and its number is not sent, so a record
that was lost, repeated, moved or sent back to its author has a wrong tag.

Rules (docs/wire.md, "Records"): ``len`` is checked before reading on, the tag
before the payload is looked at; parts fill the payload exactly; after an error
nothing more is read.
"""

import hmac
from collections.abc import Iterable, Iterator
from enum import IntEnum

from clusterkit.errors import InvalidChecksum, ProtocolError

TAG_SIZE = 16
FIRST_LENGTH = 33  # the first record of each side is one RESUME
LEAST_LENGTH = 5


class Kind(IntEnum):
    """What a part of a record is."""

    RESUME = 1
    DATA = 2
    ACK = 3
    PING = 4
    PONG = 5
    GOODBYE = 6


_BODY_SIZE = {Kind.RESUME: 28, Kind.ACK: 8, Kind.PING: 8, Kind.PONG: 8, Kind.GOODBYE: 1}
_GOODBYE = int(Kind.GOODBYE)
_DATA = int(Kind.DATA)

Part = tuple[int, bytes]


class _Mac:
    """The tags of one direction, in the order of its records."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")
        self._number = 0

    def next(self, signed: bytes | memoryview) -> bytes:
        """The tag of the next record, over its number, length and payload."""
        mac = self._keyed.copy()
        mac.update(self._number.to_bytes(8, "big"))
        mac.update(signed)
        self._number += 1
        return mac.digest()[:TAG_SIZE]


def part(kind: int, body: bytes) -> bytes:
    """One part of a payload.

    >>> part(Kind.GOODBYE, bytes([2])).hex()
    '000000020602'
    """
    return (len(body) + 1).to_bytes(4, "big") + bytes((kind,)) + body


class RecordWriter:
    """Signs the records of one direction of one link."""

    def __init__(self, key: bytes) -> None:
        self._mac = _Mac(key)

    def seal(self, parts: Iterable[bytes]) -> bytes:
        """Make the next record out of parts that `part` made."""
        payload = b"".join(parts)
        signed = len(payload).to_bytes(4, "big") + payload
        return signed + self._mac.next(signed)


class RecordReader:
    """Checks and opens the records of one direction of one link.

    ``limit`` is the largest ``len`` accepted. Bytes may come in any chunks.
    """

    def __init__(self, key: bytes, limit: int) -> None:
        self._mac = _Mac(key)
        self._bounds = (FIRST_LENGTH, FIRST_LENGTH)
        self._limit = limit
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 4

    @property
    def inside_record(self) -> bool:
        """Whether a record has begun and not ended."""
        return bool(self._chunks)

    def feed(self, data: bytes) -> Iterator[list[Part]]:
        """Yield the parts of each record that ``data`` completes.

        Raises `InvalidChecksum` for a wrong tag, and `ProtocolError` for a
        length or a structure that is not allowed; its ``proven`` tells whether a
        holder of the key sent it. What came before the error has been yielded;
        after it nothing is read any more.
        """
        try:
            yield from self._feed(data)
        except ProtocolError:
            self._bounds = (1, 0)  # no length is right any more
            raise

    def _feed(self, data: bytes) -> Iterator[list[Part]]:
        if self._chunks:  # a long record is collected in pieces and joined once
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        start = 0
        while (stop := self._end_of_record(data, start)) <= len(data):
            yield self._open(data, start, stop)
            start = stop
        if start < len(data):
            self._chunks.append(data[start:])
            self._have = len(data) - start
            self._need = stop - start

    def _end_of_record(self, data: bytes, start: int) -> int:
        """Where the record ends, or where its length will, if that has not come."""
        if len(data) - start < 4:
            return start + 4 if start < len(data) else len(data) + 1
        length = int.from_bytes(data[start : start + 4], "big")
        least, most = self._bounds
        if not least <= length <= most:
            raise ProtocolError(f"a record of {length} bytes, where {least} to {most} are allowed")
        return start + 4 + length + TAG_SIZE

    def _open(self, data: bytes, start: int, stop: int) -> list[Part]:
        payload_end = stop - TAG_SIZE
        expected = self._mac.next(memoryview(data)[start:payload_end])
        if not hmac.compare_digest(expected, data[payload_end:stop]):
            raise InvalidChecksum("INVALID_CHECKSUM")
        parts = _split(data, start + 4, payload_end)
        if self._bounds[0] == FIRST_LENGTH:
            self._bounds = (LEAST_LENGTH, self._limit)
            _check_first(parts)
        else:
            _check_later(parts)
        return parts


def _split(data: bytes, start: int, stop: int) -> list[Part]:
    parts: list[Part] = []
    while start < stop:
        length = int.from_bytes(data[start : start + 4], "big")
        end = start + 4 + length
        if length < 1 or end > stop:
            raise ProtocolError("the parts of a record do not fill it exactly", proven=True)
        parts.append((data[start + 4], data[start + 5 : end]))
        start = end
    return parts


def _check_first(parts: list[Part]) -> None:
    if [(kind, len(body)) for kind, body in parts] != [(Kind.RESUME, 28)]:
        raise ProtocolError("the first record is not one RESUME", proven=True)


def _check_later(parts: list[Part]) -> None:
    if len(parts) == 1 and parts[0][0] == _DATA:  # nearly all records
        return
    data_seen = False
    for place, (kind, body) in enumerate(parts):
        if kind == _DATA:
            if data_seen:
                raise ProtocolError("two DATA in one record", proven=True)
            data_seen = True
        elif kind == Kind.RESUME:
            raise ProtocolError("RESUME after the first record", proven=True)
        elif _BODY_SIZE.get(kind) != len(body):  # type: ignore[call-overload]  # any byte may come
            raise ProtocolError(f"a part of kind {kind} with {len(body)} bytes", proven=True)
        elif kind == _GOODBYE and place != len(parts) - 1:
            raise ProtocolError("GOODBYE is not the last", proven=True)
