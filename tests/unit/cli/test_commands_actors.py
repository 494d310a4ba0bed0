"""The commands about actors: values as JSON, and what an actor's answer looks like."""

import io
from typing import Any

import click
import pytest

from clusterkit.cli.commands_actors import read_json, show_actors, show_services, show_value
from clusterkit.cli.commands_cache import show_invalidated, show_stats
from clusterkit.cli.failure import Failure
from clusterkit.cli.main import run


@pytest.mark.parametrize(
    ("text", "value"), [(None, None), ("1", 1), ('"a"', "a"), ('{"a": [true, null]}', {"a": [True, None]})]
)
def test_a_value_is_json(text: str | None, value: Any) -> None:
    assert read_json(text) == value


def test_a_value_may_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("[1, 2]\n"))
    assert read_json("-") == [1, 2]


def test_stdin_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f'"{"x" * (1 << 20)}"'))
    with pytest.raises(Failure, match="stdin has more than 1048576 characters"):
        read_json("-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
    with pytest.raises(Failure, match="stdin is no text"):
        read_json("-")


@pytest.mark.parametrize("text", ["hello", "", "{", "[1,]", "[" * 100_000])
def test_what_is_no_json_is_a_slip_with_a_hint(text: str) -> None:
    with pytest.raises(Failure, match="this is no JSON") as caught:
        read_json(text)
    assert caught.value.exit_code == 2
    assert "quotes" in caught.value.hint


def test_a_slip_is_told_before_a_node_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "a", "b", "c", "nojson"]) == (2, False)
    assert "this is no JSON" in capsys.readouterr().err


def test_an_answer_is_a_text_or_json() -> None:
    assert show_value("two\nlines\x1b[2J") == "two\nlines?[2J"
    assert show_value({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'
    assert show_value(None) == "null"


def test_actors_are_lines() -> None:
    actor = {
        "serial": 7,
        "name": None,
        "kind": "Account",
        "depth": 3,
        "limit": 1000,
        "handler": "withdraw",
        "since": 1.25,
        "beside": 2,
        "handled": 12,
        "suspended": False,
        "age": 90.0,
    }
    shown = show_actors([actor, actor | {"name": "x", "handler": None, "since": None, "beside": 0, "suspended": True}])
    lines = shown.splitlines()
    assert lines[1].split() == ["7", "-", "Account", "3/1000", "withdraw,", "2", "beside", "1.2s", "12", "1m30s"]
    assert lines[2].split()[1:6] == ["x", "Account", "3/1000", "suspended", "-"]
    assert lines[-1] == "2 actors"


def test_services_are_a_line_for_each_offer() -> None:
    offers = [
        {"resource": "gate", "module": "m", "healthy": True, "requirements": ["data", "log"]},
        {"resource": "db", "module": "m", "healthy": False, "requirements": []},
    ]
    node = {"name": "a", "online": True, "offers": offers, "requirements": ["data", "log"], "unmet": ["log"]}
    asks = {"name": "b", "online": False, "offers": [], "requirements": ["gate"], "unmet": []}
    lines = click.unstyle(show_services([node, asks])).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "online", "gate", "m", "yes", "data", "log", "log"],
        ["a", "online", "db", "m", "no", "-", "-"],
        ["b", "offline", "-", "-", "-", "gate", "-"],
    ]
    assert show_services([]) == "no member offers or requires anything"


def test_caches_stand_side_by_side() -> None:
    lines = show_stats(
        [{"group": "x", "hot_hits": 1234, "bytes": 5}, {"group": "y", "hot_hits": 0, "bytes": 6}]
    ).splitlines()
    assert [line.split() for line in lines] == [["x", "y"], ["hot", "hits", "1,234", "0"], ["bytes", "5", "6"]]
    assert show_stats([]) == "this node has no cache groups"


def test_who_knows_of_an_invalidation_is_told() -> None:
    assert show_invalidated({"reached": ["b"], "missed": []}) == "1 other node knows"
    missed = show_invalidated({"reached": ["b", "c"], "missed": ["d"]})
    assert missed == "2 other nodes know; not yet: d; they are told when they can be reached"


@pytest.mark.parametrize(
    "line", ["cache invalidate g", "cache invalidate g k --all", "cache invalidate g --prefix p --all"]
)
def test_what_to_forget_is_said_once(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == (2, False)
    assert "one of KEY, --prefix PREFIX and --all" in capsys.readouterr().err
