"""`clusterkit cache serve`: what may be typed, and what is said of what may not. No node is started."""

import sys
from pathlib import Path

import pytest

from clusterkit.cli.cache import read_groups, read_http
from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.main import run

NODE = "cache serve a@127.0.0.1:0 --ring r"
LOADER = "scores=json:loads"


def test_each_group_has_its_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_loaders_of_this_test.py").write_text("def load(key): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = read_groups(["scores=my_loaders_of_this_test:load", LOADER.replace("scores", "names")], own=True)
    assert list(found) == ["scores", "names"]
    assert found["scores"].__module__ == "my_loaders_of_this_test"


def test_a_node_that_only_asks_may_have_a_loader_and_needs_none() -> None:
    assert read_groups(["scores"], own=False) == {"scores": None}
    assert callable(read_groups([LOADER], own=False)["scores"])


def test_the_place_for_http_is_read() -> None:
    assert read_http(None) is None
    assert read_http("127.0.0.1:0") == ("127.0.0.1", 0)
    assert read_http("[::1]:8080") == ("::1", 8080)


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Failure, match=rf"--http needs {missing}, of the \[web\] extra") as caught:
        read_http("127.0.0.1:0")
    assert caught.value.exit_code is Exit.REFUSED
    assert caught.value.hint == 'pip install "clusterkit[web]"'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (NODE, "Missing option '--group'"),
        (f"cache serve --group {LOADER} --ring r", "Missing argument"),
        (f"cache serve a@127.0.0.1:0 --group {LOADER}", "Missing option '--ring'"),
        (f"{NODE} --group scores", "--group scores: it must be NAME=MODULE:LOADER"),
        (f"{NODE} --group scores=", "it must be MODULE:FUNCTION"),
        (f"{NODE} --group scores=json", "it must be MODULE:FUNCTION"),
        (f"{NODE} --group scores=no_such_module:load", "cannot import no_such_module"),
        (f"{NODE} --group scores=json:nothing", "module json has no 'nothing'"),
        (f"{NODE} --group scores=json:__name__", "it must be a function that takes a key, not 'json'"),
        (f"{NODE} --group {LOADER} --group {LOADER}", "--group scores is given twice"),
        (f"{NODE} --group {LOADER.replace('scores', 'no/name')}", "cache group 'no/name' has '/' in it"),
        (f"{NODE} --group no/name --no-own", "cache group 'no/name' has '/' in it"),
        (f"{NODE} --group {LOADER} --max-bytes 0", "0 is not in the range"),
        (f"{NODE} --group {LOADER} --max-bytes 1.5", "'1.5' is not a valid int"),
        (f"{NODE} --group {LOADER} --ttl 0", "0.0 is not in the range"),
        (f"{NODE} --group {LOADER} --ttl -1", "-1.0 is not in the range"),
        (f"{NODE} --group {LOADER} --negative-ttl soon", "'soon' is not a valid float"),
        (f"{NODE} --group {LOADER} --stale-if-error 0", "0.0 is not in the range"),
        (f"{NODE} --group {LOADER} --http 8080", "--http 8080: address '8080': no port"),
        (f"{NODE} --group {LOADER} --http :8080", "no host before ':'"),
        (f"{NODE} --group {LOADER} --http 127.0.0.1:99999", "not a number from 0 to 65535"),
        (f"{NODE} --group {LOADER} --tls-cert x.pem", "--tls-key and --tls-ca are missing"),
        (f"{NODE} --group {LOADER} --seed nonsense", "no port"),
        (f"cache serve a@0.0.0.0:7022 --ring r --group {LOADER}", "no other node can dial 0.0.0.0"),
        ("cache", "Usage"),
        ("cache server", "No such command 'server'"),
    ],
)
def test_a_slip_is_named_and_exit_2(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERKIT_COOKIE", "0123456789abcdef")
    code, _ = run(line.split())
    printed = capsys.readouterr()
    assert code == 2
    assert said in printed.out + printed.err


def test_without_a_cookie_it_does_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COOKIE", "COOKIE_FILE"):
        monkeypatch.delenv(f"CLUSTERKIT_{name}", raising=False)
    code, _ = run([*NODE.split(), "--group", LOADER])
    assert code == Exit.COOKIE
    assert "no cookie was given" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["cache --help", "cache serve --help"])
def test_help_is_no_failure(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(line.split())
    assert code == 0
    assert "serve" in capsys.readouterr().out
