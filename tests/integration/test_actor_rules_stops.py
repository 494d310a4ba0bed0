"""Stops: in order, drained, suspended, by itself, with its node."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import (
    GenServer,
    NodeDown,
    NoSuchServer,
    Ref,
    ServerDown,
    UsageError,
    call,
    cast,
)
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration.places import Gate, Keeper, everywhere, place_of
from tests.integration.rule_actors import BesideTurns, Mortal, Turns, over

PATIENT = replace(QUICK, drain_timeout=20.0)


@everywhere
async def test_a_stop_is_ordered_behind_what_was_sent_before(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    for number in range(500):
        await ref.cast("n", number)
    await ref.call("end")
    for number in range(500):
        await place.home.ref(Keeper, "keeper").cast("n", number)
    await place.home.stop("keeper", "enough")
    assert len(keeper.seen) == 1_001
    assert keeper.reason == "enough"


@everywhere
async def test_a_suspended_actor_loses_nothing_and_handles_nothing(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    await place.home.suspend("keeper")
    await place.home.suspend("keeper")
    for number in range(100):
        await ref.cast("n", number)
    asking = asyncio.create_task(ref.call("end"))
    await eventually(lambda: place.home.inspect()[-1].depth == 101)
    assert keeper.seen == []
    assert place.home.inspect()[-1].suspended
    await place.home.resume("keeper")
    assert await asking == 101
    assert [each[-1] for each in keeper.seen[:100]] == list(range(100))


@pytest.mark.parametrize("cls", [Turns, BesideTurns])
async def test_suspending_waits_for_the_handler_that_runs(cls: type[Turns], start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    turns = cls()
    ref = await place.start(turns, "turns")
    working = asyncio.create_task(ref.call(Turns.work, "a"))
    await turns.gate.reached()
    with pytest.raises(TimeoutError, match="work"):
        await place.home.suspend("turns", timeout=0.01)
    suspending = asyncio.create_task(place.home.suspend("turns"))
    await ref.cast(Turns.work_silently, "b")
    await asyncio.sleep(0)
    assert not suspending.done()
    turns.gate.open()
    assert await working == "a"
    await suspending
    assert turns.notes == ["+a", "-a"]
    await place.home.resume("turns")
    await eventually(lambda: turns.notes[2:] == ["+b", "-b"])


@everywhere
async def test_a_suspended_actor_can_be_stopped_and_handles_what_waits_first(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    await place.home.suspend("keeper")
    await ref.cast("n", 1)
    await eventually(lambda: place.home.inspect()[-1].depth == 1)
    await place.home.stop("keeper")
    assert (len(keeper.seen), keeper.reason) == (1, "normal")


async def test_an_actor_that_drains_cannot_be_suspended(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    gate = Gate()
    keeper = Keeper(gate)
    ref = await place.start(keeper, "keeper")
    for number in range(3):
        await ref.cast("n", number)
    await gate.reached()
    stopping = asyncio.create_task(place.home.stop("keeper", timeout=60))
    await asyncio.sleep(0)
    suspending = asyncio.create_task(place.home.suspend("keeper"))
    await asyncio.sleep(0)
    gate.open()
    async with asyncio.timeout(10):
        await stopping
        await asyncio.wait([suspending])
    assert len(keeper.seen) == 3
    suspending.exception()


@everywhere
async def test_a_stopping_actor_takes_nothing_new(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    gate = Gate()
    ref = await place.start(Keeper(gate), "keeper")
    await ref.cast("n", 1)
    await gate.reached()
    await ref.cast("n", 2)
    await eventually(lambda: place.home.inspect()[-1].depth == 1)
    stopping = asyncio.create_task(place.home.stop("keeper"))
    gate.open()
    gate = Gate()
    with pytest.raises((ServerDown, NoSuchServer)) as caught:
        while True:
            await ref.call("ask")
    assert caught.value.executed == "no"
    await stopping


async def test_a_node_that_closes_drains_its_mailboxes_and_tells_others_that_it_leaves(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there", PATIENT)
    gate = Gate()
    keeper = Keeper(gate)
    ref = await place.start(keeper, "keeper")
    for number in range(3):
        await ref.cast("n", number)
    await eventually(lambda: place.home.inspect()[-1].depth == 2)
    closing = asyncio.create_task(place.home.aclose())
    with pytest.raises(NodeDown) as caught:
        while True:
            with suppress(ServerDown, TimeoutError):
                await ref.with_(timeout=0.05).call("ask")
    assert (caught.value.reason, caught.value.executed) == ("leaving", "no")
    gate.open()
    await closing
    assert [each[-1] for each in keeper.seen[:3]] == [0, 1, 2]
    assert keeper.reason == "shutdown"


async def test_a_node_stops_its_actors_in_the_reverse_of_the_order_in_which_they_started(
    start_node: NodeFactory,
) -> None:
    ends: list[str] = []

    class Noting(GenServer):
        def __init__(self, name: str) -> None:
            self.name = name

        async def terminate(self, reason: object) -> None:
            await asyncio.sleep(0.01 if self.name == "c" else 0)
            ends.append(self.name)

    node = await start_node("a")
    for name in "abc":
        await node.start(Noting(name))
    await node.aclose()
    assert ends == ["c", "b", "a"]


# -- one actor


class Selfish(Mortal):
    """Stops itself in one of its callbacks, by the node."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    async def _maybe(self, place: str) -> None:
        if self.place == place:
            await self.node.stop(self.ref, place)

    async def init(self) -> None:
        await self._maybe("init")
        self.continue_with("x")

    async def handle_continue(self, arg: Any) -> None:
        await self._maybe("continue")

    @call
    async def work(self) -> str:
        await self._maybe("call")
        return "done"

    async def handle_cast(self, request: Any) -> None:
        await self._maybe("cast")

    async def handle_info(self, info: Any) -> None:
        await self._maybe("info")

    async def terminate(self, reason: object) -> None:
        await self.node.stop(self.ref)
        await super().terminate(reason)


