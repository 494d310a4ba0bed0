"""The supervisor's machine: the table, and what the table cannot say."""

from typing import Any

import pytest

from clusterkit.core.supervision import State, Supervision
from clusterkit.core.supervision_events import (
    Answer,
    Begun,
    ChildEnded,
    ChildSpec,
    ChildStarted,
    DeleteRequested,
    End,
    FinishInit,
    Policy,
    Release,
    ReportRestart,
    RestartRequested,
    RetryCame,
    ShutdownRequested,
    Start,
    StartRequested,
    Stop,
    StopRequested,
    TryAgain,
)
from clusterkit.errors import ConfigError
from tests.unit.core.supervision_rehearsal import rehearse
from tests.unit.core.supervision_table import ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=[row.title for row in ROWS])
def test_the_machine_does_as_the_table_says(row: Row) -> None:
    assert rehearse(row) == row.seen


def test_the_table_has_no_row_twice() -> None:
    assert len({row.title for row in ROWS}) == len(ROWS) >= 25


def running(*keys: str, restart: Any = "permanent", **policy: Any) -> Supervision:
    """A supervision whose children run, as runs 1, 2, ..."""
    supervision = Supervision(Policy(**policy), [ChildSpec(key, restart) for key in keys])
    supervision.step(Begun(), 0.0)
    for run, key in enumerate(keys, 1):
        supervision.step(ChildStarted(key, run), 0.0)
    return supervision


