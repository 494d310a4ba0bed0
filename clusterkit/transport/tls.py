"""TLS under the cookie's handshake: what both ends must prove, and a stream that carries it.

Both sides show a certificate and verify the other's. The certificate of a node carries its
name, which whoever talks to it compares with the one that the cookie's handshake proved: that
handshake is not bound to the TLS channel, so without this any holder of a certificate could
relay it and read along.

The stream runs `ssl.SSLObject` over the stream below it, and not asyncio's own TLS: that one
closes on a refused certificate without the alert that says why, hides bytes that are unsent, and
takes a quarter of a megabyte for each connection, also of strangers.
"""

import os
import ssl
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterkit.core.identity import format_host_port
from clusterkit.errors import ConfigError
from clusterkit.transport.base import Stream

_CHUNK = 64 << 10  # ciphertext that is read at once
_OTHERS = 0o077  # what a mode must not allow


@dataclass(frozen=True)
class TLS:
    """Two contexts, for the connections that are accepted and for those that are dialled.

    Both must ask for a certificate (``verify_mode = CERT_REQUIRED``) and take TLS 1.2 at the
    least; `from_files` makes them, for TLS 1.3. With ``verify_names`` the certificate of a node must
    have the node's name among the DNS names of its subjectAltName, letter for letter; a client
    that is no node needs no name. Hosts are checked only if ``client.check_hostname`` is on.

    Raises `ConfigError`.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext
    verify_names: bool = True

    def __post_init__(self) -> None:
        _check(self.server, "server", ssl.PROTOCOL_TLS_CLIENT)
        _check(self.client, "client", ssl.PROTOCOL_TLS_SERVER)

    @classmethod
    def from_files(
        cls, certificate: str | Path, key: str | Path, authority: str | Path, *, verify_names: bool = True
    ) -> "TLS":
        """Make both contexts of PEM files: a certificate (with its chain), its key, and whom to trust.

        TLS 1.3 alone, and certificates on both sides. ``key`` must be readable by its owner
        only, and without a passphrase. Raises `ConfigError`, which names the file.
        """
        for path in (certificate, key, authority):
            _check_file(Path(path), secret=path is key)
        server, client = (
            _context(protocol, certificate, key, authority)
            for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
        )
        return cls(server, client, verify_names)


def _context(protocol: int, certificate: str | Path, key: str | Path, authority: str | Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node has its name wherever it runs
    context.verify_mode = ssl.CERT_REQUIRED
    _load_own(context, certificate, key)
    _load_authority(context, authority)
    return context


def _check(context: ssl.SSLContext, which: str, wrong: int) -> None:
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(f"TLS: {which} must be an ssl.SSLContext, not {type(context).__name__}")
    if context.protocol == wrong:
        raise ConfigError(f"TLS: the {which} context is made for the other side: give ssl.PROTOCOL_TLS_{which.upper()}")
    if context.verify_mode != ssl.CERT_REQUIRED:
        raise ConfigError(
            f"TLS: the {which} context asks for no certificate: set {which}.verify_mode = ssl.CERT_REQUIRED"
        )
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ConfigError(
            f"TLS: the {which} context takes versions below 1.2: "
            f"set {which}.minimum_version = ssl.TLSVersion.TLSv1_3 (or TLSv1_2)"
        )


def _check_file(path: Path, *, secret: bool) -> None:
    what = "private key" if secret else "file"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            file.read(1)
    except OSError as error:
        raise ConfigError(f"TLS: cannot read the {what} {path}: {error.strerror or error}") from None
    if secret and os.name == "posix" and mode & _OTHERS:
        raise ConfigError(f"TLS: others may read or write the private key {path} (mode {mode:04o}): chmod 600 {path}")


def _load_own(context: ssl.SSLContext, certificate: str | Path, key: str | Path) -> None:
    def ask() -> str:
        raise ConfigError(f"TLS: the private key {key} has a passphrase, and nobody is there to type it")

    try:
        context.load_cert_chain(certificate, key, password=ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"TLS: the private key {key} is not that of the certificate {certificate}") from None
        raise ConfigError(
            f"TLS: {certificate} and {key} are no PEM certificate and key that can be used ({error.reason or error})"
        ) from None


def _load_authority(context: ssl.SSLContext, authority: str | Path) -> None:
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise ConfigError(
            f"TLS: {authority} holds no PEM certificate of an authority ({error.reason or error})"
        ) from None


class TlsStream:
    """TLS over another stream: a `clusterkit.transport.base.Stream` again.

    ``dialled`` is the host and the port that were dialled; None for a connection that was accepted.
    """

    _tls: ssl.SSLObject

    def __init__(self, below: Stream, tls: TLS, dialled: tuple[str, int] | None = None) -> None:
        self._below = below
        self._given = tls
        self._host = None if dialled is None else dialled[0]
        self._where = below.remote if dialled is None else format_host_port(*dialled)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._names: frozenset[str] | None = None
        self._secured = False
        self._closed = False

    @property
    def remote(self) -> str:
        """The host of the other end."""
        return self._below.remote

    @property
    def names(self) -> frozenset[str] | None:
        """The DNS names of the other end's certificate; None when they are not to be checked."""
        return self._names

    @property
    def unsent(self) -> int:
        """Bytes, as enciphered, that the stream below has not sent."""
        return self._below.unsent

    async def established(self) -> None:
        """Shake hands, once; a stream on which that failed is aborted."""
        if self._secured:
            return
        try:
            await self._below.established()
            await self._shake_hands()
        except BaseException as error:
            self.abort()
            if isinstance(error, OSError):
                raise self._failure(error) from error
            raise
        self._secured = True
        if self._given.verify_names:
            self._names = self._read_names()

    async def proven(self) -> None:
        """Let the stream below read ahead."""
        await self._below.proven()

    async def _shake_hands(self) -> None:
        host, ways = self._host, (self._incoming, self._outgoing)
        if host is None:
            self._tls = self._given.server.wrap_bio(*ways, server_side=True)
        else:
            self._tls = self._given.client.wrap_bio(*ways, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                await self._pull()
            except ssl.SSLError:
                self._push()  # the alert that tells the other end why
                raise
            else:
                self._push()
                return

    def _read_names(self) -> frozenset[str]:
        certificate: dict[str, Any] = self._tls.getpeercert() or {}
        return frozenset(name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS")

    async def read(self, size: int) -> bytes:
        """At least one byte; none at the end, said or not. Raises `ssl.SSLError` for an alert."""
        while True:
            data = self._decipher(size)
            if data is not None:
                return data
            await self._pull()

    def _decipher(self, size: int) -> bytes | None:
        """What has come; ``b""`` at the end of the stream, None when more must come first."""
        parts = []
        try:
            while size > 0 and (part := self._tls.read(size)):
                parts.append(part)
                size -= len(part)
        except ssl.SSLWantReadError:
            if not parts:
                return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        except ssl.SSLError as error:
            if not parts:
                raise self._failure(error) from error
        finally:
            self._push()  # what TLS itself has to say
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        """Encipher and hand down."""
        if self._closed:
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError:  # it is lost, or wants the keys of TLS 1.2 drawn anew, which nobody may
            self.abort()
            return
        self._push()

    async def drain(self) -> None:
        """Wait for the stream below."""
        await self._below.drain()

    def abort(self) -> None:
        """Drop the stream below."""
        self._closed = True
        self._below.abort()

    async def aclose(self) -> None:
        """Say that the stream ends here, and close the one below; does not wait for the other end to say so."""
        if self._secured and not self._closed:
            self._closed = True
            with suppress(ssl.SSLError):  # it would wait until the other end says so too
                self._tls.unwrap()
            self._push()
        await self._below.aclose()

    async def _pull(self) -> None:
        if data := await self._below.read(_CHUNK):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _push(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    def _failure(self, error: OSError) -> ssl.SSLError:
        """The same failure, in words."""
        return ssl.SSLError(ssl.SSL_ERROR_SSL, f"TLS with {self._where} failed: {_reason(error)}")


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if "ALERT" in reason:
        return f"it refused this side ({reason.partition('ALERT_')[2].replace('_', ' ').lower()})"
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return "it closed the connection; does it use TLS?"
    if isinstance(error, ssl.SSLError):
        return f"{reason.replace('_', ' ').lower() or error}; does it use TLS, and this version?"
    return str(error)
