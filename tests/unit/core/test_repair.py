"""When to ask: not while things are on their way, not twice in a moment, but in the end always."""

from clusterkit.core.repair import Repair


def test_a_difference_is_believed_when_nothing_has_changed_for_a_moment() -> None:
    repair = Repair()
    repair.changed(10.0)
    assert not repair.differs("b", 10.04)
    assert repair.differs("b", 10.06)


def test_a_difference_that_stays_is_believed_though_everything_changes() -> None:
    repair = Repair()
    asked = []
    for step in range(60):
        repair.changed(10 + step / 40)
        asked.append(repair.differs("b", 10 + step / 40 + 0.01))
    assert asked.index(True) == 40
    assert asked.count(True) == 2  # and then not at each look


def test_agreement_with_anybody_ends_the_patience() -> None:
    repair = Repair()
    repair.changed(10.0)
    assert not repair.differs("b", 10.0)
    repair.agrees()
    repair.changed(11.5)
    assert not repair.differs("b", 11.5)


def test_a_member_is_not_asked_twice_in_a_moment() -> None:
    repair = Repair()
    assert [repair.asks("b", at) for at in (10.0, 10.2, 10.26, 10.4)] == [True, False, True, False]
    repair.forget("b")
    assert repair.asks("b", 10.4)


def test_a_parked_change_is_asked_for_after_200_ms_once() -> None:
    repair = Repair()
    assert repair.next_deadline is None
    repair.parked("b", 10.0)
    repair.parked("b", 10.1)
    repair.parked("c", 10.1)
    assert repair.next_deadline == 10.2
    assert repair.overdue(10.1) == []
    assert repair.overdue(10.2) == ["b"]
    assert repair.overdue(10.3) == ["c"]
    assert repair.next_deadline is None


def test_a_parked_change_of_a_link_that_ended_is_not_asked_for() -> None:
    repair = Repair()
    repair.parked("b", 10.0)
    repair.forget("b")
    repair.forget("nobody")
    assert repair.overdue(99.0) == []
