"""Child processes: started, stopped, killed, restarted, their logs kept, none left."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterkit.errors import UsageError
from clusterkit.testing.child import ORPHANED
from clusterkit.testing.processes import ChildError, Processes

SERVE = "tests.integration.children:serve"
FAIL = "tests.integration.children:fail"
FLOOD = "tests.integration.children:flood"
ENV = "tests.integration.children:env"


async def echo(port: int, data: bytes, timeout: float = 5.0) -> bytes:
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            return await reader.read(100)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_child_reports_its_port_and_serves() -> None:
    async with Processes() as processes:
        child = await processes.start("a", SERVE, {"name": "ada"})
        port = (await child.reported("port"))["port"]
        assert await echo(port, b"hello") == b"hello"
        assert await child.reported("echoed") == {"echoed": 5}
        assert "hello from ada" in child.tail()
        assert processes["a"] is child


async def test_kill_is_immediate_and_all_that_was_reported_before_is_kept() -> None:
    async with Processes() as processes:
        child = await processes.start("a", FLOOD, 500)
        while not child.reports or child.reports[-1] != {"number": 499}:
            await child.reported("number")
            await asyncio.sleep(0.001)
        child.kill()
        assert await child.ended() == -9
        assert [each["number"] for each in child.reports] == list(range(500))


async def test_a_stopped_child_answers_late() -> None:
    async with Processes() as processes:
        child = await processes.start("a", SERVE, {"name": "ada"})
        port = (await child.reported("port"))["port"]
        child.stop()
        with pytest.raises(TimeoutError):
            await echo(port, b"x", timeout=0.2)
        child.go_on()
        assert await echo(port, b"x") == b"x"


async def test_a_restarted_child_is_another_life_with_a_log_of_its_own() -> None:
    async with Processes() as processes:
        first = await processes.start("a", SERVE, {"name": "ada"})
        before = await first.reported("port")
        second = await processes.restart("a")
        after = await second.reported("port")
        assert before["pid"] != after["pid"]
        assert not runs(before["pid"])
        assert first.status == -9
        assert processes["a"] is second
        assert [each.log.name for each in processes.lives("a")] == ["a-1.log", "a-2.log"]


async def test_leaving_the_block_kills_all_even_those_that_stand_still() -> None:
    async with Processes() as processes:
        children = [await processes.start(name, SERVE, {"name": name}) for name in "abc"]
        for child in children:
            await child.reported("port")
        children[1].stop()
        pids = [child.pid for child in children]
        assert all(map(runs, pids))
    assert not any(map(runs, pids))


async def test_a_child_that_dies_is_told_with_its_log() -> None:
    async with Processes() as processes:
        child = await processes.start("a", FAIL, "no such thing")
        with pytest.raises(ChildError, match=r"ended without a report of 'port'(.|\n)*ValueError: no such thing"):
            await child.reported("port")
        assert await child.ended() == 1


async def test_a_wait_is_bounded_and_says_what_it_waited_for() -> None:
    async with Processes() as processes:
        child = await processes.start("a", SERVE, {"name": "ada"})
        await child.reported("port")
        with pytest.raises(ChildError, match=r"waited 0.05 s for a report of 'miracle'(.|\n)*hello from ada"):
            await child.reported("miracle", timeout=0.05)
        with pytest.raises(ChildError, match=r"waited 0.05 s for its end"):
            await child.ended(timeout=0.05)


async def test_an_error_that_leaves_the_block_carries_the_logs_of_all() -> None:
    with pytest.raises(AssertionError) as failure:
        async with Processes() as processes:
            for name in ("ada", "bob"):
                await (await processes.start(name, SERVE, {"name": name})).reported("port")
            await processes.restart("bob")
            raise AssertionError
    (note,) = failure.value.__notes__
    assert "--- ada-1.log ---\nhello from ada" in note
    assert "--- bob-1.log ---\nhello from bob" in note
    assert "--- bob-2.log ---" in note


async def test_the_environment_and_the_logs_directory_are_the_callers(tmp_path: Path) -> None:
    async with Processes(logs=tmp_path, environment={"CLUSTERKIT_COOKIE": "sixteen or more bytes"}) as processes:
        child = await processes.start("a", ENV, "CLUSTERKIT_COOKIE")
        assert await child.reported("value") == {"value": "sixteen or more bytes"}
        assert await child.ended() == 0
    assert (tmp_path / "a-1.log").exists()


async def test_a_second_start_under_one_name_is_an_error_of_the_caller() -> None:
    with pytest.raises(UsageError, match="async with"):
        await Processes().start("a", SERVE)
    async with Processes() as processes:
        await processes.start("a", FLOOD, 0)
        with pytest.raises(UsageError, match="'a' is running"):
            await processes.start("a", FLOOD, 0)


def test_a_child_ends_when_its_parent_is_gone() -> None:
    command = [sys.executable, "-m", "clusterkit.testing.child", FLOOD, "0"]
    done = subprocess.run(command, input=b"", timeout=20, check=False, env={**os.environ})
    assert done.returncode == ORPHANED
