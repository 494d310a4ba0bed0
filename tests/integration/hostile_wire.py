"""Two ends of a link made of the core machines alone, so that somebody can stand between them.

`meet` carries what they say and hands each message to ``tamper`` on its way. The same end
speaks over a socket in `tests.integration.hostile`: it takes bytes and gives bytes.
"""

import hmac
import itertools
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from clusterkit.core.channel import Channel, Deliver, Health, Resumed
from clusterkit.core.handshake import (
    Admit,
    Admitted,
    Closed,
    Effect,
    Event,
    Failed,
    Initiator,
    Judge,
    Judged,
    Proven,
    Received,
    Refused,
    Responder,
    Tick,
    Write,
)
from clusterkit.core.judgement import Here, judge
from clusterkit.core.proof import Party, RecordKeys, Status
from clusterkit.core.session import Lane, Outbox, Outgoing, Session

LIMIT = 1 << 20
STEPS = ("HELLO", "CHAL", "AUTH_I", "AUTH_R", "RESUME of I", "RESUME of R")
OPENING = 37
RESUME_SIZE = 53

Tamper = Callable[[int, bytes], bytes]


class End:
    """One end of a link: proves itself, opens, keeps what is delivered."""

    def __init__(self, me: Party, machine: Initiator | Responder) -> None:
        self.me = me
        self.delivered: list[Any] = []
        self.error: Exception | None = None
        self.status: Status | None = None
        """The verdict that this end gave, or was given."""
        self.peer: Party | None = None
        self.keys: RecordKeys | None = None
        self.session = Session(1, Outbox())
        self._machine = machine
        self._channel: Channel | None = None

    @classmethod
    def dialling(cls, me: Party, cookie: bytes, rng: Random, *, expected: str | None = None) -> "End":
        """The end that dials; ``cookie`` is a key of `prepare_cookies`."""
        nonce = rng.randbytes(32)
        return cls(me, Initiator(me, cookie, nonce, expected=expected, known_boot=lambda name: 0, now=0.0))

    @classmethod
    def listening(cls, me: Party, cookie: bytes, rng: Random) -> "End":
        """The end that was dialled."""
        return cls(me, Responder(me, [cookie], rng.randbytes(32), now=0.0))

    @property
    def open(self) -> bool:
        """Whether messages would be taken."""
        return self._channel is not None and self._channel.opened and self.error is None

    def begin(self) -> bytes:
        """The first bytes of the end that dials."""
        assert isinstance(self._machine, Initiator)
        return self._carry_out(self._machine.start())

    def queue(self, body: bytes) -> None:
        """Send a message of the kernel as soon as the link is open."""
        assert self.session.put(Outgoing(body, Lane.REQUEST))

    def records(self) -> bytes:
        """What is to be written now."""
        return b"".join(self._records())

    def hear(self, data: bytes) -> bytes:
        """Take what came; return what is to be sent back."""
        out = b""
        while data and self.error is None and self._channel is None and self._machine.wants:
            piece, data = data[: self._machine.wants], data[self._machine.wants :]
            out += self._step(Received(piece))
        return out + self._read(data) if self._channel is not None else out

    def closed(self) -> None:
        """The other end closed."""
        self._step(Closed())
        if self.error is None and self._channel is not None:
            self.error = ConnectionResetError()

    def expire(self) -> None:
        """The handshake's deadline passes."""
        if (deadline := self._machine.next_deadline) is not None:
            self._carry_out(self._machine.step(Tick(), deadline))

    def _step(self, event: Event) -> bytes:
        return self._carry_out(self._machine.step(event, 0.0))

    def _carry_out(self, effects: list[Effect]) -> bytes:
        out = b""
        for effect in effects:
            match effect:
                case Write(data=data):
                    out += data
                case Admit():
                    out += self._step(Admitted())
                case Judge(caller=caller):
                    self.status = judge(caller, Here(self.me))
                    out += self._step(Judged(self.status, self.me.boot))
                case Proven(peer=peer, keys=keys):
                    self.peer, self.keys = peer, keys
                    out += self._prove(keys)
                case Refused(status=status):
                    self.status = status
                case Failed(error=error):
                    self.error = error
        return out

    def _prove(self, keys: RecordKeys) -> bytes:
        dials = isinstance(self._machine, Initiator)
        self._channel = Channel(keys, initiator=dials, most=LIMIT, health=Health(), expects_reply=lambda: False)
        if dials:
            self._channel.start(self.session)
        return self.records()

    def _records(self) -> Iterator[bytes]:
        assert self._channel is not None
        while (record := self._channel.next_record(0.0)) is not None:
            yield record

    def _read(self, data: bytes) -> bytes:
        assert self._channel is not None
        try:
            for effect in self._channel.receive(data, 0.0):
                if isinstance(effect, Resumed):
                    self._channel.open(self.session, effect.theirs)
                elif isinstance(effect, Deliver):
                    self.delivered += effect.messages
        except ConnectionError as error:  # ProtocolError is one
            self.error = error
            return b""
        return self.records()


