"""The questions and changes of the command line, each in a pipe and on a terminal, against three real nodes.

What each prints, with which exit code it ends, and that it did so within its ``-t``.
"""

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from clusterkit.cli.failure import Failure
from clusterkit.cli.main import run
from clusterkit.cli.question import Asked, Target, ask
from tests.integration.test_cli import COMMAND, COOKIE, PATIENCE, START_UP, Started, environment, eventually

APP = ("--app", "tests.integration.commands_app:main")
SECONDS = 5.0  # of -t, as it is when nothing is said


class Done:
    """A command that ended: its exit code, and what it printed."""

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds
        assert "Traceback" not in out + err, out + err

    @property
    def data(self) -> Any:
        told = json.loads(self.out)
        assert (told["ok"], self.err) == (True, ""), self.out
        return told["data"]

    @property
    def error(self) -> tuple[int, str, str, str]:
        told = json.loads(self.out)
        assert (told["ok"], self.err) == (False, ""), self.out
        error = told["error"]
        return self.code, error["code"], error["message"], error["hint"]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def piped(*arguments: object, stdin: str = "", within: float = SECONDS, **more: str) -> Done:
    """Run it as a program reads it, in this process: that each runs as a process of its own is shown in test_cli.py."""
    out, err, begin = io.StringIO(), io.StringIO(), time.monotonic()
    env, words = patch.dict(os.environ, environment(**more), clear=True), patch("sys.stdin", io.StringIO(stdin))
    with env, words, redirect_stdout(out), redirect_stderr(err):
        code, _ = run([*map(str, arguments)])
    seconds = time.monotonic() - begin
    assert seconds < within + START_UP
    return Done(code, out.getvalue(), err.getvalue(), seconds)


def shown(*arguments: object, reply: tuple[str, str] | None = None, within: float = SECONDS, **more: str) -> Done:
    """Run it on a pseudo-terminal; ``reply`` is what is typed once a text is shown. Colours and carriage returns are left out."""
    ours, theirs = pty.openpty()
    begin = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(TERM="xterm-256color", COLUMNS="200", **more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        text = _read(ours, begin + PATIENCE, reply)
        code, seconds = process.wait(PATIENCE), time.monotonic() - begin
    finally:
        os.close(ours)
        process.kill()
        process.wait(PATIENCE)
    assert seconds < within + START_UP
    return Done(code, re.sub(r"\x1b\[[0-9;]*m|\r", "", text), "", seconds)


def _read(terminal: int, deadline: float, reply: tuple[str, str] | None) -> str:
    text = ""
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other end closed
            return text
        text += data.decode(errors="replace")
        if reply is not None and reply[0] in text:
            os.write(terminal, reply[1].encode())
            reply = None
    raise AssertionError(text)


@pytest.fixture(scope="module", name="nodes")
def _nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Started]]:
    """Three nodes of one ring, which run an app; they agree."""
    folder = tmp_path_factory.mktemp("commands")
    alpha = Started(folder, "alpha", *APP)
    bravo, charlie = (Started(folder, name, *APP, "--seed", alpha.address) for name in ("bravo", "charlie"))
    nodes = [alpha, bravo, charlie]
    for node in nodes:
        node.says("app runs")
    eventually(lambda: agree(alpha), "agreement")
    eventually(lambda: len(asked(alpha, "services").data) == 3, "three members with services")
    yield nodes
    for node in nodes:
        node.end()


def asked(node: Started, *arguments: object, stdin: str = "", **more: Any) -> Done:
    return piped("-p", node.port, *arguments, stdin=stdin, **more)


def on_terminal(node: Started, *arguments: object, **more: Any) -> Done:
    return shown("-p", node.port, *arguments, **more)


def agree(node: Started) -> bool:
    return asked(node, "check").code == 0


Nodes = list[Started]


# -- questions: what a program reads


def test_ping_and_the_environment(nodes: Nodes) -> None:
    told = asked(nodes[0], "ping").data
    assert (told["name"], told["address"], told["ring"]) == ("alpha", nodes[0].address, "test")
    assert {"incarnation", "version", "uptime", "seconds"} <= told.keys()
    assert on_terminal(nodes[0], "ping").out.startswith(f"pong from alpha@{nodes[0].address}, ring test, in ")


