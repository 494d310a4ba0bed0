"""Real child processes for tests: started, stopped, killed, started again, never left behind.

A child runs an async function of an importable module and reports facts, such as the
port that the system gave it; see `clusterkit.testing.child`::

    async with Processes() as processes:
        child = await processes.start("a", "tests.apps:serve", {"host": "127.0.0.1"})
        port = (await child.reported("port"))["port"]
        child.kill()                                    # SIGKILL; stop() and go_on() are SIGSTOP and SIGCONT
        child = await processes.restart("a")

Rules. Every wait is bounded, and says what the child printed when the bound is passed.
What each life of each child prints is kept in a file of its own, and the ends of all
files are added to an error that leaves the block. Leaving it kills all that still runs.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusterkit import runtime
from clusterkit.errors import ClusterError, UsageError
from clusterkit.testing.child import REPORT

_TAIL = 2000  # characters of a child's log that an error shows
_LINE_LIMIT = 1 << 20


class ChildError(ClusterError, RuntimeError):
    """A child did not do what it was waited for; the text has the end of its log."""


class Child:
    """One life of one child process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        """All that it printed, on stdout and stderr."""
        self.reports: list[dict[str, Any]] = []
        """What it reported, in order."""
        self._process = process
        self._news = asyncio.Condition()
        self._finished = False

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} status={self.status}>"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    # -- signals --------------------------------------------------------------------

    def kill(self) -> None:
        """End it with SIGKILL: nothing of it runs any more."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, with SIGTERM."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Let it stand still, with SIGSTOP: its sockets stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again, with SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        if self.status is None:
            self._process.send_signal(which)

    # -- waiting --------------------------------------------------------------------

    async def reported(self, key: str, *, timeout: float = 10.0) -> dict[str, Any]:
        """The first report that has ``key``; raises `ChildError` when none comes in time, or can come."""
        await self._until(lambda: self._finished or self._first(key) is not None, f"a report of {key!r}", timeout)
        if (found := self._first(key)) is not None:
            return found
        raise ChildError(f"{self} ended without a report of {key!r}\n{self.tail()}")

    async def ended(self, *, timeout: float = 10.0) -> int:
        """The exit status, once all that it printed is read; raises `ChildError` when it runs on."""
        await self._until(lambda: self._finished, "its end", timeout)
        return await self._process.wait()

    def tail(self) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.log.name} ---\n{text[-_TAIL:].strip() or '(nothing)'}"

    def _first(self, key: str) -> dict[str, Any] | None:
        return next((each for each in self.reports if key in each), None)

    async def _until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            raise ChildError(f"{self}: waited {timeout:g} s for {what}\n{self.tail()}") from None

    async def follow(self) -> None:
        """Read what it prints until it ends; the owner's task."""
        assert self._process.stdout is not None
        with self.log.open("wb", buffering=0) as log:
            async for line in self._process.stdout:
                log.write(line)
                if line.startswith(REPORT.encode()):
                    self.reports.append(json.loads(line[len(REPORT) :]))
                    await self._tell()
        await self._process.wait()
        self._finished = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


class Processes:
    """The owner of a set of named children."""

    def __init__(self, *, logs: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._directory = logs
        self._environment = dict(environment or {})
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._commands: dict[str, tuple[str, Any, Sequence[str]]] = {}
        self._lives: dict[str, list[Child]] = {}
        self._tasks: runtime.Tasks | None = None

    def __getitem__(self, name: str) -> Child:
        """The child's latest life."""
        return self._lives[name][-1]

    def lives(self, name: str) -> list[Child]:
        """All lives of a child, first to last: their logs and reports stay readable."""
        return list(self._lives[name])

    async def start(self, name: str, target: str, argument: Any = None, *, within: Sequence[str] = ()) -> Child:
        """Start ``module:function`` with an argument that JSON can carry; returns without waiting for a report.

        ``within`` is a command that runs the child's, such as ``("ip", "netns", "exec", "x")``.
        """
        if self._tasks is None or self._directory is None:
            raise UsageError("processes start inside `async with` alone")
        lives = self._lives.setdefault(name, [])
        if lives and lives[-1].status is None:
            raise UsageError(f"child {name!r} is running: kill it, or use another name")
        self._commands[name] = target, argument, within
        process = await self._spawn(target, argument, within)
        child = Child(name, process, self._directory / f"{name}-{len(lives) + 1}.log")
        lives.append(child)
        self._tasks.spawn(child.follow(), f"follow {child.log.name}")
        return child

    async def restart(self, name: str, *, timeout: float = 10.0) -> Child:
        """Kill the child if it runs, wait for its end, and start the same again."""
        self[name].kill()
        await self[name].ended(timeout=timeout)
        target, argument, within = self._commands[name]
        return await self.start(name, target, argument, within=within)

    async def _spawn(self, target: str, argument: Any, within: Sequence[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(*within, sys.executable, "-m", "clusterkit.testing.child", target, json.dumps(argument)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **self._environment},
            limit=_LINE_LIMIT,
        )

    async def __aenter__(self) -> Self:
        self._tasks = runtime.Tasks("processes")
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="clusterkit-")
            self._directory = Path(self._temporary.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        children = [child for lives in self._lives.values() for child in lives]
        try:
            for child in children:
                child.kill()
            for child in children:
                await child.ended()
        finally:
            await self._tasks.aclose()
            self._tasks = None
            if error is not None:
                error.add_note("\n".join(child.tail() for child in children))
            if self._temporary is not None:
                with contextlib.suppress(OSError):
                    self._temporary.cleanup()