def untouched(step: int, data: bytes) -> bytes:
    """Nobody stands between."""
    return data


def meet(dialling: End, listening: End, tamper: Tamper = untouched) -> list[bytes]:
    """Carry what both say, each message through ``tamper``, until nobody says more; return what was said."""
    said: list[bytes] = []
    data = dialling.begin()
    for step in itertools.count():
        if not data:
            break
        said.append(data)
        data = (dialling if step % 2 else listening).hear(tamper(step, data))
    for one, other in ((dialling, listening), (listening, dialling)):
        if one.error is not None:
            other.closed()
        one.expire()
    return said


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed.

    >>> flipped(bytes(2), 9).hex()
    '0002'
    """
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_of_the_handshake(said: list[bytes]) -> list[tuple[int, int]]:
    """Each bit of the six messages that open a link: its step and its place."""
    sizes = [min(len(data), RESUME_SIZE) if step > 3 else len(data) for step, data in enumerate(said[:6])]
    return [(step, bit) for step, size in enumerate(sizes) for bit in range(8 * size)]


# -- records --------------------------------------------------------------------------


def split(stream: bytes) -> list[bytes]:
    """Cut a stream of whole records."""
    records: list[bytes] = []
    while stream:
        size = 4 + int.from_bytes(stream[:4], "big") + 16
        records.append(stream[:size])
        stream = stream[size:]
    return records


def tag(key: bytes, number: int, signed: bytes) -> bytes:
    """The right tag of a record, by the page and not by the code under test."""
    return hmac.digest(key, number.to_bytes(8, "big") + signed, "sha256")[:16]


def mutated(rng: Random, true: list[bytes], back: list[bytes], others: list[bytes]) -> tuple[str, bytes, int]:
    """Spoil a stream of records: what was done, the bytes, and how many records before it are as they were.

    ``back`` are records of the other direction, ``others`` those of another link.
    """
    while True:
        name = rng.choice(sorted(MUTATIONS))
        place = rng.randrange(len(true))
        changed = MUTATIONS[name](rng, list(true), place, back, others)
        if changed != true[: len(changed)]:
            break
    good = next((n for n, (was, now) in enumerate(zip(true, changed, strict=False)) if was != now), len(true))
    return name, b"".join(changed), good


Records = list[bytes]
Mutation = Callable[[Random, Records, int, Records, Records], Records]


def _flip(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        true[place] = flipped(true[place], rng.randrange(8 * len(true[place])))
    return true


def _length(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    was = int.from_bytes(true[place][:4], "big")
    lie = rng.choice((0, 1, 4, was - 1, was + 1, 33, LIMIT, LIMIT + 1, 1 << 31, (1 << 32) - 1, rng.randrange(2 * was)))
    true[place] = lie.to_bytes(4, "big") + true[place][4:]
    return true


def _swap(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    other = rng.randrange(len(true))
    true[place], true[other] = true[other], true[place]
    return true


def _repeat(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    true.insert(rng.randrange(place, len(true)) + 1, true[place])
    return true


def _drop(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    del true[place]
    return true


def _turn_back(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    true[place] = rng.choice(back)
    return true


def _other_link(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    true[place] = others[place % len(others)]
    return true


def _other_tag(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    true[place] = true[place][:-16] + rng.choice((others[place % len(others)][-16:], rng.choice(true)[-16:], bytes(16)))
    return true


def _cut(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    at = rng.randrange(len(true[place]))
    true[place] = true[place][:at] + true[place][at + rng.randrange(1, 9) :]
    return true


def _insert(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    at = rng.randrange(len(true[place]))
    true[place] = true[place][:at] + rng.randbytes(rng.randrange(1, 40)) + true[place][at:]
    return true


def _noise(rng: Random, true: Records, place: int, back: Records, others: Records) -> Records:
    true[place] = rng.randbytes(len(true[place]))
    return true


MUTATIONS: dict[str, Mutation] = {
    "bits flipped": _flip,
    "a length that lies": _length,
    "two swapped": _swap,
    "one repeated": _repeat,
    "one dropped": _drop,
    "one of the other direction": _turn_back,
    "one of another link": _other_link,
    "the tag of another": _other_tag,
    "bytes cut out": _cut,
    "bytes inserted": _insert,
    "noise": _noise,
}
