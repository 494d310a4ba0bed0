"""Where the certificates come from: three files, all of them or none."""

from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.errors import ConfigError
from clusterkit.transport.tls import TLS


def find_tls(certificate: str | None, key: str | None, authority: str | None) -> TLS | None:
    """Read the files of ``--tls-cert``, ``--tls-key`` and ``--tls-ca``; None without them. Raises `Failure`."""
    files = {"--tls-cert": certificate, "--tls-key": key, "--tls-ca": authority}
    missing = [option for option, file in files.items() if not file]
    if len(missing) == len(files):
        return None
    if missing or not (certificate and key and authority):
        hint = "TLS needs a certificate, its key, and the authority to trust"
        raise usage(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", hint)
    try:
        return TLS.from_files(certificate, key, authority)
    except ConfigError as error:
        raise Failure(Exit.COOKIE, "tls", str(error), "all three are PEM files; the key is its owner's alone") from None
