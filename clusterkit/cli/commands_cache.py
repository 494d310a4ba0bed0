"""The commands about caches: `serve` runs a node that holds groups, the others ask one that does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from clusterkit.cli.commands_actors import show_value
from clusterkit.cli.commands_ring import Node
from clusterkit.cli.commands_start import of_a_node, plan_of
from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.output import one_line
from clusterkit.cli.session import answer
from clusterkit.cli.settings import Settings
from clusterkit.cli.tables import counted, table

if TYPE_CHECKING:
    from clusterkit.cli.question import Asked

_SECONDS = click.FloatRange(0, min_open=True)
_KEPT = ("max_bytes", "ttl", "negative_ttl", "stale_if_error")


@click.group()
def cache() -> None:
    """Caches that are shared by the nodes of a ring."""


@cache.command()
@of_a_node(
    click.option(
        "--group",
        "groups",
        multiple=True,
        required=True,
        metavar="NAME=MODULE:LOADER",
        help="A cache group, and the function that loads a key's value; may be repeated.",
    ),
    click.option("--max-bytes", type=click.IntRange(1), metavar="BYTES", help="What each group may keep here."),
    click.option("--ttl", type=_SECONDS, metavar="SECONDS", help="How long a value is kept; else until it has to go."),
    click.option("--negative-ttl", type=_SECONDS, metavar="SECONDS", help="How long it is kept that a key is unknown."),
    click.option(
        "--stale-if-error", type=_SECONDS, metavar="SECONDS", help="How long past its ttl a value serves a failed load."
    ),
    click.option("--http", metavar="HOST:PORT", help="Answer HTTP there; port 0 takes a free one."),
    click.option("--no-own", is_flag=True, help="Keep no keys, only ask the others; --group NAME is enough then."),
)
@click.pass_obj
def serve(settings: Settings, /, groups: tuple[str, ...], http: str | None, *, no_own: bool, **options: Any) -> int:
    """Run a node that holds cache groups, until Ctrl-C or SIGTERM.

    All nodes of a ring that serve a group share its keys: each is loaded by the node that owns it.
    """
    from clusterkit.cli.cache import AT_MOST, CONFIG, Serving, read_groups, read_http  # noqa: PLC0415 - so that a command costs only what it needs
    from clusterkit.cli.start import run_node  # noqa: PLC0415

    kept = {name: value for name in _KEPT if (value := options.pop(name)) is not None}
    plan = plan_of(settings, options)
    serving = Serving(read_groups(groups, own=not no_own), read_http(http), kept | {"owns": not no_own})
    return run_node(replace(plan, app=serving.app, app_name="of the cache", config=CONFIG, ends_within=AT_MOST))


# -- questions


@cache.command()
@click.argument("group", required=False)
@click.pass_obj
def stats(settings: Settings, group: str | None) -> None:
    """Tell what each cache group of a node has counted, and holds."""

    async def asking(asked: "Asked") -> list[Node]:
        found = [dict(each) for each in await asked.call("caches")]
        if group is None:
            return found
        named = [each for each in found if each["group"] == group]
        if not named:
            raise _no_group(asked.name, group, found)
        return named

    answer(settings, asking, show_stats)


def _no_group(name: str, group: str, found: Sequence[Node]) -> Failure:
    hint = f"it has {', '.join(each['group'] for each in found) or 'none'}; -d NAME asks another member"
    return Failure(Exit.REFUSED, "not-found", f"{name} has no part in a cache {group!r}", hint)


def show_stats(data: Sequence[Mapping[str, Any]]) -> str:
    """Show groups side by side, a line for each figure."""
    if not data:
        return "this node has no cache groups"
    figures = [name for name in data[0] if name != "group"]
    rows = [(name.replace("_", " "), *(_figure(each[name]) for each in data)) for name in figures]
    return table(("", *(each["group"] for each in data)), rows)


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


@cache.command()
@click.argument("group")
@click.argument("key")
@click.pass_obj
def get(settings: Settings, group: str, key: str) -> None:
    """Get a value as any caller would, and say where it came from: hit, peer or load."""

    async def asking(asked: "Asked") -> Node:
        return dict(await asked.call("fetch", group, key))

    answer(settings, asking, lambda told: f"{show_value(told['value'])}\n({told['source']})")


@cache.command()
@click.argument("group")
@click.argument("key", required=False)
@click.option("--prefix", metavar="PREFIX", help="All keys that begin so.")
@click.option("--all", "everything", is_flag=True, help="All keys.")
@click.pass_obj
def invalidate(settings: Settings, group: str, key: str | None, prefix: str | None, *, everything: bool) -> int:
    """Forget a key, a prefix, or all, on every node of a group; exit code 1 when some do not know of it yet."""
    if (key is not None) + (prefix is not None) + everything != 1:
        raise usage(
            "one of KEY, --prefix PREFIX and --all says what to forget", "for instance: cache invalidate GROUP KEY"
        )

    async def asking(asked: "Asked") -> Node:
        return dict(await asked.call("invalidate", group, key, prefix, everything))

    told = answer(settings, asking, show_invalidated)
    return Exit.REFUSED if told["missed"] else Exit.OK


def show_invalidated(data: Mapping[str, Any]) -> str:
    """Show who knows of it."""
    reached = f"{counted(len(data['reached']), 'other node')} know{'s' * (len(data['reached']) == 1)}"
    if not data["missed"]:
        return reached
    return one_line(f"{reached}; not yet: {', '.join(data['missed'])}; they are told when they can be reached")
