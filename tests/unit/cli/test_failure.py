"""Every error of a command has its exit code, one line and a hint."""

import ssl

import pytest

from clusterkit.cli.failure import Exit, of_question, of_start
from clusterkit.errors import (
    AddressError,
    AuthFailed,
    CallTimeout,
    ClusterError,
    InvalidChecksum,
    ListenError,
    MailboxFull,
    NameConflict,
    NodeDown,
    PeerFull,
    ProtocolError,
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
