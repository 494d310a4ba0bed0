"""Completion at the prompt: commands and options from the tree of commands, names from the node.

Rules: what the node is asked for is kept for two seconds, and asked for one second at the most; a
node that does not answer leaves what it said before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import ShellComplete
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from clusterkit.cli.output import one_line
from clusterkit.cli.prompt_words import BUILT_IN, Place, find_place, keys_of, unfinished
from clusterkit.cli.settings import Settings
from clusterkit.runtime import machine_time

_KEPT = 2.0  # seconds that names are good for
_LINES = 500  # of the history are looked through for keys

Found = tuple[str, str]
"""What may stand there, and what is said of it."""


class Names:
    """The names that a node knows, each list kept for two seconds; ``ask`` may raise whatever it wants."""

    def __init__(self, ask: Callable[..., Any], clock: Callable[[], float] = machine_time) -> None:
        self._ask = ask
        self._clock = clock
        self._kept: dict[tuple[str, ...], tuple[float, list[Found]]] = {}

    def forget(self) -> None:
        """Another node is addressed from now on."""
        self._kept.clear()

    def nodes(self) -> list[Found]:
        """The members, with what is believed of them."""
        return self._known("members", "name", "state")

    def groups(self) -> list[Found]:
        """The cache groups."""
        return self._known("caches", "group", "")

    def actors(self, node: str) -> list[Found]:
        """The named actors of a member."""
        found = self._known("through", "name", "kind", node, "actors", [], 1.0)
        return [(name, kind) for name, kind in found if not name.startswith("clusterkit.")]

    def _known(self, command: str, field: str, more: str, *args: Any) -> list[Found]:
        key, now = (command, *map(str, args)), self._clock()
        at, known = self._kept.get(key, (-_KEPT, []))
        if now - at < _KEPT:
            return known
        with suppress(Exception):  # nobody who presses Tab wants to hear of it: the line that follows tells
            answer = self._ask(command, *args)
            known = [(each[field], one_line(str(each.get(more, "")))) for each in answer if each.get(field)]
        self._kept[key] = self._clock(), known
        return known


def candidates(
    tree: click.Command, words: Sequence[str], word: str, names: Names, lines: Callable[[], Iterable[str]]
) -> list[Found]:
    """All that ``word`` may become behind ``words``, in the order to show it."""
    place = find_place(tree, words)
    if place is None:
        return []
    found: list[Found] = []
    if not place.path and not place.value_of and not word.startswith("-"):
        found += [(name, text) for name, text in BUILT_IN.items()]
    if not word.startswith("-"):
        found += _of_kind(place, tree, names, lines)
    found += _of_click(tree, words, word, place)
    return sorted({text: (text, said) for text, said in found if text.startswith(word)}.values())


def _of_kind(place: Place, tree: click.Command, names: Names, lines: Callable[[], Iterable[str]]) -> list[Found]:
    match place.kind:
        case "node":
            return names.nodes()
        case "actor":
            return names.actors(place.arguments[0])
        case "group":
            return names.groups()
        case "key":
            return [(key, "") for key in keys_of(lines(), tree)]
        case "command":
            return _of_click(tree, [], "", None)
    return []


def _of_click(tree: click.Command, words: Sequence[str], word: str, place: Place | None) -> list[Found]:
    """What click itself knows: commands, options, choices; a file is the shell's business."""
    if place is not None and place.path and place.path[0] in BUILT_IN:
        return []
    items = ShellComplete(tree, {"obj": Settings()}, "clusterkit", "").get_completions(list(words), word)
    return [(item.value, item.help or "") for item in items if item.type == "plain"]


class PromptCompleter(Completer):
    """What prompt-toolkit asks at each Tab."""

    def __init__(self, tree: click.Command, names: Names, lines: Callable[[], list[str]]) -> None:
        self._tree = tree
        self._names = names
        self._lines = lines

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:  # noqa: ARG002
        """Complete the word before the cursor."""
        parts = unfinished(document.text_before_cursor)
        if parts is None:
            return
        words, word = parts
        for text, said in candidates(self._tree, words, word, self._names, lambda: self._lines()[:_LINES]):
            yield Completion(text, start_position=-len(word), display_meta=said)
