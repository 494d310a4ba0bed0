"""One membership, and what it says: who is in, who is told, who is asked, who is out."""

from dataclasses import replace

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.members import MemberRemoved, State
from clusterkit.core.membership_events import (
    Accepted,
    Announce,
    Compare,
    Effect,
    Forget,
    Hurry,
    Insert,
    Invited,
    Judge,
    Leave,
    LeaveKnown,
    LinkLost,
    LinkOpened,
    Meet,
    Notify,
    Outnamed,
    Parted,
    Ready,
    Remove,
    Renew,
    Reweigh,
    Send,
    SignOfLife,
    Stopped,
    Tick,
    Unreached,
)
from clusterkit.core.payload import encode
from clusterkit.core.ring_entry import Actor, Claim, Dot, Rank
from clusterkit.core.ring_frames import Change, Clock, Delta, Full, Verdict
from clusterkit.core.ring_messages import (
    Absent,
    Accusation,
    Ask,
    Asked,
    Claims,
    Closed,
    Got,
    Hello,
    HelloAck,
    Invite,
    News,
    Probe,
    ProbeAck,
    Pull,
    RingMessage,
    Update,
    Urge,
)
from clusterkit.core.ring_messages import State as WholeState
from clusterkit.core.ring_state import RingState
from clusterkit.errors import UsageError
from tests.unit.core.memberships import WALL, Mesh, node_of, sent

A, B, C, X = (node_of(name) for name in "abcx")
TOP = (1 << 64) - 1


def up(node: NodeId) -> Claim:
    """What a node says of itself at first."""
    return Claim(node.incarnation, 0, Rank.ALIVE, True)


def all_alive(*names: str) -> dict[str, State]:
    return dict.fromkeys(names, State.ALIVE)


def only(effects: list[Effect], kind: type[RingMessage]) -> RingMessage:
    """The one message of a type."""
    [(_, message)] = sent(effects, kind)
    return message


def hello(node: NodeId, *, settled: bool = True, about: Claim | None = None) -> Hello:
    """What a node says that knows itself alone."""
    ring = RingState(Actor(node.name, node.incarnation))
    change = ring.announce(node.host, node.port, b"", WALL)
    ring.hear(node.name, up(node))
    return Hello(node, settled, change, up(node), about, (ring.ring_digest, ring.claims_digest))


# -- meeting


def test_alone_it_is_a_ring_of_one() -> None:
    mesh = Mesh("a")
    assert mesh.views() == {"a": all_alive("a")}
    assert mesh.told("a") == ["Joined a", "Up a"]
    assert mesh["a"].settled
    assert mesh["a"].next_deadline is not None


def test_those_that_are_linked_know_each_other_and_the_same() -> None:
    mesh = Mesh("a", "b", "c")
    assert mesh.views() == {name: all_alive("a", "b", "c") for name in "abc"}
    assert mesh.agree()
    assert mesh.told("a") == ["Joined a", "Up a", "Joined b", "Up b", "Joined c", "Up c"]
    assert {effect.name for effect in mesh.of("a", Accepted)} == {"b", "c"}
    assert [effect.node.name for effect in mesh.of("a", Meet)] == ["b", "c"]


def test_one_that_joins_through_a_seed_is_introduced_to_all_and_meets_them() -> None:
    mesh = Mesh("a", "b")
    mesh.start("c", seeds=True)
    assert not mesh["c"].settled
    mesh.link("a", "c")
    mesh.run()
    assert mesh["c"].settled
    assert mesh.views() == {name: all_alive("a", "b", "c") for name in "abc"}
    assert {effect.node.name for effect in mesh.of("c", Meet)} == {"a", "b"}
    mesh.wait(2)
    mesh.link("b", "c")
    mesh.run()
    assert mesh.agree()


def test_two_islands_of_one_ring_merge() -> None:
    mesh = Mesh("a", "b")
    mesh.start("c")
    mesh.start("x")
    mesh.link("c", "x")
    mesh.run()
    for pair in ("ac", "ax", "bc", "bx"):
        mesh.link(*pair)
    mesh.wait(3)
    assert mesh.views() == {name: all_alive("a", "b", "c", "x") for name in "abcx"}
    assert mesh.agree()


def test_a_hello_that_is_not_of_the_node_that_proved_itself_is_nothing() -> None:
    mesh = Mesh("a", "b")
    assert mesh.hear("a", B, hello(replace(B, incarnation=99))) == []
    assert mesh.hear("a", B, hello(C)) == []


