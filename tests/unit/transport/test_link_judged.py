"""Links of a ring: the ring says who is down, and how a link to one that is no member any more ends."""

import asyncio

import pytest

from clusterkit import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.runtime import now
from tests.conftest import eventually
from tests.unit.transport.floors import SOON, Stage, put

pytestmark = pytest.mark.simulation

SLOW = Config(redial_first=50.0, redial_most=100.0)


async def test_a_verdict_is_told_once_and_can_be_unsaid() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        link.judge("does not answer")
        link.judge("does not answer at all")
        assert (link.down, link.why) == (True, "does not answer at all")
        assert a.of("down") == [("b", "does not answer")]
        link.judge(None)
        assert not link.down
        assert not link.why


async def test_a_connection_to_one_that_is_called_down_is_made_anew() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        link.judge("does not answer")
        await eventually(lambda: len(a.of("opened")) == 2 and link.open)
        assert link.down  # until the ring says otherwise


async def test_once_the_ring_judges_no_failure_of_a_dial_is_a_verdict_but_each_is_told() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        link.judge(None)
        stage.kill(b)
        await eventually(lambda: len(a.of("unreached")) > 3)
        assert not link.down
        assert a.of("down") == []
        assert set(a.of("unreached")) == {("b", b.port, ConnectionRefusedError)}


async def test_a_peer_that_is_in_another_ring_is_dialled_on_when_the_ring_judges() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        b = await stage.floor("b", ring="other")
        link = a.links.link_to(b.id)
        link.judge(None)
        await eventually(lambda: len(a.of("unreached")) > 2, timeout=30)
        assert a.of("refused") == []


async def test_what_is_due_later_is_dialled_now_in_a_hurry() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=SLOW)
        stage.world.crash("b", reset=True)
        link = a.links.link_to(NodeId("b", b.network.host, b.port))
        link.judge(None)
        await eventually(lambda: a.of("unreached"), timeout=10)
        stage.world.revive("b")
        c = await stage.next(b)
        began = now()
        link.hurry()
        await eventually(lambda: link.open)
        assert now() - began < 5
        assert c.to(a).open


async def test_a_goodbye_to_a_judged_link_is_told_and_it_is_dialled_on() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        link.judge(None)
        await b.to(a).part(Reason.STOP, now() + 1)
        await eventually(lambda: a.of("parted"))
        assert a.of("parted") == [("b", Reason.STOP)]
        assert a.of("down") == []
        assert not link.down


# -- no member any more


async def test_one_that_is_dropped_gets_what_was_sent_before_and_a_goodbye() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(link, *range(500))
        await a.links.drop("b", now() + 5)
        assert b.got == [*range(500)]
        assert [name for name, _ in b.of("parted")] == ["a"]
        assert list(a.links) == []
        await a.links.drop("b", now() + 5)


async def test_one_that_is_dropped_and_does_not_answer_is_forgotten_in_time() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        stage.world.partition("a", "b")
        put(link, 1)
        dropping = asyncio.create_task(a.links.drop("b", now() + 2))
        await asyncio.sleep(SOON)
        await a.links.drop("b", now() + 2)  # it parts already
        began = now()
        await dropping
        assert now() - began < 4
        assert list(a.links) == []


async def test_one_that_left_may_send_its_rest_and_say_goodbye_before_it_is_forgotten() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        await a.open_to(b)
        put(b.to(a), *range(500))
        releasing = asyncio.create_task(a.links.release("b", now() + 30))
        await b.to(a).part(Reason.LEAVE, now() + 5)
        async with asyncio.timeout(10):
            await releasing
        assert a.got == [*range(500)]
        assert list(a.links) == []


async def test_one_that_left_and_says_nothing_is_forgotten_in_time() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        await a.open_to(b)
        began = now()
        await a.links.release("b", began + 3)
        assert now() - began < 4
        assert list(a.links) == []
        await a.links.release("b", now() + 3)


async def test_one_that_is_wanted_again_meanwhile_is_kept() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        releasing = asyncio.create_task(a.links.release("b", now() + 3))
        await asyncio.sleep(SOON)
        assert a.links.link_to(b.id) is link
        await releasing
        assert list(a.links) == [link]
