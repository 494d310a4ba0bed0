"""What `config`, `version` and `context` tell: settings and where they come from, versions, contexts.

Rule: a cookie is never among it, only where it is.
"""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from clusterkit.cli.context import Contexts, Setting, effective, path_of
from clusterkit.cli.output import one_line
from clusterkit.cli.settings import Settings
from clusterkit.cli.tables import table
from clusterkit.core.identity import format_host_port
from clusterkit.core.proof import VERSION

_OF_START = ("address", "ring", "listen", "seeds", "state_dir")
_NONE = "-"


def settings_in_effect(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Each setting by its name, as ``{"value", "origin"}``; raises `Failure`."""
    found = effective(settings, environ)
    cookie = found.pop("cookie_file")
    of_options = {name: _of_option(settings, name) for name in ("node", "timeout", "output", "debug")}
    rows = {
        **found,
        "cookie": _cookie(settings, cookie, environ),
        **of_options,
        "no_color": _no_color(settings, environ),
        **{name: _of_variable(environ, name) for name in _OF_START},
        "contexts": Setting(str(path_of(environ)), _origin_of_path(environ)),
    }
    return {name: {"value": row.value, "origin": row.origin} for name, row in rows.items()}


def _cookie(settings: Settings, first: Setting, environ: Mapping[str, str]) -> Setting:
    """Where the cookie is."""
    files = settings.cookie_file
    if first.origin == "CLUSTERKIT_COOKIE_FILE":
        files = tuple(file for file in environ[first.origin].split(os.pathsep) if file)
    elif first.origin == "CLUSTERKIT_COOKIE":
        return Setting("in the environment", first.origin)
    elif first.value is None:
        return Setting(None, "default")
    elif first.origin.startswith("context "):
        files = (first.value,)
    return Setting("in " + ", ".join(files), first.origin)


def _of_option(settings: Settings, name: str) -> Setting:
    return Setting(getattr(settings, name), settings.origins.get(name, "default"))


def _no_color(settings: Settings, environ: Mapping[str, str]) -> Setting:
    by_variable = "NO_COLOR" if environ.get("NO_COLOR") else "default"
    return Setting(settings.no_color, settings.origins.get("no_color", by_variable))


def _of_variable(environ: Mapping[str, str], name: str) -> Setting:
    variable = f"CLUSTERKIT_{name.upper()}"
    return Setting(environ[variable], variable) if environ.get(variable) else Setting(None, "default")


def _origin_of_path(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_CONFIG_HOME", "")
    return "XDG_CONFIG_HOME" if base and str(path_of(environ)).startswith(base) else "default"


def show_settings(data: Mapping[str, Mapping[str, Any]]) -> str:
    """Show settings, those of `clusterkit start` under a head of their own."""
    rows = [(name.replace("_", "-"), _shown(each["value"]), each["origin"]) for name, each in data.items()]
    of_start = {name.replace("_", "-") for name in _OF_START}
    asked = [row for row in rows if row[0] not in of_start]
    started = [row for row in rows if row[0] in of_start]
    return "\n\n".join([table(("SETTING", "VALUE", "FROM"), asked), table(("OF START", "VALUE", "FROM"), started)])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g} s"
    return _NONE if value is None else str(value)


# -- versions


def package_version() -> str | None:
    """The version that is installed; None in a checkout that is not."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - so that a command costs only what it needs

    try:
        return version("clusterkit")
    except PackageNotFoundError:
        return None


def versions() -> dict[str, Any]:
    """What is in use here."""
    return {
        "clusterkit": package_version(),
        "wire": VERSION,
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def show_versions(data: Mapping[str, Any]) -> str:
    """Show versions.

    >>> show_versions({"clusterkit": "1.0.2", "wire": 1, "python": "3.13.1", "platform": "linux"})
    'clusterkit 1.0.2, wire protocol 1, Python 3.13.1 on linux'
    """
    own = data["clusterkit"] or "from a checkout that is not installed"
    return f"clusterkit {own}, wire protocol {data['wire']}, Python {data['python']} on {data['platform']}"


# -- contexts


def tell_context(contexts: Contexts, name: str) -> dict[str, Any]:
    """One context, with its name, and whether it is the current one; raises `Failure`."""
    return {"name": name, "current": contexts.current == name, **asdict(contexts.get(name))}


def tell_contexts(contexts: Contexts) -> list[dict[str, Any]]:
    """All of them by name."""
    return [tell_context(contexts, name) for name in sorted(contexts.by_name)]


def show_context(data: Mapping[str, Any]) -> str:
    """Show what one context says, and nothing else."""
    said = {name: value for name, value in data.items() if name not in {"name", "current"} and value is not None}
    star = " (current)" if data["current"] else ""
    lines = [f"context {data['name']}{star}{': all defaults' if not said else ''}"]
    lines += [f"  {name.replace('_', '-')}: {value}" for name, value in said.items()]
    return "\n".join(line[:2] + one_line(line[2:]) for line in lines)


def show_contexts(data: Sequence[Mapping[str, Any]]) -> str:
    """Show contexts, the current one with a star."""
    if not data:
        return "no contexts yet: `clusterkit -H HOST -p PORT --cookie-file FILE context add NAME` makes one"
    rows = [(_starred(each), _where(each), each["cookie_file"] or _NONE, each["tls_cert"] or _NONE) for each in data]
    return table(("NAME", "NODE", "COOKIE FILE", "CERTIFICATE"), rows)


def _starred(data: Mapping[str, Any]) -> str:
    return f"{data['name']} *" if data["current"] else str(data["name"])


def _where(data: Mapping[str, Any]) -> str:
    """The address; what is not said counts as it does for every command."""
    at = format_host_port(data["host"] or "127.0.0.1", data["port"] or 7022)
    return f"{data['instance']}@{at}" if data["instance"] else at
