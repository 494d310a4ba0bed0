"""Calls in a circle are refused at once, on any node."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    CallCycle,
    CallError,
    GenServer,
    call,
    cast,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, Place, everywhere, place_of


class Ring(GenServer):
    """Asks itself and others in circles."""

    def __init__(self) -> None:
        self.gate = Gate()

    @call
    async def around(self, stops: list[list[str]]) -> Any:
        if not stops:
            return "there"
        node, name = stops[0]
        return await self.node.ref(Ring, name, on=node).call(Ring.around, stops[1:])

    @call(concurrent=True)
    async def peek(self) -> str:
        return "seen"

    @call
    async def peek_around(self, node: str, name: str, back: list[str]) -> Any:
        return await self.node.ref(Ring, name, on=node).call(Ring.peek_at, back)

    @call
    async def peek_at(self, back: list[str]) -> Any:
        node, name = back
        return await self.node.ref(Ring, name, on=node).call(Ring.peek)

    @call
    async def later_around(self, stops: list[list[str]]) -> Any:
        node, name = stops[0]
        work = self.node.ref(Ring, name, on=node).call(Ring.around, stops[1:])
        return self.defer(self.caller, work)

    @call
    async def tell_around(self, node: str, name: str, back: list[str]) -> None:
        await self.node.ref(Ring, name, on=node).cast(Ring.told, back)

    @cast
    async def told(self, back: list[str]) -> None:
        self.answer = await self.node.ref(Ring, back[1], on=back[0]).call(Ring.around, [])


class PlainRing(GenServer):
    """Without handlers that run beside others."""

    @call
    async def around(self, stops: list[list[str]]) -> Any:
        if not stops:
            return "there"
        node, name = stops[0]
        return await self.node.ref(PlainRing, name, on=node).call(PlainRing.around, stops[1:])


async def circle(place: Place, cls: type[GenServer] = Ring) -> tuple[Any, list[str], list[str]]:
    """Actor x beside the asker, y at home: a reference to x, and where both are."""
    await place.home.start(cls(), name="y")
    ref = await place.asker.start(cls(), name="x")
    return ref, [place.asker.id.name, "x"], [place.home.id.name, "y"]


@everywhere
@pytest.mark.parametrize("cls", [Ring, PlainRing])
async def test_calling_oneself_is_a_cycle(where: str, cls: type[GenServer], start_node: NodeFactory) -> None:
    x, at_x, _ = await circle(await place_of(start_node, where), cls)
    with pytest.raises(CallCycle) as caught:
        await x.call("around", [at_x])
    assert len(caught.value.chain) == 1
    assert await x.call("around", []) == "there", "it lives"


@everywhere
@pytest.mark.parametrize("cls", [Ring, PlainRing])
async def test_a_call_to_who_waits_for_it_is_a_cycle_and_says_who_waits_for_whom(
    where: str, cls: type[GenServer], start_node: NodeFactory
) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where), cls)
    for stops in ([at_y, at_x], [at_y, at_y], [at_y, at_x, at_y, at_x]):
        async with asyncio.timeout(3):
            with pytest.raises(CallCycle) as caught:
                await x.call("around", stops)
        assert isinstance(caught.value, CallError)
        names = [turn.rpartition("/")[2] for turn in caught.value.chain]
        assert names == ["x", "y"]
    assert await x.call("around", [at_y]) == "there"


@everywhere
async def test_a_cycle_is_counted_and_costs_only_its_own_call(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, at_x, at_y = await circle(place)
    with pytest.raises(CallCycle):
        await x.call(Ring.around, [at_y, at_x])
    assert place.asker.stats()["cycles"] == 1
    assert await asyncio.gather(*(x.call(Ring.around, [at_y]) for _ in range(5))) == ["there"] * 5


@everywhere
async def test_a_concurrent_handler_answers_who_waits_for_it(where: str, start_node: NodeFactory) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where))
    async with asyncio.timeout(3):
        assert await x.call(Ring.peek_at, at_x) == "seen"
        assert await x.call(Ring.peek_around, *at_y, at_x) == "seen"


@everywhere
async def test_a_concurrent_handler_answers_who_waits_for_it_past_others_in_the_mailbox(
    where: str, start_node: NodeFactory
) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where))
    async with asyncio.timeout(3):
        first, *others = (asyncio.create_task(each) for each in (
            x.call(Ring.peek_around, *at_y, at_x), x.call(Ring.around, []), x.call(Ring.around, []),
        ))  # fmt: skip
        assert await first == "seen"
        assert await asyncio.gather(*others) == ["there", "there"]


@everywhere
async def test_deferred_work_keeps_nobody_waiting_so_it_may_come_back(where: str, start_node: NodeFactory) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where))
    async with asyncio.timeout(3):
        assert await x.call(Ring.later_around, [at_y, at_x]) == "there"


@everywhere
async def test_a_cast_waits_for_nobody_so_it_makes_no_cycle(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, at_x, at_y = await circle(place)
    await x.call(Ring.tell_around, *at_y, at_x)
    y = place.home._processes[place.home.whereis("y").address.to].actor  # type: ignore[union-attr,index]
    await eventually(lambda: getattr(y, "answer", "") == "there")


@everywhere
async def test_waiting_in_line_behind_others_is_no_cycle(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, at_y = await circle(place)
    y = place.ref(Ring, "y")
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(x.call(Ring.around, [at_y]) for _ in range(20)), *(y.call(Ring.around, []) for _ in range(20))
        )
    assert answers == ["there"] * 40
