"""How a command fails: one line that says what, one that says what to do, and an exit code.

Rules: a script can tell failures apart by the exit code alone; whoever reads sees
no traceback unless they asked with ``--debug``.
"""

from collections.abc import Sequence
from enum import IntEnum

from clusterkit.errors import (
    AlreadyInRing,
    AuthFailed,
    CallTimeout,
    ClusterError,
    ConfigError,
    JoinError,
    JoinTimeout,
    ListenError,
    MessageTooLarge,
    NameConflict,
    NodeDown,
    NoSuchMethod,
    NoSuchServer,
    NotInRing,
    ProtocolError,
    StateError,
    UnknownNode,
    UnsupportedPayload,
    VersionMismatch,
    WrongNode,
    WrongRing,
)

SAME_COOKIE = "both sides need the same cookie, in CLUSTERKIT_COOKIE or --cookie-file (and with TLS a node's certificate its name)"
_INTO_A_RING = "`clusterkit join RING --seed HOST:PORT` puts it into one"
_ITS_OWN_WAY = "the address is dialled by the node that is asked, not from here"
_AS_IT_SEES_IT = "that is what this node has; -d NAME asks another member"
_NAME_OF_ITS_OWN = "every node of a ring has a name of its own: take another, or stop the node that has it"
_MOST_NAMED = 12  # members that a hint names
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
            hint = "another cluster, or another version of clusterkit, answers there"
            return Failure(Exit.WRONG, "wrong-cluster", f"the node at {where} does not fit: {error}", hint)
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
    return Failure(
        Exit.REFUSED, "refused", f"the node at {where} says no: {error}", "it may be busy, or about to stop; try again"
    )


_ANSWERS: tuple[tuple[type[Exception], Exit, str, str], ...] = (  # the first that fits
    (AlreadyInRing, Exit.REFUSED, "already-in-ring", "`clusterkit leave` comes first"),
    (NotInRing, Exit.REFUSED, "not-in-ring", _INTO_A_RING),
    (NameConflict, Exit.REFUSED, "name-conflict", _NAME_OF_ITS_OWN),
    (AuthFailed, Exit.COOKIE, "cookie", SAME_COOKIE),
    (WrongNode, Exit.WRONG, "wrong-node", "another node answers at that address"),
    (WrongRing, Exit.WRONG, "wrong-cluster", "both must be in rings of one id"),
    (
        VersionMismatch,
        Exit.WRONG,
        "wrong-protocol",
        "all nodes need versions of clusterkit that speak the same protocol",
    ),
    (ProtocolError, Exit.WRONG, "wrong-protocol", "is another program listening there, or TLS on at one side only?"),
    (JoinTimeout, Exit.TIMEOUT, "timeout", "it dials on: what was asked for may still happen"),
    (TimeoutError, Exit.TIMEOUT, "timeout", "-t SECONDS waits longer; what was asked for may still happen"),
    (NodeDown, Exit.UNREACHABLE, "unreachable", "`clusterkit members` tells since when, and why"),
    (OSError, Exit.UNREACHABLE, "unreachable", _ITS_OWN_WAY),
    (LookupError, Exit.REFUSED, "not-found", _AS_IT_SEES_IT),
    (ConfigError, Exit.USAGE, "usage", "`clusterkit --help` tells what each command takes"),
)


def of_answer(error: OSError | ClusterError, name: str, where: str, timeout: float) -> Failure:
    """Say what the node ``name`` at ``where`` answered, when it was not what was asked for."""
    if not was_told(error):
        return _of_call(error, name, where, timeout)
    if type(error) is JoinError:  # its own dial failed
        return Failure(Exit.UNREACHABLE, "unreachable", f"{name} says no: {error}", _ITS_OWN_WAY)
    why = str(error).partition(": `await ")[0]  # what a program would do is for programs
    for kind, exit_code, code, hint in _ANSWERS:
        if isinstance(error, kind):
            return Failure(exit_code, code, f"{name} says no: {why}", hint)
    return Failure(Exit.REFUSED, "refused", f"{name} says no: {why}", "--debug shows where it said so")


def was_told(error: Exception) -> bool:
    """Whether the other side raised it; else it befell the question on its way."""
    return any(note.startswith("raised by ") for note in getattr(error, "__notes__", ()))


def _of_call(error: OSError | ClusterError, name: str, where: str, timeout: float) -> Failure:
    if isinstance(error, NoSuchMethod | NoSuchServer):
        hint = "does another version of clusterkit run there? `clusterkit version` tells that of this side, `ping` its"
        return Failure(Exit.WRONG, "wrong-protocol", f"{name} at {where} does not know this command", hint)
    if isinstance(error, UnsupportedPayload | MessageTooLarge):
        return usage(f"it cannot be sent: {error}", "a message takes text, numbers, lists and maps, and 1 MiB in all")
    return of_question(error, where, timeout)


def not_in_ring(name: str) -> Failure:
    """Say that the node is in no ring, and what was asked for needs one."""
    return Failure(Exit.REFUSED, "not-in-ring", f"{name} is in no ring", _INTO_A_RING)


def not_found(error: UnknownNode, name: str, sought: Sequence[str], known: Sequence[str]) -> Failure:
    """Say that the node ``name`` knows no such member, and which it knows."""
    from difflib import get_close_matches  # noqa: PLC0415 - so that a command costs only what it needs

    close = [match for each in sought if each not in known for match in get_close_matches(each, known, 1)]
    meant = f"did you mean {close[0]!r}? " if close else ""
    shown = f"{', '.join(known[:_MOST_NAMED])}{', ...' * (len(known) > _MOST_NAMED)}"
    many = f"{len(known)} members are" if len(known) != 1 else "1 member is"
    hint = f"{meant}{many} known: {shown}" if known else "`clusterkit members` lists those that it knows"
    return Failure(Exit.REFUSED, "not-found", f"{error}, as {name} sees it", hint)


def _unreachable(error: OSError, where: str) -> Failure:
    import ssl  # noqa: PLC0415 - loaded already where there can be such an error

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
            return Failure(Exit.REFUSED, "name-conflict", str(error), _NAME_OF_ITS_OWN)
        case StateError():
            hint = "give each node a directory of its own; a damaged one is put away by hand, and the node joins through seeds"
            return Failure(Exit.REFUSED, "state", str(error), hint)
        case ConfigError():
            return usage(str(error), "`clusterkit start --help` tells what it takes")
    return Failure(Exit.REFUSED, "refused", str(error))
