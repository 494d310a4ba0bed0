"""The questions about the ring: who is in it, what each is worth, whether all see the same.

Rules: the answer of the node is handed on as it is, with addresses as people write them; a
table leaves nothing out that decides.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from clusterkit.cli.failure import Exit
from clusterkit.cli.output import one_line
from clusterkit.cli.session import answer
from clusterkit.cli.settings import Settings
from clusterkit.cli.tables import counted, percent, span, table

if TYPE_CHECKING:
    from clusterkit.cli.question import Asked

Node = dict[str, Any]
_PINGS = 1.5  # seconds that must be left to have the round trips measured: at most one of them is used


def addressed(node: Node) -> Node:
    """The same with the address as people write it."""
    from clusterkit.core.identity import format_host_port  # noqa: PLC0415 - so that a command costs only what it needs

    return node | {"address": format_host_port(node["host"], node["port"])}


# -- one node


@click.command()
@click.pass_obj
def ping(settings: Settings) -> None:
    """Ask a node whether it is there: which one it is, and how fast it answers."""
    answer(settings, ask_ping, show_ping)


async def ask_ping(asked: "Asked") -> Node:
    """Ask who answers, and how fast."""
    before = asked.left
    told = await asked.call("ping")
    return addressed(told) | {"seconds": before - asked.left}


def show_ping(data: Mapping[str, Any]) -> str:
    """Show who answered.

    >>> show_ping({"name": "a", "address": "127.0.0.1:7022", "ring": "demo", "seconds": 0.00123})
    'pong from a@127.0.0.1:7022, ring demo, in 1.2 ms'
    """
    ring = f"ring {data['ring']}" if data["ring"] else "in no ring"
    return one_line(f"pong from {data['name']}@{data['address']}, {ring}, in {data['seconds'] * 1000:.1f} ms")


@click.command()
@click.argument("name")
@click.pass_obj
def get(settings: Settings, name: str) -> None:
    """Tell name and address of a member; exit code 1 when there is none of that name."""

    async def asking(asked: "Asked") -> Node:
        return addressed(await asked.call("get", name))

    answer(settings, asking, lambda node: f"{node['name']}@{node['address']}")


@click.command()
@click.argument("name")
@click.pass_obj
def has(settings: Settings, name: str) -> int:
    """Tell whether a node is in the ring: true or false, exit code 0 or 1."""

    async def asking(asked: "Asked") -> bool:
        return bool(await asked.call("has", name))

    found = answer(settings, asking, lambda there: "true" if there else "false")
    return Exit.OK if found else Exit.REFUSED


@click.command()
@click.argument("name")
@click.pass_obj
def weight(settings: Settings, name: str) -> None:
    """Tell the weight of a member: its part of the keys."""

    async def asking(asked: "Asked") -> int:
        return int(await asked.call("weight", name))

    answer(settings, asking, str)


# -- all of them


@click.command()
@click.pass_obj
def members(settings: Settings) -> None:
    """Tell the members of the ring, as the node that is asked sees them.

    RTT is its round trip to each, SINCE how long each is in its state, SHARE the part of the keys that it owns,
    QUEUE the messages that wait for it.
    """
    answer(settings, ask_members, show_members)


async def ask_members(asked: "Asked") -> list[Node]:
    """Ask who is in the ring; the round trips too, if there is time for it."""
    found = await asked.call("members", asked.left >= _PINGS)
    return [addressed(each) for each in found]


def show_members(data: Sequence[Mapping[str, Any]]) -> str:
    """Show a list of members, the one that answered with a star."""
    head = ("NAME", "ADDRESS", "STATE", "RTT", "SINCE", "SHARE", "QUEUE", "INCARNATION")
    rows = [
        (
            starred(each),
            each["address"],
            each["state"],
            span(each["rtt"]),
            span(each["since"]),
            percent(each["share"]),
            each["queue"],
            each["incarnation"],
        )
        for each in data
    ]
    return "\n".join([table(head, rows), "", _summary(data), *_reasons(data)])


def starred(member: Mapping[str, Any]) -> str:
    """The name, with a star at the one that answered."""
    return f"{member['name']} *" if member["self"] else str(member["name"])


def _summary(data: Sequence[Mapping[str, Any]]) -> str:
    name = next((each["name"] for each in data if each["self"]), "?")
    states = [str(each["state"]) for each in data]
    told = [f"{states.count(state)} {state}" for state in dict.fromkeys(["alive", *sorted(states)])]
    return one_line(f"{counted(len(data), 'member')}: {', '.join(told)}, as {name} sees it")


def _reasons(data: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why some are not as they should be."""
    return [one_line(f"{each['name']} is {each['state']}: {each['why']}") for each in data if each["why"]]


@click.command()
@click.pass_obj
def nodes(settings: Settings) -> None:
    """Tell name and address of each member."""

    async def asking(asked: "Asked") -> list[Node]:
        return [addressed(each) for each in await asked.call("nodes")]

    answer(settings, asking, show_nodes)


def show_nodes(data: Sequence[Mapping[str, Any]]) -> str:
    """Show nodes, a line each."""
    return table(
        ("NAME", "ADDRESS", "INCARNATION"), [(each["name"], each["address"], each["incarnation"]) for each in data]
    )


@click.command()
@click.pass_obj
def weights(settings: Settings) -> None:
    """Tell the weight of each member."""

    async def asking(asked: "Asked") -> Node:
        return dict(await asked.call("weights"))

    answer(settings, asking, lambda data: table(("NAME", "WEIGHT"), sorted(data.items())))


@click.command()
@click.option("--full", is_flag=True, help="With every token and the member that it belongs to.")
@click.pass_obj
def inspect(settings: Settings, *, full: bool) -> None:
    """Tell the ring in figures: its digest, its tokens, the share of each member."""

    async def asking(asked: "Asked") -> Node:
        return dict(await asked.call("inspect", full))

    answer(settings, asking, show_ring)


def show_ring(data: Mapping[str, Any]) -> str:
    """Show a ring in figures; with its tokens, if they were asked for."""
    facts = [
        ("ring", data["ring"] or "none"),
        ("members", f"{data['members']}, {data['alive']} alive"),
        ("digest", data["digest"]),
        ("tokens", f"{data['tokens']:,}"),
        ("replicas", f"{data['pfactor']} by default"),
    ]
    lines = [f"{name:<9} {one_line(str(value))}" for name, value in facts]
    rows = [(name, data["weights"].get(name, "-"), percent(share)) for name, share in sorted(data["shares"].items())]
    parts = ["\n".join(lines), table(("NAME", "WEIGHT", "SHARE"), rows)]
    if "tree" in data:
        parts.append(table(("TOKEN", "NAME"), data["tree"]))
    return "\n\n".join(parts)
