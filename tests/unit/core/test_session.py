"""What survives a connection: numbers, acknowledgements, the outbox and its bounds, RESUME."""

import pytest

from clusterkit.core.session import Fate, Lane, Notice, Outbox, Outgoing, Resume, Session, StaleSession
from clusterkit.errors import ProtocolError

MOST = 1 << 20
WIDE = 1 << 30


def session(own: int = 3, **bounds: int) -> Session:
    return Session(own, Outbox(**bounds))


def out(body: bytes = b"m", lane: Lane = Lane.REQUEST, *, by_name: bool = False) -> Outgoing:
    return Outgoing(body, lane, by_name=by_name)


def put(where: Session, *bodies: bytes, lane: Lane = Lane.REQUEST) -> list[Outgoing]:
    messages = [out(body, lane) for body in bodies]
    assert all(map(where.put, messages))
    return messages


def take(where: Session) -> list[bytes]:
    return where.take(WIDE, WIDE)


def met(*, written: int = 0, acked: int = 0) -> Session:
    """A session whose peer is object 7, after some traffic."""
    one = session()
    one.resumed(Resume(7, 0, 0, MOST))
    put(one, *(bytes((number,)) for number in range(1, written + 1)))
    take(one)
    one.acknowledge(acked)
    return one


# -- RESUME on the wire


def test_a_resume_reads_back_what_was_packed() -> None:
    resume = Resume(2**64 - 1, 0, 5, 1 << 26)
    assert Resume.unpack(resume.pack()) == resume


@pytest.mark.parametrize(
    "resume", [Resume(0, 1, 0, MOST), Resume(1, 0, 0, (1 << 16) - 1), Resume(1, 0, 0, (1 << 26) + 1)]
)
def test_a_resume_with_numbers_that_cannot_be_is_refused(resume: Resume) -> None:
    with pytest.raises(ProtocolError) as caught:
        Resume.unpack(resume.pack())
    assert caught.value.proven


def test_our_resume_tells_what_this_object_remembers() -> None:
    one = met()
    one.received = 9
    assert one.resume(MOST) == Resume(3, 7, 9, MOST)


# -- the outbox


def test_messages_leave_by_priority_and_in_order_within_it() -> None:
    one = session()
    for lane in reversed(Lane):
        put(one, f"{lane.name}1".encode(), f"{lane.name}2".encode(), lane=lane)
    names = [f"{lane.name}{number}".encode() for lane in Lane for number in (1, 2)]
    assert take(one) == names
    assert one.written == 8


def test_a_turn_takes_at_most_soft_bytes_and_one_message() -> None:
    one = session()
    put(one, b"aaaa", b"bbbb", b"cccc")
    assert one.take(5, WIDE) == [b"aaaa", b"bbbb"]
    assert one.has_queued
    assert one.take(5, WIDE) == [b"cccc"]
    assert not one.has_queued


def test_a_turn_never_takes_more_than_hard() -> None:
    one = session()
    put(one, b"aaaa", b"bbbb", lane=Lane.REPLY)
    put(one, b"c")
    assert one.take(8, 7) == [b"aaaa"]
    assert one.take(8, 7) == [b"bbbb", b"c"]


def test_a_turn_takes_no_more_elements_than_one_data_holds() -> None:
    one = session(messages=70_000)
    put(one, *[b"x"] * 65_536)
    assert len(take(one)) == 65_535
    assert len(take(one)) == 1


@pytest.mark.parametrize("lane", [Lane.REQUEST, Lane.STREAM])
def test_a_full_outbox_takes_nothing_more_and_evicts_nothing(lane: Lane) -> None:
    one = session(messages=2)
    put(one, b"1", b"2", lane=lane)
    assert not one.put(out(b"3", lane))
    assert (len(one), take(one)) == (2, [b"1", b"2"])


def test_written_messages_count_until_they_are_acknowledged() -> None:
    one = session(messages=2)
    put(one, b"1", b"2")
    take(one)
    assert not one.put(out())
    assert (len(one), one.unacked, one.size) == (2, 2, 2)
    one.acknowledge(1)
    assert one.put(out())


def test_bytes_are_bounded_too() -> None:
    one = session(size=10)
    put(one, b"12345678")
    assert not one.put(out(b"123"))
    put(one, b"12")
    assert one.size == 10


def test_replies_may_fill_twice_the_bound() -> None:
    one = session(messages=2, size=1_000)
    put(one, b"1", b"2", b"3", b"4", lane=Lane.REPLY)
    assert not one.put(out(lane=Lane.REPLY))
    assert not one.put(out())


