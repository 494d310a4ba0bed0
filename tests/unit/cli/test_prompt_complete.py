"""What Tab offers: commands, options and choices of the tree, and names that a node told."""

from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from clusterkit.cli.main import cli
from clusterkit.cli.prompt_complete import Names, PromptCompleter, candidates

KNOWN: dict[str, list[dict[str, Any]]] = {
    "members": [{"name": "alpha", "state": "alive"}, {"name": "bravo", "state": "down"}],
    "caches": [{"group": "scores"}],
    "through": [
        {"name": "greeter", "kind": "Greeter"},
        {"name": None, "kind": "Job"},
        {"name": "clusterkit.command", "kind": "CommandServer"},
    ],
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Node:
    """Answers as a node does, or not at all."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.gone = False

    def __call__(self, command: str, *args: Any) -> Any:
        self.asked.append((command, *args))
        if self.gone:
            raise TimeoutError
        return KNOWN[command]


def offered(line: str, lines: tuple[str, ...] = ()) -> list[str]:
    *words, word = line.split(" ")
    return [text for text, _ in candidates(cli, words, word, Names(Node()), lambda: lines)]


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("memb", ["members"]),
        ("we", ["weight", "weights"]),
        ("start", ["start", "start_cluster"]),
        ("ex", ["exit"]),
        ("ring ow", ["owner"]),
        ("-p 7022 memb", ["members"]),
        ("get ", ["alpha", "bravo"]),
        ("get b", ["bravo"]),
        ("get bravo ", []),
        ("mremove alpha b", ["bravo"]),
        ("-d a", ["alpha"]),
        ("call alpha ", ["greeter"]),
        ("call alpha greeter ", []),
        ("cache stats ", ["scores"]),
        ("-o ", ["auto", "json", "table"]),
        ("monitor --co", ["--count"]),
        ("--tls-c", ["--tls-ca", "--tls-cert"]),
        ("help memb", ["members"]),
        ("start_cluster ", []),
        ("nosuch ", []),
    ],
)
def test_what_is_offered(line: str, texts: list[str]) -> None:
    assert offered(line) == texts


def test_all_commands_are_offered_at_the_start_of_a_line() -> None:
    found = offered("")
    assert {"members", "ring", "top", "join_cluster", "quit"} <= set(found)
    assert found == sorted(found)
    assert not any(text.startswith("-") for text in found)


def test_keys_are_those_of_earlier_lines() -> None:
    assert offered("ring owner my", ("ring owner my-key", "ring owner other")) == ["my-key"]


def test_what_a_node_told_is_good_for_two_seconds() -> None:
    node, clock = Node(), Clock()
    names = Names(node, clock)
    assert names.nodes() == names.nodes() == [("alpha", "alive"), ("bravo", "down")]
    assert len(node.asked) == 1
    clock.now = 2.0
    names.nodes()
    assert len(node.asked) == 2
    names.forget()
    names.nodes()
    assert len(node.asked) == 3


def test_a_node_that_does_not_answer_leaves_what_it_said() -> None:
    node, clock = Node(), Clock()
    names = Names(node, clock)
    names.nodes()
    node.gone, clock.now = True, 5.0
    assert [name for name, _ in names.nodes()] == ["alpha", "bravo"]
    assert [name for name, _ in names.nodes()] == ["alpha", "bravo"]
    assert len(node.asked) == 2, "a node that does not answer is not asked at every key"
    assert Names(node, clock).groups() == []


def test_the_editor_replaces_the_word_before_the_cursor() -> None:
    completer = PromptCompleter(cli, Names(Node()), list)
    (found,) = completer.get_completions(Document("get br"), CompleteEvent())
    assert (found.text, found.start_position, found.display_meta_text) == ("bravo", -2, "down")
    assert list(completer.get_completions(Document("get 'br"), CompleteEvent())) == []
