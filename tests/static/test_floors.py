"""The house keeps its own rules: the linters, the type checkers, the floors."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

CHECKS = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
    "floors": ["lint-imports", "--no-logo"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_tree_passes(name: str) -> None:
    program, *arguments = CHECKS[name]
    done = subprocess.run(
        [BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_of_the_package_stay_short() -> None:
    long = {
        str(path): n for path in (ROOT / "clusterkit").rglob("*.py") if (n := len(path.read_text().splitlines())) > 550
    }
    assert not long
