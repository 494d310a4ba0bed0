"""Supervisors over real links: what another node sees of a restart."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from clusterkit import (
    CallError,
    Child,
    GenServer,
    NoSuchServer,
    Ref,
    Stop,
    Supervisor,
    UnsupportedPayload,
    call,
    cast,
)
from tests.conftest import NodeFactory, eventually


class Worker(GenServer):
    def __init__(self, number: int = 0) -> None:
        self.number = number

    @call
    async def work(self) -> int:
        return self.number

    @call
    async def serial(self) -> int:
        return int(self.ref.address.to)

    @cast
    async def end(self, reason: str) -> None:
        raise Stop(reason)


class App(Supervisor):
    strategy = "rest_for_one"
    intensity, period = 50, 5.0

    def children(self) -> Sequence[Child[Any]]:
        return [Child(partial(Worker, n), name=f"w{n}", restart="transient") for n in range(3)]

    @call
    async def hire(self, name: str) -> None:
        await self.start_child(Child(Worker, name=name))


async def test_the_tutorials_program(start_node: NodeFactory) -> None:
    node = await start_node("a")
    await node.start(App(), name="app", link=True)
    w1 = node.ref(Worker, "w1")
    async with node.monitor(w1) as down:
        await node.stop(w1, "boom")
        assert (await down).reason == "boom"
    assert await w1.proxy.work() == 1


async def test_who_hears_of_an_end_on_another_node_finds_the_restarted_child(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await b.start(App(), name="app")
    for name in ("w0", "w1", "w2") * 5:
        ref = a.ref(Worker, name, on="b")
        serial = await ref.call(Worker.serial)
        async with a.monitor(ref) as down:
            await a.ref(Worker, "w0", on="b").cast(Worker.end, "boom")
            assert (await asyncio.wait_for(down, 5)).reason in ("boom", "shutdown")
        assert await ref.call(Worker.serial) > serial  # at once, and without a second try


async def test_children_are_asked_for_here_and_from_elsewhere_by_a_handler(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    app = await b.start(App(), name="app")
    ref = await app.call(App.start_child, Child(partial(Worker, 7), name="w7"))
    assert isinstance(ref, Ref)
    assert await ref.proxy.work() == 7
    there = a.ref(App, "app", on="b")
    await there.call(App.hire, "w8")
    await there.call(App.stop_child, "w8")
    with pytest.raises(NoSuchServer):
        await a.ref(Worker, "w8", on="b").call(Worker.work)
    await there.call(App.delete_child, "w8")
    with pytest.raises(NoSuchServer, match="supervisor app has no child 'w8'"):
        await there.call(App.delete_child, "w8")
    with pytest.raises(UnsupportedPayload):
        await there.call(App.start_child, Child(Worker))


async def test_calls_under_a_rain_of_crashes_end_in_a_value_or_a_known_error(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await b.start(App(), name="app")
    answered = failed = 0

    async def ask(name: str) -> None:
        nonlocal answered, failed
        for _ in range(60):
            try:
                assert await a.ref(Worker, name, on="b").call(Worker.work) in range(3)
                answered += 1
            except CallError:
                failed += 1

    async def crash() -> None:
        for n in range(40):
            await a.ref(Worker, f"w{n % 3}", on="b").cast(Worker.end, "boom")
            await asyncio.sleep(0.002)

    await asyncio.wait_for(asyncio.gather(crash(), *(ask(f"w{n % 3}") for n in range(6))), 60)
    assert answered + failed == 360
    assert answered
    await eventually(lambda: all(b.whereis(f"w{n}") is not None for n in range(3)))
    assert [await a.ref(Worker, f"w{n}", on="b").proxy.work() for n in range(3)] == [0, 1, 2]