def test_control_has_a_bound_of_its_own() -> None:
    one = session(messages=1, control=4)
    put(one, b"1")
    put(one, b"1234", lane=Lane.CONTROL)
    assert not one.put(out(b"5", Lane.CONTROL))
    assert (len(one), one.size) == (1, 1)
    take(one)
    one.acknowledge(1)  # control was written first
    put(one, b"5", lane=Lane.CONTROL)


def test_withdrawn_control_gives_its_room_back() -> None:
    one = session(control=4)
    [message] = put(one, b"1234", lane=Lane.CONTROL)
    assert one.withdraw(message)
    put(one, b"1234", lane=Lane.CONTROL)


def test_a_queued_message_can_be_withdrawn_and_is_never_written() -> None:
    one = session()
    first, second = put(one, b"1", b"2")
    assert one.withdraw(first)
    assert (first.fate, len(one), one.size) == (Fate.WITHDRAWN, 1, 1)
    assert not one.withdraw(first)
    assert take(one) == [b"2"]
    assert (second.fate, one.written) == (Fate.WRITTEN, 1)


def test_a_written_message_cannot_be_withdrawn() -> None:
    one = session()
    [message] = put(one, b"1")
    take(one)
    assert not one.withdraw(message)
    one.acknowledge(1)
    assert message.fate == Fate.DONE
    assert not one.withdraw(message)


def test_withdrawn_messages_take_no_place_in_a_turn() -> None:
    one = session()
    for message in put(one, b"1", b"2"):
        one.withdraw(message)
    assert take(one) == []
    assert not one.has_queued


def test_calls_that_come_and_go_while_there_is_no_link_leave_nothing_behind() -> None:
    one = session(messages=10)
    for _ in range(1_000):
        one.withdraw(put(one, b"1")[0])
    assert sum(map(len, one._lanes)) <= 2 * 10


def test_a_message_that_was_not_taken_cannot_be_withdrawn() -> None:
    one = session(messages=1)
    put(one, b"1")
    refused = out()
    assert not one.put(refused)
    assert not one.withdraw(refused)
    assert len(one) == 1


def test_messages_over_the_peers_limit_are_taken_back() -> None:
    one = session()
    small, large, gone = put(one, b"1", b"123", b"12345")
    one.withdraw(gone)
    assert one.withdraw_over(3) == []
    assert one.withdraw_over(2) == [large]
    assert (small.fate, large.fate, len(one)) == (Fate.QUEUED, Fate.WITHDRAWN, 1)


# -- notices: the runtime's own, which no bound keeps out


def test_a_notice_is_queued_in_a_full_outbox_in_its_order() -> None:
    one = session(messages=1)
    put(one, b"1")
    one.put_always(notice := Notice(b"down", Lane.REQUEST))
    assert (notice.fate, len(one), one.size) == (Fate.QUEUED, 2, 5)
    assert not one.put(out(b"2"))
    assert take(one) == [b"1", b"down"]


def test_a_notice_counts_against_the_bound_for_what_comes_behind_it() -> None:
    one = session(messages=2)
    one.put_always(Notice(b"down", Lane.REQUEST))
    put(one, b"1")
    assert not one.put(out(b"2"))
    take(one)
    one.acknowledge(1)
    assert (len(one), one.size) == (1, 1)
    put(one, b"2")


def test_a_notice_that_was_never_written_can_be_withdrawn() -> None:
    one = session()
    one.put_always(notice := Notice(b"monitor", Lane.REQUEST))
    assert one.withdraw(notice)
    assert (take(one), len(one), one.size) == ([], 0, 0)


def test_a_written_notice_goes_again_on_the_next_connection() -> None:
    one = met()
    one.put_always(Notice(b"down", Lane.REQUEST))
    assert take(one) == [b"down"]
    assert one.resumed(Resume(7, 3, 0, MOST)) == []
    assert take(one) == [b"down"]


def test_only_notices_say_that_nobody_misses_them() -> None:
    assert Notice(b"down", Lane.REQUEST).is_notice
    assert not out().is_notice
    assert not Notice(b"down", Lane.REQUEST).by_name, "another incarnation has nothing to do with it"


# -- acknowledgement


@pytest.mark.parametrize("received", [0, 2, 4])
def test_an_acknowledgement_outside_acked_and_written_is_a_broken_rule(received: int) -> None:
    one = met(written=3, acked=1)
    if received == 2:
        one.acknowledge(received)
        assert (one.acked, one.unacked) == (2, 1)
    else:
        with pytest.raises(ProtocolError, match="outside 1..3") as caught:
            one.acknowledge(received)
        assert caught.value.proven


# -- handling RESUME(o, p, r): the table of cases


def test_a_resume_older_than_one_seen_is_stale() -> None:
    one = met(written=1)
    with pytest.raises(StaleSession):
        one.resumed(Resume(6, 3, 0, MOST))
    assert (one.peer, one.unacked) == (7, 1)


