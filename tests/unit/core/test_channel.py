"""One connection seen from one end: RESUMEs, DATA, acknowledgements, health, goodbye."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgpack
import pytest

from clusterkit.core.channel import (
    OVERHEAD,
    Channel,
    Deliver,
    Effect,
    Goodbye,
    Health,
    LinkCut,
    Ponged,
    Reason,
    Resumed,
)
from clusterkit.core.proof import RecordKeys
from clusterkit.core.record import Kind, RecordReader, RecordWriter, part
from clusterkit.core.session import Lane, Outbox, Outgoing, Resume, Session, StaleSession
from clusterkit.errors import ProtocolError

KEYS = RecordKeys(b"i" * 32, b"r" * 32)
MOST = 1 << 20


@dataclass
class End:
    """One end of a link."""

    channel: Channel
    session: Session
    waits: list[bool] = field(default_factory=lambda: [False])

    def put(self, *messages: object, lane: Lane = Lane.REQUEST) -> None:
        assert all(self.session.put(Outgoing(msgpack.packb(message), lane)) for message in messages)

    def write(self, now: float = 0.0) -> bytes:
        return self.channel.next_record(now) or b""

    def read(self, data: bytes, now: float = 0.0) -> list[Effect]:
        effects = []
        for effect in self.channel.receive(data, now):
            if isinstance(effect, Resumed):
                self.channel.open(self.session, effect.theirs)
            effects.append(effect)
        return effects


def end(number: int, *, initiator: bool, most: int = MOST, outbox: Outbox | None = None) -> End:
    waits = [False]
    channel = Channel(KEYS, initiator=initiator, most=most, health=Health(), expects_reply=lambda: waits[0])
    return End(channel, Session(number, outbox or Outbox()), waits)


def pair(most: int = MOST) -> tuple[End, End]:
    """Two ends with the two RESUMEs behind them."""
    one, other = end(3, initiator=True, most=most), end(7, initiator=False, most=most)
    one.channel.start(one.session)
    other.read(one.write())
    one.read(other.write())
    assert one.channel.opened
    assert other.channel.opened
    return one, other


def kinds(record: bytes, skip: int, key: bytes = KEYS.by_initiator) -> list[int]:
    """The kinds of the parts of record number ``skip`` of one direction."""
    reader = RecordReader(key, 1 << 26)
    if skip:
        reader._bounds = (5, 1 << 26)
        reader._mac._number = skip
    [parts] = reader.feed(record)
    return [kind for kind, _ in parts]


def scribe(skip: int = 1) -> Callable[..., bytes]:
    """Signs records of any parts as the responder, from number ``skip`` on."""
    writer = RecordWriter(KEYS.by_responder)
    writer._mac._number = skip
    return lambda *parts: writer.seal(parts)


# -- opening


def test_two_resumes_open_a_link_the_initiators_first() -> None:
    one, other = end(3, initiator=True), end(7, initiator=False)
    one.put("early")
    assert not other.channel.wants_write
    assert one.write() == b""
    one.channel.start(one.session)
    assert one.channel.wants_write
    assert other.read(one.write()) == [Resumed(Resume(3, 0, 0, MOST))]
    assert (one.channel.opened, other.channel.opened) == (False, True)
    assert one.read(other.write()) == [Resumed(Resume(7, 0, 0, MOST))]
    assert other.read(one.write()) == [Deliver(["early"])]


def test_nothing_but_resume_is_written_before_the_link_is_open() -> None:
    one = end(3, initiator=True)
    one.put("early")
    one.channel.start(one.session)
    one.channel.say_goodbye(Reason.STOP)
    assert kinds(one.write(), 0) == [Kind.RESUME]
    assert one.write() == b""
    assert (one.session.unacked, one.channel.awaits) == (0, False)


def test_no_ping_is_written_before_the_link_is_open() -> None:
    one = end(3, initiator=True)
    one.channel.start(one.session)
    one.channel.probe(1)
    assert kinds(one.write(), 0) == [Kind.RESUME]


def test_the_first_record_of_the_responder_is_its_resume_alone_too() -> None:
    one, other = end(3, initiator=True), end(7, initiator=False)
    one.channel.start(one.session)
    other.put("early")
    other.read(one.write())
    assert kinds(other.write(), 0, KEYS.by_responder) == [Kind.RESUME]
    assert kinds(other.write(), 1, KEYS.by_responder) == [Kind.DATA]


def test_a_stale_resume_raises_and_leaves_the_link_closed() -> None:
    one = end(7, initiator=False)
    one.session.resumed(Resume(5, 0, 0, MOST))
    with pytest.raises(StaleSession):
        one.channel.open(one.session, Resume(4, 0, 0, MOST))
    assert not one.channel.opened


def test_a_link_that_announced_a_session_which_has_ended_meanwhile_is_closed() -> None:
    one = end(5, initiator=True)
    one.channel.start(one.session)
    with pytest.raises(StaleSession):
        one.channel.open(Session(6, Outbox()), Resume(7, 0, 0, MOST))
    assert not one.channel.opened


def test_opening_returns_what_an_earlier_session_left_in_doubt() -> None:
    one, other = pair()
    one.put("doubt")
    one.write()
    again = Channel(KEYS, initiator=True, most=MOST, health=Health(), expects_reply=lambda: False)
    again.start(one.session)
    [lost] = again.open(one.session, Resume(8, 0, 0, MOST))
    assert lost.body == msgpack.packb("doubt")
    assert other.session.received == 0


# -- messages


def test_messages_arrive_in_order_one_record_a_turn() -> None:
    one, other = pair()
    one.put(*range(20))
    assert other.read(one.write()) == [Deliver(list(range(20)))]
    assert other.session.received == 20
    assert one.write() == b""


def test_a_turn_writes_64_kib_and_one_message_at_most() -> None:
    one, other = grown(pair())
    one.put(*[bytes(40_000)] * 3)
    assert delivered(other.read(one.write())) == [2]
    assert one.channel.wants_write


def delivered(effects: list[Effect]) -> list[int]:
    """How many messages each batch has."""
    return [len(effect.messages) for effect in effects if isinstance(effect, Deliver)]


def grown(both: tuple[End, End]) -> tuple[End, End]:
    """A connection whose records have their full size."""
    one, other = both
    for _ in range(6):
        one.put("x")
        other.read(one.write())
    return both


def test_a_new_connection_begins_with_small_records_that_double() -> None:
    one, other = pair()
    one.put(*[bytes(510)] * 1_000)
    sizes = [delivered(other.read(one.write()))[0] for _ in range(9)]
    assert sizes == [2, 4, 8, 16, 32, 64, 128, 128, 128]


@pytest.mark.parametrize("most", [1 << 16, 100_000, 1 << 20])
def test_no_record_is_longer_than_the_peer_accepts(most: int) -> None:
    one, other = pair(most)
    for _ in range(3):
        one.put(bytes(most - OVERHEAD - 5), b"x" * 30, bytes(20_000))
    delivered = 0
    while record := one.write():
        assert len(record) - 20 <= most
        delivered += sum(len(effect.messages) for effect in other.read(record) if isinstance(effect, Deliver))
    assert delivered == 9


@pytest.mark.parametrize("size", [10, (1 << 16) - OVERHEAD - 5])
def test_no_record_is_longer_than_the_peer_accepts_whatever_it_asked(size: int) -> None:
    one, _ = grown(pair(1 << 16))
    one.read(scribe()(*[part(Kind.PING, bytes(8))] * 20))
    one.put(*[bytes(size)] * ((1 << 17) // size))
    lengths = [len(record) - 20 for record in iter(one.write, b"")]
    assert max(lengths) <= 1 << 16
    assert max(lengths) > (1 << 16) - OVERHEAD


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90",  # no element
        b"\x80",  # a map
        b"\xc0",
        b"\x91",  # cut short
        b"\x91\xc0\xc0",  # a byte too many
        b"\x91\xc1",
        b"\x91\xa1\xff",  # no UTF-8
        b"\x91\xd4\x05x",  # an extension
        b"\xdd\x00\x01\x00\x00" + b"\xc0" * 65_536,
    ],
)
def test_data_that_is_no_array_of_messages_breaks_the_protocol(body: bytes) -> None:
    one, _ = pair()
    with pytest.raises(ProtocolError) as caught:
        one.read(scribe()(part(Kind.DATA, body)))
    assert caught.value.proven
    assert one.session.received == 0


def test_the_largest_array_is_accepted() -> None:
    one, _ = pair()
    [effect] = one.read(scribe()(part(Kind.DATA, b"\xdc\xff\xff" + b"\xc0" * 65_535)))
    assert isinstance(effect, Deliver)
    assert one.session.received == 65_535


# -- acknowledgements


def test_an_acknowledgement_waits_20_ms_for_a_record_to_ride_on() -> None:
    one, other = pair()
    one.put("a")
    other.read(one.write(), now=1.0)
    assert other.channel.ack_at == 1.02
    other.put("b")
    record = other.write(now=1.02)
    assert kinds(record, 1, KEYS.by_responder) == [Kind.ACK, Kind.DATA]
    one.read(record)
    assert (one.session.acked, one.session.unacked) == (1, 0)
    assert other.channel.ack_at is None


def test_an_acknowledgement_rides_on_a_record_that_goes_out_anyway() -> None:
    one, other = pair()
    one.put("a")
    other.read(one.write(), now=1.0)
    other.put("b")
    assert kinds(other.write(now=1.001), 1, KEYS.by_responder) == [Kind.ACK, Kind.DATA]


def test_it_goes_alone_when_nothing_else_does() -> None:
    one, other = pair()
    one.put("a")
    other.read(one.write(), now=1.0)
    assert other.write(now=1.019) == b""
    other.channel.acknowledge_late()
    assert kinds(other.write(now=1.019), 1, KEYS.by_responder) == [Kind.ACK]
    other.channel.acknowledge_late()
    assert other.write(now=9.0) == b""


def test_a_later_message_does_not_put_it_off() -> None:
    one, other = pair()
    for now in (1.0, 1.01):
        one.put("a")
        other.read(one.write(), now=now)
    assert other.channel.ack_at == 1.02


@pytest.mark.parametrize(("count", "size"), [(1_024, 1), (1, 64 << 10)])
def test_it_goes_at_once_after_1024_messages_or_64_kib(count: int, size: int) -> None:
    one, other = pair()
    one.put(*[bytes(size)] * count)
    while record := one.write():
        assert not other.channel.wants_write
        other.read(record)
    assert other.channel.wants_write
    assert kinds(other.write(), 1, KEYS.by_responder) == [Kind.ACK]


@pytest.mark.parametrize("received", [2, 2**64 - 1])
def test_an_impossible_acknowledgement_breaks_the_protocol(received: int) -> None:
    one, _ = pair()
    one.put("a")
    one.write()
    with pytest.raises(ProtocolError):
        one.read(scribe()(part(Kind.ACK, received.to_bytes(8, "big"))))


# -- PING, PONG, GOODBYE


def test_a_ping_is_answered_ahead_of_data() -> None:
    one, other = pair()
    one.channel.probe(5)
    other.put("data")
    assert other.read(one.write()) == []
    record = other.write()
    assert kinds(record, 1, KEYS.by_responder) == [Kind.PONG, Kind.DATA]
    assert one.read(record) == [Ponged(5), Deliver(["data"])]


def test_a_ping_alone_is_answered() -> None:
    one, other = pair()
    one.channel.probe(5)
    other.read(one.write())
    assert other.channel.wants_write
    assert one.read(other.write()) == [Ponged(5)]
    assert not other.channel.wants_write


@pytest.mark.parametrize("reason", Reason)
def test_a_goodbye_is_the_last_part_and_carries_the_acknowledgement(reason: Reason) -> None:
    one, other = pair()
    one.put("a")
    other.read(one.write())
    other.put("never written")
    other.channel.say_goodbye(reason)
    assert other.channel.wants_write
    record = other.write()
    assert kinds(record, 1, KEYS.by_responder) == [Kind.ACK, Kind.GOODBYE]
    assert one.read(record) == [Goodbye(reason)]
    assert one.session.acked == 1
    assert other.session.end()[1]


def test_nothing_is_written_after_a_goodbye() -> None:
    one, _ = pair()
    one.channel.say_goodbye(Reason.STOP)
    one.put("late")
    one.write()
    assert not one.channel.wants_write
    assert one.write() == b""


@pytest.mark.parametrize("reason", [0, 5, 255])
def test_a_goodbye_for_an_unknown_reason_breaks_the_protocol(reason: int) -> None:
    one, _ = pair()
    with pytest.raises(ProtocolError, match=f"reason {reason}"):
        one.read(scribe()(part(Kind.GOODBYE, bytes((reason,)))))


# -- health


def test_an_idle_link_is_silent() -> None:
    one, _ = pair()
    assert one.channel.watch(1_000.0, 0) is None
    assert not one.channel.wants_write


def test_a_link_that_awaits_an_acknowledgement_pings_at_5_s_and_is_cut_at_15() -> None:
    one, _ = pair()
    one.put("a")
    one.write(now=100.0)
    assert one.channel.watch(100.0, 0) == 105.0
    assert not one.channel.wants_write
    assert one.channel.watch(105.0, 0) == 110.0
    assert kinds(one.write(), 2) == [Kind.PING]
    assert one.channel.watch(110.0, 0) == 115.0
    assert not one.channel.wants_write
    with pytest.raises(LinkCut, match="nothing heard for 15 s"):
        one.channel.watch(115.0, 0)


def test_a_link_that_awaits_a_reply_pings_too() -> None:
    one, _ = pair()
    one.waits[0] = True
    assert one.channel.watch(100.0, 0) == 105.0
    one.channel.watch(105.0, 0)
    assert kinds(one.write(), 1) == [Kind.PING]


def test_anything_read_ends_the_silence() -> None:
    one, other = pair()
    one.waits[0] = True
    one.channel.watch(100.0, 0)
    one.channel.watch(105.0, 0)
    other.read(one.write())
    one.read(other.write(), now=106.0)
    assert one.channel.watch(110.0, 0) == 111.0
    assert not one.channel.wants_write


def test_silence_counts_from_the_write_though_the_first_look_is_later() -> None:
    one, _ = pair()
    one.put("a")
    one.write(now=100.0)
    assert one.channel.watch(103.0, 0) == 105.0


def test_each_silence_has_its_ping_and_a_link_that_awaits_nothing_is_silent_again() -> None:
    one, other = pair()
    one.waits[0] = True
    for since in (100.0, 200.0):
        one.channel.watch(since, 0)
        one.channel.watch(since + 5, 0)
        other.read(one.write())
        one.read(other.write(), now=since + 5)
    one.waits[0] = False
    assert one.channel.watch(210.0, 0) is None


def test_what_comes_to_be_awaited_later_is_watched_from_then() -> None:
    one, _ = pair()
    assert one.channel.watch(100.0, 0) is None
    one.waits[0] = True
    assert one.channel.watch(200.0, 0) == 205.0


def test_a_look_much_too_late_says_nothing_about_the_peer() -> None:
    one, _ = pair()
    one.waits[0] = True
    assert one.channel.watch(100.0, 50) == 105.0
    assert one.channel.watch(300.0, 50) == 305.0


def test_a_write_that_does_not_move_for_10_s_cuts() -> None:
    one, _ = pair()
    assert one.channel.watch(100.0, 50) == 105.0
    assert one.channel.watch(105.0, 40) == 110.0  # it moved
    assert one.channel.watch(110.0, 40) == 115.0
    with pytest.raises(LinkCut, match="no progress of a write for 10 s"):
        one.channel.watch(115.0, 40)


def test_a_write_that_is_held_up_is_looked_at_when_it_must_have_moved() -> None:
    one, _ = pair()
    assert one.channel.watch(100.0, 50) == 105.0
    assert one.channel.watch(104.0, 50) == 109.0
    assert one.channel.watch(109.0, 50) == 110.0
    with pytest.raises(LinkCut, match="no progress of a write for 10 s"):
        one.channel.watch(110.0, 50)


def test_a_write_that_moves_while_more_is_written_is_not_cut() -> None:
    one, other = pair()
    unsent = 0
    for turn in range(4):  # every 5 s the network takes 100 KB, and 110 KB come after
        one.put(bytes(110_000))
        unsent += len(record := one.write()) - (100_000 if turn else 0)
        other.read(record)
        other.channel.acknowledge_late()
        one.read(other.write(), now=100.0 + 5 * turn)
        one.channel.watch(100.0 + 5 * turn, unsent)


def test_a_record_that_does_not_end_within_30_s_cuts() -> None:
    one, other = pair()
    other.put(bytes(1_000))
    record = other.write()
    for at in range(7):
        one.read(record[at : at + 1], now=100.0 + 5 * at)
        if at < 6:
            assert one.channel.watch(100.0 + 5 * at, 0) == 105.0 + 5 * at
    with pytest.raises(LinkCut, match="a record did not end within 30 s"):
        one.channel.watch(130.0, 0)


def test_a_record_that_ends_is_watched_no_more() -> None:
    one, other = pair()
    other.put("a")
    record = other.write()
    one.read(record[:9], now=100.0)
    one.read(record[9:], now=101.0)
    assert one.channel.watch(101.0, 0) is None


def test_a_busy_link_whose_reads_end_inside_records_is_not_cut() -> None:
    one, other = pair()
    rest = b""
    for turn in range(8):
        other.put("a")
        record = other.write()
        one.read(rest + record[:9], now=100.0 + 5 * turn)
        rest = record[9:]
        one.channel.watch(100.0 + 5 * turn, 0)


def test_a_late_look_gives_a_begun_record_its_time_again() -> None:
    one, other = pair()
    other.put("a")
    one.read(other.write()[:9], now=100.0)
    assert one.channel.watch(100.0, 0) == 105.0
    assert one.channel.watch(200.0, 0) == 205.0


def test_a_look_at_the_time_told_gets_on() -> None:
    one, _ = pair()
    one.waits[0] = True
    at = one.channel.watch(3.002, 0)  # (3.002 + 5.0) - 3.002 < 5.0
    assert at is not None
    again = one.channel.watch(at, 0)
    assert again is not None
    assert again > at


def test_a_channel_knows_whether_a_record_is_unfinished() -> None:
    one, other = pair()
    one.put(b"x")
    record = one.write()
    other.read(record[:7])
    assert other.channel.inside_record
    other.read(record[7:])
    assert not other.channel.inside_record


def test_ring_messages_that_come_alone_wait_for_a_record_to_ride_on_until_there_are_64() -> None:
    one, other = pair()
    for number in range(63):
        one.put([0, b"probe"], lane=Lane.CONTROL)
        other.read(one.write(), now=1.0)
        assert (other.channel.ack_at, one.session.unacked, one.channel.held) == (None, number + 1, 0)
        assert not one.channel.awaits
    one.put([0, b"probe"], lane=Lane.CONTROL)
    other.read(one.write(), now=2.0)
    assert other.channel.ack_at == 2.02


def test_another_message_has_ring_messages_acknowledged_too() -> None:
    one, other = pair()
    one.put([0, b"probe"], lane=Lane.CONTROL)
    other.read(one.write(), now=1.0)
    one.put([2, "to", "handler", b""])
    other.read(one.write(), now=1.5)
    assert (other.channel.ack_at, one.channel.held, one.channel.awaits) == (1.52, 1, True)
    other.channel.acknowledge_late()
    one.read(other.write(now=1.52))
    assert (one.session.unacked, one.channel.awaits) == (0, False)
