"""The command line against real node processes: what it says, how fast, and with which exit code."""

import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COOKIE = "the cookie of the command line's tests"
COMMAND = [sys.executable, "-m", "clusterkit"]
START_UP = 2.0  # seconds that a Python may take to start on a busy machine
PATIENCE = 15.0


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CLUSTERKIT_")}
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return kept | {"PYTHONPATH": path, "CLUSTERKIT_COOKIE": COOKIE} | more


def cli(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert told["ok"] is True
    return told["data"]


def eventually(look: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.02)
    return found


class Started:
    """A `clusterkit start` in a process of its own; what it prints is in a file."""

    def __init__(
        self, folder: Path, name: str, *options: object, port: int = 0, ring: str = "test", **more: str
    ) -> None:
        self.name = name
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "start", f"{name}@127.0.0.1:{port}", "--ring", ring, *map(str, options)],
                env=environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def says(self, text: str) -> str:
        def look() -> bool:
            return text in self.printed or self.process.poll() is not None

        eventually(look, f"{text!r} of {self.name} in {self.printed!r}")
        assert text in self.printed, self.printed
        return self.printed

    @property
    def port(self) -> int:
        first = self.says("listens on").splitlines()[0]
        return int(first.rpartition(":")[2])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ends(self, timeout: float = PATIENCE) -> tuple[int, list[str]]:
        return self.process.wait(timeout), self.printed.splitlines()

    def signalled(self, which: signal.Signals, timeout: float) -> tuple[int, float]:
        start = time.monotonic()
        self.process.send_signal(which)
        return self.process.wait(timeout), time.monotonic() - start

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


Starter = Callable[..., Started]


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> Iterator[Starter]:
    running: list[Started] = []

    def start(name: str, *options: object, **more: Any) -> Started:
        running.append(Started(tmp_path, name, *options, **more))
        return running[-1]

    yield start
    for each in running:
        each.end()


@pytest.fixture(scope="module", name="three")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Started]]:
    """Three nodes of one ring, started by what the command line itself says."""
    folder = tmp_path_factory.mktemp("three")
    alpha = Started(folder, "alpha")
    bravo, charlie = (Started(folder, name, "--seed", alpha.address) for name in ("bravo", "charlie"))
    bravo.says("joined ring test")
    charlie.says("joined ring test")
    yield [alpha, bravo, charlie]
    for each in (alpha, bravo, charlie):
        each.end()


