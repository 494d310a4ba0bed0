"""The command line with certificates, and with cookies that change while nodes run."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.certificates import Authority, Files
from tests.integration.test_cli import (
    Started,
    Starter,
    _start,  # noqa: F401 - the fixture `start`
    answer,
    cli,
    environment,
    eventually,
    failure,
)

OURS, THEIRS = Authority(), Authority()


def issued(folder: Path, by: Authority, *names: str) -> Files:
    made = folder / "-".join(["of", *names])
    made.mkdir()
    return by.files(made, *names)


# -- certificates


def test_nodes_and_questions_over_tls(start: Starter, tmp_path: Path) -> None:
    foo, bar, nobody = issued(tmp_path, OURS, "foo"), issued(tmp_path, OURS, "bar"), issued(tmp_path, OURS)
    seed = start("foo", *foo.options)
    start("bar", "--seed", seed.address, **bar.environment).says("joined ring test: 2 members: bar, foo")
    told = answer(cli(*nobody.options, "-p", seed.port, "members"))
    assert [each["name"] for each in told] == ["bar", "foo"]
    assert answer(cli("-p", seed.port, "ping", env=environment(**nobody.environment)))["name"] == "foo"


def test_tls_that_fails_is_exit_5(start: Starter, tmp_path: Path) -> None:
    ours, theirs = issued(tmp_path, OURS, "foo"), issued(tmp_path, THEIRS, "x")
    node = start("foo", *ours.options)
    assert failure(cli(*theirs.options, "-p", node.port, "ping")) == (5, "tls")
    plain = start("plain")
    assert failure(cli(*ours.options, "-p", plain.port, "ping")) == (5, "tls")
    code, _ = failure(cli("-p", node.port, "ping"))
    assert code == 6  # what a plain client sees is no protocol that it knows
    shown = cli("-o", "table", "-p", node.port, "ping")
    assert "TLS on at one side only?" in shown.stderr


def test_a_node_whose_certificate_is_for_another_name_is_not_asked(start: Starter, tmp_path: Path) -> None:
    node = start("foo", *issued(tmp_path, OURS, "bar").options)
    asked = cli(*issued(tmp_path, OURS, "cli").options, "-p", node.port, "ping")
    assert asked.returncode == 5
    assert "the certificate of 'foo' is for bar" in asked.stdout


@pytest.mark.parametrize("command", [("ping",), ("start", "x@127.0.0.1:0", "--ring", "r")])
def test_files_that_cannot_be_used_are_named(command: tuple[str, ...], tmp_path: Path) -> None:
    files = issued(tmp_path, OURS, "foo")
    two = cli(*files.options[:4], "-o", "table", *command)
    assert two.returncode == 2
    assert "--tls-ca is missing" in two.stderr
    files.key.chmod(0o640)
    refused = cli(*files.options, "-o", "table", *command)
    assert refused.returncode == 5
    assert f"chmod 600 {files.key}" in refused.stderr
    assert "Traceback" not in two.stderr + refused.stderr


# -- cookies


OLD, NEW = "the old cookie of this test", "the new cookie of this test"


class CookieFiles:
    """Two files of a node; what is written into them it reads at SIGHUP."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / "first", folder / "second"]
        for path in self.paths:
            path.touch(0o600)
        self.write(OLD, OLD)

    def write(self, first: str, second: str) -> None:
        for path, cookie in zip(self.paths, (first, second), strict=True):
            path.write_text(f"{cookie}\n")

    @property
    def options(self) -> list[str]:
        return [part for path in self.paths for part in ("--cookie-file", str(path))]


def test_cookies_change_while_nodes_run(start: Starter, tmp_path: Path) -> None:
    cookies = CookieFiles(tmp_path)
    node = start("node", *cookies.options, CLUSTERKIT_COOKIE="")
    old, new = (environment(CLUSTERKIT_COOKIE=cookie) for cookie in (OLD, NEW))
    assert answer(cli("-p", node.port, "ping", env=old))["name"] == "node"
    assert failure(cli("-p", node.port, "ping", env=new)) == (5, "cookie")
    for written, accepted, refused, count in (((OLD, NEW), (old, new), (), 2), ((NEW, NEW), (new,), (old,), 1)):
        cookies.write(*written)
        node.process.send_signal(signal.SIGHUP)
        node.says(f"SIGHUP: read {count} cookie")
        for env in accepted:
            assert answer(cli("-p", node.port, "ping", env=env))["name"] == "node"
        for env in refused:
            assert failure(cli("-p", node.port, "ping", env=env)) == (5, "cookie")
    assert (
        answer(cli(*cookies.options, "-p", node.port, "ping", env=environment(CLUSTERKIT_COOKIE="")))["name"] == "node"
    )


def test_a_fault_in_a_cookie_file_is_logged_and_the_old_cookies_stay(start: Starter, tmp_path: Path) -> None:
    cookies = CookieFiles(tmp_path)
    node = start("node", *cookies.options)
    node.says("listens on")
    cookies.write(NEW, "short")
    node.process.send_signal(signal.SIGHUP)
    said = node.says("error: the cookies stay as they are")
    assert f"the cookie of {cookies.paths[1]} cannot be used" in said
    assert NEW not in said
    cookies.write(NEW, NEW)
    cookies.paths[0].chmod(0o644)
    node.process.send_signal(signal.SIGHUP)
    node.says("others may read or write the cookie file")
    assert answer(cli("-p", node.port, "ping", env=environment(CLUSTERKIT_COOKIE=OLD)))["name"] == "node"


def test_two_nodes_change_their_cookie_and_stay_together(start: Starter, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.append(CookieFiles(tmp_path / name))
    one = start("one", *files[0].options)
    two = start("two", *files[1].options, "--seed", one.address)
    two.says("joined ring test: 2 members")
    for step in ((OLD, NEW), (NEW, OLD), (NEW, NEW)):
        for node, cookies in zip((one, two), files, strict=True):
            seen = node.printed.count("SIGHUP")
            cookies.write(*step)
            node.process.send_signal(signal.SIGHUP)
            eventually(partial(read_again, node, seen), "the cookies are read")
    eventually(lambda: "two" in told(one.port) and "one" in told(two.port), "both alive, by the new cookie")
    assert "is down" not in one.printed + two.printed


def read_again(node: Started, before: int) -> bool:
    return node.printed.count("SIGHUP") > before


def told(port: int) -> list[str]:
    """The names of those that a node calls alive."""
    listed = answer(cli("-p", port, "members", env=environment(CLUSTERKIT_COOKIE=NEW)))
    return [each["name"] for each in listed if each["state"] == "alive"]