def test_members(nodes: Nodes) -> None:
    told = asked(nodes[0], "members").data
    assert [each["name"] for each in told] == ["alpha", "bravo", "charlie"]
    assert [each["self"] for each in told] == [True, False, False]
    assert [each["rtt"] is None for each in told] == [True, False, False]
    assert all(0 < each["rtt"] < SECONDS and each["since"] >= 0 and each["queue"] >= 0 for each in told[1:])
    assert abs(sum(each["share"] for each in told) - 1) < 1e-9
    table = on_terminal(nodes[0], "members").lines
    assert table[0].split() == ["NAME", "ADDRESS", "STATE", "RTT", "SINCE", "SHARE", "QUEUE", "INCARNATION"]
    assert [line.split()[0] for line in table[1:4]] == ["alpha", "bravo", "charlie"]
    assert table[1].split()[:4] == ["alpha", "*", nodes[0].address, "alive"]
    assert table[2].split()[-1] == str(told[1]["incarnation"])
    assert table[5] == "3 members: 3 alive, as alpha sees it"


def test_nodes_get_has(nodes: Nodes) -> None:
    a = nodes[0]
    told = asked(a, "nodes").data
    assert [(each["name"], each["address"]) for each in told] == [(node.name, node.address) for node in nodes]
    assert [line.split()[:2] for line in on_terminal(a, "nodes").lines[1:]] == [[n.name, n.address] for n in nodes]
    assert asked(a, "get", "bravo").data == told[1]
    assert on_terminal(a, "get", "bravo").lines == [f"bravo@{nodes[1].address}"]
    for name, there, code in (("bravo", True, 0), ("nosuch", False, 1)):
        for done in (asked(a, "has", name), on_terminal(a, "has", name)):
            assert done.code == code
        assert asked(a, "has", name).data is there
        assert on_terminal(a, "has", name).lines == [str(there).lower()]


def test_a_name_that_is_not_known_has_a_hint_with_those_that_are(nodes: Nodes) -> None:
    for command in (("get",), ("weight",), ("remove",), ("mremove",), ("update",), ("ring", "diff")):
        code, word, message, hint = asked(nodes[0], *command, "brava").error
        assert (code, word, message) == (1, "not-found", "no member is named 'brava', as alpha sees it")
        assert hint == "did you mean 'bravo'? 3 members are known: alpha, bravo, charlie"
    done = on_terminal(nodes[0], "get", "nosuch")
    assert done.code == 1
    assert done.lines == [
        "clusterkit: no member is named 'nosuch', as alpha sees it",
        "hint: 3 members are known: alpha, bravo, charlie",
    ]


def test_weights(nodes: Nodes) -> None:
    assert asked(nodes[0], "weight", "bravo").data == 1
    assert on_terminal(nodes[0], "weight", "bravo").lines == ["1"]
    assert asked(nodes[0], "weights").data == {"alpha": 1, "bravo": 1, "charlie": 1}
    assert [line.split() for line in on_terminal(nodes[0], "weights").lines[1:]] == [[n.name, "1"] for n in nodes]


def test_inspect(nodes: Nodes) -> None:
    told = asked(nodes[0], "inspect").data
    assert (told["ring"], told["members"], told["alive"], told["tokens"]) == ("test", 3, 3, 384)
    assert (told["rfactor"], told["pfactor"], "tree" in told) == (1, 3, False)
    tree = asked(nodes[0], "inspect", "--full").data["tree"]
    assert len(tree) == 384
    assert tree == sorted(tree)
    lines = on_terminal(nodes[0], "inspect").lines
    assert lines[:3] == ["ring      test", "members   3, 3 alive", f"digest    {told['digest']}"]
    assert len(on_terminal(nodes[0], "inspect", "--full").lines) > 384


def test_check_of_members_that_agree(nodes: Nodes) -> None:
    told = asked(nodes[0], "check").data
    assert (told["agree"], told["silent"], told["sees"]) == (True, {}, None)
    [names] = told["digests"].values()
    assert names == ["alpha", "bravo", "charlie"]
    done = on_terminal(nodes[0], "check")
    assert done.code == 0
    assert [line[:6] for line in done.lines] == ["[ok]  "] * 3


def test_the_ring_group(nodes: Nodes) -> None:
    a = nodes[0]
    told = asked(a, "ring", "owner", "some key", "-n", 2).data
    assert [len(told["owners"]), told["available"]["name"]] == [2, told["owners"][0]["name"]]
    line = on_terminal(a, "ring", "owner", "some key", "-n", 2).lines[1]
    assert line.split() == ["1", told["owners"][0]["name"], "*", told["owners"][0]["address"], "alive"]
    balance = asked(a, "ring", "balance").data
    assert {each["name"]: round(each["ideal"], 3) for each in balance["members"]} == dict.fromkeys(
        ("alpha", "bravo", "charlie"), 0.333
    )
    assert on_terminal(a, "ring", "balance").lines[-1] == f"the most loaded has {balance['worst']:.2f}x of its ideal"
    done = asked(a, "ring", "diff", "charlie")
    assert done.data == {"here": "alpha", "there": "charlie", "same": True, "differences": []}
    assert on_terminal(a, "ring", "diff", "charlie").lines == ["alpha and charlie see the same"]


