"""Every command, into a pipe and on a terminal, against everything that a node can be found to be.

The commands are those of the table in `clusterkit.cli.commands`: one that is added there and not here fails
the first test. Each situation is one test, in which all commands run side by side.
"""

import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from clusterkit.cli.commands import TABLE, load
from tests.certificates import Authority
from tests.integration.cli_runs import AT_ONCE, Ran, Run, run_all, run_in_turn
from tests.integration.test_cli import COMMAND, COOKIE, Started, cli, environment, eventually

PORT, OTHER = "{port}", "{other}"  # of the node that is asked, and of another member
CAP = 20.0  # seconds: what takes longer has hung
SLACK = 4.0  # seconds over its -t that a command may end late on a machine with much else to do

QUESTIONS = {
    "ping": "",
    "members": "",
    "nodes": "",
    "get": "bravo",
    "has": "bravo",
    "weight": "bravo",
    "weights": "",
    "inspect": "--full",
    "check": "",
    "ring owner": "some-key",
    "ring balance": "",
    "ring diff": "bravo",
    "join": "test --seed 127.0.0.1:{other}",
    "meet": "bravo 127.0.0.1 {other}",
    "leave": "--yes",
    "insert": "-w 2 delta 127.0.0.1 1",
    "minsert": "echo 127.0.0.1 1 foxtrot@127.0.0.1:1",
    "update": "delta 127.0.0.1 1 3",
    "remove": "-f delta 127.0.0.1 1",
    "mremove": "echo foxtrot",
    "actors": "",
    "call": 'bravo greeter hello "me"',
    "cast": 'bravo greeter hello "me"',
    "services": "",
    "cache stats": "",
    "cache get": "scores some-key",
    "cache invalidate": "scores some-key",
    "monitor": "--count 1",
    "top": "--once",
}
"""The commands that ask a node, with arguments that make sense."""

LOCAL = {
    "keygen": "",
    "config": "",
    "context add": "a -H 127.0.0.1 --force",
    "context ls": "",
    "context use": "a",
    "context show": "a",
    "context rm": "a",
    "completion": "bash",
    "version": "",
    "doctor": "",
}
"""The commands that look at this machine; only the last asks a node too, and that is one line of what it says."""

LASTING = {"start", "demo", "shell", "cache serve"}
"""Programs that go on until they are told to end: test_cli.py, test_demo.py, test_cache_serve.py, test_prompt.py."""

BOTH = pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])


def commands() -> set[str]:
    """The table, with the commands of its groups."""
    found: set[str] = set()
    for name in TABLE:
        command = load(name)
        found |= {f"{name} {each}" for each in command.commands} if isinstance(command, click.Group) else {name}
    return found


def test_no_command_is_forgotten() -> None:
    assert set(QUESTIONS) | set(LOCAL) | LASTING == commands()


@dataclass(frozen=True)
class Situation:
    """Where a command is sent, and what surrounds it."""

    port: int
    other: int = 1
    options: tuple[str, ...] = ()
    cookie: str = COOKIE
    folder: str = ""
    """Where the contexts are."""

    @property
    def environ(self) -> dict[str, str]:
        """What surrounds a command here."""
        folder = {"XDG_CONFIG_HOME": self.folder} if self.folder else {}
        return environment(CLUSTERKIT_COOKIE=self.cookie, TERM="xterm-256color", COLUMNS="120", **folder)

    def run(self, name: str, *, terminal: bool, beside: bool = False) -> Run:
        """How a command is typed here; where a word of JSON has quotes they are part of it."""
        arguments = (QUESTIONS | LOCAL)[name].format(port=self.port, other=self.other).split()
        typed = ["-p", str(self.port), *self.options, *name.split(), *arguments]
        return Run(typed, self.environ, terminal, CAP, beside)


def failed(situation: Situation, code: int, *, within: float, terminal: bool, at_once: int = AT_ONCE) -> dict[str, str]:
    """Run all questions where none can be answered; return what each said."""
    names = list(QUESTIONS)
    runs = [situation.run(name, terminal=terminal) for name in names]
    said: dict[str, str] = {}
    for name, ran in zip(names, run_all(runs, at_once=at_once), strict=True):
        assert not ran.hung, name
        assert ran.code == code, (name, ran)
        assert ran.seconds < within, (name, ran)
        assert "Traceback" not in ran.out + ran.err, (name, ran)
        said[name] = _terminal_failure(ran) if terminal else _pipe_failure(ran)
    return said


