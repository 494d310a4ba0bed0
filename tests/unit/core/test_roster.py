"""Who is in the ring: one list for all, kept by name, a later run for an earlier one."""

from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.payload import encode
from clusterkit.core.roster import (
    Forget,
    Gone,
    Heard,
    Hello,
    HelloAck,
    Joined,
    LinkOpened,
    Meet,
    Member,
    Parted,
    Roster,
    State,
    Tell,
    WentDown,
    pack,
    unpack,
)
from clusterkit.errors import ProtocolError


def node(name: str, run: int = 1, port: int = 7000) -> NodeId:
    return NodeId(name, "10.0.0.1", port, run)


A, B, C = node("a"), node("b"), node("c")


def knowing(*others: NodeId) -> Roster:
    """Node a's roster, with others that said hello."""
    roster = Roster(A)
    for other in others:
        roster.step(Heard(other.name, other.incarnation, Hello(other)))
    return roster


@pytest.mark.parametrize("message", [Hello(A), HelloAck((A, node("v6", 2**64 - 1))), HelloAck(()), Gone(A)])
def test_a_message_reads_back_what_was_packed(message: Hello | HelloAck | Gone) -> None:
    assert unpack(pack(message)) == message


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        encode(None),
        encode("hello"),
        encode([]),
        encode(["hello"]),
        encode(["bye", ["a", "h", 1, 1]]),
        encode([["hello"], ["a", "h", 1, 1]]),
        encode(["hello_ack", 5]),
        encode(["hello_ack", [5]]),
        encode(["hello", ["a", "h", 1]]),
        encode(["hello", ["a", "h", 1, 1, 1]]),
        encode(["hello", ["", "h", 1, 1]]),
        encode(["hello", [5, "h", 1, 1]]),
        encode(["hello", ["a", "", 1, 1]]),
        encode(["hello", ["a", 5, 1, 1]]),
        encode(["hello", ["a", b"h", 1, 1]]),
        encode(["hello", ["a", ["h"], 1, 1]]),
        encode(["hello", ["a", {}, 1, 1]]),
        encode(["hello", ["a", "h", 0, 1]]),
        encode(["hello", ["a", "h", -1, 1]]),
        encode(["hello", ["a", "h", 65_536, 1]]),
        encode(["hello", ["a", "h", True, 1]]),
        encode(["hello", ["a", "h", 1.0, 1]]),
        encode(["hello", ["a", "h", "1", 1]]),
        encode(["hello", ["a", "h", 1, 0]]),
        encode(["hello", ["a", "h", 1, -5]]),
        encode(["hello", ["a", "h", 1, True]]),
        encode(["hello", ["a", "h", 1, "1"]]),
    ],
)
def test_anything_else_breaks_the_protocol(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be read") as caught:
        unpack(payload)
    assert caught.value.proven


def test_a_node_alone_is_its_own_ring() -> None:
    roster = Roster(A)
    assert roster.members == [Member(A, State.ALIVE)]
    assert (roster.get("a"), roster.get("b")) == (Member(A), None)


def test_both_ends_of_a_link_that_opened_say_hello() -> None:
    assert Roster(A).step(LinkOpened("b")) == [Tell("b", Hello(A))]


def test_a_hello_is_admitted_and_answered_with_all_members() -> None:
    roster = knowing(C)
    assert roster.step(Heard("b", 1, Hello(B))) == [Meet(B), Tell("b", HelloAck((A, B, C)))]
    assert roster.nodes == [A, B, C]


def test_a_hello_again_is_answered_again() -> None:
    assert knowing(B).step(Heard("b", 1, Hello(B))) == [Tell("b", HelloAck((A, B)))]


@pytest.mark.parametrize("claimed", [C, node("b", 2)])
def test_nobody_announces_another(claimed: NodeId) -> None:
    roster = Roster(A)
    assert roster.step(Heard("b", 1, Hello(claimed))) == []
    assert roster.nodes == [A]


def test_an_acknowledgement_introduces_all_it_lists_and_is_the_joining() -> None:
    roster = Roster(A)
    assert roster.step(Heard("b", 1, HelloAck((A, B, C)))) == [Meet(B), Meet(C), Joined("b")]
    assert roster.nodes == [A, B, C]


def test_nobody_tells_a_node_who_it_is() -> None:
    roster = Roster(A)
    roster.step(Heard("b", 1, HelloAck((node("a", 99, 9999), B))))
    assert roster.get("a") == Member(A)


def test_a_later_run_replaces_an_earlier_one_and_not_the_other_way() -> None:
    roster = knowing(B)
    later = node("b", 5, 7005)
    assert roster.step(Heard("c", 1, HelloAck((later,)))) == [Meet(later), Joined("c")]
    assert roster.step(Heard("c", 1, HelloAck((B,)))) == [Joined("c")]
    assert roster.nodes == [A, later]


def test_a_member_that_is_down_stays_and_hearsay_does_not_raise_it() -> None:
    roster = knowing(B)
    roster.step(WentDown("b"))
    roster.step(Heard("c", 1, HelloAck((B,))))
    assert roster.get("b") == Member(B, State.DOWN)


def test_its_own_hello_or_an_open_link_raises_it() -> None:
    roster = knowing(B)
    roster.step(WentDown("b"))
    assert roster.step(Heard("b", 1, Hello(B)))[0] == Meet(B)
    assert roster.get("b") == Member(B)
    roster.step(WentDown("b"))
    roster.step(LinkOpened("b"))
    assert roster.get("b") == Member(B)


def test_a_node_is_never_down_to_itself_and_an_unknown_one_is_no_member() -> None:
    roster = Roster(A)
    roster.step(WentDown("a"))
    roster.step(WentDown("b"))
    assert roster.members == [Member(A)]


def test_a_member_that_left_is_forgotten_and_does_not_come_back_under_that_run() -> None:
    roster = knowing(B)
    assert roster.step(Parted("b", 1, left=True)) == [Forget("b")]
    roster.step(Heard("c", 1, HelloAck((B,))))
    roster.step(Heard("b", 1, Hello(B)))
    assert roster.nodes == [A]
    roster.step(Heard("b", 2, Hello(node("b", 2))))
    assert roster.nodes == [A, node("b", 2)]


def test_who_hears_first_that_a_member_left_tells_the_others_that_are_alive() -> None:
    roster = knowing(B, C, node("d"))
    roster.step(WentDown("d"))
    assert roster.step(Parted("b", 1, left=True)) == [Forget("b"), Tell("c", Gone(B))]
    assert roster.step(Parted("b", 1, left=True)) == []


def test_a_leave_is_believed_from_others_too_and_told_on_once() -> None:
    roster = knowing(B, C)
    assert roster.step(Heard("c", 1, Gone(B))) == [Forget("b"), Tell("c", Gone(B))]
    assert roster.step(Heard("c", 1, Gone(B))) == []
    assert roster.nodes == [A, C]


def test_a_leave_that_comes_before_the_hello_it_ends_holds() -> None:
    roster = Roster(A)
    assert roster.step(Heard("c", 1, Gone(B))) == []
    roster.step(Heard("c", 1, HelloAck((B, C))))
    assert roster.nodes == [A, C]


def test_a_member_that_only_stopped_stays_as_down() -> None:
    roster = knowing(B)
    assert roster.step(Parted("b", 1, left=False)) == []
    assert roster.get("b") == Member(B, State.DOWN)


@pytest.mark.parametrize("event", [Parted("b", 1, left=True), Parted("c", 1, left=True), Parted("a", 9, left=True)])
def test_a_parting_of_an_earlier_run_a_stranger_or_oneself_removes_nobody(event: Parted) -> None:
    roster = knowing(node("b", 2))
    assert roster.step(event) == []
    assert roster.nodes == [A, node("b", 2)]


def test_the_greatest_run_that_left_is_remembered() -> None:
    roster = Roster(A)
    for run in (5, 3):
        roster.step(Parted("b", run, left=True))
    roster.step(Heard("b", 4, Hello(node("b", 4))))
    assert roster.nodes == [A]


def test_the_stop_of_an_earlier_run_does_not_call_the_later_one_down() -> None:
    roster = knowing(node("b", 2))
    roster.step(Parted("b", 1, left=False))
    assert roster.get("b") == Member(node("b", 2), State.ALIVE)


def test_events_and_messages_it_does_not_know_change_nothing() -> None:
    other: Any = object()
    assert Roster(A).step(other) == []
    assert Roster(A).step(Heard("b", 1, other)) == []
