"""Answers: as JSON for programs, as a table for people."""

import json
from typing import Any

import click
import pytest

from clusterkit.cli.output import one_line, print_answer, print_failure, show_members, show_ping


def member(name: str, state: str = "alive", *, me: bool = False) -> dict[str, Any]:
    return {"name": name, "address": "127.0.0.1:7022", "state": state, "incarnation": 7, "self": me}


def test_members_are_columns_with_a_star_at_who_answered() -> None:
    shown = click.unstyle(show_members([member("a"), member("charlie", "down"), member("me", me=True)]))
    assert shown.splitlines() == [
        "NAME     ADDRESS         STATE  INCARNATION",
        "a        127.0.0.1:7022  alive  7",
        "charlie  127.0.0.1:7022  down   7",
        "me *     127.0.0.1:7022  alive  7",
        "",
        "3 members: 2 alive, 1 down, as me sees it",
    ]


def test_one_member_is_no_plural() -> None:
    assert show_members([member("me", me=True)]).endswith("1 member: 1 alive, as me sees it")


def test_a_node_in_no_ring_answers_too() -> None:
    data = {"name": "a", "address": "127.0.0.1:7022", "ring": "", "seconds": 0.01}
    assert show_ping(data) == "pong from a@127.0.0.1:7022, in no ring, in 10.0 ms"


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
