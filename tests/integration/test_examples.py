"""The programs in examples/ run, and print what their readers expect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COOKIE

ROOT = Path(__file__).parents[2]
SAYS = {
    "greeter.py": ["world, you from bar", "members: bar@127.0.0.1"],
    "account.py": ["here: 70", "on bar: 45", "ada on bar: paid", "refused: ada on bar has only 45", "Traceback"],
    "ring_events.py": [
        "up: baz",
        "order: bar, ",
        "down: bar (stopped)",
        "its owner: bar | who stands in: ",
        "its owner: ",
    ],
}


@pytest.mark.parametrize("program", SAYS)
def test_example(program: str) -> None:
    environment = os.environ | {"CLUSTERKIT_COOKIE": COOKIE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    for line in SAYS[program]:
        assert line in done.stdout
