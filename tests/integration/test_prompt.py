"""The prompt on real terminals, against real node processes: what appears when one types."""

import signal
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clusterkit.testing import LocalCluster, ProcessCluster
from tests.integration.terminals import (
    CTRL_C,
    CTRL_D,
    ENTER,
    PATIENCE,
    TAB,
    UP,
    Cluster,
    Terminal,
    Terminals,
    address,
    cookie_of,
    environment,
    in_pipe,
    port,
    terminals,
)

COOKIE = "the cookie of the prompt's tests"


@pytest.fixture(name="terminal")
async def _terminal(tmp_path: Path) -> AsyncIterator[Terminals]:
    async with terminals(tmp_path) as opened:
        yield opened


@pytest.fixture(name="local")
async def _local() -> AsyncIterator[LocalCluster]:
    """Three nodes that nobody kills."""
    async with LocalCluster(["alpha", "bravo", "charlie"], ring="demo") as cluster:
        yield cluster


@pytest.fixture(name="three")
async def _three() -> AsyncIterator[ProcessCluster]:
    async with ProcessCluster(["alpha", "bravo", "charlie"]) as cluster:
        yield cluster


async def opened(terminal: Terminals, cluster: Cluster, *arguments: str) -> Terminal:
    """A prompt that has met its node."""
    prompt = terminal("-p", port(cluster), *arguments, cookie=cookie_of(cluster))
    await prompt.sees("connected to alpha", f"clusterkit alpha@{address(cluster)}>")
    return prompt


# -- lines


async def test_lines_are_the_same_commands(terminal: Terminals, local: LocalCluster) -> None:
    prompt = await opened(terminal, local)
    await prompt.enters("members")
    await prompt.sees("NAME", "alpha *", "bravo", "charlie", "3 members: 3 alive, as alpha sees it")
    await prompt.enters("clusterkit get bravo")
    await prompt.sees(f"bravo@{address(local, 'bravo')}")
    await prompt.enters("-d charlie ping")
    await prompt.sees("pong from charlie@")
    await prompt.enters("-p 1 -o json ping")
    await prompt.sees('"code": "unreachable"')
    await prompt.enters("exit")
    assert await prompt.ends() == 0
    assert prompt.is_as_before


SLIPS = {
    "membres": ("No such command 'membres'", "hint: "),
    "get 'bravo": ("cannot read this line: no closing quotation", "hint: "),
    "get nobody": ("nobody", "hint: "),
    "start_cluster x@127.0.0.1:0": ("this prompt addresses a node that runs elsewhere", "hint: "),
    "shell": ("this is the prompt already", "hint: "),
    "help get": ("Usage: get", "NAME"),
    "help join_cluster": ("Let it join", "join_cluster IP PORT"),
    "join_cluster --help": ("Usage: join_cluster", "Let it join"),
    "help": ("Usage:", "members", "Here:", "start_cluster"),
}


async def test_a_slip_is_a_line_and_a_hint_and_the_session_goes_on(terminal: Terminals) -> None:
    async with LocalCluster(["alpha"]) as one:
        prompt = await opened(terminal, one)
        for line, said in SLIPS.items():
            await prompt.enters(line)
            await prompt.sees(line, *said)
            await prompt.enters("ping")
            await prompt.sees("pong from alpha")
        assert "Traceback" not in prompt.text
        await prompt.types(CTRL_D)
        assert await prompt.ends() == 0


async def test_ctrl_c_clears_the_line_and_ends_a_command_and_ctrl_d_the_prompt(
    terminal: Terminals, local: LocalCluster
) -> None:
    prompt = await opened(terminal, local)
    await prompt.types("remove bravo")
    await prompt.sees("remove bravo")
    await prompt.types(CTRL_C)
    await prompt.sees("clusterkit alpha@")
    await prompt.enters("monitor")
    await prompt.sees("Connected", "connected")
    await prompt.interrupts()
    await prompt.sees("clusterkit alpha@")
    await prompt.enters("has bravo")
    await prompt.sees("true", "clusterkit alpha@")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0
    assert prompt.is_as_before


