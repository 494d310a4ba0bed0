"""What a terminal shows: of command lines in a cluster of three nodes, and of two prompts; without what differs from run to run."""  # noqa: INP001 - beside the pages

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import click

from clusterkit.cli.tables import table

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = "100"
COOKIE = "an example, and no secret at all"
PORTS = {"alpha": 7022, "bravo": 7023, "charlie": 7024}
HOME = "/home/ada"
PATIENCE = 60.0

APP = """\
from clusterkit import GenServer, Node, on


class Greeter(GenServer):
    @on("hello")
    async def hello(self, data: str) -> str:
        return f"hello {data}, this is {self.node.id.name}"


async def main(node: Node) -> None:
    await node.start(Greeter(), name="greeter")
    await node.services.register("greeter", "greetings", meta={"language": "en"})
"""
_LOADER = """\
def load(student: str) -> int:
    return {"ada": 97, "bob": 61}[student]
"""


class Cluster:
    """Three nodes; what they print is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, str] = {}
        """Of each node what it was started by, and said."""
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        (folder / "scores.py").write_text(_LOADER)
        (folder / "greetings.py").write_text(APP)
        scripts = folder / "bin"
        scripts.mkdir()
        script = scripts / "clusterkit"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clusterkit "$@"\n')
        script.chmod(0o700)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLUSTERKIT_", "XDG_"))}
        self.environ = kept | {
            "CLUSTERKIT_COOKIE": COOKIE,
            "PATH": os.pathsep.join([str(scripts), kept.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "HOME": str(folder),
            "TERM": "xterm",
            "NO_COLOR": "1",
        }
        cookie = folder / ".staging-cookie"
        cookie.touch(0o600)
        cookie.write_text(COOKIE)

    def __enter__(self) -> Self:
        """Start them, each when the one before has joined."""
        app = ["--app", "greetings:main"]
        self._start("alpha", "start", *app)
        self._start("bravo", "start", *app)
        self._start("charlie", "cache", "serve", "--group", "scores=scores:load")
        return self

    def _start(self, name: str, *command: str) -> None:
        seed = [] if name == "alpha" else ["--seed", f"127.0.0.1:{PORTS['alpha']}"]
        typed = ["clusterkit", *command, f"{name}@127.0.0.1:{PORTS[name]}", "--ring", "demo", *seed]
        node = subprocess.Popen(  # noqa: S603 - what is run stands here
            typed, env=self.environ, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._nodes[name] = node
        watchdog = threading.Timer(PATIENCE, node.kill)
        watchdog.start()
        assert node.stdout is not None
        said = [f"$ {' '.join(typed)}\n"]
        for line in node.stdout:
            said.append(line)
            if "look: clusterkit" in line:
                self.said[name] = "".join(said)
                break
        else:
            raise SystemExit(f"{name} did not start: is port {PORTS[name]} free?")
        watchdog.cancel()

    def hang(self, name: str) -> None:
        """Stop it by SIGSTOP."""
        self._nodes[name].send_signal(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        """End them."""
        for node in self._nodes.values():
            node.kill()
            node.communicate()

    # -- what is typed

    def printed(self, line: str) -> tuple[str, int]:
        """What a line prints on a terminal, and the exit code; of a pipeline that of its first command."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, int(COLUMNS), 0, 0))
        asked = subprocess.Popen(  # noqa: S603 - what is run stands here
            ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],  # noqa: S607 - wherever it is
            env=self.environ,
            cwd=self.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        watchdog = threading.Timer(PATIENCE, asked.kill)
        watchdog.start()
        shown = b"".join(_read(ours)).decode()
        watchdog.cancel()
        return self._without_here(shown.replace("\r\n", "\n")), asked.wait()

    def _without_here(self, text: str) -> str:
        """Without the names of this machine's folders."""
        return text.replace(str(self.folder), HOME).replace(sys.executable, "/usr/bin/python3")


def _read(terminal: int) -> Iterator[bytes]:
    try:
        while data := os.read(terminal, 65536):
            yield data
    except OSError:  # the other end closed
        return
    finally:
        os.close(terminal)


# -- a prompt


