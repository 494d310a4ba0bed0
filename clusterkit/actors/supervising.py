"""What a supervisor does about its children: the shell around `clusterkit.core.supervision`.

All of it happens in callbacks: of a child's process that ends, of its ``init`` that is over, of timers. So
a supervisor that is busy with a message restarts its children all the same, and there is no task of
its own that could hang or die. Whatever may take time has an end: a start has `Supervisor.start_timeout`
seconds, a stop those of its child; then the child is cancelled, and cancelled again; one that swallows
that too is given up, and the log says so.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from clusterkit.actors.child import Child, ChildInfo
from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.signals import KILLED, SHUTDOWN, reason_text
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
from clusterkit.errors import ConfigError, NameInUse, NoSuchServer, ServerDown, UsageError
from clusterkit.kernel.telemetry import ACTOR_RESTART

if TYPE_CHECKING:
    from clusterkit.actors.process import Process
    from clusterkit.actors.ref import Ref

A = TypeVar("A", bound=GenServer)
logger = logging.getLogger("clusterkit.actors")

_Answered = tuple[Outcome, "Ref[Any] | None", BaseException | None]
_PATIENCE = 5.0  # seconds that a child has to stop
_KILLS = 2  # how often one is cancelled
_KILL_PATIENCE = 4.0  # seconds to end after that; its own tasks may take 3


class _Life:
    """One run of one child."""

    __slots__ = ("child", "error", "has_started", "is_over", "key", "process", "run", "timer")

    def __init__(self, child: Child[Any], key: Key, run: int) -> None:
        self.child = child
        self.key = key
        self.run = run
        self.process: Process | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.error: BaseException | None = None  # why it could not be started
        self.has_started = self.is_over = False

    def clear_timer(self) -> None:
        """Nothing is to happen to it by time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Supervising:
    """One life of one supervisor."""

    def __init__(self, process: Process, policy: Policy, children: Sequence[Child[Any]], start_timeout: float) -> None:
        self._process = process
        self._policy = policy
        self._loop = process.kernel.loop
        self._start_timeout = start_timeout
        self._keys = itertools.count(1)
        self._numbers = itertools.count(1)
        self._machine = Supervision(policy, [self._spec(child) for child in children])
        self._lives: dict[Key, _Life] = {}  # the latest of each child
        self._held: dict[int, Process] = {}  # ended, and not made known yet
        self._failed: _Life | None = None  # the start that failed last
        self._events: deque[Event] = deque()
        self._is_stepping = False
        self._requests: dict[int, tuple[Key, asyncio.Future[_Answered]]] = {}
        self._begun: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._effects: dict[type[Effect], Callable[[Any], None]] = {
            Start: self._start,
            Stop: self._stop,
            Release: self._release,
            ReportRestart: self._report,
            TryAgain: self._try_again,
            Answer: self._answer,
            FinishInit: self._finish_init,
            End: self._end,
        }
        self._insistence: asyncio.TimerHandle | None = None
        assert process.task is not None
        process.task.add_done_callback(lambda _: self._abandon())

    def _spec(self, child: Child[Any]) -> ChildSpec:
        if not isinstance(child, Child):
            raise ConfigError(f"{self.shown} is given {child!r}: children are given as Child(factory, ...)")
        return child.spec(child.name or next(self._keys))

    @property
    def shown(self) -> str:
        """What to call the supervisor in a message to people."""
        return self._process.mailbox.shown

    @property
    def is_over(self) -> bool:
        """Whether the supervisor has ended, in whatever way; what it left behind is being cancelled then."""
        return self._process.actor._clusterkit_process is not self._process  # noqa: SLF001 - the runtime's own mark

    # -- what the supervisor is asked

    async def begin(self) -> None:
        """Start the first children; raises what the start of one raised."""
        self._happen(Begun())
        if (error := await self._begun) is not None:
            raise error

    async def close(self) -> None:
        """Stop all children."""
        self._happen(ShutdownRequested())
        await self._closed

    async def start(self, child: Child[A]) -> Ref[A]:
        """Start a further child."""
        spec = self._spec(child)
        self._machine.check(spec)
        ref: Ref[A] = await self._ask(spec.key, lambda number: StartRequested(number, spec))
        return ref

    async def stop(self, which: str | Ref[Any]) -> None:
        """Stop a child."""
        key = self._find(which)
        await self._ask(key, lambda number: StopRequested(number, key))

    async def restart(self, which: str | Ref[Any]) -> Ref[Any]:
        """Start a child that does not run."""
        key = self._find(which)
        ref: Ref[Any] = await self._ask(key, lambda number: RestartRequested(number, key))
        return ref

    async def delete(self, which: str | Ref[Any]) -> None:
        """Strike a child off the list."""
        key = self._find(which)
        await self._ask(key, lambda number: DeleteRequested(number, key))

    async def _ask(self, key: Key, request: Callable[[int], Request]) -> Any:
        """Ask the machine; returns the `Ref` of the child's latest process, if it had one."""
        number = next(self._numbers)
        answered: asyncio.Future[_Answered] = self._loop.create_future()
        self._requests[number] = key, answered
        self._happen(request(number))
        outcome, ref, error = await answered
        if error is not None:
            raise error
        if outcome != "ok":
            self._refuse(key, outcome)
        return ref

    def _refuse(self, key: Key, outcome: Outcome) -> NoReturn:
        child = f"child {key!r}" if isinstance(key, str) else f"child number {key}"
        if outcome == "closing":
            raise ServerDown(f"supervisor {self.shown} is stopping", target=self.shown)
        if outcome == "not_found":
            raise NoSuchServer(f"supervisor {self.shown} has no {child}", target=str(key))
        if outcome in ("already_started", "already_present"):
            raise NameInUse(f"supervisor {self.shown} has a {child} already")
        raise UsageError(f"{child} of supervisor {self.shown} is {outcome}: stop it first")

    def _find(self, which: str | Ref[Any]) -> Key:
        """The child that is meant: by its name, or by the `Ref` of its latest process."""
        if isinstance(which, str):
            return which
        address = which.address_for(self._process.kernel)
        if address.node is None:
            if isinstance(address.to, str):
                return address.to
            for key, life in self._lives.items():
                if life.process is not None and life.process.mailbox.serial == address.to:
                    return key
        raise NoSuchServer(f"supervisor {self.shown} has no child {which!r}", target=str(address))

    def list(self) -> tuple[ChildInfo, ...]:
        """All children, in the order of their start."""
        return tuple(self._info(key, state) for key, state in self._machine.states.items())

    def _info(self, key: Key, state: State) -> ChildInfo:
        spec, life = self._machine.spec(key), self._lives.get(key)
        assert spec is not None
        lives = state in (State.STARTING, State.RUNNING, State.STOPPING)
        ref = life.process.ref if lives and life is not None and life.process is not None else None
        return ChildInfo(spec.what.name, ref, state.name.lower(), spec.restart, spec.significant)

    # -- the machine

    def _happen(self, event: Event) -> None:
        if self.is_over:
            return
        self._events.append(event)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._events:
                for effect in self._machine.step(self._events.popleft(), self._loop.time()):
                    self._effects[type(effect)](effect)
        finally:
            self._is_stepping = False

    def _start(self, effect: Start) -> None:
        spec = self._machine.spec(effect.key)
        assert spec is not None
        life = self._lives[effect.key] = _Life(spec.what, effect.key, effect.run)
        try:
            actor = life.child.factory()
            if not isinstance(actor, GenServer):
                raise UsageError(f"the factory of child {life.child.shown!r} made {actor!r}, which is no GenServer")
            process = self._process.node._spawn(  # noqa: SLF001 - the runtime's own
                actor, life.child.name, parent=self._process, on_end=partial(self._ended, life)
            )
        except Exception as error:  # noqa: BLE001 - a start that failed, like any other
            life.error, life.is_over = error, True
            self._events.append(self._not_started(life))
            return
        life.process = process
        life.timer = self._loop.call_later(self._start_timeout, self._start_is_late, life)
        process.started.add_done_callback(lambda _: self._init_is_over(life))

    def _init_is_over(self, life: _Life) -> None:
        """A child runs now; one whose start failed says so by its end."""
        if life.has_started or life.error is not None or not _has_started(life):
            return  # one that is late is being cancelled, and has failed
        life.has_started = True
        life.clear_timer()
        self._happen(ChildStarted(life.key, life.run))

    def _not_started(self, life: _Life) -> ChildEnded:
        assert life.error is not None
        self._failed = life
        logger.warning("supervisor %s: %s could not be started: %s", self.shown, life.child.shown, life.error)
        return ChildEnded(life.key, life.run, reason_text(life.error))

    def _ended(self, life: _Life, process: Process, reason: object) -> bool:
        """Take the end of a child's process, before others hear of it; True when they are not to yet."""
        life.clear_timer()
        if self.is_over or life.is_over:
            return False
        life.is_over = True
        self._held[life.run] = process
        self._init_is_over(life)
        if life.has_started:
            self._happen(ChildEnded(life.key, life.run, reason_text(reason)))
        else:
            life.error = life.error or _why(process)
            self._happen(self._not_started(life))
        return life.run in self._held

    def _abandon(self) -> None:
        """Leave nothing behind; nobody is kept waiting by a supervisor that was cancelled."""
        for process in self._held.values():
            process.release()
        self._held.clear()
        for life in self._lives.values():
            life.clear_timer()
        if self._insistence is not None:
            self._insistence.cancel()
        for _, answered in self._requests.values():
            if not answered.done():
                answered.set_result(("closing", None, None))
        self._requests.clear()

    def _release(self, effect: Release) -> None:
        if (process := self._held.pop(effect.run, None)) is not None:
            process.release()
        self._forget(effect.key)

    def _forget(self, key: Key) -> None:
        if self._machine.spec(key) is None:
            self._lives.pop(key, None)

    # -- what takes its time

    def _start_is_late(self, life: _Life) -> None:
        nested = _nested(life.process)
        if nested is not None and nested.is_starting:
            life.timer = self._loop.call_later(self._start_timeout, self._start_is_late, life)
            return
        life.error = TimeoutError(f"init of {life.child.shown} took longer than {self._start_timeout:g} s")
        self._kill(life)

    @property
    def is_starting(self) -> bool:
        """Whether the first children are being started, each of which has its own time."""
        return not self._begun.done() and bool(self._lives)

    def _stop(self, effect: Stop) -> None:
        life = self._lives[effect.key]
        assert life.process is not None
        if life.is_over:
            return  # it started and ended in one go: its end is told next
        life.clear_timer()
        patience = _patience(life)
        if not patience:
            self._kill(life)
            return
        life.process.stop(SHUTDOWN, drain=_nested(life.process) is None)
        life.timer = self._loop.call_later(patience, self._kill, life)

    @property
    def patience(self) -> float:
        """Seconds that the supervisor may take to stop."""
        return _PATIENCE + sum(
            _patience(life) + _KILLS * _KILL_PATIENCE for life in self._lives.values() if not life.is_over
        )

    def _kill(self, life: _Life, times: int = 0) -> None:
        assert life.process is not None
        if times < _KILLS:
            life.process.kill()
            life.timer = self._loop.call_later(_KILL_PATIENCE, self._kill, life, times + 1)
            return
        logger.error("supervisor %s: %s does not end: it swallows its cancellation", self.shown, life.child.shown)
        life.is_over = True
        self._happen(self._not_started(life) if life.error else ChildEnded(life.key, life.run, KILLED))

    def _try_again(self, effect: TryAgain) -> None:
        self._loop.call_soon(self._happen, RetryCame(effect.key, effect.run))

    # -- who is told

    def _report(self, effect: ReportRestart) -> None:
        shown = self._lives[effect.key].child.shown
        kernel = self._process.kernel
        kernel.counters["restarts"] += 1
        logger.warning(
            "supervisor %s restarts %s (%d of at most %d in %g s): %s",
            self.shown,
            shown,
            effect.restarts,
            self._policy.intensity,
            self._policy.period,
            effect.reason,
        )
        meta = {"supervisor": self.shown, "child": shown, "reason": effect.reason}
        kernel.telemetry.tell(ACTOR_RESTART, {"restarts": effect.restarts}, meta)

    def _answer(self, effect: Answer) -> None:
        key, answered = self._requests.pop(effect.request)
        life = self._lives.get(key)
        ref = life.process.ref if life is not None and life.process is not None else None
        error = self._failed.error if effect.outcome == "failed" and self._failed is not None else None
        self._forget(key)
        if not answered.done():
            answered.set_result((effect.outcome, ref, error))

    def _finish_init(self, effect: FinishInit) -> None:
        error = None
        if effect.failed is not None and self._failed is not None and self._failed.error is not None:
            error = self._failed.error
            error.add_note(f"supervisor {self.shown} could not start its child {self._failed.child.shown}")
        if not self._begun.done():
            self._begun.set_result(error)

    def _end(self, effect: End) -> None:
        self._closed.set_result(None)
        if effect.cause == "requested":
            return
        if effect.cause == "intensity":
            policy = self._policy
            logger.error(
                "supervisor %s gives up: more than %d restarts in %g s", self.shown, policy.intensity, policy.period
            )
        self._process.stop(SHUTDOWN, drain=False)
        # a handler of the supervisor's own may keep it from ending
        self._insistence = self._loop.call_later(_PATIENCE, self._process.kill)


def _nested(process: Process | None) -> Supervising | None:
    """What a child supervises, if it is a supervisor."""
    found = getattr(process.actor, "_clusterkit_supervising", None) if process is not None else None
    return found if isinstance(found, Supervising) and found._process is process else None  # noqa: SLF001 - its own class


def _has_started(life: _Life) -> bool:
    started = life.process.started if life.process is not None else None
    return started is not None and started.done() and started.exception() is None


def _patience(life: _Life) -> float:
    """Seconds that a child has to stop."""
    if life.child.shutdown is not None:
        return life.child.shutdown
    nested = _nested(life.process)
    return _PATIENCE if nested is None else nested.patience


def _why(process: Process) -> BaseException:
    """Why a process could not be started."""
    error = process.started.exception() if process.started.done() else None
    return error or RuntimeError("it was cancelled before it began")
