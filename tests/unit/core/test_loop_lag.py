"""When a member doubts itself."""

from dataclasses import replace

import pytest

from clusterkit.core.liveness_timers import LivenessSafeguards, Timers
from clusterkit.core.loop_lag import Lag, LoopLag

ALL_ON = LivenessSafeguards()


def lag(**off: bool) -> LoopLag:
    return LoopLag(Timers(), replace(ALL_ON, **off))


@pytest.mark.parametrize(
    ("late", "meaning"),
    [
        (-1.0, Lag()),
        (0.02, Lag()),
        (0.05, Lag()),
        (0.06, Lag(felt=True)),
        (0.15, Lag(felt=True)),
        (0.16, Lag(voids=True, felt=True)),
        (1.0, Lag(voids=True, felt=True)),
        (1.01, Lag(stalled=True, voids=True, felt=True)),
    ],
)
def test_what_a_late_deadline_means(late: float, meaning: Lag) -> None:
    assert lag().notice(late, 1, 5.0) == meaning


def test_a_stretched_timeout_bears_more() -> None:
    assert lag().notice(0.4, 3, 5.0) == Lag(felt=True)


def test_after_a_stall_it_accuses_nobody_for_a_while() -> None:
    one = lag()
    one.notice(1.5, 1, 5.0)
    assert [one.may_accuse(now) for now in (5.0, 7.4, 7.5)] == [False, False, True]


def test_a_little_late_it_judges_later_but_once() -> None:
    one = lag()
    one.notice(0.03, 1, 5.0)
    assert (one.may_judge(5.04), one.soonest([5.01], 5.0)) == (False, 5.05)
    one.notice(0.03, 1, 5.08)
    assert one.may_judge(5.08), "one that is always a little late would never judge"
    one.notice(0.03, 1, 6.0)
    assert not one.may_judge(6.0)


def test_much_too_late_it_waits_each_time() -> None:
    one = lag()
    one.notice(0.3, 1, 5.0)
    one.notice(0.3, 1, 5.4)
    assert not one.may_judge(5.4)


def test_ticks_are_dense_only_while_there_is_something_to_judge() -> None:
    one = lag()
    assert one.soonest([], 5.0) is None
    assert one.soonest([9.0], 5.02) == pytest.approx(5.1)
    assert one.soonest([5.03], 5.02) == 5.03
    assert one.soonest([9.0], 7.0) == pytest.approx(7.1)


def test_safeguards_can_be_off() -> None:
    assert lag(stall_protection=False).notice(2.0, 1, 5.0) == Lag(voids=True, felt=True)
    assert lag(lag_voids=False).notice(2.0, 1, 5.0) == Lag(stalled=True, felt=True)
    ungraceful = lag(grace=False)
    ungraceful.notice(0.5, 1, 5.0)
    assert ungraceful.may_judge(5.0)
    assert lag(pulse=False).soonest([9.0], 5.0) == 9.0
