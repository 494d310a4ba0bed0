"""The tree of commands, and how each ends: `run` turns every outcome into an exit code."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from clusterkit.cli.cookie import find_cookie, find_cookies, new_cookie, write_cookie_file
from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.output import (
    Format,
    print_answer,
    print_failure,
    print_json_failure,
    show_members,
    show_ping,
    wants_json,
)
from clusterkit.core.identity import check_name
from clusterkit.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """The global options, once they are read."""

    instance: str | None = None
    host: str = "127.0.0.1"
    port: int = 7022
    cookie_file: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    timeout: float = 5.0
    output: Format = "auto"
    debug: bool = False
    speaks_json: bool = False  # the command is a question, and a program reads the answer


def run(arguments: Sequence[str]) -> tuple[int, bool]:
    """Run one command; return its exit code, and whether the process is to end at once."""
    settings = Settings()
    try:
        outcome = cli.main(list(arguments), prog_name="clusterkit", standalone_mode=False, obj=settings)
    except Failure as failure:
        _report(failure, settings)
        return failure.exit_code, failure.exit_code is Exit.TIMEOUT
    except click.exceptions.NoArgsIsHelpError as no_command:
        no_command.show()
        return Exit.USAGE, False
    except click.ClickException as mistake:
        print_failure(mistake.format_message(), _help_of(mistake))
        return Exit.USAGE, False
    except (KeyboardInterrupt, asyncio.CancelledError, click.Abort):  # Ctrl-C, wherever the loop was
        return Exit.INTERRUPTED, False
    except BrokenPipeError:
        _drop_stdout()
        return Exit.REFUSED, False
    except Exception as error:
        if settings.debug:
            raise
        hint = "--debug shows where; please report it"
        _report(Failure(Exit.REFUSED, "fault", f"a fault of clusterkit: {error!r}", hint), settings)
        return Exit.REFUSED, False
    return outcome if isinstance(outcome, int) else Exit.OK, False


def _report(failure: Failure, settings: Settings) -> None:
    if settings.debug:
        logging.getLogger("clusterkit.cli").debug("the command failed", exc_info=failure)
    try:
        if settings.speaks_json:
            print_json_failure(failure)
        else:
            print_failure(failure.message, failure.hint)
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    """Write to nowhere from now on: whoever read has gone, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help_of(mistake: click.ClickException) -> str:
    context = getattr(mistake, "ctx", None)
    return f"`{context.command_path if context else 'clusterkit'} --help` tells what it takes"


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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-I", "--instance", envvar="CLUSTERKIT_INSTANCE", metavar="NAME", help="The node's name, to be sure.")
@click.option("-H", "--hostname", envvar="CLUSTERKIT_HOST", default="127.0.0.1", show_default=True, metavar="HOST")
@click.option("-p", "--port", envvar="CLUSTERKIT_PORT", type=click.IntRange(1, 65535), default=7022, show_default=True)
@click.option(
    "--cookie-file", multiple=True, metavar="FILE", help="Holds the cookie; else CLUSTERKIT_COOKIE or _COOKIE_FILE."
)
@click.option("--tls-cert", envvar="CLUSTERKIT_TLS_CERT", metavar="FILE", help="Speak TLS, and show this certificate.")
@click.option("--tls-key", envvar="CLUSTERKIT_TLS_KEY", metavar="FILE", help="The certificate's private key.")
@click.option("--tls-ca", envvar="CLUSTERKIT_TLS_CA", metavar="FILE", help="The authority whose certificates to trust.")
@click.option(
    "-t",
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="An answer or an error comes within it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["auto", "table", "json"]),
    default="auto",
    show_default=True,
    help="auto: a table on a terminal, JSON in a pipe.",
)
@click.option("--debug", is_flag=True, help="Log all, and show tracebacks.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version)
@click.pass_obj
def cli(settings: Settings, /, hostname: str, **options: Any) -> None:
    """Decentralized clusters of GenServer actors: start nodes, and ask them."""
    settings.host = hostname
    for name, value in options.items():
        setattr(settings, name, value)
    if settings.debug:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")


@cli.command()
@click.pass_obj
def ping(settings: Settings) -> None:
    """Ask a node whether it is there."""
    from clusterkit.cli import question  # noqa: PLC0415 - so that a command costs only what it needs

    _ask(settings, question.ping, show_ping)


@cli.command()
@click.pass_obj
def members(settings: Settings) -> None:
    """Ask a node who is in its ring."""
    from clusterkit.cli import question  # noqa: PLC0415 - so that a command costs only what it needs

    _ask(settings, question.members, show_members)


def _ask(settings: Settings, which: Any, shown: Any) -> None:
    from clusterkit.cli.question import Target, ask  # noqa: PLC0415 - so that a command costs only what it needs

    settings.speaks_json = wants_json(settings.output)
    if settings.instance is not None:
        try:
            check_name(settings.instance, "instance")
        except ConfigError as error:
            raise usage(str(error)) from None
    cookie = find_cookie(settings.cookie_file, os.environ)
    tls = _find_tls(settings)
    target = Target(settings.host, settings.port, cookie, settings.timeout, settings.instance, tls)
    print_answer(ask(target, which), shown, settings.output)


def _find_tls(settings: Settings, **more: str | None) -> Any:
    """The certificates, if any; loads what reads them only then."""
    files = [more.get(name) or getattr(settings, name) for name in ("tls_cert", "tls_key", "tls_ca")]
    if not any(files):
        return None
    from clusterkit.cli.tls import find_tls  # noqa: PLC0415 - so that a command costs only what it needs

    return find_tls(*files)


@cli.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def keygen(file: Path | None, *, force: bool) -> None:
    """Make a new cookie: printed, or in a new FILE that only you can read."""
    cookie = asyncio.run(new_cookie())
    if file is None:
        click.echo(cookie)
        return
    write_cookie_file(file, cookie, force=force)
    click.echo(f"wrote a new cookie to {file}; use it with --cookie-file {file}", err=True)


_NODE_OPTIONS = (
    click.argument("address", metavar="NAME@HOST:PORT", envvar="CLUSTERKIT_ADDRESS"),
    click.option("--ring", required=True, envvar="CLUSTERKIT_RING", metavar="ID", help="The ring to be in."),
    click.option(
        "--listen",
        envvar="CLUSTERKIT_LISTEN",
        metavar="HOST:PORT",
        help="Bind here, when it is not what others dial (0.0.0.0).",
    ),
    click.option(
        "--seed",
        "seeds",
        multiple=True,
        metavar="HOST:PORT",
        help="A member to join through, or dns+tcp://NAME:PORT; may be repeated. Else CLUSTERKIT_SEEDS, with commas.",
    ),
    click.option(
        "--state-dir",
        envvar="CLUSTERKIT_STATE_DIR",
        metavar="DIR",
        help="Keep what a later run of this node needs here.",
    ),
    click.option(
        "--cookie-file",
        multiple=True,
        metavar="FILE",
        help="As the global option; up to four: the first to dial with, all accepted. SIGHUP: read them again.",
    ),
    click.option("--tls-cert", metavar="FILE", help="As the global option; it carries NAME."),
    click.option("--tls-key", metavar="FILE", help="As the global option."),
    click.option("--tls-ca", metavar="FILE", help="As the global option."),
)
_JOIN_TIMEOUT = click.option(
    "--join-timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long before it says that no seed answers; it dials on.",
)


def _of_a_node(*more: Callable[[Any], Any]) -> Callable[[F], F]:
    """The options of a command that runs a node, with more of its own before the last."""
    options: list[Callable[[Any], Any]] = [*_NODE_OPTIONS, *more, _JOIN_TIMEOUT]

    def decorate(command: F) -> F:
        decorated: F = command
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _plan(settings: Settings, cookie_file: tuple[str, ...], options: dict[str, Any]) -> Any:
    """What to start, from the options of a node."""
    from clusterkit.cli.start import Plan, seeds_of  # noqa: PLC0415 - so that a command costs only what it needs

    options["seeds"] = options["seeds"] or seeds_of(os.environ)
    cookies = find_cookies(cookie_file or settings.cookie_file, os.environ)
    tls = _find_tls(settings, **{name: options.pop(name) for name in ("tls_cert", "tls_key", "tls_ca")})
    return Plan(**options, cookies=cookies, tls=tls, debug=settings.debug)


@cli.command()
@_of_a_node(
    click.option("--app", metavar="MODULE:FUNCTION", help="An async function that is given the node, once it joined.")
)
@click.pass_obj
def start(settings: Settings, /, cookie_file: tuple[str, ...], app: str | None, **options: Any) -> int:
    """Run a node here until Ctrl-C or SIGTERM; then it leaves the ring.

    NAME@HOST:PORT is what the other nodes dial; port 0 takes a free one.
    """
    from clusterkit.cli.start import load_app, run_node  # noqa: PLC0415 - so that a command costs only what it needs

    plan = _plan(settings, cookie_file, options)
    return run_node(replace(plan, app=load_app(app), app_name=app) if app else plan)


@cli.group()
def cache() -> None:
    """Caches that are shared by the nodes of a ring."""


_SECONDS = click.FloatRange(0, min_open=True)


@cache.command()
@_of_a_node(
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
def serve(
    settings: Settings,
    /,
    cookie_file: tuple[str, ...],
    groups: tuple[str, ...],
    http: str | None,
    *,
    no_own: bool,
    **options: Any,
) -> int:
    """Run a node that holds cache groups, until Ctrl-C or SIGTERM.

    All nodes of a ring that serve a group share its keys: each is loaded by the node that owns it.
    """
    from clusterkit.cli.cache import AT_MOST, CONFIG, Serving, read_groups, read_http  # noqa: PLC0415 - so that a command costs only what it needs
    from clusterkit.cli.start import run_node  # noqa: PLC0415

    names = ("max_bytes", "ttl", "negative_ttl", "stale_if_error")
    kept = {name: value for name in names if (value := options.pop(name)) is not None}
    plan = _plan(settings, cookie_file, options)
    serving = Serving(read_groups(groups, own=not no_own), read_http(http), kept | {"owns": not no_own})
    return run_node(replace(plan, app=serving.app, app_name="of the cache", config=CONFIG, ends_within=AT_MOST))


@cli.command()
@click.option("--once", is_flag=True, help="Play it once; the exit code tells whether every step held.")
@click.option("--nodes", type=click.IntRange(2, 20), default=5, show_default=True, help="How many processes.")
@click.option(
    "--patience",
    type=click.FloatRange(0.1, 600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a step may take before it counts as failed.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0, 60),
    default=1.5,
    show_default=True,
    metavar="SECONDS",
    help="Between two steps, so that one can look; none with --once.",
)
def demo(*, once: bool, nodes: int, patience: float, pause: float) -> int:
    """Start a small cluster on this machine and watch it lose and regain a node."""
    from clusterkit.cli.demo import run_demo  # noqa: PLC0415 - so that a command costs only what it needs

    return run_demo(nodes=nodes, once=once, patience=patience, pause=pause)
