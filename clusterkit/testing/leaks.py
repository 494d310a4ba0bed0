"""The leak check: what a test left behind on its loop.

A test owns what it starts: when it is over, no task runs, no timer ticks, no stream
is open. The check gives what is ending a few turns of the loop to end, then names
each thing that is left and the line where it waits.
"""

import asyncio
from collections.abc import Iterable
from types import CoroutineType
from typing import Any

from clusterkit.errors import ClusterError

_TURNS = 20  # a cancelled task, its transport and the transport's callback: a handful of turns


class LeakError(ClusterError, AssertionError):
    """Something outlived the test that started it; the text names it."""


def check_leaks(runner: asyncio.Runner) -> None:
    """Raise `LeakError` when the runner's loop has anything left on it; takes no virtual time."""
    if left := find_leaks(runner):
        raise LeakError("left behind:\n" + "\n".join(f"  {what}" for what in left))


def find_leaks(runner: asyncio.Runner) -> list[str]:
    """Name all that is left on the runner's loop, after a few turns for what is ending."""
    loop = runner.get_loop()
    for _ in range(_TURNS):
        if not _left(loop):
            return []
        runner.run(asyncio.sleep(0))
    return _left(loop)


def _left(loop: asyncio.AbstractEventLoop) -> list[str]:
    tasks = [f"task {task}" for task in waiting_tasks(loop)]
    timers = [f"timer at {timer.when():.6f} s: {timer!r}" for timer in _timers(loop) if not timer.cancelled()]
    return [*tasks, *timers, *_descriptors(loop), *getattr(loop, "open", {}).values()]


def _timers(loop: asyncio.AbstractEventLoop) -> Iterable[asyncio.TimerHandle]:
    own = getattr(loop, "timers", None)
    return own() if own else getattr(loop, "_scheduled", ())


def _descriptors(loop: asyncio.AbstractEventLoop) -> list[str]:
    selector = getattr(loop, "_selector", None)
    if selector is None or selector.get_map() is None:
        return []
    wake_up = loop._ssock.fileno()  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
    watched = [f"descriptor {key.fd}: {key.fileobj!r}" for key in selector.get_map().values() if key.fd != wake_up]
    # A transport that neither reads nor writes just now is in no selector.
    transports = sorted(getattr(loop, "_transports", {}).items())
    return watched + [f"transport {transport!r}" for _, transport in transports if not transport.is_closing()]


def waiting_tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Name each unfinished task of ``loop`` and the line where it waits, in the order of their names."""
    return sorted(f"{task.get_name()} at {_where(task.get_coro())}" for task in asyncio.all_tasks(loop))


def _where(work: Any) -> str:
    """The innermost line of a suspended coroutine that is not asyncio's own."""
    place = f"the start of {getattr(work, '__qualname__', work)}"
    while isinstance(work, CoroutineType) and work.cr_frame is not None:
        code = work.cr_frame.f_code
        if "/asyncio/" not in code.co_filename:
            place = f"{code.co_filename}:{work.cr_frame.f_lineno} in {code.co_qualname}"
        work = work.cr_await
    return place
