"""Three real nodes on three hosts of their own: cut one way, cut both ways, reset, healed.

Skipped where there is no root, no ``ip`` or no ``iptables``. Nothing leaves the namespaces.
"""

import asyncio
import contextlib
import itertools
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterkit.testing import namespaces
from clusterkit.testing.namespaces import NamespaceError, Namespaces, left_behind, why_unavailable
from clusterkit.testing.processes import Processes
from tests.integration.cluster_app import TIMEOUT, call_each_other

TARGET = f"{call_each_other.__module__}:{call_each_other.__name__}"
NAMES = "abc"
PAIRS = list(itertools.permutations(NAMES, 2))
DEADLINE = 60.0
CHANGE = 20.0  # seconds in which a fault or its end must show
LATE = 1.0  # seconds on a busy machine
TYPED = ("CallTimeout", "NodeDown", "LinkFull")

needs_namespaces = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Namespaces, Processes]]:
    """Three nodes in one ring, each calling the other two all the time."""
    async with (
        asyncio.timeout(DEADLINE),
        Namespaces(NAMES) as hosts,
        Processes(environment={"CLUSTERKIT_COOKIE": "the cookie of three hosts"}) as processes,
    ):
        for name in NAMES:
            argument = {
                "address": f"{name}@{hosts.address(name)}:7022",
                "seeds": [f"{hosts.address('a')}:7022"] if name != "a" else [],
                "peers": [peer for peer in NAMES if peer != name],
            }
            child = await processes.start(name, TARGET, argument, within=hosts.within(name))
            await child.reported("joined")
        await all_well(processes)
        yield hosts, processes


def calls(processes: Processes, src: str, dst: str) -> list[dict[str, Any]]:
    return [each for each in processes[src].reports if each.get("peer") == dst]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(CHANGE):
        while not condition():
            await asyncio.sleep(0.02)


async def all_well(processes: Processes) -> None:
    """Wait until every node's next calls to every other succeed."""
    before = {pair: len(calls(processes, *pair)) for pair in PAIRS}

    def well() -> bool:
        new = [calls(processes, *pair)[before[pair] :] for pair in PAIRS]
        return all(each and each[-1]["outcome"] == "ok" for each in new)

    await until(well)


def failing(processes: Processes, src: str, dst: str, since: int) -> bool:
    recent = calls(processes, src, dst)[since:]
    return len([each for each in recent if each["outcome"] != "ok"]) >= 2


def check_calls(processes: Processes) -> None:
    """Every call ended within its timeout, rightly or in a typed error."""
    for child in NAMES:
        for each in processes[child].reports:
            if "peer" not in each:
                continue
            kind, _, executed = each["outcome"].partition(" ")
            assert each["took"] <= TIMEOUT + LATE
            assert kind == "ok" or (kind in TYPED and executed in ("no", "maybe")), each


@needs_namespaces
@pytest.mark.parametrize(
    "cuts", [[("a", "b")], [("b", "a")], [("a", "b"), ("b", "a")]], ids=["from a to b", "from b to a", "both ways"]
)
async def test_a_cut_ends_calls_with_typed_errors_and_a_heal_brings_them_back(cuts: list[tuple[str, str]]) -> None:
    async with cluster() as (hosts, processes):
        before = {pair: len(calls(processes, *pair)) for pair in PAIRS}
        for src, dst in cuts:
            await hosts.cut(src, dst)
        await until(lambda: all(failing(processes, *pair, before[pair]) for pair in (("a", "b"), ("b", "a"))))
        untouched = [pair for pair in PAIRS if "c" in pair]
        assert all(each["outcome"] == "ok" for pair in untouched for each in calls(processes, *pair)[before[pair] :])
        await hosts.heal()
        await all_well(processes)
        check_calls(processes)
    assert left_behind() == []


@needs_namespaces
async def test_a_host_that_resets_every_segment_ends_calls_and_comes_back() -> None:
    async with cluster() as (hosts, processes):
        before = len(calls(processes, "a", "b"))
        await hosts.reset("a", "b")
        await until(lambda: failing(processes, "a", "b", before))
        await hosts.heal()
        await all_well(processes)
        check_calls(processes)


@needs_namespaces
async def test_an_error_in_the_block_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="meant"):
        async with Namespaces("xy"):
            assert len(left_behind()) == 3
            raise ValueError("meant")
    assert left_behind() == []


@needs_namespaces
async def test_a_command_that_fails_says_what_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_NETWORK", "10.77.0.300")
    with pytest.raises(NamespaceError, match=r"`ip -n .* addr add .*` failed: "):
        async with Namespaces("xy"):
            raise AssertionError("never entered")
    assert left_behind() == []


@pytest.fixture
def orphan() -> Iterator[str]:
    """A namespace whose owner was killed."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    name = f"clusterkit-{gone.pid}-a"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False, timeout=10, capture_output=True)


@needs_namespaces
async def test_what_a_killed_run_left_is_swept_away(orphan: str) -> None:
    assert (Path("/run/netns") / orphan).exists()
    async with Namespaces("x"):
        assert not (Path("/run/netns") / orphan).exists()


@pytest.mark.parametrize(
    ("euid", "path", "reason"),
    [(1000, os.environ["PATH"], "need root"), (0, "/nowhere", "need ip and iptables")],
    ids=["no root", "no tools"],
)
def test_where_there_are_none_it_says_why(monkeypatch: pytest.MonkeyPatch, euid: int, path: str, reason: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setenv("PATH", path)
    assert reason in str(why_unavailable())
