"""One handler at a time, and what runs beside it: turns, concurrent handlers, deferred answers, suspended actors."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    NOREPLY,
    From,
    GenServer,
    Mailbox,
    NoReply,
    ServerDown,
    Stop,
    call,
    cast,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, everywhere, place_of
from tests.integration.rule_actors import BesideTurns, Turns


@everywhere
@pytest.mark.parametrize("cls", [Turns, BesideTurns])
async def test_one_handler_at_a_time_and_its_awaits_let_no_other_message_in(
    where: str, cls: type[Turns], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    turns = cls()
    ref = await place.start(turns, "turns")
    first = asyncio.create_task(ref.call(Turns.work, "a"))
    await turns.gate.reached()
    await ref.cast(Turns.work_silently, "b")
    await ref.cast("event", "c")
    last = asyncio.create_task(ref.call("event", "d"))
    await eventually(lambda: place.home.inspect()[-1].depth == 3)
    assert turns.notes == ["+a"]
    turns.gate.open()
    assert [await first, await last] == ["a", "d"]
    assert turns.notes == ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"]


@everywhere
async def test_a_concurrent_handler_starts_in_its_turn_and_lets_others_in(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    turns = BesideTurns()
    ref = await place.start(turns, "turns")
    first = asyncio.create_task(ref.call(Turns.work, "turn"))
    await turns.gate.reached()
    beside = [asyncio.create_task(ref.call(BesideTurns.peek, name)) for name in "abc"]
    await turns.gate.reached(4)
    await ref.cast(Turns.work_silently, "waits")
    last = asyncio.create_task(ref.call(BesideTurns.peek, "behind"))
    await eventually(lambda: place.home.inspect()[-1].depth == 2)
    assert turns.notes == ["+turn", "+a", "+b", "+c"], "those behind a handler that keeps its turn wait"
    turns.gate.open()
    assert await asyncio.gather(first, *beside, last) == ["turn", "a", "b", "c", "behind"]
    assert turns.notes.index("+behind") > turns.notes.index("+waits")


class Deferring(GenServer):
    """Answers later."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.cancelled = 0

    async def _later(self, value: Any) -> Any:
        try:
            await self.gate.passed()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if value == "no":
            raise ValueError(value)
        return value

    @call
    async def later(self, value: Any) -> Any:
        return self.defer(self.caller, self._later(value))

    @call
    async def now(self) -> str:
        return "now"

    @call
    async def defer_and_stop(self) -> Any:
        self.defer(self.caller, self._later(1))
        raise Stop("gone")


class SplitDeferring(Deferring):
    @call(cancellable=True)
    async def other(self) -> None: ...


deferring = pytest.mark.parametrize("cls", [Deferring, SplitDeferring])


@everywhere
@deferring
async def test_deferred_work_answers_later_and_lets_other_messages_in(
    where: str, cls: type[Deferring], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    actor = cls()
    ref = await place.start(actor, "deferring")
    good, bad = (asyncio.create_task(ref.call(Deferring.later, value)) for value in (7, "no"))
    await actor.gate.reached(2)
    assert await ref.call(Deferring.now) == "now"
    assert place.home.inspect()[-1].beside == 2
    actor.gate.open()
    assert await good == 7
    with pytest.raises(ValueError, match="no"):
        await bad
    await eventually(lambda: place.home.inspect()[-1].beside == 0)


@everywhere
@deferring
async def test_deferred_work_dies_with_its_actor(where: str, cls: type[Deferring], start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    actor = cls()
    ref = await place.start(actor, "deferring")
    asking = asyncio.create_task(ref.call(Deferring.later, 7))
    await actor.gate.reached()
    await place.home.stop("deferring", drain=False)
    with pytest.raises(ServerDown) as caught:
        await asking
    assert (caught.value.executed, actor.cancelled) == ("maybe", 1)


@everywhere
@deferring
async def test_work_that_is_deferred_by_an_actor_that_stops_never_begins(
    where: str, cls: type[Deferring], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(cls(), "deferring")
    with pytest.raises(ServerDown, match="deferring"):
        await ref.call(Deferring.defer_and_stop)


@everywhere
@deferring
async def test_a_stop_waits_for_deferred_work_as_for_what_waits(
    where: str, cls: type[Deferring], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    actor = cls()
    ref = await place.start(actor, "deferring")
    asking = asyncio.create_task(ref.call(Deferring.later, 7))
    await actor.gate.reached()
    stopping = asyncio.create_task(place.home.stop("deferring"))
    await eventually(lambda: place.home._processes[2].mailbox.closing)
    actor.gate.open()
    await stopping
    assert await asking == 7


@everywhere
async def test_an_answer_left_open_may_come_from_another_actor_of_that_node(
    where: str, start_node: NodeFactory
) -> None:
    class Front(GenServer):
        @call
        async def ask(self, value: int) -> int:
            await self.node.ref(Back, "back").cast(Back.answer, self.caller, value)
            raise NoReply

        def handle_call(self, request: Any, frm: From) -> Any:
            self.waiting = frm
            return NOREPLY

    class Back(GenServer):
        @cast
        async def answer(self, frm: From, value: int) -> None:
            if value < 0:
                await self.reply_error(frm, ValueError("negative"))
            await self.reply(frm, value * 2)

    place = await place_of(start_node, where)
    await place.start(Back(), "back")
    front = Front()
    ref = await place.start(front, "front")
    assert await ref.call(Front.ask, 4) == 8
    with pytest.raises(ValueError, match="negative"):
        await ref.call(Front.ask, -1)
    for number in range(300):
        assert await ref.call(Front.ask, number) == 2 * number
    process = front._clusterkit_process
    assert process is not None
    assert len(process.handlers.open) < 200, "calls that were answered are not kept"


async def test_deferred_work_is_bounded_as_the_mailbox_is(start_node: NodeFactory) -> None:
    class Deferring(GenServer):
        mailbox = Mailbox(5)

        def __init__(self) -> None:
            self.gate = Gate()

        @call
        async def later(self) -> Any:
            return self.defer(self.caller, self.gate.passed())

    place = await place_of(start_node, "here")
    actor = Deferring()
    ref = await place.start(actor, "deferring")
    asking = []
    for _ in range(8):
        asking.append(asyncio.create_task(ref.call(Deferring.later)))
        await asyncio.sleep(0.01)
    info = place.home.inspect()[-1]
    assert (info.beside, info.depth) == (5, 3)
    actor.gate.open()
    assert await asyncio.gather(*asking) == [None] * 8
