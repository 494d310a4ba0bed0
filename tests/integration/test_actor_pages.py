"""The programs of the pages on actors run as they stand there, print what the page says, and pass mypy --strict.

The block of text behind a program is what it prints, with ``...`` for what differs from run to run.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clusterkit import Node
from tests.conftest import COOKIE, eventually

ROOT = Path(__file__).parents[2]
PAGES = ("actors", "coming-from-erlang", "coming-from-asyncio")
ENVIRONMENT = os.environ | {"CLUSTERKIT_COOKIE": COOKIE, "PYTHONPATH": str(ROOT)}
FENCED = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```(?:\n+```text\n(?P<prints>.*?)^```)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of Python of a page: under which heading, and what it prints, if it says so."""

    page: str
    heading: str
    code: str
    prints: str | None

    def __str__(self) -> str:
        return f"{self.page}: {self.heading}"


def blocks(page: str) -> list[Block]:
    found, heading = [], ""
    for match in FENCED.finditer((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        heading = match["heading"] or heading
        if match["code"]:
            found.append(Block(page, heading, match["code"], match["prints"]))
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
PROGRAMS = [block for block in BLOCKS if block.prints is not None]
[APP, TEST] = [block for block in BLOCKS if block.prints is None]


def test_every_page_shows_something() -> None:
    assert {block.page for block in BLOCKS} == set(PAGES)
    assert len([block for block in PROGRAMS if block.page == "actors"]) == 8
    assert "sys.argv" in APP.code
    assert "isolated" in TEST.code


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    (path := tmp_path / "program.py").write_text(block.code)
    done = subprocess.run(
        [sys.executable, path], env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False
    )
    assert block.prints is not None
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(re.escape(block.prints).replace(r"\.\.\.", ".*"), done.stdout), done.stdout


def test_all_of_it_passes_mypy_strict(tmp_path: Path) -> None:
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"block_{number}.py").write_text(block.code)
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout


async def test_the_test_of_the_page_passes() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(TEST.code, "docs/actors.md", "exec"), names)
    async with asyncio.timeout(10):
        await names["test_counter"]()


@asynccontextmanager
async def app(path: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, path, *arguments, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    """A port that was free a moment ago: the two programs have to be told one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def waits_for_signals(process: int) -> bool:
    """Whether a process has a handler for SIGTERM, which Python alone has not."""
    [caught] = re.findall(r"^SigCgt:\t(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
async def test_the_application_runs_in_two_processes(tmp_path: Path) -> None:
    (path := tmp_path / "app.py").write_text(APP.code)
    said = re.findall(r"^\[\(.*$", (ROOT / "docs" / "actors.md").read_text(), re.MULTILINE)
    foo, bar = (f"127.0.0.1:{free_port()}" for _ in range(2))
    async with asyncio.timeout(30), app(path, f"foo@{foo}") as one:
        assert one.stdout is not None
        assert (await one.stdout.readline()).decode().strip() == said[0]
        async with app(path, f"bar@{bar}", foo) as other:
            assert other.stdout is not None
            assert (await other.stdout.readline()).decode().strip() == said[1]
            await eventually(lambda: waits_for_signals(other.pid))
            other.send_signal(signal.SIGINT)
            assert (await other.stdout.readline()).decode() == "ended by SIGINT\n"
            assert await other.wait() == 0
        await eventually(lambda: waits_for_signals(one.pid))
        one.send_signal(signal.SIGTERM)
        assert await one.wait() == 0


async def test_every_counter_of_a_node_is_explained() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    [table] = re.findall(r"^\| name \| counts \|\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    async with Node("a@127.0.0.1:0", cookie=COOKIE) as node:
        assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(node.stats())


def test_every_file_of_the_two_floors_is_in_the_picture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {path.name for floor in ("actors", "kernel") for path in (ROOT / "clusterkit" / floor).glob("[a-z]*.py")}
    assert files <= set(re.findall(r"\w+\.py", page.partition("```")[2].partition("```")[0]))


@pytest.mark.parametrize("page", ["actors", "guarantees", "coming-from-erlang", "coming-from-asyncio", "telemetry"])
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    path = ROOT / "docs" / f"{page}.md"
    for target, anchor in re.findall(r"\]\(([\w./-]*)#?([\w-]*)\)", path.read_text(encoding="utf-8")):
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor
