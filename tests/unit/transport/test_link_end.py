"""A link that parts says goodbye when its peer has all; one that is forgotten ends at once."""

import asyncio
import logging

import pytest

from clusterkit import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Role
from clusterkit.core.session import Lane
from clusterkit.runtime import now
from clusterkit.transport.link import Link
from clusterkit.transport.senders import Room
from tests.conftest import eventually
from tests.unit.transport.floors import LATENCY, SOON, Floor, Stage, out, put

pytestmark = pytest.mark.simulation

FEW = Config(outbox_messages=4)


# -- the end


async def test_a_link_that_parts_flushes_waits_and_says_goodbye() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(link, *range(1_000))
        await link.part(Reason.LEAVE, now() + 5)
        assert b.got == [*range(1_000)]
        assert b.of("parted") == [("a", Reason.LEAVE)]
        assert a.of("session ended") == []
        assert [lost for *_, lost in a.of("closed")] == [0]


async def test_a_link_that_parts_takes_nothing_new_and_lets_nobody_wait() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=FEW)
        link = await a.open_to(b)
        stage.world.partition("a", "b")
        put(link, 1, 2, 3, 4)
        waiting = asyncio.create_task(link.send_when_room(out(5), now() + 60))
        await asyncio.sleep(0)
        parting = asyncio.create_task(link.part(Reason.STOP, now() + 5))
        await asyncio.sleep(0)
        assert link.parting
        assert await waiting is Room.CHANGED
        began = now()
        await parting
        assert 4.9 < now() - began < 6.1
        assert a.of("session ended") == [([1, 2, 3, 4], [])]
        assert a.of("closed") == [("b", "stopped", 4)]


async def test_a_connection_that_breaks_while_its_link_parts_comes_back_for_the_rest() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(link, *range(100))
        parting = asyncio.create_task(link.part(Reason.STOP, now() + 5))
        await asyncio.sleep(0.5 * LATENCY)
        stage.world.reset("a", "b")
        await parting
        assert b.got == [*range(100)]
        assert b.of("parted") == [("a", Reason.STOP)]
        assert now() < 1


async def test_a_goodbye_that_breaks_on_the_way_is_said_again() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        await asyncio.sleep(SOON)
        parting = asyncio.create_task(link.part(Reason.LEAVE, now() + 5))
        await asyncio.sleep(0.5 * LATENCY)
        stage.world.reset("a", "b")
        await parting
        assert b.of("parted") == [("a", Reason.LEAVE)]
        assert now() < 1


async def test_a_link_that_parts_does_not_wait_for_a_peer_that_is_down() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        stage.kill(b)
        await eventually(lambda: link.down)
        put(link, "queued")
        began = now()
        await link.part(Reason.STOP, now() + 60)
        assert now() - began < 0.1
        assert a.of("session ended") == [([], ["queued"])]


async def down_and_opening(stage: Stage, link: Link, b: Floor) -> Floor:
    """Bring a link to where its peer is called down, and its next incarnation has proven itself."""
    stage.kill(b)
    await eventually(lambda: link.down)
    put(link, "queued", by_name=True)
    again = await stage.next(b)
    async with asyncio.timeout(10):
        while not link._opening:
            await asyncio.sleep(LATENCY / 4)
    assert (link.down, link.open) == (True, False)
    return again


async def test_a_link_that_parts_waits_for_a_connection_that_is_opening() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        again = await down_and_opening(stage, link, b)
        await link.part(Reason.STOP, now() + 5)
        assert again.got == ["queued"]
        assert again.of("parted") == [("a", Reason.STOP)]


async def test_a_link_that_parts_waits_no_longer_than_that_connection_lives() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(handshake_timeout=6.0))
        b = await stage.floor("b")
        link = await a.open_to(b)
        await down_and_opening(stage, link, b)
        stage.world.partition("a", "b")
        began = now()
        await link.part(Reason.STOP, now() + 60)
        assert 5.9 < now() - began < 6.1
        assert a.of("session ended")[-1] == ([], ["queued"])


async def test_a_link_that_parts_gives_up_when_its_peer_is_called_down() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(link, "written")
        stage.world.partition("a", "b", reset=True)
        await eventually(lambda: not link.open)
        began = now()
        await link.part(Reason.STOP, now() + 60)
        assert 2.5 < now() - began < 3.5


async def test_a_link_that_is_forgotten_ends_all_and_is_dialled_no_more() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=FEW)
        link = await a.open_to(b)
        stage.world.partition("a", "b")
        put(link, 1, 2, 3, 4)
        await asyncio.sleep(0)
        waiting = asyncio.create_task(link.send_when_room(out(5), now() + 60))
        await asyncio.sleep(0)
        await a.links.forget("b", "removed")
        assert await waiting is Room.CHANGED
        assert (link.parting, link.connection, a.links.get("b")) == (True, None, None)
        assert a.of("session ended") == [([1, 2, 3, 4], [])]
        assert a.of("closed") == [("b", "removed", 4)]
        stage.world.heal()
        accepted = b.links.counters["accepted"]
        await asyncio.sleep(20)
        assert b.links.counters["accepted"] == accepted


async def test_a_link_that_is_forgotten_while_it_is_dialled_does_not_come_about() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(NodeId("b", "10.9.9.9", 1))
        await asyncio.sleep(1)
        await a.links.forget("b", "removed")
        await asyncio.sleep(20)
        assert (a.of("down"), a.of("closed"), link.open) == ([], [], False)
        await a.links.dial_seed(b.network.host, b.port)
        await a.links.forget("b", "removed")
        await asyncio.sleep(1)
        assert b.of("opened") == []


async def test_a_link_that_is_forgotten_while_it_parts_has_parted() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        stage.world.partition("a", "b", reset=True)
        await eventually(lambda: not link.open)
        put(link, "queued")
        parting = asyncio.create_task(link.part(Reason.STOP, now() + 60))
        await asyncio.sleep(0.1)
        assert not parting.done()
        await a.links.forget("b", "removed")
        await asyncio.wait([parting], timeout=0.1)
        assert parting.done()


async def test_what_keeps_the_ring_is_no_loss() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        stage.world.partition("a", "b")
        put(link, "of the ring", lane=Lane.CONTROL)
        put(link, "a reply", lane=Lane.REPLY)
        await asyncio.sleep(0)
        await a.links.forget("b", "removed")
        assert a.of("closed") == [("b", "removed", 1)]


async def test_the_address_of_this_incarnation_alone_is_taken() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        link.moved(NodeId("b", "10.8.8.8", 8, 9))
        link.moved(NodeId("c", "10.8.8.8", 8, 10))
        assert link.peer == b.id
        link.moved(NodeId("b", "10.8.8.8", 8, 10))
        assert link.peer == NodeId("b", "10.8.8.8", 8, 10)


async def test_nobody_says_node_for_a_name_that_is_a_clients(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Stage() as stage:
        a = await stage.floor("a")
        caller = await stage.caller(a, "cli", role=Role.CLIENT)
        await caller.resumed()
        caller.stream.abort()
        await eventually(lambda: a.of("down"))
    assert "is down" not in caplog.text
