"""How a command asks its node: from the global options to the printed answer, the same way for all.

The node to ask, each part of its address and how to be trusted there is what ranks first of option, environment,
context and default, as `clusterkit.cli.context` says. What talks to a node is loaded when one is asked.
"""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusterkit.cli.failure import usage
from clusterkit.cli.output import print_answer, wants_json
from clusterkit.cli.settings import Settings
from clusterkit.core.identity import check_name
from clusterkit.errors import ConfigError

if TYPE_CHECKING:
    from clusterkit.cli.context import Context
    from clusterkit.cli.question import Question, Target

_MOST = 1 << 20  # characters of stdin: a message takes no more


def answer(settings: Settings, question: "Question", shown: Callable[[Any], str]) -> Any:
    """Ask the node that the settings name, print what it answers, and return that; raises `Failure`.

    ``shown`` makes the text for people; programs get the answer as JSON.
    """
    from clusterkit.cli.question import ask  # noqa: PLC0415 - so that a command costs only what it needs

    settings.speaks_json = wants_json(settings.output)
    data = ask(target_of(settings), question)
    print_answer(data, shown, settings.output)
    return data


def read_stdin() -> str:
    """Read what is to be given to a node; raises `Failure`."""
    try:
        text = sys.stdin.read(_MOST + 1)
    except ValueError as error:
        raise usage(f"stdin is no text: {error}", "it must be UTF-8") from None
    if len(text) > _MOST:
        raise usage(f"stdin has more than {_MOST} characters", "a message to a node takes no more")
    return text


def target_of(settings: Settings) -> "Target":
    """Find the node to ask, its cookie and certificates; raises `Failure`."""
    from clusterkit.cli.context import find  # noqa: PLC0415 - so that a command costs only what it needs
    from clusterkit.cli.cookie import find_cookie  # noqa: PLC0415
    from clusterkit.cli.question import Target  # noqa: PLC0415

    found = find(settings, os.environ)
    instance, node = _name(found.instance, "instance"), _name(settings.node, "--node")
    cookie = find_cookie(found.cookie_files, os.environ)
    assert found.host is not None  # there is a default of both
    assert found.port is not None
    return Target(found.host, found.port, cookie, settings.timeout, instance, _find_tls(found), node)


def client_of(settings: Settings) -> dict[str, Any]:
    """Find the node to ask, as the arguments of a `Client`; raises `Failure`. ``settings.node`` is the caller's to heed."""
    target = target_of(settings)
    kept = {"host": target.host, "port": target.port, "cookie": target.cookie}
    return kept | {"tls": target.tls, "expect": target.instance}


def _name(name: str | None, what: str) -> str | None:
    try:
        return None if name is None else check_name(name, what)
    except ConfigError as error:
        raise usage(str(error)) from None


def _find_tls(found: "Context") -> Any:
    """The certificates, if any; loads what reads them only then."""
    files = (found.tls_cert, found.tls_key, found.tls_ca)
    if not any(files):
        return None
    from clusterkit.cli.tls import find_tls  # noqa: PLC0415 - so that a command costs only what it needs

    return find_tls(*files)
