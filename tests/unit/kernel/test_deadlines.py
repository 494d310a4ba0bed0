"""Many deadlines under one timer: none early, none more than a tick late, none twice."""

from random import Random

import pytest

from clusterkit.kernel.deadlines import Deadlines

TICK = 0.01


def deadlines() -> Deadlines[str]:
    return Deadlines[str](TICK)


def test_nothing_waits_in_the_beginning() -> None:
    empty = deadlines()
    assert (empty.next_at, empty.due(99.0)) == (None, [])


def test_a_thing_is_due_after_its_deadline_and_only_once() -> None:
    some = deadlines()
    some.add("a", 1.0)
    assert some.due(1.0) == []
    assert some.due(1.0 + TICK) == ["a"]
    assert some.due(9.0) == []


def test_what_shares_a_tick_shares_a_slot() -> None:
    some = deadlines()
    assert some.add("a", 1.001) is some.add("b", 1.002)
    assert some.due(1.02) == ["a", "b"]


def test_a_thing_is_discarded_through_its_slot() -> None:
    some = deadlines()
    slot = some.add("a", 1.0)
    some.add("b", 1.0)
    slot.pop("a", None)
    assert some.due(2.0) == ["b"]
    slot.pop("b", None)  # harmless when it is gone


def test_the_earliest_tick_comes_first_whatever_the_order_of_adding() -> None:
    some = deadlines()
    for thing, deadline in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        some.add(thing, deadline)
    assert some.next_at == pytest.approx(1.0, abs=1.1 * TICK)
    assert some.due(2.5) == ["a", "b"]
    assert some.next_at == pytest.approx(3.0, abs=1.1 * TICK)


def test_a_thing_added_for_the_past_is_due_at_the_next_look() -> None:
    some = deadlines()
    some.add("late", 1.0)
    assert some.due(50.0) == ["late"]


def test_none_is_early_and_none_is_more_than_a_tick_late() -> None:
    rng, some = Random(3), deadlines()
    wanted = {str(number): rng.uniform(0.0, 5_000.0) for number in range(5_000)}
    for thing, deadline in wanted.items():
        some.add(thing, deadline)
    seen = 0
    while (at := some.next_at) is not None:
        things = some.due(at)
        assert things  # a look at the time told always finds the slot
        for thing in things:
            assert wanted[thing] <= at <= wanted[thing] + TICK + 1e-9
        seen += len(things)
    assert seen == len(wanted)
