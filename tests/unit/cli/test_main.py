"""The tree of commands: what is typed, what is printed, which exit code follows. No node is asked."""

import json
from pathlib import Path

import pytest

from clusterkit.cli.main import Settings, run, run_line


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("COOKIE", "COOKIE_FILE", "INSTANCE", "HOST", "PORT", "CONTEXT", "TIMEOUT", "OUTPUT"):
        monkeypatch.delenv(f"CLUSTERKIT_{name}", raising=False)


def typed(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code, _ = run(line.split())
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("membres", "No such command 'membres'. Did you mean 'members'?"),
        ("-p 0 ping", "0 is not in the range"),
        ("-p 70000 ping", "70000 is not in the range"),
        ("-p x ping", "'x' is not a valid integer"),
        ("-t 0 ping", "0.0 is not in the range"),
        ("-o xml ping", "'xml' is not one of"),
        ("--cookie secret ping", "No such option"),
        ("ping extra", "unexpected extra argument"),
        ("start a@127.0.0.1:0", "Missing option '--ring'"),
        ("start", "Missing argument"),
        ("demo --nodes 1", "1 is not in the range 2<=x<=20"),
        ("demo --nodes 21", "21 is not in the range 2<=x<=20"),
    ],
)
def test_a_slip_is_two_lines_and_exit_2(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(line, capsys)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("clusterkit: ")
    assert said in first
    assert second.startswith("hint: `clusterkit")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("start a --ring r", "address 'a': no '@'"),
        ("start a@127.0.0.1 --ring r", "no port"),
        ("start a@127.0.0.1:x --ring r", "port 'x' is not a number"),
        ("start a@::1:7022 --ring r", "an IPv6 host goes in brackets"),
        ("start a@0.0.0.0:7022 --ring r", "no other node can dial 0.0.0.0"),
        ("start a@127.0.0.1:0 --ring r --listen nonsense", "no port"),
        ("start a@127.0.0.1:0 --ring r --app nosuch", "must be MODULE:FUNCTION"),
        ("start a@127.0.0.1:0 --ring r --app nosuch:main", "cannot import nosuch"),
        ("start a@127.0.0.1:0 --ring r --app json:nosuch", "has no 'nosuch'"),
        ("start a@127.0.0.1:0 --ring r --app json:dumps", "must be an async function"),
    ],
)
def test_what_cannot_be_started_says_why(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERKIT_COOKIE", "0123456789abcdef")
    code, out, err = typed(line, capsys)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[0]


def test_without_a_command_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed("", capsys)
    assert code == 2
    assert all(command in out + err for command in ("start", "ping", "members", "keygen", "demo"))


@pytest.mark.parametrize("line", ["--help", "ping --help", "start -h", "demo --help", "keygen --help", "--version"])
def test_help_is_no_failure(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(line, capsys)
    assert (code, err) == (0, "")
    assert "lusterkit" in out or "Usage" in out


def test_a_failure_of_a_question_is_json_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed("ping", capsys)
    answer = json.loads(out)
    assert (code, err, answer["ok"]) == (5, "", False)
    assert answer["error"] == {
        "code": "cookie",
        "message": "no cookie was given",
        "hint": "set CLUSTERKIT_COOKIE, or give --cookie-file FILE; `clusterkit keygen FILE` makes one",
    }


def test_a_failure_of_a_question_is_two_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed("-o table ping", capsys)
    assert (code, out) == (5, "")
    assert err.splitlines()[0] == "clusterkit: no cookie was given"


def test_an_instance_that_can_be_none_is_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed("-I no/name ping", capsys)
    assert (code, json.loads(out)["error"]["code"]) == (2, "usage")


def test_a_port_from_the_environment_is_checked_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERKIT_PORT", "seven")
    code, _, err = typed("ping", capsys)
    assert code == 2
    assert "'seven' is not a valid integer" in err


def test_a_fault_of_ours_is_no_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> bytes:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("clusterkit.cli.cookie.find_cookie", faulty)
    code, out, _ = typed("ping", capsys)
    assert (code, json.loads(out)["error"]["code"]) == (1, "fault")
    code, _, err = typed("-o table ping", capsys)
    assert code == 1
    assert "ZeroDivisionError" in err.splitlines()[0]
    assert "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        run(["--debug", "ping"])


# -- lines of a prompt


def test_a_line_runs_with_the_settings_of_its_session(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Settings(output="table", timeout=1.0)
    monkeypatch.setenv("CLUSTERKIT_OUTPUT", "json")  # which the session has read, and something else was typed
    assert run_line(["ping"], session) == 5
    assert capsys.readouterr().err.splitlines()[0] == "clusterkit: no cookie was given"
    assert run_line(["-o", "json", "ping"], session) == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "cookie"
    assert session == Settings(output="table", timeout=1.0)


def test_a_line_is_told_of_as_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_line(["members", "--help"], Settings()) == 0
    assert capsys.readouterr().out.startswith("Usage: members [OPTIONS]")
    assert run_line(["get"], Settings()) == 2
    assert capsys.readouterr().err.splitlines()[1] == "hint: `get --help` tells what it takes"
    assert run_line(["ring"], Settings()) == 2
    assert run_line([], Settings()) == 0


def test_it_is_known_where_each_setting_was_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERKIT_HOST", "example.org")
    code, out, _ = typed("-o json -p 7999 config", capsys)
    told = json.loads(out)["data"]
    assert code == 0
    assert [(told[name]["value"], told[name]["origin"]) for name in ("host", "port")] == [
        ("example.org", "CLUSTERKIT_HOST"),
        (7999, "--port"),
    ]
