"""A command on a pseudo-terminal of its own: keys are typed, and what appears is read until it is what was expected."""

import asyncio
import codecs
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from clusterkit.testing import LocalCluster, ProcessCluster
from clusterkit.testing.local_cluster import COOKIE as LOCAL_COOKIE

PATIENCE = 20.0
Cluster = ProcessCluster | LocalCluster
_HERE = str(Path(__file__).parents[2])
_LAUNCHER = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])|\r")
_BEGUN = re.compile(r"\x1b[^\x1b]{0,20}$")
_WHERE = "\x1b[6n"  # the question for the cursor's place
CTRL_C, CTRL_D, TAB, ENTER, UP = "\x03", "\x04", "\t", "\r", "\x1b[A"


def address(cluster: Cluster, name: str = "alpha") -> str:
    """Where a node listens."""
    return cluster.address(name) if isinstance(cluster, ProcessCluster) else cluster[name].id.address


def port(cluster: Cluster, name: str = "alpha") -> str:
    return address(cluster, name).rpartition(":")[2]


def cookie_of(cluster: Cluster) -> str:
    return cluster.cookie if isinstance(cluster, ProcessCluster) else LOCAL_COOKIE


def environment(folder: Path, cookie: str | None, **more: str) -> dict[str, str]:
    """The environment of a command: nothing of another cluster's, and its files in a folder of the test."""
    left_out = ("CLUSTERKIT_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    path = os.pathsep.join(filter(None, [_HERE, os.environ.get("PYTHONPATH")]))
    files = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
    given = {"CLUSTERKIT_COOKIE": cookie} if cookie is not None else {}
    return kept | {"PYTHONPATH": path, "TERM": "xterm-256color", "PYTHONWARNINGS": "error"} | files | given | more


class Terminal:
    """One terminal, and the clusterkit that runs on it."""

    def __init__(self, arguments: tuple[object, ...], env: Mapping[str, str], lines: int, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._before = termios.tcgetattr(theirs)
        self._theirs = theirs  # held open, so that how the command left it can be seen
        command = [sys.executable, "-m", "clusterkit", *map(str, arguments)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *command],
            env=dict(env),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = ""
        self._at = 0
        self._news = asyncio.Event()
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    @property
    def text(self) -> str:
        """All that appeared, without what moves the cursor or changes colours."""
        return _ESCAPES.sub("", _BEGUN.sub("", self.raw) if _BEGUN.search(self.raw) else self.raw)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            found = self._decoder.decode(os.read(self._ours, 65536))
            self.raw += found
            for _ in range(found.count(_WHERE)):
                os.write(self._ours, b"\x1b[1;1R")
            self._news.set()

    async def _is(self, *, raw: bool) -> None:
        """Wait until the command reads keys as they come, or leaves them to the system."""
        async with asyncio.timeout(PATIENCE):
            while bool(termios.tcgetattr(self._theirs)[3] & termios.ICANON) is raw:
                await asyncio.sleep(0.005)

    async def types(self, keys: str) -> None:
        """Type at the prompt, once it is there."""
        await self._is(raw=True)
        os.write(self._ours, keys.encode())

    async def enters(self, line: str) -> None:
        """Type a line at the prompt."""
        await self.types(line + ENTER)

    async def interrupts(self) -> None:
        """Press Ctrl-C while a command runs."""
        await self._is(raw=False)
        os.write(self._ours, CTRL_C.encode())

    async def sees(self, *texts: str, timeout: float = PATIENCE) -> str:
        """Wait until each text has appeared, after all that was seen before; returns what appeared until then."""
        seen = ""
        for text in texts:
            try:
                async with asyncio.timeout(timeout):
                    while (found := self.text.find(text, self._at)) < 0:
                        self._news.clear()
                        await self._news.wait()
            except TimeoutError:
                raise AssertionError(
                    f"never seen: {text!r} in {self.text[self._at :]!r}, after {self.text[: self._at]!r}"
                ) from None
            end = found + len(text)
            seen, self._at = seen + self.text[self._at : end], end
        return seen

    async def ends(self, timeout: float = PATIENCE) -> int:
        """Wait for the command to end; returns its exit code."""
        async with asyncio.timeout(timeout):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.01)
        self._read()
        return code

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal has the settings that it had when the command began."""
        return termios.tcgetattr(self._theirs) == self._before

    def sends(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    def close(self) -> None:
        """Take the terminal away, as a window that is closed does."""
        if self._ours >= 0:
            asyncio.get_running_loop().remove_reader(self._ours)
            os.close(self._ours)
            os.close(self._theirs)
            self._ours = -1

    def end(self) -> None:
        self.close()
        self.process.kill()
        self.process.wait(PATIENCE)


class Terminals:
    """Opens terminals, and ends what runs on them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Terminal] = []

    def __call__(
        self, *arguments: object, cookie: str | None, lines: int = 24, columns: int = 100, **more: str
    ) -> Terminal:
        self._open.append(Terminal(arguments, environment(self._folder, cookie, **more), lines, columns))
        return self._open[-1]

    def end(self) -> None:
        for each in self._open:
            each.end()


@contextlib.asynccontextmanager
async def terminals(folder: Path) -> AsyncIterator[Terminals]:
    opened = Terminals(folder)
    try:
        yield opened
    finally:
        opened.end()


async def in_pipe(*arguments: object, env: Mapping[str, str], typed: str = "") -> tuple[int, str, str]:
    """Run a command with pipes; returns its exit code, stdout and stderr."""
    command = [sys.executable, "-m", "clusterkit", *map(str, arguments)]
    pipe: Any = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=dict(env), stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(typed.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
