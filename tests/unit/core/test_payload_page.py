"""What docs/wire.md says of messages in payloads is what the code does."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pytest

from clusterkit.core import message_types
from clusterkit.core.field_checks import compile_check
from clusterkit.core.message_types import message
from clusterkit.core.payload import MESSAGE_EXT, MOST_DEEP, MOST_WIDE, decode, encode
from tests.unit.wire_page import PAGE, rows


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_types, "_types", dict(message_types._types))


def section() -> str:
    [text] = re.findall(r"^### 6.1 Payloads\n(.*?)^### ", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def test_the_bytes_of_the_example() -> None:
    @message(name="item")
    @dataclass
    class Item:
        sku: str
        cost: int

    lines = re.findall(r"^    ((?:[0-9a-f]{2,10} ?)+) {2,}\S", section(), re.MULTILINE)
    told = bytes.fromhex("".join(lines))
    assert encode(Item("pear", 120)) == told
    assert decode(told) == Item("pear", 120)
    assert f"extension of {len(told) - 3} bytes, type {MESSAGE_EXT}" in section()


def test_the_numbers_in_the_text() -> None:
    text = " ".join(section().split())
    assert f"the message extension (type {MESSAGE_EXT}, below)" in text
    assert f"At most {MOST_DEEP} arrays, maps and messages" in text
    assert f"and {MOST_WIDE:,} elements" in text
    assert f"The name is 1 to {message_types._LONGEST_NAME} bytes" in text


def test_the_table_of_annotations_names_what_can_be_checked() -> None:
    meaning = {"T": int, "U": str, "A": bytes, "B": bool, "Any": Any, "datetime": datetime, "Literal": Literal}
    told = [each for row in rows("6.1 Payloads") for each in re.findall("`([^`@]+)`", row[0].replace("\\", ""))]
    assert len(told) == 15
    for annotation in told:
        compile_check(eval(annotation.replace("Literal[...]", "Literal['x']"), meaning), lambda cls: False)
