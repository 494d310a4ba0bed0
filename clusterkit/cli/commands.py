"""The table of commands: name, section, where it is made, and its line of help. A module is loaded when its command runs.

Rules: to list the commands, to complete one, or to say that there is none loads none of them; a
module that cannot be loaded is told in one line, with what is missing.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from clusterkit.cli.failure import Exit, Failure

_PACKAGE = "clusterkit.cli"


class Line(NamedTuple):
    """One command: the section of the help that it stands in, ``module:object`` of this package, its line of help."""

    section: str
    where: str
    help: str


ASK, CHANGE, ACTORS, WATCH, RUN, SET_UP = "Ask", "Change the ring", "Actors and services", "Watch", "Run", "Set up"

TABLE: Mapping[str, Line] = {
    "ping": Line(ASK, "commands_ring:ping", "Ask a node whether it is there."),
    "members": Line(ASK, "commands_ring:members", "The members of its ring: state, address, round trip, share."),
    "nodes": Line(ASK, "commands_ring:nodes", "Name and address of each member."),
    "get": Line(ASK, "commands_ring:get", "Name and address of one member."),
    "has": Line(ASK, "commands_ring:has", "Whether a node is in the ring; exit code 1 when it is not."),
    "weight": Line(ASK, "commands_ring:weight", "The weight of one member."),
    "weights": Line(ASK, "commands_ring:weights", "The weight of each member."),
    "inspect": Line(ASK, "commands_ring:inspect", "The ring in figures: digest, tokens, shares."),
    "check": Line(ASK, "commands_check:check", "Whether all members agree; who sees whom when they do not."),
    "ring": Line(ASK, "commands_check:ring", "Who owns a key, how even the shares are, where two views differ."),
    "join": Line(CHANGE, "commands_change:join", "Put the node into a ring."),
    "meet": Line(CHANGE, "commands_change:meet", "Merge its ring with that of another node."),
    "leave": Line(CHANGE, "commands_change:leave", "Take the node out of its ring."),
    "insert": Line(CHANGE, "commands_change:insert", "Put another node into the ring."),
    "minsert": Line(CHANGE, "commands_change:minsert", "Put several nodes into the ring."),
    "update": Line(CHANGE, "commands_change:update", "Change the weight of a member."),
    "remove": Line(CHANGE, "commands_change:remove", "Take a member out of the ring."),
    "mremove": Line(CHANGE, "commands_change:mremove", "Take several members out of the ring."),
    "actors": Line(ACTORS, "commands_actors:actors", "The actors of a node, and what they do."),
    "call": Line(ACTORS, "commands_actors:call", "Call an actor of a member, and print its answer."),
    "cast": Line(ACTORS, "commands_actors:cast", "Send to an actor of a member; no answer comes."),
    "services": Line(ACTORS, "commands_actors:services", "What each member offers and requires."),
    "cache": Line(ACTORS, "commands_cache:cache", "Caches that are shared by the nodes of a ring."),
    "monitor": Line(WATCH, "monitor:monitor", "Print what happens in the ring as it comes."),
    "top": Line(WATCH, "top:top", "A live view: members, links, actors, events."),
    "start": Line(RUN, "commands_start:start", "Run a node here until Ctrl-C."),
    "demo": Line(RUN, "commands_start:demo", "A small cluster on this machine that loses and regains a node."),
    "shell": Line(RUN, "prompt:shell", "The prompt: an interactive session over these commands."),
    "keygen": Line(SET_UP, "commands_local:keygen", "Make a new cookie."),
    "config": Line(SET_UP, "commands_local:config", "Each setting, and where its value comes from."),
    "context": Line(SET_UP, "commands_local:context", "Names for several clusters."),
    "doctor": Line(SET_UP, "commands_local:doctor", "Look for what is wrong, step by step."),
    "completion": Line(SET_UP, "commands_local:completion", "Print the completion script of a shell."),
    "version": Line(SET_UP, "commands_local:version", "The versions of what is in use."),
}


def load(name: str) -> click.Command:
    """Load a command of the table; raises `Failure` when what it needs is missing."""
    module_name, _, attribute = TABLE[name].where.partition(":")
    try:
        command: click.Command = getattr(import_module(f"{_PACKAGE}.{module_name}"), attribute)
    except ModuleNotFoundError as error:
        raise _missing(name, error.name or "") from error
    return command


def _missing(name: str, module: str) -> Failure:
    if module.startswith("clusterkit"):
        message = f"`clusterkit {name}` is not part of this installation: there is no {module}"
        return Failure(Exit.REFUSED, "missing", message, "`clusterkit --help` lists the others")
    message = f"`clusterkit {name}` needs {module.partition('.')[0]}, which is not installed"
    return Failure(Exit.REFUSED, "extra", message, 'pip install "clusterkit[cli,web]"')


class LazyGroup(click.Group):
    """The root: its commands are those of the table."""

    def __init__(self, **options: Any) -> None:
        named = {name: click.Command(name, short_help=line.help) for name, line in TABLE.items()}
        super().__init__(commands=named, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All of them, section by section."""
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load it; for a shell that completes, what cannot be loaded is as if it were not there."""
        if cmd_name not in TABLE:
            return None
        try:
            return load(cmd_name)
        except Failure:
            if ctx.resilient_parsing:
                return None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List them under the heads of their sections."""
        width = max(map(len, TABLE))
        for section in dict.fromkeys(line.section for line in TABLE.values()):
            rows = [(name.ljust(width), line.help) for name, line in TABLE.items() if line.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete a command by the table, an option as every command does."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - so that a command costs only what it needs

        found = [CompletionItem(name, help=line.help) for name, line in TABLE.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]
