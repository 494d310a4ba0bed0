"""Monitors: each is told once, with the reason; and a restarted child has its name by then."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from clusterkit import (
    Child,
    Down,
    Exit,
    GenServer,
    Node,
    NoSuchServer,
    Ref,
    Supervisor,
)
from clusterkit.testing import SimCluster
from tests.conftest import NodeFactory, eventually
from tests.integration.places import everywhere, place_of
from tests.integration.rule_actors import ENDS, Mortal, Watcher, over, watching


@everywhere
@pytest.mark.parametrize("how", ENDS)
async def test_each_end_is_told_once_to_each_monitor_with_its_reason(
    where: str, how: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place)
    for _ in range(2):
        await to_watcher.call("watch", ref)
    async with place.asker.monitor(ref) as down:
        await ref.cast(Mortal.end, how)
        async with asyncio.timeout(5):
            told = await down
    assert (told.reason, told.ref) == (ENDS[how], ref)
    await eventually(lambda: len(watcher.seen) == 2)
    assert watcher.heard(Down) == [ENDS[how]] * 2
    assert [each.monitor for each in watcher.seen] == watcher.tokens, "each has its own"
    await over(ref, place)
    assert len(watcher.seen) == 2


@everywhere
async def test_a_kill_is_told_too(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    mortal = Mortal()
    ref = await place.start(mortal, "mortal")
    async with place.asker.monitor(ref) as down:
        await ref.cast(Mortal.end, "hang")
        await mortal.gate.reached()
        await place.home.stop("mortal", timeout=0.01)
        assert (await asyncio.wait_for(down, 5)).reason == "killed"
    assert mortal.reason is None, "terminate does not run"


@everywhere
async def test_who_is_not_there_is_down_at_once(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    watcher, to_watcher = await watching(place)
    await place.start(Mortal(), "gone")
    process = place.process_ref(Mortal, "gone")
    await place.home.stop("gone")
    for ref in (place.ref(Mortal, "nobody"), process):
        await to_watcher.call("watch", ref)
    await eventually(lambda: len(watcher.seen) == 2)
    assert watcher.heard(Down) == ["noproc", "noproc"]


async def test_who_is_on_a_node_that_nobody_knows_is_down_at_once(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    async with place.asker.monitor(place.asker.ref(Mortal, "x", on="nowhere")) as down:
        assert (await asyncio.wait_for(down, 5)).reason == "noconnection"


@everywhere
async def test_an_actor_may_monitor_itself_and_link_with_itself(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    watcher, ref = await watching(place)
    for itself in (ref, place.asker.ref(Watcher, "watcher")):
        await ref.call("watch", itself)
        await ref.call("link", itself)
        await ref.call("unlink", itself)
        await ref.call("link", itself)
    assert await ref.call("ping") == "pong"
    await place.asker.stop(ref)
    assert watcher.seen == []


@everywhere
async def test_demonitor_takes_back_even_a_down_that_waits(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place)
    await to_watcher.call("watch", ref)
    await to_watcher.call("unwatch")
    await to_watcher.call("watch", ref)
    await place.asker.suspend(to_watcher)
    await to_watcher.cast("unwatch")
    await place.home.stop("mortal")
    await over(ref, place)
    await place.asker.resume(to_watcher)
    assert await to_watcher.call("ping") == "pong"
    assert watcher.seen == []


@everywhere
async def test_a_watcher_that_ends_leaves_nothing_behind(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    _, to_watcher = await watching(place)
    await to_watcher.call("watch", ref)
    await to_watcher.call("link", ref)
    async with place.asker.monitor(ref):
        await eventually(lambda: place.home.inspect()[1].watchers == 3)
    await place.asker.stop(to_watcher)
    await eventually(lambda: next(each for each in place.home.inspect() if each.name == "mortal").watchers == 0)
    assert await ref.call(Mortal.ping) == "pong"


@pytest.mark.simulation(seed=5)
async def test_a_node_that_crashes_or_is_cut_off_is_no_connection_and_told_once() -> None:
    watcher = Watcher()
    async with SimCluster(["a", "b"], app=_start_mortals) as sim:
        a = sim["a"]
        await a.start(watcher)
        mortal = a.ref(Mortal, "mortal", on="b")
        watcher.monitor(mortal)
        watcher.link(mortal)
        sim.crash("b")
        await asyncio.sleep(120)
        assert (watcher.heard(Down), watcher.heard(Exit)) == (["noconnection"], ["noconnection"])
        await sim.start("b")
        await sim.settle()
        watcher.monitor(mortal)
        sim.partition("a", "b")
        await asyncio.sleep(120)
        sim.heal()
        await sim.settle()
        assert watcher.heard(Down) == ["noconnection", "noconnection"]
        await mortal.cast(Mortal.end, "normal")
        await asyncio.sleep(10)
        assert len(watcher.seen) == 3


async def _start_mortals(node: Node) -> None:
    if node.id.name != "a":
        await node.start(Mortal(), name="mortal")


# -- supervisors: names


class Shop(Supervisor):
    def __init__(self, make: Callable[[], GenServer]) -> None:
        self.make = make

    def children(self) -> Sequence[Child[Any]]:
        return [Child(self.make, name="clerk")]


@everywhere
async def test_a_restarted_child_has_its_name_before_the_down_of_the_old_one_is_told(
    where: str, start_node: NodeFactory
) -> None:
    class Curious(Watcher):
        async def handle_info(self, info: Any) -> None:
            self.seen.append(info)
            clerk: Ref[Mortal] = self.node.ref(Mortal, "clerk", on="home")
            self.seen.append(await clerk.call(Mortal.ping))

    place = await place_of(start_node, where)
    await place.home.start(Shop(Mortal), name="shop")
    watcher = Curious()
    to_watcher = await place.asker.start(watcher)
    clerk = place.ref(Mortal, "clerk")
    old = place.process_ref(Mortal, "clerk")
    await to_watcher.call("watch", clerk)
    await clerk.cast(Mortal.end, "crash")
    await eventually(lambda: len(watcher.seen) == 2)
    assert (watcher.seen[0].reason, watcher.seen[1]) == ("ValueError: no such account", "pong")
    assert place.process_ref(Mortal, "clerk") != old
    with pytest.raises(NoSuchServer):
        await old.call(Mortal.ping)


@everywhere
async def test_too_many_restarts_stop_the_supervisor_with_shutdown(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    await place.home.start(Shop(Mortal), name="shop")
    clerk = place.ref(Mortal, "clerk")
    async with place.asker.monitor(place.ref(Shop, "shop")) as down:
        for _ in range(2):
            async with place.asker.monitor(clerk) as dead:
                await clerk.cast(Mortal.end, "crash")
                await asyncio.wait_for(dead, 5)
        assert (await asyncio.wait_for(down, 5)).reason == "shutdown"
    assert len(place.home.inspect()) == 1
