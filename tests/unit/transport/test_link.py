"""One link: what it sends and in what order, and when its peer is dialled and called down."""

import asyncio
import logging
from dataclasses import replace

import pytest

from clusterkit import Config
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import prepare_cookies
from clusterkit.core.session import Fate, Lane
from clusterkit.errors import OldIncarnation, WrongRing
from clusterkit.runtime import now
from clusterkit.transport.connection import SHARE
from clusterkit.transport.link import CROSSING
from clusterkit.transport.senders import Room
from tests.conftest import COOKIE, eventually
from tests.unit.transport.floors import LATENCY, PLAIN, SOON, Stage, out, put

pytestmark = pytest.mark.simulation

FEW = Config(outbox_messages=4)
TIGHT = Config(outbox_size=1 << 16, message_limit=1 << 16)
NEXT = "the next cookie of all tests"


# -- sending


async def test_messages_arrive_in_order_also_those_of_before_it_opened() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(b.id)
        put(link, *range(5))
        await eventually(lambda: b.got == [0, 1, 2, 3, 4])
        put(link, 5)
        await eventually(lambda: b.got == [0, 1, 2, 3, 4, 5])
        put(b.to(a), "back")
        await eventually(lambda: a.got == ["back"])
        await asyncio.sleep(SOON)
        assert (link.session.unacked, len(link.session)) == (0, 0)


async def test_a_long_turn_goes_in_parts() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        for _ in range(12):  # until its records have their full size
            put(link, "x")
            await asyncio.sleep(SOON)
        b.batches.clear()
        put(link, *range(3 * SHARE))
        await asyncio.sleep(SOON)
        assert [len(batch) for batch in b.batches] == [1, SHARE, SHARE, SHARE - 1]


async def test_who_comes_later_does_not_overtake_those_who_wait_but_replies_do() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=TIGHT)
        stage.world.partition("a", "b")
        link = a.links.link_to(b.id)
        put(link, bytes(40_000))
        waiting = asyncio.create_task(link.send_when_room(out(bytes(30_000)), now() + 60))
        await asyncio.sleep(0)
        assert not link.send(out("there is room for it"))
        assert not link.send(out("there is room for it", Lane.STREAM))
        put(link, "a reply", lane=Lane.REPLY)
        stage.world.heal()
        assert await waiting is Room.TAKEN


async def test_all_who_wait_get_in_as_the_peer_acknowledges() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=FEW)
        link = await a.open_to(b)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(link.send_when_room(out(number), now() + 60))
        await eventually(lambda: b.got == [*range(20)])


async def test_those_who_wait_get_in_when_a_message_is_withdrawn() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=FEW)
        link = a.links.link_to(NodeId("b", "10.9.9.9", 1))
        first = out("withdrawn")
        assert link.send(first)
        put(link, 1, 2, 3)
        waiting = asyncio.create_task(link.send_when_room(out(4), now() + 2))
        await asyncio.sleep(0)
        assert link.withdraw(first)
        assert not link.withdraw(first)
        assert await waiting is Room.TAKEN
        assert len(link.session) == 4


async def test_a_sender_that_is_cancelled_as_it_is_let_in_leaves_nothing() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=FEW)
        link = a.links.link_to(NodeId("b", "10.9.9.9", 1))
        first = out("withdrawn")
        assert link.send(first)
        put(link, 1, 2, 3)
        message = out(4)
        waiting = asyncio.create_task(link.send_when_room(message, now() + 60))
        await asyncio.sleep(0)
        link.withdraw(first)
        assert message.fate == Fate.QUEUED
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert (message.fate, len(link.session)) == (Fate.WITHDRAWN, 3)


async def test_those_who_wait_look_again_when_the_peer_is_down() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=FEW)
        link = a.links.link_to(NodeId("b", b.network.host, 1))
        put(link, 1, 2, 3, 4)
        assert await link.send_when_room(out(5), now() + 2) is Room.CHANGED
        assert link.down


# -- reaching the peer


async def test_a_refused_dial_is_down_at_once_and_dialled_until_somebody_listens() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(NodeId("b", b.network.host, 5000))
        await asyncio.sleep(0.5)
        [(name, why)] = a.of("down")
        assert (name, link.down, link.why == why) == ("b", True, True)
        assert "nobody listens" in why
        late = await stage.floor("b", boot=11, port=5000)
        await eventually(lambda: link.open, timeout=6)
        assert not link.down
        assert late.of("opened") == [("a",)]


