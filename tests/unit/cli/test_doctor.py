"""What the doctor finds, and that nothing holds it up."""

import os
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterkit.cli.doctor import (
    PACKAGES,
    Finding,
    _judged,
    _of_node,
    examine,
    run_checks,
    show_findings,
    tell_findings,
)
from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.settings import Settings
from tests.certificates import Authority

COOKIE = "a cookie that nobody may see"
ROOT = Path(__file__).parents[3]


@pytest.fixture(name="environ")
def _environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path), "CLUSTERKIT_COOKIE": COOKIE}


@pytest.fixture(name="settings")
def _settings() -> Iterator[Settings]:
    """A node that is not there: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Settings(port=bound.getsockname()[1], timeout=5.0, origins={"port": "--port"})


def found(check: str, settings: Settings, environ: dict[str, str], listen: str | None = None) -> list[Finding]:
    findings = examine(settings, environ, listen)
    assert COOKIE not in repr(findings)
    return [each for each in findings if each.check == check]


def cookie_file(folder: Path, mode: int = 0o600, content: str = COOKIE) -> str:
    path = folder / "cookie"
    path.touch(0o600)
    path.write_text(content)
    path.chmod(mode)
    return str(path)


# -- how it works


def test_a_check_that_hangs_fails_when_the_time_is_up_and_the_others_do_not_wait() -> None:
    released = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding("first", "ok", "before it hung")
        released.wait(60)

    begin = time.monotonic()
    findings = run_checks({"slow": hangs, "quick": lambda: iter([Finding("quick", "ok", "done")])}, 0.3)
    released.set()
    assert time.monotonic() - begin < 5
    assert [(each.check, each.state) for each in findings] == [("first", "ok"), ("slow", "fail"), ("quick", "ok")]
    assert "no end within 0.3 s" in findings[1].text


def test_a_check_that_fails_by_itself_is_a_finding() -> None:
    def refused() -> Iterator[Finding]:
        raise Failure(Exit.COOKIE, "cookie", "no cookie", "make one")
        yield

    def faulty() -> Iterator[Finding]:
        raise ZeroDivisionError("oh")
        yield

    findings = run_checks({"refused": refused, "faulty": faulty}, 5.0)
    assert findings[0] == Finding("refused", "fail", "no cookie", "make one")
    assert "ZeroDivisionError('oh')" in findings[1].text


def test_it_is_shown_as_lines_with_hints_and_counted() -> None:
    told = tell_findings([Finding("a", "ok", "fine"), Finding("tls", "fail", "old\x1b[2J", "renew")])
    assert {name: told[name] for name in ("ok", "warn", "fail")} == {"ok": 1, "warn": 0, "fail": 1}
    assert told["findings"][1] == {"check": "tls", "state": "fail", "text": "old\x1b[2J", "hint": "renew"}
    shown = show_findings(told)
    assert "old?[2J" in shown
    assert "renew" in shown
    assert shown.endswith("1 ok, 1 fail")


# -- this installation


def test_the_least_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = dict.fromkeys(project["dependencies"], "")
    wanted |= {each: extra for extra in ("cli", "web", "uvloop") for each in extras[extra]}
    listed = {f"{name}>={least}": extra for name, (least, extra) in PACKAGES.items()}
    assert listed == {each.partition(",")[0]: extra for each, extra in wanted.items()}


def test_what_is_installed_is_listed(settings: Settings, environ: dict[str, str]) -> None:
    labels = [each.check for each in examine(settings, environ, None)]
    assert [name if not extra else f"{name} [{extra}]" for name, (_, extra) in PACKAGES.items()] == labels[
        2 : 2 + len(PACKAGES)
    ]
    assert labels[:2] == ["python", "clusterkit"]


def test_an_old_version_fails() -> None:
    assert _judged("msgpack", "1.10.0rc1", "1.2.3", "").state == "ok"
    old = _judged("msgpack", "1.2", "1.2.3", "pip install clusterkit")
    assert (old.state, old.text) == ("fail", "1.2 is too old: 1.2.3 is the least")


# -- cookie, contexts, certificates


@pytest.mark.parametrize(
    ("more", "state", "text"),
    [
        ({}, "ok", "28 bytes in CLUSTERKIT_COOKIE"),
        ({"CLUSTERKIT_COOKIE": COOKIE + "\n"}, "warn", "with blanks at an end"),
        ({"CLUSTERKIT_COOKIE": "short"}, "fail", "5 bytes"),
        ({"CLUSTERKIT_COOKIE": ""}, "fail", "no cookie was given"),
        ({"CLUSTERKIT_COOKIE_FILE": "/other"}, "ok", "which comes before CLUSTERKIT_COOKIE_FILE"),
    ],
)
def test_a_cookie_of_the_environment(
    settings: Settings, environ: dict[str, str], more: dict[str, str], state: str, text: str
) -> None:
    (cookie,) = found("cookie", settings, environ | more)
    assert cookie.state == state
    assert text in cookie.text


@pytest.mark.parametrize(("mode", "state", "text"), [(0o600, "ok", "28 bytes in"), (0o640, "fail", "others may read")])
def test_a_cookie_of_a_file(
    settings: Settings, environ: dict[str, str], tmp_path: Path, mode: int, state: str, text: str
) -> None:
    settings.cookie_file = (cookie_file(tmp_path, mode), "/nosuch/cookie")
    good, missing = found("cookie", settings, environ)
    assert (good.state, missing.state) == (state, "fail")
    assert text in good.text
    assert "/nosuch/cookie" in missing.text
    assert good.state == "ok" or good.hint == f"chmod 600 {settings.cookie_file[0]}"


def test_contexts_that_cannot_be_read_are_said_once(
    settings: Settings, environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "clusterkit"
    folder.mkdir(0o700)
    (folder / "contexts.toml").write_text("no toml")
    (folder / "contexts.toml").chmod(0o600)
    findings = {each.check: each for each in examine(settings, environ, None)}
    assert "is no TOML" in findings["context"].text
    for name in ("cookie", "tls", "node"):
        assert (findings[name].state, findings[name].text) == ("fail", "not looked at: see `context` above")


def test_certificates_are_read_and_judged(settings: Settings, environ: dict[str, str], tmp_path: Path) -> None:
    assert [each.text for each in found("tls", settings, environ)] == ["off"]
    files = Authority().files(tmp_path, "alpha")
    settings.tls_cert, settings.tls_key = str(files.certificate), str(files.key)
    (half,) = found("tls", settings, environ)
    assert (half.state, half.text) == ("fail", "--tls-ca is missing")
    settings.tls_ca = str(files.authority)
    (good,) = found("tls", settings, environ)
    assert good.state == "ok"
    assert f"{files.certificate} is valid until " in good.text
    assert good.text.endswith("for alpha")


# -- the node


def test_a_node_that_is_not_there(settings: Settings, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERKIT_COOKIE", COOKIE)
    (node,) = found("node", settings, environ)
    assert node.state == "fail"
    assert "connection refused" in node.text
    monkeypatch.delenv("CLUSTERKIT_COOKIE")
    (unasked,) = found("node", settings, environ)
    assert "was not asked: no cookie was given" in unasked.text


NODE = {"name": "a", "address": "127.0.0.1:1", "ring": "demo", "seconds": 0.001}


def told(**more: Any) -> dict[str, Finding]:
    return {each.check: each for each in _of_node(NODE | more, 100.0, 100.5)}


def test_what_a_node_tells_is_judged() -> None:
    assert {each.state for each in told().values()} == {"ok"}
    assert told(ring="")["ring"].state == "warn"
    assert "clock" not in told()


@pytest.mark.parametrize(
    ("at", "state", "text"),
    [
        (100.2, "ok", "agree"),
        (98.5, "ok", "1.5 s"),
        (97.0, "warn", "3.0 s behind"),
        (103.5, "warn", "3.0 s ahead"),
    ],
)
def test_clocks_are_compared(at: float, state: str, text: str) -> None:
    clock = told(at=at)["clock"]
    assert clock.state == state
    assert text in clock.text


def test_another_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterkit.cli.doctor.package_version", lambda: "1.2.0")
    assert told(version="1.2.0")["node"].state == "ok"
    assert told(version="1.1.0")["node"].state == "warn"


# -- an address to listen at


def test_an_address_that_can_be_bound(settings: Settings, environ: dict[str, str]) -> None:
    (listen,) = found("listen", settings, environ, "127.0.0.1:0")
    assert listen.state == "ok"
    assert found("listen", settings, environ) == []


def test_an_address_that_is_taken_or_not_ours(settings: Settings, environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (listen,) = found("listen", settings, environ, f"node@127.0.0.1:{taken.getsockname()[1]}")
    assert listen.state == "fail"
    assert "Address already in use" in listen.text
    for text in ("192.0.2.1:0", "nosuch.invalid:1"):
        (listen,) = found("listen", settings, environ, text)
        assert listen.state == "fail"


def test_what_is_no_address_is_a_slip(settings: Settings, environ: dict[str, str]) -> None:
    with pytest.raises(Failure, match="--listen nonsense") as caught:
        examine(settings, environ, "nonsense")
    assert caught.value.exit_code is Exit.USAGE


def test_few_descriptors_are_a_warning(
    settings: Settings, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    (descriptors,) = found("descriptors", settings, environ)
    assert (descriptors.state, descriptors.text) == ("warn", "256 (at most no limit)")
    assert os.name == "posix"
