"""What is said of a certificate before anybody is dialled."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from clusterkit.cli.certificate import look_at
from clusterkit.transport.tls import TLS
from tests.certificates import Authority, Files

NOW = 1_900_000_000.0


def judged(files: Files, authority: Path | None = None, now: float = NOW) -> tuple[str, str, str]:
    tls = TLS.from_files(files.certificate, files.key, authority or files.authority)
    return look_at(tls, str(files.certificate), str(files.key), now)


def ends(files: Files) -> float:
    _, text, _ = judged(files)
    shown = text.partition("until ")[2].partition(",")[0]
    return datetime.strptime(shown, "%Y-%m-%d %H:%M %Z").replace(tzinfo=UTC).timestamp()


def test_a_good_one_tells_until_when_and_whose_it_is(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, "alpha", "alpha.example")
    end = ends(files)
    state, text, hint = judged(files, now=end - 31 * 86_400)
    assert (state, hint) == ("ok", "")
    assert text.endswith("for alpha, alpha.example")


def test_one_that_will_end_soon_is_a_warning(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, "alpha")
    end = ends(files)
    state, _, hint = judged(files, now=end - 3600)
    assert state == "warn"
    assert "soon" in hint


def test_one_without_a_name_is_enough_for_a_client(tmp_path: Path) -> None:
    assert "no name: enough for a client" in judged(Authority().files(tmp_path))[1]


def test_one_of_another_authority_fails(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    files = Authority().files(own, "alpha")
    state, text, hint = judged(files, Authority().files(other, "beta").authority)
    assert state == "fail"
    assert str(files.certificate) in text
    assert "--tls-ca" in hint


def test_one_that_has_ended_fails(tmp_path: Path) -> None:
    """An authority that issues what has ended already."""
    ca = trustme.CA()
    issued = ca.issue_cert("alpha", not_after=datetime.now(UTC) - timedelta(days=1))
    files = Files(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    files.certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    files.key.touch(0o600)
    files.key.write_bytes(issued.private_key_pem.bytes())
    files.authority.write_bytes(ca.cert_pem.bytes())
    state, text, _ = judged(files)
    assert state == "fail"
    assert "expired" in text
