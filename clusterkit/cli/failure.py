"""How a command fails: one line that says what, one that says what to do, and an exit code.

Rules: a script can tell failures apart by the exit code alone; whoever reads sees
no traceback unless they asked with ``--debug``.
"""

import ssl
from enum import IntEnum

from clusterkit.errors import (
    AuthFailed,
    CallTimeout,
    ClusterError,
    ConfigError,
    ListenError,
    NameConflict,
    NodeDown,
    ProtocolError,
    StateError,
    VersionMismatch,
    WrongNode,
    WrongRing,
)

SAME_COOKIE = "both sides need the same cookie, in CLUSTERKIT_COOKIE or --cookie-file (and with TLS a node's certificate its name)"
SAME_AUTHORITY = "both sides need TLS, and certificates that the other's --tls-ca vouches for"


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    REFUSED = 1
    """The cluster, or the program on top of it, said no."""
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    COOKIE = 5
    """No cookie, a bad one, or another than the node's; the same of certificates."""
    WRONG = 6
    """Another node, ring or protocol than was meant."""
    INTERRUPTED = 130


class Failure(Exception):
    """A command that failed. ``code`` is a word for scripts, ``hint`` what to do next."""

    def __init__(self, exit_code: Exit, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.message = message
        self.hint = hint


def usage(message: str, hint: str = "") -> Failure:
    """Name a mistake of whoever typed the command."""
    return Failure(Exit.USAGE, "usage", message, hint)


def no_answer(where: str, timeout: float) -> Failure:
    """Name a node that said nothing in time."""
    hint = "the node may be hung or overloaded; -t SECONDS waits longer"
    return Failure(Exit.TIMEOUT, "timeout", f"no answer from {where} within {timeout:g} s", hint)


def of_question(error: OSError | ClusterError, where: str, timeout: float) -> Failure:
    """Say why a node at ``where`` could not be asked, or would not answer."""
    match error:
        case CallTimeout() | TimeoutError():
            return no_answer(where, timeout)
        case AuthFailed():
            return Failure(Exit.COOKIE, "cookie", f"no trust between {where} and this side: {error}", SAME_COOKIE)
        case WrongNode():
            hint = "-I names the node that you mean; without it whoever answers is asked"
            return Failure(Exit.WRONG, "wrong-node", f"the node at {where} is another: {error}", hint)
        case WrongRing() | VersionMismatch() | NameConflict():
            return Failure(Exit.WRONG, "wrong-cluster", f"the node at {where} does not fit: {error}")
        case NodeDown():
            hint = "it ended or was cut off while it was asked; try again"
            return Failure(Exit.UNREACHABLE, "unreachable", f"the connection to {where} was lost: {error}", hint)
        case ProtocolError():
            hint = "is another program listening there, or TLS on at one side only?"
            return Failure(Exit.WRONG, "wrong-protocol", f"{where} does not speak as clusterkit does: {error}", hint)
        case ConfigError():
            return usage(str(error), "`clusterkit --help` tells what it takes")
        case OSError():
            return _unreachable(error, where)
    return Failure(Exit.REFUSED, "refused", f"the node at {where} says no: {error}")


def _unreachable(error: OSError, where: str) -> Failure:
    if isinstance(error, ssl.SSLError):
        return Failure(Exit.COOKIE, "tls", str(error), SAME_AUTHORITY)
    if isinstance(error, ConnectionRefusedError):
        hint = f"start one with `clusterkit start NAME@{where} --ring ID`, or say where it is with -H and -p"
        return Failure(Exit.UNREACHABLE, "unreachable", f"nothing listens on {where} (connection refused)", hint)
    hint = "-H and -p say where the node is"
    return Failure(Exit.UNREACHABLE, "unreachable", f"cannot reach {where}: {error.strerror or error}", hint)


def of_start(error: ClusterError) -> Failure:
    """Say why a node could not start or join."""
    match error:
        case ListenError():
            hint = "take another port, or port 0 for a free one"
            return Failure(Exit.REFUSED, "listen", str(error), hint)
        case AuthFailed():
            return Failure(Exit.COOKIE, "cookie", f"the seed refused the cookie ({error})", SAME_COOKIE)
        case WrongRing():
            hint = "--ring must be the seed's own: `clusterkit -H HOST -p PORT ping` tells it"
            return Failure(Exit.WRONG, "wrong-ring", str(error), hint)
        case WrongNode():
            return Failure(Exit.WRONG, "wrong-node", str(error), "--seed HOST:PORT takes whoever answers there")
        case VersionMismatch():
            hint = "all nodes of a ring need versions of clusterkit that speak the same protocol"
            return Failure(Exit.WRONG, "wrong-protocol", str(error), hint)
        case NameConflict():
            hint = "every node of a ring has a name of its own: take another, or stop the node that has it"
            return Failure(Exit.REFUSED, "name-conflict", str(error), hint)
        case StateError():
            hint = "give each node a directory of its own; a damaged one is put away by hand, and the node joins through seeds"
            return Failure(Exit.REFUSED, "state", str(error), hint)
        case ConfigError():
            return usage(str(error), "`clusterkit start --help` tells what it takes")
    return Failure(Exit.REFUSED, "refused", str(error))
