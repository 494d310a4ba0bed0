"""The view of the members: what is known and what is believed, read together, and since when."""

from clusterkit.core.identity import NodeId
from clusterkit.core.member_view import MemberView
from clusterkit.core.members import Member, State
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_state import RingState

WALL = 1_700_000_000.0
UP = Claim(7, 0, Rank.ALIVE, True)


def ring_with_b(meta: bytes = b"") -> RingState:
    """The ring of a, which b has joined."""
    ring, b = RingState(Actor("a", 5)), RingState(Actor("b", 7))
    ring.deliver(b.announce("10.0.0.2", 7022, meta, WALL, weight=3), WALL)
    ring.hear("b", UP)
    return ring


def test_a_member_is_seen_as_its_entry_and_its_claim_say() -> None:
    view = MemberView(ring_with_b(b"\x81\xa4zone\xa1b"))
    before, after = view.look("b", 10.0)
    assert before is None
    assert after == Member(NodeId("b", "10.0.0.2", 7022, 7), State.ALIVE, True, 3, {"zone": "b"})
    assert dict(view.members) == {"b": after}


def test_metadata_that_cannot_be_read_is_none() -> None:
    for meta in (b"\xc1", b"\x01", b"\x91\x01", b"\x81\x01\x01"):
        _, member = MemberView(ring_with_b(meta)).look("b", 10.0)
        assert member is not None
        assert member.meta == {}


def test_one_that_was_inserted_by_hand_has_no_incarnation_yet() -> None:
    ring = RingState(Actor("a", 5))
    ring.insert("c", "10.0.0.3", 7022, WALL)
    _, member = MemberView(ring).look("c", 10.0)
    assert member == Member(NodeId("c", "10.0.0.3", 7022, 0), State.ALIVE, ready=False)


def test_one_that_is_down_says_why() -> None:
    ring = ring_with_b()
    view = MemberView(ring)
    ring.hear("b", UP._replace(rank=Rank.DOWN))
    _, member = view.look("b", 10.0)
    assert member is not None
    assert (member.state, member.why, member.is_out) == (State.DOWN, "does not answer", True)
    view.why["b"] = "refused"
    _, member = view.look("b", 10.0)
    assert member is not None
    assert member.why == "refused"
    assert view.reachable() == []


def test_it_knows_since_when_a_member_is_down_or_suspected() -> None:
    ring = ring_with_b()
    view = MemberView(ring)
    view.look("b", 10.0)
    assert (view.down_for(0.0, 99.0), view.suspected_for("b", 99.0)) == ([], 0.0)
    ring.hear("b", UP._replace(rank=Rank.SUSPECT))
    view.look("b", 11.0)
    view.look("b", 12.0)
    assert view.suspected_for("b", 14.0) == 3.0
    assert view.reachable() == ["b"]
    ring.hear("b", UP._replace(rank=Rank.DOWN))
    view.look("b", 15.0)
    view.look("b", 16.0)
    assert (view.down_for(5.0, 19.9), view.down_for(5.0, 20.0)) == ([], ["b"])
    ring.hear("b", UP._replace(inc=1))
    view.look("b", 21.0)
    assert (view.down_for(0.0, 99.0), view.suspected_for("b", 99.0)) == ([], 0.0)


def test_it_tells_once_that_a_name_has_been_gone_for_long() -> None:
    ring = ring_with_b()
    ring.announce("10.0.0.1", 7022, b"", WALL)
    view = MemberView(ring)
    view.look("b", 10.0)
    ring.remove("b")
    before, after = view.look("b", 11.0)
    assert before is not None
    assert (before.state, before.ready, after) == (State.ALIVE, False, None)
    assert view.look("b", 12.0) == (None, None)
    assert view.gone_for(5.0, 15.9) == []
    assert view.gone_for(5.0, 16.0) == ["b"]
    assert view.gone_for(5.0, 99.0) == []


def test_one_that_is_in_the_ring_again_is_not_gone() -> None:
    ring = ring_with_b()
    ring.announce("10.0.0.1", 7022, b"", WALL)
    view = MemberView(ring)
    view.look("b", 10.0)
    ring.remove("b")
    view.look("b", 11.0)
    ring.insert("b", "10.0.0.2", 7022, WALL)
    view.look("b", 12.0)
    assert view.gone_for(0.0, 99.0) == []


def test_one_that_left_by_itself_is_seen_to_have_left() -> None:
    ring, b = RingState(Actor("a", 5)), RingState(Actor("b", 7))
    view = MemberView(ring)
    ring.deliver(b.announce("10.0.0.2", 7022, b"", WALL), WALL)
    view.look("b", 10.0)
    ring.deliver(b.leave(), WALL)
    before, after = view.look("b", 11.0)
    assert before is not None
    assert (before.state, after) == (State.LEFT, None)


def test_one_that_is_called_down_may_be_doubted_for_a_while() -> None:
    ring = ring_with_b()
    view = MemberView(ring)
    assert view.next_doubtless is None
    ring.hear("b", UP._replace(rank=Rank.DOWN))
    view.doubt("b", 11.0)
    _, member = view.look("b", 10.0)
    assert member is not None
    assert member.state is State.SUSPECT
    assert view.next_doubtless == 11.0
    assert view.doubtless(10.9) == []
    assert view.doubtless(11.0) == ["b"]
    _, member = view.look("b", 11.0)
    assert member is not None
    assert member.state is State.DOWN
    view.doubt("b", 13.0)
    assert (view.believe("b"), view.believe("b")) == (True, False)