def test_another_member_is_asked_through_the_one_that_is_addressed(nodes: Nodes) -> None:
    a = nodes[0]
    assert asked(a, "-d", "bravo", "ping").data["address"] == nodes[1].address
    assert [each["self"] for each in asked(a, "-d", "charlie", "members").data] == [False, False, True]
    assert "as bravo sees it" in on_terminal(a, "-d", "bravo", "members").out
    assert asked(a, "-d", "bravo", "check").data["agree"] is True
    assert asked(a, "-d", "bravo", "call", "charlie", "clerk", "name").data == "charlie"
    assert asked(a, "-d", "bravo", "get", "nosuch").error[2] == "no member is named 'nosuch', as bravo sees it"
    code, word, message, hint = asked(a, "-d", "nosuch", "ping").error
    assert (code, word, message) == (1, "not-found", "no member is named 'nosuch', as alpha sees it")
    assert "alpha, bravo, charlie" in hint
    assert asked(a, "-d", "no/name", "ping").error[:2] == (2, "usage")


# -- actors


def test_actors(nodes: Nodes) -> None:
    told = {each["name"]: each for each in asked(nodes[1], "actors").data}
    assert (told["clerk"]["kind"], told["clerk"]["limit"]) == ("Clerk", 1000)
    assert told["clusterkit.command"]["handler"] == "actors"
    lines = on_terminal(nodes[0], "-d", "bravo", "actors").lines
    assert lines[0].split() == ["#", "NAME", "CLASS", "WAITING", "DOES", "FOR", "HANDLED", "AGE"]
    assert any(line.split()[1:3] == ["clerk", "Clerk"] for line in lines)


def test_call(nodes: Nodes) -> None:
    a = nodes[0]
    assert asked(a, "call", "charlie", "clerk", "name").data == "charlie"
    value = {"a": [1, 2.5, None, True], "b": "text"}
    assert asked(a, "call", "bravo", "clerk", "echo", json.dumps(value)).data == value
    assert asked(a, "call", "bravo", "clerk", "echo", "-", stdin=json.dumps(value)).data == value
    assert on_terminal(a, "call", "charlie", "clerk", "name").lines == ["charlie"]
    assert json.loads(on_terminal(a, "call", "bravo", "clerk", "echo", json.dumps(value)).out) == value


@pytest.mark.parametrize(
    ("line", "code", "word", "said"),
    [
        ("bravo clerk fail 1", 1, "refused", "clerk on bravo: LookupError: no 1"),
        ("bravo clerk nosuch", 1, "not-found", "NoSuchMethod"),
        ("bravo nosuch name", 1, "not-found", "NoSuchServer"),
        ("nosuch clerk name", 1, "not-found", "no member is named 'nosuch', as alpha sees it"),
        ("bravo clerk echo {", 2, "usage", "this is no JSON"),
        ("bravo clerk echo 123456789012345678901234567890", 2, "usage", "it cannot be sent"),
        ('bravo clerk echo "\\ud800"', 2, "usage", "it cannot be sent"),
    ],
)
def test_a_call_that_fails(nodes: Nodes, line: str, code: int, word: str, said: str) -> None:
    done = asked(nodes[0], "-o", "json", "call", *line.split()).error
    assert done[:2] == (code, word)
    assert said in done[2]
    told = on_terminal(nodes[0], "call", *line.split())
    assert told.code == code
    assert told.lines[0].startswith("clusterkit: ")
    assert told.lines[1].startswith("hint: ")
    assert len(told.lines) == 2


def test_a_call_that_hangs_ends_in_time_and_says_that_it_may_have_run(nodes: Nodes) -> None:
    done = asked(nodes[0], "-t", 1, "call", "bravo", "sleeper", "hang", within=1.0)
    code, word, message, hint = done.error
    assert (code, word, hint) == (4, "timeout", "it may have been carried out")
    assert "sleeper on bravo" in message
    assert on_terminal(nodes[0], "-t", 0.5, "call", "alpha", "sleeper", "hang", within=0.5).code == 4


