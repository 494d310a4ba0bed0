"""What a process costs while nothing happens, from the kernel's own counters.

Rules. Time on a CPU is that of all threads, in nanoseconds, from ``schedstat``: ticks
of 10 ms would not show 0.1 %. Bytes are those that its network namespace has sent, with
IP and Ethernet headers; each byte on the wire is counted once, at its sender.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Idle:
    """Means over all members."""

    cpu: float
    """Percent of one core."""
    rss: float
    """MB."""
    sent: float | None
    """Bytes a second, or None outside of namespaces."""


@dataclass(frozen=True, slots=True)
class _Reading:
    cpu: float  # seconds
    sent: int


def sent_bytes(net_dev: str) -> int:
    r"""Read the bytes that left by all interfaces but the loopback, from ``/proc/PID/net/dev``.

    >>> sent_bytes("  face |bytes\n    lo: 900 9 0 0 0 0 0 0 900 9 0\n  eth0: 70 1 0 0 0 0 0 0 142 2 0\n")
    142
    """
    lines = (line.partition(":") for line in net_dev.splitlines() if ":" in line)
    return sum(int(counts.split()[8]) for name, _, counts in lines if name.strip() != "lo")


def resident_megabytes(status: str) -> float:
    r"""Read the resident set, from ``/proc/PID/status``.

    >>> resident_megabytes("VmPeak:  90000 kB\nVmRSS:\t   30720 kB\n")
    30.0
    """
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    """The time that all threads of a process have run."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _read(pid: int) -> _Reading:
    return _Reading(cpu_seconds(pid), sent_bytes(_proc(pid, "net/dev")))


async def measure_idle(pids: Sequence[int], seconds: float, *, apart: bool) -> Idle:
    """Watch the processes do nothing. ``apart``: each has a network namespace of its own."""
    start, before = time.monotonic(), [_read(pid) for pid in pids]
    await asyncio.sleep(seconds)
    took, after = time.monotonic() - start, [_read(pid) for pid in pids]
    per_member = took * len(pids)
    cpu = sum(late.cpu - early.cpu for early, late in zip(before, after, strict=True))
    sent = sum(late.sent - early.sent for early, late in zip(before, after, strict=True))
    rss = [resident_megabytes(_proc(pid, "status")) for pid in pids]
    return Idle(100 * cpu / per_member, sum(rss) / len(rss), sent / per_member if apart else None)
