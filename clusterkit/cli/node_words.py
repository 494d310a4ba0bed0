"""Nodes as they are typed: ``NAME HOST PORT``, three words as in the ancestor, or ``NAME@HOST:PORT``; where a member is meant, its name.

Rules: a triple that lacks a part is a mistake, never passed over; what is read is checked before a node is asked.
"""

from collections.abc import Sequence
from typing import NamedTuple

from clusterkit.cli.failure import Failure, usage
from clusterkit.cli.session import read_stdin
from clusterkit.core.identity import NodeId, check_name, format_host_port, parse_host_port
from clusterkit.errors import ConfigError

_FORMS = "a node is NAME@HOST:PORT, or three words: NAME HOST PORT"


class Named(NamedTuple):
    """A member that was named, and the address that was typed with it, if any."""

    name: str
    address: str | None = None


def read_nodes(words: Sequence[str]) -> list[str]:
    """Read nodes, each as ``name@host:port``; raises `Failure`.

    >>> read_nodes(["a@127.0.0.1:7022", "b", "::1", "7023"])
    ['a@127.0.0.1:7022', 'b@[::1]:7023']
    """
    found, rest = [], list(words)
    while rest:
        many = 1 if "@" in rest[0] else 3
        found.append(_node(rest[:many]))
        del rest[:many]
    return found


def read_node(words: Sequence[str]) -> str:
    """Read one node; raises `Failure`."""
    found = read_nodes(words)
    if len(found) != 1:
        raise usage(f"one node is taken here, not {len(found)}: {' '.join(words)}", _FORMS)
    return found[0]


def read_members(words: Sequence[str]) -> list[Named]:
    """Read names of members; a word with two more, of which the last is a number, is a triple. Raises `Failure`.

    >>> read_members(["a", "b", "127.0.0.1", "7023", "c@127.0.0.1:7024"])[1:]
    [Named(name='b', address='127.0.0.1:7023'), Named(name='c', address='127.0.0.1:7024')]
    """
    found, rest = [], list(words)
    while rest:
        is_triple = len(rest) > 2 and "@" not in rest[0] and rest[2].isdecimal()
        many = 3 if is_triple else 1
        found.append(_member(rest[:many]))
        del rest[:many]
    return found


def read_member(words: Sequence[str]) -> Named:
    """Read one member: its name, a triple, or ``NAME@HOST:PORT``; raises `Failure`."""
    return _member(words)


def read_address(words: Sequence[str]) -> str:
    """Read where a node is: as `read_node`, or ``HOST:PORT``; raises `Failure`."""
    if len(words) != 1 or "@" in words[0]:
        return read_node(words)
    try:
        return format_host_port(*parse_host_port(words[0]))
    except ConfigError as error:
        raise usage(str(error), f"{_FORMS}; or HOST:PORT") from None


def with_stdin(words: Sequence[str]) -> list[str]:
    """The words, with those of stdin in the place of ``-``; raises `Failure` when there are none."""
    given: list[str] = []
    for word in words:
        given += read_stdin().split() if word == "-" else [word]
    if not given:
        raise usage("no node was given", _FORMS)
    return given


def _node(words: Sequence[str]) -> str:
    try:
        if len(words) == 1:
            return _dialable(NodeId.parse(words[0]))
        if len(words) == 3:
            return _dialable(NodeId.parse(f"{_name(words[0])}@{_host_port(*words[1:])}"))
    except ConfigError as error:
        raise usage(str(error), _FORMS) from None
    raise usage(f"{' '.join(words)}: a part of the node is missing", _FORMS)


def _host_port(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _dialable(node: NodeId) -> str:
    if not node.port:
        raise usage(f"{node}: nobody listens on port 0", _FORMS)
    return str(node)


def _member(words: Sequence[str]) -> Named:
    if len(words) == 1 and "@" not in words[0]:
        return Named(_name(words[0]))
    name, _, address = _node(words).partition("@")
    return Named(name, address)


def _name(word: str) -> str:
    try:
        return check_name(word)
    except ConfigError as error:
        raise usage(str(error), _FORMS) from None


def other_address(named: Named, known: str) -> Failure:
    """Say that a member has another address than the one that was typed."""
    return usage(f"{named.name} is at {known}, not at {named.address}", "its name alone is enough")
