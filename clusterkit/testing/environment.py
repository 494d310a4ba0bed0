"""What a simulated program finds around it: seeded chance, a virtual clock, a list of hosts.

It answers for `clusterkit.runtime` on a `SimulationLoop`, so the product's code runs
unchanged. Every stream of chance has a name (the machine's and the asker's), so that
one more draw in one place does not shift the others.
"""

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable
from typing import TypeVar

from clusterkit.testing.machine import here

T = TypeVar("T")
_START = 1_767_225_600.0  # 2026-01-01 UTC: what wall clocks show when a simulation starts


class SimulatedEnvironment:
    """A `clusterkit.runtime.Environment` that the seed alone decides."""

    def __init__(self, seed: int, clock: Callable[[], float]) -> None:
        self._seed = seed
        self._clock = clock
        self._streams: dict[str, random.Random] = {}
        self.hosts: dict[str, list[str]] = {"localhost": ["127.0.0.1"]}
        """The addresses of each host name; other names do not resolve."""

    def wall_time(self) -> float:
        """Unix time in seconds, as the machine that asks believes it."""
        machine = here()
        return _START + self._clock() + (machine.skew if machine else 0.0)

    def entropy(self, size: int) -> bytes:
        """Bytes from the machine's own seeded stream."""
        return self.rng("entropy").randbytes(size)

    def rng(self, name: str) -> random.Random:
        """The one generator of this name on this machine: asked for again, it goes on."""
        machine = here()
        stream = f"{self._seed}:{machine.name}:{name}" if machine else f"{self._seed}:{name}"
        if stream not in self._streams:
            self._streams[stream] = random.Random(stream)  # noqa: S311 - a simulation's chance
        return self._streams[stream]

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Literal addresses and the names in ``hosts``; raises `OSError` for others."""
        await asyncio.sleep(0)
        if host in self.hosts:
            return [(address, port) for address in self.hosts[host]]
        try:
            return [(str(ipaddress.ip_address(host)), port)]
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, f"the simulation has no host {host!r}") from None

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run ``work`` inline: it takes no virtual time."""
        await asyncio.sleep(0)
        return work()
