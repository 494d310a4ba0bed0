"""Hosts of one's own: network namespaces on a switch, cut one way or both.

For what neither a simulation nor a proxy shows: the kernel's own TCP with packets that
do not arrive. Linux, as root, with ``ip`` and ``iptables``::

    async with Namespaces("abc") as hosts, Processes() as processes:
        await processes.start("a", "myapp:main", hosts.address("a"), within=hosts.within("a"))
        await hosts.cut("a", "b")           # packets from a to b are dropped where they arrive
        await hosts.heal()

Rules. Everything is inside: the switch is a namespace too, so no address, interface or
rule of the machine itself changes, and nothing outside can be reached. Names carry the
pid of their owner: what a killed run left is swept away by the next.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from clusterkit.errors import ClusterError

_PREFIX = "clusterkit"
_NETWORK = "10.77.0"
_DEADLINE = 10.0  # seconds that one command may take
_MOUNTED = Path("/run/netns")


class NamespaceError(ClusterError, OSError):
    """A command on a namespace failed; the text has the command and what it said."""


def why_unavailable() -> str | None:
    """Say why this machine has no namespaces for us, or None when it has."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]:
        return f"network namespaces need {' and '.join(missing)}"
    return _refusal()


def _refusal() -> str | None:
    """Try the least that is needed, and undo it."""
    name = f"{_PREFIX}-{os.getpid()}-try"
    trial = (("ip", "netns", "add", name), ("ip", "netns", "exec", name, "iptables", "-S", "INPUT"))
    try:
        for command in trial:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)  # noqa: S603
            if done.returncode:
                return f"`{' '.join(command)}` failed: {done.stderr.strip()}"
    finally:
        undo = ("ip", "netns", "del", name)
        subprocess.run(undo, capture_output=True, timeout=_DEADLINE, check=False)  # noqa: S603
    return None


class Namespaces:
    """One network namespace for each name, all on one switch. Enter it with ``async with``."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self._tag = f"{_PREFIX}-{os.getpid()}"
        self._switch = f"{self._tag}-switch"

    def address(self, name: str) -> str:
        """The host's address, which exists inside the namespaces alone."""
        return f"{_NETWORK}.{self.names.index(name) + 1}"

    def within(self, name: str) -> tuple[str, ...]:
        """The command that runs another on this host."""
        return "ip", "netns", "exec", self._space(name)

    def _station(self, name: str) -> str:
        """The host's address on the switch."""
        return f"02:00:00:00:00:{self.names.index(name) + 1:02x}"

    def _space(self, name: str) -> str:
        return f"{self._tag}-{name}"

    # -- faults ---------------------------------------------------------------------

    async def cut(self, src: str, dst: str) -> None:
        """Drop what ``src`` sends to ``dst``; the other direction stays as it is."""
        await _run(*self.within(dst), "iptables", "-I", "INPUT", "-s", self.address(src), "-j", "DROP")

    async def partition(self, one: str, other: str) -> None:
        """Cut both ways."""
        await self.cut(one, other)
        await self.cut(other, one)

    async def reset(self, src: str, dst: str) -> None:
        """Answer what ``src`` sends to ``dst`` with a TCP reset, until `heal`."""
        rule = ("-p", "tcp", "-s", self.address(src), "-j", "REJECT", "--reject-with", "tcp-reset")
        await _run(*self.within(dst), "iptables", "-I", "INPUT", *rule)

    async def heal(self) -> None:
        """Undo all cuts."""
        for name in self.names:
            await _run(*self.within(name), "iptables", "-F", "INPUT")

    # -- the block ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await _sweep_dead()
        try:
            await self._build()
        except BaseException:
            await self._end()
            raise
        return self

    async def _build(self) -> None:
        await _run("ip", "netns", "add", self._switch)
        await _run("ip", "-n", self._switch, "link", "add", "switch", "up", "type", "bridge")
        for number, name in enumerate(self.names):
            space, plug = self._space(name), f"port{number}"
            await _run("ip", "netns", "add", space)
            ends = ("type", "veth", "peer", "name", "eth0", "netns", space, "address", self._station(name))
            await _run("ip", "-n", self._switch, "link", "add", plug, *ends)
            await _run("ip", "-n", self._switch, "link", "set", plug, "master", "switch", "up")
            await _run("ip", "-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            await _run("ip", "-n", space, "link", "set", "eth0", "up")
            await _run("ip", "-n", space, "link", "set", "lo", "up")
        await self._introduce()

    async def _introduce(self) -> None:
        """Tell each host where the others are: the kernel has one table of what hosts learn, too short for 32 of them."""
        known = [
            f"neigh add {self.address(name)} lladdr {self._station(name)} dev eth0 nud permanent" for name in self.names
        ]
        with tempfile.NamedTemporaryFile("w", prefix=self._tag) as commands:
            commands.write("\n".join(known))
            commands.flush()
            for name in self.names:
                await _run("ip", "-n", self._space(name), "-batch", commands.name)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """Delete all; what is inside a namespace goes with it."""
        for space in (*map(self._space, self.names), self._switch):
            with contextlib.suppress(NamespaceError):
                await _run("ip", "netns", "del", space)


def left_behind() -> list[str]:
    """The namespaces that this process made and that are still there."""
    return [each for each in _existing() if _owner(each) == os.getpid()]


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(_DEADLINE):
        said, _ = await process.communicate()
    if process.returncode:
        raise NamespaceError(f"`{' '.join(command)}` failed: {said.decode(errors='replace').strip()}")


def _existing() -> list[str]:
    return sorted(each.name for each in _MOUNTED.iterdir()) if _MOUNTED.exists() else []


def _owner(space: str) -> int | None:
    prefix, _, rest = space.partition("-")
    pid = rest.partition("-")[0]
    return int(pid) if prefix == _PREFIX and pid.isdigit() else None


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _sweep_dead() -> None:
    """Delete the namespaces of owners that run no more."""
    for space in _existing():
        if (owner := _owner(space)) is not None and not _runs(owner):
            with contextlib.suppress(NamespaceError):  # another run sweeps too
                await _run("ip", "netns", "del", space)
