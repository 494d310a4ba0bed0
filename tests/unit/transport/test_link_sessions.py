"""What ends a session and what does not, what becomes of its messages, and what its peer accepts."""

import asyncio

import pytest

from clusterkit import Config
from clusterkit.core.channel import OVERHEAD, Reason
from clusterkit.core.record import Kind, part
from clusterkit.core.session import Lane, Resume
from clusterkit.runtime import now
from clusterkit.transport.link import Link
from clusterkit.transport.senders import Room
from tests.conftest import eventually
from tests.unit.transport.floors import LATENCY, MOST, POISON, SOON, Caller, Floor, Stage, goodbye, out, put

pytestmark = pytest.mark.simulation

FEW = Config(outbox_messages=4)


# -- restarts


async def test_the_next_incarnation_gets_what_was_never_written_and_is_addressed_by_name() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=FEW)
        link = await a.open_to(b)
        session = link.session
        put(link, "written", by_name=True)
        stage.kill(b)
        await eventually(lambda: not link.open)
        put(link, "for it alone")
        put(link, "for the name", by_name=True)
        put(link, "ring", lane=Lane.CONTROL)
        again = await stage.next(b)
        await eventually(lambda: again.got)
        await asyncio.sleep(SOON)
        assert again.got == ["for the name"]
        assert a.of("session ended") == [(["written"], ["ring", "for it alone"])]
        assert [told[1:] for told in a.of("closed")][-1] == ("restarted", 1)
        assert (link.peer.incarnation, link.session.own > session.own) == (11, True)
        assert again.links.counters["accepted"] == 1


async def test_who_waits_for_room_when_a_peer_restarts_looks_again() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=FEW)
        link = await a.open_to(b)
        stage.kill(b)
        await eventually(lambda: not link.open)
        put(link, 1, 2, 3, 4, by_name=True)
        waiting = asyncio.create_task(link.send_when_room(out("for it alone"), now() + 60))
        await asyncio.sleep(0)
        again = await stage.next(b)
        assert await waiting is Room.CHANGED
        await eventually(lambda: again.got == [1, 2, 3, 4])
        await asyncio.sleep(SOON)
        assert again.got == [1, 2, 3, 4]


async def test_an_incarnation_that_dials_us_first_is_met_as_well() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(link, "written")
        stage.kill(b)
        again = await stage.next(b)
        again.links.link_to(a.id)
        await eventually(lambda: again.of("opened"))
        assert (link.peer.incarnation, a.of("session ended")) == (11, [(["written"], [])])
        put(again.to(a), "hello")
        await eventually(lambda: a.got == ["hello"])


async def test_a_connection_that_replaces_the_open_one_and_does_not_open_leaves_none() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        first = await stage.caller(a)
        await first.resumed(own=5)
        link = a.to("x")
        link.want()
        second = await stage.caller(a)
        second.resume(own=4)  # an object that has ended
        await second.listen()
        await first.listen()
        assert (first.ended, second.ended, link.open) == (True, True, False)
        await asyncio.sleep(4)
        assert link.down  # it was dialled


# -- sessions that end


async def kept(stage: Stage, a: Floor, caller: Caller, theirs: Resume) -> bool:
    """Whether the session goes on with the next connection."""
    again = await stage.caller(a)
    return (await again.resumed(peer=theirs.own)).own == theirs.own


async def opened(stage: Stage, a: Floor) -> tuple[Caller, Resume, Link]:
    """A caller whose link is open."""
    caller = await stage.caller(a)
    theirs = await caller.resumed()
    return caller, theirs, a.to("x")


@pytest.mark.parametrize("reason", [Reason.STOP, Reason.LEAVE])
async def test_a_goodbye_for_good_ends_the_session_and_the_dialling(reason: Reason) -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _, link = await opened(stage, a)
        link.want()
        put(link, "in doubt")
        await asyncio.sleep(0)
        caller.send(goodbye(reason))
        await caller.listen()
        said = "stopped" if reason is Reason.STOP else "left"
        assert a.of("session ended")[0] == (["in doubt"], [])
        assert a.of("closed") == [("x", said, 1)]
        assert a.of("down") == [("x", said)]
        assert a.of("parted") == [("x", reason)]
        await asyncio.sleep(10)
        assert not link.open


async def test_a_plain_loss_keeps_the_session() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, theirs, _ = await opened(stage, a)
        caller.stream.abort()
        await asyncio.sleep(1)
        assert a.of("closed")[0][2] == 0
        assert await kept(stage, a, caller, theirs)
        assert a.of("session ended") == a.of("parted") == []