def test_nobody_speaks_for_another_at_hello() -> None:
    mesh = Mesh("a")
    step = mesh.hear("a", B, replace(hello(B), change=hello(C).change))
    assert "c" not in mesh["a"].members
    assert not [effect for effect in step if isinstance(effect, Notify)]


def test_what_one_missed_before_a_change_came_is_asked_for_at_hello() -> None:
    mesh = Mesh("a")
    b = RingState(Actor("b", 10))
    b.announce(B.host, B.port, b"", WALL)
    later = b.update("b", 3, WALL)
    mesh.links[frozenset("ab")] = None
    mesh.step("a", LinkOpened("b", 10))
    effects = mesh.hear("a", B, Hello(B, True, later, up(B), None, (1, 2)))
    assert len(sent(effects, Pull)) == 1
    mesh.hear("a", B, WholeState(b.full()))
    assert mesh["a"].members["b"].weight == 3


def test_it_learns_at_hello_what_is_believed_of_itself_and_refutes_it() -> None:
    mesh = Mesh("a", "b")
    mesh.hear("a", B, hello(B, about=up(A)._replace(rank=Rank.DOWN)))
    assert mesh["a"].ring.claim("a") == Claim(10, 1, Rank.ALIVE, True)
    mesh.run()
    assert mesh["b"].ring.claim("a") == Claim(10, 1, Rank.ALIVE, True)


# -- the state of the seed judges who joins


def test_one_whose_later_run_is_known_begins_again_above_it() -> None:
    mesh = Mesh("a", "b")
    mesh.kill("b")
    mesh.start("b", boot=5, seeds=True)
    mesh.link("a", "b")
    mesh.run()
    assert mesh.of("b", Renew) == [Renew(10)]
    assert mesh["b"].next_deadline is None
    assert mesh.step("b", Insert(C)) == []
    assert not mesh.of("b", Accepted)


def test_one_that_was_removed_meanwhile_begins_again() -> None:
    mesh = Mesh("a", "b")
    mesh.kill("b")
    mesh.step("a", Remove("b"))
    mesh.start("b", boot=10, seeds=True)
    mesh.link("a", "b")
    mesh.run()
    assert mesh.of("b", Renew) == [Renew(10)]


def saved_of(mesh: Mesh, name: str) -> Full:
    return mesh[name].ring.full()


def test_one_that_comes_back_with_its_file_goes_on_from_there() -> None:
    mesh = Mesh("a", "b", "c")
    saved = saved_of(mesh, "b")
    mesh.kill("b")
    mesh.start("b", boot=11, saved=saved, seeds=True)
    assert list(mesh["b"].members) == ["a", "b", "c"]
    mesh.link("a", "b")
    mesh.run()
    assert not mesh.of("b", Renew)
    assert mesh["b"].settled


def test_one_whose_file_is_older_than_its_last_run_empties_it() -> None:
    mesh = Mesh("a", "b")
    saved = saved_of(mesh, "b")
    mesh.kill("b")
    mesh.start("b", boot=11)
    mesh.link("a", "b")
    mesh.run()
    mesh.kill("b")
    mesh.start("b", boot=12, saved=saved, seeds=True)
    mesh.link("a", "b")
    mesh.run()
    assert mesh.of("b", Renew) == [Renew(12)]


def test_one_that_was_removed_since_its_file_was_written_empties_it() -> None:
    mesh = Mesh("a", "b")
    saved = saved_of(mesh, "b")
    mesh.kill("b")
    mesh.step("a", Remove("b"))
    mesh.start("b", boot=12, saved=saved, seeds=True)
    mesh.link("a", "b")
    mesh.run()
    assert mesh.of("b", Renew) == [Renew(12)]


def test_its_own_announcement_that_comes_back_is_no_other_run() -> None:
    mesh = Mesh("a")
    mesh.start("b", seeds=True)
    mesh.start("c")
    mesh.link("a", "b")
    mesh.link("b", "c")
    mesh.run()
    assert not mesh.of("b", Renew)


# -- changes


