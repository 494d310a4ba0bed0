"""The commands about actors and services: what runs on a node, a call to it, and what members offer."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from clusterkit.cli.commands_ring import Node, addressed
from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.output import one_line, plain
from clusterkit.cli.session import answer, read_stdin
from clusterkit.cli.settings import Settings
from clusterkit.cli.tables import counted, span, table

if TYPE_CHECKING:
    from clusterkit.cli.question import Asked

_MARGIN = 0.2  # of the time given, for the way there and back
_ENDS: Mapping[str, tuple[Exit, str]] = {
    "CallTimeout": (Exit.TIMEOUT, "timeout"),
    "NodeDown": (Exit.UNREACHABLE, "unreachable"),
    "NoSuchServer": (Exit.REFUSED, "not-found"),
    "NoSuchMethod": (Exit.REFUSED, "not-found"),
    "UnknownNode": (Exit.REFUSED, "not-found"),
    "UnsupportedPayload": (Exit.USAGE, "usage"),
}


# -- actors


@click.command()
@click.pass_obj
def actors(settings: Settings) -> None:
    """Tell the actors of a node, what each does now, and what waits for it."""

    async def asking(asked: "Asked") -> list[Node]:
        return [dict(each) for each in await asked.call("actors")]

    answer(settings, asking, show_actors)


def show_actors(data: Sequence[Mapping[str, Any]]) -> str:
    """Show actors, a line each."""
    head = ("#", "NAME", "CLASS", "WAITING", "DOES", "FOR", "HANDLED", "AGE")
    rows = [
        (
            each["serial"],
            each["name"] or "-",
            each["kind"],
            f"{each['depth']}/{each['limit']}",
            _does(each),
            span(each["since"]),
            each["handled"],
            span(each["age"]),
        )
        for each in data
    ]
    return f"{table(head, rows)}\n\n{counted(len(data), 'actor')}"


def _does(actor: Mapping[str, Any]) -> str:
    """What an actor does at this moment."""
    doing = actor["handler"] or ("suspended" if actor["suspended"] else "idle")
    return f"{doing}, {actor['beside']} beside" if actor["beside"] else str(doing)


# -- call and cast


_DATA = "[JSON | -]"


@click.command()
@click.argument("node")
@click.argument("actor")
@click.argument("event")
@click.argument("data", required=False, metavar=_DATA)
@click.pass_obj
def call(settings: Settings, node: str, actor: str, event: str, data: str | None) -> None:
    """Call an actor of a member, and print what it answers.

    EVENT is the name of its handler, and the JSON its value: null when there is none, - reads it from stdin.
    """
    value = read_json(data)

    async def asking(asked: "Asked") -> Any:
        return await _put(asked, "ask", node, actor, event, value)

    answer(settings, asking, show_value)


@click.command()
@click.argument("node")
@click.argument("actor")
@click.argument("event")
@click.argument("data", required=False, metavar=_DATA)
@click.pass_obj
def cast(settings: Settings, node: str, actor: str, event: str, data: str | None) -> None:
    """Send to an actor of a member. No answer comes: it is sent when the member's queue has it."""
    value = read_json(data)

    async def asking(asked: "Asked") -> None:
        await asked.call("get", node)  # raises for one that is no member: a cast to nobody is not told of
        await _put(asked, "tell", node, actor, event, value)

    answer(settings, asking, lambda _: "sent")


async def _put(asked: "Asked", command: str, node: str, actor: str, event: str, value: Any) -> Any:
    """Hand a value to an actor; raises what became of it, if it was no answer."""
    told = await asked.call(command, node, actor, event, value, asked.left * (1 - _MARGIN))
    if told["ok"]:
        return told.get("value")
    if told["error"] == "NodeDown":
        await asked.call("get", node)  # raises for one that is no member
    raise _of_actor(told, f"{actor} on {node}")


def read_json(text: str | None) -> Any:
    """Read the value that an actor is given; raises `Failure`."""
    if text is None:
        return None
    text = read_stdin() if text == "-" else text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = """a text is JSON in quotes of its own: '"hello"'"""
        raise usage(f"{one_line(text)[:60]}: this is no JSON ({error})", hint) from None


def _of_actor(told: Mapping[str, Any], what: str) -> Failure:
    exit_code, code = _ENDS.get(told["error"], (Exit.REFUSED, "refused"))
    hint = "it may have been carried out" if told["executed"] == "maybe" else "it was not carried out"
    if code == "not-found":
        hint = f"{hint}; `clusterkit -d NODE actors` lists those of a node"
    return Failure(exit_code, code, f"{what}: {told['error']}: {told['message']}", hint)


def show_value(value: Any) -> str:
    r"""Show what an actor answered: a text as it is, else JSON.

    >>> print(show_value("two\nlines"))
    two
    lines
    """
    if isinstance(value, str):
        return "\n".join(one_line(line) if not line.isprintable() else line for line in value.split("\n"))
    return json.dumps(plain(value), indent=2)


# -- services


@click.command()
@click.pass_obj
def services(settings: Settings) -> None:
    """Tell what each member offers and requires, as the node that is asked sees it."""

    async def asking(asked: "Asked") -> list[Node]:
        return [addressed(each) for each in await asked.call("services")]

    answer(settings, asking, show_services)


def show_services(data: Sequence[Mapping[str, Any]]) -> str:
    """Show members with their services, a line for each offer."""
    if not data:
        return "no member offers or requires anything"
    rows = [row for each in data for row in _rows_of(each)]
    return table(("NODE", "STATE", "OFFERS", "MODULE", "HEALTHY", "REQUIRES", "MISSES"), rows)


def _rows_of(node: Mapping[str, Any]) -> list[tuple[str, ...]]:
    state = "online" if node["online"] else "offline"
    misses = " ".join(node["unmet"]) or "-"
    if not node["offers"]:
        return [(node["name"], state, "-", "-", "-", " ".join(node["requirements"]) or "-", misses)]
    return [
        (
            node["name"],
            state,
            offer["resource"],
            offer["module"],
            "yes" if offer["healthy"] else "no",
            " ".join(offer["requirements"]) or "-",
            " ".join(each for each in offer["requirements"] if each in node["unmet"]) or "-",
        )
        for offer in node["offers"]
    ]
