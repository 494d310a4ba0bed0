"""TLS: which contexts and files are refused and with which words, and what a stream does when TLS fails."""

import asyncio
import contextlib
import re
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from clusterkit.errors import ConfigError
from clusterkit.transport.base import Stream
from clusterkit.transport.tcp import TcpNetwork
from clusterkit.transport.tls import TLS, TlsStream
from tests.certificates import Authority, Files

DEADLINE = 10.0
OURS, THEIRS = Authority(), Authority()


# -- contexts


def context(side: str, **settings: object) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side == "server" else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for name, value in settings.items():
            setattr(made, name, value)
    return made


def test_two_contexts_that_ask_for_certificates_are_taken() -> None:
    tls = TLS(context("server"), context("client", minimum_version=ssl.TLSVersion.TLSv1_3))
    assert tls.verify_names


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize(
    ("settings", "what_to_do"),
    [
        ({"verify_mode": ssl.CERT_NONE}, "verify_mode = ssl.CERT_REQUIRED"),
        ({"verify_mode": ssl.CERT_OPTIONAL}, "verify_mode = ssl.CERT_REQUIRED"),
        ({"minimum_version": ssl.TLSVersion.MINIMUM_SUPPORTED}, "minimum_version = ssl.TLSVersion.TLSv1_3"),
        ({"minimum_version": ssl.TLSVersion.TLSv1}, "minimum_version = ssl.TLSVersion.TLSv1_3"),
        ({"minimum_version": ssl.TLSVersion.TLSv1_1}, "minimum_version = ssl.TLSVersion.TLSv1_3"),
    ],
)
def test_a_context_that_takes_too_much_is_refused(side: str, settings: dict[str, object], what_to_do: str) -> None:
    contexts = {"server": context("server"), "client": context("client")} | {side: context(side, **settings)}
    with pytest.raises(ConfigError, match=rf"the {side} context .*set {side}\.{what_to_do}"):
        TLS(contexts["server"], contexts["client"])


def test_contexts_that_are_swapped_are_refused() -> None:
    with pytest.raises(ConfigError, match="server context is made for the other side: give ssl.PROTOCOL_TLS_SERVER"):
        TLS(context("client"), context("client"))
    with pytest.raises(ConfigError, match="client context is made for the other side: give ssl.PROTOCOL_TLS_CLIENT"):
        TLS(context("server"), context("server"))


def test_what_is_no_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="server must be an ssl.SSLContext, not str"):
        TLS("cert.pem", context("client"))  # type: ignore[arg-type]


# -- files


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> Files:
    return OURS.files(tmp_path, "foo")


