"""Four cache servers, one API front, a slow database: who asks it, how often, and what a dead server changes.

python -m examples.scores.run
"""

import asyncio
import json
import os
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from clusterkit.cli.cookie import new_cookie

ROOT = Path(__file__).parents[2]
LOADER = "scores=examples.scores.database:load"
SCORES = {"Tom": 630, "Jack": 589, "Sam": 567, "Zoë": 701, "AC/DC": 333} | {f"student {n}": 400 + n for n in range(20)}
AT_ONCE = 50


class Database:
    """The file, as the one sees it who made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE scores (student TEXT PRIMARY KEY, score INTEGER)")
            database.execute("CREATE TABLE asked (student TEXT)")
            database.executemany("INSERT INTO scores VALUES (?, ?)", SCORES.items())

    @property
    def asked(self) -> Counter[str]:
        """How often it was asked for each student that there is."""
        with closing(sqlite3.connect(self.path)) as database:
            return Counter(student for (student,) in database.execute("SELECT student FROM asked") if student in SCORES)


class Server:
    """One process: a `clusterkit cache serve`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    @classmethod
    async def start(cls, name: str, *options: str) -> "Server":
        command = ("-m", "clusterkit", "cache", "serve", f"{name}@127.0.0.1:0", "--ring", "scores", *options)
        pipe = asyncio.subprocess.PIPE
        return cls(name, await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=pipe))

    async def told(self, words: str) -> str:
        """Read until it says these words; return what comes after them."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            _, found, after = line.decode().strip().partition(words)
            if found:
                return after
        raise SystemExit(f"{self.name} ended before it said {words!r}")

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.communicate()


class Api:
    """The API, as a program of any language asks it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._threads = ThreadPoolExecutor(AT_ONCE)

    async def get(self, student: str) -> str:
        """Ask for a score; return it with where it came from, or why there is none."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._get, student)

    def _get(self, student: str) -> str:
        try:
            with urlopen(f"{self.url}/api?key={quote(student, safe='')}", timeout=10) as answer:  # noqa: S310 - our own
                return f"{json.load(answer)} ({answer.headers['X-Cache']})"
        except HTTPError as error:
            with error:
                return f"{error.code} ({json.load(error)['code']})"

    async def get_all(self, students: Iterable[str]) -> list[str]:
        """Ask for many at once."""
        return await asyncio.gather(*map(self.get, students))


async def show(api: Api, servers: list[Server], database: Database) -> None:
    now = asyncio.get_running_loop().time
    print(f"four cache servers, and an API on {api.url}")
    for student in ("Tom", "Tom", "Zoë", "AC/DC", "Nobody"):
        start = now()
        print(f"  {student}: {await api.get(student)}, {(now() - start) * 1000:.0f} ms")

    print(f"{AT_ONCE} at once ask for Jack, whom no server has yet")
    await api.get_all(["Jack"] * AT_ONCE)
    print(f"  the database was asked for Jack: {database.asked['Jack']}")

    print("everybody is asked for, twice")
    await api.get_all([*SCORES, *SCORES])
    before = database.asked
    print(f"  students: {len(SCORES)}, and the database was asked: {before.total()}")

    print(f"{servers[1].name} is killed, everybody is asked for again")
    servers[1].process.kill()
    answers = await api.get_all(SCORES)
    right = sum(answer.startswith(f"{score} ") for answer, score in zip(answers, SCORES.values(), strict=True))
    print(f"  right answers: {right}")
    print(f"  students whose score was in {servers[1].name} alone: {(database.asked - before).total()}")


async def main() -> None:
    os.environ["CLUSTERKIT_COOKIE"] = await new_cookie()  # for the processes; so is the next
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SCORES_DATABASE"] = str(Path(folder, "scores.db"))
        database = Database(Path(folder, "scores.db"))
        servers: list[Server] = []
        try:
            servers.append(await Server.start("cache1", "--group", LOADER))
            seed = ("--seed", await servers[0].told("listens on "))
            names = ("cache2", "cache3", "cache4")
            servers += [await Server.start(name, *seed, "--group", LOADER) for name in names]
            for server in servers:
                await server.told("caches scores")
            front = await Server.start("api", *seed, "--group", "scores", "--no-own", "--http", "127.0.0.1:0")
            servers.append(front)
            await show(Api(await front.told("answers HTTP on ")), servers, database)
        finally:
            await asyncio.gather(*(server.end() for server in servers))
    print("done")


if __name__ == "__main__":
    asyncio.run(main())
