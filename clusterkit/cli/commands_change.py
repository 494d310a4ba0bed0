"""The commands that change the ring, with the words and the argument order of the ancestor.

Rules: what was typed is read whole before the node is asked, so that nothing is half done for a slip; an
address typed beside a name must be that member's; the answer is what the node knows afterwards.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from clusterkit.cli.commands_ring import Node, addressed
from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.output import one_line, wants_json
from clusterkit.cli.session import answer, target_of
from clusterkit.cli.settings import Settings
from clusterkit.cli.tables import counted, table

if TYPE_CHECKING:
    from clusterkit.cli.node_words import Named
    from clusterkit.cli.question import Asked

_NODE = "NAME HOST PORT | NAME@HOST:PORT"
_MEMBER = "NAME [HOST PORT]"
_DEFAULT_WEIGHT = 1
_WEIGHT = click.IntRange(1, 1000)
_force = click.option(
    "-f", "--force", is_flag=True, help="Taken for scripts that give it: a change here waits for nobody."
)
_weight = click.option("-w", "--weight", type=_WEIGHT, metavar="N", help="Its part of the keys.  [default: 1]")


# -- of the node itself


@click.command()
@click.argument("ring")
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    metavar="HOST:PORT",
    help="A member to join through; may be repeated. None: a ring of one.",
)
@click.pass_obj
def join(settings: Settings, ring: str, seeds: tuple[str, ...]) -> None:
    """Put the node into a ring, through a member of it, or alone."""

    async def asking(asked: "Asked") -> Node:
        return await _joined(asked, await asked.call("join", ring, list(seeds)))

    answer(settings, asking, _show_joined)


async def _joined(asked: "Asked", told: Node) -> Node:
    return addressed(told) | {"members": len(await asked.call("nodes"))}


def _show_joined(told: Mapping[str, Any]) -> str:
    return one_line(f"{told['name']} is in ring {told['ring']}: {counted(told['members'], 'member')}")


@click.command()
@click.argument("node", nargs=-1, required=True, metavar=f"{_NODE} | HOST:PORT")
@click.pass_obj
def meet(settings: Settings, node: tuple[str, ...]) -> None:
    """Let the node meet another one of the same ring id: what was two rings is one then."""
    from clusterkit.cli.node_words import read_address  # noqa: PLC0415 - so that a command costs only what it needs

    address = read_address(node)

    async def asking(asked: "Asked") -> Node:
        return await _joined(asked, await asked.call("meet", address))

    answer(settings, asking, lambda told: f"met {address}: {_show_joined(told)}")


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask, and do not wait until the others know.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def leave(settings: Settings, *, force: bool, yes: bool) -> None:
    """Take the node out of its ring. Its process and its actors live on. On a terminal it asks first."""
    if not (force or yes):
        _confirm_leave(settings)

    async def asking(asked: "Asked") -> Node:
        return addressed(await asked.call("leave", force))

    answer(settings, asking, lambda told: one_line(f"{told['name']} has left its ring"))


def _confirm_leave(settings: Settings) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    settings.speaks_json = wants_json(settings.output)
    question = f"Take {settings.node or f'the node at {target_of(settings).where}'} out of its ring?"
    if not click.confirm(question, err=True):
        raise Failure(Exit.REFUSED, "not-confirmed", "nothing was done", "--yes does it without a question")


# -- of others


@click.command()
@click.argument("node", nargs=-1, required=True, metavar=_NODE)
@_force
@_weight
@click.pass_obj
def insert(settings: Settings, node: tuple[str, ...], *, force: bool, weight: int | None) -> None:  # noqa: ARG001 - as ever
    """Put another node into the ring. It is dialled, and let in when it runs; of a member only the weight is set."""
    from clusterkit.cli.node_words import read_node  # noqa: PLC0415 - so that a command costs only what it needs

    _insert(settings, [read_node(node)], weight)


@click.command()
@click.argument("nodes", nargs=-1, required=True, metavar=f"({_NODE})... | -")
@_force
@_weight
@click.pass_obj
def minsert(settings: Settings, nodes: tuple[str, ...], *, force: bool, weight: int | None) -> None:  # noqa: ARG001 - as ever
    """Put several nodes into the ring; - reads them from stdin."""
    from clusterkit.cli.node_words import read_nodes, with_stdin  # noqa: PLC0415 - so that a command costs only what it needs

    _insert(settings, read_nodes(with_stdin(nodes)), weight)


def _insert(settings: Settings, nodes: Sequence[str], weight: int | None) -> None:
    async def asking(asked: "Asked") -> list[Node]:
        return [addressed(each) for each in await asked.call("insert", list(nodes), weight)]

    answer(settings, asking, show_after)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar=f"{_MEMBER} [WEIGHT]")
@_force
@_weight
@click.pass_obj
def update(settings: Settings, words: tuple[str, ...], *, force: bool, weight: int | None) -> None:  # noqa: ARG001 - as ever
    """Give a member another weight: its part of the keys. Without WEIGHT the default, 1."""
    from clusterkit.cli.node_words import read_member  # noqa: PLC0415 - so that a command costs only what it needs

    node, typed = _split_weight(words)
    if typed is not None and weight is not None and typed != weight:
        raise usage(f"two weights were given: {typed} and {weight}", "the last word or -w, one of them is enough")
    named = read_member(node)

    async def asking(asked: "Asked") -> list[Node]:
        await _check_addresses(asked, [named])
        return [addressed(each) for each in await asked.call("update", named.name, typed or weight or _DEFAULT_WEIGHT)]

    answer(settings, asking, show_after)


def _split_weight(words: Sequence[str]) -> tuple[Sequence[str], int | None]:
    """The words of the node, and the weight behind them."""
    many = 1 if len(words) < 3 or "@" in words[0] else 3
    node, rest = words[:many], words[many:]
    if not rest:
        return node, None
    if len(rest) > 1 or not rest[0].isdecimal():
        raise usage(f"{' '.join(words)}: what it takes is {_MEMBER} [WEIGHT]", "for instance: update bar 3")
    if not 1 <= int(rest[0]) <= 1000:
        raise usage(f"weight {rest[0]}: it must be 1 to 1000", "one unit is 128 virtual nodes of the ring")
    return node, int(rest[0])


@click.command()
@click.argument("node", nargs=-1, required=True, metavar=_MEMBER)
@_force
@click.pass_obj
def remove(settings: Settings, node: tuple[str, ...], *, force: bool) -> None:  # noqa: ARG001 - as ever
    """Take a member out of the ring, whether it runs or not. It does not come back by itself."""
    from clusterkit.cli.node_words import read_member  # noqa: PLC0415 - so that a command costs only what it needs

    _remove(settings, [read_member(node)])


@click.command()
@click.argument("nodes", nargs=-1, required=True, metavar=f"({_MEMBER})... | -")
@_force
@click.pass_obj
def mremove(settings: Settings, nodes: tuple[str, ...], *, force: bool) -> None:  # noqa: ARG001 - as ever
    """Take several members out of the ring: all, or none when one is not known. - reads them from stdin."""
    from clusterkit.cli.node_words import read_members, with_stdin  # noqa: PLC0415 - so that a command costs only what it needs

    _remove(settings, read_members(with_stdin(nodes)))


def _remove(settings: Settings, named: Sequence["Named"]) -> None:
    async def asking(asked: "Asked") -> list[Node]:
        if any(each.name == asked.name for each in named):
            raise usage(f"{asked.name} cannot remove itself", "`clusterkit leave` takes it out of its ring")
        await _check_addresses(asked, named)
        return [addressed(each) for each in await asked.call("remove", [each.name for each in named])]

    answer(settings, asking, show_after)


async def _check_addresses(asked: "Asked", named: Sequence["Named"]) -> None:
    """See that those that were typed are the members' own; raises `Failure`."""
    from clusterkit.cli.node_words import other_address  # noqa: PLC0415 - so that a command costs only what it needs

    if all(each.address is None for each in named):
        return
    known = {node["name"]: addressed(node)["address"] for node in await asked.call("nodes")}
    for each in named:
        if each.address is not None and each.name in known and known[each.name] != each.address:
            raise other_address(each, known[each.name])


def show_after(data: Sequence[Mapping[str, Any]]) -> str:
    """Show the members as they are after a change."""
    rows = [(each["name"], each["address"], each["state"], each["weight"]) for each in data]
    return f"{table(('NAME', 'ADDRESS', 'STATE', 'WEIGHT'), rows)}\n\n{counted(len(data), 'member')} now"