def test_metadata_reaches_all_and_weights_stand_beside_it() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.step("a", Announce(encode({"zone": "x"})))
    mesh.step("b", Reweigh("a", 7))
    mesh.run()
    assert mesh.agree()
    for name in "abc":
        assert (mesh[name].members["a"].meta, mesh[name].members["a"].weight) == ({"zone": "x"}, 7)
    mesh.step("c", Leave())
    assert mesh.step("c", Announce(encode({"late": 1}))) == []
    mesh.step("a", Remove("b"))
    mesh.run()
    assert mesh["b"].stopped is Verdict.REMOVED
    assert mesh.step("b", Announce(encode({"late": 1}))) == []


def test_what_users_change_reaches_all() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.step("a", Insert(node_of("x", 0), 5))
    mesh.step("b", Reweigh("c", 7))
    mesh.step("c", Ready(False))
    mesh.step("c", Ready(False))
    mesh.run()
    assert mesh.agree()
    for name in "abc":
        members = mesh[name].members
        assert (members["x"].weight, members["x"].node.incarnation, members["c"].weight) == (5, 0, 7)
        assert not members["c"].ready
    mesh.step("a", Remove("x"))
    mesh.run()
    assert all("x" not in mesh[name].members for name in "abc")
    assert mesh.told("c")[-1] == "Removed x"
    assert mesh.of("c", Forget) == [Forget("x", gone=False)]


def test_insert_of_a_member_sets_its_weight_or_nothing_and_moves_nobody() -> None:
    mesh = Mesh("a", "b")
    mesh.forget()
    assert mesh.step("a", Insert(B)) == []
    assert mesh.step("a", Insert(B, 1)) == []
    mesh.step("a", Insert(B, 9))
    mesh.run()
    assert mesh["b"].members["b"].weight == 9
    with pytest.raises(UsageError, match=r"remove it first"):
        mesh.step("a", Insert(NodeId("b", "10.9.9.9", 7022)))
    with pytest.raises(UsageError):
        mesh.step("a", Remove("nobody"))


def test_a_member_that_is_down_and_inserted_again_is_invited() -> None:
    """Its removal may be known to itself alone: who removed it was removed."""
    mesh = Mesh("a", "b")
    mesh["a"]._view.members["b"] = replace(mesh["a"].members["b"], state=State.DOWN)
    assert Send("b", Invite()) in mesh.step("a", Insert(B))
    assert mesh["b"].stopped is None


def test_a_change_that_comes_before_what_it_depends_on_is_asked_for_when_it_has_waited() -> None:
    mesh = Mesh("a", "b")
    mesh.passes = lambda src, dst, message: not isinstance(message, News | Probe | ProbeAck)
    mesh.step("a", Insert(node_of("x", 0)))
    mesh.run()
    mesh.passes = lambda src, dst, message: not isinstance(message, Probe | ProbeAck)
    mesh.step("a", Reweigh("x", 4))
    mesh.run()
    assert "x" not in mesh["b"].members
    mesh.wait(0.25)
    assert mesh["b"].members["x"].weight == 4


def test_what_was_lost_is_found_by_the_digests_on_the_probes() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.passes = lambda src, dst, message: not isinstance(message, News)
    mesh.step("a", Insert(node_of("x", 0)))
    mesh.step("b", Ready(False))
    mesh.run()
    assert not mesh.agree()
    mesh.wait(3)
    assert mesh.agree()
    assert "x" in mesh["c"].members


def test_in_a_large_ring_news_is_passed_on_down_the_trees() -> None:
    mesh = Mesh("a", "b", "c", "d", direct=2)
    assert mesh.views() == {name: all_alive("a", "b", "c", "d") for name in "abcd"}
    mesh.forget()
    effects = mesh.step("a", Reweigh("b", 2))
    assert {message.tree for _, message in sent(effects, News)} == {1, 2}
    mesh.run()
    assert {mesh[name].members["b"].weight for name in "abcd"} == {2}
    news = sent(effects, News)[0][1]
    assert mesh.hear("b", A, news) == []


def test_news_that_comes_down_a_tree_is_passed_on_to_the_members_below() -> None:
    mesh = Mesh("a", direct=4)
    names = [f"m{number:02}" for number in range(40)]
    for number, name in enumerate(names):
        mesh.step("a", Insert(NodeId(name, f"10.0.1.{number}", 7022)))
        mesh.step("a", LinkOpened(name, 10))
    origin = NodeId("m00", "10.0.1.0", 7022, 10)
    passed = [
        [name for name, _ in sent(mesh.hear("a", origin, News("m00", number, tree, False)), News)]
        for number in range(40)
        for tree in (1, 2)
    ]
    assert any(passed)
    assert all(name in names[1:] for onward in passed for name in onward)
    assert sent(mesh.hear("a", origin, News("m00", 1, 1, False)), News) == []


