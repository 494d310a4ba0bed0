"""`clusterkit top` on a terminal of 80x24, in a pipe, and over a node that dies."""

import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clusterkit.testing import LocalCluster, ProcessCluster
from tests.integration.terminals import PATIENCE, Terminals, cookie_of, environment, in_pipe, port, terminals

ALTERNATE, BACK, HIDDEN, SHOWN = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h"


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


def is_restored(raw: str) -> bool:
    """Whether what was taken from the terminal was given back, and nothing is drawn after it."""
    return raw.rfind(BACK) > raw.rfind(ALTERNATE) >= 0 and raw.rfind(SHOWN) > raw.rfind(HIDDEN) >= 0


async def test_members_links_actors_and_events_on_80x24_until_q(terminal: Terminals, three: ProcessCluster) -> None:
    shown = terminal("-p", port(three), "top", "--interval", "0.2", cookie=three.cookie, columns=80)
    await shown.sees("alpha", "ring processes", "3/3 alive")
    await shown.sees(
        "MEMBER", "RTT", "alpha *", "bravo", "charlie", "LINK", "bravo", "ACTOR", "clusterkit.command", "EVENT"
    )
    await shown.sees("q quit", "by rate")
    await shown.types("s")
    await shown.sees("by depth")
    three["charlie"].kill()
    await shown.sees("2/3 alive", "down")
    await shown.sees("MemberDown", "charlie")
    frames = shown.raw.split("\x1b[H")[1:]
    assert frames
    assert all(frame.count("\n") < 24 for frame in frames)
    await shown.types("q")
    assert await shown.ends() == 0
    assert is_restored(shown.raw)
    assert shown.is_as_before


@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it_and_the_terminal_is_as_before(
    terminal: Terminals, which: signal.Signals, code: int
) -> None:
    async with LocalCluster(["alpha"]) as one:
        shown = terminal("-p", port(one), "top", cookie=cookie_of(one))
        await shown.sees("MEMBER", "q quit")
        shown.sends(which)
        assert await shown.ends() == code
        assert is_restored(shown.raw)
        assert shown.is_as_before


async def test_a_node_that_dies_is_said_to_be_lost_and_comes_back(terminal: Terminals, three: ProcessCluster) -> None:
    shown = terminal("-p", port(three), "-t", "2", "top", "--interval", "0.2", cookie=three.cookie, columns=140)
    await shown.sees("3/3 alive")
    three["alpha"].kill()
    await three["alpha"].ended()
    await shown.sees("trying again")
    await three.start("alpha")
    await shown.sees("connected to another run of the node")
    await shown.sees("3/3 alive")
    await shown.types("q")
    assert await shown.ends() == 0
    assert is_restored(shown.raw)


async def test_a_hung_node_does_not_hold_up_the_keys(terminal: Terminals) -> None:
    async with ProcessCluster(["alpha"]) as one:
        shown = terminal("-p", port(one), "-t", "600", "top", "--interval", "0.1", cookie=one.cookie)
        await shown.sees("MEMBER", "q quit")
        one["alpha"].stop()
        await shown.types("q")
        assert await shown.ends() == 0
        assert is_restored(shown.raw)


async def test_in_a_pipe_it_is_one_frame(local: LocalCluster, tmp_path: Path) -> None:
    env = environment(tmp_path, cookie_of(local))
    code, out, err = await in_pipe("-p", port(local), "top", "--interval", "0.2", env=env)
    assert (code, err) == (0, "")
    data = json.loads(out)["data"]
    assert [member["name"] for member in data["members"]] == ["alpha", "bravo", "charlie"]
    assert {link["name"] for link in data["links"]} >= {"bravo", "charlie"}
    command = next(actor for actor in data["actors"] if actor["name"] == "clusterkit.command")
    assert command["rate"] > 0
    assert "MemberUp" in {event["type"] for event in data["events"]}
    code, out, err = await in_pipe("-p", port(local), "-o", "table", "top", "--interval", "0.2", env=env)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "3/3 alive" in out
    assert "clusterkit.command" in out


async def test_once_on_a_terminal_is_one_frame_too(terminal: Terminals, local: LocalCluster) -> None:
    shown = terminal("-p", port(local), "top", "--once", "--interval", "0.2", cookie=cookie_of(local))
    await shown.sees("3/3 alive", "MEMBER", "LINK", "ACTOR", "EVENT")
    assert await shown.ends() == 0
    assert ALTERNATE not in shown.raw


async def test_a_node_that_cannot_be_watched_is_the_same_failure_as_everywhere(
    terminal: Terminals, three: ProcessCluster, tmp_path: Path
) -> None:
    env = environment(tmp_path, three.cookie)
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        dead = bound.getsockname()[1]
        code, out, _ = await in_pipe("-p", dead, "top", env=env)
        assert (code, json.loads(out)["error"]["code"]) == (3, "unreachable")
        shown = terminal("-p", dead, "top", cookie=three.cookie)
        await shown.sees("connection refused", "hint: ")
        assert await shown.ends() == 3
        assert ALTERNATE not in shown.raw
    shown = terminal("-p", port(three), "top", cookie="quite another cookie")
    await shown.sees("no trust between", "hint: ")
    assert await shown.ends() == 5
    three["alpha"].stop()
    code, out, _ = await in_pipe("-p", port(three), "-t", "0.5", "top", env=env)
    assert (code, json.loads(out)["error"]["code"]) == (4, "timeout")
    shown = terminal("-p", port(three), "-t", "0.5", "top", cookie=three.cookie)
    await shown.sees("no answer from", "hint: ")
    assert await shown.ends(PATIENCE) == 4
