"""When a peer is dialled and when it is called down."""

from random import Random

import pytest

from clusterkit.core.backoff import Backoff
from clusterkit.core.reach import (
    CallDown,
    Dial,
    DialFailed,
    Effect,
    Event,
    Hurry,
    Lost,
    Opened,
    Parted,
    Reach,
    Tick,
    Unwanted,
    Wanted,
)


class Highest(Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        return b


REFUSED, SILENT = DialFailed(refused=True, why="refused"), DialFailed(refused=False, why="timed out")


def reach() -> Reach:
    return Reach(Backoff(0.1, 5.0, Highest()))


def after(*events: tuple[Event, float]) -> Reach:
    machine = reach()
    for event, now in events:
        machine.step(event, now)
    return machine


def opened() -> Reach:
    return after((Wanted(), 0.0), (Opened(), 0.0))


def test_a_wanted_peer_is_dialled_at_once_and_only_once() -> None:
    machine = reach()
    assert machine.next_deadline is None
    assert machine.step(Wanted(), 0.0) == [Dial()]
    assert machine.step(Wanted(), 0.0) == []
    assert machine.wanted


def test_a_refused_dial_is_down_at_once_and_said_once() -> None:
    machine = after((Wanted(), 0.0))
    assert machine.step(REFUSED, 0.0) == [CallDown("refused")]
    assert (machine.down, machine.why) == (True, "refused")
    assert machine.step(Tick(), 0.1) == [Dial()]
    assert machine.step(REFUSED, 0.1) == []


def test_dials_go_on_for_ever_with_back_off() -> None:
    machine, now, gaps = after((Wanted(), 0.0)), 0.0, []
    for _ in range(10):
        machine.step(REFUSED, now)
        deadline = machine.next_deadline
        assert deadline is not None
        assert machine.step(Tick(), deadline) == [Dial()]
        gaps.append(deadline - now)
        now = deadline
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5])


def test_an_unanswered_dial_is_down_after_three_seconds() -> None:
    machine = after((Wanted(), 0.0))
    assert machine.next_deadline == 3.0
    assert machine.step(Tick(), 2.99) == []
    assert machine.step(Tick(), 3.0) == [CallDown("no answer for 3 s")]
    assert machine.next_deadline is None


def test_it_is_down_for_the_reason_of_the_last_failure() -> None:
    machine = after((Wanted(), 0.0))
    assert machine.step(SILENT, 2.95) == []
    assert machine.step(Tick(), 3.0) == [CallDown("timed out")]
    assert machine.step(Tick(), 3.1) == [Dial()]


def test_one_late_tick_both_calls_down_and_dials() -> None:
    machine = after((Wanted(), 0.0), (SILENT, 2.95))
    assert machine.step(Tick(), 9.0) == [CallDown("timed out"), Dial()]


def test_an_open_link_unsays_down_and_starts_the_back_off_anew() -> None:
    machine = after((Wanted(), 0.0), (REFUSED, 0.0), (Tick(), 0.1), (REFUSED, 0.1), (Opened(), 0.2))
    assert (machine.down, machine.open, machine.why, machine.next_deadline) == (False, True, "", None)
    machine.step(Lost("reset"), 1.0)
    assert machine.next_deadline == pytest.approx(1.1)


def test_a_break_whose_redial_succeeds_is_never_down() -> None:
    machine = opened()
    effects: list[Effect] = machine.step(Lost("reset"), 1.0)
    effects += machine.step(Tick(), 1.1)
    effects += machine.step(Opened(), 1.2)
    assert effects == [Dial()]


def test_a_break_whose_redial_is_unanswered_is_down_after_three_seconds() -> None:
    machine = opened()
    machine.step(Lost("reset"), 1.0)
    machine.step(Tick(), 1.1)
    assert machine.step(Tick(), 4.0) == [CallDown("reset")]


def test_a_lost_link_to_a_peer_that_nobody_wants_is_down_and_not_redialled() -> None:
    machine = after((Opened(), 0.0))
    assert machine.step(Lost("reset"), 1.0) == [CallDown("reset")]
    assert machine.next_deadline is None


def test_a_goodbye_is_down_at_once_and_ends_the_dialling() -> None:
    machine = opened()
    assert machine.step(Parted("stopped"), 1.0) == [CallDown("stopped")]
    assert (machine.wanted, machine.open, machine.next_deadline) == (False, False, None)
    assert machine.step(Parted("stopped"), 1.0) == []


def test_an_unwanted_peer_is_dialled_no_more() -> None:
    machine = after((Wanted(), 0.0), (SILENT, 0.0), (Unwanted(), 0.0))
    assert machine.step(Tick(), 99.0) == []
    assert not machine.wanted
    assert machine.step(Wanted(), 100.0) == [Dial()]


def test_a_failure_of_a_dial_that_is_no_longer_on_means_nothing() -> None:
    machine = opened()
    assert machine.step(REFUSED, 1.0) == []
    assert machine.open


def test_an_incoming_link_opens_it_even_when_nobody_dialled() -> None:
    machine = after((Opened(), 0.0))
    assert machine.open
    assert machine.step(Wanted(), 1.0) == []


def test_a_tick_at_the_deadline_told_does_what_is_due() -> None:
    machine = after((Wanted(), 1.001))  # (1.001 + 3.0) - 1.001 < 3.0
    deadline = machine.next_deadline
    assert deadline is not None
    assert machine.step(Tick(), deadline)


def test_an_open_link_stays_open_when_the_peer_is_not_wanted_for_a_while() -> None:
    machine = opened()
    machine.step(Unwanted(), 1.0)
    assert machine.step(Wanted(), 2.0) == []


def test_a_link_cut_for_its_silence_is_down_at_once_and_dialled_on() -> None:
    machine = opened()
    assert machine.step(Lost("nothing heard", silent=True), 1.0) == [CallDown("nothing heard"), Dial()]
    machine.step(Opened(), 1.2)
    assert not machine.down


def test_a_peer_that_asks_for_another_link_is_dialled_at_once_and_not_down() -> None:
    machine = opened()
    assert machine.step(Lost("another cookie", again=True), 1.0) == [Dial()]
    assert not machine.down


def test_a_link_that_stood_is_dialled_again_at_once_and_one_that_did_not_waits_its_turn() -> None:
    machine = opened()
    assert machine.step(Lost("reset"), 1.0) == [Dial()]
    machine.step(Opened(), 1.1)
    assert machine.step(Lost("reset"), 2.0) == []
    assert machine.next_deadline == pytest.approx(2.1)


def test_in_a_hurry_a_dial_that_is_due_later_is_made_now() -> None:
    machine = after((Wanted(), 0.0), (REFUSED, 0.0), (Tick(), 0.1), (REFUSED, 0.1))
    assert machine.step(Hurry(), 0.15) == [Dial()]
    assert machine.step(Hurry(), 0.15) == []  # it is on its way


def test_a_hurry_is_for_peers_that_are_wanted_and_not_linked() -> None:
    assert reach().step(Hurry(), 0.0) == []
    assert opened().step(Hurry(), 1.0) == []