def _terminal_failure(ran: Ran) -> str:
    """What went wrong and what to do, a line each, on stderr; nothing else."""
    assert ran.out == "", ran
    what, hint = re.sub(r"\x1b\[[0-9;]*m", "", ran.err).splitlines()
    assert what.startswith("clusterkit: "), ran
    assert hint.startswith("hint: "), ran
    return what


def _pipe_failure(ran: Ran) -> str:
    """One object, on stdout; nothing else."""
    assert ran.err == "", ran
    told = json.loads(ran.out)
    assert told.keys() == {"ok", "error"}, ran
    assert told["ok"] is False
    assert told["error"].keys() == {"code", "message", "hint"}
    assert all(told["error"].values()), ran
    assert "\n" not in told["error"]["message"]
    return str(told["error"]["code"])


# -- nobody, or somebody else


@BOTH
def test_a_dead_port_is_exit_3(terminal: bool) -> None:
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        said = failed(Situation(bound.getsockname()[1]), 3, within=SLACK, terminal=terminal)
    expected = "connection refused" if terminal else "unreachable"
    assert all(expected in each for each in said.values()), said


@BOTH
def test_no_cookie_is_exit_5(terminal: bool) -> None:
    nothing = Situation(1, cookie="")
    said = failed(nothing, 5, within=SLACK, terminal=terminal)
    assert len(set(said.values())) == 1


