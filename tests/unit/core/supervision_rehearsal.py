"""A row of the table, played to the pure machine: children that are only names."""

from collections import Counter, deque
from typing import Any

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
    Event,
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
from tests.unit.core.supervision_table import Row, TableChild, child_of

_REQUESTS: dict[str, Any] = {"stop": StopRequested, "restart": RestartRequested, "delete": DeleteRequested}


def rehearse(row: Row) -> list[str]:
    """What is seen at each step."""
    return Rehearsal(row).play()


class Rehearsal:
    """Children and requesters of one machine, with what is always true checked at each effect."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.now = 0.0
        self.machine: Supervision | None = None
        self.alive: dict[str, int] = {}
        self.ended: dict[int, str] = {}  # runs whose end is not released
        self.stubborn: dict[str, bool] = {}
        self.fails: Counter[str] = Counter()
        self.hooks: dict[tuple[str, str], tuple[str, str]] = {}
        self.events: deque[Event] = deque()
        self.seen: list[str] = []
        self.answer = self.last = ""

    def play(self) -> list[str]:
        return [self._play(step) for step in self.row.steps]

    def _play(self, step: list[str]) -> str:
        self.seen, self.answer, self.last = [], "", ""
        match step:
            case ["begin"]:
                self._begin()
            case ["wait", seconds]:
                self.now += float(seconds)
            case [name, "fails", times]:
                self.fails[name] = int(times)
            case ["when", name, verb, other, "ends", reason]:
                self.hooks[name, verb] = (other, reason)
            case _ if self.machine is None:
                return ""
            case ["list"]:
                self.seen = [
                    f"({key})" if state is State.STOPPED else str(key) for key, state in self.machine.states.items()
                ]
            case ["shutdown"]:
                self._happen(ShutdownRequested())
            case [name, "ends", reason]:
                self._end(name, reason)
            case ["start", *words]:
                self._request_start(child_of(words))
            case [verb, name]:
                self._happen(_REQUESTS[verb](1, name))
        return " ".join(mark for mark in [*self.seen, self.answer, self.last] if mark)

    def _begin(self) -> None:
        row: Any = self.row
        try:
            policy = Policy(row.strategy, row.intensity, row.period, row.auto_shutdown)
            self.machine = Supervision(policy, [self._spec(child) for child in self.row.specs])
        except ConfigError:
            self.last = "invalid"
            return
        self._happen(Begun())

    def _spec(self, child: TableChild) -> ChildSpec:
        restart: Any = child.restart
        return ChildSpec(child.name, restart, child.significant)

    def _request_start(self, child: TableChild) -> None:
        assert self.machine is not None
        try:
            spec = self._spec(child)
            self.machine.check(spec)
        except ConfigError:
            self.answer = "=invalid"
            return
        self._happen(StartRequested(1, spec))

    def _end(self, name: str, reason: str, mark: str = "") -> None:
        run = self.alive.pop(name, None)
        if run is not None:
            self.seen += [mark] if mark else []
            self._ended(name, run, reason)

    def _ended(self, name: str, run: int, reason: str) -> None:
        self.ended[run] = name
        self._happen(ChildEnded(name, run, reason))

    def _happen(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) > 1:
            return  # whoever plays the first one plays this one too
        while self.events:
            if self.machine is not None:
                for effect in self.machine.step(self.events[0], self.now):
                    self._carry_out(effect)
            self.events.popleft()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Start(key, run):
                self._start(str(key), run)
            case Stop(key, run):
                self._stop(str(key), run)
            case Release(key, run):
                assert self.ended.pop(run) == key, "what is released ended, once"
            case TryAgain(key, run):
                self.events.append(RetryCame(key, run))
            case Answer(_, outcome):
                self.answer = f"={outcome}"
            case FinishInit(None) | ReportRestart():
                pass
            case FinishInit(_) | End(_):
                assert not self.alive, "nothing outlives a supervisor"
                assert not self.ended, "every end is made known"
                self.last = "end" if isinstance(effect, End) else "refused"
                self.machine = None

    def _start(self, name: str, run: int) -> None:
        assert name not in self.alive, "a child runs once"
        if self.fails[name]:
            self.fails[name] -= 1
            self.seen.append(f"!{name}")
            self._ended(name, run, "cannot")
            return
        self.seen.append(f"+{name}")
        self.alive[name] = run
        self._hook(name, "starts")
        self._happen(ChildStarted(name, run))

    def _stop(self, name: str, run: int) -> None:
        assert self.alive.pop(name) == run, "who is stopped runs"
        stubborn = name in [child.name for child in self.row.specs if child.stubborn]
        self.seen.append(f"x{name}" if stubborn else f"-{name}")
        self._hook(name, "stops")
        self._ended(name, run, "shutdown")

    def _hook(self, name: str, verb: str) -> None:
        other, reason = self.hooks.pop((name, verb), ("", ""))
        if other != name:
            self._end(other, reason, mark=f"~{other}")