# -- agreement


def test_a_pull_is_answered_with_what_is_missing_and_no_more() -> None:
    mesh = Mesh("a", "b")
    ring = mesh["a"].ring
    old = ring.clock()
    mesh.now += 1
    mesh.step("a", Reweigh("b", 2))
    [delta] = [each.delta for _, each in sent(mesh.hear("a", B, Pull(old, (0, ring.claims_digest))), Update)]
    assert [item.name for item in delta.items] == ["b"]
    assert sent(mesh.hear("a", B, Pull(ring.clock(), (0, ring.claims_digest))), WholeState)
    assert mesh.hear("a", B, Pull(ring.clock(), mesh["a"].digests)) == []
    ahead = Clock({**ring.clock().counts, Actor("c", 1): 1}, {})
    effects = mesh.hear("a", B, Pull(ahead, (0, ring.claims_digest)))
    assert not sent(effects, Update)
    assert sent(effects, Pull)
    assert not sent(mesh.hear("a", B, Pull(ahead, (0, ring.claims_digest))), Pull)  # a moment ago


def test_beliefs_are_told_where_they_differ_and_better_ones_come_back() -> None:
    mesh = Mesh("a", "b")
    effects = mesh.hear("a", B, Pull(mesh["a"].ring.clock(), (mesh["a"].digests[0], 0)))
    [(_, claims)] = sent(effects, Claims)
    assert dict(claims.claims) == {"a": up(A), "b": up(B)}
    assert claims.more
    [(_, better)] = sent(mesh.hear("a", B, Claims((("b", up(B)),), True)), Claims)
    assert (dict(better.claims), better.more) == ({"a": up(A)}, False)
    assert mesh.hear("a", B, claims) == []
    assert mesh.hear("a", B, better) == []


def test_a_delta_for_another_state_is_asked_for_again() -> None:
    mesh = Mesh("a", "b")
    base = Clock({Actor("c", 1): 5}, {})
    effects = mesh.hear("a", B, Update(Delta(base, base, ())))
    assert len(sent(effects, Pull)) == 1


def test_those_that_have_not_said_that_they_know_the_same_disagree() -> None:
    mesh = Mesh("a", "b")
    mesh.wait(3)
    assert mesh["a"].disagreeing == []
    mesh.step("a", Reweigh("b", 2))
    assert mesh["a"].disagreeing == ["b"]
    mesh.run()
    [(_, probe)] = sent(mesh.step("a", Compare()), Probe)
    assert probe.number == 0
    mesh.run()
    assert mesh["a"].disagreeing == []


# -- detection


def test_one_that_dies_is_suspected_and_then_down_and_its_link_is_judged() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.wait(1)
    mesh.forget()
    mesh.kill("c")
    mesh.wait(8)
    assert mesh.told("a") == ["Suspect c", "Down c"]
    assert mesh.of("a", Judge) == [Judge("c", "does not answer")]
    assert mesh["a"].members["c"].why == "does not answer"


def test_two_that_were_refused_call_it_down_at_once_with_the_reason() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.kill("c")
    for name in "ab":
        mesh.step(name, Unreached(C, "connection refused", True))
    mesh.run()
    assert mesh.views() == {name: {**all_alive("a", "b"), "c": State.DOWN} for name in "ab"}
    assert mesh["a"].members["c"].why == "connection refused"


def test_of_many_that_were_refused_a_few_tell_and_all_believe() -> None:
    names = "abcdefghi"
    mesh = Mesh(*names)
    mesh.kill("i")
    mesh.forget()
    for name in "abcdefgh":
        mesh.step(name, Unreached(node_of("i"), "connection refused", True))
    mesh.run()
    assert all(mesh[name].members["i"].state is State.DOWN for name in mesh.machines)
    pushed = {name for name in mesh.machines for _, news in sent(mesh.effects[name], News) if news.accusations}
    assert 0 < len(pushed) <= 5


def test_a_refusal_where_it_is_no_more_means_nothing() -> None:
    mesh = Mesh("a", "b")
    elsewhere = replace(B, host="10.9.9.9")
    assert mesh.step("a", Unreached(elsewhere, "refused", True)) == []
    assert mesh.step("a", Unreached(X, "refused", True)) == []
    mesh.step("a", Unreached(B, "no answer", False))
    assert mesh["a"].members["b"].state is State.ALIVE


