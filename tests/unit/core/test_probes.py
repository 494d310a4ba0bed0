"""The probes under way."""

from clusterkit.core import probes as module
from clusterkit.core.probes import Probes


def test_a_probe_ends_with_the_answer_of_its_target_alone() -> None:
    probes = Probes()
    probe = probes.begin("b", (7, 0), now=1.0, due=1.3)
    assert probes.take(probe.number, "c") is None
    assert probes.take(99, "b") is None
    assert probes.take(probe.number, "b") is probe
    assert (len(probes), probes.is_probing("b"), probes.deadline) == (0, False, None)


def test_a_relay_is_not_our_own() -> None:
    probes = Probes()
    relay = probes.relay("b", ("a", 5), now=1.0, due=1.3)
    own = probes.begin("b", (7, 0), now=1.0, due=1.2)
    assert (probes.own(relay.number), probes.own(own.number), probes.own(99)) == (None, own, None)
    assert probes.deadline == 1.2
    probes.end(relay)
    assert probes.is_probing("b")


def test_numbers_are_never_used_again() -> None:
    probes = Probes()
    first = probes.begin("b", (7, 0), now=1.0, due=1.3).number
    probes.void()
    assert probes.begin("b", (7, 0), now=1.0, due=1.3).number > first


def test_those_whose_time_is_over_are_due_until_they_end() -> None:
    probes = Probes()
    early, late = (probes.begin(name, (7, 0), now=1.0, due=due) for name, due in (("b", 1.3), ("c", 1.4)))
    assert (probes.due(1.2), probes.due(1.3), probes.due(1.5)) == ([], [early], [early, late])


def test_a_target_of_no_interest_is_probed_no_more_but_for_others() -> None:
    probes = Probes()
    probes.begin("b", (7, 0), now=1.0, due=1.3)
    relay = probes.relay("b", ("a", 5), now=1.0, due=1.3)
    probes.forget("b")
    probes.forget("b")
    assert probes.due(2.0) == [relay]


def test_helpers_that_said_nothing_are_told_from_those_that_said_no() -> None:
    probe = Probes().begin("b", (7, 0), now=1.0, due=1.3)
    assert probe.silent_helpers == []
    probe.helpers = ("c", "d")
    probe.noes["c"] = None
    assert probe.silent_helpers == ["d"]


def test_there_is_a_bound() -> None:
    probes = Probes()
    for number in range(module._MOST):
        assert not probes.is_full
        probes.relay("b", ("a", number), now=1.0, due=1.3)
    assert probes.is_full
