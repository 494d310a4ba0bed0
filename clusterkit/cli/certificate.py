"""What can be said of a certificate before anybody is dialled: whether its own authority takes it, until when, and whose it is."""

import ssl
from datetime import UTC, datetime
from typing import Any, Literal

from clusterkit.transport.tls import TLS

_FLIGHTS = 4  # that TLS 1.3 needs at the most, either way
_LAST_TENTH, _LAST_MONTH = 0.1, 30 * 86_400.0  # whichever is less: then it is time for another
_HINT = "let its authority issue a new one"


def look_at(tls: TLS, certificate: str, key: str, now: float) -> tuple[Literal["ok", "warn", "fail"], str, str]:
    """Judge it at Unix time ``now``: state, text, hint."""
    try:
        told = _shown_to(tls.server, certificate, key)
    except ssl.SSLCertVerificationError as error:
        return "fail", f"{certificate}: {error.verify_message}", f"{_HINT}, or correct --tls-ca"
    except ssl.SSLError as error:
        return "fail", f"{certificate}: {error.reason or error}", _HINT
    begin, end = (ssl.cert_time_to_seconds(told[which]) for which in ("notBefore", "notAfter"))
    names = ", ".join(name for kind, name in told.get("subjectAltName", ()) if kind == "DNS")
    until = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = f"{certificate} is valid until {until}, for {names or 'no name: enough for a client, not for a node'}"
    if end - now < min((end - begin) * _LAST_TENTH, _LAST_MONTH):
        return "warn", text, f"that is soon: {_HINT}"
    return "ok", text, ""


def _shown_to(server: ssl.SSLContext, certificate: str, key: str) -> dict[str, Any]:
    """Show it to ourselves, in memory; returns what it says. Raises `ssl.SSLError` when we would not take it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # this side only shows: the other one judges
    client.load_cert_chain(certificate, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    shows, judges = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    for _ in range(_FLIGHTS):
        for side in (shows, judges):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(judges.getpeercert() or {})