@BOTH
def test_a_program_that_says_nothing_is_exit_4(terminal: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:  # connected by the kernel, and never accepted
        silent = Situation(server.getsockname()[1], options=("-t", "1"))
        said = failed(silent, 4, within=1.0 + SLACK, terminal=terminal, at_once=15)
    expected = "within 1 s" if terminal else "timeout"
    assert all(expected in each for each in said.values()), said


@pytest.fixture(name="http")
def _http() -> Iterator[int]:
    """The port of a server that greets everybody with an HTTP error, as one does that is spoken to in another tongue."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def serve() -> None:
            with suppress(OSError):  # closed
                while True:
                    stranger, _ = server.accept()
                    with closing(stranger), suppress(OSError):
                        stranger.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        stranger.settimeout(5.0)
                        stranger.recv(1 << 10)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(CAP)


@BOTH
def test_a_web_server_is_exit_6(http: int, terminal: bool) -> None:
    said = failed(Situation(http), 6, within=SLACK, terminal=terminal)
    expected = "does not speak as clusterkit does" if terminal else "wrong-protocol"
    assert all(expected in each for each in said.values()), said


@BOTH
def test_what_would_last_ends_at_once_when_it_cannot_begin(terminal: bool) -> None:
    """What runs a node says why it does not, on stderr for it is no question; in both cases."""
    nothing = environment(CLUSTERKIT_COOKIE="")
    served = ["cache", "serve", "a@127.0.0.1:0", "--ring", "r", "--group", "lengths=builtins:len"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        runs = {
            5: [Run(["start", "a@127.0.0.1:0", "--ring", "r"], nothing, terminal), Run(served, nothing, terminal)],
            1: [Run(["start", f"a@127.0.0.1:{port}", "--ring", "r"], environment(), terminal)],
        }
        for code, each in runs.items():
            for ran in run_all(each):
                assert (ran.code, ran.hung) == (code, False), ran
                _terminal_failure(ran)


def prompted(at: Situation) -> tuple[int, dict[str, Any]]:
    """A prompt that reads its line from a pipe: the exit code is that of the line."""
    typed = [*COMMAND, "-p", str(at.port), *at.options, "shell"]
    done = subprocess.run(
        typed,
        env=at.environ,
        input="ping\n",
        capture_output=True,
        text=True,
        timeout=CAP,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


# -- a real cluster


@pytest.fixture(scope="module", name="three")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Started]]:
    """Three nodes with an actor, a service and a cache each, that agree."""
    folder = tmp_path_factory.mktemp("three")
    app = ("--app", "tests.integration.cli_app:main")
    alpha = Started(folder, "alpha", *app)
    nodes = [alpha, *(Started(folder, name, "--seed", alpha.address, *app) for name in ("bravo", "charlie"))]
    try:
        for node in nodes:
            node.says("app runs")
        eventually(lambda: cli("-p", alpha.port, "check").returncode == 0, "agreement")
        yield nodes
    finally:
        for node in nodes:
            node.end()


@BOTH
def test_another_cookie_is_exit_5(three: list[Started], terminal: bool) -> None:
    other = Situation(three[0].port, three[1].port, cookie="quite another cookie")
    said = failed(other, 5, within=5.0 + SLACK, terminal=terminal)
    expected = "no trust" if terminal else "cookie"
    assert all(expected in each for each in said.values()), said


@pytest.fixture(scope="module", name="hung")
def _hung(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    node = Started(tmp_path_factory.mktemp("hung"), "hung")
    try:
        node.says("has one member so far")
        node.process.send_signal(signal.SIGSTOP)
        yield node
    finally:
        node.end()


@BOTH
def test_a_node_that_hangs_is_exit_4_in_time(hung: Started, terminal: bool) -> None:
    stopped = Situation(hung.port, options=("-t", "1"))
    said = failed(stopped, 4, within=1.0 + SLACK, terminal=terminal, at_once=15)
    expected = "within 1 s" if terminal else "timeout"
    assert all(expected in each for each in said.values()), said


def test_a_prompt_that_reads_a_pipe_ends_as_its_line_does(three: list[Started], hung: Started) -> None:
    alpha = three[0].port
    with socket.socket() as bound, ThreadPoolExecutor() as side_by_side:
        bound.bind(("127.0.0.1", 0))
        ends = {
            Situation(bound.getsockname()[1]): (3, "unreachable"),
            Situation(alpha, options=("-I", "bravo")): (6, "wrong-node"),
            Situation(alpha, cookie="quite another cookie"): (5, "cookie"),
            Situation(alpha, cookie=""): (5, "cookie"),
            Situation(hung.port, options=("-t", "1")): (4, "timeout"),
        }
        for (code, told), expected in zip(side_by_side.map(prompted, ends), ends.values(), strict=True):
            assert (code, told["error"]["code"]) == expected
    code, told = prompted(Situation(alpha))
    assert (code, told["data"]["name"]) == (0, "alpha")


IN_TURN = [name for name in QUESTIONS if name not in {"leave", "join", "monitor"}]


@BOTH
def test_three_nodes_answer_every_command(three: list[Started], terminal: bool) -> None:
    """In turn, for some change the ring; one node leaves and joins again, while another tells what it sees."""
    alpha, bravo, charlie = (node.port for node in three)
    at_alpha, at_charlie = Situation(alpha, bravo), Situation(charlie, alpha)
    names = ["monitor", *IN_TURN, "leave", "join"]
    runs = [at_alpha.run("monitor", terminal=terminal, beside=True)]
    runs += [at_alpha.run(name, terminal=terminal) for name in IN_TURN]
    runs += [at_charlie.run("leave", terminal=terminal), at_charlie.run("join", terminal=terminal)]
    for name, ran in zip(names, run_in_turn(runs), strict=True):
        assert (ran.code, ran.err, ran.hung) == (0, "", False), (name, ran)
        assert name == "monitor" or ran.seconds < 5.0, (name, ran)
        _check_shown(name, ran, terminal=terminal)
    eventually(lambda: cli("-p", alpha, "check").returncode == 0, "agreement, after it came back")


def _check_shown(name: str, ran: Ran, *, terminal: bool) -> None:
    lines = ran.out.splitlines()
    assert lines, (name, ran)
    if terminal:
        assert not ran.out.lstrip().startswith("{"), (name, ran)
    elif name == "monitor":
        assert json.loads(lines[0]).keys() >= {"ts", "type"}, ran
    else:
        told = json.loads(ran.out)
        assert (told["ok"], "data" in told, len(lines)) == (True, True, 1), (name, ran)


def test_no_is_exit_1(three: list[Started]) -> None:
    """What the cluster says no to, of all kinds."""
    at = Situation(three[0].port)
    lines = {
        "get nobody": "not-found",
        "weight nobody": "not-found",
        "update nobody 127.0.0.1 1 2": "not-found",
        "remove nobody": "not-found",
        "mremove bravo nobody": "not-found",
        "ring diff nobody": "not-found",
        "call bravo nobody hello": "not-found",
        "call nobody greeter hello": "not-found",
        "cache get nothing some-key": "not-found",
        "cache invalidate nothing some-key": "not-found",
        "join elsewhere": "already-in-ring",
        "-d nobody ping": "not-found",
    }
    runs = [Run(["-p", str(at.port), *line.split()], environment()) for line in lines]
    for (line, word), ran in zip(lines.items(), run_all(runs), strict=True):
        assert (ran.code, _pipe_refusal(ran)) == (1, word), (line, ran)
    assert run_all([Run(["-p", str(at.port), "has", "nobody"], environment())])[0].code == 1


def _pipe_refusal(ran: Ran) -> str:
    assert ran.err == "", ran
    told: dict[str, Any] = json.loads(ran.out)
    assert told["ok"] is False
    return str(told["error"]["code"])


def test_another_member_answers_through_the_one_that_is_addressed(three: list[Started]) -> None:
    at = three[0].port
    names = [name for name in IN_TURN if name not in {"meet", "insert", "minsert", "update", "remove", "mremove"}]
    here = Situation(at, three[1].port, options=("-d", "charlie"))
    for name, ran in zip(names, run_all([here.run(name, terminal=False) for name in names]), strict=True):
        assert (ran.code, ran.err) == (0, ""), (name, ran)
    ping = run_all([here.run("ping", terminal=False)])[0]
    assert json.loads(ping.out)["data"]["name"] == "charlie"


# -- this machine


@BOTH
def test_local_commands_need_no_node(tmp_path: Path, terminal: bool) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        here = Situation(bound.getsockname()[1], folder=str(tmp_path))
        ran_of = dict(zip(LOCAL, run_in_turn([here.run(name, terminal=terminal) for name in LOCAL]), strict=True))
    assert os.listdir(tmp_path / "clusterkit") == ["contexts.toml"]  # noqa: PTH208
    for name, ran in ran_of.items():
        assert ran.code == (1 if name == "doctor" else 0), (name, ran)
        assert ran.seconds < 5.0 + SLACK
        assert ran.out, name
        if name not in {"keygen", "completion"}:
            assert ran.err == "", (name, ran)
            assert terminal or json.loads(ran.out)["ok"] is True, (name, ran)


@BOTH
def test_the_doctor_finds_a_node_well(three: list[Started], terminal: bool) -> None:
    (ran,) = run_all([Situation(three[0].port).run("doctor", terminal=terminal)])
    assert (ran.code, ran.err) == (0, ""), ran
    if terminal:
        assert "alpha@127.0.0.1" in ran.out
        return
    found = {each["check"]: each for each in json.loads(ran.out)["data"]["findings"]}
    assert found["node"]["text"].startswith("alpha@127.0.0.1")
    assert (found["ring"]["text"], found["clock"]["state"]) == ("test", "ok")
    assert COOKIE not in ran.out


def test_the_doctor_looks_at_certificates(tmp_path: Path) -> None:
    """A node with TLS is well for a client that has a certificate of its authority, and not without one."""
    files = Authority().files(tmp_path, "safe")
    node = Started(tmp_path, "safe", *files.options)
    try:
        at = node.port
        typed = ["-p", str(at), "-o", "json", *files.options, "doctor"]
        well, ill = run_all([Run(typed, environment()), Run(["-p", str(at), "-o", "json", "doctor"], environment())])
    finally:
        node.end()
    tls = {each["check"]: each for each in json.loads(well.out)["data"]["findings"]}["tls"]
    assert (well.code, tls["state"]) == (0, "ok"), well
    assert tls["text"].endswith("for safe")
    failed = [each for each in json.loads(ill.out)["data"]["findings"] if each["state"] == "fail"]
    assert (ill.code, [each["check"] for each in failed]) == (1, ["node"]), ill
    assert "TLS" in failed[0]["hint"]


@BOTH
def test_the_doctor_does_not_hang_with_the_node(hung: Started, terminal: bool) -> None:
    (ran,) = run_all([Situation(hung.port, options=("-t", "1")).run("doctor", terminal=terminal)])
    assert (ran.code, ran.err, ran.hung) == (1, "", False), ran
    assert ran.seconds < 1.0 + SLACK
    assert "no answer from" in ran.out


def test_no_colours_where_none_are_wanted(three: list[Started]) -> None:
    plain = environment(TERM="xterm-256color", NO_COLOR="1")
    alpha = f"-p {three[0].port}"
    lines = [f"{alpha} members", f"{alpha} check", f"{alpha} services", f"{alpha} doctor", f"{alpha} get nobody"]
    runs = [Run(line.split(), plain, terminal=True) for line in (*lines, "-p 1 ping", "-p 1 doctor", "membrs")]
    runs += [Run(["--no-color", *line.split()], environment(TERM="xterm"), terminal=True) for line in lines]
    for ran in run_all(runs):
        assert ran.out or ran.err
        assert "\x1b[" not in ran.out + ran.err, ran
