"""Nodes with a state directory, in processes: killed, restarted without seeds, run from an old copy, or twice."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.real_ring import RealRing, alive, together

DEADLINE = 60.0


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[RealRing]:
    """Three nodes, each with a directory in ``tmp_path`` that has its name, and all of the ring in it."""
    async with asyncio.timeout(DEADLINE), RealRing() as real:
        await real.start("a", state_dir=tmp_path / "a")
        await real.joined("a")
        for name in "bc":
            await real.start(name, [real["a"].place], state_dir=tmp_path / name)
            await real.joined(name)
        await real.agrees("abc", alive("abc"))
        await saved(real, "abc", dict.fromkeys("abc", 1))
        yield real


async def saved(ring: RealRing, names: Iterable[str], weights: dict[str, int]) -> None:
    """Wait until the directories have these members and weights."""
    for name in names:
        while await ring[name].order("saved") != weights:
            await asyncio.sleep(0.05)


async def again(ring: RealRing, name: str, directory: Path, **options: Any) -> None:
    """Run a node that was killed again, without seeds."""
    await ring.restart(name, [], state_dir=directory, **options)


@pytest.mark.parametrize("same_port", [True, False], ids=["at the same port", "at another port"])
async def test_a_killed_node_finds_its_ring_without_seeds(ring: RealRing, tmp_path: Path, same_port: bool) -> None:
    before = (await ring["b"].view()).incarnation
    ring["b"].child.kill()
    await again(ring, "b", tmp_path / "b", same_port=same_port)
    await ring.agrees("abc", alive("abc"))
    assert (await ring["b"].view()).incarnation > before


async def test_a_ring_that_was_killed_as_a_whole_is_back_without_seeds(ring: RealRing, tmp_path: Path) -> None:
    await ring["a"].order("update", "b", weight=4)
    await ring.agrees("abc", alive("abc"))
    await saved(ring, "abc", {"a": 1, "b": 4, "c": 1})
    for name in "abc":
        ring[name].child.kill()
    await together(again(ring, name, tmp_path / name, same_port=True) for name in "abc")
    views = await ring.agrees("abc", alive("abc"))
    assert views["c"].members["b"].weight == 4


async def test_a_node_with_a_clock_gone_back_an_hour_is_a_later_one(ring: RealRing, tmp_path: Path) -> None:
    before = (await ring["b"].view()).incarnation
    ring["b"].child.kill()
    await again(ring, "b", tmp_path / "b", ahead=-3600.0)
    await ring.agrees("abc", alive("abc"))
    assert (await ring["b"].view()).incarnation > before


async def test_an_old_copy_of_a_directory_does_no_harm(ring: RealRing, tmp_path: Path) -> None:
    ring["b"].child.kill()
    await ring["b"].child.ended()
    shutil.copytree(tmp_path / "b", tmp_path / "old")
    await again(ring, "b", tmp_path / "b")
    await ring.agrees("abc", alive("abc"))
    await ring["b"].order("remove", "c")
    await ring["b"].order("update", "a", weight=3)
    await ring["a"].order("update", "b", weight=5)
    await ring.start("d", [ring["a"].place])
    await ring.joined("d")
    before = await ring.agrees("abd", alive("abd"))
    await ring.sees("c", alive("c"))

    ring["b"].child.kill()
    await again(ring, "b", tmp_path / "old")
    views = await ring.agrees("abd", alive("abd"))
    assert {name: member.weight for name, member in views["b"].members.items()} == {"a": 3, "b": 5, "d": 1}
    assert views["b"].incarnation > before["b"].incarnation
    await ring.sees("c", alive("c"))  # what was removed stays so


async def test_a_second_process_on_a_copy_of_a_directory_is_a_clone(ring: RealRing, tmp_path: Path) -> None:
    ring["b"].child.kill()
    await ring["b"].child.ended()
    shutil.copytree(tmp_path / "b", tmp_path / "copy")
    await again(ring, "b", tmp_path / "b")
    before = await ring.agrees("abc", alive("abc"))
    clone = await ring.start("b", process="clone", state_dir=tmp_path / "copy")
    while not await clone.events("NameConflict"):
        await asyncio.sleep(0.05)
    assert (await clone.view()).ring == ""
    assert await ring.agrees("abc", alive("abc")) == before
    assert await ring["a"].order("count", "b") == 1


async def test_a_second_process_on_one_directory_is_told_who_has_it(ring: RealRing, tmp_path: Path) -> None:
    second = await ring.launch("second", "b@127.0.0.1:0", state_dir=tmp_path / "b")
    outcome = await second.reported("failed")
    assert outcome["failed"] == "StateError"
    assert str(ring["b"].child.pid) in outcome["text"]
    await ring.agrees("abc", alive("abc"))


async def test_a_node_that_left_finds_nothing_in_its_directory(ring: RealRing, tmp_path: Path) -> None:
    await ring["b"].order("leave")
    await ring.agrees("ac", alive("ac"))
    ring["b"].child.kill()
    await again(ring, "b", tmp_path / "b")
    await ring.agrees("b", alive("b"))
    await ring.agrees("ac", alive("ac"))