async def test_a_goodbye_that_asks_for_another_connection_keeps_the_session_and_is_not_down() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=Config(redial_first=5.0))
        link = await a.open_to(b)
        session, back = link.session, b.to(a).connection
        assert back is not None
        await back.part(Reason.AGAIN)
        await eventually(lambda: link.open, timeout=0.05)
        assert (link.session is session, a.of("down"), a.of("parted")) == (True, [], [])
        assert a.of("closed") == [("b", "asked for another connection", 0)]


@pytest.mark.parametrize("when", ["open", "opening"])
async def test_a_rule_that_is_broken_ends_the_session(when: str) -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, theirs, link = await opened(stage, a)
        put(link, "in doubt")
        await asyncio.sleep(SOON)
        if when == "opening":
            caller.stream.abort()
            await asyncio.sleep(SOON)
            caller = await stage.caller(a)
            caller.resume(peer=theirs.own, received=2)
        else:
            caller.send(part(Kind.ACK, (2).to_bytes(8, "big")))
        await asyncio.sleep(SOON)
        assert a.of("session ended") == [(["in doubt"], [])]
        assert [told[2] for told in a.of("closed")][-1] == 1
        assert not await kept(stage, a, caller, theirs)


async def test_a_message_that_is_none_ends_the_session() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(link, POISON)
        await eventually(lambda: b.of("closed"))
        assert [told[1:] for told in b.of("closed")] == [("poison", 0)]


async def test_a_record_that_somebody_changed_costs_the_connection_and_is_counted() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, theirs, _ = await opened(stage, a)
        caller.stream.write((9).to_bytes(4, "big") + bytes(25))
        await caller.listen()
        assert (caller.ended, a.links.counters["invalid_checksum"]) == (True, 1)
        assert await kept(stage, a, caller, theirs)
        assert a.of("session ended") == []


async def test_a_peer_that_ended_its_session_is_told_above_and_the_queue_goes_on() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, theirs, link = await opened(stage, a)
        put(link, "in doubt")
        put(link, "of the ring", lane=Lane.CONTROL)
        await asyncio.sleep(SOON)
        caller.stream.abort()
        await asyncio.sleep(SOON)
        put(link, "queued")
        again = await stage.caller(a)
        answer = await again.resumed(own=2)
        assert answer == Resume(theirs.own, 1, 0, MOST)
        assert a.of("session ended") == [(["in doubt", "of the ring"], [])]
        assert a.of("closed")[1:] == [("x", "the peer ended the session", 1)]
        assert again.parts[1] == (Kind.DATA, b"\x91\xa6queued")


async def test_a_session_that_is_ended_here_is_reported_and_its_connection_cut() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, theirs, link = await opened(stage, a)
        put(link, "in doubt")
        await asyncio.sleep(0)
        link.end_session("enough")
        await caller.listen()
        assert caller.ended
        assert a.of("session ended") == [(["in doubt"], [])]
        assert a.of("closed") == [("x", "enough", 1)]
        assert not await kept(stage, a, caller, theirs)


async def test_a_link_whose_session_ends_in_the_middle_of_its_opening_opens_with_the_next() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(b.id)
        await asyncio.sleep(6.5 * LATENCY)
        link.end_session("enough")
        put(link, "later")
        await eventually(lambda: b.got == ["later"])
        assert a.of("opened") == [("b",)]


# -- what the peer accepts


async def test_queued_messages_over_the_peers_limit_are_reported() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, theirs, link = await opened(stage, a)
        assert link.most_body == MOST - OVERHEAD
        caller.stream.abort()
        await asyncio.sleep(SOON)
        put(link, bytes(100_000), "small")
        again = await stage.caller(a)
        await again.resumed(peer=theirs.own, most=1 << 16)
        assert link.most_body == (1 << 16) - OVERHEAD
        assert a.of("too large") == [([100_005],)]
        assert len(again.parts) == 2


async def test_a_peer_that_accepts_more_gets_no_more_than_we_do() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller = await stage.caller(a)
        await caller.resumed(most=1 << 26)
        assert a.to("x").most_body == MOST - OVERHEAD


async def test_who_waits_gets_in_when_opening_made_room() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=FEW)
        caller, theirs, link = await opened(stage, a)
        caller.stream.abort()
        await asyncio.sleep(SOON)
        put(link, *[bytes(100_000)] * 4)
        waiting = asyncio.create_task(link.send_when_room(out("small"), now() + 60))
        await asyncio.sleep(0)
        again = await stage.caller(a)
        await again.resumed(peer=theirs.own, most=1 << 16)
        assert await waiting is Room.TAKEN
        assert again.parts[1] == (Kind.DATA, b"\x91\xa5small")
