"""The only door to time, chance, tasks, threads and the resolver.

Everything above asks here, and here the running loop is asked first: a loop with
an attribute ``environment`` (the simulation's) answers for all of it, so the same
program runs on real time or on virtual time, with real or with seeded chance.

Rules: time for deadlines is `now` (monotonic seconds of the loop); wall-clock time
is only for incarnations and logs; every task belongs to a `Tasks`.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")
_CANCELS = 3  # how often a task is told to end, a second apart
_JOIN = 1.0  # seconds that the loop waits for a thread of ours to end
logger = logging.getLogger("clusterkit")


class Environment(Protocol):
    """What a program needs of the world beside sockets and the loop's clock."""

    def wall_time(self) -> float:
        """Unix time in seconds."""

    def entropy(self, size: int) -> bytes:
        """Fresh unpredictable bytes."""

    def rng(self, name: str) -> random.Random:
        """A generator for jitter and shuffling; never for secrets."""

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """The addresses of a host name, in the order to try."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work outside the loop."""


def _host(where: tuple[Any, ...]) -> str:
    """The host of a socket address; a link-local one of IPv6 is nothing without its scope."""
    return f"{where[0]}%{where[3]}" if len(where) == 4 and where[3] else str(where[0])


class _System:
    """The real world."""

    def wall_time(self) -> float:
        return time.time()

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)

    def rng(self, name: str) -> random.Random:  # noqa: ARG002 - the simulation's streams are named
        return random.Random()  # noqa: S311 - jitter, not secrets

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise OSError(f"{host!r} is no host name") from None
        return list(dict.fromkeys((_host(where), int(where[1])) for *_, where in found))

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)


_SYSTEM = _System()


def environment() -> Environment:
    """The environment of the running loop, or the real one."""
    return cast("Environment", getattr(asyncio.get_running_loop(), "environment", _SYSTEM))


def now() -> float:
    """Monotonic seconds of the running loop: the axis of every deadline."""
    return asyncio.get_running_loop().time()


def is_simulated() -> bool:
    """Whether the running loop's time is not the machine's: nothing beside it can measure it."""
    return environment() is not _SYSTEM


def machine_time() -> float:
    """Monotonic seconds of the machine, for threads: a loop may show the time at which its turn began."""
    return time.monotonic()


def processor_time() -> float:
    """Seconds of processor that all threads of this process have used."""
    return time.process_time()


def wall_time() -> float:
    """Unix time in seconds; for incarnations and logs only."""
    return environment().wall_time()


def entropy(size: int) -> bytes:
    """Fresh unpredictable bytes."""
    return environment().entropy(size)


def rng(name: str) -> random.Random:
    """A generator for jitter and shuffling, one stream per name."""
    return environment().rng(name)


async def resolve(host: str, port: int) -> list[tuple[str, int]]:
    """The addresses of a host name, in the order to try; raises `OSError` when there is none."""
    return await environment().resolve(host, port)


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work outside the loop."""
    return await environment().in_thread(work)


class Threads:
    """Threads of their own for blocking work, ``most`` at once: it holds up no other's, and no process that ends."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work, which raises nothing, outside the loop; under a simulation as `in_thread` does."""
        if is_simulated():
            return await in_thread(work)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((done, work))
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._serve, name=f"{self._name}/{self._started}", daemon=True).start()
        return await done

    def _serve(self) -> None:
        while (given := self._work.get()) is not None:
            done, work = given
            if not done.cancelled():
                value = work()
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    done.get_loop().call_soon_threadsafe(_finish, done, value)
            self._idle.release()

    def close(self) -> None:
        """Begin no more work. What runs goes on: a thread cannot be ended."""
        for _ in range(self._started):
            self._work.put(None)


def _finish(done: asyncio.Future[T], value: T) -> None:
    if not done.done():
        done.set_result(value)


class Daemon:
    """A thread beside the loop, for what must go on while the loop stands still.

    ``work`` is given ``wait(seconds)``, which says whether to end. The thread never keeps the process alive.
    """

    def __init__(self, name: str, work: Callable[[Callable[[float], bool]], None]) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=work, args=(self._ended.wait,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until it has ended, for a second at the most: all it does is wait."""
        self._ended.set()
        self._thread.join(_JOIN)


class Tasks:
    """The owner of a set of tasks: it starts them, watches them and ends them.

    A task that ends in an exception is logged at once, so nothing dies unseen. It runs
    in a copy of the owner's context, not of the caller's: what a caller has set for
    itself, such as a deadline, does not live on in a task that outlives it. With a
    ``parent`` the context is the parent's. An owner that looks at how each of them ended is not
    ``logged`` for.
    """

    def __init__(self, owner: str, parent: "Tasks | None" = None, *, logged: bool = True) -> None:
        self._owner = owner
        self._logged = logged
        self.context: contextvars.Context = parent.context if parent is not None else contextvars.copy_context()
        self._running: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task that `aclose` will end."""
        context = self.context.copy()
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}/{name}", context=context)
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if self._logged and not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, task: object) -> bool:
        return task in self._running

    async def aclose(self) -> None:
        """Cancel all tasks but the calling one and wait until they have ended, for 3 s at the most."""
        me = asyncio.current_task()
        for _ in range(_CANCELS):
            waiting = [task for task in self._running if task is not me]
            for task in waiting:
                task.cancel()
            if waiting:
                await asyncio.wait(waiting, timeout=1.0)
        for task in self._running:
            if task is not me:
                logger.error("task %s does not end: it swallows its cancellation", task.get_name())


class Shielded(Awaitable[T]):
    """Awaits a future again and again: who gives up waiting does not cancel it."""

    def __init__(self, future: asyncio.Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.shield(self._future).__await__()


async def until(deadline: float, work: Awaitable[T]) -> T:
    """Await ``work`` no longer than to ``deadline``; raises `TimeoutError` past it."""
    async with asyncio.timeout_at(deadline):
        return await work


async def wait_for_signal() -> str:
    """Wait for SIGINT or SIGTERM and return its name; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[str] = loop.create_future()
    signals = (signal.SIGINT, signal.SIGTERM)

    def caught(which: signal.Signals) -> None:
        if not came.done():
            came.set_result(which.name)
        for each in signals:  # from now on the system's own answer: the process ends
            loop.remove_signal_handler(each)

    for each in signals:
        loop.add_signal_handler(each, caught, each)
    try:
        return await came
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
