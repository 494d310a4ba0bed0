"""What is told when a member changes: each change once, in an order that can be followed."""

from dataclasses import replace

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.members import (
    Lagged,
    Member,
    MemberDown,
    MemberEvent,
    MemberJoined,
    MemberLeft,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    RingChanged,
    State,
    changes,
)

NODE = NodeId("a", "127.0.0.1", 7022, 5)
ALIVE = Member(NODE)
SUSPECT, DOWN, LEFT = (replace(ALIVE, state=state) for state in (State.SUSPECT, State.DOWN, State.LEFT))
BY_HAND = replace(ALIVE, node=NODE.with_incarnation(0), ready=False)
NEXT = replace(ALIVE, node=NODE.with_incarnation(6))


def kinds(events: list[MemberEvent]) -> list[type[MemberEvent]]:
    return [type(event) for event in events]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, ALIVE, [MemberJoined, MemberUp]),
        (None, DOWN, [MemberJoined, MemberDown]),
        (None, BY_HAND, [MemberJoined]),
        (ALIVE, SUSPECT, [MemberSuspect]),
        (SUSPECT, ALIVE, [MemberUp]),
        (SUSPECT, DOWN, [MemberDown]),
        (DOWN, ALIVE, [MemberUp]),
        (ALIVE, LEFT, [MemberLeft]),
        (ALIVE, None, [MemberRemoved]),
        (LEFT, None, [MemberLeft]),
        (ALIVE, NEXT, [MemberDown, MemberUp]),
        (SUSPECT, NEXT, [MemberDown, MemberUp]),
        (DOWN, NEXT, [MemberUp]),
        (LEFT, NEXT, [MemberJoined, MemberUp]),
        (BY_HAND, NEXT, [MemberUp]),
        (BY_HAND, replace(BY_HAND, state=State.DOWN), [MemberDown]),
        (ALIVE, BY_HAND, [MemberDown]),  # removed, and inserted anew, in one delta
        (ALIVE, replace(ALIVE, weight=2), [MemberUpdated]),
        (ALIVE, replace(ALIVE, ready=False), [MemberUpdated]),
        (ALIVE, replace(ALIVE, meta={"zone": "b"}), [MemberUpdated]),
        (ALIVE, replace(ALIVE, node=NodeId("a", "127.0.0.2", 7022, 5)), [MemberUpdated]),
        (ALIVE, replace(DOWN, weight=2), [MemberDown, MemberUpdated]),
        (DOWN, replace(DOWN, why="another ring"), []),
        (ALIVE, ALIVE, []),
        (None, None, []),
    ],
)
def test_what_is_told(before: Member | None, after: Member | None, told: list[type[MemberEvent]]) -> None:
    assert kinds(changes(before, after)) == told


def test_events_carry_the_member_as_it_is_and_at_the_end_as_it_was() -> None:
    assert [event.member for event in changes(None, ALIVE)] == [ALIVE, ALIVE]
    assert changes(ALIVE, SUSPECT)[0].member is SUSPECT
    assert changes(ALIVE, None)[0].member is ALIVE


def test_the_end_of_an_incarnation_is_told_of_that_incarnation() -> None:
    over, up = changes(replace(ALIVE, weight=3), NEXT)
    assert (over.member.node, over.member.state, over.member.why, over.member.weight) == (
        NODE,
        State.DOWN,
        "restarted",
        3,
    )
    assert up.member is NEXT


@pytest.mark.parametrize(
    ("member", "available"),
    [(ALIVE, True), (SUSPECT, True), (DOWN, False), (LEFT, False), (replace(ALIVE, ready=False), False)],
)
def test_one_that_is_suspected_is_still_chosen_one_that_is_not_ready_is_not(member: Member, available: bool) -> None:
    assert member.available is available


def test_a_member_has_the_name_of_its_node_and_no_metadata_unless_it_said_some() -> None:
    assert (ALIVE.name, dict(ALIVE.meta), ALIVE.why) == ("a", {}, "")


def test_counts_are_told_as_they_are() -> None:
    assert (RingChanged(0.25).moved, Lagged(3).missed) == (0.25, 3)
