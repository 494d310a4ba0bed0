"""Certificates on the command line: all three files or none, and an exit code for those that cannot be used."""

from pathlib import Path

import pytest

from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.tls import find_tls
from tests.certificates import Authority


def test_without_files_there_is_no_tls() -> None:
    assert find_tls(None, None, None) is None
    assert find_tls("", "", "") is None


def test_three_files_make_tls_that_checks_names(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, "foo")
    tls = find_tls(str(files.certificate), str(files.key), str(files.authority))
    assert tls is not None
    assert tls.verify_names


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("cert.pem", "key.pem", None), "--tls-ca is missing"),
        (("cert.pem", "", "ca.pem"), "--tls-key is missing"),
        ((None, None, "ca.pem"), "--tls-cert and --tls-key are missing"),
    ],
)
def test_one_file_without_the_others_is_a_mistake_of_usage(given: tuple[str | None, ...], missing: str) -> None:
    with pytest.raises(Failure, match=missing) as caught:
        find_tls(*given)
    assert caught.value.exit_code is Exit.USAGE


def test_a_file_that_cannot_be_used_is_exit_5(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, "foo")
    files.key.chmod(0o644)
    with pytest.raises(Failure, match=f"chmod 600 {files.key}") as caught:
        find_tls(str(files.certificate), str(files.key), str(files.authority))
    assert (caught.value.exit_code, caught.value.code) == (Exit.COOKIE, "tls")
