"""Changes that came too early wait, in a bounded place."""

from clusterkit.core.ring_entry import Actor, Dot
from clusterkit.core.ring_frames import Change
from clusterkit.core.ring_parking import PARKED, Parking

A, B = Actor("a", 7), Actor("b", 8)


def change(actor: Actor, n: int) -> Change:
    return Change(Dot(actor, n), "a", {}, {actor: n}, 0, 0, None)


def test_they_are_taken_by_whom_they_wait_for_in_order() -> None:
    parking = Parking()
    for n in (3, 2):
        parking.park(change(A, n), A)
    parking.park(change(B, 2), B)
    assert parking.take(A) == [change(A, 3), change(A, 2)]
    assert parking.take(A) == []
    assert len(parking) == 1
    assert parking.take_all() == [change(B, 2)]
    assert len(parking) == 0


def test_one_that_is_parked_again_waits_for_another() -> None:
    parking = Parking()
    parking.park(change(A, 3), A)
    parking.park(change(A, 2), A)
    parking.park(change(A, 3), B)
    assert parking.take(A) == [change(A, 2)]
    assert parking.take(B) == [change(A, 3)]


def test_the_oldest_goes_when_it_is_full() -> None:
    parking = Parking()
    for n in range(PARKED + 2):
        parking.park(change(A, n), B if n == 0 else A)
    assert len(parking) == PARKED
    assert parking.take(B) == []
    assert parking.take_all()[0] == change(A, 2)


def test_large_ones_take_the_place_of_many() -> None:
    parking = Parking()
    context = {Actor(f"x{number}", 1): 1 for number in range(30_000)}
    for n in (2, 3, 4):
        parking.park(Change(Dot(A, n), "a", {}, context, 0, 0, None), A)
    assert [each.dot.n for each in parking.take(A)] == [3, 4]
    more = {Actor(f"x{number}", 1): 1 for number in range(70_000)}
    parking.park(change(A, 2), A)
    parking.park(Change(Dot(A, 5), "a", {}, more, 0, 0, None), A)
    assert len(parking) == 0
    parking.park(change(A, 2), A)
    assert parking.take_all() == [change(A, 2)]
    assert len(parking) == 0
