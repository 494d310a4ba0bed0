"""The root of the commands, and how each ends: `run` turns every outcome into an exit code.

Rules: no traceback without ``--debug``; nothing is loaded that the command does not need.
"""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from clusterkit.cli.commands import LazyGroup, load
from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.output import print_failure, print_json_failure
from clusterkit.cli.settings import Settings

__all__ = ["Settings", "cli", "run", "run_line"]


def run(arguments: Sequence[str]) -> tuple[int, bool]:
    """Run one command; return its exit code, and whether the process is to end at once."""
    return _run(arguments, Settings())


def run_line(argv: Sequence[str], settings: Settings) -> int:
    """Run one line of a prompt, with the settings of its session where the line gives no other; return the exit code.

    It prints as a command does, and may be run in any thread. Without a command it does nothing.
    """
    given = replace(settings, origins=dict(settings.origins), in_session=True, speaks_json=False)
    return _run(argv, given)[0] if argv else Exit.OK


def _run(arguments: Sequence[str], settings: Settings) -> tuple[int, bool]:
    name = "" if settings.in_session else "clusterkit"
    try:
        outcome = cli.main(list(arguments), prog_name=name, standalone_mode=False, obj=settings)
    except Failure as failure:
        _report(failure, settings)
        return failure.exit_code, failure.exit_code is Exit.TIMEOUT
    except click.exceptions.NoArgsIsHelpError as no_command:
        no_command.show()
        return Exit.USAGE, False
    except click.ClickException as mistake:
        _report(Failure(Exit.USAGE, "usage", mistake.format_message(), _help_of(mistake)), settings)
        return Exit.USAGE, False
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED, False
    except BrokenPipeError:
        _drop_stdout()
        return Exit.REFUSED, False
    except BaseException as error:
        if _is_cancelled(error):  # Ctrl-C, wherever the loop was
            return Exit.INTERRUPTED, False
        if settings.debug or not isinstance(error, Exception):
            raise
        hint = "--debug shows where; please report it"
        _report(Failure(Exit.REFUSED, "fault", f"a fault of clusterkit: {error!r}", hint), settings)
        return Exit.REFUSED, False
    return outcome if isinstance(outcome, int) else Exit.OK, False


def _is_cancelled(error: BaseException) -> bool:
    loaded = sys.modules.get("asyncio")
    return loaded is not None and isinstance(error, loaded.CancelledError)


def _report(failure: Failure, settings: Settings) -> None:
    if settings.debug:
        logging.getLogger("clusterkit.cli").debug("the command failed", exc_info=failure)
    try:
        if settings.speaks_json or settings.output == "json":
            print_json_failure(failure)
        else:
            print_failure(failure.message, failure.hint, color=settings.color)
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    """Write to nowhere from now on: whoever read has gone, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help_of(mistake: click.ClickException) -> str:
    context = getattr(mistake, "ctx", None)
    path = context.command_path if context else ""
    return f"`{f'{path} ' if path else ''}--help` tells what it takes"


# -- the root


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Tell the version, and end."""
    if not asked or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - so that a command costs only what it needs

    try:
        click.echo(f"clusterkit {version('clusterkit')}")
    except PackageNotFoundError:
        click.echo("clusterkit, from a checkout that is not installed")
    context.exit()


_EXIT_CODES = (
    "Exit codes: 0 done, 1 the cluster said no, 2 a slip of usage, 3 nobody reached, 4 no answer in time, "
    "5 cookie or TLS, 6 another node, ring or protocol than was meant, 130 Ctrl-C."
)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-I", "--instance", envvar="CLUSTERKIT_INSTANCE", metavar="NAME", help="The node's name, to be sure.")
@click.option(
    "-H", "--hostname", "host", envvar="CLUSTERKIT_HOST", metavar="HOST", help="Its host.  [default: 127.0.0.1]"
)
@click.option(
    "-p",
    "--port",
    envvar="CLUSTERKIT_PORT",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Its port.  [default: 7022]",
)
@click.option(
    "-c", "--context", envvar="CLUSTERKIT_CONTEXT", metavar="NAME", help="A cluster that `context add` named."
)
@click.option("-d", "--node", metavar="NAME", help="Ask this member, through the node that is addressed.")
@click.option(
    "--cookie-file", multiple=True, metavar="FILE", help="Holds the cookie; else CLUSTERKIT_COOKIE or _COOKIE_FILE."
)
@click.option("--tls-cert", envvar="CLUSTERKIT_TLS_CERT", metavar="FILE", help="Speak TLS, and show this certificate.")
@click.option("--tls-key", envvar="CLUSTERKIT_TLS_KEY", metavar="FILE", help="The certificate's private key.")
@click.option("--tls-ca", envvar="CLUSTERKIT_TLS_CA", metavar="FILE", help="The authority whose certificates to trust.")
@click.option(
    "-t",
    "--timeout",
    envvar="CLUSTERKIT_TIMEOUT",
    type=click.FloatRange(0, 3600, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="An answer or an error comes within it.",
)
@click.option(
    "-o",
    "--output",
    envvar="CLUSTERKIT_OUTPUT",
    type=click.Choice(["auto", "table", "json"]),
    default="auto",
    show_default=True,
    help="auto: a table on a terminal, JSON in a pipe.",
)
@click.option("--no-color", is_flag=True, help="No colours; NO_COLOR says so too.")
@click.option("--debug", is_flag=True, help="Log all, and show tracebacks.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> int | None:
    """Decentralized clusters of GenServer actors: start nodes, and ask them.

    Without a command, on a terminal: the prompt.
    """
    settings: Settings = context.obj
    for name, value in options.items():
        if origin := _origin(context, name, settings):
            setattr(settings, name, value)
            settings.origins[name] = origin
    settings.no_color = settings.no_color or bool(os.environ.get("NO_COLOR"))
    context.color = settings.color
    if settings.debug:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    if context.invoked_subcommand is not None or settings.in_session:
        return None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.exceptions.NoArgsIsHelpError(context)
    shell = load("shell")
    with shell.make_context("shell", [], parent=context) as entered:
        outcome: int | None = shell.invoke(entered)
    return outcome


def _origin(context: click.Context, name: str, settings: Settings) -> str:
    """Where a global option was given, if it was; a session has read the environment already."""
    option = next(each for each in context.command.params if each.name == name)
    source = context.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        return max(option.opts, key=len)
    if source is ParameterSource.ENVIRONMENT and not settings.in_session:
        return str(option.envvar)
    return ""
