"""The watchdog: a thread that sees the loop stand still, and says which handler holds it.

The loop ticks four times in ``limit`` seconds; the thread sleeps until a tick would be
``limit`` late. Then it looks which task runs, at which line, and logs that at once: the
loop may never come back. When the loop ticks again it tells ``clusterkit.loop.lag`` how
late the tick was. One report of each for one stall.

Not every stall is a handler's fault. A thread that itself overslept was held up too:
if the process used its processor meanwhile, something kept the interpreter's lock (the
one that runs is to blame); if it did not, the process was stopped, or had no processor.

Rules: the thread shares four plain attributes with the loop and touches nothing else
of the node; it ends with the watchdog, or with its loop; in a simulation there is none.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

from clusterkit.kernel.telemetry import LOOP_LAG, Telemetry
from clusterkit.runtime import Daemon, is_simulated, machine_time, processor_time

logger = logging.getLogger("clusterkit.watchdog")

Cause = Literal["blocked", "gil", "stopped"]
Find = Callable[[asyncio.Task[Any]], tuple[str, str] | None]

_TICKS = 4  # in one limit
_SHORTEST = 0.005  # seconds between two ticks at the least: a tick takes some 20 us
_IDLE = 0.25  # a process that uses less of the time than this did not run
_FRAMES = 16  # the innermost
_MOST_TEXT = 4096  # characters of a stack
_LOOP_CODE = asyncio.Handle._run.__code__  # from here outwards it is the loop's own


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the thread found while the tick of ``due`` did not come."""

    due: float
    cause: Cause
    handler: str | None = None
    server: str | None = None
    task: str | None = None
    calls: tuple[traceback.FrameSummary, ...] = ()

    @property
    def stack(self) -> str:
        """The calls as in a traceback, with their lines of source."""
        return "".join(traceback.StackSummary.from_list(self.calls).format())[-_MOST_TEXT:]

    def __str__(self) -> str:
        if self.server is not None:
            return f"{self.handler} of {self.server}"
        return "something" if self.task is None else f"task {self.task}"


class Watchdog:
    """Watches the loop that it was started on. ``whose`` is the node's name.

    ``find`` is asked, from the thread, for the server and the handler of a task.
    """

    def __init__(self, limit: float, whose: str, telemetry: Telemetry, find: Find) -> None:
        self.stalls = 0
        """How often the loop stood still for longer than ``limit`` seconds."""
        self._limit = limit
        self._interval = max(limit / _TICKS, _SHORTEST)
        self._whose = whose
        self._telemetry = telemetry
        self._find = find
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._timer: asyncio.TimerHandle | None = None
        self._used = 0.0  # processor time at the last tick
        self._daemon: Daemon | None = None
        # Shared with the thread:
        self._due = 0.0  # machine time of the next tick; it names a stall. The loop writes it
        self._judged = -1.0  # the due at which the thread has looked, or looks now
        self._paused = -1.0  # the due at which it found that the loop does not run
        self._seen: _Seen | None = None  # what it found

    def start(self) -> None:
        """Begin to watch; does nothing in a simulation, where no time passes while a handler runs."""
        if is_simulated():
            return
        self._expect()
        self._daemon = Daemon(f"clusterkit/{self._whose}/watchdog", self._watch)

    def close(self) -> None:
        """End the thread. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    # -- on the loop

    def _expect(self) -> None:
        self._used = processor_time()
        self._due = machine_time() + self._interval
        self._timer = self._loop.call_later(self._interval, self._tick)

    def _tick(self) -> None:
        due, late = self._due, machine_time() - self._due
        used = processor_time() - self._used
        self._expect()
        if late < self._limit or self._paused == due:
            return
        if (seen := self._seen) is not None and seen.due == due:
            logger.info("the loop of node %s goes on after %.2f s", self._whose, late)
            self._tell(late, seen)
        elif self._judged == due:  # the thread looks at this moment, too late
            self._report(late, _Seen(due, "blocked"))
        elif late >= self._limit + self._interval:  # it had no chance to look: it stood still as well
            self._report(late, _Seen(due, "stopped" if used < late * _IDLE else "gil"))

    def _report(self, late: float, seen: _Seen) -> None:
        self._log(late, seen)
        self._tell(late, seen)

    def _tell(self, late: float, seen: _Seen) -> None:
        self.stalls += 1
        self._telemetry.tell(
            LOOP_LAG,
            {"seconds": late},
            {
                "handler": seen.handler,
                "server": seen.server,
                "task": seen.task,
                "cause": seen.cause,
                "stack": seen.stack,
            },
        )

    # -- on the thread

    def _watch(self, wait: Callable[[float], bool]) -> None:
        asked, used, pause = machine_time(), processor_time(), self._limit
        while not wait(pause) and not self._loop.is_closed():
            woke = machine_time()
            overslept = woke - asked - pause
            worked = processor_time() - used
            try:
                pause = self._look(woke, overslept, idle=worked < overslept * _IDLE)
            except Exception:
                logger.exception("the watchdog of node %s could not look", self._whose)
                pause = self._limit
            asked, used = machine_time(), processor_time()

    def _look(self, woke: float, overslept: float, *, idle: bool) -> float:
        """Look whether the loop stands still; return how long to sleep now."""
        due = self._due
        late = woke - due
        if late < self._limit:
            return self._limit - late
        if due == self._judged:
            return self._limit
        if overslept > self._interval and idle:
            return self._interval  # the whole process stood still: the loop, too, may go on any moment
        if not self._loop.is_running():
            self._paused = due  # between two runs of a loop there is no stall
            return self._limit
        self._judged = due
        task, calls = asyncio.current_task(self._loop), _innermost(sys._current_frames().get(self._ident))
        server, handler = (self._find(task) if task is not None else None) or (None, None)
        if self._due == due:  # else it has just gone on, and what was seen is another's
            name = task.get_name() if task is not None else None
            cause: Cause = "gil" if overslept > late / 2 else "blocked"
            self._seen = seen = _Seen(due, cause, handler, server, name, calls)
            self._log(late, seen)
        return self._limit

    # -- from either

    def _log(self, late: float, seen: _Seen) -> None:
        if seen.cause == "stopped":
            text = "the process of node %s stood still for %.2f s: it was stopped, or the machine had no time for it"
            logger.warning(text, self._whose, late)
        else:
            text = "the loop of node %s stands still for %.2f s%s: %s runs%s"
            held = ", and so do all threads (the GIL is kept)" if seen.cause == "gil" else ""
            logger.warning(text, self._whose, late, held, seen, f"\n{seen.stack}".rstrip())


def _innermost(frame: FrameType | None) -> tuple[traceback.FrameSummary, ...]:
    """The innermost calls, outermost of them first, without the loop's own and without values.

    It reads no file: the loop must not get the GIL, and go on, in the midst of it.
    """
    calls: list[traceback.FrameSummary] = []
    while frame is not None and frame.f_code is not _LOOP_CODE and len(calls) < _FRAMES:
        code = frame.f_code
        calls.append(traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_qualname, lookup_line=False))
        frame = frame.f_back
    return tuple(reversed(calls))
