"""Callers that give up: what waits is taken out, what runs goes on unless it may be cancelled."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from clusterkit import (
    CallTimeout,
    Mailbox,
    call,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import everywhere, place_of
from tests.integration.rule_actors import Cancellable, Worker, depth, given_up, timed_out, workers


@everywhere
@workers
async def test_cancelling_takes_a_queued_request_out_of_the_mailbox(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    first = asyncio.create_task(ref.call(Worker.work, "first"))
    await worker.gate.reached()
    queued = [asyncio.create_task(ref.call(Worker.work, number)) for number in range(3)]
    await eventually(lambda: depth(place, "worker") == 3)
    await given_up(queued[1])
    await eventually(lambda: depth(place, "worker") == 2)
    worker.gate.open()
    assert [await first, await queued[0], await queued[2]] == ["first", 0, 2]
    assert worker.ran == ["first", 0, 2]


@everywhere
@workers
async def test_cancelling_leaves_a_running_handler_alone(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(Worker.work, 1))
    await worker.gate.reached()
    await given_up(running)
    worker.gate.open()
    assert await ref.call(Worker.work, 2) == 2
    assert (worker.ran, worker.cancelled) == ([1, 2], [])


@everywhere
async def test_cancelling_ends_a_cancellable_handler_and_deferred_work_at_its_next_await(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    for worker, method in ((Cancellable(), "frail_work"), (Cancellable(), "work_later"), (Worker(), "work_later")):
        ref = await place.start(worker, "worker")
        running = asyncio.create_task(ref.call(method, 1))
        await worker.gate.reached()
        await given_up(running)
        await eventually(lambda worker=worker: worker.cancelled == [1])  # type: ignore[misc]
        worker.gate.open()
        assert await ref.call(Worker.work, 2) == 2, "the actor lives"
        assert place.home.stats()["cancelled"] > 0
        await place.home.stop("worker")


@everywhere
async def test_each_given_up_request_is_counted_once(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    worker = Worker()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(Worker.work_later, 1))
    await worker.gate.reached()
    await given_up(running)
    await eventually(lambda: worker.cancelled)
    assert place.home.stats()["cancelled"] == 1


@everywhere
async def test_cancelling_goes_on_to_what_the_work_awaits_elsewhere(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    running, queued = Cancellable(), Cancellable()
    await place.start(running, "running")
    await place.start(queued, "queued")
    blocker = asyncio.create_task(place.ref(Cancellable, "queued").call("work", "blocks"))
    await queued.gate.reached()
    front = await place.asker.start(Cancellable())
    home = place.home.id.name
    asking = asyncio.create_task(front.call(Cancellable.frail_relay, home, "running", "frail_work"))
    await running.gate.reached()
    await given_up(asking)
    await eventually(lambda: running.cancelled == [None])
    asking = asyncio.create_task(front.call(Cancellable.frail_relay, home, "queued", "work"))
    await eventually(lambda: depth(place, "queued") == 1)
    await given_up(asking)
    await eventually(lambda: depth(place, "queued") == 0)
    queued.gate.open()
    assert await blocker == "blocks"
    assert queued.ran == ["blocks"]


@everywhere
async def test_a_handler_that_swallows_its_cancellation_answers_nobody_and_its_actor_goes_on(
    where: str, start_node: NodeFactory
) -> None:
    class Stubborn(Worker):
        @call(cancellable=True)
        async def stubborn(self) -> str:
            with suppress(asyncio.CancelledError):
                await self._work("stubborn")
            return "what?"

    place = await place_of(start_node, where)
    worker = Stubborn()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(Stubborn.stubborn))
    await worker.gate.reached()
    await given_up(running)
    worker.gate.open()
    assert await ref.call(Worker.work, 2) == 2


class Brittle(Cancellable):
    """Turns its cancellation into an error of its own, as clients of databases do."""

    async def _work(self, what: Any) -> Any:
        try:
            return await super()._work(what)
        except asyncio.CancelledError:
            raise OSError("the connection was closed in the middle") from None


@everywhere
@pytest.mark.parametrize("method", ["work_later", "frail_work"])
async def test_work_that_fails_when_it_is_given_up_harms_nobody(
    where: str, method: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = Brittle()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(method, 1))
    await worker.gate.reached()
    await given_up(running)
    await eventually(lambda: worker.cancelled == [1])
    await timed_out(ref.with_(timeout=0.05).call(method, 2))
    await eventually(lambda: worker.cancelled == [1, 2])
    worker.gate.open()
    assert await ref.call(Worker.work, 3) == 3, "the actor lives"


@everywhere
async def test_a_caller_that_gives_up_while_it_waits_for_room_leaves_nothing(
    where: str, start_node: NodeFactory
) -> None:
    class Narrow(Worker):
        mailbox = Mailbox(1, overflow="block")

    place = await place_of(start_node, where)
    worker = Narrow()
    ref = await place.start(worker, "worker")
    asking = [asyncio.create_task(ref.call(Worker.work, number)) for number in range(3)]
    await worker.gate.reached()
    await eventually(lambda: depth(place, "worker") == (1 if place.is_here else 2))
    await given_up(asking[2])
    await eventually(lambda: depth(place, "worker") == 1)
    worker.gate.open()
    assert await asyncio.gather(*asking[:2]) == [0, 1]
    assert await ref.call(Worker.work, "last") == "last"
    assert worker.ran == [0, 1, "last"]


async def test_many_callers_that_give_up_at_once_do_not_hold_up_the_loop(start_node: NodeFactory) -> None:
    class Wide(Worker):
        mailbox = Mailbox(100_000)

    place = await place_of(start_node, "here")
    worker = Wide()
    ref = await place.start(worker, "worker")
    asking = [asyncio.create_task(ref.with_(timeout=0.5).call(Worker.work)) for _ in range(20_000)]
    loop = asyncio.get_running_loop()
    await worker.gate.reached()
    longest, last = 0.0, loop.time()
    while not all(task.done() for task in asking):
        await asyncio.sleep(0.005)
        longest, last = max(longest, loop.time() - last), loop.time()
    assert {type(task.exception()) for task in asking} == {CallTimeout}
    assert longest < 5, "each costs the same, however many there are"
