"""The commands that set things up: they look at this machine, and all but ``doctor`` ask no node."""

import os
from pathlib import Path
from typing import Any

import click

from clusterkit.cli.context import NAMES, PATHS, Context, Contexts, changing, path_of, read
from clusterkit.cli.failure import Exit, usage
from clusterkit.cli.output import print_answer, wants_json
from clusterkit.cli.settings import Settings

_SHELLS = {
    "bash": 'clusterkit completion bash > ~/.local/share/bash-completion/completions/clusterkit, or in ~/.bashrc: eval "$(clusterkit completion -q bash)"',
    "zsh": 'clusterkit completion zsh > "${fpath[1]}/_clusterkit", or in ~/.zshrc: eval "$(clusterkit completion -q zsh)"',
    "fish": "clusterkit completion fish > ~/.config/fish/completions/clusterkit.fish",
}


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def keygen(file: Path | None, *, force: bool) -> None:
    """Make a new cookie: printed, or in a new FILE that only you can read."""
    import asyncio  # noqa: PLC0415 - so that a command costs only what it needs

    from clusterkit.cli.cookie import new_cookie, write_cookie_file  # noqa: PLC0415

    cookie = asyncio.run(new_cookie())
    if file is None:
        click.echo(cookie)
        return
    write_cookie_file(file, cookie, force=force)
    click.echo(f"wrote a new cookie to {file}; use it with --cookie-file {file}", err=True)


@click.command()
@click.pass_obj
def config(settings: Settings) -> None:
    """Each setting, its value, and where it comes from: an option, the environment, a context, or the default.

    Of a cookie it tells where it is, never what it is.
    """
    from clusterkit.cli.configuration import settings_in_effect, show_settings  # noqa: PLC0415 - so that a command costs only what it needs

    settings.speaks_json = wants_json(settings.output)
    print_answer(settings_in_effect(settings, os.environ), show_settings, settings.output)


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="See too whether a node started here could listen there.")
@click.pass_obj
def doctor(settings: Settings, listen: str | None) -> int:
    """Look for what is wrong: this installation, cookie, certificates, limits, and the node that is addressed.

    Exit code 1 when something fails; all of it within -t SECONDS.
    """
    from clusterkit.cli.doctor import examine, show_findings, tell_findings  # noqa: PLC0415 - so that a command costs only what it needs

    settings.speaks_json = wants_json(settings.output)
    findings = examine(settings, os.environ, listen)
    print_answer(tell_findings(findings), show_findings, settings.output)
    return Exit.REFUSED if any(each.state == "fail" for each in findings) else Exit.OK


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.option("-q", "--quiet", is_flag=True, help="Do not say what to do with it.")
@click.pass_context
def completion(context: click.Context, shell: str, *, quiet: bool) -> None:
    """Print what makes a shell complete commands and options; how to install it goes to stderr."""
    from click.shell_completion import ShellComplete, get_completion_class  # noqa: PLC0415 - so that a command costs only what it needs

    made = get_completion_class(shell)
    assert made is not None  # click has these three
    script = made(context.find_root().command, {}, "clusterkit", "_CLUSTERKIT_COMPLETE")
    click.echo(ShellComplete.source(script))  # click's own for bash starts a bash to see which version is installed
    if not quiet:
        click.echo(f"to install it: {_SHELLS[shell]}", err=True)


@click.command()
@click.pass_obj
def version(settings: Settings) -> None:
    """The versions of what is in use: clusterkit, its wire protocol, Python."""
    from clusterkit.cli.configuration import show_versions, versions  # noqa: PLC0415 - so that a command costs only what it needs

    settings.speaks_json = wants_json(settings.output)
    print_answer(versions(), show_versions, settings.output)


# -- contexts


@click.group()
@click.pass_obj
def context(settings: Settings) -> None:
    """Names for several clusters: where each is, and which cookie file and certificates it takes.

    `clusterkit -c NAME ...` or CLUSTERKIT_CONTEXT takes one; `context use NAME` makes it the one that counts
    when nothing else is said. A cookie never stands there, only the path of its file.
    """
    settings.speaks_json = wants_json(settings.output)


class _ContextName(click.ParamType[str]):
    """The name of a context; a shell completes those that there are."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG002
        """Those that begin like this."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - so that a command costs only what it needs

        try:
            known = read(path_of(os.environ)).by_name
        except Exception:  # noqa: BLE001 - a shell that completes is no place to be told
            return []
        return [CompletionItem(name) for name in sorted(known) if name.startswith(incomplete)]


