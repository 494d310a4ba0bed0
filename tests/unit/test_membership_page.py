"""docs/membership.md says what the code does: its tables, its numbers, the names of the tests that it points to.

Its examples run with the other doctests, in `tests/static/test_doctests.py`.
"""

import inspect
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from clusterkit.config import Config
from clusterkit.core import dissemination, messages
from clusterkit.core.channel import _data_part
from clusterkit.core.identity import draw_incarnation
from clusterkit.core.liveness_timers import Timers
from clusterkit.core.members import State
from clusterkit.core.membership import Membership
from clusterkit.core.record import RecordWriter
from clusterkit.core.repair import _PARKED
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Change
from clusterkit.core.ring_messages import Accusation, News, Probe, Pull, RingMessage, pack
from clusterkit.core.ring_messages import State as WholeState
from clusterkit.core.ring_state import RingState
from clusterkit.ring import gossip_ring, seeker
from clusterkit.ring.discovery import MOST_PLACES
from clusterkit.ring.subscribers import RingEvent

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "membership.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
NOW = 1_767_225_600.0


def rows(heading: str, which: int = 0) -> list[list[str]]:
    """The cells of a table in the section of that heading, without the head."""
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\|[^\n]*\n\|[-:| ]+\n((?:\|[^\n]*\n?)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[which].splitlines()]


def test_the_tuning_table_is_the_timers() -> None:
    told = {cells[0].strip("`"): (cells[1], cells[2]) for cells in rows("Tuning")}
    lan, wan = Timers(), Timers.wan()

    def shown(value: float) -> str:
        return f"{value:g} s" if isinstance(value, float) else str(value)

    names = [field.name for field in fields(Timers)]
    assert told == {name: (shown(getattr(lan, name)), shown(getattr(wan, name))) for name in names}


def test_the_states_and_the_events_are_those_there_are() -> None:
    assert [cells[0].strip("`") for cells in rows("The states of a member")] == list(State)
    told = re.findall(r"`(\w+)(?:\(\w+\))?`", " ".join(cells[0] for cells in rows("Events")))
    assert sorted(told) == sorted(kind.__name__ for kind in get_args(RingEvent))


def test_the_numbers_in_the_text() -> None:
    timers, config = Timers(), Config()
    silent = timers.probe_timeout + timers.indirect_timeout
    for said in (
        f"less than {silent + timers.suspicion_least - 0.2:.1f} s is called down by nobody",
        f"before {silent + timers.suspicion_least:.1f} s without a sign of life",
        f"({timers.probe_timeout:g} + {timers.indirect_timeout:g} + {timers.suspicion_least:g})",
        f"it has {timers.suspicion_least:g} to {timers.suspicion_most:g} s to refute",
        f"It has {timers.suspicion_most:g} s to refute, and {timers.suspicion_least:g} s when three others",
        f"accuses nobody for {timers.quiet:g} s",
        f"`redial_first` and `redial_most` ({config.redial_first:g} and {config.redial_most:g} s",
        f"ask seeds that are no members again every {seeker._LATER:g} s".replace("ask", "asks"),
        f"Up to {dissemination.DIRECT} members",
        f"two trees of {dissemination.ARITY} branches",
        f"after {_PARKED * 1000:g} ms the sender is asked",
        f"above {gossip_ring._MESH} members a node warns, and above {config.link_limit:,} links it refuses",
        f"at most {MOST_PLACES} places are tried",
    ):
        assert said in WORDS, said
    assert config.auto_remove_after is None
    assert inspect.signature(Membership).parameters["removal_ttl"].default == 86_400.0  # "after a day"


# -- sizes


@cache
def ring_of(members: int) -> tuple[RingState, Change]:
    """What a member knows of a ring of so many, and the last one's announcement."""
    chance = Random(1)

    def actor(number: int) -> Actor:
        return Actor(f"node-{number:03}", draw_incarnation(int(NOW * 1000), chance.getrandbits(22)))

    me = RingState(actor(0))
    change = me.announce("10.0.0.1", 7022, b"", NOW)
    me.hear(me.me.name, Claim(me.me.boot, 0, Rank.ALIVE, ready=True))
    for number in range(1, members):
        other = RingState(actor(number))
        change = other.announce(f"10.0.0.{number % 250}", 7022, b"", NOW)
        me.deliver(change, NOW)
        me.hear(other.me.name, Claim(other.me.boot, 0, Rank.ALIVE, ready=True))
    return me, change


def size(message: RingMessage) -> int:
    """The bytes of a record with nothing but this message."""
    return len(RecordWriter(bytes(32)).seal([_data_part([messages.pack_ring(pack(message))])]))


def test_the_sizes() -> None:
    told = {cells[0]: cells[1].strip("| ") for cells in rows("Sizes and costs")}
    me, joined = ring_of(128)
    digests, number = (me.ring_digest, me.claims_digest), me.me.boot + 7
    accusation = Accusation("node-003", me.claim("node-003"), "node-000")
    per_member = [size(WholeState(ring_of(count)[0].full())) / count for count in (128, 2)]
    per_clock = [size(Pull(ring_of(count)[0].clock(), digests)) / count for count in (1_000, 2)]
    assert told == {
        "a probe, and its answer": f"{size(Probe(1_000, digests))}",
        "news of a join": f"{size(News('node-000', number, 0, False, (joined,)))}",
        "news of an accusation": f"{size(News('node-000', number, 0, False, (), (accusation,)))}",
        "news of a changed weight": f"{size(News('node-000', number, 0, False, (me.update('node-003', 3, NOW),)))}",
        "a whole state, per member": "{:.0f} to {:.0f}".format(*per_member),
        "a clock, which asks for a delta, per member": "{:.0f} to {:.0f}".format(*per_clock),
    }


# -- the page and the rest of the repository


def test_the_rules_are_those_that_the_code_names() -> None:
    told = set(re.findall(r"^- \*\*(R\d+a?b?)\*\*", PAGE, re.MULTILINE))
    named = {
        rule
        for path in (ROOT / "clusterkit" / "core").glob("ring_*.py")
        for rule in re.findall(r"\b(R\d+[ab]?)\b", path.read_text(encoding="utf-8"))
    }
    assert named <= told


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)", PAGE))))
def test_the_tests_that_it_names_exist(name: str) -> None:
    name = name.removesuffix("_")
    found = [path for path in (ROOT / "tests").rglob("test_*.py") if f"def {name}" in path.read_text(encoding="utf-8")]
    assert found, name


def test_its_files_exist() -> None:
    named = re.findall(r"`((?:examples|benchmarks|tests)/[\w/]+\.py)`", PAGE)
    named += re.findall(r"\]\(([\w./-]+)\)", PAGE.replace("(images/", "(docs/images/"))
    assert named
    for each in named:
        assert (ROOT / each).exists() or (ROOT / "docs" / each).exists(), each


def test_its_links_lead_to_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
