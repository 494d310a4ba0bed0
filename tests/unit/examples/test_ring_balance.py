"""The example that draws a ring: its figures are right, and it runs."""

import importlib.util
import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from clusterkit.core.hash_ring import HashRing

SCRIPT = Path(__file__).parents[3] / "examples" / "ring_balance.py"
example = runpy.run_path(str(SCRIPT))


def test_shares_are_the_owners_of_many_keys() -> None:
    ring = HashRing({"a": 1, "b": 2, "c": 1})
    share = example["shares"](ring)
    assert math.isclose(sum(share.values()), 1)
    keys = [f"key {number}" for number in range(20_000)]
    for name, exact in share.items():
        assert abs(sum(ring.find(key) == name for key in keys) / len(keys) - exact) < 0.02


def test_losses_are_what_the_joiner_gets() -> None:
    before, after = HashRing(["a", "b"]), HashRing(["a", "b", "c"])
    assert math.isclose(sum(example["losses"](before, after).values()), example["shares"](after)["c"])
    assert example["losses"](HashRing(), after) == {}


def test_bars_are_drawn_to_the_fair_mark_and_beyond() -> None:
    under, over = example["draw"]("t", {"a": 0.25, "b": 0.75}, {"a": 0.5, "b": 0.5})[1:]
    assert under.endswith("█" + " " * 14 + "▏")
    assert over.endswith("█" + "▒" * 15)


def test_it_prints_both_drawings() -> None:
    command = [sys.executable, str(SCRIPT), "--nodes", "5", "--weights", "1", "3"]
    root = SCRIPT.parents[1]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=root,
        env={"PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout.count("node-0") == 5 * 2 + 1
    assert "greatest share over the fair one" in done.stdout
    assert "hash(key) % nodes moves 83.33%" in done.stdout


def test_a_picture_is_drawn_where_matplotlib_is_and_else_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "ring.svg"
    arguments = ["--nodes", "3", "--plot", str(picture)]
    if importlib.util.find_spec("matplotlib"):
        example["main"](arguments)
        assert picture.read_text().lstrip().startswith("<?xml")
    else:
        with pytest.raises(SystemExit):
            example["main"](arguments)
        assert "--plot needs matplotlib" in capsys.readouterr().err


def test_no_nodes_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example["main"](["--nodes", "0"])
    assert "--nodes is at least 1" in capsys.readouterr().err
