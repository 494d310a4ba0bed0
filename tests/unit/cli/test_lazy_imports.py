"""What a command loads: a shell that completes, or a person who asks for help, waits for no event loop.

Each is run in a process of its own, which tells what it has loaded.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterkit.cli.commands import TABLE

HEAVY = {"asyncio", "ssl", "msgpack", "rich", "prompt_toolkit", "starlette", "uvicorn", "uvloop", "clusterkit.node"}
LIVE = {"monitor", "top", "shell"}
"""Whoever runs one of these stays for a while; they are programs of their own."""
RUN = """
import contextlib, io, json, sys
from clusterkit.cli.main import run
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code, _ = run(line)
    assert code == 0, (line, code)
print(json.dumps(sorted(sys.modules)))
"""
OF_THE_ROOT = {f"cli.{name}" for name in ("commands", "failure", "main", "output", "settings")} | {"cli", "errors"}


def loaded(folder: Path, *lines: list[str]) -> set[str]:
    """What is loaded when these have run, one after the other."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTERKIT_")}
    environ |= {"PYTHONPATH": str(Path(__file__).parents[3]), "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def own(modules: set[str]) -> set[str]:
    """Of this package, without its name."""
    return {module.removeprefix("clusterkit.") for module in modules if module.startswith("clusterkit.")}


def test_the_help_loads_the_root_alone(tmp_path: Path) -> None:
    found = loaded(tmp_path, ["--help"])
    assert own(found) == OF_THE_ROOT
    assert not found & HEAVY


def test_a_completion_script_loads_no_more_than_the_table(tmp_path: Path) -> None:
    found = loaded(tmp_path, ["completion", "bash"])
    assert own(found) == OF_THE_ROOT | {"cli.commands_local", "cli.context"}
    assert not found & HEAVY


@pytest.mark.parametrize("line", [["version"], ["config"], ["context", "ls"]], ids=" ".join)
def test_what_asks_no_node_loads_no_loop(tmp_path: Path, line: list[str]) -> None:
    found = loaded(tmp_path, line)
    assert own(found) <= OF_THE_ROOT | {
        *("cli.commands_local", "cli.context", "cli.configuration", "cli.tables"),
        *("core", "core.identity", "core.proof"),
    }
    assert not found & HEAVY


def test_keygen_loads_the_loop_that_gives_chance_and_no_node(tmp_path: Path) -> None:
    found = loaded(tmp_path, ["keygen"])
    assert own(found) == OF_THE_ROOT | {
        *("cli.commands_local", "cli.context", "cli.cookie"),
        *("core", "core.identity", "core.proof", "runtime"),
    }
    assert found & HEAVY <= {"asyncio", "ssl"}


def test_no_help_of_a_command_that_answers_at_once_loads_a_loop(tmp_path: Path) -> None:
    at_once = [[name, "--help"] for name in TABLE if name not in LIVE]
    assert not loaded(tmp_path, *at_once) & HEAVY


def test_a_question_loads_a_client_and_no_node(tmp_path: Path) -> None:
    """Nobody is asked: there is no cookie, and what asks is loaded before that is known."""
    code = RUN.replace("assert code == 0", "assert code == 5")
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "XDG_CONFIG_HOME": str(tmp_path)}
    environ |= {"CLUSTERKIT_COOKIE": "", "CLUSTERKIT_COOKIE_FILE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([["ping"]])],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = set(json.loads(done.stdout))
    assert "clusterkit.services.client" in found
    assert not found & (HEAVY - {"asyncio", "ssl", "msgpack"})
    assert not {module for module in found if module.startswith(("clusterkit.actors", "clusterkit.ring"))}