async def test_a_hung_node_ends_the_line_in_time_and_ctrl_c_before(terminal: Terminals) -> None:
    async with ProcessCluster(["alpha"]) as one:
        prompt = await opened(terminal, one, "-t", "2")
        one["alpha"].stop()
        start = time.monotonic()
        await prompt.enters("nodes")
        await prompt.sees("no answer from", "hint: ", "clusterkit ")
        assert time.monotonic() - start < 2 + PATIENCE / 2
        await prompt.enters("-t 600 nodes")
        await prompt.interrupts()
        await prompt.sees("^C", "clusterkit ")
        one["alpha"].go_on()
        await prompt.types(CTRL_D)
        assert await prompt.ends() == 0


# -- completion and history


async def test_tab_completes_commands_options_and_names(terminal: Terminals, local: LocalCluster) -> None:
    prompt = await opened(terminal, local)
    await prompt.types(f"weigh{TAB}")
    await prompt.sees("weight")
    await prompt.types(f"{CTRL_C}mem{TAB}")
    await prompt.sees("mem", "bers")
    await prompt.types(ENTER)
    await prompt.sees("3 members")
    await prompt.types(f"get br{TAB}")
    await prompt.sees("get br", "avo")
    await prompt.types(ENTER)
    await prompt.sees(f"bravo@{address(local, 'bravo')}")
    await prompt.types(f"inspect --fu{TAB}")
    await prompt.sees("--fu", "ll")
    await prompt.types(f"{CTRL_C}")
    await prompt.sees(">")
    await prompt.types(f"ring ow{TAB}")
    await prompt.sees("ring ow", "ner")
    await prompt.types(f" my-key{ENTER}")
    await prompt.sees("my-key")
    await prompt.types(f"ring owner my{TAB}")
    await prompt.sees("owner my", "-key")
    await prompt.types(f"{CTRL_C}{CTRL_D}")
    assert await prompt.ends() == 0


async def test_lines_are_remembered_by_the_next_session_and_by_nobody_else(
    terminal: Terminals, local: LocalCluster, tmp_path: Path
) -> None:
    first = await opened(terminal, local)
    await first.enters("has charlie")
    await first.sees("true")
    await first.types(CTRL_D)
    assert await first.ends() == 0
    file = tmp_path / "state" / "clusterkit" / "history"
    assert "+has charlie" in file.read_text().splitlines()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.chmod(0o644)
    second = await opened(terminal, local)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await second.types(UP)
    await second.sees("has charlie")
    await second.types(ENTER)
    await second.sees("true")
    await second.types(CTRL_D)
    assert await second.ends() == 0


