"""The table of supervisors against Erlang/OTP's own: the oracle of what the manual means."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.core.supervision_rehearsal import rehearse
from tests.unit.core.supervision_table import ROWS, Row, erlang, random_row

ORACLE = Path(__file__).with_name("supervisor_oracle.erl")
RANDOM_SCRIPTS = 200
SEED = int(os.environ.get("CLUSTERKIT_SUPERVISOR_SEED", "0"))  # another one: other scripts

pytestmark = pytest.mark.skipif(
    shutil.which("erl") is None or shutil.which("erlc") is None, reason="Erlang/OTP (erl, erlc) is not installed"
)


@pytest.fixture(scope="module")
def otp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The oracle, compiled."""
    where = tmp_path_factory.mktemp("otp")
    subprocess.run(["erlc", "-o", str(where), str(ORACLE)], check=True, timeout=60)
    return where


def ask(otp: Path, rows: list[Row]) -> list[list[str]]:
    """What is seen of OTP's supervisors, step by step; all rows are played at the same time."""
    script = otp / "rows.term"
    script.write_text("".join(erlang(row) for row in rows))
    # one scheduler: who ends first is noticed first, as in the table
    command = ["erl", "+S", "1:1", "-noshell", "-pa", str(otp), "-run", "supervisor_oracle", "run", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(rows), done.stdout[-2000:] + done.stderr[-2000:]
    return [line.split("|") for line in lines]


def test_otp_does_as_the_table_says(otp: Path) -> None:
    seen = ask(otp, list(ROWS))
    differences = {row.title: (row.seen, steps) for row, steps in zip(ROWS, seen, strict=True) if row.seen != steps}
    assert not differences


def test_otp_and_the_machine_do_the_same_with_random_scripts(otp: Path) -> None:
    rows = [random_row(seed) for seed in range(SEED, SEED + RANDOM_SCRIPTS)]
    seen = ask(otp, rows)
    differences = {row: (rehearse(row), steps) for row, steps in zip(rows, seen, strict=True) if rehearse(row) != steps}
    assert not differences, "the seed stands in the title of a row"
