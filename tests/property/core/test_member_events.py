"""Events about one name, through any sequence of views of it, tell a story that can be followed."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.core.members import (
    Member,
    MemberDown,
    MemberEvent,
    MemberJoined,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    State,
    changes,
)

nodes = st.builds(NodeId, st.just("a"), st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.just(7022), st.integers(0, 3))
members = st.builds(
    Member,
    nodes,
    st.sampled_from([State.ALIVE, State.SUSPECT, State.DOWN]),
    st.booleans(),
    st.integers(1, 2),
    st.sampled_from([{}, {"zone": "b"}]),
)
views = st.lists(st.none() | members, max_size=12)


def story(seen: list[Member | None]) -> list[MemberEvent]:
    return [event for before, after in zip([None, *seen], seen, strict=False) for event in changes(before, after)]


@given(views)
def test_a_name_joins_first_and_ends_with_its_removal(seen: list[Member | None]) -> None:
    inside = False
    for event in story(seen):
        assert isinstance(event, MemberJoined) is not inside
        inside = not isinstance(event, MemberRemoved)
    assert inside == (bool(seen) and seen[-1] is not None)


@given(views)
def test_one_incarnation_is_over_before_the_next_is_up(seen: list[Member | None]) -> None:
    up: int | None = None
    for event in story(seen):
        incarnation = event.member.node.incarnation
        if isinstance(event, MemberUp | MemberSuspect) and incarnation:
            assert up in (None, incarnation)
            up = incarnation
        elif isinstance(event, MemberDown | MemberRemoved):
            assert up in (None, incarnation)
            up = None


@given(views)
def test_who_only_listens_knows_in_the_end_what_is_seen(seen: list[Member | None]) -> None:
    known: Member | None = None
    for event in story(seen):
        known = None if isinstance(event, MemberRemoved) else event.member
    last = seen[-1] if seen else None
    if last is None:
        assert known is None
    elif not _is_by_hand_again(seen):
        assert known is not None
        assert (known.node, known.state, known.weight, known.meta, known.ready) == (
            last.node,
            last.state,
            last.weight,
            last.meta,
            last.ready,
        )


def _is_by_hand_again(seen: list[Member | None]) -> bool:
    """Whether a name was inserted by hand in place of one that had been met, unseen: only its end is told."""
    return any(
        before is not None and after is not None and before.node.incarnation and not after.node.incarnation
        for before, after in pairwise(seen)
    )


@given(members)
def test_nothing_is_told_of_what_did_not_change(member: Member) -> None:
    assert changes(member, member) == []


@given(members, members)
def test_no_event_is_told_twice_in_one_change(before: Member, after: Member) -> None:
    told = [type(event) for event in changes(before, after)]
    assert told.count(MemberUpdated) <= 1
    assert len(told) <= 2
