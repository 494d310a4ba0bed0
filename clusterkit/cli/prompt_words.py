"""A line of the prompt, as words: which command it names, and what may stand where it goes on.

All of this is plain functions of the text, the tree of commands and the names that are known.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import click

from clusterkit.cli.failure import usage

BUILT_IN: Mapping[str, str] = {
    "start_cluster": "Host a node in this prompt: start_cluster [NAME@HOST:PORT].",
    "join_cluster": "Let it join the ring of another: join_cluster IP PORT.",
    "cluster_members": "The members of its ring.",
    "help": "What a command takes: help COMMAND.",
    "exit": "End the prompt; a node that it hosts leaves the ring.",
    "quit": "The same.",
}
"""What the prompt has beside the commands."""

_NODE, _ACTOR, _GROUP, _KEY, _COMMAND = "node", "actor", "group", "key", "command"
_ARGUMENTS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("get",): (_NODE,),
    ("has",): (_NODE,),
    ("weight",): (_NODE,),
    ("update",): (_NODE,),
    ("remove",): (_NODE,),
    ("mremove",): (_NODE, "..."),
    ("ring", "owner"): (_KEY,),
    ("ring", "diff"): (_NODE,),
    ("call",): (_NODE, _ACTOR),
    ("cast",): (_NODE, _ACTOR),
    ("cache", "stats"): (_GROUP,),
    ("cache", "get"): (_GROUP, _KEY),
    ("cache", "invalidate"): (_GROUP, _KEY),
    ("help",): (_COMMAND,),
}
"""What each argument of a command names; ``...``: the same again and again."""

_OPTIONS = {"-d": _NODE, "--node": _NODE, "-I": _NODE, "--instance": _NODE}


def split(line: str) -> list[str]:
    """Split a line into words as a shell does, without the command's own name before them; raises `Failure`.

    >>> split("clusterkit get 'a b'")
    ['get', 'a b']
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise usage(f"cannot read this line: {str(error).lower()}", "quote both ends, as in a shell") from None
    return words[1:] if words[:1] == ["clusterkit"] else words


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line goes on: the command, if there is one yet, and how many arguments stand behind it."""

    path: tuple[str, ...]
    command: click.Command
    arguments: tuple[str, ...] = ()
    value_of: str = ""
    """The option that waits for its value."""

    @property
    def kind(self) -> str:
        """What the next word names; empty for what is not known here."""
        if self.value_of:
            return _OPTIONS.get(self.value_of, "")
        kinds = _ARGUMENTS.get(self.path, ())
        at = len(self.arguments)
        if kinds[-1:] == ("...",):
            at = min(at, len(kinds) - 2)
        return kinds[at] if at < len(kinds) else ""


def find_place(tree: click.Command, words: Sequence[str]) -> Place | None:
    """Find where words end in the tree of commands; None when they name no command."""
    path: list[str] = []
    arguments: list[str] = []
    command, waiting = tree, ""
    for word in words:
        if waiting:
            waiting = ""
        elif word.startswith("-") and word != "-":
            waiting = word if _takes_value(command, word) else ""
        elif not path and word in BUILT_IN:
            path, command = [word], click.Command(word)
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command, resilient_parsing=True), word)
            if found is None:
                return None
            path.append(word)
            command = found
        else:
            arguments.append(word)
    return Place(tuple(path), command, tuple(arguments), waiting)


def _takes_value(command: click.Command, word: str) -> bool:
    if "=" in word:
        return False
    options = (each for each in command.params if isinstance(each, click.Option) and word in each.opts)
    return any(not each.is_flag and not each.count for each in options)


def unfinished(text: str) -> tuple[list[str], str] | None:
    """The words before the cursor, and the one that is not ended; None where nothing can be completed.

    >>> unfinished("get br"), unfinished("get "), unfinished(""), unfinished("get 'br")
    ((['get'], 'br'), (['get'], ''), ([], ''), None)
    """
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    ended = not text or text[-1].isspace()
    last = "" if ended else words.pop()
    if not ended and not text.endswith(last):
        return None  # quoted: what stands there is not what it means
    return (words[1:] if words[:1] == ["clusterkit"] else words), last


def keys_of(lines: Iterable[str], tree: click.Command) -> list[str]:
    """The keys that lines named, each once, the latest first."""
    found: dict[str, None] = {}
    for line in lines:
        if (parts := unfinished(f"{line} ")) is None or (place := find_place(tree, parts[0])) is None:
            continue
        kinds = _ARGUMENTS.get(place.path, ())
        found |= {word: None for word, kind in zip(place.arguments, kinds, strict=False) if kind == _KEY}
    return list(found)
