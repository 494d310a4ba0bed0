"""docs/cli.md has a section for every command, with its help as it is today, and with what it printed."""

import re

import pytest

from clusterkit.cli.commands import TABLE
from clusterkit.cli.failure import Exit
from docs.make_cli_page import EXAMPLES, PAGE, SAID, commands, help_of

TEXT = PAGE.read_text()
AGAIN = "make the page again: python -m docs.make_cli_page"
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^###? |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_there_is_a_section_for_every_command_in_the_order_of_the_table() -> None:
    assert list(SECTIONS) == list(commands()), AGAIN
    heads = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    groups = list(dict.fromkeys(line.section for line in TABLE.values()))
    assert [head for head in heads if head in groups] == groups


@pytest.mark.parametrize("name", commands())
def test_the_help_of_a_command_is_todays(name: str) -> None:
    assert f"```text\n{help_of(name)}\n```" in SECTIONS[name], AGAIN


def test_the_help_of_the_root_is_todays() -> None:
    assert f"```text\n{help_of('')}\n```" in TEXT, AGAIN


@pytest.mark.parametrize("name", commands())
def test_a_command_is_shown_at_work(name: str) -> None:
    shown = SECTIONS[name]
    for example in EXAMPLES[name]:
        assert f"```console\n$ {example.line}\n" in shown, AGAIN
    if name in SAID:
        assert f"$ clusterkit {name} " in shown
    if name == "shell":
        assert "start_cluster" in shown
    assert "```console\n$ " in shown


def test_nothing_of_this_machine_or_of_a_terminal_is_in_it() -> None:
    for trace in ("\x1b", "/tmp/", "Traceback", "a fault of clusterkit", "/root", "/venv"):
        assert trace not in TEXT


def test_every_exit_code_is_explained() -> None:
    assert re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE) == [str(int(code)) for code in Exit]
