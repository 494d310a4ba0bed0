"""Two members come to know the same: what is asked, what is given, what is not taken."""

from collections.abc import Callable

import pytest

from clusterkit.core.agreement import Agreement
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member, State
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Change, Clock, Delivery, Delta
from clusterkit.core.ring_messages import Claims, Pull, RingMessage
from clusterkit.core.ring_messages import State as WholeState
from clusterkit.core.ring_messages import Update as Lacking
from clusterkit.core.ring_state import RingState

NOW = 100.0


class Side:
    """One member, and all that it says."""

    def __init__(self, name: str) -> None:
        self.ring = RingState(Actor(name, 10))
        self.sent: list[RingMessage] = []
        self.agreement = Agreement(self.ring, lambda: 0.0, lambda _, message: self.sent.append(message))
        self.own = self.ring.announce("10.0.0.1", 7022, b"", 0.0)
        self.ring.hear(name, Claim(10, 0, Rank.ALIVE, True))

    def takes(self) -> list[RingMessage]:
        """Take away what it said."""
        sent, self.sent = self.sent, []
        return sent


def pair() -> tuple[Side, Side]:
    """Two sides that know the same."""
    one, other = Side("a"), Side("b")
    one.ring.merge(other.ring.full(), 0.0)
    other.ring.merge(one.ring.full(), 0.0)
    assert one.agreement.digests == other.agreement.digests
    return one, other


def test_equal_digests_are_the_whole_conversation() -> None:
    one, other = pair()
    one.agreement.compare("b", other.agreement.digests, NOW)
    assert one.takes() == []
    assert one.agreement.told == {"b": other.agreement.digests}


def test_a_difference_is_asked_for_and_a_delta_comes() -> None:
    one, other = pair()
    other.ring.insert("c", "10.0.0.3", 7022, 0.0)
    one.agreement.compare("b", other.agreement.digests, NOW)
    [pull] = one.takes()
    assert pull == Pull(one.ring.clock(), one.agreement.digests)
    other.agreement.answer("a", pull, ["a", "b", "c"], NOW)
    [lacking, claims] = other.takes()
    assert isinstance(lacking, Lacking)
    assert isinstance(claims, Claims)
    one.agreement.apply("b", lacking.delta)
    assert one.agreement.digests == other.agreement.digests


def test_while_this_side_changes_a_difference_is_not_believed_at_once() -> None:
    one, other = pair()
    other.ring.insert("c", "10.0.0.3", 7022, 0.0)
    one.agreement.changed(NOW)
    one.agreement.compare("b", other.agreement.digests, NOW)
    assert one.takes() == []


def test_who_knows_less_is_given_nothing_and_asks_itself() -> None:
    one, other = pair()
    other.ring.insert("c", "10.0.0.3", 7022, 0.0)
    one.agreement.answer(
        "b", Pull(other.ring.clock(), (other.agreement.digests[0], one.agreement.digests[1])), "ab", NOW
    )
    assert one.takes() == [Pull(one.ring.clock(), one.agreement.digests)]


def test_equal_clocks_and_other_digests_are_answered_with_everything() -> None:
    one, other = pair()
    digests = one.agreement.digests
    one.agreement.answer("b", Pull(other.ring.clock(), (digests[0] ^ 1, digests[1])), "ab", NOW)
    [state] = one.takes()
    assert isinstance(state, WholeState)
    other.agreement.merge(state.full)
    assert other.agreement.digests == digests


def test_beliefs_alone_are_told_and_better_ones_come_back() -> None:
    one, other = pair()
    one.ring.hear("b", Claim(10, 0, Rank.SUSPECT, True))
    other.ring.hear("b", Claim(10, 1, Rank.ALIVE, True))
    one.agreement.answer("b", Pull(other.ring.clock(), other.agreement.digests), "ab", NOW)
    [claims] = one.takes()
    assert isinstance(claims, Claims)
    other.agreement.take_claims("a", claims, "ab")
    [better] = other.takes()
    assert better == Claims((("b", Claim(10, 1, Rank.ALIVE, True)),), more=False)
    one.agreement.take_claims("b", better, "ab")
    assert one.takes() == []
    assert one.agreement.digests == other.agreement.digests


def test_who_has_nothing_better_says_nothing() -> None:
    one, _ = pair()
    one.agreement.take_claims("b", Claims((("a", one.ring.claim("a")), ("b", one.ring.claim("b"))), more=True), "ab")
    assert one.takes() == []


def test_a_change_that_waits_for_another_is_asked_for_in_time() -> None:
    one, other = pair()
    other.ring.insert("c", "10.0.0.3", 7022, 0.0)
    late = other.ring.update("c", 5, 0.0)
    assert one.agreement.deliver(late, "b", NOW) is Delivery.PARKED
    assert one.agreement.next_deadline == NOW + 0.2
    one.agreement.ask_overdue(NOW + 0.1)
    assert one.takes() == []
    one.agreement.ask_overdue(NOW + 0.2)
    assert one.takes() == [Pull(one.ring.clock(), one.agreement.digests)]
    assert one.agreement.next_deadline is None


def test_a_delta_that_fits_no_more_is_asked_for_again() -> None:
    one, other = pair()
    delta = other.ring.answer(Clock({Actor("z", 9): 4}, {}))
    assert isinstance(delta, Delta)
    one.agreement.apply("b", delta)
    assert one.takes() == [Pull(one.ring.clock(), one.agreement.digests)]


def forged(side: Side, take: str) -> object:
    """Something that claims events of ``side`` which it never wrote."""
    top = Clock({side.ring.me: (1 << 64) - 1}, {})
    if take == "merge":
        return side.ring.full().__class__(top, {}, {}, {}, {}, {})
    if take == "apply":
        return Delta(Clock({}, {}), top, ())
    own = side.own
    return Change(own.dot._replace(n=1 << 60), own.name, own.siblings, own.context, 0, 0, None)


@pytest.mark.parametrize("take", ["merge", "apply", "deliver"])
def test_what_this_side_never_wrote_is_not_taken(take: str) -> None:
    one, _ = pair()
    before = one.agreement.digests
    taken: dict[str, Callable[[object], object]] = {
        "merge": one.agreement.merge,  # type: ignore[dict-item]
        "apply": lambda delta: one.agreement.apply("b", delta),  # type: ignore[arg-type]
        "deliver": lambda change: one.agreement.deliver(change, "b", NOW),  # type: ignore[arg-type]
    }
    result = taken[take](forged(one, take))
    assert result in (None, Delivery.CLOSED)
    assert (one.agreement.digests, one.takes()) == (before, [])


def test_asking_is_for_once_in_a_while_unless_it_is_sure() -> None:
    one, _ = pair()
    for sure, asked in ((False, 1), (False, 0), (True, 1)):
        one.agreement.ask("b", NOW, sure=sure)
        assert len(one.takes()) == asked


def test_live_members_that_have_not_said_the_same_disagree_until_they_do() -> None:
    one, other = pair()
    node = NodeId("b", "10.0.0.1", 7022, 10)
    members = {"a": Member(node), "b": Member(node), "c": Member(node, State.DOWN)}
    assert one.agreement.disagreeing(members, "a") == ["b"]
    one.agreement.compare("b", other.agreement.digests, NOW)
    assert one.agreement.disagreeing(members, "a") == []
    one.agreement.forget("b")
    assert one.agreement.disagreeing(members, "a") == ["b"]
