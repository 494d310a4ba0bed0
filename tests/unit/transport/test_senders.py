"""The line before a full outbox."""

import asyncio
from collections.abc import Callable

import pytest

from clusterkit.core.session import Lane, Outgoing
from clusterkit.runtime import now
from clusterkit.transport.senders import Room, Senders

pytestmark = pytest.mark.simulation


class Outbox:
    """Takes so many messages, and refuses those that are larger than ``most`` bytes."""

    def __init__(self, room: int, most: int = 10) -> None:
        self.room, self.most = room, most
        self.taken: list[bytes] = []

    def put(self, message: Outgoing) -> bool:
        if len(self.taken) >= self.room or len(message.body) > self.most:
            return False
        self.taken.append(message.body)
        return True


def standing(line: Senders[Outgoing], *bodies: bytes, patience: float = 60.0) -> list[asyncio.Task[Room]]:
    return [asyncio.create_task(line.wait(Outgoing(body, Lane.REQUEST), now() + patience)) for body in bodies]


async def results(tasks: list[asyncio.Task[Room]], after: float = 0.001) -> list[Room | None]:
    """What became of each so far."""
    await asyncio.sleep(after)
    return [task.result() if task.done() and not task.cancelled() else None for task in tasks]


async def end(tasks: list[asyncio.Task[Room]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_first_come_first_served() -> None:
    line, outbox = Senders[Outgoing](), Outbox(2)
    tasks = standing(line, b"1", b"2", b"3")
    assert await results(tasks) == [None] * 3
    line.let_in(outbox.put)
    assert outbox.taken == [b"1", b"2"]
    assert await results(tasks) == [Room.TAKEN, Room.TAKEN, None]
    assert len(line) == 1
    outbox.room = 3
    line.let_in(outbox.put)
    assert await results(tasks) == [Room.TAKEN] * 3
    assert (outbox.taken, len(line)) == ([b"1", b"2", b"3"], 0)


async def test_nobody_overtakes_one_who_does_not_fit_yet() -> None:
    line, outbox = Senders[Outgoing](), Outbox(9, most=1)
    tasks = standing(line, b"large", b"2")
    await asyncio.sleep(0)
    line.let_in(outbox.put)
    assert outbox.taken == []
    outbox.most = 5
    line.let_in(outbox.put)
    assert outbox.taken == [b"large", b"2"]
    assert await results(tasks) == [Room.TAKEN] * 2


async def test_at_the_deadline_it_is_full_and_the_line_goes_on() -> None:
    line, outbox = Senders[Outgoing](), Outbox(9)
    tasks = standing(line, b"1", patience=1.0) + standing(line, b"2")
    assert await results(tasks, after=0.9) == [None, None]
    assert await results(tasks, after=0.2) == [Room.FULL, None]
    assert len(line) == 1
    line.let_in(outbox.put)
    assert outbox.taken == [b"2"]
    assert await results(tasks) == [Room.FULL, Room.TAKEN]


@pytest.mark.simulation(seeds=8)  # either comes first
async def test_one_whose_time_is_up_as_room_is_made_is_let_in_or_told_so() -> None:
    line, outbox = Senders[Outgoing](), Outbox(9)
    [task] = standing(line, b"1", patience=1.0)
    asyncio.get_running_loop().call_at(now() + 1.0, line.let_in, outbox.put)
    assert await results([task], after=2.0) == [Room.TAKEN if outbox.taken else Room.FULL]


async def test_one_who_was_let_in_keeps_that_answer() -> None:
    line, outbox = Senders[Outgoing](), Outbox(9)
    tasks = standing(line, b"1", patience=1.0)
    await asyncio.sleep(0)
    line.let_in(outbox.put)
    line.turn_away()
    assert await results(tasks, after=2.0) == [Room.TAKEN]


async def test_who_is_cancelled_leaves_the_line() -> None:
    line, outbox = Senders[Outgoing](), Outbox(9)
    tasks = standing(line, b"1", b"2")
    await asyncio.sleep(0)
    tasks[0].cancel()
    line.let_in(outbox.put)
    assert outbox.taken == [b"2"]
    assert await results(tasks) == [None, Room.TAKEN]
    assert len(line) == 0


async def test_all_who_are_turned_away_look_again_and_are_no_longer_in_line() -> None:
    line, outbox = Senders[Outgoing](), Outbox(9)
    tasks = standing(line, b"1", b"2")
    await asyncio.sleep(0)
    line.turn_away()
    assert len(line) == 0
    line.let_in(outbox.put)
    assert outbox.taken == []
    assert await results(tasks) == [Room.CHANGED] * 2


@pytest.mark.parametrize("how", [lambda line: line.let_in(Outbox(9).put), lambda line: line.turn_away()])
async def test_nothing_is_left_of_one_who_waited(how: Callable[[Senders[Outgoing]], None]) -> None:
    line = Senders[Outgoing]()
    pending = len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]
    tasks = standing(line, b"1")
    await asyncio.sleep(0)
    how(line)
    await asyncio.wait(tasks)
    timers = [each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
    assert len(timers) == pending
