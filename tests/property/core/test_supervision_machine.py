"""The supervisor's machine under events in any order: nothing runs twice, is forgotten, or outlives it."""

from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clusterkit.core.supervision import State, Supervision
from clusterkit.core.supervision_events import (
    Answer,
    Begun,
    ChildEnded,
    ChildSpec,
    ChildStarted,
    DeleteRequested,
    Effect,
    End,
    FinishInit,
    Policy,
    Release,
    ReportRestart,
    Request,
    RestartRequested,
    RetryCame,
    ShutdownRequested,
    Start,
    StartRequested,
    Stop,
    StopRequested,
    TryAgain,
)
from tests.unit.core.supervision_rehearsal import rehearse
from tests.unit.core.supervision_table import random_row

KEYS = st.sampled_from("abcde")
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
REASONS = st.sampled_from(["normal", "shutdown", "killed", "ValueError: boom"])


@pytest.mark.parametrize("batch", range(4))
def test_random_scripts_leave_nothing_behind(batch: int) -> None:
    """What is always true is asserted by the rehearsal at each effect; every script ends with a shutdown."""
    for seed in range(batch * 1000, (batch + 1) * 1000):
        seen = rehearse(random_row(seed))
        assert any(step.endswith(("end", "refused")) for step in seen), seed


class Supervising(RuleBasedStateMachine):
    """Children that start, end and crash when hypothesis says so, also while others do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.live: dict[int, str] = {}  # runs that were started and have not ended
        self.up: dict[int, None] = {}  # runs whose start succeeded
        self.stopping: dict[int, None] = {}
        self.held: dict[int, str] = {}
        self.retries: deque[RetryCame] = deque()
        self.open: dict[int, None] = {}
        self.requests = 0
        self.restarts: list[float] = []
        self.over = self.shutting = False

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        intensity=st.integers(0, 4),
        auto_shutdown=st.sampled_from(["never", "any_significant", "all_significant"]),
        children=st.dictionaries(KEYS, st.tuples(RESTARTS, st.booleans()), max_size=5),
    )
    def begin(self, strategy: Any, intensity: int, auto_shutdown: Any, children: dict[str, tuple[Any, bool]]) -> None:
        self.policy = Policy(strategy, intensity, 5.0, auto_shutdown)
        specs = [self.spec(key, restart, significant) for key, (restart, significant) in children.items()]
        self.machine = Supervision(self.policy, specs)
        self.step(Begun())

    def spec(self, key: str, restart: Any, significant: bool) -> ChildSpec:
        fits = significant and restart != "permanent" and self.policy.auto_shutdown != "never"
        return ChildSpec(key, restart, fits)

    # -- what the shell does

    def step(self, event: Any) -> None:
        for effect in self.machine.step(event, self.now):
            self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:
        assert not self.over or isinstance(effect, Answer)
        match effect:
            case Start(key, run):
                assert key not in self.live.values()
                assert not self.shutting
                self.live[run] = str(key)
            case Stop(key, run):
                assert self.live[run] == key
                assert run not in self.stopping
                self.stopping[run] = None
            case Release(key, run):
                assert self.held.pop(run) == key
            case TryAgain(key, run):
                self.retries.append(RetryCame(key, run))
            case ReportRestart(_, _, restarts):
                self.restarts = [at for at in self.restarts if self.now - at <= self.policy.period] + [self.now]
                assert restarts == len(self.restarts) <= self.policy.intensity
            case Answer(request, _):
                del self.open[request]
            case FinishInit(failed):
                self.over = failed is not None
            case End(_):
                self.over = True

    def ended(self, run: int, reason: str) -> None:
        key = self.live.pop(run)
        self.up.pop(run, None)
        self.stopping.pop(run, None)
        self.held[run] = key
        self.step(ChildEnded(key, run, reason))

    # -- what happens

    @precondition(lambda self: bool(set(self.live) - set(self.up)))
    @rule(data=st.data())
    def a_start_succeeds(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(sorted(set(self.live) - set(self.up))))
        self.up[run] = None
        self.step(ChildStarted(self.live[run], run))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), reason=REASONS)
    def one_ends(self, data: st.DataObject, reason: str) -> None:
        self.ended(data.draw(st.sampled_from(sorted(self.live))), reason)

    @precondition(lambda self: self.stopping)
    @rule(reason=st.sampled_from(["shutdown", "killed"]))
    def a_stop_is_over(self, reason: str) -> None:
        self.ended(next(iter(self.stopping)), reason)

    @precondition(lambda self: self.retries)
    @rule()
    def a_retry_comes(self) -> None:
        self.step(self.retries.popleft())

    @rule(kind=st.sampled_from([StopRequested, RestartRequested, DeleteRequested]), key=KEYS)
    def one_is_asked_for(self, kind: Any, key: str) -> None:
        self.ask(kind(self.requests, key))

    @rule(key=KEYS, restart=RESTARTS, significant=st.booleans())
    def a_further_one_is_asked_for(self, key: str, restart: Any, significant: bool) -> None:
        self.ask(StartRequested(self.requests, self.spec(key, restart, significant)))

    def ask(self, request: Request) -> None:
        self.open[request.request] = None
        self.requests += 1
        self.step(request)

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.shutting)
    @rule(really=st.sampled_from([False, False, False, True]))
    def it_is_stopped(self, really: bool) -> None:
        if really:
            self.shutting = True
            self.step(ShutdownRequested())

    # -- what is always true

    @invariant()
    def nothing_outlives_it(self) -> None:
        if self.over:
            assert not self.live
            assert not self.held
            assert not self.open

    @invariant()
    def it_waits_only_for_what_is_under_way(self) -> None:
        is_busy = bool(self.stopping or set(self.live) - set(self.up))
        assert is_busy or not self.open, "a request waits for nothing"
        assert is_busy or self.retries or not self.held, "an end is held back for nothing"

    @invariant()
    def its_list_is_what_runs(self) -> None:
        states = self.machine.states
        for run, key in self.live.items():
            assert states[key] in (State.STARTING, State.RUNNING, State.STOPPING), run
        alive = [key for key, state in states.items() if state in (State.STARTING, State.RUNNING, State.STOPPING)]
        assert sorted(map(str, alive)) == sorted(self.live.values())

    def teardown(self) -> None:
        """Whatever happened before: once stopped, it comes to its end."""
        self.step(ShutdownRequested())
        for _ in range(100):
            if self.over:
                break
            self.ended(next(iter(self.stopping)), "shutdown")
        assert self.over
        self.nothing_outlives_it()


TestSupervising = Supervising.TestCase
TestSupervising.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
