"""Every error of a command has its exit code, one line and a hint."""

import ssl

import pytest

from clusterkit.cli.failure import Exit, not_found, of_answer, of_question, of_start
from clusterkit.errors import (
    AddressError,
    AlreadyInRing,
    AuthFailed,
    CallTimeout,
    ClusterError,
    InvalidChecksum,
    JoinError,
    JoinTimeout,
    ListenError,
    MailboxFull,
    MessageTooLarge,
    NameConflict,
    NodeDown,
    NoSuchMethod,
    NoSuchServer,
    NotInRing,
    PeerFull,
    ProtocolError,
    RemoteError,
    UnknownKey,
    UnknownNode,
    UnsupportedPayload,
    UsageError,
    VersionMismatch,
    WrongNode,
    WrongRing,
)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Exit.UNREACHABLE),
        (OSError(113, "No route to host"), Exit.UNREACHABLE),
        (ssl.SSLError(1, "TLS with 127.0.0.1:7022 failed: its certificate is not accepted"), Exit.COOKIE),
        (NodeDown("gone"), Exit.UNREACHABLE),
        (TimeoutError("no answer within 3 s"), Exit.TIMEOUT),
        (CallTimeout("no answer"), Exit.TIMEOUT),
        (AuthFailed("closed after our proof"), Exit.COOKIE),
        (WrongNode("dialled 'x', but 'y' answered"), Exit.WRONG),
        (WrongRing("another"), Exit.WRONG),
        (VersionMismatch("2"), Exit.WRONG),
        (ProtocolError("garbage"), Exit.WRONG),
        (InvalidChecksum("bad"), Exit.WRONG),
        (AddressError("no port"), Exit.USAGE),
        (PeerFull("full"), Exit.REFUSED),
        (MailboxFull("full"), Exit.REFUSED),
    ],
)
def test_what_a_question_can_end_in(error: OSError | ClusterError, exit_code: Exit) -> None:
    failure = of_question(error, "127.0.0.1:7022", 5.0)
    assert failure.exit_code is exit_code
    assert "127.0.0.1:7022" in failure.message or exit_code is Exit.USAGE
    assert failure.hint or isinstance(error, OSError)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ListenError("in use"), Exit.REFUSED),
        (NameConflict("taken"), Exit.REFUSED),
        (AuthFailed("closed"), Exit.COOKIE),
        (WrongRing("another"), Exit.WRONG),
        (VersionMismatch("2"), Exit.WRONG),
        (AddressError("no port"), Exit.USAGE),
    ],
)
def test_what_a_start_can_end_in(error: ClusterError, exit_code: Exit) -> None:
    failure = of_start(error)
    assert failure.exit_code is exit_code
    assert failure.hint


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (AlreadyInRing("in ring 'a': `await node.ring.leave()` first"), Exit.REFUSED, "already-in-ring"),
        (NotInRing("the seed is in no ring"), Exit.REFUSED, "not-in-ring"),
        (NameConflict("taken"), Exit.REFUSED, "name-conflict"),
        (AuthFailed("another cookie"), Exit.COOKIE, "cookie"),
        (WrongNode("another"), Exit.WRONG, "wrong-node"),
        (WrongRing("another"), Exit.WRONG, "wrong-cluster"),
        (VersionMismatch("2"), Exit.WRONG, "wrong-protocol"),
        (ProtocolError("garbage"), Exit.WRONG, "wrong-protocol"),
        (JoinTimeout("no seed"), Exit.TIMEOUT, "timeout"),
        (CallTimeout("no answer of a third"), Exit.TIMEOUT, "timeout"),
        (NodeDown("a third is down"), Exit.UNREACHABLE, "unreachable"),
        (JoinError("connection refused"), Exit.UNREACHABLE, "unreachable"),
        (OSError(113, "No route to host"), Exit.UNREACHABLE, "unreachable"),
        (NoSuchServer("no cache"), Exit.REFUSED, "not-found"),
        (UnknownKey("k"), Exit.REFUSED, "not-found"),
        (AddressError("no port"), Exit.USAGE, "usage"),
        (UsageError("not now"), Exit.REFUSED, "refused"),
        (RemoteError("ZeroDivisionError", "oh"), Exit.REFUSED, "refused"),
    ],
)
def test_what_a_node_can_answer_that_was_not_asked_for(
    error: OSError | ClusterError, exit_code: Exit, code: str
) -> None:
    error.add_note("raised by clusterkit.command.join on alpha@127.0.0.1:7022")
    failure = of_answer(error, "alpha", "127.0.0.1:7022", 5.0)
    assert (failure.exit_code, failure.code) == (exit_code, code)
    assert failure.message.startswith("alpha says no: ")
    assert "await" not in failure.message
    assert failure.hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CallTimeout("no answer", node="alpha"), "timeout"),
        (NodeDown("lost", node="alpha"), "unreachable"),
        (NoSuchMethod("no handler 'check'", node="alpha"), "wrong-protocol"),
        (NoSuchServer("no server", node="alpha"), "wrong-protocol"),
    ],
)
def test_what_befalls_a_question_is_not_taken_for_the_answer(error: ClusterError, code: str) -> None:
    failure = of_answer(error, "alpha", "127.0.0.1:7022", 5.0)
    assert failure.code == code
    assert "127.0.0.1:7022" in failure.message


def test_a_value_that_cannot_be_sent_is_the_mistake_of_who_typed_it() -> None:
    for error in (UnsupportedPayload("args[0]: an int of 97 bits"), MessageTooLarge("2 MiB")):
        failure = of_answer(error, "alpha", "127.0.0.1:7022", 5.0)
        assert (failure.exit_code, failure.code) == (Exit.USAGE, "usage")
        assert failure.message == f"it cannot be sent: {error}"


def test_a_name_that_is_not_known_comes_with_those_that_are() -> None:
    error = UnknownNode("no member is named 'brva'")
    failure = not_found(error, "alpha", ["alpha", "brva"], ["alpha", "bravo"])
    assert (failure.exit_code, failure.code) == (Exit.REFUSED, "not-found")
    assert failure.message == "no member is named 'brva', as alpha sees it"
    assert failure.hint == "did you mean 'bravo'? 2 members are known: alpha, bravo"
    assert not_found(error, "alpha", ["x"], ["alpha"]).hint == "1 member is known: alpha"
    many = not_found(error, "alpha", ["x"], [f"n{number}" for number in range(30)]).hint
    assert many.startswith("30 members are known: n0, ")
    assert many.endswith("n11, ...")
    assert "clusterkit members" in not_found(error, "alpha", ["x"], []).hint
