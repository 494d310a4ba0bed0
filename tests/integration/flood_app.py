"""A process with an actor that sleeps, and one that floods it: see test_floods.py.

Both measure how far the memory of their process grew, from before the flood to its peak.
"""

import asyncio
import gc
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterkit import Config, DeadLetter, GenServer, Mailbox, MailboxFull, Node, Ref, Refused, call, cast
from clusterkit.testing.child import report

COOKIE = "the cookie of all floods"
PATIENT = Config(call_timeout=60.0)
_STATUS = Path("/proc/self/status")


def _mebibytes(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


class Memory:
    """How far the memory of this process has grown, at most."""

    def __init__(self) -> None:
        gc.collect()
        self._before = _mebibytes("VmRSS")

    @property
    def growth(self) -> float:
        return _mebibytes("VmHWM") - self._before


def sleeper(overflow: Any) -> "Sleeper":
    """An actor that sleeps until it is woken, with the default bounds."""

    class Bounded(Sleeper):
        mailbox = Mailbox(overflow=overflow)

    return Bounded()


class Sleeper(GenServer):
    """Handles nothing until it is woken; then all that it was sent and that was not refused."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.handled = 0
        self.last = -1
        self.in_order = True

    async def _note(self, number: int) -> None:
        await self.awake.wait()
        self.in_order &= number > self.last
        self.last = number
        self.handled += 1

    @cast
    async def take(self, number: int) -> None:
        await self._note(number)

    @call
    async def answer(self, number: int) -> int:
        await self.awake.wait()
        self.handled += 1
        return number


class Warden(GenServer):
    """Wakes the sleeper, and tells what became of what was sent to it."""

    def __init__(self, sleeper: Sleeper, node: Node) -> None:
        self._sleeper = sleeper
        self._dead = 0
        self._memory = Memory()
        node.on(DeadLetter, self._lost)

    def _lost(self, letter: DeadLetter) -> None:
        self._dead += 1

    @call
    async def wake(self) -> None:
        self._sleeper.awake.set()

    @call
    async def totals(self) -> dict[str, Any]:
        sleeper = self._sleeper
        return {
            "handled": sleeper.handled,
            "in_order": sleeper.in_order,
            "dead": self._dead,
            "growth": self._memory.growth,
        }


async def receive(argument: dict[str, Any]) -> None:
    """Hold the sleeper until the parent is done."""
    async with Node("receiver@127.0.0.1:0", cookie=COOKIE, config=PATIENT) as node:
        await node.ring.join("flood")
        sleeping = sleeper(argument["overflow"])
        await node.start(sleeping, name="sleeper")
        await node.start(Warden(sleeping, node), name="warden")
        report(address=node.id.address)
        await asyncio.get_running_loop().create_future()


class Flood:
    """What is sent, and what its sender is told of it."""

    def __init__(self, node: Node, count: int, on: str | None) -> None:
        self.count = count
        self.memory = Memory()
        self.outcomes: Counter[str] = Counter()
        self.refused = 0
        self.waker = node.ref(Warden, "warden", on=on)
        self._sleeper: Ref[Sleeper] = node.ref(Sleeper, "sleeper", on=on)
        node.on(Refused, self._told)

    def _told(self, refused: Refused) -> None:
        assert refused.reason == "mailbox_full"
        self.refused += refused.count

    async def of_casts(self) -> None:
        """Cast so often, whatever comes of it; wake the sleeper behind it."""
        for number in range(self.count):
            try:
                await self._sleeper.cast(Sleeper.take, number)
            except MailboxFull:
                self.outcomes["raised"] += 1
            else:
                self.outcomes["taken"] += 1
        await self.waker.call(Warden.wake)

    async def of_casts_that_keep_trying(self) -> None:
        """Cast until each was taken. The sleeper is woken when nothing more was for a while."""
        waking = asyncio.get_running_loop().call_later(2.0, self._wake_soon)
        impatient = self._sleeper.with_(timeout=0.05)
        for number in range(self.count):
            while True:
                try:
                    await impatient.cast(Sleeper.take, number)
                except MailboxFull:
                    self.outcomes["raised"] += 1
                    continue
                break
            self.outcomes["taken"] += 1
        waking.cancel()
        await self.waker.call(Warden.wake)

    def _wake_soon(self) -> None:
        self._waking = asyncio.ensure_future(self.waker.call(Warden.wake))

    async def of_calls(self, callers: int) -> None:
        """Call so often from so many tasks; wake the sleeper when all the others were refused."""
        numbers = iter(range(self.count))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._calls(numbers)) for _ in range(callers)]
            async with asyncio.timeout(500):
                while self.outcomes["begun"] < self.count:
                    await asyncio.sleep(0.05)
            await self.waker.call(Warden.wake)
        assert all(task.done() for task in tasks)

    async def _calls(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.outcomes["begun"] += 1
            try:
                answer = await self._sleeper.with_(timeout=600).call(Sleeper.answer, number)
            except MailboxFull as error:
                self.outcomes["raised"] += error.executed == "no"
            else:
                assert answer == number
                self.outcomes["answered"] += 1

    async def settled(self, timeout: float) -> dict[str, Any]:
        """What became of it all, when nothing is under way any more."""
        totals: dict[str, Any] = {}
        async with asyncio.timeout(timeout):
            while not self._is_accounted(totals):
                await asyncio.sleep(0.05)
                totals = await self.waker.call(Warden.totals)
        told = {"refused": self.refused, "taken": self.outcomes["taken"], "raised": self.outcomes["raised"]}
        return told | {"there": totals, "growth": self.memory.growth, "answered": self.outcomes["answered"]}

    def _is_accounted(self, totals: dict[str, Any]) -> bool:
        lost = max(totals.get("dead", 0), self.refused)
        return bool(totals) and totals["handled"] + lost + self.outcomes["raised"] >= self.count


async def send(argument: dict[str, Any]) -> None:
    """Flood the sleeper, on another node or, without ``seeds``, on this one."""
    async with Node("sender@127.0.0.1:0", cookie=COOKIE, config=PATIENT) as node:
        await node.ring.join("flood", seeds=argument["seeds"], timeout=60)
        if not argument["seeds"]:
            sleeping = sleeper(argument["overflow"])
            await node.start(sleeping, name="sleeper")
            await node.start(Warden(sleeping, node), name="warden")
        flood = Flood(node, argument["count"], "receiver" if argument["seeds"] else None)
        match argument["kind"]:
            case "casts":
                await flood.of_casts()
            case "casts that keep trying":
                await flood.of_casts_that_keep_trying()
            case "calls":
                await flood.of_calls(callers=1_200)
        report(settled=await flood.settled(argument["patience"]))
        await asyncio.get_running_loop().create_future()
