"""docs/telemetry.md says what the code does: the events and their keys, the causes of a stall, the fields of an actor."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from clusterkit.actors.inspection import ActorInfo
from clusterkit.kernel import watchdog
from clusterkit.kernel.telemetry import EVENTS, Shape

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``head``."""
    [table] = re.findall(rf"^\| {re.escape(head)}.*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]


def names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([\w.]+)`", cell))


def test_the_events_and_their_keys_are_those_there_are() -> None:
    told = {names(event)[0]: Shape(names(took), names(meta)) for event, _, took, meta in rows("event | when")}
    assert told == EVENTS


def test_every_key_is_explained_and_no_other() -> None:
    explained = [name for keys, _ in rows("key | is") for name in names(keys)]
    elsewhere = names(next(keys for keys, meaning in rows("key | is") if meaning == "see below"))
    assert set(explained) == {key for shape in EVENTS.values() for keys in shape for key in keys}
    assert all(f"`{key}`" in PAGE.partition("## Who holds up the loop")[2] for key in elsewhere)


def test_the_causes_of_a_stall_are_those_there_are() -> None:
    assert tuple(names(cause)[0] for cause, _ in rows("cause | means")) == get_args(watchdog.Cause)


def test_the_numbers_of_the_watchdog_are_its_own() -> None:
    assert (watchdog._TICKS, watchdog._FRAMES) == (4, 16)
    assert "one and a quarter times the limit" in PAGE
    assert "the 16 innermost calls" in " ".join(PAGE.split())


def test_the_fields_of_an_actor_are_those_there_are() -> None:
    told = [name for keys, _ in rows("field | is") for name in names(keys)]
    assert sorted(told) == sorted(field.name for field in fields(ActorInfo))


def test_the_lines_of_actors_are_as_they_are_printed() -> None:
    command = ActorInfo(1, "clusterkit.command", "CommandServer", depth=0, size=0, limit=1000, handled=12)
    account = ActorInfo(
        2,
        "accounts",
        "Account",
        depth=57,
        size=0,
        limit=1000,
        handler="withdraw",
        since=3.2,
        handled=1204,
        watchers=1,
    )
    assert f"{command}\n{account}\n" in PAGE
