"""`clusterkit start --config FILE`: the file knows the options by name, and ranks below all that is given otherwise."""

from pathlib import Path
from typing import Any

import click
import pytest

from clusterkit.cli.commands_cache import serve
from clusterkit.cli.commands_start import plan_of, start
from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.main import cli, run
from clusterkit.cli.settings import Settings
from clusterkit.cli.start import Plan

WHOLE = """
address = "foo@127.0.0.1:7022"
ring = "demo"
seed = ["10.0.0.1:7022", "10.0.0.2:7022"]
listen = "0.0.0.0:7022"
state-dir = "/var/lib/foo"
cookie-file = ["/etc/cookie"]
join-timeout = 2.5
app = "my_app:main"
"""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "RING", "SEEDS", "COOKIE", "COOKIE_FILE", "CONFIG", "LISTEN", "STATE_DIR"):
        monkeypatch.delenv(f"CLUSTERKIT_{name}", raising=False)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(WHOLE)
    return file


def context_of(command: click.Command, *typed: str) -> click.Context:
    """As the root makes it."""
    return command.make_context(str(command.name), list(typed), parent=click.Context(cli, **cli.context_settings))


def read(command: click.Command, *typed: str, settings: Settings | None = None) -> tuple[Plan, dict[str, Any]]:
    """What would be started, and the options that are not a node's."""
    with context_of(command, *typed) as context:
        options = dict(context.params)
        more = {name: options.pop(name) for name in ("app",) if name in options}
        return plan_of(settings or Settings(), options), more


def test_a_file_gives_all_that_a_command_line_can(file: Path) -> None:
    plan, more = read(start, "--config", str(file))
    assert (plan.address, plan.ring, plan.listen) == ("foo@127.0.0.1:7022", "demo", "0.0.0.0:7022")
    assert plan.seeds == ("10.0.0.1:7022", "10.0.0.2:7022")
    assert (plan.state_dir, plan.join_timeout, plan.cookies.files) == ("/var/lib/foo", 2.5, ("/etc/cookie",))
    assert more == {"app": "my_app:main"}


def test_what_is_typed_counts_first(file: Path) -> None:
    typed = ("bar@127.0.0.1:1", "--ring", "other", "--seed", "h:1", "--cookie-file", "/mine", "--join-timeout", "9")
    plan, _ = read(start, *typed, "--config", str(file))
    assert (plan.address, plan.ring, plan.seeds) == ("bar@127.0.0.1:1", "other", ("h:1",))
    assert (plan.cookies.files, plan.join_timeout) == (("/mine",), 9.0)


def test_the_environment_counts_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "ADDRESS": "env@h:1",
        "RING": "of-env",
        "SEEDS": "h:1,h:2",
        "COOKIE": "0123456789abcdef",
        "CONFIG": str(file),
    }
    for name, value in given.items():
        monkeypatch.setenv(f"CLUSTERKIT_{name}", value)
    plan, _ = read(start)
    assert (plan.address, plan.ring, plan.seeds) == ("env@h:1", "of-env", ("h:1", "h:2"))
    assert (plan.cookies.files, plan.cookies.value) == ((), b"0123456789abcdef")
    assert plan.listen == "0.0.0.0:7022"


def test_the_global_options_count_before_the_file(file: Path) -> None:
    plan, _ = read(start, "--config", str(file), settings=Settings(cookie_file=("/global",)))
    assert plan.cookies.files == ("/global",)


def test_a_cache_takes_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "cache.toml"
    file.write_text(WHOLE.replace("app =", "http =") + 'group = ["scores=m:load"]\nno-own = true\nmax-bytes = 1000\n')
    with context_of(serve, "--config", str(file)) as context:
        assert context.params["groups"] == ("scores=m:load",)
        assert (context.params["no_own"], context.params["max_bytes"]) == (True, 1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rnig = "demo"', "there is no option 'rnig'"),
        ("ring = [1]", "ring must be a text or a number, not [1]"),
        ('seed = "h:1"', "seed must be a list of texts"),
        ("seed = [1]", "seed must be a list of texts"),
        ("ring = true", "ring must be a text or a number"),
        ("ring = demo", "is not TOML"),
        ("\xff\xfe", "is not TOML"),
        ("[node]", "there is no option 'node'"),
        ('config = "x"', "there is no option 'config'"),
    ],
)
def test_a_fault_in_the_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(Failure) as caught:
        context_of(start, "--config", str(file))
    assert said in caught.value.message
    assert (caught.value.exit_code, bool(caught.value.hint)) == (Exit.USAGE, "must be" not in said)


def test_a_file_that_cannot_be_read_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["start", "--config", "/nosuch/file"]) == (2, False)
    assert (
        capsys.readouterr().err.splitlines()[0]
        == "clusterkit: cannot read --config /nosuch/file: No such file or directory"
    )


def test_what_neither_gives_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "node.toml"
    file.write_text('address = "foo@127.0.0.1:0"')
    assert run(["start", "--config", str(file)]) == (2, False)
    assert "Missing option '--ring'" in capsys.readouterr().err
