"""The commands that change the ring: slips are told before any node is asked."""

import io
import json
from pathlib import Path

import pytest

from clusterkit.cli.main import run


@pytest.fixture(autouse=True)
def _nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cookie, no context: what is read well ends in exit code 5."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("COOKIE", "COOKIE_FILE", "CONTEXT", "OUTPUT"):
        monkeypatch.delenv(f"CLUSTERKIT_{name}", raising=False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("join", "Missing argument 'RING'"),
        ("meet", "Missing argument"),
        ("meet bar", "no port"),
        ("meet bar 127.0.0.1", "a part of the node is missing"),
        ("insert", "Missing argument"),
        ("insert bar 127.0.0.1", "a part of the node is missing"),
        ("insert a@h:1 b@h:2", "one node is taken here, not 2"),
        ("insert -w 0 a@h:1", "0 is not in the range 1<=x<=1000"),
        ("insert -w 1001 a@h:1", "1001 is not in the range 1<=x<=1000"),
        ("minsert a h 1 b h", "b h: a part of the node is missing"),
        ("update", "Missing argument"),
        ("update bar 127.0.0.1", "what it takes is"),
        ("update bar 0", "weight 0: it must be 1 to 1000"),
        ("update bar h 1 1001", "weight 1001: it must be 1 to 1000"),
        ("update bar h 1 2 3", "what it takes is"),
        ("update -w 2 bar 3", "two weights were given: 3 and 2"),
        ("remove", "Missing argument"),
        ("remove a b", "a part of the node is missing"),
        ("mremove a/b", "'/' in it"),
        ("leave now", "unexpected extra argument"),
    ],
)
def test_a_slip_is_exit_2(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(["-o", "json", *line.split()])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["ok"], told["error"]["code"]) == (2, False, "usage")
    assert said in told["error"]["message"]


@pytest.mark.parametrize(
    "line",
    [
        "join demo",
        "join demo --seed h:1 --seed a@h:2",
        "meet bar 127.0.0.1 7022",
        "meet bar@127.0.0.1:7022",
        "meet 127.0.0.1:7022",
        "leave",
        "leave -f",
        "insert -f -w 3 bar 127.0.0.1 7022",
        "insert bar 127.0.0.1 7022 -f --weight 3",
        "minsert -f -w 3 a h 1 b h 2",
        "update -f bar 127.0.0.1 7022 3",
        "update bar 127.0.0.1 7022",
        "update bar 3",
        "update bar -w 3",
        "update bar@h:1 3",
        "remove -f bar 127.0.0.1 7022",
        "remove bar",
        "mremove -f a h 1 b h 2",
        "mremove a b c",
    ],
)
def test_the_words_and_the_order_of_the_ancestor_are_read(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(line.split())
    told = json.loads(capsys.readouterr().out)
    assert (code, told["error"]["code"]) == (5, "cookie")


def test_a_dash_without_nodes_is_a_slip(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert run(["mremove", "-"])[0] == 2
    assert "no node was given" in capsys.readouterr().err
