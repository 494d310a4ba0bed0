"""What a command prints: a table for people, one JSON object for programs.

Rules: data goes to stdout, everything else to stderr; into a pipe nothing goes
that a program could not read; an error in JSON is an answer too.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import click

from clusterkit.cli.failure import Failure

Format = Literal["auto", "table", "json"]
_COLOURS = {"alive": "green", "down": "red"}


def wants_json(chosen: Format) -> bool:
    """Whether the answer goes out as JSON: as was chosen, or because a program reads it."""
    return chosen == "json" or (chosen == "auto" and not sys.stdout.isatty())


def print_answer(data: Any, shown: Callable[[Any], str], chosen: Format) -> None:
    """Print an answer."""
    click.echo(json.dumps({"ok": True, "data": data}) if wants_json(chosen) else shown(data))


def print_json_failure(failure: Failure) -> None:
    """Print a failure for a program."""
    error = {"code": failure.code, "message": failure.message, "hint": failure.hint}
    click.echo(json.dumps({"ok": False, "error": error}))


def print_failure(message: str, hint: str = "") -> None:
    """Print a failure for a person."""
    click.echo(f"{click.style('clusterkit:', fg='red')} {one_line(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {one_line(hint)}", err=True)


def one_line(text: str) -> str:
    r"""Fold a text into one line without control characters.

    >>> one_line("bad\n  thing\x1b[2J")
    'bad thing?[2J'
    """
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def show_ping(data: Mapping[str, Any]) -> str:
    """Show who answered.

    >>> show_ping({"name": "a", "address": "127.0.0.1:7022", "ring": "demo", "seconds": 0.00123})
    'pong from a@127.0.0.1:7022, ring demo, in 1.2 ms'
    """
    ring = f"ring {data['ring']}" if data["ring"] else "in no ring"
    return f"pong from {data['name']}@{data['address']}, {ring}, in {data['seconds'] * 1000:.1f} ms"


def show_members(data: Sequence[Mapping[str, Any]]) -> str:
    """Show a list of members, the one that answered with a star."""
    head = ("NAME", "ADDRESS", "STATE", "INCARNATION")
    rows = [(_starred(each), each["address"], each["state"], str(each["incarnation"])) for each in data]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
    return "\n".join([_line(head, widths), *(_line(row, widths) for row in rows), "", _summary(data)])


def _starred(member: Mapping[str, Any]) -> str:
    return f"{member['name']} *" if member["self"] else str(member["name"])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, address, state = (text.ljust(width) for text, width in zip(row, widths, strict=False))
    return f"{name}  {address}  {click.style(state, fg=_COLOURS.get(row[2]))}  {row[3]}"


def _summary(data: Sequence[Mapping[str, Any]]) -> str:
    name = next((each["name"] for each in data if each["self"]), "?")
    alive = sum(each["state"] == "alive" for each in data)
    down = len(data) - alive
    count = f"{len(data)} member{'s' * (len(data) != 1)}"
    return f"{count}: {alive} alive{f', {down} down' if down else ''}, as {name} sees it"
