"""A cluster of processes of one system: started, told to join and to leave, killed, watched.

What differs between the systems is behind `System`: the command line, the way to say
join and leave, and how the lines that a member prints are read.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from benchmarks.membership_hosts import Hosts
from benchmarks.membership_views import ALIVE, READY, Change, Views, believes
from clusterkit.runtime import Tasks

ROOT = Path(__file__).parent.parent
_START = 60.0  # seconds that a process may take until it is ready
_AT_ONCE = 4  # processes that start at the same time: more take no less time on two cores
_JOINED = 40.0  # seconds until the seed lists one that joins through it
_WHOLE = 120.0  # seconds until the first members all list each other


class Member:
    """One process."""

    def __init__(self, name: str, address: str, process: asyncio.subprocess.Process, started: float) -> None:
        self.name = name  # as the other members call it
        self.address = address
        self.place = ""  # where others reach it, as they list it; known when it is ready
        self.started = started
        self.process = process
        self.ended = asyncio.Event()
        self.ended_at = 0.0
        self.last: deque[str] = deque(maxlen=20)  # lines, for the text of an error
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def say(self, line: str) -> float:
        """Write a command to its stdin; returns the time just before."""
        assert self.process.stdin is not None
        at = time.monotonic()
        self.process.stdin.write(f"{line}\n".encode())
        return at

    def signal(self, which: signal.Signals) -> float:
        """Send a signal; returns the time just before."""
        at = time.monotonic()
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, which)  # Popen's own way would take the exit status from the loop
        return at

    def is_ready(self, place: str) -> None:
        """Take note that it takes commands, and where others reach it."""
        self.place = place
        self._ready.set()

    def is_over(self) -> None:
        """Take note that the process has ended."""
        self.ended_at = time.monotonic()
        self.ended.set()
        self._ready.set()  # whoever waits for that need not wait longer

    async def until_ready(self) -> None:
        """Wait until it takes commands."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), _START)
        if not self.place:
            what = "has ended" if self.ended.is_set() else f"is not ready after {_START:g} s"
            raise RuntimeError(f"{self.name} {what}:\n" + "\n".join(self.last))

    async def until_gone(self, timeout: float) -> float | None:
        """When the process ended, or None when it has not within ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), timeout)
        return self.ended_at or None


class System(Protocol):
    """What the harness knows of a membership system."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    @property
    def left(self) -> tuple[str, ...]:
        """The states in which others list a member that left."""

    @property
    def moves(self) -> bool:
        """Whether a name may come back at another address at all."""

    @property
    def pulse(self) -> float:
        """Seconds within which a member that stands still is noticed, generously."""

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""

    def calls(self, name: str, address: str) -> str:
        """The name by which members call this one."""

    def command(self, name: str, address: str) -> Sequence[str]:
        """The command line of a member."""

    def read(self, line: str, at: float) -> Change | None:
        """Read a line that arrived at ``at``."""

    async def found(self, member: Member) -> None:
        """Let a member be a cluster of one."""

    async def join(self, member: Member, seed: Member) -> float:
        """Tell a member to join; returns the time just before."""

    async def leave(self, member: Member) -> float:
        """Tell a member to leave and to end; returns the time just before."""

    async def forget(self, member: Member, name: str) -> None:
        """Tell a member that one which is down does not come back."""


class Cluster:
    """The members that run, and what they say. Leaving the block kills what still runs."""

    def __init__(self, system: System, hosts: Hosts) -> None:
        self.system = system
        self.hosts = hosts
        self.views = Views()
        self.members: list[Member] = []  # those of the beginning
        self._running: list[Member] = []
        self._tasks = Tasks(f"cluster/{system.name}")

    @property
    def names(self) -> list[str]:
        """Of the members of the beginning, who are the observers of every act."""
        return [member.name for member in self.members]

    async def begin(self, count: int) -> None:
        """Start the first ``count`` hosts' members and wait until all list each other."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def start(host: str) -> Member:
            async with gate:
                return await self.start(host, host)

        self.members = list(await asyncio.gather(*map(start, self.hosts.names[:count])))
        seed, *others = self.members
        await self.system.found(seed)
        for member in others:
            await self.system.join(member, seed)
            if await self.views.until_agreed([member.name], [seed.name], believes(ALIVE), _JOINED) is None:
                raise RuntimeError(f"{seed.name} does not list {member.name}, which said:\n" + "\n".join(member.last))
        if await self.until_whole(_WHOLE) is None:
            raise RuntimeError(f"the members do not all list each other after {_WHOLE:g} s")

    async def until_whole(self, timeout: float) -> float | None:
        """Since when all members of the beginning list each other as alive, or None."""
        return await self.views.until_agreed(self.names, self.names, believes(ALIVE), timeout)

    async def start(self, name: str, host: str) -> Member:
        """Start a process and wait until it takes commands; it is in no cluster yet."""
        address = self.hosts.address(host)
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(*self.hosts.within(host), *self.system.command(name, address)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        member = Member(self.system.calls(name, address), address, process, started)
        self._running.append(member)
        self._tasks.spawn(self._follow(member), f"follow {member.name}")
        await member.until_ready()
        return member

    async def _follow(self, member: Member) -> None:
        assert member.process.stdout is not None
        async for line in member.process.stdout:
            text = line.decode(errors="replace").rstrip()
            member.last.append(text)
            change = self.system.read(text, time.monotonic())
            if change is not None and change.state == READY:
                member.is_ready(change.place)
            elif change is not None:
                self.views.note(member.name, change)
        await member.process.wait()
        member.is_over()

    async def end(self, member: Member) -> None:
        """Kill it if it runs."""
        member.signal(signal.SIGKILL)
        await member.until_gone(10.0)
        self._running.remove(member)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for member in self._running:
                member.signal(signal.SIGKILL)
            for member in self._running:
                await member.until_gone(10.0)
        finally:
            await self._tasks.aclose()
