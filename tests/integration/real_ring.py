"""Rings of real processes that do what a test orders, and say what they see: `ring_app` on the test's side.

::

    async with RealRing() as ring:
        await ring.start_all("abc")
        await ring["a"].order("insert", "x@127.0.0.1:7022")
        await ring.agrees("abc", alive("abc"))

What is waited for is a condition with a deadline; an error says who saw what.
"""

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusterkit.testing import Child, Processes
from clusterkit.testing.namespaces import Namespaces
from tests.integration.ring_app import serve

TARGET = f"{serve.__module__}:{serve.__name__}"
RING = "real"
DEADLINE = 30.0  # seconds until all must see the same, on a machine that has much else to do
START = 60.0  # seconds in which a process starts and joins, many at once
ORDER = 15.0  # seconds that one order may take
LOOK = 0.05  # seconds between two looks at all views
PORT = 7022  # of each node that has a host of its own


class OrderRefused(Exception):
    """An order came back with an error of clusterkit's, or of the system's: ``kind`` is its class's name."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Disagreement(AssertionError):
    """The nodes do not see what they should; the text has all views."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A member as a node sees it. ``why`` is what that node knows itself, and no part of an agreement."""

    name: str
    node: str
    incarnation: int
    state: str
    ready: bool
    weight: int
    why: str

    @property
    def known(self) -> tuple[str, int, str, bool, int]:
        """What all must see alike."""
        return self.node, self.incarnation, self.state, self.ready, self.weight

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return f"{self.node}/{self.incarnation} {self.state}{why} weight {self.weight}"


@dataclass(frozen=True, slots=True)
class View:
    """What one node sees: its ring's id, its own incarnation, all members by name."""

    ring: str
    incarnation: int
    members: Mapping[str, Seen]

    @property
    def states(self) -> dict[str, str]:
        """The members' states by name."""
        return {name: member.state for name, member in self.members.items()}


def alive(names: Iterable[str]) -> dict[str, str]:
    """Expect all of these to be alive."""
    return dict.fromkeys(names, "alive")


CHANGES = ("MemberJoined", "MemberDown", "MemberLeft", "MemberRemoved", "MemberUpdated", "NameConflict")


def difference(views: Mapping[str, View], states: Mapping[str, str]) -> str | None:
    """Say what is not as it should be: all see these states, one and the same members, and each as it is."""
    known = {name: [member.known for member in view.members.values()] for name, view in views.items()}
    expected = dict(sorted(states.items()))
    right = all(view.states == expected for view in views.values())
    itself = all(view.incarnation == view.members[name].incarnation for name, view in views.items() if right)
    if right and itself and all(each == next(iter(known.values())) for each in known.values()):
        return None
    seen = [f"{name} sees {', '.join(map(str, view.members.values()))}" for name, view in views.items()]
    return "\n".join([f"expected {expected}", *seen])


class Member:
    """One node's process, its latest life: ``child``."""

    def __init__(self, name: str, child: Child, address: str, orders: Path) -> None:
        self.name = name
        self.child = child
        self.address = address
        """``name@host:port``; port 0 until it listens, if the system chooses."""
        self._orders = orders

    @property
    def place(self) -> str:
        """``host:port``."""
        return self.address.partition("@")[2]

    async def order(self, do: str, *arguments: Any, within: float = ORDER, **options: Any) -> Any:
        """Have it do something and return what came of it; raises `OrderRefused`."""
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_unix_connection(self._orders)
            try:
                writer.write(json.dumps({"do": do, "arguments": arguments, "options": options}).encode() + b"\n")
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
                await writer.wait_closed()
        if "error" in answer:
            raise OrderRefused(answer["error"], answer["text"])
        return answer["answer"]

    async def view(self) -> View:
        """What it sees."""
        seen = await self.order("view")
        members = {each["name"]: Seen(**each) for each in seen["members"]}
        return View(seen["ring"], seen["incarnation"], members)

    async def events(self, *kinds: str) -> list[dict[str, Any]]:
        """What its ring told it so far; of these kinds, if any are given."""
        told: list[dict[str, Any]] = await self.order("events")
        return [each for each in told if not kinds or each["kind"] in kinds]


