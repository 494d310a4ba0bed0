"""Nodes as they are typed: the ancestor's triples, addresses, names, and every slip told."""

import io

import pytest

from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.node_words import Named, read_address, read_member, read_members, read_node, read_nodes, with_stdin


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a 127.0.0.1 7022", ["a@127.0.0.1:7022"]),
        ("a@127.0.0.1:7022", ["a@127.0.0.1:7022"]),
        ("a ::1 7022 b@[::1]:7023", ["a@[::1]:7022", "b@[::1]:7023"]),
        ("a h 1 b h 2 c h 3", ["a@h:1", "b@h:2", "c@h:3"]),
        ("a h 07022", ["a@h:7022"]),
    ],
)
def test_nodes_are_triples_or_addresses(typed: str, read: list[str]) -> None:
    assert read_nodes(typed.split()) == read


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("a", "no '@'"),
        ("a h", "a h: a part of the node is missing"),
        ("a h 1 b", "no '@'"),
        ("a h 1 b h", "b h: a part of the node is missing"),
        ("a@h:1 b h", "b h: a part of the node is missing"),
        ("a h x", "port 'x' is not a number"),
        ("a h 70000", "port '70000' is not a number from 0 to 65535"),
        ("a h 0", "nobody listens on port 0"),
        ("a@h", "no port"),
        ("a/b h 1", "'/' in it"),
        ("a h:1 2", "IPv6"),
    ],
)
def test_a_node_that_lacks_a_part_is_a_slip(typed: str, said: str) -> None:
    with pytest.raises(Failure) as caught:
        read_nodes(typed.split())
    assert said in caught.value.message
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.hint


def test_one_node_is_one() -> None:
    assert read_node(["a", "h", "1"]) == "a@h:1"
    with pytest.raises(Failure, match="one node is taken here, not 2"):
        read_node(["a@h:1", "b@h:2"])


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a b c", [Named("a"), Named("b"), Named("c")]),
        ("a h 1", [Named("a", "h:1")]),
        ("a h 1 b", [Named("a", "h:1"), Named("b")]),
        ("a@h:1 b c h 2", [Named("a", "h:1"), Named("b"), Named("c", "h:2")]),
        ("a b", [Named("a"), Named("b")]),
    ],
)
def test_members_are_named_with_their_address_or_without(typed: str, read: list[Named]) -> None:
    assert read_members(typed.split()) == read


def test_one_member_is_a_name_or_whole() -> None:
    assert read_member(["a"]) == Named("a")
    assert read_member(["a", "h", "1"]) == read_member(["a@h:1"]) == Named("a", "h:1")
    for typed in (["a", "h"], ["a", "h", "1", "b"], ["a b"]):
        with pytest.raises(Failure):
            read_member(typed)


def test_where_a_node_is_needs_no_name() -> None:
    assert [read_address(typed.split()) for typed in ("h:1", "a@h:1", "a h 1")] == ["h:1", "a@h:1", "a@h:1"]
    with pytest.raises(Failure, match="no port"):
        read_address(["h"])


def test_a_dash_stands_for_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("b h 2\nc@h:3\n"))
    assert with_stdin(["a@h:1", "-"]) == ["a@h:1", "b", "h", "2", "c@h:3"]
    with pytest.raises(Failure, match="no node was given"):
        with_stdin(["-"])
