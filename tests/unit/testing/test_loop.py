"""The loop on virtual time: asyncio's order, the seed's chance, nothing from outside."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from clusterkit import runtime
from clusterkit.errors import UsageError
from clusterkit.testing.leaks import LeakError
from clusterkit.testing.loop import Deadlock, Livelock, OutOfTime, SimulationLoop, running_simulation, simulate

Log = list[str]
Scenario = Callable[[Log], Awaitable[None]]


# -- asyncio's order, on asyncio's loop and on this one ---------------------------


async def ready_callbacks_run_first_in_first_out(log: Log) -> None:
    loop = asyncio.get_running_loop()
    for number in range(20):
        loop.call_soon(log.append, str(number))
    await asyncio.sleep(0)


async def what_a_callback_schedules_runs_in_the_next_turn(log: Log) -> None:
    loop = asyncio.get_running_loop()

    def first() -> None:
        loop.call_soon(log.append, "scheduled by first")
        log.append("first")

    loop.call_soon(first)
    loop.call_soon(log.append, "second")
    for _ in range(3):
        await asyncio.sleep(0)


async def a_due_timer_comes_behind_what_is_ready(log: Log) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0, log.append, "timer")
    loop.call_soon(log.append, "ready")
    for _ in range(3):
        await asyncio.sleep(0)


async def timers_come_in_the_order_of_their_deadlines(log: Log) -> None:
    loop = asyncio.get_running_loop()
    for number in (5, 3, 9, 1, 7):
        loop.call_later(number / 1000, log.append, str(number))
    await asyncio.sleep(0.02)


async def a_cancelled_handle_never_runs(log: Log) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(log.append, "soon").cancel()
    loop.call_later(0.001, log.append, "later").cancel()
    loop.call_soon(log.append, "kept")
    await asyncio.sleep(0.005)


async def tasks_start_in_the_order_of_their_creation(log: Log) -> None:
    async def work(name: str) -> None:
        log.append(f"{name} starts")
        await asyncio.sleep(0)
        log.append(f"{name} ends")

    await asyncio.gather(*(work(name) for name in "abc"))


async def waiters_are_woken_first_come_first_served(log: Log) -> None:
    lock, queue = asyncio.Lock(), asyncio.Queue[int]()

    async def work(name: str) -> None:
        async with lock:
            log.append(f"{name} has the lock and item {await queue.get()}")

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(work(name))
        for number in range(3):
            queue.put_nowait(number)


async def a_cancellation_is_seen_at_the_next_turn(log: Log) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    log.append("cancel was asked for")
    await asyncio.wait([task])


SCENARIOS = [
    ready_callbacks_run_first_in_first_out,
    what_a_callback_schedules_runs_in_the_next_turn,
    a_due_timer_comes_behind_what_is_ready,
    timers_come_in_the_order_of_their_deadlines,
    a_cancelled_handle_never_runs,
    tasks_start_in_the_order_of_their_creation,
    waiters_are_woken_first_come_first_served,
    a_cancellation_is_seen_at_the_next_turn,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_order_is_asyncios_under_every_seed(scenario: Scenario) -> None:
    async def run() -> Log:
        log: Log = []
        async with asyncio.timeout(5):
            await scenario(log)
        return log

    expected = asyncio.run(run())
    assert expected
    for seed in range(20):
        assert simulate(run, seed=seed) == expected


def test_what_a_callback_puts_first_does_not_starve_the_timers() -> None:
    async def main() -> float:
        spinning = asyncio.create_task(spin())
        await asyncio.sleep(1)
        spinning.cancel()
        return asyncio.get_running_loop().time()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0.25)

    assert simulate(main) == 1.0


# -- the seed ---------------------------------------------------------------------


async def equal_deadlines() -> tuple[int, ...]:
    loop, log = asyncio.get_running_loop(), list[int]()
    for number in range(6):
        loop.call_at(1.0, log.append, number)
    await asyncio.sleep(2)
    return tuple(log)


def test_equal_deadlines_come_in_an_order_that_the_seed_decides() -> None:
    orders = [simulate(equal_deadlines, seed=seed) for seed in range(20)]
    assert len(set(orders)) > 15
    assert orders == [simulate(equal_deadlines, seed=seed) for seed in range(20)]


REPLAY = """
import asyncio
from clusterkit import runtime
from clusterkit.testing.loop import simulate
from clusterkit.testing.network import World

async def main():
    world, loop = World(), asyncio.get_running_loop()
    names = {"a", "b", "c"}
    networks = [world.network(name) for name in sorted(names)]
    streams = []
    listener = await networks[0].listen("a", 7022, streams.append)
    for network in networks[1:]:
        streams.append(await network.connect("a", 7022))
    for turn in range(50):
        for stream in streams:
            stream.write(runtime.entropy(1 + turn))
        await asyncio.sleep(runtime.rng("pace").random() / 100)
    for stream in streams:
        stream.abort()
    await listener.aclose()
    return loop.trace.digest(), len(loop.trace)

