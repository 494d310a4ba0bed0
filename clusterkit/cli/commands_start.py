"""``clusterkit start`` and ``demo``, and the options of every command that runs a node.

Rules: an option counts before its environment variable, that before the file of ``--config``; the file
knows the options by their own names, and one that is none is told.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from clusterkit.cli.failure import usage
from clusterkit.cli.settings import Settings

if TYPE_CHECKING:
    from clusterkit.cli.cookie import Cookies
    from clusterkit.cli.start import Plan
    from clusterkit.transport.tls import TLS

F = TypeVar("F", bound=Callable[..., Any])
_MOST = 1 << 20  # bytes of a file of options
_COOKIE_VARIABLES = ("CLUSTERKIT_COOKIE", "CLUSTERKIT_COOKIE_FILE")
_TLS = ("tls_cert", "tls_key", "tls_ca")


# -- the file of options


def _read_options(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Let a file give what neither the command line nor the environment does."""
    if file is None or context.resilient_parsing:
        return
    options = {name: each for each in context.command.params for name in _names(each)}
    given = _read_toml(file)
    if unknown := sorted(given.keys() - options.keys()):
        hint = f"it takes {', '.join(sorted(options))}"
        raise usage(f"--config {file}: there is no option {unknown[0]!r}", hint)
    found: dict[str, Any] = {}
    for name, value in given.items():
        _check_value(file, name, options[name], value)
        found[str(options[name].name)] = value
    context.default_map = found


def _names(option: click.Parameter) -> list[str]:
    """What a file calls an option: its own name without dashes; of an argument, what it is."""
    if isinstance(option, click.Argument):
        return [str(option.name)]
    return [
        each.removeprefix("--") for each in option.opts if each.startswith("--") and each not in {"--config", "--help"}
    ]


def _read_toml(file: Path) -> Mapping[str, Any]:
    import tomllib  # noqa: PLC0415 - so that a command costs only what it needs

    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST)
        return tomllib.loads(text.decode())
    except OSError as error:
        raise usage(f"cannot read --config {file}: {error.strerror or error}") from None
    except ValueError as error:
        raise usage(f"--config {file} is not TOML: {error}", 'a line is as: ring = "demo"') from None


def _check_value(file: Path, name: str, option: click.Parameter, value: Any) -> None:
    """See that a value is a text, a number, or where an option may be repeated a list of texts."""
    several = getattr(option, "multiple", False)
    if several and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return
    if getattr(option, "is_flag", False) and isinstance(value, bool):
        return
    if not several and isinstance(value, str | int | float) and not isinstance(value, bool):
        return
    kind = (
        "a list of texts" if several else "true or false" if getattr(option, "is_flag", False) else "a text or a number"
    )
    raise usage(f"--config {file}: {name} must be {kind}, not {value!r}")


# -- the options of a node

_NODE_OPTIONS = (
    click.argument("address", metavar="NAME@HOST:PORT", envvar="CLUSTERKIT_ADDRESS"),
    click.option("--ring", required=True, envvar="CLUSTERKIT_RING", metavar="ID", help="The ring to be in."),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        envvar="CLUSTERKIT_CONFIG",
        callback=_read_options,
        metavar="FILE",
        help="TOML with these options by their names (address, ring, seed = [...]); what is given otherwise counts first.",
    ),
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


def of_a_node(*more: Callable[[Any], Any]) -> Callable[[F], F]:
    """The options of a command that runs a node, with more of its own before the last."""
    options: list[Callable[[Any], Any]] = [*_NODE_OPTIONS, *more, _JOIN_TIMEOUT]

    def decorate(command: F) -> F:
        decorated: F = command
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def plan_of(settings: Settings, options: dict[str, Any]) -> "Plan":
    """What to start, from the options of a node; raises `Failure`."""
    from clusterkit.cli.start import Plan  # noqa: PLC0415 - so that a command costs only what it needs

    cookies, tls = _find_cookies(settings, options.pop("cookie_file")), _find_tls(settings, options)
    options["seeds"] = _find_seeds(options["seeds"])
    return Plan(**options, cookies=cookies, tls=tls, debug=settings.debug)


def _is_of_file(name: str) -> bool:
    """Whether an option was given by ``--config`` alone, and so its variable counts first."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def _find_seeds(given: tuple[str, ...]) -> tuple[str, ...]:
    from clusterkit.cli.start import seeds_of  # noqa: PLC0415 - so that a command costs only what it needs

    if given and not _is_of_file("seeds"):
        return given
    return seeds_of(os.environ) or given


def _find_cookies(settings: Settings, given: tuple[str, ...]) -> "Cookies":
    from clusterkit.cli.cookie import find_cookies  # noqa: PLC0415 - so that a command costs only what it needs

    of_file = given if _is_of_file("cookie_file") else ()
    typed = settings.cookie_file if of_file else given or settings.cookie_file
    if of_file and not typed and not any(map(os.environ.get, _COOKIE_VARIABLES)):
        typed = of_file
    return find_cookies(typed, os.environ)


def _find_tls(settings: Settings, options: dict[str, Any]) -> "TLS | None":
    """The certificates, if any; loads what reads them only then."""
    files = [_tls_file(settings, name, options.pop(name)) for name in _TLS]
    if not any(files):
        return None
    from clusterkit.cli.tls import find_tls  # noqa: PLC0415 - so that a command costs only what it needs

    return find_tls(*files)


def _tls_file(settings: Settings, name: str, given: str | None) -> str | None:
    of_root: str | None = getattr(settings, name)
    return of_root or given if _is_of_file(name) else given or of_root


# -- the commands


@click.command()
@of_a_node(
    click.option("--app", metavar="MODULE:FUNCTION", help="An async function that is given the node, once it joined.")
)
@click.pass_obj
def start(settings: Settings, /, app: str | None, **options: Any) -> int:
    """Run a node here until Ctrl-C or SIGTERM; then it leaves the ring.

    NAME@HOST:PORT is what the other nodes dial; port 0 takes a free one.
    """
    from clusterkit.cli.start import load_app, run_node  # noqa: PLC0415 - so that a command costs only what it needs

    plan = plan_of(settings, options)
    return run_node(replace(plan, app=load_app(app), app_name=app) if app else plan)


@click.command()
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