def test_the_reason_of_a_later_dial_is_the_reason_that_is_shown() -> None:
    mesh = Mesh("a", "b")
    mesh.kill("b")
    mesh.step("a", Unreached(B, "connection refused", True))
    assert mesh["a"].members["b"].why == "connection refused"
    mesh.step("a", Unreached(B, "it is in ring 'other'", True))
    assert mesh["a"].members["b"].why == "it is in ring 'other'"


def test_a_sign_of_life_counts_like_an_answer() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.passes = lambda src, dst, message: not isinstance(message, ProbeAck)
    for _ in range(100):
        mesh.wait(0.1)
        for name in "abc":
            for other in mesh[name].awaited:
                mesh.step(name, SignOfLife(other, mesh.now))
    assert mesh.views() == {name: all_alive("a", "b", "c") for name in "abc"}
    assert not any("Suspect" in told for name in "abc" for told in mesh.told(name))


def test_a_helper_probes_for_others_and_who_is_urged_probes_itself() -> None:
    mesh = Mesh("a", "b", "c")
    assert sent(mesh.hear("a", B, Ask(5, "c")), Probe)[0][0] == "c"
    mesh.run()
    assert [message for _, message in sent(mesh.effects["a"], Asked)] == [Asked(5, "c", True)]
    assert sent(mesh.hear("a", B, Urge("c")), Probe)[0][0] == "c"


def test_one_that_does_not_answer_is_asked_for_through_others() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.passes = lambda src, dst, message: {src, dst} != {"a", "c"}  # though the link stands
    mesh.wait(6)
    assert sent(mesh.effects["a"], Ask)
    assert mesh.views() == {name: all_alive("a", "b", "c") for name in "abc"}


def test_one_that_comes_back_refutes_and_the_others_of_its_side_are_dialled_at_once() -> None:
    mesh = Mesh("a", "b", "c")
    for name in "bc":
        mesh.unlink("a", name)
    mesh.wait(10)
    assert mesh.views(["a"]) == {"a": {"a": State.ALIVE, "b": State.DOWN, "c": State.DOWN}}
    mesh.forget()
    mesh.link("a", "b")
    mesh.run()
    assert mesh.of("a", Hurry) == [Hurry("c")]
    mesh.wait(1)
    assert mesh.told("a")[:1] == ["Up b"]
    assert mesh.of("a", Judge)[0] == Judge("b", None)
    mesh.link("a", "c")
    mesh.wait(2)
    assert mesh.agree()


def test_a_restarted_member_is_up_at_once_under_its_new_address() -> None:
    mesh = Mesh("a", "b")
    mesh.kill("b")
    mesh.forget()
    mesh.start("b", boot=11, seeds=True)
    mesh.link("a", "b")
    mesh.run()
    assert mesh.told("a") == ["Down b", "Up b"]
    assert mesh.of("a", Meet) == [Meet(node_of("b", 11))]


def test_no_accusation_however_high_is_more_than_it_can_refute_or_survive() -> None:
    mesh = Mesh("a", "b")
    mesh.hear("a", B, Claims((("a", Claim(10, TOP - 1, Rank.DOWN, True)),), False))
    assert mesh["a"].ring.claim("a") == Claim(10, TOP, Rank.ALIVE, True)
    mesh.hear("a", B, Claims((("a", Claim(10, TOP, Rank.DOWN, True)),), False))
    mesh.step("a", Ready(False))
    mesh.run()
    assert mesh["a"].ring.claim("a").inc == TOP


def test_one_that_is_called_down_out_of_the_blue_is_asked_first() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.passes = lambda src, dst, message: dst != "b"
    mesh.forget()
    down = News("c", 1, 0, False, (), (Accusation("b", up(B)._replace(rank=Rank.DOWN), "c"),))
    effects = mesh.hear("a", C, down)
    assert [name for name, _ in sent(effects, Probe)] == ["b"]
    assert mesh.told("a") == ["Suspect b"]
    mesh.wait(1)
    assert mesh.told("a")[:2] == ["Suspect b", "Down b"]
    mesh.forget()
    mesh.step("a", LinkLost("b"))
    assert mesh.told("a") == []


