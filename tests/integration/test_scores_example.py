"""examples/scores runs: five processes, and what its reader expects."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOADED = r"\((load|peer)\)"  # the latter when the load ended while the front waited for word of it
LINES = [
    r"four cache servers, and an API on http://127\.0\.0\.1:\d+",
    rf"  Tom: 630 {LOADED}, \d+ ms",
    r"  Tom: 630 \(peer\), \d+ ms",
    rf"  Zoë: 701 {LOADED}, \d+ ms",
    rf"  AC/DC: 333 {LOADED}, \d+ ms",
    r"  Nobody: 404 \(unknown-key\), \d+ ms",
    r"50 at once ask for Jack, whom no server has yet",
    r"  the database was asked for Jack: 1",
    r"everybody is asked for, twice",
    r"  students: 25, and the database was asked: 2[5-7]",  # a server that is held up for 0.5 s is passed over
    r"cache2 is killed, everybody is asked for again",
    r"  right answers: 25",
    r"  students whose score was in cache2 alone: (?P<lost>\d+)",
    r"done",
]


def test_scores_are_loaded_once_and_survive_a_server() -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTERKIT_")}
    done = subprocess.run(
        [sys.executable, "-m", "examples.scores.run"],
        env=kept | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == len(LINES), done.stdout
    for line, pattern in zip(lines, LINES, strict=True):
        found = re.fullmatch(pattern, line)
        assert found, done.stdout
        if "lost" in found.groupdict():
            assert 0 < int(found["lost"]) < 25, done.stdout