def test_cast(nodes: Nodes) -> None:
    a = nodes[0]
    assert asked(a, "cast", "bravo", "clerk", "note", '"one"').data is None
    assert on_terminal(a, "cast", "bravo", "clerk", "note", '"two"').lines == ["sent"]
    eventually(lambda: asked(a, "call", "bravo", "clerk", "noted").data == ["one", "two"], "both are noted")
    assert asked(a, "cast", "nosuch", "clerk", "note").error[:2] == (1, "not-found")


def test_services(nodes: Nodes) -> None:
    told = asked(nodes[0], "services").data
    assert [(each["name"], each["online"], each["unmet"]) for each in told] == [
        (n.name, True, ["paper"]) for n in nodes
    ]
    lines = on_terminal(nodes[0], "services").lines
    assert lines[1].split() == ["alpha", "online", "clerking", "clerk", "yes", "paper", "paper"]


def test_caches(nodes: Nodes) -> None:
    a = nodes[0]
    assert asked(a, "cache", "get", "lengths", "some").data["value"] == {"length": 4}
    done = on_terminal(a, "cache", "get", "lengths", "some")
    assert done.lines[-1] in ("(hit)", "(peer)")
    assert json.loads("".join(done.lines[:-1])) == {"length": 4}
    stats = asked(a, "cache", "stats", "lengths").data
    assert [each["group"] for each in stats] == ["lengths"]
    assert on_terminal(a, "cache", "stats").lines[0].split() == ["lengths"]
    told = asked(a, "cache", "invalidate", "lengths", "some").data
    assert told == {"reached": ["bravo", "charlie"], "missed": []}
    assert on_terminal(a, "cache", "invalidate", "lengths", "--all").lines == ["2 other nodes know"]
    assert asked(a, "cache", "invalidate", "lengths", "--prefix", "so").code == 0
    assert asked(a, "cache", "get", "lengths", "nosuch").error[:2] == (1, "not-found")
    for line in (("get", "nosuch", "k"), ("invalidate", "nosuch", "k"), ("stats", "nosuch")):
        assert asked(a, "cache", *line).error[:2] == (1, "not-found")


# -- changes


def test_insert_update_remove(nodes: Nodes, unused: list[int]) -> None:
    a, (one, two) = nodes[0], unused
    told = asked(a, "insert", "-f", "-w", 3, "delta", "127.0.0.1", one).data
    assert {each["name"]: each["weight"] for each in told} == {"alpha": 1, "bravo": 1, "charlie": 1, "delta": 3}
    assert asked(a, "insert", f"delta@127.0.0.1:{one}").code == 0
    code, word, message, _ = asked(a, "insert", "delta", "127.0.0.1", two).error
    assert (code, word) == (1, "refused")
    assert "remove it first" in message
    lines = on_terminal(a, "update", "delta", "127.0.0.1", one, 7).lines
    assert ["delta", f"127.0.0.1:{one}"] == lines[4].split()[:2]
    assert lines[4].split()[-1] == "7"
    assert lines[-1] == "4 members now"
    for words, weight in (((5,), 5), (("-w", 6), 6), ((), 1)):
        assert asked(a, "update", "delta", *words).code == 0
        assert asked(nodes[0], "weight", "delta").data == weight
    assert asked(a, "remove", "delta", "127.0.0.1", two).error[:2] == (2, "usage")
    assert asked(a, "has", "delta").data is True
    assert [each["name"] for each in asked(a, "remove", "-f", "delta", "127.0.0.1", one).data] == [
        n.name for n in nodes
    ]
    assert on_terminal(a, "insert", "delta", "127.0.0.1", one).lines[-1] == "4 members now"
    assert on_terminal(a, "remove", "delta").lines[-1] == "3 members now"
    code, word, _, hint = asked(a, "remove", "alpha").error
    assert (code, word) == (2, "usage")
    assert "clusterkit leave" in hint