# -- what cannot be


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"strategy": "one_for_many"}, "strategy is 'one_for_many'"),
        ({"auto_shutdown": "always"}, "auto_shutdown is 'always'"),
        ({"intensity": -1}, "intensity is -1"),
        ({"intensity": 1.5}, "intensity is 1.5"),
        ({"intensity": True}, "intensity is True"),
        ({"period": 0}, "period is 0"),
        ({"period": -2.0}, "period is -2.0"),
        ({"period": float("inf")}, "period is inf"),
        ({"period": "5"}, "period is '5'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_and_named(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Policy(**policy)


def test_children_that_cannot_be_are_refused_and_named() -> None:
    seldom: Any = "seldom"
    with pytest.raises(ConfigError, match="restart of child 'a' is 'seldom'"):
        ChildSpec("a", seldom)
    with pytest.raises(ConfigError, match="child 'a' is permanent"):
        ChildSpec("a", "permanent", significant=True)
    with pytest.raises(ConfigError, match="child 'a' is significant, and auto_shutdown is 'never'"):
        Supervision(Policy(), [ChildSpec("a", "transient", significant=True)])
    with pytest.raises(ConfigError, match="two children have the name 'a'"):
        Supervision(Policy(), [ChildSpec("a"), ChildSpec("a")])


# -- names: when the end of a run is made known


def test_the_end_of_a_run_is_made_known_when_its_successor_has_been_started() -> None:
    supervision = running("a")
    assert supervision.step(ChildEnded("a", 1, "boom"), 1.0) == [
        ReportRestart("a", "boom", 1),
        Start("a", 2),
        Release("a", 1),
    ]


def test_ends_of_all_for_one_are_made_known_one_by_one_as_each_is_started() -> None:
    supervision = running("a", "b", strategy="one_for_all")
    assert supervision.step(ChildEnded("a", 1, "boom"), 1.0) == [ReportRestart("a", "boom", 1), Stop("b", 2)]
    assert supervision.step(ChildEnded("b", 2, "shutdown"), 1.0) == [Start("a", 3), Release("a", 1)]
    assert supervision.step(ChildStarted("a", 3), 1.0) == [Start("b", 4), Release("b", 2)]


def test_who_is_not_started_again_is_made_known_at_once() -> None:
    supervision = running("a", restart="transient")
    assert supervision.step(ChildEnded("a", 1, "normal"), 1.0) == [Release("a", 1)]
    assert supervision.spec("a") == ChildSpec("a", "transient")
    assert supervision.states == {"a": State.STOPPED}


def test_a_start_that_failed_is_made_known_when_the_next_one_is_under_way() -> None:
    supervision = running("a", intensity=3)
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    assert supervision.step(ChildEnded("a", 2, "OSError: no"), 1.0) == [TryAgain("a", 2)]
    assert supervision.step(RetryCame("a", 2), 1.0) == [
        ReportRestart("a", "OSError: no", 2),
        Start("a", 3),
        Release("a", 2),
    ]


def test_whom_a_restart_stopped_is_made_known_when_that_restart_is_given_up() -> None:
    supervision = running("a", "b", "c", strategy="one_for_all", intensity=3)
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    supervision.step(ChildEnded("c", 3, "shutdown"), 1.0)
    supervision.step(ChildEnded("b", 2, "shutdown"), 1.0)
    assert supervision.step(ChildEnded("a", 4, "OSError: no"), 1.0) == [TryAgain("a", 4)]
    assert supervision.step(StopRequested(1, "a"), 1.0) == [
        Release("b", 2),
        Release("c", 3),
        Release("a", 4),
        Answer(1, "ok"),
    ]
    assert supervision.step(RetryCame("a", 4), 1.0) == []
    assert supervision.step(RestartRequested(2, "c"), 1.0) == [Start("c", 5)]


def test_deleting_a_child_that_waits_for_a_restart_of_others_makes_its_end_known() -> None:
    supervision = running("a", "b", strategy="one_for_all", intensity=3)
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    supervision.step(ChildEnded("b", 2, "shutdown"), 1.0)
    supervision.step(ChildEnded("a", 3, "OSError: no"), 1.0)
    assert supervision.step(DeleteRequested(1, "b"), 1.0) == [Release("b", 2), Answer(1, "ok")]
    assert supervision.spec("b") is None
    assert supervision.step(RetryCame("a", 3), 1.0)[1:] == [Start("a", 4), Release("a", 3)]


# -- whatever comes in any order


def test_what_is_told_of_a_former_run_is_of_no_account() -> None:
    supervision = running("a", "b", intensity=3)
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    supervision.step(ChildStarted("a", 3), 1.0)
    for stale in (ChildEnded("a", 1, "boom"), ChildStarted("a", 1), RetryCame("a", 1), RetryCame("a", 3)):
        assert supervision.step(stale, 1.0) == []
    assert supervision.step(ChildEnded("z", 1, "boom"), 1.0) == []
    assert supervision.step(ChildStarted("z", 9), 1.0) == []
    assert supervision.states == {"a": State.RUNNING, "b": State.RUNNING}


def test_an_end_is_counted_once() -> None:
    supervision = running("a", "b")
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    assert supervision.step(ChildEnded("b", 2, "boom"), 1.0) == []
    assert supervision.step(ChildEnded("b", 2, "boom"), 1.0) == []
    assert supervision.states == {"a": State.STARTING, "b": State.ENDED}


def test_a_request_waits_for_the_restart_under_way() -> None:
    supervision = running("a", "b")
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    assert supervision.step(StopRequested(7, "a"), 1.0) == []
    assert supervision.step(ChildStarted("a", 3), 1.0) == [Stop("a", 3)]
    assert supervision.step(ChildEnded("a", 3, "shutdown"), 1.0) == [Release("a", 3), Answer(7, "ok")]


def test_one_that_ended_before_its_turn_to_be_stopped_came_is_not_started_again() -> None:
    supervision = running("a", "b")
    supervision.step(StopRequested(1, "b"), 1.0)
    supervision.step(StopRequested(2, "a"), 1.0)
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    assert supervision.step(ChildEnded("b", 2, "shutdown"), 1.0) == [
        Release("b", 2),
        Answer(1, "ok"),
        Release("a", 1),
        Answer(2, "ok"),
    ]


def test_requests_for_a_child_whose_start_is_tried_again() -> None:
    supervision = running("a", intensity=3)
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    supervision.step(ChildEnded("a", 2, "OSError: no"), 1.0)
    assert supervision.step(RestartRequested(1, "a"), 1.0) == [Answer(1, "restarting")]
    assert supervision.step(DeleteRequested(2, "a"), 1.0) == [Answer(2, "restarting")]
    assert supervision.step(StartRequested(3, ChildSpec("a")), 1.0) == [Answer(3, "already_present")]
    assert supervision.states == {"a": State.RESTARTING}


def test_restarts_at_the_very_end_of_the_period_still_count() -> None:
    for late, is_over in ((5.0, True), (5.01, False)):
        supervision = running("a", intensity=1, period=5.0)
        supervision.step(ChildEnded("a", 1, "boom"), 1.0)
        supervision.step(ChildStarted("a", 2), 1.0)
        effects = supervision.step(ChildEnded("a", 2, "boom"), 1.0 + late)
        assert (effects[-1] == End("intensity")) is is_over


# -- the supervisor is stopped in the middle of something


def test_a_child_that_is_being_started_is_stopped_with_the_supervisor() -> None:
    supervision = running("a", "b")
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    assert supervision.step(ShutdownRequested(), 1.0) == [Stop("b", 2)]
    assert supervision.step(ChildStarted("a", 3), 1.0) == []
    assert supervision.step(ChildEnded("b", 2, "shutdown"), 1.0) == [Release("b", 2), Stop("a", 3)]
    assert supervision.step(ChildEnded("a", 3, "shutdown"), 1.0) == [Release("a", 3), End("requested")]


def test_a_start_that_succeeds_while_it_is_being_stopped_changes_nothing() -> None:
    supervision = running("a")
    supervision.step(ChildEnded("a", 1, "boom"), 1.0)
    assert supervision.step(ShutdownRequested(), 1.0) == [Stop("a", 2)]
    assert supervision.step(ChildStarted("a", 2), 1.0) == []
    assert supervision.step(ChildEnded("a", 2, "shutdown"), 1.0) == [Release("a", 2), End("requested")]


def test_a_child_that_is_being_stopped_is_not_stopped_twice() -> None:
    supervision = running("a", "b")
    assert supervision.step(StopRequested(1, "b"), 1.0) == [Stop("b", 2)]
    assert supervision.step(ShutdownRequested(), 1.0) == [Answer(1, "closing")]
    assert supervision.step(ChildEnded("b", 2, "shutdown"), 1.0) == [Release("b", 2), Stop("a", 1)]


def test_who_asks_while_the_supervisor_stops_is_told_so() -> None:
    supervision = running("a", "b")
    supervision.step(StartRequested(1, ChildSpec("c")), 1.0)
    supervision.step(StopRequested(2, "a"), 1.0)
    supervision.step(ChildEnded("b", 2, "boom"), 1.0)
    assert supervision.step(ShutdownRequested(), 1.0) == [
        Answer(1, "closing"),
        Answer(2, "closing"),
        Stop("c", 3),
    ]
    assert supervision.step(DeleteRequested(3, "a"), 1.0) == [Answer(3, "closing")]
    assert supervision.step(RetryCame("a", 1), 1.0) == []
    assert supervision.step(ShutdownRequested(), 1.0) == []
    assert supervision.step(ChildEnded("c", 3, "killed"), 1.0) == [Release("c", 3), Release("b", 2), Stop("a", 1)]
    assert supervision.step(ChildEnded("a", 1, "shutdown"), 1.0) == [Release("a", 1), End("requested")]
    assert supervision.step(StopRequested(4, "a"), 1.0) == [Answer(4, "closing")]
    assert supervision.step(ShutdownRequested(), 1.0) == []


def test_who_asks_while_the_first_children_fail_to_start_is_told_so() -> None:
    supervision = Supervision(Policy(), [ChildSpec("a")])
    supervision.step(Begun(), 0.0)
    assert supervision.step(StartRequested(1, ChildSpec("b")), 0.0) == []
    assert supervision.step(ChildEnded("a", 1, "OSError: no"), 0.0) == [
        Answer(1, "closing"),
        Release("a", 1),
        FinishInit("a"),
    ]