class SelfishBeside(Selfish):
    @call(concurrent=True)
    async def work(self) -> str:
        return await super().work()


SELFISH: dict[str, Callable[[Ref[Selfish]], Any]] = {
    "init": lambda ref: None,
    "continue": lambda ref: None,
    "call": lambda ref: ref.call("work"),
    "cast": lambda ref: ref.cast("anything"),
    "info": lambda ref: ref.send("anything"),
}


@pytest.mark.parametrize("place", SELFISH)
@pytest.mark.parametrize("cls", [Selfish, SelfishBeside])
async def test_an_actor_may_stop_itself_from_every_callback(
    place: str, cls: type[Selfish], start_node: NodeFactory
) -> None:
    node = await start_node("a")
    actor = cls(place)
    ref = await node.start(actor)
    if (act := SELFISH[place](ref)) is not None:
        assert await act in (None, "done")
    await eventually(lambda: actor.reason == place)
    await eventually(lambda: len(node.inspect()) == 1)


@pytest.mark.parametrize("weird", [object(), 7, None, ValueError("x"), "x" * 10_000, "\ud800", ""])
async def test_any_reason_is_told_as_text(weird: Any, start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    mortal = Mortal()
    ref = await place.start(mortal, "mortal")
    async with place.asker.monitor(ref) as down:
        await over(ref, place)
        await place.home.stop("mortal", weird)
        reason = (await asyncio.wait_for(down, 5)).reason
    assert 0 < len(reason.encode()) <= 1024
    assert mortal.reason is weird


async def test_a_reason_that_cannot_be_shown_leaves_nothing_behind(start_node: NodeFactory) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    node = await start_node("a")
    ref = await node.start(Mortal(), name="mortal")
    async with node.monitor(ref) as down:
        await node.stop("mortal", Shy())
        assert (await asyncio.wait_for(down, 5)).reason
    assert len(node.inspect()) == 1


async def test_stopping_an_init_that_never_returns_kills_it(start_node: NodeFactory) -> None:
    class Endless(GenServer):
        async def init(self) -> None:
            await asyncio.get_running_loop().create_future()

    node = await start_node("a")
    starting = asyncio.create_task(node.start(Endless(), name="endless"))
    await eventually(lambda: node.whereis("endless"))
    with pytest.raises(TimeoutError, match="init"):
        await node.suspend("endless", timeout=0.01)
    await node.stop("endless", timeout=0.01)
    with pytest.raises(Exception, match=r"init|kill|stopped"):
        await starting
    assert node.whereis("endless") is None


async def test_a_stopped_actor_is_unknown(start_node: NodeFactory) -> None:
    node = await start_node("a")
    ref = await node.start(Mortal(), name="mortal")
    await asyncio.gather(node.stop(ref), node.stop(ref))
    for act in (node.stop, node.suspend, node.resume):
        with pytest.raises(NoSuchServer):
            await act(ref)


async def test_what_runs_elsewhere_is_not_stopped_from_here(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    ref = await place.start(Mortal(), "mortal")
    for act in (place.asker.stop, place.asker.suspend, place.asker.resume):
        with pytest.raises(UsageError, match="home"):
            await act(ref)


async def test_a_stop_of_who_swallows_its_cancellation_says_so(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf(GenServer):
        def __init__(self) -> None:
            self.gate = Gate()

        @cast
        async def work(self) -> None:
            with suppress(asyncio.CancelledError):
                await self.gate.passed()
            await self.gate.passed()

    node = await start_node("a")
    actor = Deaf()
    ref = await node.start(actor, name="deaf")
    await ref.cast(Deaf.work)
    await actor.gate.reached()
    await node.stop("deaf", timeout=0.01)
    assert any("deaf does not end" in record.message for record in caplog.records)
    assert node.whereis("deaf") is not None
    actor.gate.open()
    await eventually(lambda: node.whereis("deaf") is None)


async def test_no_actor_starts_while_its_node_closes(start_node: NodeFactory) -> None:
    outcomes: list[Exception] = []

    class Last(GenServer):
        async def terminate(self, reason: object) -> None:
            try:
                await self.node.start(Mortal(), name="late")
            except UsageError as error:
                outcomes.append(error)

    node = await start_node("a")
    await node.start(Last())
    await node.aclose()
    assert len(outcomes) == 1


async def test_a_program_that_handles_a_failed_start_goes_on_and_one_whose_linked_actor_fails_ends(
    start_node: NodeFactory,
) -> None:
    class Failing(Mortal):
        async def init(self) -> None:
            raise OSError("no disk")

    node = await start_node("a")
    with pytest.raises(OSError, match="no disk"):
        await node.start(Failing(), link=True)
    running = asyncio.create_task(node.run_until_signal())
    for how in ("normal", "crash"):
        ref = await node.start(Mortal(), name="mortal", link=True)
        assert not running.done()
        await ref.cast(Mortal.end, how)
        await eventually(lambda: node.whereis("mortal") is None)
    with pytest.raises(ServerDown, match="mortal ended: ValueError: no such account"):
        await asyncio.wait_for(running, 5)
