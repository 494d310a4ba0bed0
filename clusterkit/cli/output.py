"""What a command prints: a table for people, one JSON object for programs.

Rules: data goes to stdout, everything else to stderr; into a pipe nothing goes
that a program could not read; an error in JSON is an answer too.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from clusterkit.cli.failure import Failure
from clusterkit.cli.settings import Format


def wants_json(chosen: Format) -> bool:
    """Whether the answer goes out as JSON: as was chosen, or because a program reads it."""
    return chosen == "json" or (chosen == "auto" and not sys.stdout.isatty())


def print_answer(data: Any, shown: Callable[[Any], str], chosen: Format) -> None:
    """Print an answer."""
    click.echo(json.dumps({"ok": True, "data": plain(data)}) if wants_json(chosen) else shown(data))


def plain(value: Any) -> Any:
    """What JSON can say of a value that came over the wire: bytes as text, times as RFC 3339, other objects as their text.

    >>> plain({1: b"a", "x": (1.5, None, True)})
    {'1': 'a', 'x': [1.5, None, True]}
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return value.decode(errors="backslashreplace")
        case Mapping():
            return {key if isinstance(key, str) else str(plain(key)): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def print_json_failure(failure: Failure) -> None:
    """Print a failure for a program."""
    error = {"code": failure.code, "message": failure.message, "hint": failure.hint}
    click.echo(json.dumps({"ok": False, "error": error}))


def print_failure(message: str, hint: str = "", *, color: bool | None = None) -> None:
    """Print a failure for a person; ``color`` as click's: None where the terminal decides."""
    click.echo(f"{click.style('clusterkit:', fg='red')} {one_line(message)}", err=True, color=color)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {one_line(hint)}", err=True, color=color)


def one_line(text: str) -> str:
    r"""Fold a text into one line without control characters.

    >>> one_line("bad\n  thing\x1b[2J")
    'bad thing?[2J'
    """
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