def test_one_that_is_called_down_and_whose_link_is_lost_is_down() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.forget()
    down = News("c", 1, 0, False, (), (Accusation("b", up(B)._replace(rank=Rank.DOWN), "c"),))
    mesh.hear("a", C, down)
    mesh.step("a", LinkLost("b"))
    assert mesh.told("a") == ["Suspect b", "Down b"]


# -- removed, superseded


def test_one_that_is_removed_while_it_runs_stops_and_says_so() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.forget()
    mesh.step("a", Remove("c"))
    mesh.run()
    machine = mesh["c"]
    assert machine.stopped is Verdict.REMOVED
    assert list(machine.members) == ["c"]
    assert [effect.event for effect in mesh.of("c", Notify)] == [MemberRemoved(machine.members["c"])]
    assert {effect.name for effect in mesh.of("c", Forget)} == {"a", "b"}
    assert mesh.of("c", Stopped) == [Stopped(Verdict.REMOVED)]
    assert machine.next_deadline is None
    assert mesh.step("c", Tick()) == []
    assert mesh.step("c", Parted("a", 10, True)) == []
    assert mesh.told("a") == ["Removed c"]


def test_one_that_did_not_hear_of_its_removal_is_told_when_it_speaks() -> None:
    mesh = Mesh("a", "b")
    mesh.passes = lambda src, dst, message: not isinstance(message, News)
    mesh.step("a", Remove("b"))
    mesh.run()
    mesh.wait(2)
    assert mesh["b"].stopped is Verdict.REMOVED


def test_nothing_is_taken_from_a_run_that_was_removed() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Remove("b"))
    mesh.on_the_way.clear()
    for message in (hello(B), Probe(1, (0, 0)), News("b", 5, 0, False), Pull(Clock({}, {}), (0, 0))):
        assert sent(mesh.hear("a", B, message), Closed) == [("b", Closed(10, 10))]
    for other in (Got(1), ProbeAck(1, (0, 0)), Claims((("b", Claim(10, 9, Rank.ALIVE, True)),), True)):
        assert mesh.hear("a", B, other) == []
    assert sent(mesh.hear("a", B, hello(B, settled=False)), HelloAck)  # it judges itself


def test_who_was_removed_answers_that_it_is_absent_and_takes_an_invitation() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Remove("b"))
    mesh.run()
    mesh.links[frozenset("ab")] = None
    assert mesh.step("b", LinkOpened("a", 10)) == []
    assert sent(mesh.hear("b", A, hello(A)), Absent) == [("a", Absent(10, True))]
    assert mesh.hear("b", A, Probe(1, (0, 0))) == []
    mesh.step("a", Insert(node_of("b", 0)))
    assert sent(mesh.hear("a", B, Absent(10, True)), Invite) == [("b", Invite())]
    assert mesh.hear("b", A, Invite()) == [Invited("a")]
    assert mesh.hear("b", A, Invite()) == []


def test_who_inserts_it_without_knowing_of_its_removal_invites_it_too() -> None:
    mesh = Mesh("a")
    mesh.start("b")
    mesh.link("a", "b")
    mesh.on_the_way.clear()
    mesh.step("a", Insert(node_of("b", 0)))
    assert sent(mesh.hear("a", B, Absent(10, True)), Invite)


def test_one_that_others_removed_is_not_there() -> None:
    mesh = Mesh("a", "b")
    mesh.forget()
    mesh.unlink("a", "b")
    mesh.hear("a", B, Absent(10, True))
    assert mesh.told("a") == ["Down b"]
    assert mesh["a"].members["b"].why == "it was removed, and has not joined again"
    assert mesh.hear("a", X, Absent(10, True)) == []


def test_one_that_was_superseded_says_nothing_of_its_successor() -> None:
    mesh = Mesh("a", "b")
    mesh.forget()
    mesh.hear("a", replace(B, incarnation=7), Absent(7, False))
    assert mesh.told("a") == []
    assert not sent(mesh.effects["a"], Invite)


