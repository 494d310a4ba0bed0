"""Machines: pause, resume, a wrong clock, chance of their own."""

import asyncio

import pytest

from clusterkit import runtime
from clusterkit.testing.loop import Deadlock, running_simulation, simulate
from clusterkit.testing.machine import Machine, here


async def count(log: list[float], times: int = 10) -> None:
    for _ in range(times):
        await asyncio.sleep(1)
        log.append(runtime.now())


@pytest.mark.simulation(seeds=3)
async def test_a_halted_machine_stands_still_and_then_runs_late() -> None:
    loop, log, others = running_simulation(), list[float](), list[float]()
    machine, other = Machine("a"), Machine("b")
    tasks = machine.spawn(count(log)), other.spawn(count(others))
    await asyncio.sleep(3.5)
    loop.halt(machine)
    await asyncio.sleep(60)
    assert log == [1, 2, 3]
    assert len(others) == 10
    loop.resume(machine)
    await asyncio.sleep(0.1)
    assert log == [1, 2, 3, 63.5]
    await asyncio.gather(*tasks)
    assert log[4:] == [64.5, 65.5, 66.5, 67.5, 68.5, 69.5]


@pytest.mark.simulation
async def test_what_was_held_runs_in_its_old_order() -> None:
    loop, log, machine = running_simulation(), list[int](), Machine("a")
    loop.halt(machine)
    context = machine.context()
    for number in range(5):
        loop.call_later(number, log.append, number, context=context.copy())
    await asyncio.sleep(10)
    assert log == []
    loop.resume(machine)
    await asyncio.sleep(0)
    assert log == [0, 1, 2, 3, 4]


@pytest.mark.simulation
async def test_tasks_of_a_machine_start_tasks_of_that_machine() -> None:
    machine = Machine("a")

    async def child() -> Machine | None:
        return here()

    async def parent() -> Machine | None:
        return await asyncio.create_task(child())

    assert await machine.run(parent()) is machine
    assert here() is None


@pytest.mark.simulation
async def test_tasks_belong_to_the_machine_of_their_owner_whoever_starts_them() -> None:
    machine = Machine("a")

    async def make() -> runtime.Tasks:
        return runtime.Tasks("owner")

    async def which() -> Machine | None:
        return here()

    tasks = await machine.run(make())
    assert await tasks.spawn(which(), "asked by the test") is machine


@pytest.mark.simulation
async def test_the_wall_clock_of_a_machine_may_be_wrong() -> None:
    machine = Machine("a")
    machine.skew = -3600.0

    async def wall() -> float:
        return runtime.wall_time()

    assert await machine.run(wall()) == runtime.wall_time() - 3600
    await asyncio.sleep(5)
    assert await machine.run(wall()) == runtime.wall_time() - 3600


def test_each_machine_draws_from_streams_of_its_own() -> None:
    async def draw() -> bytes:
        return runtime.entropy(8)

    async def main() -> tuple[bytes, bytes]:
        return await Machine("a").run(draw()), await Machine("b").run(draw())

    a, b = simulate(main, seed=1)
    assert a != b
    assert (a, b) == simulate(main, seed=1)


def test_a_deadlock_names_the_machines_that_are_halted() -> None:
    async def main() -> None:
        machine = Machine("sleeper")
        task = machine.spawn(asyncio.sleep(1))
        running_simulation().halt(machine)
        await task

    with pytest.raises(Deadlock, match="machine sleeper is halted, with 1 callbacks held"):
        simulate(main)
