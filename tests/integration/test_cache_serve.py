"""`clusterkit cache serve` as a process of its own: it answers, and ends within two seconds whatever waits for it."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import Authority
from tests.integration.test_cli import COMMAND, PATIENCE, cli, environment, eventually

LOADS = "scores=tests.integration.http_front:load"
BLOCKS = "blocked=tests.integration.http_front:block"
HTTP = ("--http", "127.0.0.1:0")
AT_ONCE = 2.0  # seconds from the signal to the end, as promised


class Serving:
    """One node that serves a cache; what it prints is in a file."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        command = [*COMMAND, "cache", "serve", f"{name}@127.0.0.1:0", "--ring", "test", *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def says(self, words: str) -> str:
        """Wait until it says these words; return what comes after them on the line."""

        def look() -> bool:
            return words in self.log.read_text() or self.process.poll() is not None

        eventually(look, f"{words!r} of {self.name}")
        text = self.log.read_text()
        assert words in text, text
        return text.partition(words)[2].partition("\n")[0]

    @property
    def seed(self) -> tuple[str, str]:
        return "--seed", self.says("listens on ")

    def client(self, **options: Any) -> httpx.Client:
        base = self.says("answers HTTP on ")
        return httpx.Client(base_url=base, timeout=PATIENCE, trust_env=False, **options)

    def connect(self) -> socket.socket:
        url = httpx.URL(self.says("answers HTTP on "))
        return socket.create_connection((url.host, url.port), timeout=PATIENCE)

    def ends_at_once(self) -> str:
        """Send SIGTERM; it must end in order within the promised time. Return what it printed."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        took = time.monotonic() - began
        text = self.log.read_text()
        assert code == 0, text
        assert re.search("^(left|ended) after ", text, re.MULTILINE), text
        assert took < AT_ONCE, text
        return text

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


Starter = Callable[..., Serving]


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> Iterator[Starter]:
    running: list[Serving] = []

    def start(name: str, *options: str) -> Serving:
        running.append(Serving(tmp_path, name, *options))
        return running[-1]

    yield start
    for each in running:
        each.end()


# -- it answers


def test_four_servers_and_a_front_that_only_asks(start: Starter) -> None:
    first = start("one", "--group", LOADS)
    for name in ("two", "three", "four"):
        start(name, *first.seed, "--group", LOADS).says("caches scores")
    front = start("front", *first.seed, "--group", "scores", "--no-own", *HTTP)
    with front.client() as client:
        for number in range(20):
            answers = [client.get("/api", params={"key": f"echo:{number}"}) for _ in range(2)]
            assert [answer.text for answer in answers] == [str(number)] * 2
            assert [answer.headers["x-cache"] for answer in answers] == ["load", "peer"]


def test_groups_keep_values_for_as_long_as_was_said(start: Starter) -> None:
    node = start("a", "--group", LOADS, "--group", LOADS.replace("scores", "more"), "--max-bytes", "100000", *HTTP)
    assert node.says("caches ") == "scores, more"
    with node.client() as client:
        for group in ("scores", "more"):
            assert client.get(f"/api/{group}?key=text").headers["x-cache"] == "load"
            assert client.get(f"/api/{group}?key=text").headers["x-cache"] == "hit"
        assert client.get("/api/scores?key=size:200000").headers["x-cache"] == "load"
        assert client.get("/api/scores?key=size:200000").headers["x-cache"] == "load"  # more than it may keep


def test_nodes_with_certificates(start: Starter, tmp_path: Path) -> None:
    authority = Authority()
    options = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        options[name] = authority.files(tmp_path / name, name).options
    owner = start("a", "--group", LOADS, *options["a"])
    asker = start("b", *owner.seed, "--group", "scores", "--no-own", *HTTP, *options["b"])
    with asker.client() as client:
        assert client.get("/api?key=text").headers["x-cache"] == "load"


def test_a_port_that_is_taken_is_said_so(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("cache", "serve", "a@127.0.0.1:0", "--ring", "r", "--group", LOADS, "--http", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"clusterkit: cannot serve HTTP on 127.0.0.1:{port}: address already in use",
        "hint: take another port, or port 0 for a free one",
    ]


# -- it ends


def test_it_ends_with_a_connection_open(start: Starter) -> None:
    node = start("a", "--group", LOADS, *HTTP)
    with node.client() as client, node.connect(), node.connect() as half:
        assert client.get("/api?key=text").status_code == 200
        half.sendall(b"GET /api?key=te")
        node.ends_at_once()


@pytest.mark.parametrize(("group", "sign"), [(LOADS, "it hangs"), (BLOCKS, "it blocks")])
def test_it_ends_while_a_loader_hangs_and_says_so_to_who_waits(start: Starter, group: str, sign: str) -> None:
    node = start("a", "--group", group, *HTTP)
    with node.client() as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.get, "/api?key=hangs")
        node.says(sign)  # a second request might not be there yet when the node is told to end
        text = node.ends_at_once()
        assert waiting.result(PATIENCE).status_code == 503
    assert "error" not in text


def test_it_ends_while_another_node_waits_for_it(start: Starter) -> None:
    owner = start("owner", "--group", LOADS)
    asker = start("asker", *owner.seed, "--group", LOADS, "--no-own", *HTTP)
    with asker.client() as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.get, "/api?key=hangs")
        owner.says("it hangs")
        owner.ends_at_once()
        asker.says("it hangs")  # nobody owns the key any more
        asker.ends_at_once()
        assert waiting.result(PATIENCE).status_code == 503


def test_it_ends_while_a_client_does_not_read(start: Starter) -> None:
    node = start("a", "--group", LOADS, *HTTP)
    with node.client() as client:
        assert client.get("/api?key=size:1000000").status_code == 200
    with node.connect() as deaf:
        deaf.sendall(b"GET /api?key=size:1000000 HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert deaf.recv(1)
        node.ends_at_once()


def test_it_ends_while_those_that_would_take_over_do_not_answer(start: Starter) -> None:
    node = start("a", "--group", LOADS, *HTTP)
    heir = start("b", *node.seed, "--group", LOADS)
    heir.says("caches scores")
    with node.client() as client, ThreadPoolExecutor(1) as threads:
        for number in range(20):
            assert client.get(f"/api?key=echo:{number}").text == str(number)
        os.kill(heir.process.pid, signal.SIGSTOP)
        waiting = threads.submit(client.get, "/api?key=hangs")
        node.says("it hangs")
        node.ends_at_once()
        assert waiting.result(PATIENCE).status_code == 503
