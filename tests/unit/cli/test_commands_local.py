"""The commands that set things up, as they are typed: what they print, where, and their exit codes."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterkit.cli.context import path_of
from clusterkit.cli.main import run

COOKIE = "a cookie that nobody may see"


@pytest.fixture(autouse=True, name="home")
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("CLUSTERKIT_") or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


class Typed:
    """What a line printed; by default as into a pipe."""

    def __init__(self, line: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.code, self.at_once = run(line.split())
        printed = capsys.readouterr()
        self.out, self.err = printed.out, printed.err

    @property
    def data(self) -> Any:
        assert self.code == 0, self.out + self.err
        assert self.err == ""
        told = json.loads(self.out)
        assert told["ok"] is True
        return told["data"]

    @property
    def refused(self) -> tuple[int, str]:
        return self.code, json.loads(self.out)["error"]["message"]


# -- keygen


def test_a_key_is_printed_or_written(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert len(base64.b64decode(Typed("keygen", capsys).out)) == 32
    written = Typed(f"keygen {home}/cookie", capsys)
    assert (written.code, written.out) == (0, "")
    assert "wrote a new cookie" in written.err
    assert Typed(f"keygen {home}/cookie", capsys).code == 2
    assert Typed(f"keygen --force {home}/cookie", capsys).code == 0


# -- config


def test_config_tells_value_and_origin_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Typed("-H 10.0.0.1 context add staging --use", capsys).code == 0
    monkeypatch.setenv("CLUSTERKIT_PORT", "7030")
    monkeypatch.setenv("CLUSTERKIT_TIMEOUT", "2")
    monkeypatch.setenv("CLUSTERKIT_SEEDS", "10.0.0.9:7022")
    monkeypatch.setenv("NO_COLOR", "1")
    data = Typed("-I alpha config", capsys).data
    told = {name: (row["value"], row["origin"]) for name, row in data.items()}
    assert told["context"] == ("staging", "context use")
    assert told["host"] == ("10.0.0.1", "context staging")
    assert told["port"] == (7030, "CLUSTERKIT_PORT")
    assert told["instance"] == ("alpha", "--instance")
    assert told["timeout"] == (2.0, "CLUSTERKIT_TIMEOUT")
    assert told["output"] == ("auto", "default")
    assert told["no_color"] == (True, "NO_COLOR")
    assert told["seeds"] == ("10.0.0.9:7022", "CLUSTERKIT_SEEDS")
    assert told["cookie"] == (None, "default")
    assert told["contexts"] == (str(path_of(os.environ)), "XDG_CONFIG_HOME")


@pytest.mark.parametrize("output", ["table", "json"])
def test_config_tells_where_the_cookie_is_and_never_what_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path, output: str
) -> None:
    file = home / "cookie"
    file.touch(0o600)
    file.write_text(COOKIE)
    of_context = Typed(f"--cookie-file {file} context add here", capsys)
    assert of_context.code == 0

    def told(line: str = "") -> str:
        done = Typed(f"-o {output} {line} config", capsys)
        assert done.code == 0
        assert COOKIE not in done.out + done.err
        shown: str = next(
            row for row in done.out.replace('"cookie"', "\ncookie").splitlines() if row.startswith("cookie")
        )
        return shown

    typed = told(f"--cookie-file {file} --cookie-file /other")
    assert f"in {file}, /other" in typed
    assert "--cookie-file" in typed
    assert f"in {file}" in told("-c here")
    assert "context here" in told("-c here")
    monkeypatch.setenv("CLUSTERKIT_COOKIE_FILE", f"{file}{os.pathsep}/other")
    assert f"in {file}, /other" in told()
    monkeypatch.setenv("CLUSTERKIT_COOKIE", COOKIE)
    assert "in the environment" in told()
    assert COOKIE not in path_of(os.environ).read_text()


def test_config_for_people_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Typed("-o table -t 2.5 config", capsys).out.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    assert "timeout 2.5 s --timeout" in [" ".join(line.split()) for line in lines]
    assert "host 127.0.0.1 default" in [" ".join(line.split()) for line in lines]
    assert ["OF", "START", "VALUE", "FROM"] in [line.split() for line in lines]


# -- context


def test_a_context_from_its_making_to_its_end(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert Typed("context ls", capsys).data == []
    made = Typed("context add a -H 10.0.0.1 -p 7030 -I alpha --cookie-file /c --tls-ca /ca", capsys).data
    assert made == {
        "name": "a",
        "current": False,
        "host": "10.0.0.1",
        "port": 7030,
        "instance": "alpha",
        "cookie_file": "/c",
        "tls_cert": None,
        "tls_key": None,
        "tls_ca": "/ca",
    }
    assert Typed("-H ::1 context add b --use", capsys).data["current"] is True
    assert [(each["name"], each["current"]) for each in Typed("context ls", capsys).data] == [("a", False), ("b", True)]
    assert Typed("context show", capsys).data["name"] == "b"
    assert Typed("context show a", capsys).data == made
    assert Typed("context use a", capsys).data["current"] is True
    assert Typed("context use --none", capsys).data == {"current": None}
    assert Typed("context show", capsys).refused == (2, "no context is current")
    assert Typed("-c a context show", capsys).data == made
    assert Typed("context rm b", capsys).data == {"current": None}
    assert [each["name"] for each in Typed("context ls", capsys).data] == ["a"]
    assert [each.name for each in (home / "clusterkit").iterdir()] == ["contexts.toml"]


def test_a_context_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert "context add NAME" in Typed("-o table context ls", capsys).out
    assert Typed("-o table context add a -H 10.0.0.1 --cookie-file /c --use", capsys).out == "added context a\n"
    assert Typed("-o table context add b", capsys).out == "added context b\n"
    assert Typed("-o table context show a", capsys).out == "context a (current)\n  host: 10.0.0.1\n  cookie-file: /c\n"
    assert Typed("-o table context show b", capsys).out == "context b: all defaults\n"
    listed = [line.split() for line in Typed("-o table context ls", capsys).out.splitlines()]
    assert listed == [
        ["NAME", "NODE", "COOKIE", "FILE", "CERTIFICATE"],
        ["a", "*", "10.0.0.1:7022", "/c", "-"],
        ["b", "127.0.0.1:7022", "-", "-"],
    ]
    assert Typed("-o table context rm a", capsys).out == "removed context a; no context is current now\n"
    assert Typed("-o table context use b", capsys).out == "the current context is b\n"
    assert Typed("-o table context use --none", capsys).out == "no context is current\n"


def test_what_cannot_be_done_to_contexts(capsys: pytest.CaptureFixture[str]) -> None:
    assert Typed("context add a", capsys).code == 0
    assert Typed("context add a", capsys).refused == (2, "there is a context 'a' already")
    assert Typed("context add a -p 1 --force", capsys).data["port"] == 1
    for line in ("context use b", "context rm b", "context show b", "-c b context show"):
        assert Typed(line, capsys).refused == (2, "there is no context 'b'")
    assert Typed("context use", capsys).refused == (2, "give either NAME or --none")
    assert Typed("context use a --none", capsys).code == 2


def test_a_context_without_a_name_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["context", "add", ""])[0] == 2
    assert "needs a name" in capsys.readouterr().out


def test_what_the_environment_says_is_not_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERKIT_HOST", "of-env")
    monkeypatch.setenv("CLUSTERKIT_COOKIE", COOKIE)
    assert Typed("-p 1 context add a", capsys).data["host"] is None
    assert COOKIE not in path_of(os.environ).read_text()


def test_paths_are_kept_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", "/home/ada")
    made = Typed("--tls-key key.pem context add a --cookie-file ~/c", capsys).data
    assert (made["cookie_file"], made["tls_key"]) == ("/home/ada/c", f"{home}/key.pem")


def test_a_name_of_control_characters_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(["context", "add", "\x1b[2J"])
    assert code == 0
    capsys.readouterr()
    for line in ("-o table context ls", "-o table -c \x1b[2J context show"):
        assert "\x1b" not in Typed(line, capsys).out


# -- completion and version


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_and_how_to_install_it(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    printed = Typed(f"completion {shell}", capsys)
    assert printed.code == 0
    assert f"_CLUSTERKIT_COMPLETE={shell}_complete" in printed.out
    assert f"clusterkit completion {shell} >" in printed.err
    quiet = Typed(f"completion -q {shell}", capsys)
    assert (quiet.out, quiet.err) == (printed.out, "")


def test_another_shell_is_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    assert Typed("completion tcsh", capsys).code == 2


def test_a_bash_completes_by_it(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """The script in a real bash, with a `clusterkit` in the path."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash here")
    (home / "clusterkit-in-path").mkdir()
    command, script = home / "clusterkit-in-path" / "clusterkit", home / "script.bash"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clusterkit "$@"\n')
    command.chmod(0o700)
    path = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    script.write_text(Typed("completion -q bash", capsys).out)
    assert Typed("context add production", capsys).code == 0

    def completed(*words: str) -> list[str]:
        return subprocess.run(
            [bash, "-c", _COMPLETE, "bash", str(script), *words],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": path},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.split()

    assert completed("mem") == ["members"]
    assert completed("context", "u") == ["use"]
    assert completed("context", "use", "pro") == ["production"]
    assert completed("--tls-c") == ["--tls-cert", "--tls-ca"]


_COMPLETE = """
source "$1"; shift
COMP_WORDS=(clusterkit "$@"); COMP_CWORD=$#
_clusterkit_completion clusterkit
printf '%s\n' "${COMPREPLY[@]}"
"""


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    told = Typed("version", capsys).data
    assert told["wire"] == 1
    assert set(told) == {"clusterkit", "wire", "python", "platform"}
    shown = Typed("-o table version", capsys).out
    assert shown.startswith("clusterkit ")
    assert f"wire protocol 1, Python {told['python']}" in shown
