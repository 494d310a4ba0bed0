"""What a member does now and then."""

import pytest

from clusterkit.core.housekeeping import Housekeeping
from clusterkit.core.member_view import MemberView
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_state import RingState

NOW = 100.0


class Home:
    """A member "b", the others that it knows, and what it keeps."""

    def __init__(self, others: str = "ac", ttl: float = 60.0, auto: float | None = None) -> None:
        self.ring = RingState(Actor("b", 10))
        self.view = MemberView(self.ring)
        self.keeping = Housekeeping(self.ring, self.view, ttl, auto)
        self.ring.announce("10.0.0.2", 7022, b"", 0.0)
        for name in others:
            self.ring.insert(name, "10.0.0.1", 7022, 0.0)
        self.look(NOW)

    def look(self, now: float) -> None:
        for name in self.ring.take_changed():
            self.view.look(name, now)

    def fall(self, name: str, now: float) -> None:
        self.ring.hear(name, Claim(1, 0, Rank.DOWN, False))
        self.look(now)


def test_nothing_is_kept_before_it_begins_or_between_times() -> None:
    home = Home()
    assert (home.keeping.next_deadline, home.keeping.keep(NOW, settled=True)) == (None, [])
    home.keeping.begin(NOW)
    assert home.keeping.next_deadline == NOW + 5
    assert home.keeping.keep(NOW + 4.9, settled=True) == []
    assert home.keeping.next_deadline == NOW + 5
    assert home.keeping.keep(NOW + 5, settled=True) == []
    assert home.keeping.next_deadline == NOW + 10


def test_records_of_removals_are_forgotten_when_they_are_old() -> None:
    home = Home(ttl=60.0)
    home.keeping.begin(NOW)
    home.ring.remove("c")
    home.look(NOW)
    home.keeping.keep(NOW + 59, settled=True)
    assert home.ring.removed() == ["c"]
    home.keeping.keep(NOW + 64, settled=True)
    assert home.ring.removed() == []


@pytest.mark.parametrize(("settled", "retired"), [(True, 1), (False, 0)])
def test_what_earlier_runs_left_is_retired_by_one_that_is_settled(settled: bool, retired: int) -> None:
    earlier = RingState(Actor("b", 9))
    earlier.announce("10.0.0.2", 7022, b"", 0.0)
    home = Home(others="")
    home.ring.merge(earlier.full(), 0.0)
    home.keeping.begin(NOW)
    assert len(home.keeping.keep(NOW + 5, settled=settled)) == retired


def test_the_first_of_more_than_half_removes_who_was_down_for_so_long() -> None:
    home = Home(others="cd", auto=60.0)
    home.keeping.begin(NOW)
    home.fall("c", NOW)
    assert home.keeping.keep(NOW + 59, settled=True) == []
    assert [change.name for change in home.keeping.keep(NOW + 64, settled=True)] == ["c"]


@pytest.mark.parametrize(("others", "fallen"), [("ac", "c"), ("c", "c"), ("cde", "cd")])
def test_no_other_and_no_half_does(others: str, fallen: str) -> None:
    home = Home(others=others, auto=60.0)
    home.keeping.begin(NOW)
    for name in fallen:
        home.fall(name, NOW)
    assert home.keeping.keep(NOW + 100, settled=True) == []


def test_nobody_is_removed_unless_the_user_wants_it() -> None:
    home = Home(others="cd")
    home.keeping.begin(NOW)
    home.fall("c", NOW)
    assert home.keeping.keep(NOW + 10_000, settled=True) == []