async def test_without_a_place_for_the_history_it_says_so_and_runs(terminal: Terminals, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    prompt = terminal(cookie=COOKIE)
    await prompt.sees("lines are not kept for the next session", "clusterkit>")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0


# -- what happens meanwhile


async def test_members_that_go_and_come_are_told_above_the_line(terminal: Terminals, three: ProcessCluster) -> None:
    prompt = await opened(terminal, three)
    await prompt.types("has br")
    await prompt.sees("has br")
    three["charlie"].kill()
    await prompt.sees("* charlie is down", "clusterkit alpha@", "has br")
    await three.restart("charlie")
    await prompt.sees("* charlie is up", "has br")
    three["bravo"].terminate()
    await prompt.sees("* bravo left", "has br")
    await prompt.enters("avo")
    await prompt.sees("false")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0


async def test_a_lost_node_keeps_the_session_and_is_found_again(terminal: Terminals, three: ProcessCluster) -> None:
    prompt = await opened(terminal, three)
    three["alpha"].kill()
    await three["alpha"].ended()
    await prompt.sees("* lost alpha: ", "(lost)>")
    await prompt.enters("ping")
    await prompt.sees("connection refused", "hint: ")
    await three.start("alpha")
    await prompt.sees("* connected to alpha, which was restarted")
    await prompt.enters("ping")
    await prompt.sees("pong from alpha")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0


async def test_a_target_that_is_not_there_is_waited_for(terminal: Terminals) -> None:
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{bound.getsockname()[1]}"
        prompt = terminal("-p", bound.getsockname()[1], cookie=COOKIE)
        await prompt.sees(f"* nothing listens on {where} (connection refused); trying again", f"clusterkit {where}>")
        await prompt.enters("version")
        await prompt.sees("clusterkit")
        await prompt.types(CTRL_D)
        assert await prompt.ends() == 0
        assert prompt.text.count("trying again") == 1


async def test_another_cookie_is_told_once(terminal: Terminals, local: LocalCluster) -> None:
    prompt = terminal("-p", port(local), cookie="quite another cookie")
    await prompt.sees("* no trust between", "trying again")
    await prompt.enters("ping")
    await prompt.sees("no trust between", "hint: ")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0


# -- the node that it hosts


async def test_two_terminals_and_four_lines_make_a_cluster(terminal: Terminals) -> None:
    """All four lines are without what must be known before: the second is what the first one says."""
    one, two = terminal(cookie=COOKIE), terminal(cookie=COOKIE)
    await one.sees("start_cluster hosts a node here", "clusterkit>")
    await two.sees("clusterkit>")
    await one.enters("start_cluster one@127.0.0.1:0")
    await one.sees("one@127.0.0.1:", "is the first member of ring cluster", "next: ")
    next_line = (await one.sees(" at another prompt")).removesuffix(" at another prompt")
    assert next_line.startswith("join_cluster 127.0.0.1 ")
    await one.sees("clusterkit one@127.0.0.1:")
    await two.enters(next_line)
    await two.sees("joined ring cluster: 2 members: ")
    await one.sees(" came, from 127.0.0.1:", "clusterkit one@")
    for each in (one, two):
        await each.enters("cluster_members")
        await each.sees("NAME", "one", "2 members: 2 alive, as ")
    start = time.monotonic()
    await two.types(CTRL_D)
    await two.sees(" left ring cluster")
    assert await two.ends() == 0
    assert time.monotonic() - start < 2 + PATIENCE / 4
    await one.sees(" left", "clusterkit one@")
    await one.enters("members")
    await one.sees("1 member: 1 alive, as one sees it")
    await one.enters("exit")
    await one.sees("one left ring cluster")
    assert await one.ends() == 0


async def test_a_hosted_node_joins_the_ring_of_any_node(terminal: Terminals, local: LocalCluster) -> None:
    prompt = terminal(cookie=cookie_of(local))
    await prompt.sees("clusterkit>")
    await prompt.enters("start_cluster mine@127.0.0.1:0")
    await prompt.sees("is the first member of ring cluster")
    await prompt.enters(f"join_cluster 127.0.0.1 {port(local)}")
    await prompt.sees("joined ring demo: 4 members: alpha, bravo, charlie, mine")
    await prompt.types(f"get al{TAB}")
    await prompt.sees("get al", "pha")
    await prompt.types(ENTER)
    await prompt.sees(f"alpha@{address(local, 'alpha')}")
    await prompt.enters("start_cluster other")
    await prompt.sees("this prompt hosts mine@127.0.0.1:", "already")
    await prompt.types(CTRL_D)
    await prompt.sees("mine left ring demo")
    assert await prompt.ends() == 0


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_and_the_node_leaves(
    terminal: Terminals, local: LocalCluster, which: signal.Signals
) -> None:
    watcher = await opened(terminal, local)
    prompt = terminal(cookie=cookie_of(local))
    await prompt.sees("clusterkit>")
    await prompt.enters(f"join_cluster 127.0.0.1 {port(local)}")
    await prompt.sees("joined ring demo")
    await watcher.sees(" came, from ")
    prompt.sends(which)
    assert await prompt.ends() == 128 + which
    await watcher.sees(" left")
    assert prompt.is_as_before


async def test_a_terminal_that_is_closed_lets_the_node_leave(terminal: Terminals, local: LocalCluster) -> None:
    watcher = await opened(terminal, local)
    prompt = terminal(cookie=cookie_of(local))
    await prompt.sees("clusterkit>")
    await prompt.enters(f"join_cluster 127.0.0.1 {port(local)}")
    await prompt.sees("joined ring demo")
    await watcher.sees(" came, from ")
    prompt.close()
    await watcher.sees(" left")
    assert await prompt.ends() == 128 + signal.SIGHUP


async def test_a_node_that_cannot_be_hosted_says_why(terminal: Terminals) -> None:
    with socket.socket() as bound, socket.create_server(("127.0.0.1", 0)) as listens:
        bound.bind(("127.0.0.1", 0))
        dead, taken = bound.getsockname()[1], listens.getsockname()[1]
        slips = {
            f"join_cluster 127.0.0.1 {dead}": "connection refused",
            "join_cluster 127.0.0.1": "Missing argument 'PORT'",
            "join_cluster 127.0.0.1 x": "'x' is not a valid integer",
            "start_cluster a@b": "no port",
            f"start_cluster a@127.0.0.1:{taken}": "address already in use",
            f"-p {dead} ping": "no node is hosted here yet: start_cluster",
        }
        prompt = terminal(cookie=COOKIE)
        await prompt.sees("clusterkit>")
        for line, said in slips.items():
            await prompt.enters(line)
            await prompt.sees(line, said, "clusterkit>")
        assert "Traceback" not in prompt.text
        await prompt.enters("start_cluster mine@127.0.0.1:0")
        await prompt.sees("is the first member of ring cluster")
        await prompt.types(CTRL_D)
        assert await prompt.ends() == 0


async def test_without_a_cookie_one_line_says_what_to_do(terminal: Terminals) -> None:
    prompt = terminal(cookie=None)
    await prompt.sees("no cookie was given", "hint: set CLUSTERKIT_COOKIE, or give --cookie-file FILE", "clusterkit>")
    await prompt.enters("start_cluster")
    await prompt.sees("no cookie was given", "hint: ", "clusterkit>")
    await prompt.enters("keygen")
    await prompt.sees("=", "clusterkit>")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0


async def test_the_cookie_may_be_in_a_file(terminal: Terminals, tmp_path: Path) -> None:
    file = tmp_path / "cookie"
    file.touch(0o600)
    file.write_text(COOKIE + "\n")
    prompt = terminal("--cookie-file", file, cookie=None)
    await prompt.sees("clusterkit>")
    await prompt.enters("start_cluster mine@127.0.0.1:0")
    await prompt.sees("is the first member of ring cluster")
    await prompt.enters("ping")
    await prompt.sees("pong from mine@127.0.0.1:")
    await prompt.types(CTRL_D)
    assert await prompt.ends() == 0


# -- without a terminal


async def test_lines_may_come_from_a_pipe(local: LocalCluster, tmp_path: Path) -> None:
    env = environment(tmp_path, cookie_of(local))
    code, out, err = await in_pipe("-p", port(local), "-o", "table", "shell", env=env, typed="has bravo\nhas nobody\n")
    assert (code, out.split(), err) == (1, ["true", "false"], "")
    code, out, err = await in_pipe("-p", port(local), "shell", env=env, typed="has nobody\nhas 'bravo'\nexit\nleave\n")
    assert (code, err) == (0, "")


async def test_no_command_and_no_terminal_is_the_help_and_exit_2(tmp_path: Path) -> None:
    code, out, err = await in_pipe(env=environment(tmp_path, COOKIE))
    assert code == 2
    assert "Usage: clusterkit" in out + err


async def test_the_end_of_the_prompt_waits_two_seconds_for_a_hung_member_at_most(
    terminal: Terminals, three: ProcessCluster
) -> None:
    prompt = terminal(cookie=three.cookie)
    await prompt.sees("clusterkit>")
    await prompt.enters(f"join_cluster 127.0.0.1 {port(three)}")
    await prompt.sees("joined ring processes")
    three["charlie"].stop()
    start = time.monotonic()
    await prompt.types(CTRL_D)
    await prompt.sees(" left ring processes")
    assert await prompt.ends() == 0
    assert time.monotonic() - start < 2 + PATIENCE / 4
    three["charlie"].go_on()
