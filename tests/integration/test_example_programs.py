"""The programs about actors in examples/: each runs by itself, says what its readers expect and nothing else, and ends."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COOKIE
from tests.integration.test_examples import SAYS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# Whole lines, as patterns, in their order.
LINES = {
    "pool.py": [
        "open, 1 free",
        "lent to ada",
        "bob: no permit came back",
        "ada went down: tired",
        "lent to bob",
        "closed, 0 free",
    ],
    "supervised.py": [
        r"\['worker 0: 1 done', 'worker 1: 1 done', 'worker 2: 1 done'\]",
        "w1 went down: boom",
        "w2 went down: shutdown",
        r"\['worker 0: 2 done', 'worker 1: 1 done', 'worker 2: 1 done'\]",
        "w0 running transient",
        "w1 running transient",
        "w2 running transient",
    ],
    "deadlines.py": [
        "paid: 5",
        "CallTimeout, executed: maybe",
        "paid: None",
        "CallTimeout, executed: no",
        "paid: 16",
        "not now: no server 'tell' runs on bar",
        "missing: None",
        "first: 17",
    ],
    "prices.py": [
        "put on: bar, foo",
        r"cents: \[\('bar', 120\), \('foo', 120\)\]",
        "no answer from baz: no server 'prices' runs on baz",
    ],
    "telemetry.py": [
        r"clusterkit\.dead_letter clerk\.unknown no handler takes it",
        r"#\d+ +clusterkit\.command +CommandServer +0/1000  idle, .*",
        r"#\d+ +clerk +Clerk +0/2  ask for \d\.\d\d s, .*",
        "done",
        r"clusterkit\.call\.stop clerk hold_up asked by foo@127\.0\.0\.1:\d+",
        r"clusterkit\.mailbox\.full clerk 2",
        r"refused: the mailbox of clerk is full: .*",
        r"\{'dead_letters': 1, 'mailbox_full': 1, .*\}",
    ],
}
# What the log says to a program that has not set it up: warnings, on stderr.
LOGS = {
    "supervised.py": r"supervisor app restarts w1 .*: boom",
    "telemetry.py": r"stands still for \d\.\d\d s: hold_up of clerk runs\n",
}
LAG = "clusterkit.loop.lag"  # comes when the loop has a turn, and of a busy machine too
ELSEWHERE = {"greeter_app.py", "ring_balance.py", *(path.name for path in EXAMPLES.glob("test_my_*.py"))}


@pytest.mark.parametrize("program", LINES)
def test_the_program_says_what_its_reader_expects(program: str) -> None:
    environment = {"CLUSTERKIT_COOKIE": COOKIE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / program], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(LOGS[program], done.stderr) if program in LOGS else not done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith(LAG)]
    assert len(lines) == len(LINES[program]), done.stdout
    for line, pattern in zip(lines, LINES[program], strict=True):
        assert re.fullmatch(pattern, line), done.stdout
    assert (f"{LAG} clerk hold_up" in done.stdout) == (program == "telemetry.py")


@pytest.mark.parametrize("program", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_example_is_run_by_a_test_and_tells_how_to_run_it(program: str) -> None:
    assert program in {*LINES, *SAYS, *ELSEWHERE}
    told = (EXAMPLES / program).read_text().partition('"""')[2].partition('"""')[0]
    assert program.startswith("test_") or f"examples/{program}" in told or f"examples.{program[:-3]}" in told
