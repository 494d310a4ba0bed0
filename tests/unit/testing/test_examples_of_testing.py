"""The examples of docs/testing.md are tests, and pass; every test that the page shows is in one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = {each.name: each.read_text() for each in sorted((ROOT / "examples").glob("test_my_*.py"))}
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"examples/{example}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("block", [block for block in BLOCKS if "async def test_" in block])
def test_what_the_page_shows_is_tested(block: str) -> None:
    assert any(block in program for program in EXAMPLES.values())


def test_the_page_shows_something() -> None:
    assert sum("async def test_" in block for block in BLOCKS) >= 4