@pytest.mark.parametrize(
    ("fence", "known", "verdict"),
    [
        (10, 10, Verdict.REMOVED),
        (0, 11, Verdict.REMOVED),  # inserted by hand, above the fence that it has not heard of
        (0, 1 << 40, Verdict.SUPERSEDED),
        (9, 10, None),
        (0, 0, None),
    ],
)
def test_it_stops_when_a_member_says_that_its_run_is_over(fence: int, known: int, verdict: Verdict | None) -> None:
    mesh = Mesh("a", "b")
    mesh.forget()
    mesh.hear("a", B, Closed(fence, known))
    assert mesh["a"].stopped is verdict
    assert [effect.verdict for effect in mesh.of("a", Stopped)] == ([verdict] if verdict else [])
    if verdict is Verdict.SUPERSEDED:
        assert mesh.told("a") == []
        assert sent(mesh.hear("a", B, hello(B)), Absent) == [("b", Absent(10, False))]
        assert mesh.hear("a", B, Invite()) == []


def test_who_finds_its_entry_gone_but_not_removed_announces_itself_again() -> None:
    mesh = Mesh("a", "b")
    full = mesh["b"].ring.full()
    without = replace(full, entries={"b": full.entries["b"]})  # its clock covers what it does not hold
    mesh.hear("a", B, WholeState(without))
    assert mesh["a"].stopped is None
    assert "a" in mesh["a"].members
    mesh.run()
    assert "a" in mesh["b"].members


def test_one_that_was_not_taken_in_yet_and_whose_name_is_taken_stops() -> None:
    mesh = Mesh("a")
    mesh.start("b", seeds=True)
    mesh.step("b", Outnamed())
    assert mesh["b"].stopped is Verdict.SUPERSEDED
    assert mesh.step("b", Outnamed()) == []
    assert mesh.step("a", Outnamed()) == []  # it was here before
    assert mesh["a"].stopped is None


def test_two_that_removed_each_other_both_stop() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Remove("b"))
    mesh.step("b", Remove("a"))
    mesh.run()
    assert mesh["a"].stopped is mesh["b"].stopped is Verdict.REMOVED


def test_two_that_learn_only_when_they_are_told_that_they_removed_each_other_both_stop() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Remove("b"))
    mesh.hear("a", B, Closed(10, 10))
    assert mesh["a"].stopped is Verdict.REMOVED


# -- leaving


def test_it_leaves_when_all_that_are_alive_know_it() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.forget()
    effects = mesh.step("a", Leave())
    assert {name: message.wanted for name, message in sent(effects, News)} == {"b": True, "c": True}
    assert not mesh.of("a", LeaveKnown)
    mesh.run()
    assert mesh.of("a", LeaveKnown)
    for name in "bc":
        assert mesh.told(name) == ["Left a"]
        assert mesh.of(name, Forget) == [Forget("a", gone=True)]
    assert mesh["a"].stopped is None


def test_that_it_left_is_told_once_though_the_belief_comes_before_the_change() -> None:
    mesh = Mesh("a", "b")
    mesh.passes = lambda src, dst, message: False
    mesh.forget()
    effects = mesh.step("a", Leave())
    mesh.hear("b", A, Claims((("a", up(A)._replace(rank=Rank.LEFT)),), False))
    assert mesh.told("b") == ["Left a"]
    mesh.hear("b", A, only(effects, News))
    assert mesh.told("b") == ["Left a"]
    assert "a" not in mesh["b"].members


def test_alone_it_has_nobody_to_wait_for() -> None:
    mesh = Mesh("a")
    assert LeaveKnown() in mesh.step("a", Leave())
    assert LeaveKnown() in mesh.step("a", Leave())


def test_who_is_told_twice_to_leave_goes_on_leaving() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Leave())
    assert mesh.step("a", Leave()) == []
    mesh.run()
    assert mesh.of("a", LeaveKnown)


def test_one_whose_link_is_lost_is_not_waited_for() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Leave())
    mesh.unlink("a", "b")
    assert mesh.of("a", LeaveKnown)


def test_one_that_has_heard_of_it_from_another_is_not_waited_for() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Leave())
    mesh.hear("a", B, Closed(10, 10))
    assert mesh.of("a", LeaveKnown)
    assert mesh["a"].stopped is None
    mesh.hear("a", B, Got(12345))


def test_two_that_leave_at_once_do_not_wait_for_each_other() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Leave())
    mesh.step("b", Leave())
    mesh.run()
    assert mesh.of("a", LeaveKnown)
    assert mesh.of("b", LeaveKnown)
    assert mesh["a"].stopped is mesh["b"].stopped is None