async def test_only_the_node_that_was_dialled_may_answer() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(NodeId("c", b.network.host, b.port))
        await asyncio.sleep(4)
        assert (link.open, link.down) == (False, True)
        assert link.why == "dialled 'c', but 'b' answered"


async def test_of_two_dials_that_cross_the_one_by_the_lower_name_stays() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        there, back = a.links.link_to(b.id), b.links.link_to(a.id)
        await eventually(lambda: there.open and back.open)
        await asyncio.sleep(2)
        assert (a.links.counters["refused"], b.links.counters["refused"]) == (1, 0)
        assert a.of("opened") == [("b",)]
        assert b.of("opened") == [("a",)]
        assert there.connection is not None
        assert there.connection.dialled


async def test_a_dial_that_failed_stands_in_nobodys_way() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(redial_first=3.0))
        b = await stage.floor("b", config=Config(link_limit=1))
        await b.open_to(await stage.floor("c"))
        link = a.links.link_to(b.id)
        await eventually(lambda: "takes no more links" in link.why)
        assert link.challenged_at is None
        back = b.links.link_to(a.id)
        await eventually(lambda: back.open and link.open, timeout=0.05)


async def test_a_dial_that_opened_stands_in_nobodys_way() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        assert link.challenged_at is None


async def test_a_node_that_is_leaving_is_down_and_dialled_no_more() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        b.links.leaving = True
        a.links.link_to(b.id)
        await asyncio.sleep(20)
        assert a.of("down") == [("b", "leaving")]
        assert a.of("refused") == []
        assert b.links.counters["accepted"] == 1


async def test_a_refusal_that_will_not_change_is_told_and_ends_the_dialling() -> None:
    async with Stage() as stage:
        a, b = await stage.floor("a"), await stage.floor("b", ring="another")
        link = a.links.link_to(b.id)
        await asyncio.sleep(20)
        assert a.of("refused") == [("b", WrongRing)]
        assert link.down
        assert b.links.counters["accepted"] == 1


async def test_a_later_incarnation_that_is_known_there_ends_the_dialling() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        b.links.learn_boot("a", 11)
        a.links.link_to(b.id)
        await asyncio.sleep(20)
        assert a.of("refused") == [("b", OldIncarnation)]
        assert b.links.counters["accepted"] == 1


async def test_an_earlier_incarnation_that_answers_is_dialled_until_the_later_one_does() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        a.links.learn_boot("b", 11)
        link = a.links.link_to(b.id)
        await eventually(lambda: b.links.counters["accepted"] >= 3)
        assert a.of("refused") == []
        stage.kill(b)
        await stage.next(b)
        await eventually(lambda: link.open)
        assert link.peer.incarnation == 11


async def test_another_cookie_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Stage() as stage:
        a, b = await stage.floor("a"), await stage.floor("b", cookie=NEXT)
        link = a.links.link_to(b.id)
        await eventually(lambda: a.links.counters["cookie_mismatch"] >= 3)
        assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1
        b.links.set_keys(prepare_cookies([NEXT, COOKIE]))
        await eventually(lambda: link.open)


async def test_nobody_is_left_dialling_when_the_peer_dialled_first() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        back = b.links.link_to(a.id)
        await asyncio.sleep(5.5 * LATENCY)  # its proof is at a, and a's dial is not yet answered
        there = a.links.link_to(b.id)
        await eventually(lambda: there.open and back.open)
        await asyncio.sleep(1)
        assert a.of("opened") == [("b",)]
        assert b.of("opened") == [("a",)]
        assert a.of("closed") == b.of("closed") == []
        assert b.links.counters["accepted"] == 0


@pytest.mark.parametrize("later", range(8))
async def test_two_dials_of_one_node_do_not_end_each_other(later: int) -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        seed = asyncio.create_task(a.links.dial_seed(b.network.host, b.port))
        await asyncio.sleep((later + 0.5) * LATENCY)
        link = a.links.link_to(b.id)
        put(link, *range(10))
        await seed
        await asyncio.sleep(1)
        assert a.of("opened") == [("b",)]
        assert a.of("closed") == a.of("down") == []
        assert (link.open, b.to(a).open, b.got) == (True, True, [*range(10)])


