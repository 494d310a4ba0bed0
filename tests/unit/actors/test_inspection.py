"""What an actor is seen to do, and whose work a task does."""

import asyncio

import pytest

from clusterkit import GenServer, call
from clusterkit.actors.inspection import ActorInfo, find_handler, inspect_process
from clusterkit.actors.process import Process
from clusterkit.runtime import now
from clusterkit.testing import isolated

virtual = pytest.mark.simulation


class Lab(GenServer):
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.task: asyncio.Task[object] | None = None

    @call
    async def wait(self) -> None:
        self.task = asyncio.current_task()
        self.entered.set()
        await self.gate.wait()

    @call
    async def postpone(self) -> None:
        async def work() -> None:
            self.task = asyncio.current_task()
            self.entered.set()
            await self.gate.wait()

        return self.defer(self.caller, work())

    def seen(self) -> ActorInfo:
        return inspect_process(self.process, now())

    @property
    def process(self) -> Process:
        process = self._clusterkit_process
        assert process is not None
        return process


@virtual
async def test_an_actor_that_waits_for_messages_is_idle() -> None:
    lab = Lab()
    async with isolated(lab, name="lab"):
        await asyncio.sleep(2.5)
        seen = lab.seen()
        assert (seen.name, seen.kind, seen.depth, seen.size, seen.limit) == ("lab", "Lab", 0, 0, 1000)
        assert (seen.handler, seen.since, seen.beside, seen.handled) == (None, None, 0, 0)
        assert (seen.suspended, seen.watchers) == (False, 0)
        assert seen.age == pytest.approx(2.5)


@virtual
async def test_a_handler_is_shown_with_how_long_it_has_run() -> None:
    lab = Lab()
    async with isolated(lab) as ref, asyncio.TaskGroup() as group:
        group.create_task(ref.call(Lab.wait))
        await lab.entered.wait()
        group.create_task(ref.call(Lab.wait))
        await asyncio.sleep(1.5)
        seen = lab.seen()
        assert (seen.name, seen.handler, seen.depth) == (None, "wait", 1)
        assert seen.since == pytest.approx(1.5)
        assert seen.size > 0  # as from another node
        lab.gate.set()


@virtual
async def test_a_deferred_answer_runs_beside() -> None:
    lab = Lab()
    async with isolated(lab) as ref, asyncio.TaskGroup() as group:
        group.create_task(ref.call(Lab.postpone))
        await lab.entered.wait()
        assert (lab.seen().handler, lab.seen().beside) == (None, 1)
        lab.gate.set()


@virtual
@pytest.mark.parametrize(("method", "handler"), [(Lab.wait, "wait"), (Lab.postpone, "deferred")])
async def test_the_task_of_a_handler_is_found(method: object, handler: str) -> None:
    lab = Lab()
    async with isolated(lab, name="lab") as ref, asyncio.TaskGroup() as group:
        group.create_task(ref.call(method))  # type: ignore[call-overload]
        await lab.entered.wait()
        assert lab.task is not None
        assert find_handler([lab.process], lab.task) == ("lab", handler)
        assert find_handler([], lab.task) is None
        lab.gate.set()


@virtual
async def test_a_task_that_is_no_actors_is_found_nowhere() -> None:
    lab = Lab()
    async with isolated(lab):
        me = asyncio.current_task()
        assert me is not None
        assert find_handler([lab.process], me) is None


def test_a_line_names_only_what_there_is_to_say() -> None:
    idle = ActorInfo(3, None, "Lab", depth=0, size=0, limit=10)
    busy = ActorInfo(
        4, "lab", "Lab", depth=1, size=9, limit=10, handler="wait", since=0.5, beside=2, suspended=True, watchers=3
    )
    assert str(idle).split() == ["#3", "-", "Lab", "0/10", "idle,", "0", "handled"]
    assert str(busy).endswith("suspended, wait for 0.50 s, 2 beside, 0 handled, 3 watch it")
