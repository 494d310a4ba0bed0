"""A siege: one node in a process of its own, attacked from here over real sockets.

`besieged` starts the victim and an honest member that goes on calling it; `Siege.held`
says whether both kept the promise: nothing came through, no traceback, no secret in any
log, memory and descriptors as before, and the honest member never waited long.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from clusterkit import Node
from clusterkit.core.proof import Party, prepare_cookies
from clusterkit.testing import Child, Processes
from tests.conftest import eventually
from tests.integration.hostile_app import RING, Dialler, Honest, Witness, come_late, go_on, listening, stand
from tests.integration.hostile_secrets import Secrets
from tests.integration.hostile_tap import Tap
from tests.integration.hostile_wire import End

MIB = 1 << 20
MOST_MEMORY = 20 * MIB
MOST_WAIT = 0.25  # seconds, p99 of the honest member's calls
QUICK = {"proof_timeout": 0.3, "handshake_timeout": 1.0}
AT_ONCE = 64  # connections of a swarm
_DEADLINE = 20.0
_WATCHERS = {"honest", "observer", "late"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _sources() -> Iterator[str]:
    """Where visitors come from: many addresses, as TIME_WAIT keeps the ports of one, and limits hold for each."""
    while True:
        for last in range(2, 252):
            yield f"127.0.0.{last}"


class Siege:
    """The node under attack, and those who watch."""

    observer: Node

    def __init__(self, processes: Processes, cookie: str, logs: Path) -> None:
        self.cookie = cookie
        self.key = prepare_cookies(cookie)[0]
        self.secrets = Secrets(cookie)
        self.rng = Random(7)
        self.taps: dict[str, Tap] = {}
        self.sources = _sources()
        self.port = 0
        self.honest_port = 0
        self._processes = processes
        self._logs = logs
        self._child: Child
        self._boots = count(1 << 60)
        self._memory = 0
        self._descriptors = 0

    # -- the processes

    async def begin(self, **victim: Any) -> None:
        """Start the victim, let the watchers in, each behind its tap if it has one, and measure."""
        self._child = await self._start("victim", stand, **victim)
        self.port = await self._bound(self._child)
        seeds = [f"127.0.0.1:{self.taps['victim'].port if self.taps else self.port}"]
        honest = await self._start("honest", go_on, seeds=seeds)
        self.honest_port = await self._bound(honest)
        await honest.reported("joined", timeout=_DEADLINE)
        await self.observer.ring.join(RING, seeds)
        await eventually(lambda: "honest" in self.observer.ring)
        await self.honest()
        self._memory = self._status("VmRSS")
        Path(f"/proc/{self._child.pid}/clear_refs").write_text("5")  # the peak counts from here
        self._descriptors = self.descriptors()

    async def _bound(self, child: Child) -> int:
        port = int((await child.reported("port", timeout=_DEADLINE))["port"])
        if child.name in self.taps:
            self.taps[child.name].target = port
        return port

    async def _start(self, name: str, function: Callable[..., Awaitable[None]], **argument: Any) -> Child:
        argument["log"] = str(self._logs / f"{name}.log")
        argument["port"] = self.taps[name].port if name in self.taps else 0
        return await self._processes.start(name, f"{function.__module__}:{function.__name__}", argument)

    async def late_comer(self, *, port: int | None = None) -> float:
        """Seconds that one more member takes to join, at the victim's port or another, and to be answered."""
        late = await self._start("late", come_late, seeds=[f"127.0.0.1:{port or self.port}"])
        took = float((await late.reported("took", timeout=_DEADLINE))["took"])
        assert await late.ended() == 0
        return took

    def halt(self) -> None:
        """Let the victim stand still, so that all that comes meanwhile is there at once."""
        self._child.stop()

    def go_on(self) -> None:
        """End a `halt`."""
        self._child.go_on()

    async def stop(self) -> None:
        """Tell the victim to end, and see that it does so in good order."""
        self._child.terminate()
        assert await self._child.ended(timeout=_DEADLINE) == 0

    # -- what the victim and the honest member say

    async def facts(self) -> dict[str, Any]:
        """What came through to the victim."""
        found: dict[str, Any] = await self.observer.ref(Witness, "witness", on="victim").call(Witness.facts)
        return found

    async def dialled(self, port: int, expected: str | None = None) -> str:
        """Let the victim dial an address; whom it believes to have reached, or the error."""
        dialler = self.observer.ref(Dialler, "dialler", on="victim").with_(timeout=_DEADLINE)
        return str(await dialler.call(Dialler.dial, port, expected))

    async def honest(self) -> dict[str, Any]:
        """How the honest member's calls went since the last question."""
        ref, took, failed = self.observer.ref(Honest, "honest", on="honest"), list[float](), list[str]()
        async with asyncio.timeout(_DEADLINE):
            while len(took) < 50:
                said = await ref.call(Honest.since)
                took, failed = took + said["took"], failed + said["failed"]
                await asyncio.sleep(0.02)
        took.sort()
        late = sum(1 for each in took if each > MOST_WAIT)
        return {
            "calls": len(took),
            "late": late,
            "p99": took[int(0.99 * len(took))],
            "worst": took[-1],
            "failed": failed,
        }

    def descriptors(self) -> int:
        """How many the victim has open."""
        return len(list(Path(f"/proc/{self._child.pid}/fd").iterdir()))

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self._child.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
        raise AssertionError(field)

    # -- the verdict

    async def held(self, *, notes: int = 0, callers: tuple[str, ...] = ()) -> None:
        """Hold the victim to its promise: so many casts from us, and links with those callers alone."""
        honest = await self.honest()
        assert not honest["failed"], honest
        await eventually(lambda: self.descriptors() <= self._descriptors, timeout=10)
        facts, grown = await self.facts(), self._status("VmHWM") - self._memory
        print(f"{honest['calls']} honest calls: p99 {honest['p99'] * 1e3:.0f} ms, worst {honest['worst'] * 1e3:.0f} ms")
        print(f"memory +{grown / MIB:.1f} MiB, {facts['counters']}")
        assert facts["notes"] == notes
        assert set(facts["ups"]) <= {*callers, *_WATCHERS}, facts["ups"]
        assert set(facts["members"]) <= {"victim", *_WATCHERS}, facts["members"]
        assert facts["unproven"] == 0
        assert honest["late"] <= max(1, honest["calls"] // 100), honest
        assert grown <= MOST_MEMORY, f"{grown / MIB:.1f} MiB more"
        self.check_logs()

    def check_logs(self) -> None:
        """No traceback, nothing above debug and info, and no secret in anything that was logged or printed."""
        for path in sorted(self._logs.iterdir()):
            text = path.read_bytes()
            for sign in (b"Traceback", b"WARNING", b"ERROR", b"CRITICAL", b"never retrieved"):
                assert sign not in text, f"{path}: {_around(text, sign)}"
        assert self.leaks() == {}

    def leaks(self) -> dict[str, set[str]]:
        """Which secrets can be read in what was logged or printed so far, by the name of the file."""
        for tap in self.taps.values():
            tap.learn()
        found = {path.name: self.secrets.found_in(path.read_bytes()) for path in self._logs.iterdir()}
        return {name: secrets for name, secrets in found.items() if secrets}

    # -- those who come

    @contextlib.asynccontextmanager
    async def visit(self, *, source: str | None = None, port: int | None = None) -> AsyncIterator["Visit"]:
        """A connection to the victim, or to a tap before it, dropped with a reset at the end."""
        one = Visit(socket.socket())
        try:
            await one.connect(source or next(self.sources), port or self.port)
        except BaseException:
            one.reset()
            raise
        try:
            yield one
        except ConnectionError:
            pass  # it was reset, as it may be at any time
        finally:
            one.reset()
            self.secrets.learn(one.sent, one.seen)

    def end(self, name: str, *, expected: str | None = "victim") -> End:
        """An end that holds the cookie and dials as a node, each time in a greater incarnation."""
        me = Party(name, next(self._boots), RING)
        return End.dialling(me, self.key, self.rng, expected=expected)


def _around(text: bytes, sign: bytes) -> str:
    at = text.index(sign)
    return text[max(0, at - 300) : at + 2000].decode(errors="replace")


@contextlib.asynccontextmanager
async def besieged(
    logs: Path,
    *,
    config: Mapping[str, Any] = QUICK,
    tapped: bool = False,
    debug: bool = False,
    leak: str | None = None,
) -> AsyncIterator[Siege]:
    """Start the victim and its watchers; what they and this process log is kept in ``logs``.

    With ``tapped`` all links between them go through a `Tap`: then their own secrets are known
    too, and how long a call takes says nothing. ``debug`` is asyncio's; ``leak`` is one of `LEAKS`.
    """
    cookie = secrets.token_urlsafe(32)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_logged(logs / "here.log"))
        processes = Processes(logs=logs, environment={"CLUSTERKIT_COOKIE": cookie})
        siege = Siege(await stack.enter_async_context(processes), cookie, logs)
        names = ("victim", "honest", "observer") if tapped else ()
        siege.taps = {name: await stack.enter_async_context(Tap(siege)) for name in names}
        port = siege.taps["observer"].port if tapped else 0
        observer = Node(f"observer@127.0.0.1:{port}", listen="127.0.0.1:0", cookie=cookie)
        siege.observer = await stack.enter_async_context(observer)
        if tapped:
            siege.taps["observer"].target = listening(observer)
        await siege.begin(config=dict(config), debug=debug, leak=leak)
        yield siege


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write all that this process logs to a file."""
    root, handler = logging.getLogger(), logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


async def swarm(numbers: Iterable[int], work: Callable[[int], Awaitable[None]], at_once: int = AT_ONCE) -> None:
    """Do it for each number, so many at once."""
    numbers = iter(numbers)

    async def worker() -> None:
        for each in numbers:
            async with asyncio.timeout(_DEADLINE):
                await work(each)

    async with asyncio.TaskGroup() as workers:
        for _ in range(at_once):
            workers.create_task(worker())


class Visit:
    """One connection, made by hand; it keeps what went over it."""

    def __init__(self, raw: socket.socket) -> None:
        self.sent = b""
        self.seen = b""
        self._raw = raw
        self._loop = asyncio.get_running_loop()
        raw.setblocking(False)

    async def connect(self, source: str, port: int) -> None:
        """Dial from a given address."""
        self._raw.bind((source, 0))
        await self._loop.sock_connect(self._raw, ("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sent += data
        await self._loop.sock_sendall(self._raw, data)

    def push(self, data: bytes) -> None:
        """Send as much of it as the system takes now."""
        with contextlib.suppress(BlockingIOError):
            self.sent += data[: self._raw.send(data)]

    async def more(self) -> bytes:
        """What comes next; nothing at the end, or when it was reset."""
        try:
            data = await self._loop.sock_recv(self._raw, 1 << 16)
        except ConnectionError:
            return b""
        self.seen += data
        return data

    async def until(self, size: int) -> None:
        """Read until so many bytes were seen in all, or to the end."""
        while len(self.seen) < size and await self.more():
            pass

    async def to_the_end(self) -> None:
        """Read until the other end closes."""
        while await self.more():
            pass

    def half_close(self) -> None:
        """Say that no more will be sent."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Drop it."""
        with contextlib.suppress(OSError):
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._raw.close()

    async def speak(self, end: End) -> None:
        """Let an end speak until its link is open, or it or the other gives up."""
        await self.send(end.begin())
        while not end.open and end.error is None:
            if not (data := await self.more()):
                end.closed()
                return
            if out := end.hear(data):
                await self.send(out)