_NAME = _ContextName()


@context.command()
@click.argument("name", type=_NAME)
@click.option("-I", "--instance", metavar="NODE", help="The name of the node that must answer there.")
@click.option("-H", "--hostname", "host", metavar="HOST", help="Its host.")
@click.option("-p", "--port", type=click.IntRange(1, 65535), metavar="PORT", help="Its port.")
@click.option("--cookie-file", metavar="FILE", help="The path is kept, not the cookie.")
@click.option("--tls-cert", metavar="FILE", help="As the global option.")
@click.option("--tls-key", metavar="FILE", help="As the global option.")
@click.option("--tls-ca", metavar="FILE", help="As the global option.")
@click.option("--use", "current", is_flag=True, help="Make it the current one.")
@click.option("--force", is_flag=True, help="Replace the one that has this name.")
@click.pass_obj
def add(settings: Settings, /, name: str, *, current: bool, force: bool, **given: Any) -> None:
    """Name a cluster. What is not said here is taken from the global options before `context`, if typed."""
    added = Context(**{each: _whole(each, given[each] or _typed(settings, each)) for each in NAMES})
    if not name:
        raise usage("a context needs a name")
    with changing(os.environ) as draft:
        if name in draft.contexts.by_name and not force:
            raise usage(f"there is a context {name!r} already", "--force replaces it")
        draft.contexts = draft.contexts.put(name, added)
        if current:
            draft.contexts = draft.contexts.use(name)
    _tell(settings, draft.contexts, name, f"added context {name}")


def _typed(settings: Settings, name: str) -> Any:
    """What a global option gave; what the environment gave is not meant for a file."""
    value = getattr(settings, name)
    if not settings.origins.get(name, "").startswith("-"):
        return None
    return value[0] if name == "cookie_file" else value


def _whole(name: str, value: Any) -> Any:
    if name not in PATHS or value is None:
        return value
    return os.path.abspath(os.path.expanduser(value))  # noqa: PTH100, PTH111 - a Path follows links, or keeps ".."


@context.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """All of them; the current one has a star."""
    from clusterkit.cli.configuration import show_contexts, tell_contexts  # noqa: PLC0415 - so that a command costs only what it needs

    print_answer(tell_contexts(read(path_of(os.environ))), show_contexts, settings.output)


@context.command()
@click.argument("name", type=_NAME, required=False)
@click.pass_obj
def show(settings: Settings, name: str | None) -> None:
    """What one says; without a NAME the current one."""
    contexts = read(path_of(os.environ))
    _tell(settings, contexts, _named_or_current(settings, contexts, name))


def _named_or_current(settings: Settings, contexts: Contexts, name: str | None) -> str:
    if (found := name or settings.context or contexts.current) is None:
        raise usage("no context is current", "`clusterkit context use NAME` makes one so; `context ls` lists them")
    return found


@context.command()
@click.argument("name", type=_NAME, required=False)
@click.option("--none", "nobody", is_flag=True, help="Have no current one.")
@click.pass_obj
def use(settings: Settings, name: str | None, *, nobody: bool) -> None:
    """Make one the current one: it counts when neither an option nor the environment says otherwise."""
    if nobody == bool(name):
        raise usage("give either NAME or --none")
    with changing(os.environ) as draft:
        draft.contexts = draft.contexts.use(name)
    _tell(settings, draft.contexts, name, f"the current context is {name}" if name else "no context is current")


@context.command()
@click.argument("name", type=_NAME)
@click.pass_obj
def rm(settings: Settings, name: str) -> None:
    """Forget one; the files that it names stay."""
    with changing(os.environ) as draft:
        was = draft.contexts.current
        draft.contexts = draft.contexts.without(name)
    none_left = "; no context is current now" if was == name else ""
    _tell(settings, draft.contexts, None, f"removed context {name}{none_left}")


def _tell(settings: Settings, contexts: Contexts, name: str | None, done: str = "") -> None:
    """Print one context, or what was done for people."""
    from clusterkit.cli.configuration import show_context, tell_context  # noqa: PLC0415 - so that a command costs only what it needs

    told = {"current": contexts.current} if name is None else tell_context(contexts, name)
    print_answer(told, (lambda _: done) if done else show_context, settings.output)