class RealRing:
    """Any number of nodes, each a process; on ``hosts`` each has a host of its own."""

    def __init__(self, hosts: Namespaces | None = None) -> None:
        self.hosts = hosts
        self._processes = Processes(environment={"CLUSTERKIT_COOKIE": os.urandom(32).hex()})
        self._members: dict[str, Member] = {}
        self._stack = AsyncExitStack()
        self._files = itertools.count()
        self._directory = Path()

    def __getitem__(self, name: str) -> Member:
        """The latest life of the process of that name."""
        return self._members[name]

    # -- life

    async def start(
        self,
        name: str,
        seeds: Iterable[str] = (),
        *,
        process: str | None = None,
        ring: str | None = RING,
        state_dir: Path | None = None,
        ahead: float = 0.0,
        patience: float = 10.0,
        same_port: bool = False,
    ) -> Member:
        """Start a node and wait until it listens; it then joins through ``seeds``, which are ``host:port``.

        ``process`` is what the test calls it, if not by its name. ``ahead`` is what its wall clock is ahead.
        """
        called = process or name
        options = {"ring": ring, "ahead": ahead, "patience": patience}
        before = self._members.get(called)
        address = before.address if before and same_port else f"{name}@{self._free(called)}"
        child = await self.launch(called, address, seeds=list(seeds), state_dir=state_dir, **options)
        self._members[called].address = (await child.reported("listening", timeout=START))["listening"]
        return self._members[called]

    async def launch(self, called: str, address: str, *, state_dir: Path | None = None, **options: Any) -> Child:
        """Start a process, whatever comes of it."""
        orders = self._directory / str(next(self._files))
        argument = {
            "ring": RING,
            "seeds": [],
            "ahead": 0.0,
            "patience": 10.0,
            **options,
            "address": address,
            "orders": str(orders),
            "state_dir": None if state_dir is None else str(state_dir),
        }
        within = () if self.hosts is None else self.hosts.within(called)
        child = await self._processes.start(called, TARGET, argument, within=within)
        self._members[called] = Member(called, child, address, orders)
        return child

    def _free(self, name: str) -> str:
        """Where a node may listen: a port that the system chooses, or the one port of its host."""
        return "127.0.0.1:0" if self.hosts is None else f"{self.hosts.address(name)}:{PORT}"

    async def joined(self, name: str) -> None:
        """Wait until a node that was started has joined."""
        outcome = await self[name].child.reported("came", timeout=START)
        assert "joined" in outcome, outcome

    async def start_all(self, names: Iterable[str], **options: Any) -> None:
        """Start nodes, all at once but the first, which is the others' seed; return when all see all."""
        first, *others = names
        await self.start(first, **options)
        await self.joined(first)
        seeds = [self[first].place]
        await together(self.start(name, seeds, **options) for name in others)
        await together(self.joined(name) for name in others)
        await self.agrees(names, alive(names))

    async def restart(self, name: str, seeds: Iterable[str], **options: Any) -> None:
        """Start a node that was killed again, and wait until it has joined."""
        await self[name].child.ended(timeout=DEADLINE)
        await self.start(name, [self[seed].place for seed in seeds], **options)
        await self.joined(name)

    # -- what they see

    async def views(self, names: Iterable[str]) -> dict[str, View]:
        """What each of these sees."""
        asked = list(names)
        return dict(zip(asked, await together(self[name].view() for name in asked), strict=True))

    async def sees(self, names: Iterable[str], states: Mapping[str, str], *, within: float = DEADLINE) -> None:
        """Wait until each of these sees the same members, in these states; raises `Disagreement`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while (why := difference(await self.views(names), states)) is not None:
            if loop.time() >= deadline:
                raise Disagreement(f"after {within:g} s\n{why}")
            await asyncio.sleep(LOOK)

    async def agrees(self, names: Iterable[str], states: Mapping[str, str]) -> dict[str, View]:
        """Wait as `sees` does, and until each says that all have converged and they see it still.

        Again if need be: a process that is starved by others may be suspected at any time.
        """
        names = list(names)
        async with asyncio.timeout(2 * DEADLINE):
            while True:
                await self.sees(names, states)
                await together(self[name].order("converged", DEADLINE, within=DEADLINE + ORDER) for name in names)
                views = await self.views(names)
                if difference(views, states) is None:
                    return views

    async def told(self, names: Iterable[str], *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        """All events of these kinds that these nodes were told: pairs of a node's name and an event."""
        return [(name, event) for name in names for event in await self[name].events(*kinds)]

    # -- the network

    async def split(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Cut all of ``one`` off from all of ``other``: each host drops what the other side sends."""
        one, other = list(one), list(other)
        sides = [(host, other) for host in one] + [(host, one) for host in other]
        await together(self._refuse(host, sources) for host, sources in sides)

    async def _refuse(self, host: str, sources: Iterable[str]) -> None:
        assert self.hosts is not None
        rule = ("-I", "INPUT", "-s", ",".join(map(self.hosts.address, sources)), "-j", "DROP")
        done = await asyncio.create_subprocess_exec(*self.hosts.within(host), "iptables", *rule)
        async with asyncio.timeout(ORDER):
            assert await done.wait() == 0

    # -- the block

    async def __aenter__(self) -> Self:
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ck-")))
        await self._stack.enter_async_context(self._processes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)


@asynccontextmanager
async def ring_on_hosts(names: Iterable[str]) -> AsyncIterator[RealRing]:
    """A ring whose nodes have a host each, which can be cut off."""
    async with Namespaces(names) as hosts, RealRing(hosts) as ring:
        yield ring


async def together(work: Iterable[Any]) -> list[Any]:
    """Await all at once; the first error ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