def test_both_remember_so_the_rest_goes_again_before_anything_new() -> None:
    one = met(written=3, acked=1)
    put(one, b"control", lane=Lane.CONTROL)
    assert one.resumed(Resume(7, 3, 2, MOST)) == []
    assert (one.acked, one.written, one.unacked) == (2, 2, 1)
    assert take(one) == [b"\x03", b"control"]
    assert one.written == 4


@pytest.mark.parametrize("received", [0, 4])
def test_both_remember_but_the_number_cannot_be(received: int) -> None:
    with pytest.raises(ProtocolError):
        met(written=3, acked=1).resumed(Resume(7, 3, received, MOST))


def test_the_peer_never_heard_of_this_object_so_all_goes_again() -> None:
    one = met(written=2)
    one.received = 5
    assert one.resumed(Resume(7, 0, 99, MOST)) == []
    assert take(one) == [b"\x01", b"\x02"]
    assert (one.received, one.written) == (5, 2)


def test_the_peer_cannot_have_acknowledged_what_it_never_heard_of() -> None:
    with pytest.raises(ProtocolError, match="never heard"):
        met(written=2, acked=1).resumed(Resume(7, 2, 0, MOST))


def test_the_first_meeting_takes_the_peers_number_and_ignores_what_it_received() -> None:
    one = session()
    put(one, b"1")
    assert one.resumed(Resume(7, 2, 99, MOST)) == []
    assert (one.peer, one.received, one.peer_most) == (7, 0, MOST)
    assert take(one) == [b"1"]


def test_a_peer_that_ended_its_session_leaves_the_written_in_doubt_and_the_queue_untouched() -> None:
    one = met(written=2, acked=1)
    one.received = 5
    [queued] = put(one, b"new")
    [lost] = one.resumed(Resume(9, 3, 0, MOST))
    assert (lost.body, lost.fate) == (b"\x02", Fate.DONE)
    assert (one.peer, one.acked, one.written, one.received, len(one)) == (9, 0, 0, 0, 1)
    assert take(one) == [b"new"]
    assert queued.fate == Fate.WRITTEN


def test_a_link_that_breaks_while_sending_again_loses_and_repeats_nothing() -> None:
    one = met(written=4)
    one.resumed(Resume(7, 3, 1, MOST))
    assert one.take(1, WIDE) == [b"\x02"]  # and the link breaks: 3 and 4 still wait to go again
    assert one.unacked == 3
    one.resumed(Resume(7, 3, 1, MOST))  # 2 was lost with it
    assert one.take(1, WIDE) == [b"\x02"]
    one.resumed(Resume(7, 3, 2, MOST))
    assert take(one) == [b"\x03", b"\x04"]
    assert one.written == 4


# -- the end


def test_an_end_tells_what_is_in_doubt_from_what_was_never_written() -> None:
    one = met(written=3)
    one.resumed(Resume(7, 3, 1, MOST))
    one.take(1, WIDE)
    gone, stays = put(one, b"gone", b"stays")
    one.withdraw(gone)
    control = put(one, b"control", lane=Lane.CONTROL)
    written, queued = one.end()
    assert [message.body for message in written] == [b"\x02", b"\x03"]
    assert queued == [*control, stays]
    assert (len(one), one.size, one.unacked, one.has_queued) == (0, 0, 0, False)


def test_what_was_queued_can_go_on_in_the_next_session() -> None:
    one, following = session(3), session(4)
    put(one, b"1")
    _, queued = one.end()
    assert all(map(following.put, queued))
    assert take(following) == [b"1"]


def test_what_was_queued_when_a_session_ended_is_in_no_other() -> None:
    one, following = session(3), session(4)
    [message] = put(one, b"1")
    one.end()
    assert message.fate == Fate.NEW
    assert not following.withdraw(message)
    assert (len(following), following.size) == (0, 0)


# -- messages that nobody wants any more


def test_a_written_message_that_nobody_wants_goes_on_no_later_link() -> None:
    one = met()
    _, second, _ = put(one, b"1", b"2", b"3")
    take(one)
    assert not one.withdraw(second)  # it may have run
    assert one.unacked == len(one) == 3
    one.resumed(Resume(7, 3, 0, MOST))
    assert take(one) == [b"1", b"3"]
    assert one.written == one.unacked == len(one) == 2
    one.acknowledge(2)
    assert (len(one), one.size) == (0, 0)


def test_one_that_arrived_before_it_was_given_up_keeps_its_number() -> None:
    one = met()
    first, _ = put(one, b"1", b"2")
    take(one)
    one.withdraw(first)
    one.resumed(Resume(7, 3, 1, MOST))
    assert take(one) == [b"2"]
    assert one.written == 2
