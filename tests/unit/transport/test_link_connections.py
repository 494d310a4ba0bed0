"""Connections come and go under a link: which of them stays, and nothing is lost or comes twice."""

import asyncio

import pytest

from clusterkit.core.proof import prepare_cookies
from clusterkit.core.record import Kind
from clusterkit.core.session import Resume
from clusterkit.transport.link import CROSSING, Link
from tests.conftest import COOKIE, eventually
from tests.unit.transport.floors import LATENCY, MOST, Caller, Floor, Stage, put

pytestmark = pytest.mark.simulation

NEXT = "the next cookie of all tests"


# -- connections come and go


async def test_what_a_connection_lost_goes_again_on_the_next_one_once() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        session = link.session
        for number in range(30):
            put(link, number)
            put(b.to(a), number)
            if number % 3 == 2:
                await asyncio.sleep(0.5 * LATENCY)
                stage.world.reset("a", "b")
                await asyncio.sleep(LATENCY)
                await eventually(lambda: link.open and b.to(a).open, timeout=10)
        await eventually(lambda: b.got == a.got == [*range(30)])
        assert link.session is session
        assert a.of("session ended") == a.of("down") == []
        assert {lost for *_, lost in a.of("closed")} == {0}
        assert len(a.of("closed")) == 10


async def test_the_newest_of_two_connections_stays_and_goes_on_with_the_session() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        first = await stage.caller(a)
        theirs = await first.resumed()
        second, third = await stage.caller(a), await stage.caller(a)
        put(a.to("x"), "kept")
        await asyncio.sleep(0.5 * LATENCY)
        assert await second.resumed(peer=theirs.own) == Resume(theirs.own, 1, 0, MOST)
        await first.listen()
        await third.listen()
        assert (first.ended, second.ended, third.ended) == (True, False, True)
        assert [kind for kind, _ in second.parts] == [Kind.RESUME, Kind.DATA]
        assert (a.to("x").open, a.of("opened"), a.of("closed")) == (True, [("x",), ("x",)], [])


async def test_who_proved_itself_and_was_overtaken_by_its_next_incarnation_does_not_open() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        early, late = await stage.caller(a, boot=10), await stage.caller(a, boot=11)
        early.resume()
        await early.listen()
        assert (early.ended, a.of("opened")) == (True, [])
        await late.resumed()
        assert a.to("x").peer.incarnation == 11


async def test_a_dial_whose_cookie_is_withdrawn_on_the_way_does_not_open() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", cookie=[COOKIE, NEXT])
        link = a.links.link_to(b.id)
        await asyncio.sleep(4.5 * LATENCY)
        keys = prepare_cookies([NEXT])
        a.links.set_keys(keys)
        await eventually(lambda: link.open)
        assert link.connection is not None
        assert link.connection.cookie == keys[0]
        assert a.of("opened") == [("b",)]


# -- both sides have sent RESUME on a dial of their own


async def crossed(stage: Stage, me: str) -> tuple[Floor, Link, Caller]:
    """Node ``me`` to node m, whose answer is held up, and m to it by hand."""
    a, m = await stage.floors(me, "m")
    caller = await stage.caller(a, "m")
    link = a.links.link_to(m.id)
    await asyncio.sleep(6.5 * LATENCY)  # its RESUME is on the way
    stage.world.cut("m", me)
    return a, link, caller


async def test_the_dial_of_the_lower_name_is_spared() -> None:
    async with Stage() as stage:
        a, link, caller = await crossed(stage, "a")
        session = link.session
        caller.resume()
        assert (await caller.listen(), caller.ended) == ([], True)
        stage.world.heal()
        await eventually(lambda: link.open, timeout=0.3)
        assert (a.of("opened"), a.of("down"), link.session is session) == ([("m",)], [], True)


async def test_the_dial_of_the_higher_name_is_given_up() -> None:
    async with Stage() as stage:
        z, link, caller = await crossed(stage, "z")
        await caller.resumed()
        assert link.open
        stage.world.heal()
        await asyncio.sleep(1)
        assert (z.of("opened"), caller.ended) == ([("m",)], False)


async def test_a_dial_that_does_not_open_soon_is_spared_no_more() -> None:
    async with Stage() as stage:
        _, link, caller = await crossed(stage, "a")
        await asyncio.sleep(CROSSING)
        await caller.resumed()
        assert link.open


async def test_a_dial_of_an_earlier_incarnation_is_not_spared() -> None:
    async with Stage() as stage:
        a, m = await stage.floors("a", "m")
        link = a.links.link_to(m.id)
        await asyncio.sleep(5.5 * LATENCY)
        stage.world.cut("m", "a")  # its answer to our proof is held up
        await asyncio.sleep(CROSSING)
        stage.world.heal()
        async with asyncio.timeout(1):
            while not link._opening:
                await asyncio.sleep(LATENCY / 2)
        stage.world.cut("m", "a")
        caller = await stage.caller(a, "m", boot=11)
        await caller.resumed()
        assert (link.open, link.peer.incarnation) == (True, 11)


# -- cookies


async def test_a_link_whose_cookie_is_withdrawn_is_made_anew_and_loses_nothing() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", cookie=[COOKIE, NEXT])
        link = await a.open_to(b)
        session = link.session
        old, new = prepare_cookies([COOKIE, NEXT])
        for floor in (a, b):
            floor.links.set_keys((new, old))
        await asyncio.sleep(1)
        assert a.of("closed") == []
        put(link, "before")
        b.links.set_keys((new,))
        put(link, "after")
        await eventually(lambda: b.got == ["before", "after"])
        await eventually(lambda: link.open and link.connection.cookie == new)  # type: ignore[union-attr]
        assert (link.session is session, a.of("down"), a.of("session ended")) == (True, [], [])


async def test_what_is_opening_with_a_cookie_that_is_withdrawn_is_cut() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", cookie=[COOKIE, NEXT])
        one, other = await stage.caller(a, cookie=COOKIE), await stage.caller(a, cookie=NEXT)
        a.links.set_keys(prepare_cookies([NEXT]))
        await one.listen()
        await other.listen()
        assert (one.ended, other.ended) == (True, False)


async def test_messages_on_a_connection_that_is_closing_come_once() -> None:
    """Ours said goodbye, and another opens before the other end heard of it."""
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", cookie=[COOKIE, NEXT])
        link = await a.open_to(b)
        old, new = prepare_cookies([COOKIE, NEXT])
        b.links.set_keys((new, old))
        seed = asyncio.create_task(b.links.dial_seed(a.network.host, a.port))
        await asyncio.sleep(5.5 * LATENCY)  # its proof has been taken, and the answer is on its way
        put(link, "once")
        b.links.set_keys((new,))
        await seed
        await asyncio.sleep(1)
        assert b.got == ["once"]
        assert link.open