def members(port: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer(cli("-p", port, "members"))
    return found


# -- questions


def test_three_nodes_agree_on_their_members(three: list[Started]) -> None:
    def lists() -> list[list[tuple[Any, ...]]]:
        return [
            [(each["name"], each["port"], each["incarnation"], each["state"]) for each in members(node.port)]
            for node in three
        ]

    first, second, third = eventually(lambda: (found := lists())[0] == found[1] == found[2] and found, "one list")
    assert first == second == third
    assert [(name, state) for name, _, _, state in first] == [(node.name, "alive") for node in three]
    assert [port for _, port, _, _ in first] == [node.port for node in three]


def test_ping_tells_who_answers(three: list[Started]) -> None:
    node = three[1]
    told = answer(cli("-I", node.name, "-p", node.port, "ping"))
    assert (told["name"], told["address"], told["ring"]) == (node.name, node.address, "test")
    assert 0 < told["seconds"] < 5


def test_settings_come_from_the_environment_too(three: list[Started], tmp_path: Path) -> None:
    file = tmp_path / "cookie"
    file.touch(0o600)
    file.write_text(COOKIE + "\r\n")
    env = environment(
        CLUSTERKIT_COOKIE_FILE=str(file),
        CLUSTERKIT_PORT=str(three[0].port),
        CLUSTERKIT_HOST="localhost",
        CLUSTERKIT_INSTANCE="alpha",
    )
    del env["CLUSTERKIT_COOKIE"]
    assert answer(cli("ping", env=env))["name"] == "alpha"
    assert cli("-I", "bravo", "ping", env=env).returncode == 6


def test_on_a_terminal_it_is_a_table(three: list[Started]) -> None:
    code, shown = in_terminal("-p", three[0].port, "members")
    assert code == 0
    head = ["NAME", "ADDRESS", "STATE", "RTT", "SINCE", "SHARE", "QUEUE", "INCARNATION"]
    assert shown.splitlines()[0].split() == head
    assert "3 members: 3 alive, as alpha sees it" in shown


def in_terminal(*arguments: object) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; its colours are left out."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, deadline = "", time.monotonic() + PATIENCE
    try:
        while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            shown += os.read(ours, 65536).decode(errors="replace")
    except OSError:  # the other end closed
        pass
    finally:
        os.close(ours)
    assert time.monotonic() < deadline, shown
    return process.wait(PATIENCE), re.sub(r"\x1b\[[0-9;]*m", "", shown)


def failure(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    assert "Traceback" not in done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["error"]["message"]
    return done.returncode, told["error"]["code"]


def test_another_cookie_is_exit_5(three: list[Started]) -> None:
    done = cli("-p", three[0].port, "ping", env=environment(CLUSTERKIT_COOKIE="quite another cookie"))
    assert failure(done) == (5, "cookie")


@pytest.mark.parametrize("cookie", ["", "short"])
def test_no_cookie_or_a_short_one_is_exit_5(cookie: str) -> None:
    assert failure(cli("ping", env=environment(CLUSTERKIT_COOKIE=cookie))) == (5, "cookie")


def test_another_instance_is_exit_6(three: list[Started]) -> None:
    assert failure(cli("-I", "bravo", "-p", three[0].port, "ping")) == (6, "wrong-node")


def test_a_dead_port_is_exit_3() -> None:
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        done = cli("-p", bound.getsockname()[1], "-o", "table", "ping")
    assert (done.returncode, done.stdout) == (3, "")
    error, hint = done.stderr.splitlines()
    assert "connection refused" in error
    assert "clusterkit start" in hint


def test_a_host_without_address_is_exit_3() -> None:
    assert failure(cli("-H", "nosuch.invalid", "ping")) == (3, "unreachable")


def test_another_protocol_is_exit_6() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            stranger, _ = server.accept()
            stranger.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            stranger.recv(1)
            stranger.close()

        thread = threading.Thread(target=greet)
        thread.start()
        done = cli("-p", server.getsockname()[1], "ping")
        thread.join(PATIENCE)
    assert failure(done) == (6, "wrong-protocol")


def test_a_hung_node_is_exit_4_in_time(start: Starter) -> None:
    node = start("hung")
    port = node.port
    node.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    done = cli("-p", port, "-t", "0.5", "members")
    assert time.monotonic() - begin < 0.5 + START_UP
    assert failure(done) == (4, "timeout")


def test_ctrl_c_is_exit_130(start: Starter) -> None:
    node = start("hung")
    port = node.port
    node.process.send_signal(signal.SIGSTOP)
    asking = subprocess.Popen([*COMMAND, "-p", str(port), "--debug", "ping"], env=environment(), stderr=subprocess.PIPE)
    assert asking.stderr is not None
    assert b"selector" in asking.stderr.readline()  # it asks now
    asking.send_signal(signal.SIGINT)
    assert asking.wait(PATIENCE) == 130
    asking.stderr.close()


def test_without_debug_there_is_no_traceback_and_with_it_there_is() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        done = cli("--debug", "-p", bound.getsockname()[1], "ping")
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with socket.socket() as bound, os.fdopen(writer, "wb") as closed:
        bound.bind(("127.0.0.1", 0))
        asked = [*COMMAND, "-p", str(bound.getsockname()[1]), "ping"]
        done = subprocess.run(
            asked, env=environment(), stdout=closed, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    assert (done.returncode, done.stderr) == (3, b"")


# -- keygen


def test_a_made_key_starts_a_cluster(start: Starter, tmp_path: Path) -> None:
    file = tmp_path / "cookie"
    assert cli("keygen", file).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    node = start("keyed", "--cookie-file", file, CLUSTERKIT_COOKIE="")
    assert answer(cli("--cookie-file", file, "-p", node.port, "ping"))["name"] == "keyed"
    assert failure(cli("-p", node.port, "ping")) == (5, "cookie")
    file.chmod(0o640)
    refused = cli("-o", "table", "--cookie-file", file, "-p", node.port, "ping")
    assert refused.returncode == 5
    assert f"hint: chmod 600 {file}" in refused.stderr
    again = cli("keygen", file)
    assert again.returncode == 2
    assert "--force" in again.stderr


# -- start


def test_a_state_directory_is_one_nodes_and_seeds_may_stand_in_the_environment(start: Starter, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    a = start("a", "--state-dir", kept)
    b = start("b", CLUSTERKIT_SEEDS=f"127.0.0.1:1, {a.address}", CLUSTERKIT_STATE_DIR=str(tmp_path / "other"))
    b.says("joined ring test: 2 members: a, b")
    assert (tmp_path / "other").is_dir()
    code, printed = start("a", "--state-dir", kept, ring="elsewhere").ends()
    assert (code, len(printed)) == (1, 2)
    assert "is in use by process" in printed[0]
    code, printed = start("c", CLUSTERKIT_SEEDS="nonsense").ends()
    assert code == 2
    assert "CLUSTERKIT_SEEDS" in printed[0]


def test_a_node_that_gets_sigterm_leaves_within_two_seconds(start: Starter) -> None:
    seed = start("seed")
    for name, which in (("first", signal.SIGTERM), ("second", signal.SIGINT)):
        node = start(name, "--seed", seed.address)
        node.says("joined ring test: 2 members")
        seed.says(f"{name} came")
        code, seconds = node.signalled(which, 2.0)
        assert (code, seconds < 2.0) == (0, True)
        assert f"{which.name}: leaving ring test" in node.printed
        seed.says(f"{name} left")
    assert [each["name"] for each in members(seed.port)] == ["seed"]


def test_a_node_leaves_within_12_seconds_though_a_peer_hangs(start: Starter) -> None:
    seed = start("seed")
    hung, node = (start(name, "--seed", seed.address) for name in ("hung", "leaver"))
    eventually(lambda: all(len(members(each.port)) == 3 for each in (seed, hung, node)), "three members")
    hung.process.send_signal(signal.SIGSTOP)
    code, seconds = node.signalled(signal.SIGTERM, 12.0)
    assert (code, seconds < 12.0) == (0, True)
    seed.says("leaver left")


SLOW = """
import asyncio, clusterkit

class Slow(clusterkit.GenServer):
    async def terminate(self, reason):
        print("terminating", flush=True)
        await asyncio.sleep(60)

async def main(node):
    await node.start(Slow())
    print("app runs", flush=True)

async def failing(node):
    print(len(node.ring), "members", flush=True)
    raise LookupError("no such thing")
"""


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(start: Starter, tmp_path: Path, which: signal.Signals) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW)
    node = start(
        "slow", "--app", "slow_app:main", PYTHONPATH=os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    )
    node.says("app runs")
    node.process.send_signal(which)
    node.says("terminating")
    assert node.signalled(which, 1.0)[0] == -which


def test_an_app_that_raises_ends_the_node_and_it_leaves(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW)
    seed = start("seed")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    node = start("fails", "--seed", seed.address, "--app", "slow_app:failing", PYTHONPATH=path)
    code, printed = node.ends()
    assert code == 1
    assert printed[-3] == "2 members"
    assert printed[-2] == "clusterkit: the app slow_app:failing ended in LookupError: no such thing"
    assert printed[-1].startswith("hint: ")
    eventually(lambda: [each["name"] for each in members(seed.port)] == ["seed"], "it left")


def test_the_example_app_greets(start: Starter) -> None:
    seed = start("seed", "--app", "examples.greeter_app:main")
    seed.says("seed says: hello seed, how are you?")
    start("other", "--seed", seed.address, "--app", "examples.greeter_app:main").says(
        "seed says: hello other, how are you?"
    )


@pytest.mark.parametrize(
    ("options", "more", "code", "said"),
    [
        (("--seed", "{seed}"), {"CLUSTERKIT_COOKIE": "quite another cookie"}, 5, "the seed refused the cookie"),
        (("--seed", "{seed}"), {"ring": "other"}, 6, "'test', not in 'other'"),
        (("--seed", "{seed}"), {"name": "alpha"}, 1, "another live node is named 'alpha'"),
        (("--seed", "nonsense"), {}, 2, "address 'nonsense': no port"),
        ((), {"port": "{port}"}, 1, "address already in use"),
        ((), {"CLUSTERKIT_COOKIE": "short"}, 5, "16 are the least"),
        ((), {"CLUSTERKIT_COOKIE": ""}, 5, "no cookie was given"),
    ],
)
def test_a_node_that_cannot_start_says_why(
    three: list[Started], start: Starter, options: tuple[str, ...], more: dict[str, str], code: int, said: str
) -> None:
    alpha = three[0]
    given = {key: value.format(port=alpha.port) for key, value in more.items()}
    node = start(given.pop("name", "new"), *(option.format(seed=alpha.address) for option in options), **given)
    ended, printed = node.ends()
    assert ended == code
    assert printed[-2].startswith("clusterkit: ")
    assert said in printed[-2]
    assert printed[-1].startswith("hint: ")


def test_a_seed_that_is_not_there_is_waited_for(start: Starter) -> None:
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        node = start("early", "--seed", f"127.0.0.1:{port}", "--join-timeout", "0.3")
        node.says("not joined: no seed took early into ring 'test' within 0.3 s")
        node.says("it waits for a seed")
    start("late", port=port).says("early came")
    node.says("late came")


def test_a_reader_that_goes_away_does_not_end_a_node(three: list[Started]) -> None:
    node = subprocess.Popen(
        [*COMMAND, "start", "unread@127.0.0.1:0", "--ring", "alone"], env=environment(), stdout=subprocess.PIPE
    )
    try:
        assert node.stdout is not None
        port = int(node.stdout.readline().decode().rpartition(":")[2])
        node.stdout.close()
        assert answer(cli("-p", port, "ping"))["name"] == "unread"
        node.send_signal(signal.SIGTERM)
        assert node.wait(2.0) == 0
    finally:
        node.kill()
        node.wait(PATIENCE)


# -- the entry point


def test_without_the_extra_it_says_what_is_missing() -> None:
    program = "import sys; sys.modules['click'] = None; from clusterkit.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "clusterkit: the command line needs the [cli] extra",
        "hint: pip install 'clusterkit[cli]'",
    ]


def test_a_question_does_not_load_rich() -> None:
    program = (
        "import sys; from clusterkit.cli.main import run; code, _ = run(['-p', '1', 'ping']);"
        "assert code == 3, code; assert 'rich' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