def test_files_make_contexts_of_tls_1_3_that_ask_for_certificates(files: Files) -> None:
    tls = TLS.from_files(files.certificate, str(files.key), files.authority, verify_names=False)
    for each in (tls.server, tls.client):
        assert each.verify_mode is ssl.CERT_REQUIRED
        assert each.minimum_version is ssl.TLSVersion.TLSv1_3
        assert not each.check_hostname
        assert each.get_ca_certs(), "it trusts the authority of the file"
    assert (tls.server.protocol, tls.client.protocol) == (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    assert not tls.verify_names


@pytest.mark.parametrize("which", ["certificate", "key", "authority"])
def test_a_missing_file_is_named(files: Files, which: str) -> None:
    path = getattr(files, which)
    path.unlink()
    with pytest.raises(ConfigError, match=f"cannot read the .*{path}: No such file"):
        TLS.from_files(files.certificate, files.key, files.authority)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_touch_is_refused(files: Files, mode: int) -> None:
    files.key.chmod(mode)
    with pytest.raises(ConfigError, match=rf"{files.key} \(mode {mode:04o}\): chmod 600 {files.key}"):
        TLS.from_files(files.certificate, files.key, files.authority)


def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = OURS.files(tmp_path / "other", "bar")
    with pytest.raises(ConfigError, match=f"{other.key} is not that of the certificate {files.certificate}"):
        TLS.from_files(files.certificate, other.key, files.authority)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(files: Files) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files.key.write_bytes(sealed)
    with pytest.raises(ConfigError, match=f"{files.key} has a passphrase"):
        TLS.from_files(files.certificate, files.key, files.authority)


@pytest.mark.parametrize("which", ["certificate", "key", "authority"])
def test_a_file_with_something_else_in_it_is_named(files: Files, which: str) -> None:
    path = getattr(files, which)
    path.write_text("not what it should be\n")
    with pytest.raises(ConfigError, match=str(path)):
        TLS.from_files(files.certificate, files.key, files.authority)


# -- streams


@contextlib.asynccontextmanager
async def meeting(dials: TLS | None, listens: TLS | None) -> AsyncIterator[list[Stream | OSError]]:
    """Both ends of a connection, the dialling one first, or why an end did not come about."""
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    ends: list[Stream | OSError] = []
    async with asyncio.timeout(DEADLINE):
        listener = await TcpNetwork(listens).listen("127.0.0.1", 0, taken.put_nowait)
        dialling = TcpNetwork(dials).connect("127.0.0.1", listener.port)
        for end in await asyncio.gather(dialling, establish(taken), return_exceptions=True):
            assert not isinstance(end, BaseException) or isinstance(end, OSError)
            ends.append(end)
        try:
            yield ends
        finally:
            for end in ends:
                if not isinstance(end, OSError):
                    end.abort()
                    await end.aclose()
            await listener.aclose()


async def establish(taken: asyncio.Queue[Stream]) -> Stream:
    stream = await taken.get()
    await stream.established()
    return stream


def whole(end: Stream | OSError) -> Stream:
    assert not isinstance(end, OSError), end
    return end


async def why(end: Stream | OSError) -> str:
    """The words with which it failed, at once or when it was read from."""
    if not isinstance(end, OSError):
        with pytest.raises(OSError) as caught:
            await end.read(1)
        end = caught.value
    return str(end)


def old(name: str) -> TLS:
    """TLS 1.2 and no more."""
    return OURS.tls(name, least=ssl.TLSVersion.TLSv1_2, most=ssl.TLSVersion.TLSv1_2)


async def test_each_end_knows_the_names_of_the_other_as_they_are_written() -> None:
    async with meeting(OURS.tls("foo", "foo.example.org"), OURS.tls("*.bar", "127.0.0.1")) as (near, far):
        assert whole(near).names == frozenset({"*.bar"})
        assert whole(far).names == frozenset({"foo", "foo.example.org"})


async def test_names_are_none_when_not_to_be_checked_and_empty_when_there_are_none() -> None:
    async with meeting(OURS.tls(), OURS.tls("foo", verify_names=False)) as (near, far):
        assert whole(near).names == frozenset({"foo"})
        assert whole(far).names is None
    async with meeting(OURS.tls(), OURS.tls("foo")) as (near, far):
        assert whole(far).names == frozenset()


async def test_contexts_may_go_down_to_tls_1_2() -> None:
    async with meeting(old("a"), old("b")) as (near, far):
        whole(near).write(b"as of old")
        assert await whole(far).read(100) == b"as of old"
        assert whole(near).names == frozenset({"b"})


async def test_the_host_is_checked_when_the_client_context_says_so() -> None:
    tls = OURS.tls("a")
    tls.client.check_hostname = True
    async with meeting(tls, OURS.tls("b", "127.0.0.1")) as (near, _):
        assert whole(near).names == frozenset({"b"})
    async with meeting(tls, OURS.tls("b", "127.0.0.2")) as (near, _):
        assert "IP address mismatch" in await why(near)


@pytest.mark.parametrize(
    ("dials", "listens", "says_who_dials", "says_who_listens"),
    [
        (OURS.tls("a", trusts=THEIRS), OURS.tls("b"), "its certificate is not accepted", "unknown ca"),
        (OURS.tls("a"), OURS.tls("b", trusts=THEIRS), "it refused this side.*unknown ca", "is not accepted"),
        (old("a"), OURS.tls("b"), "it refused this side.*protocol version", "unsupported protocol"),
        (OURS.tls("a"), old("b"), "it refused this side.*protocol version", "unsupported protocol"),
    ],
    ids=["its authority", "our authority", "our version", "its version"],
)
async def test_each_end_is_told_why(dials: TLS, listens: TLS, says_who_dials: str, says_who_listens: str) -> None:
    async with meeting(dials, listens) as (near, far):
        assert re.search(f"TLS with 127.0.0.1:[0-9]+ failed: .*{says_who_dials}", await why(near))
        assert re.search(f"TLS with 127.0.0.1 failed: .*{says_who_listens}", await why(far))


async def test_who_does_not_speak_tls_is_refused() -> None:
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    async with asyncio.timeout(DEADLINE):
        listener = await TcpNetwork(OURS.tls("a")).listen("127.0.0.1", 0, taken.put_nowait)
        plain = await TcpNetwork().connect("127.0.0.1", listener.port)
        plain.write(b"CKT1\x01" + bytes(32))
        with pytest.raises(ssl.SSLError, match="TLS with 127.0.0.1 failed: .*does it use TLS"):
            await establish(taken)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := await plain.read(100):
                answer += part
        assert len(answer) < 16, "an alert at most, and nothing of ours"
        plain.abort()
        await listener.aclose()


async def test_where_tls_is_not_spoken_it_fails_in_words() -> None:
    listener = await TcpNetwork().listen("127.0.0.1", 0, lambda stream: stream.abort())
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ssl.SSLError, match="TLS with 127.0.0.1:[0-9]+ failed: it closed.*does it use TLS"):
            await TcpNetwork(OURS.tls("a")).connect("127.0.0.1", listener.port)
        await listener.aclose()


async def test_one_end_that_is_dropped_ends_the_other() -> None:
    async with meeting(OURS.tls("a"), OURS.tls("b")) as (near, far):
        whole(near).abort()
        with contextlib.suppress(OSError):
            assert await whole(far).read(1) == b""


async def test_bytes_that_were_changed_on_the_way_are_never_read() -> None:
    async with meeting(OURS.tls("a"), OURS.tls("b")) as (near, far):
        assert isinstance(near, TlsStream)
        near._tls.write(b"to be changed")
        sealed = bytearray(near._outgoing.read())
        sealed[-1] ^= 1
        near._below.write(bytes(sealed))
        with pytest.raises(ssl.SSLError, match="bad record mac"):
            await whole(far).read(100)


async def test_a_write_after_tls_failed_is_dropped_in_silence() -> None:
    async with meeting(OURS.tls("a"), OURS.tls("b", trusts=THEIRS)) as (near, _):
        assert "refused this side" in await why(near)
        whole(near).write(b"lost")
        whole(near).write(b"lost too")
        with pytest.raises(OSError):
            await whole(near).drain()


async def test_a_stream_that_is_closed_before_its_handshake_is_dropped() -> None:
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    async with asyncio.timeout(DEADLINE):
        listener = await TcpNetwork(OURS.tls("a")).listen("127.0.0.1", 0, taken.put_nowait)
        dialling = asyncio.create_task(TcpNetwork(OURS.tls("b")).connect("127.0.0.1", listener.port))
        await (await taken.get()).aclose()
        with pytest.raises(ssl.SSLError, match="it closed the connection"):
            await dialling
        await listener.aclose()
