"""Three processes, 64 callers each way: nothing lost, nothing twice, nothing unexplained."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import COOKIE

ROOT = Path(__file__).parents[2]
SECONDS = 10.0


class Worker:
    """A child process, spoken to in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, name: str, *seeds: str) -> "Worker":
        environment = os.environ | {"CLUSTERKIT_COOKIE": COOKIE, "PYTHONPATH": str(ROOT)}
        program = Path(__file__).with_name("load_worker.py")
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, program, name, *seeds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        )

    async def line(self, timeout: float = 30.0) -> str:
        async with asyncio.timeout(timeout):
            return (await self.stdout.readline()).decode().strip()

    def say(self, text: str) -> None:
        self.stdin.write(text.encode() + b"\n")


async def test_three_processes_lose_and_double_nothing() -> None:
    workers: list[Worker] = []
    try:
        workers.append(await Worker.start("a"))
        seed = await workers[0].line()
        workers += [await Worker.start(name, seed) for name in ("b", "c")]
        for worker in workers[1:]:
            assert await worker.line()
        for worker in workers:
            worker.say(f"go {SECONDS} {len(workers)}")
        reports: list[list[dict[str, Any]]] = [json.loads(await worker.line(SECONDS + 30)) for worker in workers]
        for worker in workers:
            worker.say("finished")
        ledgers: list[dict[str, Any]] = [json.loads(await worker.line()) for worker in workers]
        for worker in workers:
            async with asyncio.timeout(15):
                assert await worker.process.wait() == 0
    finally:
        for worker in workers:
            if worker.process.returncode is None:
                worker.process.kill()
                await worker.process.wait()
    sent = {(name, row["peer"]): row["sent"] for name, rows in zip("abc", reports, strict=True) for row in rows}
    assert len(sent) == 6
    assert all(row["wrong"] == 0 and row["errors"] == [] for rows in reports for row in rows)
    assert all(ledger["twice"] == 0 for ledger in ledgers)
    served = {
        (caller, name): n for name, ledger in zip("abc", ledgers, strict=True) for caller, n in ledger["served"].items()
    }
    assert served == sent  # each request ran exactly once
    print(f"{sum(sent.values())} calls")
