"""Where members run: each on a host of its own (a network namespace), or all on the loopback.

With namespaces, a split drops packets as a broken switch does, and each member's bytes
can be counted. Without root the members get addresses in 127.0.1.0/24, and those two
are left out.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from clusterkit.testing.namespaces import Namespaces, why_unavailable


class Hosts(Protocol):
    """Addresses, and the command that runs another one there."""

    names: list[str]

    def address(self, name: str) -> str:
        """The host's IPv4 address."""

    def within(self, name: str) -> tuple[str, ...]:
        """What to put before a command."""


class Loopback:
    """Addresses of one machine."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def address(self, name: str) -> str:
        """127.0.1.1 and up."""
        return f"127.0.1.{self.names.index(name) + 1}"

    def within(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing is put before a command."""
        return ()


@contextlib.asynccontextmanager
async def hosts_of(names: Sequence[str]) -> AsyncIterator[Hosts]:
    """Namespaces where there are any, the loopback elsewhere."""
    if why_unavailable() is not None:
        yield Loopback(names)
        return
    async with Namespaces(names) as hosts:
        yield hosts


async def split(hosts: Hosts, one: Sequence[str], other: Sequence[str]) -> None:
    """Drop what either side sends to the other where it arrives, so no sender is told."""
    for side, far in ((one, other), (other, one)):
        sources = ",".join(map(hosts.address, far))
        rule = ("iptables", "-w", "-I", "INPUT", "-s", sources, "-j", "DROP")
        await asyncio.gather(*(_run(*hosts.within(name), *rule) for name in side))


async def heal(hosts: Hosts, names: Sequence[str]) -> None:
    """Undo the split on all hosts at once."""
    await asyncio.gather(*(_run(*hosts.within(name), "iptables", "-w", "-F", "INPUT") for name in names))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 20)
    if process.returncode:
        raise OSError(f"`{' '.join(command)}` failed: {said.decode(errors='replace').strip()}")
