"""What is done to a cluster, and how long it takes until all members list it.

The observers are the members of the beginning. What is killed, stopped and moved is a
newcomer each time, with a fresh name, so that every round finds the same cluster: what
is down after a round is removed by the system's own means before the next.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.membership_cluster import Cluster, Member
from benchmarks.membership_counters import measure_idle
from benchmarks.membership_hosts import heal, split
from benchmarks.membership_views import ALIVE, believes

Took = float | None
"""Seconds, or what the row counts; None is "not within the time that was waited"."""

STALL = 2.5  # seconds that a member stands still without harm
_PATIENCE = 60.0  # seconds to wait for what must come, a straggler included
_CLEANED = 15.0
_LATE = 4.0  # seconds after a stall in which a false alarm would still come
_REST = 0.3  # seconds between rounds: what one has left on the wire is not measured in the next
_SETTLED_IN = 1.0  # seconds between a newcomer's join and what is done to it: it has its links by then


class Acts:
    """The acts on one cluster; each returns the rows that it measured."""

    def __init__(self, cluster: Cluster, *, idle: float, hold: float, patience: float) -> None:
        """Take seconds to stay idle, to keep a split, and to wait for what may never come."""
        self._cluster = cluster
        self._system = cluster.system
        self._idle = idle
        self._hold = hold
        self._patience = patience
        self._spare, self._other = cluster.hosts.names[-2:]
        self._newcomers = 0

    @property
    def by_name(self) -> Mapping[str, Callable[[], Awaitable[dict[str, Took]]]]:
        """All acts, in the order in which they are done."""
        return {
            "idle": self.idle,
            "leave": self.leave,
            "kill": self.kill,
            "move": self.move,
            "stall": self.stall,
            "hang": self.hang,
            "split": self.split,
        }

    # -- the acts

    async def idle(self) -> dict[str, Took]:
        """Do nothing."""
        await asyncio.sleep(min(5.0, self._idle))
        pids = [member.pid for member in self._cluster.members]
        apart = bool(self._cluster.hosts.within(self._spare))
        found = await measure_idle(pids, self._idle, apart=apart)
        rows: dict[str, Took] = {"cpu": found.cpu, "rss": found.rss}
        return rows if found.sent is None else rows | {"sent": found.sent}

    async def leave(self) -> dict[str, Took]:
        """One joins, and leaves in order."""
        newcomer, rows = await self._newcomer()
        at, listed, gone = await asyncio.gather(
            self._system.leave(newcomer),
            self._listed(newcomer.name, *self._system.left),
            newcomer.until_gone(_PATIENCE),
        )
        await self._clean(newcomer)
        return rows | {"leave": _took(at, listed), "gone": _took(at, gone)}

    async def kill(self) -> dict[str, Took]:
        """One joins, and is killed."""
        newcomer, rows = await self._newcomer()
        at = newcomer.signal(signal.SIGKILL)
        listed = await self._listed(newcomer.name, "down")
        await self._clean(newcomer)
        return rows | {"kill": _took(at, listed)}

    async def move(self) -> dict[str, Took]:
        """One joins and is killed, and at once another of its name joins at another address."""
        if not self._system.moves:
            return {}
        old, rows = await self._newcomer()
        new = await self._cluster.start(old.name, self._other)
        at = old.signal(signal.SIGKILL)
        try:
            await self._system.join(new, self._cluster.members[0])
            listed = await self._listed(new.name, ALIVE, place=new.place, timeout=self._patience)
        except (OSError, RuntimeError):
            listed = None
        await self._clean(old, new)
        return rows | {"move": _took(at, listed)}

    async def stall(self) -> dict[str, Took]:
        """One joins, stands still for a while and goes on: nobody should call anybody down."""
        newcomer, rows = await self._newcomer()
        at = newcomer.signal(signal.SIGSTOP)
        await asyncio.sleep(STALL)
        newcomer.signal(signal.SIGCONT)
        await asyncio.sleep(_LATE)
        false = self._cluster.views.count(at, "down")
        await self._clean(newcomer)
        return rows | {"stall": float(false)}

    async def hang(self) -> dict[str, Took]:
        """One joins and stands still: its kernel acknowledges what is sent to it, and nothing answers."""
        newcomer, rows = await self._newcomer()
        at = newcomer.signal(signal.SIGSTOP)
        listed = await self._listed(newcomer.name, "down", timeout=self._system.pulse)
        await self._clean(newcomer)
        return rows | {"hang": _took(at, listed)}

    async def split(self) -> dict[str, Took]:
        """Part the members in halves until all have noticed it, and mend it."""
        cluster, names = self._cluster, self._cluster.names
        hosts = cluster.hosts.names[: len(names)]
        if not cluster.hosts.within(hosts[0]):
            return {}
        half = len(names) // 2
        start = asyncio.get_running_loop().time()
        await split(cluster.hosts, hosts[:half], hosts[half:])
        await self._noticed(names[:half], names[half:])
        await asyncio.sleep(max(0.0, start + self._hold - asyncio.get_running_loop().time()))
        at = asyncio.get_running_loop().time()
        await heal(cluster.hosts, hosts)
        return {"heal": _took(at, await cluster.until_whole(self._patience))}

    # -- parts of them

    async def _newcomer(self) -> tuple[Member, dict[str, Took]]:
        """One that is listed by all, with the rows of its joining."""
        await asyncio.sleep(_REST)
        self._newcomers += 1
        newcomer = await self._cluster.start(f"new{self._newcomers}", self._spare)
        at = await self._system.join(newcomer, self._cluster.members[0])
        listed = await self._listed(newcomer.name, ALIVE)
        await asyncio.sleep(_SETTLED_IN)
        return newcomer, {"start": _took(newcomer.started, listed), "join": _took(at, listed)}

    async def _listed(self, name: str, *states: str, place: str = "", timeout: float = _PATIENCE) -> Took:
        """Since when all members of the beginning list ``name`` in one of the states."""
        views, names, wanted = self._cluster.views, self._cluster.names, believes(*states, place=place)
        at = await views.until_agreed([name], names, wanted, timeout)
        if at is None:
            late = views.lacking([name], names, wanted)
            print(f"{name} is not {' or '.join(states)} at {' '.join(late)} after {timeout:g} s", file=sys.stderr)
        return at

    async def _noticed(self, one: list[str], other: list[str]) -> None:
        views, down = self._cluster.views, believes("down", *self._system.left)
        await asyncio.gather(
            views.until_agreed(other, one, down, self._system.pulse),
            views.until_agreed(one, other, down, self._system.pulse),
        )

    async def _clean(self, *newcomers: Member) -> None:
        """End them, and let the cluster forget them."""
        for each in newcomers:
            await self._cluster.end(each)
        name, names = newcomers[0].name, self._cluster.names
        gone = believes(*self._system.left)
        if self._cluster.views.agreed([name], names, gone) is None:
            await self._cluster.views.until_agreed(
                [name], names, believes("down", *self._system.left), self._system.pulse
            )
            await self._system.forget(self._cluster.members[0], name)
            await self._cluster.views.until_agreed([name], names, gone, _CLEANED)
        self._cluster.views.forget(name)


def _took(at: float, until: float | None) -> Took:
    return None if until is None else max(0.0, until - at)
