"""Those who come to the door of a `Siege`: strangers, forgers, and members whose words are spoiled on the way."""

import asyncio
from random import Random

from clusterkit.core.messages import pack_cast
from clusterkit.core.payload import encode
from clusterkit.core.record import Kind, RecordWriter, part
from clusterkit.core.session import Resume
from tests.integration.hostile import Siege, Visit
from tests.integration.hostile_tap import Listener
from tests.integration.hostile_wire import LIMIT, OPENING, RESUME_SIZE, mutated, split

RECORDINGS = 8
CASTS = 3  # of each session that is recorded
NOTE = pack_cast("witness", "note", encode([1]), None)
RESUME = part(Kind.RESUME, Resume(1, 0, 0, LIMIT).pack())


class Recording:
    """A session that took place: what each side sent, message by message."""

    def __init__(self, by_initiator: bytes, by_responder: bytes) -> None:
        self.by_initiator = by_initiator
        self.by_responder = by_responder
        self.pieces = [*_messages(by_initiator), *_messages(by_responder)]


def _messages(stream: bytes) -> list[bytes]:
    end = OPENING + 2 + int.from_bytes(stream[OPENING : OPENING + 2], "big")
    pieces = [stream[:OPENING], stream[OPENING:end]]
    while end < len(stream):
        start, end = end, end + 20 + int.from_bytes(stream[end : end + 4], "big")
        pieces.append(stream[start:end])
    return pieces


async def record(siege: Siege, name: str) -> Recording:
    """Open a session as a member does, send a cast in it, and keep every byte."""
    end = siege.end(name)
    async with siege.visit() as visit:
        await visit.speak(end)
        assert end.open, end.error
        for _ in range(CASTS):
            end.queue(NOTE)
            await visit.send(end.records())
        visit.half_close()
        await visit.to_the_end()
    return Recording(visit.sent, visit.seen)


def garbage(rng: Random, recordings: list[Recording]) -> bytes:
    """Something that is no handshake, or only the beginning of one."""
    hello = b"CKT1\x01" + rng.randbytes(32)
    return rng.choice(
        [
            rng.randbytes(rng.randrange(1, 300)),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(506),
            hello + rng.randbytes(rng.randrange(300)),
            hello + b"\x00\x00",
            hello + b"\xff\xff" + rng.randbytes(64),
            hello + (46).to_bytes(2, "big") + rng.randbytes(46),
            hello + (173).to_bytes(2, "big") + rng.randbytes(173),
            hello + b"\x00\x37\x03\x01\x01" + rng.randbytes(52) + rng.randbytes(rng.randrange(100_000)),
            b"CKT1\x02" + rng.randbytes(300),
            b"CKT2\x01" + rng.randbytes(32),
            bytes(rng.randrange(100_000)),
            b"",
        ]
    )


def truncated(rng: Random, recordings: list[Recording]) -> bytes:
    """A true session, cut off anywhere."""
    whole = rng.choice(recordings).by_initiator
    return whole[: rng.randrange(len(whole))]


def spliced(rng: Random, recordings: list[Recording]) -> bytes:
    """Pieces of true sessions, of both sides, put together wrongly, now and then cut as well."""
    one, other = rng.sample(recordings, 2)
    begin = rng.choice([[], one.pieces[:1], one.pieces[:2], [one.pieces[0], other.pieces[1]]])
    pieces = begin + rng.choices(one.pieces + other.pieces, k=rng.randrange(1, 6))
    if rng.random() < 0.3:
        place = rng.randrange(len(pieces))
        pieces[place] = pieces[place][rng.randrange(len(pieces[place])) :]
    return b"".join(pieces)


KINDS = (garbage, truncated, spliced)


async def disturb(siege: Siege, data: bytes, *, stays: bool, at_once: bool) -> None:
    """Send it all, with a pause for the answer to a HELLO or without; stay to the deadline or give up."""
    async with siege.visit() as visit:
        pause = 0 if at_once or not data.startswith(b"CKT1\x01") or len(data) < OPENING else OPENING
        if pause:
            await visit.send(data[:pause])
            await visit.until(OPENING)
        await visit.send(data[pause:])
        if not stays:
            visit.half_close()
        await visit.to_the_end()
    assert len(visit.seen) <= OPENING  # a challenge at most, which says nothing
    assert visit.seen.startswith(b"CKT1\x02"[: len(visit.seen)])


async def record_some(siege: Siege) -> tuple[list[Recording], tuple[str, ...]]:
    """Sessions of several members, and their names."""
    names = tuple(f"member-{number}" for number in range(RECORDINGS))
    return [await record(siege, name) for name in names], names


async def replay(siege: Siege, recording: Recording, *, at_once: bool) -> None:
    """Send again what the one that dialled sent, at its pace or in one go."""
    sent = recording.by_initiator
    await disturb(siege, sent, stays=False, at_once=at_once)


class Replayer(Listener):
    """Answers a dial with what another listener once answered."""

    def __init__(self, siege: Siege, recordings: list[Recording]) -> None:
        super().__init__()
        self.taken = 0
        self._siege = siege
        self._recordings = recordings

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say what the listener said, at its pace."""
        answers = self._siege.rng.choice(self._recordings).by_responder
        seen = await reader.readexactly(OPENING)
        writer.write(answers[:OPENING])
        seen += await reader.read(1000)
        writer.write(answers[OPENING:])
        seen += await reader.read()
        self.taken += 1
        self._siege.secrets.learn(seen, answers)


class Mirror(Listener):
    """Sends back what comes, a HELLO dressed as a CHAL."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo."""
        while data := await reader.read(1 << 16):
            writer.write(data.replace(b"CKT1\x01", b"CKT1\x02"))


# -- members ------------------------------------------------------------------------------


async def prove(siege: Siege, visit: Visit, name: str) -> list[bytes]:
    """Prove a caller; return the records that it would send: a RESUME, and casts."""
    end = siege.end(name)
    await visit.send(end.begin())
    await visit.until(OPENING)
    await visit.send(end.hear(visit.seen))
    while end.keys is None:
        heard = await visit.more()
        assert heard, end.error
        end.hear(heard)
    writer = RecordWriter(end.keys.by_initiator)
    notes = [part(Kind.DATA, b"\x91" + NOTE)] * CASTS
    return [writer.seal([each]) for each in (RESUME, *notes)]


async def answer(visit: Visit) -> list[bytes]:
    """What the node sends when the link has opened: its own RESUME at least."""
    start = OPENING + 2 + int.from_bytes(visit.seen[OPENING : OPENING + 2], "big")
    await visit.until(start + RESUME_SIZE)
    return split(visit.seen[start : start + RESUME_SIZE])


async def a_true_one(siege: Siege) -> tuple[list[bytes], list[bytes]]:
    """A link that nobody spoils: the records of both directions."""
    async with siege.visit() as visit:
        true = await prove(siege, visit, "before")
        await visit.send(b"".join(true))
        back = await answer(visit)
        visit.half_close()
        await visit.to_the_end()
    return true, back


async def spoil(siege: Siege, name: str, others: list[bytes], back: list[bytes]) -> int:
    """Open a link, or nearly, and spoil what follows; return how many casts were sent before that."""
    async with siege.visit() as visit:
        true, first = await prove(siege, visit, name), 0
        if siege.rng.random() < 0.7:
            await visit.send(true[0])
            back, first = await answer(visit), 1
        _, data, good = mutated(siege.rng, true[first:], back, others[first:])
        await visit.send(data)
        visit.half_close()
        await visit.to_the_end()
    return max(0, first + good - 1)
