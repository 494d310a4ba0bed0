"""The prompt, as far as it needs no terminal: whom it addresses, its own commands, its history, its notices."""

import logging
import subprocess
import sys
from pathlib import Path

import click
import pytest

from clusterkit.cli.failure import Failure
from clusterkit.cli.prompt import history_path, parse, without_target
from clusterkit.cli.prompt_board import Board, logged_on
from clusterkit.cli.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        (Settings(), True),
        (Settings(timeout=1.0, output="json", cookie_file=("f",), origins={"timeout": "--timeout"}), True),
        (Settings(host="h", origins={"host": "--hostname"}), False),
        (Settings(port=1, origins={"port": "CLUSTERKIT_PORT"}), False),
    ],
)
def test_it_hosts_a_node_when_no_other_is_addressed(settings: Settings, hosts: bool) -> None:
    assert without_target(settings) is hosts


def test_a_context_in_use_is_a_target(tmp_path: Path) -> None:
    folder = tmp_path / "clusterkit"
    folder.mkdir(mode=0o700)
    file = folder / "contexts.toml"
    file.touch(0o600)
    file.write_text('current = "x"\n[contexts.x]\nport = 7099\n')
    assert not without_target(Settings())


PARAMS = [click.Argument(["ip"]), click.Argument(["port"], type=click.IntRange(1, 65535))]


def test_the_prompts_own_commands_read_their_arguments_as_all_do() -> None:
    assert parse("join_cluster", ["::1", "7022"], PARAMS) == {"ip": "::1", "port": 7022}
    with pytest.raises(Failure, match="Missing argument 'PORT'") as slip:
        parse("join_cluster", ["::1"], PARAMS)
    assert (slip.value.exit_code, slip.value.hint) == (2, "`join_cluster --help` tells what it takes")


def test_the_history_stands_where_state_belongs() -> None:
    assert history_path({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/clusterkit/history")
    assert history_path({"XDG_STATE_HOME": "not/whole", "HOME": "/h"}) == Path("/h/.local/state/clusterkit/history")
    assert history_path({"HOME": "/h"}) == Path("/h/.local/state/clusterkit/history")


def test_notices_wait_until_there_is_room_and_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    board.post("bravo came")
    board.post("two\nlines\x1b[2J")
    assert capsys.readouterr() == ("", "")
    board.flush()
    board.flush()
    printed = capsys.readouterr()
    assert printed.out == "", "what a program reads has no notices in it"
    assert click.unstyle(printed.err).splitlines() == ["* bravo came", "* two lines?[2J"]


def test_of_too_many_notices_the_oldest_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    for number in range(1_500):
        board.post(str(number))
    board.flush()
    lines = click.unstyle(capsys.readouterr().err).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (1_000, "* 500", "* 1499")


def test_warnings_of_the_library_are_notices(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    with logged_on(board):
        logging.getLogger("clusterkit.ring").warning("ring %s is large", "demo")
        logging.getLogger("clusterkit.ring").info("not this")
    logging.getLogger("clusterkit.ring").info("nor this")
    board.flush()
    assert click.unstyle(capsys.readouterr().err) == "* warning: ring demo is large\n"


def test_other_commands_load_neither_the_prompt_nor_the_screen() -> None:
    program = (
        "import sys, clusterkit.cli.main, clusterkit.cli.monitor\n"
        "loaded = {'prompt_toolkit', 'rich', 'clusterkit.cli.prompt', 'clusterkit.cli.top'} & sys.modules.keys()\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
