"""An event loop on virtual time, decided by a seed.

Nothing waits: when no callback is ready, the clock jumps to the next deadline. So an
hour of heartbeats runs in the time its callbacks take, and one seed runs the same way
twice. The order is asyncio's own: ready callbacks first in, first out. Only where
asyncio leaves the order open, between timers of equal deadlines, the seed decides.

Rules. No descriptor, no thread, no signal: what would need one raises `UsageError`
and names the seam in `clusterkit.runtime` (an executor's real milliseconds are an
eternity here: all timeouts would fire first). What would hang elsewhere is an error
here: `Deadlock` when nothing is left to happen while somebody waits, `Livelock` when
callbacks go on and no time passes, `OutOfTime` when ``limit`` is passed.

``_ready``, ``_run_once`` and ``_timer_handle_cancelled`` are private to asyncio: this
file alone touches them, and tests/unit/testing/test_loop.py holds them to asyncio's
documented order.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple

from clusterkit.errors import ClusterError, UsageError
from clusterkit.testing.environment import SimulatedEnvironment
from clusterkit.testing.leaks import check_leaks, waiting_tasks
from clusterkit.testing.machine import Machine, context_of, machine_of
from clusterkit.testing.trace import Trace

if TYPE_CHECKING:
    from collections import deque

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
HOUR = 3600.0
_MOST_TURNS = 500_000  # in one instant; a second of real time, more or less
_FEW_TIMERS = 100  # below this many, cancelled timers are not worth a sweep


class Deadlock(ClusterError, RuntimeError):
    """Tasks wait and nothing is scheduled that could wake them; the text lists them."""


class Livelock(ClusterError, RuntimeError):
    """Callbacks follow on callbacks and no time passes; the text names the next ones."""


class OutOfTime(ClusterError, RuntimeError):
    """The simulation passed its limit of virtual time; the text lists the waiting tasks."""


class SimulationLoop(asyncio.BaseEventLoop):
    """A seeded loop on virtual time, in seconds from 0.

    >>> loop = SimulationLoop(seed=7)
    >>> loop.run_until_complete(asyncio.sleep(600, "ten minutes later"))
    'ten minutes later'
    >>> loop.time()
    600.0
    >>> loop.close()
    """

    _ready: "deque[asyncio.Handle]"
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, seed: int = 0, *, limit: float = HOUR) -> None:
        self._now = 0.0
        super().__init__()
        self.seed = seed
        self.limit = limit
        self.trace = Trace(self.time)
        self.environment = SimulatedEnvironment(seed, self.time)
        self.open: dict[object, str] = {}
        """What the network has open, each with its name: streams and listeners."""
        self.wire = Context()
        """The context of what the network carries: it belongs to no machine and no test."""
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._number = itertools.count()
        self._chance = random.Random(f"{seed}:timers").random  # noqa: S311 - a simulation's chance
        self._halted: dict[Machine, None] = {}
        self._turns = 0  # since the clock moved

    def __repr__(self) -> str:
        return f"<SimulationLoop seed={self.seed} time={self._now:.6f}>"

    # -- time and order ---------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at a point of virtual time; equal points in an order that the seed decides."""
        if self.is_closed():
            raise RuntimeError("the simulation's loop is closed")
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self._chance(), next(self._number), timer))
        timer._scheduled = True  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
        return timer

    def timers(self) -> Iterator[asyncio.TimerHandle]:
        """The timers that a test must end, in no order: not those of the wire."""
        return (timer for *_, timer in self._timers if context_of(timer) is not self.wire)

    def _run_once(self) -> None:
        if self._timer_cancelled_count:
            self._drop_cancelled()
        if not self._ready and not self._stopping:
            self._jump()
        ready, timers = self._ready, self._timers
        while timers and timers[0][0] <= self._now:
            ready.append(self._pop_timer())
        self._count_turn()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not (handle._cancelled or (self._halted and self._hold(handle))):  # noqa: SLF001
                handle._run()  # noqa: SLF001
        handle = None  # type: ignore[assignment]  # the last one's exception must not keep it alive

    def _jump(self) -> None:
        if not self._timers:
            raise Deadlock(f"nothing is scheduled at {self._now:.6f} s of virtual time, and {self._waiting()}")
        if self._timers[0][0] > self.limit:
            raise OutOfTime(f"the limit of {self.limit:g} s of virtual time is reached, and {self._waiting()}")
        if self._timers[0][0] > self._now:
            self._now, self._turns = self._timers[0][0], 0

    def _count_turn(self) -> None:
        self._turns += 1
        if self._turns > _MOST_TURNS:
            self._turns = 0
            following = ", ".join(map(repr, itertools.islice(self._ready, 5)))
            raise Livelock(f"{_MOST_TURNS} turns at {self._now:.6f} s of virtual time; next: {following}")

    def _pop_timer(self) -> asyncio.TimerHandle:
        timer = heapq.heappop(self._timers)[-1]
        timer._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
        return timer

    def _drop_cancelled(self) -> None:
        if len(self._timers) > _FEW_TIMERS and self._timer_cancelled_count * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[-1].cancelled()]
            heapq.heapify(self._timers)
            self._timer_cancelled_count = 0
        while self._timers and self._timers[0][-1].cancelled():
            self._pop_timer()
            self._timer_cancelled_count -= 1

    def _waiting(self) -> str:
        held = [f"  machine {each.name} is halted, with {len(each.held)} callbacks held" for each in self._halted]
        tasks = waiting_tasks(self)
        return "\n".join([f"{len(tasks)} tasks wait:", *(f"  {task}" for task in tasks), *held])

    # -- machines ---------------------------------------------------------------

    def halt(self, machine: Machine) -> None:
        """Hold back all that belongs to ``machine`` from now on."""
        machine.halted = True
        self._halted[machine] = None

    def resume(self, machine: Machine) -> None:
        """Let ``machine`` go on: what was held runs now, late, in its old order."""
        machine.halted = False
        self._halted.pop(machine, None)
        self._ready.extend(machine.held)
        machine.held.clear()

    def wind_up(self) -> None:
        """The simulation is over: let halted machines go on, and cleaning up take an hour more."""
        self.limit = self._now + HOUR
        for machine in list(self._halted):
            self.resume(machine)

    def _hold(self, handle: asyncio.Handle) -> bool:
        machine = machine_of(handle)
        if machine is None or not machine.halted:
            return False
        machine.held.append(handle)
        return True

    # -- what a BaseEventLoop must have -----------------------------------------

    def close(self) -> None:
        """Drop all timers, then close as every loop does."""
        self._timers.clear()
        for machine in self._halted:
            machine.held.clear()
        super().close()

    def _write_to_self(self) -> None:
        """Nothing to wake: this loop never sleeps."""

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing comes from outside."""


def _outside(method: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise UsageError(f"loop.{method}() reaches outside the simulation: use {instead}")

    return refuse


_INSTEAD = {
    "clusterkit.runtime.in_thread": "run_in_executor",
    "clusterkit.runtime.resolve": "getaddrinfo getnameinfo",
    "the network that the simulation gives you": "create_connection create_server create_datagram_endpoint "
    "create_unix_connection create_unix_server connect_accepted_socket sock_recv sock_recv_into sock_sendall "
    "sock_connect sock_accept add_reader remove_reader add_writer remove_writer",
    "clusterkit.testing.ProcessCluster": "subprocess_exec subprocess_shell connect_read_pipe connect_write_pipe",
    "a real loop": "add_signal_handler",
}
for _instead, _methods in _INSTEAD.items():
    for _method in _methods.split():
        setattr(SimulationLoop, _method, _outside(_method, _instead))


def running_simulation() -> SimulationLoop:
    """The simulation that the caller runs in; raises `UsageError` on any other loop."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimulationLoop):
        return loop
    raise UsageError(
        f"this needs virtual time, but the loop is a {type(loop).__name__}: mark the test with "
        "@pytest.mark.simulation(seed=7), or run it with clusterkit.testing.simulate(main, seed=7)"
    )


def simulate(main: Callable[..., Coroutine[Any, Any, T]], *args: Any, seed: int = 0, limit: float = HOUR) -> T:
    """Run ``main(*args)`` in a simulation of its own, and return its result.

    A run that fails carries a note with its seed. Raises `LeakError` for tasks,
    timers or streams that ``main`` left behind, `Deadlock` and `OutOfTime`.

    >>> async def main():
    ...     await asyncio.sleep(3599)
    ...     return asyncio.get_running_loop().time()
    >>> simulate(main, seed=7)
    3599.0
    """
    loop = SimulationLoop(seed, limit=limit)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner, contextlib.ExitStack() as stack:
            stack.callback(loop.wind_up)
            result = runner.run(main(*args))
            check_leaks(runner)
            return result
    except BaseException as error:
        error.add_note(f"simulation: seed {seed}; the same seed fails the same way")
        raise
