"""The table of commands: complete, lazy, and clear when something is missing."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from clusterkit.cli import commands
from clusterkit.cli.commands import TABLE, Line, load
from clusterkit.cli.failure import Failure
from clusterkit.cli.main import run

HEAVY = ("asyncio", "clusterkit.node", "clusterkit.runtime", "rich", "prompt_toolkit", "starlette", "uvicorn", "ssl")
ANCESTOR = "inspect nodes get has weight weights ping join meet leave insert minsert update remove mremove"


@pytest.mark.parametrize("name", TABLE)
def test_each_line_leads_to_a_command_of_that_name(name: str) -> None:
    command = load(name)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help


def test_the_ancestors_commands_are_all_there() -> None:
    assert set(ANCESTOR.split()) <= TABLE.keys()


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == (0, False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name, line in TABLE.items():
        assert [name, *line.help.split()] in lines
    assert max(len(f"  {name:<10}  {line.help}") for name, line in TABLE.items()) <= 80


@pytest.mark.parametrize("typed", [["--help"], ["--version"], ["membres"], ["-p", "0", "ping"], []])
def test_what_asks_no_node_loads_nothing_that_does(typed: list[str]) -> None:
    program = (
        "import sys; from clusterkit.cli.main import run; run(sys.argv[1:]);"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]; assert not found, found"
    )
    here = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program, *typed], cwd=here, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_slip_names_the_command_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, meant in (("membres", "members"), ("minsret", "minsert"), ("moniter", "monitor")):
        assert run([typed]) == (2, False)
        _, asked, meanings = capsys.readouterr().err.partition("Did you mean ")
        assert asked
        assert repr(meant) in meanings


def test_a_module_that_is_not_there_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {**TABLE, "ping": Line("Ask", "nosuch:ping", "It is not there.")}
    monkeypatch.setattr(commands, "TABLE", table)
    assert run(["ping"]) == (1, False)
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "clusterkit: `clusterkit ping` is not part of this installation: there is no clusterkit.cli.nosuch"
    assert hint.startswith("hint: ")
    assert run(["--help"]) == (0, False)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TABLE", {"x": Line("Ask", "demo_show:Show", "Needs rich.")})
    for name in [
        name for name in sys.modules if name.startswith(("clusterkit.cli.demo_show", "rich.")) or name == "rich"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(Failure, match="`clusterkit x` needs rich, which is not installed") as caught:
        load("x")
    assert "clusterkit[cli" in caught.value.hint


def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, word: int) -> list[str]:
    monkeypatch.setenv("_CLUSTERKIT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(word))
    with pytest.raises(SystemExit):
        run([])
    return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]


def test_a_shell_completes_commands_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(monkeypatch, capsys, "clusterkit me", 1) == ["members", "meet"]
    assert complete(monkeypatch, capsys, "clusterkit -p 7022 wei", 3) == ["weight", "weights"]
    assert complete(monkeypatch, capsys, "clusterkit --por", 1) == ["--port"]
    assert complete(monkeypatch, capsys, "clusterkit ring o", 2) == ["owner"]
    assert complete(monkeypatch, capsys, "clusterkit insert --we", 2) == ["--weight"]