class Prompt:
    """A prompt on a terminal that can do nothing, so that what it shows can be read; it hosts a node."""

    def __init__(self, folder: Path) -> None:
        self.shown = "$ clusterkit\n"
        self._unread = b""
        self._terminal, theirs = pty.openpty()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLUSTERKIT_", "XDG_"))}
        environ = kept | {"CLUSTERKIT_COOKIE": COOKIE, "TERM": "dumb", "NO_COLOR": "1", "HOME": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clusterkit"],
            env=environ | {"PYTHONPATH": str(ROOT), "COLUMNS": COLUMNS},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.until(r"> ")

    def type(self, line: str, until: str = r"> ") -> None:
        """Type a line, and read on until the prompt comes again, or what is told."""
        os.write(self._terminal, f"{line}\r".encode())
        echoed = len(self.shown)
        self.until(until)
        self.shown = self.shown[:echoed] + self.shown[echoed:].replace(f"{line}\n{line}\n", f"{line}\n")

    def until(self, pattern: str) -> None:
        """Read on until what is shown ends with a pattern."""
        begun = len(self.shown)
        deadline = threading.Timer(PATIENCE, self._process.kill)
        deadline.start()
        while not re.search(f"{pattern}$", self.shown[begun:]):
            text = os.read(self._terminal, 65536).decode()
            self.shown += re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text).replace("\r", "")
        deadline.cancel()

    def end(self) -> None:
        """Leave it."""
        os.write(self._terminal, b"exit\r")
        with contextlib.suppress(OSError):
            while os.read(self._terminal, 65536):
                pass
        os.close(self._terminal)
        self._process.wait(PATIENCE)


def two_prompts(folder: Path, same: "Same") -> str:
    """Two terminals and a few lines."""
    one, other = Prompt(folder), Prompt(folder)
    one.type("start_cluster alice@127.0.0.1:7022")
    other.type("start_cluster bob@127.0.0.1:7023")
    other.type("join_cluster 127.0.0.1 7022")
    other.type("cluster_members")
    one.type("has bob")
    other.end()
    one.end()
    parts = [
        "Two terminals and a few lines make a cluster. The one:",
        "",
        "```console",
        same(one.shown).rstrip(),
        "```",
        "",
    ]
    return "\n".join([*parts, "The other:", "", "```console", same(other.shown).rstrip(), "```", ""])


# -- what differs from run to run


class Same:
    """Replaces what differs by what does not, of the same kind."""

    def __init__(self) -> None:
        self._incarnations: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._ports: dict[str, str] = {}
        self._runs: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """One text; the same thing is replaced by the same thing throughout."""
        text = re.sub(r'"cursor": \d+', '"cursor": 1', click.unstyle(text))
        text = re.sub(r'"(seconds|rtt|since|uptime)": [\d.e-]+', r'"\1": 0.0006', text)
        text = re.sub(r'"at": [\d.]+', '"at": 1893456000.0', text)
        text = re.sub(r"\b\d{17,20}\b", self._incarnation, text)
        text = re.sub(r"\b[0-9a-f]{16}\b", self._digest, text)
        text = re.sub(r"(?:(?<=127\.0\.0\.1:)|(?<=on port ))[3-6]\d{4}\b", self._port, text)
        text = re.sub(r"\bcli-[0-9a-f]{12}\b", "cli-0123456789ab", text)
        text = re.sub(r"\b\d+(?:\.\d+)?( ?)ms\b", r"0.6\1ms", text)
        text = re.sub(r"\b(?:\d+(?:\.\d+)?s|\d+m\d\ds)\b", "4.2s", text)
        text = re.sub(r"\b\d+\.\d+ s\b", "4.2 s", text)
        text = re.sub(r"\b(up|process|kill -9) \d[\d.]*\w*", r"\1 42", text)
        text = re.sub(r"(?<=\brun )[0-9a-f]{6}\b", self._run, text)
        text = re.sub(r"\b20\d\d-\d\d-\d\dT[\d:.]+", "2030-01-01T12:00:00.000", text)
        text = re.sub(r"\b\d\d:\d\d:\d\d\b", "12:00:00", text)
        return _laid_out(text)

    def _incarnation(self, found: "re.Match[str]") -> str:
        return self._incarnations.setdefault(found[0], f"{900_000_000_000_000_001 + len(self._incarnations)}")

    def _run(self, found: "re.Match[str]") -> str:
        return self._runs.setdefault(found[0], f"a{len(self._runs):05}")

    def _port(self, found: "re.Match[str]") -> str:
        return self._ports.setdefault(found[0], str(40_001 + len(self._ports)))

    def _digest(self, found: "re.Match[str]") -> str:
        return self._digests.setdefault(found[0], f"{0x5EED_0000_0000_0001 + len(self._digests):016x}")


def _laid_out(text: str) -> str:
    """Lay out each table anew: its columns are as wide as what stands in them now."""
    blocks = re.split(r"\n(?=\n)|(?<=\n)\n", text)
    return "\n".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    parts: list[list[str]] = [[]]
    for line in block.splitlines():
        if line.isupper() and len(_cells(line)) > 1:  # the head of a table
            parts.append([])
        parts[-1].append(line)
    return "\n".join(line for part in parts for line in _table(part))


def _table(lines: list[str]) -> list[str]:
    """Lay out lines that begin with a table, if they do."""
    rows = [_cells(line) for line in lines]
    end = next((number for number, row in enumerate(rows) if len(row) < 2), len(rows))
    if end < 2 or len({len(row) for row in rows[:end]}) > 1 or not lines[0].isupper():
        return lines
    return [*click.unstyle(table(rows[0], rows[1:end])).splitlines(), *lines[end:]]


def _cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())
