"""Lines of the prompt: how they are split, and where they go on."""

import pytest

from clusterkit.cli.failure import Failure
from clusterkit.cli.main import cli
from clusterkit.cli.prompt_words import find_place, keys_of, split, unfinished


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   ", []),
        ("members", ["members"]),
        ("clusterkit -p 1 members", ["-p", "1", "members"]),
        ("call a b hello '{\"x\": 1}'", ["call", "a", "b", "hello", '{"x": 1}']),
        ("get # no comment", ["get", "#", "no", "comment"]),
    ],
)
def test_a_line_is_split_as_in_a_shell(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ["get 'x", 'get "x', "get x\\"])
def test_a_quote_that_is_not_closed_is_a_slip(line: str) -> None:
    with pytest.raises(Failure) as slip:
        split(line)
    assert slip.value.exit_code == 2
    assert slip.value.hint


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ([], "")),
        ("mem", ([], "mem")),
        ("get ", (["get"], "")),
        ("get br", (["get"], "br")),
        ("clusterkit get br", (["get"], "br")),
        ("get 'a b' c", (["get", "a b"], "c")),
        ("get 'a b'", None),
        ("get 'a", None),
    ],
)
def test_the_word_before_the_cursor_is_what_is_completed(text: str, parts: tuple[list[str], str] | None) -> None:
    assert unfinished(text) == parts


@pytest.mark.parametrize(
    ("line", "path", "arguments", "kind"),
    [
        ("", (), (), ""),
        ("get", ("get",), (), "node"),
        ("get a", ("get",), ("a",), ""),
        ("-H 10.0.0.1 -p 7022 get", ("get",), (), "node"),
        ("--port=7022 get", ("get",), (), "node"),
        ("-o", (), (), ""),
        ("-d", (), (), "node"),
        ("monitor --node", ("monitor",), (), "node"),
        ("monitor --count 3 --node", ("monitor",), (), "node"),
        ("ring owner", ("ring", "owner"), (), "key"),
        ("ring owner -n 2", ("ring", "owner"), (), "key"),
        ("ring", ("ring",), (), ""),
        ("mremove a b", ("mremove",), ("a", "b"), "node"),
        ("call", ("call",), (), "node"),
        ("call a", ("call",), ("a",), "actor"),
        ("call a b", ("call",), ("a", "b"), ""),
        ("cache get", ("cache", "get"), (), "group"),
        ("cache get g", ("cache", "get"), ("g",), "key"),
        ("help", ("help",), (), "command"),
        ("join_cluster 1", ("join_cluster",), ("1",), ""),
    ],
)
def test_where_a_line_goes_on(line: str, path: tuple[str, ...], arguments: tuple[str, ...], kind: str) -> None:
    place = find_place(cli, line.split())
    assert place is not None
    assert (place.path, place.arguments, place.kind) == (path, arguments, kind)


@pytest.mark.parametrize("line", ["nosuch", "nosuch get", "ring nosuch"])
def test_words_that_name_no_command_go_on_nowhere(line: str) -> None:
    assert find_place(cli, line.split()) is None


def test_keys_are_those_that_lines_named_each_once() -> None:
    lines = [
        "ring owner b",
        "cache get g a",
        "get bravo",
        "ring owner b",
        "ring owner 'x",
        "nosuch z",
        "-p 1 ring owner c",
    ]
    assert keys_of(lines, cli) == ["b", "a", "c"]