def test_minsert_and_mremove(nodes: Nodes, unused: list[int]) -> None:
    a, (one, two) = nodes[0], unused
    assert len(asked(a, "minsert", "-w", 2, "delta", "127.0.0.1", one, f"echo@127.0.0.1:{two}").data) == 5
    assert asked(a, "weights").data == {"alpha": 1, "bravo": 1, "charlie": 1, "delta": 2, "echo": 2}
    assert asked(a, "mremove", "delta", "nosuch").error[:2] == (1, "not-found")
    assert len(asked(a, "nodes").data) == 5  # all, or none
    assert len(asked(a, "mremove", "delta", "127.0.0.1", one, "echo").data) == 3
    typed = f"delta 127.0.0.1 {one}\necho@127.0.0.1:{two}\n"
    assert len(asked(a, "minsert", "-", stdin=typed).data) == 5
    assert on_terminal(a, "mremove", f"delta@127.0.0.1:{one}").lines[-1] == "4 members now"
    assert len(asked(a, "mremove", "-", stdin="echo\n").data) == 3
    code, word, message, _ = asked(a, "-o", "json", "minsert", "delta", "127.0.0.1", one, "echo", "127.0.0.1").error
    assert (code, word) == (2, "usage")
    assert message == "echo 127.0.0.1: a part of the node is missing"
    assert len(asked(a, "nodes").data) == 3
    eventually(lambda: agree(a), "agreement")


