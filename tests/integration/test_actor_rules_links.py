"""Links: two that end together, whichever side made the link."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    Exit,
    GenServer,
    Ref,
    call,
    cast,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Place, everywhere, place_of
from tests.integration.rule_actors import ENDS, Mortal, Watcher, over, watching


@everywhere
@pytest.mark.parametrize("how", ["shutdown", "crash"])
async def test_a_linked_actor_ends_with_the_other_for_the_same_reason_either_way(
    where: str, how: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    for linked_ends in (True, False):
        mortal = Mortal()
        ref = await place.start(mortal, "mortal")
        watcher, to_watcher = await watching(place, trap_exit=False)
        await to_watcher.call("link", ref)
        await over(ref, place)
        if linked_ends:
            await ref.cast(Mortal.end, how)
        else:
            await place.asker.stop(to_watcher, ENDS[how])
        await eventually(lambda: place.home.whereis("mortal") is None and place.asker.whereis("watcher") is None)
        assert (watcher if linked_ends else mortal).reason == ENDS[how], "terminate runs, with the reason"


@everywhere
async def test_a_normal_end_stops_nobody_else(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place, trap_exit=False)
    await to_watcher.call("link", ref)
    await over(ref, place)
    await place.home.stop("mortal")
    await over(ref, place)
    assert await to_watcher.call("ping") == "pong"
    assert watcher.seen == []


@everywhere
@pytest.mark.parametrize("how", ENDS)
async def test_who_traps_exits_is_told_of_every_end_once_and_lives(
    where: str, how: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place)
    for _ in range(2):
        await to_watcher.call("link", ref)
    await ref.cast(Mortal.end, how)
    await eventually(lambda: watcher.seen)
    await over(ref, place)
    assert await to_watcher.call("ping") == "pong"
    assert watcher.heard(Exit) == [ENDS[how]]


@everywhere
async def test_linking_with_nobody_is_an_end(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    watcher, to_watcher = await watching(place)
    await to_watcher.call("link", place.ref(Mortal, "nobody"))
    await eventually(lambda: watcher.heard(Exit) == ["noproc"])
    await place.asker.stop(to_watcher)
    watcher, to_watcher = await watching(place, trap_exit=False)
    await to_watcher.call("link", place.ref(Mortal, "nobody"))
    await eventually(lambda: watcher.reason == "noproc")


async def two_watchers(place: Place) -> tuple[Watcher, Watcher, Ref[Any], Ref[Any], Ref[Any], Ref[Any]]:
    """X beside the asker and Y at home: both, how to reach them, and how each calls the other's process."""
    x, y = Watcher(), Watcher()
    to_x = await place.asker.start(x, name="x")
    to_y = await place.home.start(y, name="y")
    return x, y, to_x, to_y, place.process_ref(Watcher, "y"), Place(place.home, place.asker).process_ref(Watcher, "x")


@everywhere
async def test_a_link_that_both_sides_made_is_one_link(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await to_y.call("link", x_of_y)
    await over(to_x, place)
    await place.home.stop(to_y)
    await eventually(lambda: x.seen)
    await over(to_x, place)
    assert x.heard(Exit) == ["normal"]


@everywhere
async def test_links_that_cross_are_told_once(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    await asyncio.gather(to_x.call("link", y_of_x), to_y.call("link", x_of_y))
    await over(to_x, place)
    await place.home.stop(to_y)
    await eventually(lambda: x.seen)
    await over(to_x, place)
    assert x.heard(Exit) == ["normal"]


@everywhere
@pytest.mark.parametrize("made_by", ["x", "y", "both"])
@pytest.mark.parametrize("undone_by", ["x", "y"])
async def test_a_link_is_undone_by_either_side_and_can_be_made_again(
    where: str, made_by: str, undone_by: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    x, y, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    if made_by != "y":
        await to_x.call("link", y_of_x)
        await over(to_x, place)
    if made_by != "x":
        await to_y.call("link", x_of_y)
        await over(to_x, place)
    await (to_x.call("unlink", y_of_x) if undone_by == "x" else to_y.call("unlink", x_of_y))
    await over(to_x, place)
    assert [each.watchers for node in (place.asker, place.home) for each in node.inspect()[1:]] in ([0, 0], [0] * 4)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await to_y.call("unlink", x_of_y)
    await over(to_x, place)
    await place.home.stop(to_y)
    await over(to_x, place)
    assert (x.seen, y.seen) == ([], [])


@everywhere
async def test_a_link_undone_and_made_again_holds(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await to_y.call("unlink", x_of_y)
    await over(to_x, place)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await place.home.stop(to_y)
    await eventually(lambda: x.heard(Exit) == ["normal"])


async def test_a_ring_of_links_ends_as_one(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    nodes = [place.asker, place.home] * 3
    watchers = [Watcher(trap_exit=False) for _ in nodes]
    refs = [await node.start(each, name=f"w{at}") for at, (node, each) in enumerate(zip(nodes, watchers, strict=True))]
    for at, (node, ref) in enumerate(zip(nodes, refs, strict=True)):
        other = (at + 1) % len(nodes)
        await ref.call("link", node.ref(Watcher, f"w{other}", on=nodes[other].id.name))
    await over(refs[0], place)
    await nodes[2].stop(refs[2], "bad news")
    await eventually(lambda: [each.reason for each in watchers] == ["bad news"] * 6)


async def test_an_actor_started_with_link_ends_with_its_starter(start_node: NodeFactory) -> None:
    class Parent(GenServer):
        @call
        async def start_child(self) -> None:
            await self.node.start(Mortal(), name="child", link=True)

        @cast
        async def crash(self) -> None:
            raise ValueError("parent")

    node = await start_node("a")
    parent = await node.start(Parent())
    await parent.call(Parent.start_child)
    await parent.cast(Parent.crash)
    await eventually(lambda: len(node.inspect()) == 1)
