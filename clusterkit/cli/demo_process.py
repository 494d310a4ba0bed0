"""The node processes of the demo: started, killed, asked to leave, and never left behind.

Rules: a process gets the cookie in its environment; it has a session of its own, so
that Ctrl-C reaches the demo alone; its stdin is a pipe that ends with the demo, so
it leaves even when the demo could not tell it to.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from clusterkit.runtime import now

RING = "demo"
_APP = "clusterkit.cli.demo_app:main"
_LISTENS = re.compile(r"^\S+ listens on (\S+):(\d+)$", re.MULTILINE)
_LOOK = 0.01  # seconds between two looks into the log of a process that starts
_LINES = 15  # of a log are shown
_GRACE = 3.0  # seconds that a process has to leave before it is killed


class Broken(Exception):
    """A step of the demo did not hold; the text says why."""


def child_environment(cookie: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a node: this process's own, but nothing of another cluster's."""
    kept = {key: value for key, value in environ.items() if not key.startswith("CLUSTERKIT_")}
    return kept | {"CLUSTERKIT_COOKIE": cookie}


class NodeProcess:
    """One node of the demo. Its address stays when it is started again; its pid does not."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.host = "127.0.0.1"
        self.port = 0
        self._log = folder / f"{name}.log"
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0

    @property
    def address(self) -> str:
        """``host:port``, once it listens."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process, dead or alive; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None and self._process.returncode is None

    async def start(self, seed: str | None, deadline: float) -> None:
        """Start the process, and wait until it says where it listens."""
        seeds = ["--seed", seed] if seed else []
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "clusterkit", "start", f"{self.name}@{self.address}"),
                *("--ring", RING, *seeds, "--app", _APP),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        await self._read_address(deadline)

    async def _read_address(self, deadline: float) -> None:
        while (found := _LISTENS.search(self.log)) is None:
            if not self.running:
                raise Broken(f"the process of {self.name} ended with exit code {self.exit_code} before it listened")
            if now() >= deadline:
                raise Broken(f"the process of {self.name} does not say that it listens")
            await asyncio.sleep(_LOOK)
        self.port = int(found[2])

    @property
    def exit_code(self) -> int | None:
        """How the last process ended; None while it runs."""
        return self._process.returncode if self._process else None

    @property
    def log(self) -> str:
        """What the last process printed."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def last_words(self) -> list[str]:
        """The end of what this node printed, in all its lives."""
        with suppress(OSError):
            return self._log.read_text(errors="replace").splitlines()[-_LINES:]
        return []

    def send(self, which: signal.Signals) -> None:
        """Send a signal, if there is a process."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, which)

    async def ended(self, deadline: float) -> int | None:
        """Wait for the end of the process; its exit code, or None at ``deadline``."""
        if self._process is None:
            return None
        try:
            async with asyncio.timeout_at(deadline):
                return await self._process.wait()
        except TimeoutError:
            return None


async def end_all(processes: Iterable[NodeProcess]) -> None:
    """Ask all to leave; kill what is still there after some seconds."""
    running = [each for each in processes if each.running]
    for which, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        for process in running:
            process.send(signal.SIGCONT)
            process.send(which)
        deadline = now() + grace
        for process in running:
            await process.ended(deadline)
