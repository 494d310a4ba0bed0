"""The rivals of the cache's benchmark: Redis from Debian with redis-py, and aiocache in memory.

The redis-server is a child process of our own that keeps nothing and ends with the run.
"""

import asyncio
import importlib
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cache_rounds import KEYS, SIZES, Get, Source, key_of

_START = 20.0  # seconds for a process to come up or end


def library(name: str) -> Any:
    """Import what the ``bench`` extra installs."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        sys.exit(f"no {name.partition('.')[0]} in this Python: pip install 'clusterkit[bench]'")


def redis_server() -> str:
    """Find the program, or say how to get it."""
    path = shutil.which("redis-server")
    if path is None:
        sys.exit(
            "no redis-server on this machine: apt-get install redis-server (the daemon that it begins stays unused)"
        )
    return path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def redis_options(port: int, folder: str) -> list[str]:
    """Options of a server that keeps nothing, listens on the loopback alone, and has a socket for ``--unix``.

    >>> redis_options(6379, "/tmp/x")[:4]
    ['--bind', '127.0.0.1', '--port', '6379']
    """
    quiet = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", f"{folder}/log"]
    return ["--bind", "127.0.0.1", "--port", str(port), "--unixsocket", f"{folder}/socket", "--dir", folder, *quiet]


@dataclass
class Theirs:
    """The rivals with the keys in them, and those that begin empty."""

    pid: int
    redis: Any
    redis_new: Any
    timed: Any
    untimed: Any
    new: Any

    async def fill(self) -> None:
        """Put the keys in."""
        source = Source()
        for size in SIZES:
            for number in range(KEYS):
                key = key_of(size, number)
                value = await source.load(key)
                for cache in (self.redis, self.timed, self.untimed):
                    await cache.set(key, value)
                    assert await cache.get(key) == value


@asynccontextmanager
async def rivals(*, unix: bool) -> AsyncIterator[Theirs]:
    """Run a redis-server of our own, with clients for two of its databases, and make aiocache's caches."""
    program, client_of, cache_of = redis_server(), library("redis.asyncio").Redis, library("aiocache").SimpleMemoryCache
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        where = {"unix_socket_path": f"{folder}/socket"} if unix else {"host": "127.0.0.1", "port": port}
        process = await asyncio.create_subprocess_exec(program, *redis_options(port, folder), stdin=subprocess.DEVNULL)
        same, new = client_of(**where), client_of(**where, db=1)
        try:
            if not await answers(same, process):
                sys.exit(f"redis-server did not start:\n{log_in(folder)}")
            caches = cache_of(), cache_of(timeout=None), cache_of(timeout=None)
            theirs = Theirs(process.pid, same, new, *caches)
            await theirs.fill()
            yield theirs
        finally:
            await same.aclose()
            await new.aclose()
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), _START)


def log_in(folder: str) -> str:
    """What the server wrote before it ended."""
    log = Path(folder, "log")
    return log.read_text() if log.exists() else "it wrote no log"


async def answers(client: Any, process: asyncio.subprocess.Process) -> bool:
    """Wait until the server answers; False when it ended, as it does when its port was taken meanwhile."""
    failed = library("redis").exceptions.ConnectionError
    async with asyncio.timeout(_START):
        while process.returncode is None:
            try:
                await client.ping()
                return True
            except failed:
                await asyncio.sleep(0.02)
    return False


def cache_aside(cache: Any, source: Source) -> Get:
    """What a program does that has a cache and loads by itself."""

    async def get(key: str) -> bytes:
        found: bytes | None = await cache.get(key)
        if found is None:
            found = await source.load(key)
            await cache.set(key, found)
        return found

    return get
