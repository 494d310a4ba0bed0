"""A loop that stands still: who holds it is named at once, and its length is told when it goes on."""

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from clusterkit.kernel.telemetry import LOOP_LAG, Telemetry
from clusterkit.kernel.watchdog import Find, Watchdog
from clusterkit.runtime import machine_time, processor_time
from tests.conftest import eventually

LIMIT = 0.1
BLOCK = 0.3  # seconds that a handler holds the loop; a tick comes up to LIMIT / 4 after it began
ACTOR = "node/a/accounts"  # what the task of the actor is called here


def find(task: asyncio.Task[Any]) -> tuple[str, str] | None:
    return ("accounts", "withdraw") if task.get_name() == ACTOR else None


class Watched:
    """A watchdog that was started, and what it told."""

    def __init__(self, limit: float = LIMIT, find: Find = find) -> None:
        self.lags: list[tuple[float, dict[str, Any]]] = []
        self.threads: list[int] = []
        telemetry = Telemetry()
        telemetry.attach(LOOP_LAG, lambda event, took, meta: self._told(took["seconds"], dict(meta)))
        self.dog = Watchdog(limit, "a", telemetry, find)
        self.dog.start()

    def _told(self, seconds: float, meta: dict[str, Any]) -> None:
        self.lags.append((seconds, meta))
        self.threads.append(threading.get_ident())

    def of(self, task: str) -> list[tuple[float, dict[str, Any]]]:
        """What was told of one task: a busy machine adds stalls of its own."""
        return [lag for lag in self.lags if lag[1]["task"] == task]

    def stand_still(self) -> None:
        """Stop the thread, as if it had no chance to look."""
        assert self.dog._daemon is not None
        self.dog._daemon.stop()

    def tick(self, late: float, worked: float = 0.0) -> None:
        """Let the loop tick late, with so many seconds of processor used meanwhile."""
        assert self.dog._timer is not None
        self.dog._timer.cancel()
        self.dog._due, self.dog._used = machine_time() - late, processor_time() - worked
        self.dog._tick()

    async def run(self, work: Callable[[], object], name: str = ACTOR) -> None:
        """Run a piece of blocking work in a task of that name, when the loop has ticked."""

        async def handler() -> None:
            work()

        await asyncio.sleep(LIMIT)
        await asyncio.create_task(handler(), name=name)


@contextlib.contextmanager
def watched(limit: float = LIMIT, find: Find = find) -> Iterator[Watched]:
    it = Watched(limit, find)
    try:
        yield it
    finally:
        it.dog.close()


def blocks() -> None:
    time.sleep(BLOCK)


def watchdogs() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("watchdog")]


async def test_the_handler_that_blocks_is_logged_at_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    while_blocked: list[str] = []

    def work() -> None:
        blocks()
        while_blocked.append(caplog.text)

    with watched() as it:
        await it.run(work)
    assert "node a stands still for 0." in while_blocked[0]
    assert "withdraw of accounts runs" in while_blocked[0]
    assert "time.sleep(BLOCK)" in while_blocked[0]
    assert "Handle._run" not in while_blocked[0]


async def test_the_whole_stall_is_told_once_when_the_loop_ticks_again() -> None:
    with watched() as it:
        await it.run(blocks)
        await eventually(lambda: it.of(ACTOR))
        [(seconds, meta)] = it.of(ACTOR)
        assert BLOCK - LIMIT / 4 - 0.01 <= seconds < BLOCK + 2.0
        assert (meta["server"], meta["handler"], meta["cause"]) == ("accounts", "withdraw", "blocked")
        assert "in blocks" in meta["stack"]
        assert set(it.threads) == {threading.get_ident()}


async def test_every_stall_has_its_own_report(caplog: pytest.LogCaptureFixture) -> None:
    with watched() as it:
        for _ in range(2):
            await it.run(blocks)
        await eventually(lambda: len(it.of(ACTOR)) == 2)
        assert it.dog.stalls == len(it.lags) >= 2
    assert caplog.text.count("withdraw of accounts runs") == 2


async def test_a_long_turn_within_the_limit_is_not_reported() -> None:
    with watched(limit=2.0) as it:
        await it.run(blocks)
        await asyncio.sleep(0.6)  # a tick at least
        assert it.lags == []


async def test_work_that_is_no_actors_is_named_by_its_task(caplog: pytest.LogCaptureFixture) -> None:
    with watched() as it:
        await it.run(blocks, name="my own")
        await eventually(lambda: it.of("my own"))
        [(_, meta)] = it.of("my own")
        assert (meta["server"], meta["handler"]) == (None, None)
    assert "task my own runs" in caplog.text


async def test_a_callback_is_known_by_its_stack() -> None:
    with watched() as it:
        await asyncio.sleep(LIMIT)
        asyncio.get_running_loop().call_soon(blocks)
        await eventually(lambda: any("in blocks" in meta["stack"] for _, meta in it.lags))
        assert [meta["task"] for _, meta in it.lags if "in blocks" in meta["stack"]] == [None]


async def test_of_a_deep_stack_the_innermost_calls_are_kept() -> None:
    def deep(depth: int) -> None:
        return deep(depth - 1) if depth else blocks()

    with watched() as it:
        await it.run(lambda: deep(200))
        await eventually(lambda: it.of(ACTOR))
        stack = it.of(ACTOR)[0][1]["stack"]
        assert "line repeated 12 more times" in stack  # of 16: three are shown, and the innermost
        assert len(stack) <= 4096
        assert stack.rstrip().endswith("time.sleep(BLOCK)")


def slow_match(seconds: float) -> Callable[[], object]:
    """A piece of work in C that keeps the GIL for about so long."""
    for length in range(20, 60):
        text = "a" * length + "b"
        before = time.perf_counter()
        re.match("(a|aa)+$", text)
        if time.perf_counter() - before > seconds:
            return lambda: re.match("(a|aa)+$", text)
    raise AssertionError("this machine is too fast")


async def test_what_keeps_the_gil_is_named_though_it_stops_the_watchdog_too() -> None:
    work = slow_match(0.3)
    with watched() as it:
        await it.run(work)
        await eventually(lambda: it.of(ACTOR))
        [(_, meta)] = it.of(ACTOR)
        assert (meta["server"], meta["cause"]) == ("accounts", "gil")
        assert "in slow_match" in meta["stack"]


async def test_a_find_that_fails_is_logged_and_the_watchdog_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fails(task: asyncio.Task[Any]) -> tuple[str, str] | None:
        if task.get_name() == "strange":
            raise KeyError("in find")
        return find(task)

    with watched(find=fails) as it:
        await it.run(blocks, name="strange")
        await it.run(blocks)
        await eventually(lambda: it.of(ACTOR))
        assert any(meta["task"] is None for _, meta in it.lags)
    assert "could not look" in caplog.text
    assert "in find" in caplog.text


@pytest.mark.parametrize(("worked", "cause"), [(0.0, "stopped"), (1.0, "gil")])
async def test_a_tick_that_the_thread_never_missed_is_judged_by_the_processor_that_was_used(
    worked: float, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    with watched() as it:
        it.stand_still()
        it.tick(late=1.0, worked=worked)
        [(seconds, meta)] = it.lags
    assert (round(seconds), meta["cause"], meta["handler"], meta["stack"]) == (1, cause, None, "")
    assert ("the process of node a stood still for 1.0" in caplog.text) is (cause == "stopped")


async def test_a_tick_that_comes_while_the_thread_looks_is_told_without_names() -> None:
    with watched() as it:
        it.stand_still()
        it.dog._judged = it.dog._due
        time.sleep(2 * LIMIT)
        await eventually(lambda: it.lags)
        [(_, meta)] = it.lags
    assert (meta["cause"], meta["handler"], meta["stack"]) == ("blocked", None, "")


async def test_a_tick_within_the_limit_or_within_the_doubt_is_no_stall() -> None:
    with watched(limit=10.0) as it:
        it.stand_still()
        for late in (9.0, 12.0):  # the thread had no reason to look, and no time
            it.tick(late)
    assert it.lags == []


async def test_after_the_whole_process_stood_still_the_loop_gets_a_moment_to_go_on() -> None:
    with watched(limit=4.0) as it:
        it.stand_still()
        woke = it.dog._due + 10.0
        assert it.dog._look(woke, overslept=6.0, idle=True) == 1.0
        assert it.dog._seen is None
        assert it.dog._look(woke + 1.0, overslept=0.0, idle=True) == 4.0
        assert it.dog._seen is not None
        assert it.dog._seen.cause == "blocked"
        assert it.dog._look(woke + 5.0, overslept=0.0, idle=True) == 4.0  # once


async def test_what_was_seen_of_one_stall_is_not_told_of_the_next() -> None:
    with watched() as it:
        await it.run(blocks)
        await eventually(lambda: it.of(ACTOR))
        it.stand_still()
        it.tick(late=1.0)
        assert it.lags[-1][1]["cause"] == "stopped"


async def test_what_is_seen_when_the_loop_has_just_gone_on_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    def goes_on(task: asyncio.Task[Any]) -> tuple[str, str]:
        it.dog._due += 100.0
        return "another", "handler"

    with watched(limit=4.0, find=goes_on) as it:
        it.stand_still()
        it.dog._look(it.dog._due + 5.0, overslept=0.0, idle=True)
        assert it.dog._seen is None
    assert caplog.text == ""


async def test_closed_it_leaves_no_thread_and_no_timer() -> None:
    with watched() as it:
        assert watchdogs() == ["clusterkit/a/watchdog"]
    it.dog.close()
    assert watchdogs() == []


def test_between_two_runs_of_a_loop_nothing_stands_still(caplog: pytest.LogCaptureFixture) -> None:
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:

        async def start() -> Watched:
            return stack.enter_context(watched())

        it = runner.run(start())
        time.sleep(4 * LIMIT)
        runner.run(asyncio.sleep(2 * LIMIT))
        assert it.lags == []
    assert caplog.text == ""


async def test_it_ends_with_a_loop_that_was_closed_without_it() -> None:
    def run() -> None:
        with asyncio.Runner() as runner:

            async def start() -> Watched:
                return Watched()

            runner.run(start())

    await asyncio.to_thread(run)
    await eventually(lambda: watchdogs() == [])


def test_another_kind_of_loop_is_watched_as_well() -> None:
    async def main() -> Watched:
        with watched() as it:
            await it.run(blocks)
            await eventually(lambda: it.of(ACTOR))
            return it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        [(seconds, meta)] = runner.run(main()).of(ACTOR)
    assert seconds >= BLOCK - LIMIT / 2
    assert (meta["server"], meta["cause"]) == ("accounts", "blocked")
    assert "in blocks" in meta["stack"]


@pytest.mark.simulation
async def test_a_simulation_has_none() -> None:
    with watched() as it:
        assert watchdogs() == []
        await asyncio.sleep(3600 - 1)
        await it.run(lambda: None)
    assert it.lags == []


async def test_what_it_says_at_the_end_is_for_information(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "clusterkit.watchdog"), watched() as it:
        await it.run(blocks)
        await eventually(lambda: it.of(ACTOR))
    assert [record.levelname for record in caplog.records if "goes on after 0." in record.message] == ["INFO"]
