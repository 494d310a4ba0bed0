"""Answers: as JSON for programs, as a table for people."""

import json
from datetime import UTC, datetime
from typing import Any

import click
import pytest

from clusterkit.cli.output import one_line, plain, print_answer, print_failure


def test_in_a_pipe_an_answer_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer([1], str, "auto")
    print_answer([1], str, "json")
    print_answer([1], str, "table")
    first, second, third = capsys.readouterr().out.splitlines()
    assert json.loads(first) == json.loads(second) == {"ok": True, "data": [1]}
    assert third == "[1]"


def test_what_a_peer_said_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line("a\x1b[2J\nb\t c") == "a?[2J b c"
    print_failure("two\nlines\x07")
    assert capsys.readouterr().err == "clusterkit: two lines?\n"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\xffbytes", "\\xffbytes"),
        (float("inf"), "inf"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ({b"k": (1, {2.5: None})}, {"k": [1, {"2.5": None}]}),
        ({1, 2}, [1, 2]),
    ],
)
def test_what_an_actor_answers_is_json_always(value: Any, said: Any) -> None:
    assert plain(value) == said
    assert json.loads(json.dumps(plain(value))) == said


def test_colours_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure("bad", "do this", color=True)
    assert click.unstyle(coloured := capsys.readouterr().err) != coloured
    print_failure("bad", "do this", color=False)
    assert capsys.readouterr().err == "clusterkit: bad\nhint: do this\n"
