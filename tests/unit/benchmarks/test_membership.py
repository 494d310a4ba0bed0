"""`benchmarks.membership`: what members print is read rightly, and when all agree is said rightly."""

import asyncio
import doctest
import importlib

import pytest

from benchmarks.membership_counters import cpu_seconds, resident_megabytes, sent_bytes
from benchmarks.membership_serf import read_log
from benchmarks.membership_views import Change, Views, believes, read_change

LOG = "    2026/11/21 14:23:14 [INFO] serf: EventMember"
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     900       9    0    0    0     0          0         0      900       9    0    0    0     0       0          0
  eth0:    1234      10    0    0    0     0          0         0     5678      11    0    0    0     0       0          0
"""


@pytest.mark.parametrize("name", ["membership", "membership_counters", "membership_serf", "membership_views"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "alive n1",
        "soon alive n1 127.0.0.1:1",
        "1.5 alive n1 127.0.0.1:1 more",
        "1.5 12 n1",
        "==> Serf agent running!",
    ],
)
def test_other_lines_are_no_changes(line: str) -> None:
    assert read_change(line) is None


@pytest.mark.parametrize(
    ("line", "state", "name", "place"),
    [
        (f"{LOG}Join: b 127.0.1.2", "alive", "b", "127.0.1.2"),
        (f"{LOG}Failed: b 127.0.1.2", "down", "b", "127.0.1.2"),
        (f"{LOG}Leave: b 127.0.1.2", "left", "b", "127.0.1.2"),
        (f"{LOG}Leave (forced): b 127.0.1.2", "left", "b", "127.0.1.2"),
        (f"{LOG}Reap: b", "removed", "b", ""),
        ("                      Bind addr: '127.0.1.1:7946'", "ready", "", "127.0.1.1"),
    ],
)
def test_lines_of_serf(line: str, state: str, name: str, place: str) -> None:
    assert read_log(line, 2.5) == Change(2.5, state, name, place)


@pytest.mark.parametrize(
    "line", [f"{LOG}Update: b", "    2026/11/21 14:23:15 [INFO] agent: Received event: member-join"]
)
def test_other_lines_of_serf(line: str) -> None:
    assert read_log(line, 2.5) is None


def test_members_agree_since_the_last_of_them_changed_its_list() -> None:
    views = Views()
    names = ["a", "b", "c"]
    views.note("a", Change(1.0, "alive", "c"))
    assert views.agreed(["c"], names, believes("alive")) is None
    assert views.lacking(["c"], names, believes("alive")) == ["b"]
    views.note("b", Change(3.0, "alive", "c"))
    views.note("a", Change(2.0, "alive", "c"))
    assert views.agreed(["c"], names, believes("alive")) == 3.0


def test_a_member_that_changes_its_mind_does_not_agree() -> None:
    views = Views()
    views.note("a", Change(1.0, "alive", "c"))
    views.note("a", Change(2.0, "down", "c"))
    assert views.agreed(["c"], ["a"], believes("alive")) is None
    assert views.agreed(["c"], ["a"], believes("down", "left")) == 2.0
    assert (views.count(1.5, "down"), views.count(2.5, "down")) == (1, 0)


def test_a_place_can_be_wanted() -> None:
    views = Views()
    views.note("a", Change(1.0, "alive", "c", "10.77.0.3:1"))
    assert views.agreed(["c"], ["a"], believes("alive", place="10.77.0.4:1")) is None
    views.note("a", Change(2.0, "alive", "c", "10.77.0.4:1"))
    assert views.agreed(["c"], ["a"], believes("alive", place="10.77.0.4:1")) == 2.0


def test_what_is_forgotten_is_not_listed() -> None:
    views = Views()
    views.note("a", Change(1.0, "alive", "c"))
    views.note("c", Change(1.0, "alive", "a"))
    views.forget("c")
    assert views.agreed(["c"], ["a"], believes("alive")) is None
    assert views.agreed(["a"], ["c"], believes("alive")) is None


async def test_waiting_ends_when_all_agree() -> None:
    views = Views()
    waiting = asyncio.create_task(views.until_agreed(["c"], ["a", "b"], believes("down"), 60.0))
    views.note("a", Change(1.0, "down", "c"))
    await asyncio.sleep(0)
    views.note("b", Change(2.0, "down", "c"))
    assert await asyncio.wait_for(waiting, 10.0) == 2.0


async def test_waiting_ends_without_agreement() -> None:
    assert await Views().until_agreed(["c"], ["a"], believes("down"), 0.01) is None


def test_counters() -> None:
    assert sent_bytes(NET_DEV) == 5678
    assert resident_megabytes("VmPeak:\t   90000 kB\nVmRSS:\t   1024 kB\n") == 1.0
    assert resident_megabytes("Name:\tkthreadd\n") == 0.0
    assert cpu_seconds(1 << 30) == 0.0
