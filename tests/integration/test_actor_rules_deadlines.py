"""Deadlines: the earliest counts, here and on another node; what is past it does not start."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    ConfigError,
    GenServer,
    NoReply,
    UsageError,
    call,
    deadline,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, everywhere, place_of
from tests.integration.rule_actors import Cancellable, Worker, depth, timed_out, workers


@everywhere
async def test_a_call_ends_at_its_own_timeout(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    error = await timed_out(ref.with_(timeout=0.05).call(Worker.work))
    assert (error.executed, error.target) == ("maybe", "worker.work")


@everywhere
async def test_a_call_ends_at_its_handlers_timeout(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    await timed_out(ref.call(Worker.quick_work))


@everywhere
async def test_a_call_ends_at_the_deadline_that_it_is_made_in(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    async with deadline(60), deadline(0.05):
        await timed_out(ref.with_(timeout=60).call(Worker.work))
    with deadline(0.05), deadline(60):
        await timed_out(ref.with_(timeout=60).call(Worker.work))
    with deadline(60):
        await timed_out(ref.with_(timeout=0.05).call(Worker.work))


@everywhere
@workers
async def test_a_call_ends_at_the_deadline_of_the_call_that_it_is_made_for(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    inner = cls()
    await place.start(inner, "inner")
    outer = await place.start(cls(), "outer")
    home = place.home.id.name
    await timed_out(outer.with_(timeout=0.2).call(Worker.relay, home, "inner", "work"))
    inner.gate.open()
    assert await outer.call(Worker.relay, home, "inner", "work") is None, "the relay of the first has ended too"


@everywhere
async def test_time_left_is_what_travels(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    await place.start(Worker(), "inner")
    outer = await place.start(Worker(), "outer")
    left = await outer.with_(timeout=7).call(Worker.relay, place.home.id.name, "inner", "time_left")
    assert 4 < left <= 7


@everywhere
async def test_a_deadline_inside_a_handler_bounds_what_it_asks(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    await place.start(Worker(), "inner")
    outer = await place.asker.start(Worker())
    await timed_out(outer.with_(timeout=60).call(Worker.relay_within, place.home.id.name, "inner", 0.05))


@everywhere
async def test_past_its_deadline_nothing_is_sent(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    worker = Worker()
    ref = await place.start(worker, "worker")
    with deadline(0):
        error = await timed_out(ref.call(Worker.work))
    assert (error.executed, worker.ran) == ("no", [])


@everywhere
async def test_who_tries_again_past_its_deadline_lets_the_loop_run(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, over.set)
    with deadline(0):
        while not over.is_set():
            assert (await timed_out(ref.call(Worker.work))).executed == "no"


@everywhere
async def test_a_deadline_does_not_cancel_the_body(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    with deadline(0.01):
        await timed_out(ref.call(Worker.work))
        await asyncio.sleep(0.02)


@everywhere
async def test_a_task_that_outlives_a_deadline_or_its_turn_is_not_bound_by_it(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker, starter = Worker(), Worker()
    ref = await place.start(worker, "worker")
    worker.gate.open()

    async def later() -> Any:
        await asyncio.sleep(0.1)
        return await ref.call(Worker.work, "later")

    with deadline(0.02):
        task = asyncio.get_running_loop().create_task(later())
    assert await task == "later"
    worker.gate = Gate()
    background = await place.asker.start(starter)
    await background.with_(timeout=0.2).call(Worker.background, place.home.id.name, "worker")
    await worker.gate.reached()
    await asyncio.sleep(0.3)
    worker.gate.open()
    assert await starter.task is None


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "1"])
def test_a_deadline_that_cannot_be_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="deadline"):
        deadline(bad)


async def test_a_deadline_is_entered_once() -> None:
    bound = deadline(1)
    with bound, pytest.raises(UsageError), bound:
        pass


@everywhere
@workers
async def test_a_request_past_its_deadline_is_not_started(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    first = asyncio.create_task(ref.call(Worker.work, "first"))
    await worker.gate.reached()
    error = await timed_out(ref.with_(timeout=0.05).call(Worker.work, "second"))
    assert error.executed == ("no" if place.is_here else "maybe"), "what was written to a connection may have run"
    if place.is_here:
        assert depth(place, "worker") == 0, "it is removed at once"
    worker.gate.open()
    assert await first == "first"
    assert await ref.call(Worker.work, "third") == "third"
    assert worker.ran == ["first", "third"]


@everywhere
@workers
async def test_a_handler_that_runs_past_its_deadline_goes_on_and_its_reply_is_dropped(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    await timed_out(ref.with_(timeout=0.05).call(Worker.work, 1))
    assert worker.gate.waiting == 1
    worker.gate.open()
    assert await ref.call(Worker.work, 2) == 2
    assert worker.cancelled == []
    await eventually(lambda: place.is_here or place.asker.stats()["late_replies"] == 1)


@everywhere
async def test_a_cancellable_handler_and_deferred_work_end_at_the_deadline(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    for worker, method in ((Cancellable(), "frail_work"), (Cancellable(), "work_later"), (Worker(), "work_later")):
        ref = await place.start(worker, "worker")
        await timed_out(ref.with_(timeout=0.05).call(method, 1))
        await eventually(lambda worker=worker: worker.cancelled == [1])  # type: ignore[misc]
        await place.home.stop("worker")


@everywhere
async def test_a_cancellable_handler_that_has_answered_may_go_on(where: str, start_node: NodeFactory) -> None:
    class Generous(GenServer):
        done = False

        @call(cancellable=True)
        async def give(self) -> str:
            await self.reply(self.caller, "at once")
            await asyncio.sleep(0.2)
            self.done = True
            raise NoReply

    place = await place_of(start_node, where)
    actor = Generous()
    ref = await place.start(actor, "generous")
    assert await ref.with_(timeout=0.1).call(Generous.give) == "at once"
    await eventually(lambda: actor.done)
