"""docs/registry.md says what the code does: its limits, its events, its reasons, its errors.

Its examples run with the other doctests, in `tests/static/test_doctests.py`.
"""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from clusterkit import errors
from clusterkit.core import offers
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Lagged
from clusterkit.core.offers import META_KEY, Offer, ServiceEvent, ServiceNode, pack
from clusterkit.core.payload import encode
from clusterkit.core.ring_packing import MOST_META
from clusterkit.services import registry
from clusterkit.services.registry import Pick, Services

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())


def rows(heading: str, which: int = 0) -> list[list[str]]:
    """The cells of a table in the section of that heading, without the head."""
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\|[^\n]*\n\|[-:| ]+\n((?:\|[^\n]*\n?)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[which].splitlines()]


def test_the_events_and_the_reasons_are_those_there_are() -> None:
    told = [re.findall(r"`(\w+)", cells[0])[0] for cells in rows("Events")]
    assert told == [*(kind.__name__ for kind in get_args(ServiceEvent)), Lagged.__name__]
    code = inspect.getsource(offers) + inspect.getsource(registry)
    for cells in rows("Events", 1):
        for why in re.findall(r"`([^`]+)`", cells[0]):
            assert f'"{why}"' in code or why in ("does not answer", "stopped", "left"), why


def test_the_picks_are_those_there_are() -> None:
    assert tuple(re.findall(r'`"(\w+)"`', " ".join(cells[0] for cells in rows("Choose one")))) == get_args(Pick)


def test_the_values_have_the_fields_that_are_told() -> None:
    for kind in (Offer, ServiceNode):
        assert f"`{kind.__name__}({', '.join(field.name for field in fields(kind))})`" in WORDS


def test_the_numbers_in_the_text() -> None:
    for said in (
        f"{MOST_META:,} bytes, packed",
        f"1 to {offers.MOST_NAME} bytes of printable text",
        f"requirements of one service | {offers.MOST_REQUIRED} |",
        f"`most`, {inspect.signature(Services.watch).parameters['most'].default:,} unless",
        f"interval={inspect.signature(Services.register).parameters['interval'].default})`",
        f"timeout={inspect.signature(Services.wait_for).parameters['timeout'].default})`",
    ):
        assert said in WORDS, said


def announced(services: int, size: int) -> int:
    """How many bytes a node announces that has so many services with names of that length."""
    node = NodeId("a", "10.0.0.1", 7022, 1)
    told = [Offer(node, f"{number:0{size}}", "r" * size) for number in range(services)]
    return len(encode({META_KEY: pack(told)}))


def test_the_size_of_a_service() -> None:
    assert "A service takes 6 bytes, its names" in WORDS
    assert announced(101, 6) - announced(100, 6) == 6 + 6 + 6
    assert "so 220 with names of six letters" in WORDS
    assert announced(220, 6) <= MOST_META < announced(230, 6)


def test_the_errors_are_those_there_are() -> None:
    for cells in rows("Limits, costs, errors", 2):
        name, *bases = re.findall(r"`(\w+)`", cells[0])
        known = [each.__name__ for each in getattr(errors, name).__mro__]
        assert set(bases) <= set(known), cells[0]
