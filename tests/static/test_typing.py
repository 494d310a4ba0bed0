"""Each mistake of typing_cases.py is found by both type checkers; what is no mistake is found by neither."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CASES = (ROOT / "tests" / "static" / "typing_cases.py").read_text()
IGNORES = re.compile(r"# type: ignore\[[a-z-]+\]  # pyright: ignore  ")
SEVEN = {
    "wrong argument type",
    "missing argument",
    "wrong result type",
    "another server's method",
    "wrong argument on the proxy",
    "casting a method that returns",
    "unknown method",
}


def unmarked(path: Path) -> dict[int, str]:
    """Write the cases without what hides their mistakes; return the line and the name of each."""
    path.write_text(IGNORES.sub("", CASES))
    marked = [(line, re.search(IGNORES.pattern + "# (.+)", text)) for line, text in enumerate(CASES.splitlines(), 1)]
    return {line: found[1] for line, found in marked if found}


def run(program: str, *arguments: object) -> str:
    command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False).stdout


def mypy(path: Path) -> Iterable[tuple[str, int]]:
    found: list[dict[str, Any]] = [json.loads(line) for line in run("mypy", "--output=json", path).splitlines()]
    return [(each["file"], each["line"]) for each in found if each["severity"] == "error"]


def pyright(path: Path) -> Iterable[tuple[str, int]]:
    found = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, path))["generalDiagnostics"]
    return [(each["file"], each["range"]["start"]["line"] + 1) for each in found if each["severity"] == "error"]


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_mistake_is_found_and_nothing_else(
    checker: Callable[[Path], Iterable[tuple[str, int]]], tmp_path: Path
) -> None:
    path = tmp_path / "unmarked_cases.py"
    mistakes = unmarked(path)
    assert set(mistakes.values()) >= SEVEN
    found = {mistakes.get(line, f"{file}:{line}") for file, line in checker(path)}
    assert found == {*mistakes.values()}