async def test_of_two_dials_one_at_a_time_says_resume() -> None:
    """Else the answer to the first comes when the other end already goes on with the second."""
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        seed = asyncio.create_task(a.links.dial_seed(b.network.host, b.port))
        await asyncio.sleep(2.5 * LATENCY)
        link = a.links.link_to(b.id)
        await asyncio.sleep(4.4 * LATENCY)
        stage.world.shape(replace(PLAIN, latency=2.5 * LATENCY), "b", "a")
        await asyncio.sleep(0.2 * LATENCY)
        assert b.of("opened")
        stage.world.shape(PLAIN, "b", "a")
        await seed
        await asyncio.sleep(1)
        assert a.of("opened") == [("b",)]
        assert a.of("closed") == []
        assert (link.open, b.to(a).open) == (True, True)


async def test_a_dial_that_has_not_opened_in_a_second_is_given_up_for_the_next_one() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(b.id)
        await asyncio.sleep(6.5 * LATENCY)  # its RESUME is on the way
        stage.world.forget("a", "b")
        await asyncio.sleep(CROSSING)
        assert not link.open
        await a.links.dial_seed(b.network.host, b.port)
        await asyncio.sleep(SOON)
        assert link.open


async def test_a_dial_that_was_given_up_does_not_open_when_its_answer_comes_at_last() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.links.dial_seed(b.network.host, b.port)
        await asyncio.sleep(0.9 * LATENCY)
        stage.world.shape(replace(PLAIN, latency=1.1), "b", "a")
        await asyncio.sleep(0.2 * LATENCY)
        assert b.of("opened")
        stage.world.shape(PLAIN, "b", "a")
        await asyncio.sleep(1.1 - 6.6 * LATENCY)  # it comes when the next one has said RESUME
        await a.links.dial_seed(b.network.host, b.port)
        await asyncio.sleep(1)
        assert a.of("opened") == [("b",)]
        assert a.of("closed") == []
        assert (link.open, b.to(a).open) == (True, True)


async def test_a_connection_that_does_not_open_leaves_nothing() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        link = a.links.link_to(NodeId("x", "10.9.9.9", 1))
        for _ in range(3):
            await (await stage.caller(a)).aclose()
        await asyncio.sleep(SOON)
        assert (link._carried, link._opening) == (0, {})


async def test_a_refusal_that_comes_late_does_not_end_what_is_open() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        seed = asyncio.create_task(a.links.dial_seed(b.network.host, b.port))
        await asyncio.sleep(3.5 * LATENCY)
        link = a.links.link_to(b.id)
        await seed
        await asyncio.sleep(2.2 * LATENCY)
        assert link.open
        b.links.leaving = True
        await asyncio.sleep(1)
        assert b.links.counters["refused"] == 1
        assert a.of("down") == []
        assert link.open


async def test_a_resume_that_is_lost_is_given_up_in_time_and_dialled_again() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=Config(handshake_timeout=6.0))
        link = a.links.link_to(b.id)
        put(link, "kept")
        await asyncio.sleep(6.5 * LATENCY)  # both are proven; a's RESUME is on its way
        stage.world.forget("a", "b")
        await asyncio.sleep(5.9)
        assert (link.open, b.links.counters["accepted"]) == (False, 1)
        await eventually(lambda: link.open and b.got == ["kept"], timeout=1.0)


async def test_an_open_connection_is_not_held_to_the_time_that_opening_has() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        await a.open_to(b)
        await asyncio.sleep(100)
        assert a.of("closed") == b.of("closed") == []


async def test_a_peer_that_owes_a_reply_and_is_silent_is_cut_and_down() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        link.waiting[1] = object()
        put(link, "a question")
        await asyncio.sleep(SOON)
        assert link.session.unacked == 0
        stage.world.partition("a", "b")
        await asyncio.sleep(16)
        assert not link.open
        [(name, why)] = a.of("down")
        assert (name, why) == ("b", "nothing heard for 15 s while an answer was due")
        assert a.of("closed") == [("b", why, 0)]
