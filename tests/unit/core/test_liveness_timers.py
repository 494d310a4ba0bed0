"""The durations of the failure detector, and how they bound each other."""

from clusterkit.core.liveness_timers import Timers


def test_nobody_is_declared_down_within_three_seconds() -> None:
    timers = Timers()
    assert timers.probe_timeout + timers.indirect_timeout + timers.suspicion_least > 3.0


def test_helpers_can_say_no_in_time() -> None:
    assert Timers().probe_timeout < Timers().indirect_timeout


def test_the_wide_area_profile_stretches_what_waits_for_others() -> None:
    lan, wan = Timers(), Timers.wan()
    assert (wan.probe_interval, wan.refused_window, wan.tell_after) == (2.0, 4.0, 1.0)
    assert (wan.stall, wan.grace, wan.pulse) == (lan.stall, lan.grace, lan.pulse)
    assert (wan.indirect, wan.confirmations, wan.ask, wan.tellers) == (3, 3, 5, 5)