@pytest.mark.parametrize(("left", "told"), [(True, ["Left b"]), (False, ["Down b"])])
def test_a_goodbye_is_the_last_word(left: bool, told: list[str]) -> None:
    mesh = Mesh("a", "b", "c")
    mesh.unlink("a", "b")
    mesh.unlink("b", "c")
    mesh.forget()
    mesh.step("a", Parted("b", 10, left))
    mesh.passes = lambda src, dst, message: dst != "b"
    mesh.run()
    assert mesh.told("a") == mesh.told("c") == told
    if not left:
        assert mesh["a"].members["b"].why == "stopped"


def test_a_goodbye_of_an_earlier_run_or_of_a_stranger_means_nothing() -> None:
    mesh = Mesh("a", "b")
    assert mesh.step("a", Parted("b", 9, True)) == []
    assert mesh.step("a", Parted("x", 9, True)) == []


def test_a_goodbye_that_is_heard_twice_is_told_once() -> None:
    mesh = Mesh("a", "b")
    mesh.unlink("a", "b")
    mesh.step("a", Parted("b", 10, False))
    mesh.forget()
    assert mesh.step("a", Parted("b", 10, False)) == []
    assert mesh.told("a") == []


def test_who_is_no_member_may_come_and_go() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", LinkOpened("x", 10))
    assert mesh.step("a", LinkLost("x")) == []


def test_a_goodbye_while_it_leaves_itself_changes_nothing() -> None:
    mesh = Mesh("a", "b")
    mesh.step("a", Leave())
    mesh.step("a", Parted("b", 10, True))
    assert mesh["a"].stopped is None


# -- lies


def test_events_of_its_own_that_it_never_wrote_are_not_taken() -> None:
    mesh = Mesh("a", "b", "x")
    clock = mesh["x"].ring.clock()
    invented = Clock({**clock.counts, Actor("a", 10): TOP}, clock.floors)
    mesh.hear("a", X, WholeState(replace(mesh["x"].ring.full(), clock=invented)))
    mesh.hear("a", X, Update(Delta(clock, invented, ())))
    dot = Dot(Actor("a", 10), 2)
    forged = Change(dot, "b", {}, {dot.actor: 2}, 10, 0, None)
    mesh.hear("a", X, News("x", 1, 0, False, (forged,)))
    assert "b" in mesh["a"].members
    mesh.step("a", Reweigh("b", 5))
    mesh.run()
    assert mesh["b"].members["b"].weight == 5
    assert mesh["a"].ring.clock().counts[Actor("a", 10)] == 2


# -- time


def test_a_member_retires_its_old_counts_when_all_have_reported() -> None:
    mesh = Mesh("a", "b")
    mesh.kill("b")
    mesh.start("b", boot=11, seeds=True)
    mesh.link("a", "b")
    mesh.run()
    assert Actor("b", 10) in mesh["a"].ring.clock().counts
    mesh.wait(20)
    assert Actor("b", 10) not in mesh["a"].ring.clock().counts
    assert mesh.agree()


def test_records_of_removals_are_forgotten_in_time() -> None:
    mesh = Mesh("a", "b", removal_ttl=30.0)
    mesh.step("a", Insert(node_of("x", 0)))
    mesh.step("a", Remove("x"))
    mesh.wait(20)
    assert mesh["a"].ring.removed() == ["x"]
    mesh.wait(20)
    assert mesh["a"].ring.removed() == mesh["b"].ring.removed() == []
    assert mesh["a"].ring.fence("x")


def test_one_that_has_been_down_for_as_long_as_the_user_wants_is_removed_by_one() -> None:
    mesh = Mesh("a", "b", "c", auto_remove_after=60.0)
    mesh.kill("c")
    mesh.wait(60)
    assert mesh.views() == {name: {**all_alive("a", "b"), "c": State.DOWN} for name in "ab"}
    mesh.wait(20)
    assert mesh.views() == {name: all_alive("a", "b") for name in "ab"}
    assert mesh["b"].ring.clock().counts[Actor("b", 10)] == 1  # the first in order did it


def test_at_rest_nothing_is_said_but_probes() -> None:
    mesh = Mesh("a", "b", "c")
    mesh.wait(30)
    mesh.forget()
    digests = mesh["a"].digests
    mesh.wait(30)
    kinds = {type(each.message) for name in "abc" for each in mesh.of(name, Send)}
    assert kinds == {Probe, ProbeAck}
    assert mesh["a"].digests == digests
    assert not any(mesh.told(name) for name in "abc")
