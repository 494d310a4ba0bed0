"""Certificates for tests, as contexts and as files. What one `Authority` issues, no other trusts."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from clusterkit.transport.tls import TLS


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate, its key and the authority to trust, as PEM files."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def options(self) -> list[str]:
        """As the command line takes them."""
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key), "--tls-ca", str(self.authority)]

    @property
    def environment(self) -> dict[str, str]:
        """As the environment gives them."""
        values = (self.certificate, self.key, self.authority)
        return {f"CLUSTERKIT_TLS_{name}": str(value) for name, value in zip(("CERT", "KEY", "CA"), values, strict=True)}


class Authority:
    """An authority of its own."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def files(self, folder: Path, *names: str) -> Files:
        """Write a certificate for ``names``, and what belongs to it, into ``folder``."""
        files = Files(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
        own = self._ca.issue_cert(*names) if names else self._ca.issue_cert(common_name="nobody")
        files.certificate.write_bytes(b"".join(each.bytes() for each in own.cert_chain_pems))
        files.key.touch(0o600)
        files.key.write_bytes(own.private_key_pem.bytes())
        files.authority.write_bytes(self._ca.cert_pem.bytes())
        return files

    def tls(
        self,
        *names: str,
        trusts: "Authority | None" = None,
        least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        most: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
        verify_names: bool = True,
    ) -> TLS:
        """Contexts that show a certificate for ``names`` (none: one without a name)."""
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        own = self._ca.issue_cert(*names) if names else self._ca.issue_cert(common_name="nobody")
        for context in (server, client):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.minimum_version, context.maximum_version = least, most
            own.configure_cert(context)
            (trusts or self)._ca.configure_trust(context)
        return TLS(server, client, verify_names=verify_names)
