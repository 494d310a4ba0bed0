"""docs/wire.md, as the tests read it: its text, its tables, its programs."""

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")


def rows(heading: str, which: int = 0) -> list[list[str]]:
    """The cells of a table in the section of that heading, without the head."""
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\|[^\n]*\n\|[-| ]+\n((?:\|[^\n]*\n?)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[which].splitlines()]


def page_client() -> dict[str, Any]:
    codes = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    for code in codes:
        exec(compile(code, "docs/wire.md", "exec"), names)
    return names
