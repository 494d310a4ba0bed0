"""What is told at the end of a step: all of it, once, to all, in one message each."""

from clusterkit.core.news_desk import NewsDesk
from clusterkit.core.ring_entry import Actor, Claim, Dot, Rank
from clusterkit.core.ring_frames import Change
from clusterkit.core.ring_messages import Accusation, Refusal

CHANGE = Change(Dot(Actor("a", 1), 1), "a", {}, {Actor("a", 1): 1}, 0, 0, None)
CLAIM = Claim(7, 0, Rank.SUSPECT, True)


def test_all_that_was_gathered_is_told_at_once_and_only_once() -> None:
    desk = NewsDesk("a", 1)
    desk.changed(CHANGE)
    desk.claimed("b", CLAIM)
    desk.claimed("c", CLAIM, "c")
    desk.refused("d", 7)
    told = dict(desk.told(["a", "b", "c"], ["b", "c", "removed"]))
    assert list(told) == ["b", "c", "removed"]
    news = told["b"]
    assert all(each is news for each in told.values())  # packed once for all
    assert (news.origin, news.tree, news.wanted, news.changes) == ("a", 0, False, (CHANGE,))
    assert news.accusations == (Accusation("b", CLAIM, "a"), Accusation("c", CLAIM, "c"))
    assert news.refusals == (Refusal("d", 7, "a"),)
    assert list(desk.told(["a", "b"], ["b"])) == []


def test_in_a_large_ring_who_is_linked_and_no_member_is_told_straight() -> None:
    desk = NewsDesk("n000", 1, direct=8)
    names = [f"n{number:03}" for number in range(40)]
    desk.refused("d", 7)
    told = list(desk.told(names, [*names[1:], "x"]))
    assert [(name, news.tree) for name, news in told if name == "x"] == [("x", 0)]
    assert {news.tree for _, news in told} == {0, 1, 2}
    assert len({news.number for _, news in told}) == 1
    assert len({id(news) for _, news in told}) == 3


def test_a_farewell_wants_an_answer_and_a_warning_none() -> None:
    desk = NewsDesk("a", 1)
    farewell = desk.farewell(CHANGE)
    warning = desk.warning("b", CLAIM)
    assert (farewell.wanted, farewell.tree, farewell.changes) == (True, 0, (CHANGE,))
    assert (warning.wanted, warning.tree, warning.accusations) == (False, 0, (Accusation("b", CLAIM, "a"),))
    assert farewell.number != warning.number


def test_news_is_passed_on_as_the_trees_say() -> None:
    desk, news = NewsDesk("a", 1), NewsDesk("b", 1).farewell(CHANGE)
    assert desk.pass_on(["a", "b"], news) == []
    assert desk.pass_on(["a", "b"], news) is None