print(simulate(main, seed=7), simulate(main, seed=8))
"""


def test_one_seed_gives_one_trace_in_two_processes_with_different_hash_seeds() -> None:
    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", REPLAY]
        return subprocess.run(command, env=environment, timeout=30, check=True, capture_output=True, text=True).stdout

    first = run("1")
    assert first == run("2") == run("4711")
    seven, eight = first.split(") (")
    assert seven.strip("()\n") != eight.strip("()\n")


# -- time -------------------------------------------------------------------------


def test_time_jumps_from_deadline_to_deadline() -> None:
    async def main() -> int:
        beats = 0
        for _ in range(600):
            await asyncio.sleep(1)
            beats += 1
        return beats

    assert simulate(main) == 600


def test_many_cancelled_timers_are_swept_away() -> None:
    async def main() -> int:
        loop = running_simulation()
        for _ in range(5000):
            loop.call_later(1000, print).cancel()
            if random.random() < 0.01:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(loop._timers)

    assert simulate(main) < 200


def test_a_timeout_ends_at_its_deadline_and_not_earlier() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().create_future()
        return runtime.now()

    assert simulate(main) == 5.0


def test_a_deadlock_is_an_error_that_lists_who_waits() -> None:
    async def wait_for_nothing() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.sleep(3)
        task = asyncio.create_task(wait_for_nothing(), name="the hopeless")
        await task

    with pytest.raises(Deadlock, match=r"at 3\.0+ s of virtual time, and 2 tasks wait:") as failure:
        simulate(main, seed=9)
    assert "the hopeless at" in str(failure.value)
    assert "in test_a_deadlock_is_an_error_that_lists_who_waits.<locals>.wait_for_nothing" in str(failure.value)
    assert failure.value.__notes__ == ["simulation: seed 9; the same seed fails the same way"]


def test_a_simulation_that_never_ends_reaches_its_limit() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(OutOfTime, match="the limit of 60 s of virtual time is reached"):
        simulate(main, limit=60)


def test_a_timer_that_sets_itself_again_for_now_is_found() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_at(loop.time(), again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(Livelock, match=r"turns at 0\.0+ s of virtual time; next: <TimerHandle when=0\.0 .*again"):
        simulate(main)


# -- nothing from outside -----------------------------------------------------------


@pytest.mark.simulation
async def test_an_executor_is_refused_and_the_seam_is_named() -> None:
    with pytest.raises(UsageError, match=r"use clusterkit\.runtime\.in_thread"):
        await asyncio.to_thread(time.monotonic)


@pytest.mark.simulation
async def test_the_resolver_is_refused_and_the_seam_is_named() -> None:
    with pytest.raises(UsageError, match=r"use clusterkit\.runtime\.resolve"):
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)


@pytest.mark.simulation
async def test_sockets_are_refused() -> None:
    with pytest.raises(UsageError, match="the network that the simulation gives you"):
        await asyncio.open_connection("127.0.0.1", 80)
    with pytest.raises(UsageError, match="the network that the simulation gives you"):
        await asyncio.start_server(print, "127.0.0.1", 0)


@pytest.mark.simulation
async def test_work_in_a_thread_takes_no_virtual_time() -> None:
    async with asyncio.timeout(0.001):
        assert await runtime.in_thread(lambda: sum(range(100_000))) == 4999950000


@pytest.mark.simulation
async def test_hosts_resolve_from_a_list_and_others_do_not() -> None:
    running_simulation().environment.hosts["seed.example"] = ["10.0.0.1", "10.0.0.2"]
    assert await runtime.resolve("seed.example", 7022) == [("10.0.0.1", 7022), ("10.0.0.2", 7022)]
    assert await runtime.resolve("127.0.0.1", 1) == [("127.0.0.1", 1)]
    assert await runtime.resolve("::1", 1) == [("::1", 1)]
    with pytest.raises(OSError, match=r"no host 'elsewhere\.example'"):
        await runtime.resolve("elsewhere.example", 1)


def test_no_descriptor_is_opened() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    loop = SimulationLoop(1)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    loop.close()


# -- chance -------------------------------------------------------------------------


def test_a_draw_in_one_stream_does_not_shift_another() -> None:
    async def main(extra: int) -> tuple[float, bytes]:
        for _ in range(extra):
            runtime.rng("backoff").random()
        return runtime.rng("gossip").random(), runtime.entropy(8)

    assert simulate(main, 0, seed=3) == simulate(main, 5, seed=3) != simulate(main, 0, seed=4)


@pytest.mark.simulation
async def test_a_stream_that_is_asked_for_again_goes_on() -> None:
    assert runtime.rng("jitter").random() != runtime.rng("jitter").random()
    assert runtime.entropy(16) != runtime.entropy(16)


# -- simulate -----------------------------------------------------------------------


def test_simulate_returns_what_main_returns_and_raises_what_it_raises() -> None:
    async def main(value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value

    assert simulate(main, 3) == 3
    with pytest.raises(ValueError, match="negative") as failure:
        simulate(main, -1, seed=5)
    assert failure.value.__notes__ == ["simulation: seed 5; the same seed fails the same way"]


def test_simulate_finds_what_main_left_behind() -> None:
    async def main() -> None:
        forgotten = asyncio.create_task(asyncio.sleep(100), name="forgotten")
        assert not forgotten.done()

    with pytest.raises(LeakError, match="task forgotten"):
        simulate(main)


async def test_on_any_other_loop_the_error_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"@pytest\.mark\.simulation\(seed=7\).*simulate\(main, seed=7\)"):
        running_simulation()


def test_a_closed_loop_takes_no_timer() -> None:
    loop = SimulationLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)
