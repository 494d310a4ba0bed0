"""What a supervisor does when its children end: Erlang/OTP's supervisor as a machine.

A supervisor starts its children in order and stops them in reverse. When one ends
that should run, it starts it again, alone (`one_for_one`), with all (`one_for_all`) or with
those that were started after it (`rest_for_one`); when that happens too often, it stops them
all and ends itself, for its own supervisor to decide.

Rules:

- One thing at a time: while children are stopped and started, whatever else happens waits
  its turn, in the order in which it came. Only `ShutdownRequested` does not wait.
- A *permanent* child is always started again, a *transient* one unless it ended with "normal" or
  "shutdown", a *temporary* one never: it leaves the list as soon as it has ended.
- A start that fails counts as one more restart, and is tried again as one.
- What is stopped because of another is started again with it, also when it had ended for good before; who
  is temporary is not.
- The end of a run is made known (`Release`) only when its successor has its name, or when there
  will be none.
- A child that ends by itself, for good, and is *significant*, ends the supervisor as ``auto_shutdown``
  says. Being stopped by the supervisor does not count.

Not promised: that a child's start or stop ever ends; who carries the effects out bounds them.

Reference: the manual of Erlang/OTP 25, supervisor(3). tests/unit/core/supervision_table.py
is run against this machine and against OTP.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import Any

from clusterkit.core.supervision_events import (
    Answer,
    Begun,
    Cause,
    ChildEnded,
    ChildSpec,
    ChildStarted,
    DeleteRequested,
    Effect,
    End,
    Event,
    FinishInit,
    Key,
    Outcome,
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
from clusterkit.errors import ConfigError

NORMAL = ("normal", "shutdown")
"""The reasons of an end that a transient child is not started again for."""


class State(Enum):
    """Where a child is in its life."""

    STOPPED = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    ENDED = auto()  # by itself; what follows from it waits its turn
    RESTARTING = auto()  # its start failed and is tried again


_ALIVE = (State.STARTING, State.RUNNING, State.STOPPING)
_UNDER_WAY = (State.STARTING, State.STOPPING)


class _Child:
    """A child on the list. ``held`` is the run whose end is not made known yet."""

    __slots__ = ("held", "reason", "run", "spec", "state")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state = State.STOPPED
        self.run = 0
        self.held: int | None = None
        self.reason = ""


_Work = Iterable[_Child]  # yields the child whose start or stop it waits for


class Supervision:
    """The decisions of one supervisor over ``children``, in the order of their start.

    >>> supervision = Supervision(Policy(intensity=1), [ChildSpec("a"), ChildSpec("b")])
    >>> supervision.step(Begun(), now=0.0)
    [Start(key='a', run=1)]
    >>> supervision.step(ChildStarted("a", 1), now=0.1)
    [Start(key='b', run=2)]
    >>> supervision.step(ChildStarted("b", 2), now=0.2)
    [FinishInit(failed=None)]
    >>> for effect in supervision.step(ChildEnded("a", 1, "boom"), now=0.3):
    ...     print(effect)
    ReportRestart(key='a', reason='boom', restarts=1)
    Start(key='a', run=3)
    Release(key='a', run=1)
    >>> supervision.step(ChildStarted("a", 3), now=0.4)
    []
    >>> supervision.step(ChildEnded("b", 2, "boom"), now=0.5)
    [Release(key='b', run=2), Stop(key='a', run=3)]
    >>> supervision.step(ChildEnded("a", 3, "shutdown"), now=0.6)
    [Release(key='a', run=3), End(cause='intensity')]
    """

    def __init__(self, policy: Policy, children: Iterable[ChildSpec] = ()) -> None:
        self._policy = policy
        self._children: dict[Key, _Child] = {}
        for spec in children:
            self.check(spec)
            if spec.key in self._children:
                raise ConfigError(f"two children have the name {spec.key!r}")
            self._children[spec.key] = _Child(spec)
        self._now = 0.0
        self._runs = 0
        self._restarts: deque[float] = deque()
        self._closing = False
        self._effects: list[Effect] = []
        self._backlog: deque[Event] = deque()
        self._work: Iterator[_Child] | None = None
        self._awaited: _Child | None = None
        self._request: int | None = None  # the one that the work under way is for
        self._works: dict[type[Event], Callable[[Any], _Work]] = {
            Begun: self._begin,
            ChildEnded: self._react,
            RetryCame: self._retry,
            StartRequested: self._start_requested,
            StopRequested: self._stop_requested,
            RestartRequested: self._restart_requested,
            DeleteRequested: self._delete_requested,
        }

    @property
    def states(self) -> dict[Key, State]:
        """The children on the list, in the order of their start, and where each is."""
        return {key: child.state for key, child in self._children.items()}

    def spec(self, key: Key) -> ChildSpec | None:
        """A child on the list; None for one that is not there, or no more."""
        child = self._children.get(key)
        return None if child is None else child.spec

    def check(self, spec: ChildSpec) -> None:
        """Raise `ConfigError` for a child that this supervisor cannot have."""
        if spec.significant and self._policy.auto_shutdown == "never":
            raise ConfigError(f"child {spec.key!r} is significant, and auto_shutdown is 'never': one of them is wrong")

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event; the effects are carried out in their order, before the next step."""
        self._now = now
        if isinstance(event, ChildStarted):
            self._started(event)
        elif isinstance(event, ShutdownRequested):
            if not self._closing:
                self._work, self._awaited = iter(self._close("requested")), None
        elif isinstance(event, ChildEnded):
            self._ended(event)
        elif self._closing:
            self._refuse(event)
        else:
            self._backlog.append(event)
        self._advance()
        effects, self._effects = self._effects, []
        return effects

    def _advance(self) -> None:
        """Go on with the work under way, then with what waits, until a start or stop is awaited."""
        while self._awaited is None or self._awaited.state not in _UNDER_WAY:
            if self._work is not None:
                self._awaited = next(self._work, None)
                if self._awaited is None:
                    self._work = self._request = None
            elif self._backlog:
                event = self._backlog.popleft()
                self._work = iter(self._works[type(event)](event))
            else:
                return

    # -- what children do

    def _at(self, key: Key, run: int) -> _Child | None:
        child = self._children.get(key)
        return child if child is not None and child.run == run else None

    def _started(self, event: ChildStarted) -> None:
        child = self._at(event.key, event.run)
        if child is not None and child.state is State.STARTING:
            child.state = State.RUNNING

    def _ended(self, event: ChildEnded) -> None:
        child = self._at(event.key, event.run)
        if child is None or child.state not in _ALIVE:
            return
        child.state, child.held, child.reason = State.ENDED, event.run, event.reason
        if self._closing:
            self._release(child)
        else:
            self._backlog.append(event)

    def _react(self, event: ChildEnded) -> _Work:
        child = self._at(event.key, event.run)
        if child is None or child.state is not State.ENDED:
            return  # it was awaited, or was stopped or restarted with others since
        restart = child.spec.restart
        if restart == "permanent" or (restart == "transient" and event.reason not in NORMAL):
            yield from self._restart(child)
            return
        self._retire(child)
        if child.spec.significant and self._is_last():
            yield from self._close("significant")

    def _is_last(self) -> bool:
        """Whether the end of a significant child that has just been retired is the one that the supervisor ends with."""
        return self._policy.auto_shutdown == "any_significant" or not any(
            each.spec.significant and each.state is not State.STOPPED for each in self._children.values()
        )

    def _retry(self, event: RetryCame) -> _Work:
        child = self._at(event.key, event.run)
        return self._restart(child) if child is not None and child.state is State.RESTARTING else ()

    # -- starting and stopping

    def _start(self, child: _Child) -> Generator[_Child, None, bool]:
        self._runs += 1
        child.state, child.run = State.STARTING, self._runs
        self._effects.append(Start(child.spec.key, child.run))
        self._release(child)
        yield child
        return child.state is State.RUNNING

    def _stop(self, child: _Child) -> _Work:
        if child.state in (State.STARTING, State.RUNNING):
            child.state = State.STOPPING
            self._effects.append(Stop(child.spec.key, child.run))
        if child.state is State.STOPPING:
            yield child
        child.state = State.STOPPED

    def _release(self, child: _Child) -> None:
        if child.held is not None:
            self._effects.append(Release(child.spec.key, child.held))
            child.held = None

    def _retire(self, child: _Child) -> None:
        """Nothing runs for a child any more, and nothing is going to."""
        child.state = State.STOPPED
        self._release(child)
        if child.spec.restart == "temporary":
            del self._children[child.spec.key]

    def _begin(self, _: Begun) -> _Work:
        children = list(self._children.values())
        for child in children:
            if not (yield from self._start(child)):
                yield from self._stop_all()
                self._effects.append(FinishInit(child.spec.key))
                return
        self._effects.append(FinishInit())

    def _restart(self, child: _Child) -> _Work:
        if not self._may_restart():
            self._retire(child)
            yield from self._close("intensity")
            return
        self._effects.append(ReportRestart(child.spec.key, child.reason, len(self._restarts)))
        group = self._group(child)
        for each in reversed(group):
            yield from self._stop(each)
            if each.spec.restart == "temporary":
                self._retire(each)
        for each in group:
            if each.spec.restart != "temporary" and not (yield from self._start(each)):
                each.state = State.RESTARTING
                self._effects.append(TryAgain(each.spec.key, each.run))
                return

    def _may_restart(self) -> bool:
        restarts = self._restarts
        while restarts and self._now - restarts[0] > self._policy.period:
            restarts.popleft()
        restarts.append(self._now)
        return len(restarts) <= self._policy.intensity

    def _group(self, child: _Child) -> Sequence[_Child]:
        """Who is started again with a child, in the order of their start."""
        if self._policy.strategy == "one_for_one":
            return [child]
        children = list(self._children.values())
        return children if self._policy.strategy == "one_for_all" else children[children.index(child) :]

    # -- the end

    def _close(self, cause: Cause) -> _Work:
        yield from self._stop_all()
        self._effects.append(End(cause))

    def _stop_all(self) -> _Work:
        self._closing = True
        if self._request is not None:
            self._answer(self._request, "closing")
        for event in self._backlog:
            self._refuse(event)
        self._backlog.clear()
        for child in reversed(list(self._children.values())):
            yield from self._stop(child)
            self._retire(child)

    def _refuse(self, event: Event) -> None:
        if isinstance(event, Request):
            self._answer(event.request, "closing")

    # -- requests

    def _answer(self, request: int, outcome: Outcome) -> None:
        self._request = None
        self._effects.append(Answer(request, outcome))

    def _start_requested(self, event: StartRequested) -> _Work:
        key = event.spec.key
        present = self._children.get(key)
        if present is not None:
            is_at_rest = present.state in (State.STOPPED, State.RESTARTING)
            self._answer(event.request, "already_present" if is_at_rest else "already_started")
            return
        self._request = event.request
        child = self._children[key] = _Child(event.spec)
        started = yield from self._start(child)
        if not started:
            self._retire(child)
            self._children.pop(key, None)
        self._answer(event.request, "ok" if started else "failed")

    def _stop_requested(self, event: StopRequested) -> _Work:
        child = self._children.get(event.key)
        if child is None:
            self._answer(event.request, "not_found")
            return
        self._request = event.request
        if child.state is State.RESTARTING:
            self._give_up_restart()
        yield from self._stop(child)
        self._retire(child)
        self._answer(event.request, "ok")

    def _give_up_restart(self) -> None:
        """The restart that others waited for, who had been stopped for it, is not tried again."""
        for child in self._children.values():
            if child.state is State.STOPPED:
                self._release(child)

    def _restart_requested(self, event: RestartRequested) -> _Work:
        child = self._stopped(event)
        if child is None:
            return
        self._request = event.request
        started = yield from self._start(child)
        if not started:
            self._retire(child)
        self._answer(event.request, "ok" if started else "failed")

    def _delete_requested(self, event: DeleteRequested) -> _Work:
        child = self._stopped(event)
        if child is not None:
            self._release(child)
            del self._children[event.key]
            self._answer(event.request, "ok")
        return ()

    def _stopped(self, event: RestartRequested | DeleteRequested) -> _Child | None:
        """The child that is meant; None, and answered, when it is not there or not stopped."""
        child = self._children.get(event.key)
        if child is not None and child.state is State.STOPPED:
            return child
        outcome: Outcome = "not_found"
        if child is not None:
            outcome = "restarting" if child.state is State.RESTARTING else "running"
        self._answer(event.request, outcome)
        return None