@pytest.fixture(name="unused")
def _unused() -> Iterator[list[int]]:
    """Two ports that nobody listens on, as long as the test runs."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in (one, two)]


# -- a node that comes and goes


@pytest.fixture(name="other")
def _other(tmp_path: Path) -> Iterator[Started]:
    """A node that is alone in a ring of the same id."""
    node = Started(tmp_path, "other")
    node.says("has one member so far")
    yield node
    node.end()


def names(node: Started) -> list[str]:
    return [each["name"] for each in asked(node, "nodes").data]


def test_meet_leave_join(nodes: Nodes, other: Started) -> None:
    a = nodes[0]
    told = asked(other, "meet", "alpha", "127.0.0.1", a.port).data
    assert (told["name"], told["ring"], told["members"]) == ("other", "test", 4)
    eventually(lambda: names(a) == ["alpha", "bravo", "charlie", "other"], "it is known")
    assert on_terminal(other, "meet", a.address).lines == [f"met {a.address}: other is in ring test: 4 members"]
    assert asked(other, "meet", "bravo", "127.0.0.1", a.port).error[:2] == (6, "wrong-node")
    assert asked(other, "join", "test").error[:2] == (1, "already-in-ring")
    told = asked(other, "leave").data
    assert (told["name"], told["ring"]) == ("other", "")
    eventually(lambda: names(a) == ["alpha", "bravo", "charlie"], "it has left")
    for line in (("meet", a.address), ("insert", "x@h:1"), ("remove", "x"), ("check",)):
        code, word, message, hint = asked(other, *line).error
        assert (code, word) == (1, "not-in-ring"), message
        assert "clusterkit join" in hint
    assert asked(other, "join", "elsewhere", "--seed", a.address).error[:2] == (6, "wrong-cluster")
    assert on_terminal(other, "join", "test", "--seed", a.address).lines == ["other is in ring test: 4 members"]
    eventually(lambda: agree(a), "agreement")
    told = asked(a, "-d", "other", "leave", "-f").data
    assert (told["name"], told["ring"]) == ("other", "")
    eventually(lambda: names(a) == ["alpha", "bravo", "charlie"], "it has left again")


def test_on_a_terminal_leave_asks(other: Started) -> None:
    question = f"Take the node at {other.address} out of its ring? [y/N]"
    done = on_terminal(other, "leave", reply=(question, "n\n"))
    assert done.code == 1
    assert done.lines[-2:] == ["clusterkit: nothing was done", "hint: --yes does it without a question"]
    assert asked(other, "ping").data["ring"] == "test"
    done = on_terminal(other, "leave", reply=(question, "y\n"))
    assert (done.code, done.lines[-1]) == (0, "other has left its ring")
    assert on_terminal(other, "leave", reply=(question, "\x04")).code == 130
    assert on_terminal(other, "join", "solo").lines == ["other is in ring solo: 1 member"]
    assert on_terminal(other, "leave", "--yes").lines == ["other has left its ring"]
    assert on_terminal(other, "join", "solo").code == 0
    assert on_terminal(other, "leave", "-f").code == 0


def test_a_join_or_a_meeting_that_finds_nobody_ends_in_time(other: Started, unused: list[int]) -> None:
    dead = f"127.0.0.1:{unused[0]}"
    code, word, message, _ = asked(other, "meet", dead).error
    assert (code, word) == (3, "unreachable")
    assert "cannot be reached" in message
    assert asked(other, "leave").code == 0
    done = asked(other, "-t", 2, "join", "test", "--seed", dead, within=2.0)
    code, word, message, _ = done.error
    assert (code, word) == (4, "timeout")
    assert dead in message
    done = on_terminal(other, "-t", 0.5, "-d", "other", "join", "test", "--seed", dead, within=0.5)
    assert done.code == 4


def test_a_member_that_hangs_is_no_agreement_and_holds_up_nobody(other: Started, tmp_path: Path) -> None:
    hung = Started(tmp_path, "hung", "--seed", other.address)
    try:
        hung.says("joined ring test: 2 members")
        eventually(lambda: agree(other), "agreement")
        hung.process.send_signal(signal.SIGSTOP)
        done = asked(other, "check")
        assert done.code == 1
        assert done.data["agree"] is False
        assert (done.data["answered"], list(done.data["silent"])) == (["other"], ["hung"])
        lines = on_terminal(other, "check").lines
        assert lines[0] == "[FAIL] 1 of 2 members of ring test answer"
        assert lines[-3].split() == ["WHO", "\\", "SEES", "hung", "other"]
        assert lines[-2].split() == ["hung", "?", "?"]
        assert lines[-1].split()[0] == "other"
        assert [each["rtt"] for each in asked(other, "members").data] == [None, None]
        assert asked(other, "-t", 1, "-d", "hung", "ping", within=1.0).error[0] in (3, 4)
        assert asked(other, "-t", 1, "ring", "diff", "hung", within=1.0).error[0] in (3, 4)
        assert asked(other, "-t", 1, "call", "hung", "clerk", "name", within=1.0).error[0] in (3, 4)
    finally:
        hung.end()


# -- options that hold for all


def test_the_format_is_chosen_by_the_reader_or_by_hand(nodes: Nodes) -> None:
    a = nodes[0]
    assert asked(a, "-o", "table", "weight", "bravo").lines == ["1"]
    assert json.loads(on_terminal(a, "-o", "json", "weight", "bravo").out) == {"ok": True, "data": 1}
    assert asked(a, "weight", "bravo", CLUSTERKIT_OUTPUT="table").lines == ["1"]
    assert asked(a, "-t", 3, "weight", "bravo", CLUSTERKIT_TIMEOUT="nonsense").data == 1
    assert asked(a, "-o", "json", "weight").error[:2] == (2, "usage")
    done = asked(a, "weight")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)


def test_colours_are_for_terminals_that_want_them(nodes: Nodes) -> None:
    def raw(*arguments: object, **more: str) -> bytes:
        ours, theirs = pty.openpty()
        env = environment(TERM="xterm-256color", **more)
        command = [*COMMAND, "-p", str(nodes[0].port), *map(str, arguments), "members"]
        with subprocess.Popen(command, env=env, stdout=theirs, stderr=theirs, start_new_session=True) as process:
            os.close(theirs)
            text = _read(ours, time.monotonic() + PATIENCE, None).encode()
            os.close(ours)
            assert process.wait(PATIENCE) == 0
        return text

    assert b"\x1b[32malive" in raw()
    assert b"\x1b" not in raw("--no-color")
    assert b"\x1b" not in raw(NO_COLOR="1")


# -- how a question ends


def target(node: Started, timeout: float = SECONDS) -> Target:
    return Target("127.0.0.1", node.port, COOKIE.encode(), timeout)


def test_an_answer_that_came_counts_though_the_node_hangs_then(other: Started) -> None:
    async def asking(asked: Asked) -> Any:
        told = await asked.call("ping")
        other.process.send_signal(signal.SIGSTOP)  # and so it says no goodbye
        return told

    assert ask(target(other, 0.5), asking)["name"] == "other"


def test_a_fault_on_this_side_is_not_laid_on_the_node(other: Started) -> None:
    async def faulty(asked: Asked) -> Any:
        return (await asked.call("ping"))["no such part"]

    with pytest.raises(KeyError):
        ask(target(other), faulty)

    async def called_wrongly(asked: Asked) -> Any:
        return await asked.call("ping", "too much")

    with pytest.raises(Failure, match="other says no: TypeError") as caught:
        ask(target(other), called_wrongly)
    assert caught.value.code == "refused"


# -- start


def test_a_node_starts_from_a_file(nodes: Nodes, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'address = "filed@127.0.0.1:0"\nring = "test"\nseed = ["{nodes[0].address}"]\njoin-timeout = 3\n')
    process = subprocess.Popen(
        [*COMMAND, "start", "--config", str(file)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("filed listens on 127.0.0.1:")
        eventually(lambda: "filed" in names(nodes[0]), "it has joined")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        eventually(lambda: "filed" not in names(nodes[0]), "it has left")
    finally:
        process.kill()
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
