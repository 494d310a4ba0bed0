"""Actors that the tests of the rules ask, watch and end."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    CallTimeout,
    Down,
    Exit,
    GenServer,
    Ref,
    Stop,
    call,
    cast,
    deadline,
    on,
)
from tests.integration.places import Gate, Keeper, Place


class Counter(GenServer):
    """Counts how often it was asked, and breaks when it is told to."""

    def __init__(self) -> None:
        self.asked = 0

    @call
    async def count(self) -> int:
        self.asked += 1
        return self.asked

    @call
    async def count_and_die(self) -> int:
        self.asked += 1
        raise Stop("tired")


class Turns(GenServer):
    """Notes what begins and what ends."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.notes: list[str] = []

    @call
    async def work(self, name: str) -> str:
        return await self._turn(name)

    @cast
    async def work_silently(self, name: str) -> None:
        await self._turn(name)

    @on("event")
    async def work_as_an_event(self, name: Any) -> str:
        return await self._turn(name)

    async def _turn(self, name: str) -> str:
        self.notes.append(f"+{name}")
        await self.gate.passed()
        self.notes.append(f"-{name}")
        return name


class BesideTurns(Turns):
    @call(concurrent=True)
    async def peek(self, name: str) -> str:
        return await self._turn(name)

    @call(cancellable=True)
    async def look(self, name: str) -> str:
        return await self._turn(name)


class Worker(GenServer):
    """Works behind a gate, and asks others for more."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.ran: list[Any] = []
        self.cancelled: list[Any] = []

    async def _work(self, what: Any) -> Any:
        self.ran.append(what)
        try:
            await self.gate.passed()
        except asyncio.CancelledError:
            self.cancelled.append(what)
            raise
        return what

    @call
    async def work(self, what: Any = None) -> Any:
        return await self._work(what)

    @call(timeout=0.05)
    async def quick_work(self) -> Any:
        return await self._work("quick")

    @call
    async def work_later(self, what: Any = None) -> Any:
        return self.defer(self.caller, self._work(what))

    @call
    async def relay(self, node: str, name: str, method: str, timeout: float = 60.0) -> Any:
        return await self.node.ref(Worker, name, on=node).with_(timeout=timeout).call(method)

    @call
    async def relay_within(self, node: str, name: str, seconds: float) -> Any:
        with deadline(seconds):
            return await self.node.ref(Worker, name, on=node).with_(timeout=60).call("work")

    @call
    async def background(self, node: str, name: str) -> None:
        self.task = asyncio.get_running_loop().create_task(self.node.ref(Worker, name, on=node).call("work"))

    @call
    async def time_left(self) -> float:
        assert self.caller.deadline is not None
        return self.caller.deadline - asyncio.get_running_loop().time()


class Cancellable(Worker):
    """The same, and what it does may be cancelled."""

    @call(cancellable=True)
    async def frail_work(self, what: Any = None) -> Any:
        return await self._work(what)

    @call(cancellable=True)
    async def frail_relay(self, node: str, name: str, method: str) -> Any:
        return await self.node.ref(Cancellable, name, on=node).with_(timeout=60).call(method)


workers = pytest.mark.parametrize("cls", [Worker, Cancellable])


async def timed_out(asking: Any) -> CallTimeout:
    """The error of a call that times out, well before the default would let it."""
    with pytest.raises(CallTimeout) as caught:
        async with asyncio.timeout(3):
            await asking
    assert isinstance(caught.value, TimeoutError)
    return caught.value


def depth(place: Place, name: str) -> int:
    return next(each.depth for each in place.home.inspect() if each.name == name)


async def given_up(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Mortal(GenServer):
    """Ends in every way."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.reason: object = None

    @cast
    async def end(self, how: str) -> None:
        match how:
            case "normal":
                raise Stop
            case "shutdown":
                raise Stop("shutdown")
            case "crash":
                raise ValueError("no such account")
            case "long":
                raise ValueError("x" * 100_000)
            case "silent":
                raise KeyError
            case "hang":
                await self.gate.passed()

    @call
    async def ping(self) -> str:
        return "pong"

    async def terminate(self, reason: object) -> None:
        self.reason = reason


class Watcher(Keeper):
    """Watches, links, and keeps what it hears."""

    def __init__(self, *, trap_exit: bool = True) -> None:
        super().__init__()
        self.trap_exit = trap_exit
        self.tokens: list[Any] = []

    @on("watch")
    def watch(self, ref: Any) -> None:
        self.tokens.append(self.monitor(ref))

    @on("unwatch")
    def unwatch(self, data: Any) -> None:
        self.demonitor(self.tokens[-1])

    @on("link")
    def link_with(self, ref: Any) -> None:
        self.link(ref)

    @on("unlink")
    def unlink_from(self, ref: Any) -> None:
        self.unlink(ref)

    @on("ping")
    def ping(self, data: Any) -> str:
        return "pong"

    def heard(self, kind: type[Down | Exit]) -> list[str]:
        return [each.reason for each in self.seen if isinstance(each, kind)]


async def watching(place: Place, *, trap_exit: bool = True) -> tuple[Watcher, Ref[Watcher]]:
    watcher = Watcher(trap_exit=trap_exit)
    return watcher, await place.asker.start(watcher, name="watcher")


async def over(ref: Ref[Any], place: Place) -> None:
    """Return when what one node sent to the other before this has arrived."""
    for _ in range(3):
        for node in (place.asker, place.home):
            await node.ping(place.home.id.name)
            await node.ping(place.asker.id.name)


ENDS = {
    "normal": "normal",
    "shutdown": "shutdown",
    "crash": "ValueError: no such account",
    "long": "ValueError: " + "x" * (1024 - 12),
    "silent": "KeyError",
}
