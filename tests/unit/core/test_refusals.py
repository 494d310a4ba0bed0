"""Refused dials."""

from clusterkit.core.refusals import Refusals


def noted(*observers: str, boot: int = 7) -> Refusals:
    refusals = Refusals(window=1.0)
    for by in observers:
        refusals.note("x", boot, by, now=5.0)
    return refusals


def test_observers_count_within_the_window() -> None:
    refusals = noted("a")
    refusals.note("x", 7, "b", now=5.5)
    assert [refusals.observers("x", now) for now in (5.5, 6.0, 6.2, 7.0)] == [["a", "b"], ["a", "b"], ["b"], []]
    assert refusals.observers("y", 5.0) == []


def test_a_later_boot_begins_anew_and_an_earlier_one_says_nothing() -> None:
    refusals = noted("a")
    refusals.note("x", 8, "b", now=5.0)
    refusals.note("x", 7, "c", now=5.0)
    assert refusals.observers("x", 5.0) == ["b"]


def test_who_reached_it_is_no_observer_and_tells_nobody() -> None:
    refusals = noted("a", "b")
    refusals.plan("x", at=5.2, now=5.0)
    refusals.retract("x", "a")
    refusals.retract("y", "a")
    assert (refusals.observers("x", 5.0), refusals.deadline, refusals.due(9.0)) == (["b"], None, [])


def test_it_is_told_once_within_the_window() -> None:
    refusals = noted("a")
    refusals.plan("x", at=5.2, now=5.0)
    refusals.plan("x", at=9.9, now=5.1)
    assert (refusals.deadline, refusals.due(5.1), refusals.due(5.2), refusals.due(5.3)) == (5.2, [], [("x", 7)], [])
    refusals.plan("x", at=6.0, now=6.0)
    assert refusals.deadline is None
    refusals.plan("x", at=6.3, now=6.3)
    assert refusals.deadline == 6.3


def test_a_case_that_is_closed_is_forgotten() -> None:
    refusals = noted("a")
    refusals.drop("x")
    refusals.drop("x")
    assert (refusals.names, refusals.observers("x", 5.0)) == ([], [])
