"""Every branch of the pure core is taken by its unit tests alone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_unit_tests_of_the_core_take_every_branch_of_it(tmp_path: Path) -> None:
    environment = os.environ | {"COVERAGE_FILE": str(tmp_path / "coverage"), "PYTHONPATH": str(ROOT)}
    coverage = [sys.executable, "-m", "coverage"]
    run = [*coverage, "run", "--branch", "--source=clusterkit.core", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for command in (
        [*run, "tests/unit/core"],
        [*coverage, "report", "--show-missing", "--skip-covered", "--fail-under=100"],
    ):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
