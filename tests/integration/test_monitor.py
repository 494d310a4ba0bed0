"""`clusterkit monitor`: the events of a real node, in a pipe and on a terminal, over its death and return."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clusterkit.testing import LocalCluster, ProcessCluster
from tests.integration.terminals import PATIENCE, Cluster, Terminals, cookie_of, environment, in_pipe, port, terminals

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Monitor:
    """A monitor whose lines a program reads."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    async def until(self, kind: str, node: str | None) -> dict[str, Any]:
        """Read to an event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self.process.stdout.readline():
                self.seen.append(json.loads(line))
                assert RFC_3339.fullmatch(self.seen[-1]["ts"])
                if (self.seen[-1]["type"], self.seen[-1].get("node")) == (kind, node):
                    return self.seen[-1]
        raise AssertionError(f"it ended before {kind} of {node}: {self.seen}")


@contextlib.asynccontextmanager
async def monitor(folder: Path, cluster: Cluster, *options: str, name: str = "alpha") -> AsyncIterator[Monitor]:
    command = [sys.executable, "-m", "clusterkit", "-p", port(cluster, name), *options]
    pipe, env = asyncio.subprocess.PIPE, environment(folder, cookie_of(cluster))
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)
    try:
        yield Monitor(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(name="local")
async def _local() -> AsyncIterator[LocalCluster]:
    """Three nodes that nobody kills."""
    async with LocalCluster(["alpha", "bravo", "charlie"], ring="demo") as cluster:
        yield cluster


@pytest.fixture(name="three")
async def _three() -> AsyncIterator[ProcessCluster]:
    async with ProcessCluster(["alpha", "bravo", "charlie"]) as cluster:
        yield cluster


@pytest.fixture(name="terminal")
async def _terminal(tmp_path: Path) -> AsyncIterator[Terminals]:
    async with terminals(tmp_path) as opened:
        yield opened


async def test_in_a_pipe_each_event_is_a_json_line(tmp_path: Path, three: ProcessCluster) -> None:
    async with monitor(tmp_path, three, "monitor") as told:
        await told.until("Connected", "alpha")
        three["charlie"].kill()
        down = await told.until("MemberDown", "charlie")
        assert (down["state"], down["port"]) == ("down", int(port(three, "charlie")))
        await three.restart("charlie")
        up = await told.until("MemberUp", "charlie")
        assert up["incarnation"] > down["incarnation"]
        told.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(told.process.wait(), PATIENCE) == 130


async def test_it_goes_on_when_the_node_restarts_and_says_so(tmp_path: Path, three: ProcessCluster) -> None:
    async with monitor(tmp_path, three, "monitor") as told:
        first = await told.until("Connected", "alpha")
        three["alpha"].kill()
        await three["alpha"].ended()
        lost = await told.until("Disconnected", "alpha")
        assert lost["incarnation"] == first["incarnation"]
        await three.start("alpha")
        again = await told.until("Connected", "alpha")
        assert again["restarted"] is True
        assert again["incarnation"] > first["incarnation"]
        assert (await told.until("Missed", None))["missed"] is None
        three["bravo"].kill()
        await told.until("MemberDown", "bravo")


async def test_a_hung_node_is_lost_and_found_again(tmp_path: Path, three: ProcessCluster) -> None:
    async with monitor(tmp_path, three, "-t", "0.5", "monitor") as told:
        await told.until("Connected", "alpha")
        three["alpha"].stop()
        assert "no answer" in (await told.until("Disconnected", "alpha"))["why"]
        three["alpha"].go_on()
        assert (await told.until("Connected", "alpha"))["restarted"] is False


async def test_it_tells_only_what_was_asked_for_and_so_many(tmp_path: Path, three: ProcessCluster) -> None:
    options = ("--type", "memberdown", "--node", "charlie", "--node", "bravo", "--count", "2")
    async with monitor(tmp_path, three, "monitor", *options) as told:
        assert told.process.stderr is not None
        aside = await asyncio.wait_for(told.process.stderr.readline(), PATIENCE)
        assert b"Connected" in aside
        three["charlie"].kill()
        await told.until("MemberDown", "charlie")
        three["bravo"].kill()
        await told.until("MemberDown", "bravo")
        assert await asyncio.wait_for(told.process.wait(), PATIENCE) == 0
        assert [each["type"] for each in told.seen] == ["MemberDown", "MemberDown"]


async def test_another_member_is_followed_through_the_one_addressed(tmp_path: Path, three: ProcessCluster) -> None:
    async with monitor(tmp_path, three, "-d", "bravo", "monitor") as told:
        await told.until("Connected", "bravo")
        three["charlie"].kill()
        await told.until("MemberDown", "charlie")


async def test_when_nobody_reads_it_ends_without_an_event(tmp_path: Path, local: LocalCluster) -> None:
    command = f"{sys.executable} -m clusterkit -p {port(local)} monitor | head -1"
    env, pipe = environment(tmp_path, cookie_of(local)), asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_shell(command, env=env, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert json.loads(out)["type"] == "Connected"
    assert err == b""


async def test_on_a_terminal_an_event_is_a_line_and_ctrl_c_is_130(terminal: Terminals, three: ProcessCluster) -> None:
    shown = terminal("-p", port(three), "monitor", cookie=three.cookie)
    await shown.sees("Connected", "alpha")
    three["charlie"].kill()
    await shown.sees("MemberDown", "charlie", three.address("charlie"))
    assert re.search(r"(?m)^\d\d:\d\d:\d\d  MemberDown     charlie", shown.text)
    await shown.interrupts()
    assert await shown.ends() == 130
    assert shown.is_as_before


async def test_a_node_that_cannot_be_followed_is_the_same_failure_as_everywhere(
    tmp_path: Path, three: ProcessCluster
) -> None:
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        dead = bound.getsockname()[1]
        cases = {
            ("-p", dead): (3, "unreachable"),
            ("-p", port(three), "-I", "bravo"): (6, "wrong-node"),
            ("-p", port(three), "-d", "nobody"): (1, "not-found"),
        }
        for target, (exit_code, word) in cases.items():
            code, out, err = await in_pipe(*target, "monitor", env=environment(tmp_path, three.cookie))
            assert (code, json.loads(out)["error"]["code"], err) == (exit_code, word, "")
    other = environment(tmp_path, "quite another cookie")
    code, out, _ = await in_pipe("-p", port(three), "monitor", env=other)
    assert (code, json.loads(out)["error"]["code"]) == (5, "cookie")
    three["alpha"].stop()
    code, out, _ = await in_pipe("-p", port(three), "-t", "0.5", "monitor", env=environment(tmp_path, three.cookie))
    assert (code, json.loads(out)["error"]["code"]) == (4, "timeout")
