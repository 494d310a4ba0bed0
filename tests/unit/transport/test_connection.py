"""One connection: its reads and writes, its timers, and how it ends."""

import asyncio
from dataclasses import replace

import pytest

from clusterkit import Config
from clusterkit.core.channel import FLUSH_SIZE, Reason
from clusterkit.core.record import Kind, part
from clusterkit.core.session import Resume
from clusterkit.runtime import now
from clusterkit.transport.connection import Connection
from clusterkit.transport.link import Link
from tests.conftest import eventually
from tests.unit.transport.floors import LATENCY, PLAIN, SOON, Caller, Floor, Stage, goodbye, put

pytestmark = pytest.mark.simulation

ACK_DELAY = 0.02
NARROW = replace(PLAIN, window=16 << 10)


def of(link: Link) -> Connection:
    assert link.connection is not None
    return link.connection


async def opened(stage: Stage, to: Floor, name: str = "x") -> tuple[Caller, Resume]:
    """A caller whose link is open, and what it heard so."""
    caller = await stage.caller(to, name)
    theirs = await caller.resumed()
    caller.parts.clear()
    return caller, theirs


# -- in


@pytest.mark.simulation(seeds=8)  # either comes first
async def test_what_still_arrives_on_a_connection_that_was_given_up_does_not_count() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        first, theirs = await opened(stage, a)
        second = await stage.caller(a)
        second.resume(peer=theirs.own)
        first.send(part(Kind.DATA, b"\x91\xa4late"))  # both are there in one turn
        assert (await second.heard_resume()).received == len(a.got)


async def test_a_ping_is_answered_and_a_message_acknowledged_in_time() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        caller.send(part(Kind.PING, b"12345678"))
        assert await caller.listen(2.5 * LATENCY) == [(Kind.PONG, b"12345678")]
        caller.send(part(Kind.DATA, b"\x91\xa1x"))
        await caller.listen(ACK_DELAY)
        assert len(caller.parts) == 1
        await caller.listen(3 * LATENCY)
        assert caller.parts[1:] == [(Kind.ACK, (1).to_bytes(8, "big"))]


async def test_a_record_that_is_begun_and_not_ended_cuts_the_connection() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(record_timeout=20.0))
        caller, _ = await opened(stage, a)
        caller.stream.write(bytes(3))
        assert await caller.listen(19.9) == []
        assert not caller.ended
        await caller.listen(0.2)
        assert caller.ended
        assert [why for _, why, _ in a.of("closed")] == ["a record did not end within 20 s"]


async def test_an_acknowledgement_that_rode_on_a_record_is_not_made_up_for_early() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        caller.send(part(Kind.DATA, b"\x91\xa1x"))
        await caller.listen(ACK_DELAY / 2)
        put(a.to("x"), "answer")
        await caller.listen(ACK_DELAY / 4)
        assert [kind for kind, _ in caller.parts] == [Kind.ACK, Kind.DATA]
        caller.send(part(Kind.DATA, b"\x91\xa1y"))
        await caller.listen(ACK_DELAY)
        assert len(caller.parts) == 2
        await caller.listen(3 * LATENCY)
        assert caller.parts[2:] == [(Kind.ACK, (2).to_bytes(8, "big"))]


# -- out


async def test_one_message_leaves_at_once_and_those_of_a_busy_turn_together() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        await asyncio.sleep(SOON)
        put(link, 1)
        assert link.session.written == 1
        put(link, 2, 3, 4)
        assert link.session.written == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert link.session.written == 4
        await asyncio.sleep(SOON)
        assert b.batches == [[1], [2, 3, 4]]


async def test_turns_that_are_busy_send_at_their_ends_and_share_in_the_middle() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        for number in range(12):  # until its records have their full size
            put(link, number)
            await asyncio.sleep(SOON)
        b.batches.clear()
        for _ in range(3):
            put(link, *range(20))
            await asyncio.sleep(0)
        await asyncio.sleep(SOON)
        assert [len(batch) for batch in b.batches] == [1, 19, 20, 20]


async def test_what_the_network_does_not_take_waits_in_the_session() -> None:
    async with Stage() as stage:
        stage.world.shape(NARROW)
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        stage.world.partition("a", "b")
        put(link, *[bytes(20_000)] * 100)
        await asyncio.sleep(1)
        assert of(link).stream.unsent < 3 * FLUSH_SIZE
        assert link.session.has_queued
        stage.world.heal()
        await eventually(lambda: len(b.got) == 100, timeout=60)
        await asyncio.sleep(SOON)
        assert (link.session.unacked, link.session.has_queued, a.of("closed")) == (0, False, [])


async def test_what_waits_leaves_when_the_network_has_taken_the_rest_without_any_other_cause() -> None:
    async with Stage() as stage:
        stage.world.shape(NARROW)
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        put(a.to("x"), *[bytes(20_000)] * 30)  # and no acknowledgement comes
        await caller.listen(2)
        assert sum(len(body) for _, body in caller.parts) > 600_000


async def test_a_reader_that_does_not_read_is_cut_in_time_and_loses_nothing() -> None:
    async with Stage() as stage:
        stage.world.shape(NARROW)
        a = await stage.floor("a", config=Config(write_stall=4.0))
        await opened(stage, a)
        link = a.to("x")
        began = now()
        put(link, *[bytes(20_000)] * 20)
        await eventually(lambda: not link.open, timeout=30)
        assert 3.9 < now() - began < 4.2
        assert [why for _, why, _ in a.of("closed")] == ["no progress of a write for 4 s"]
        assert [why for _, why in a.of("down")] == ["no progress of a write for 4 s"]
        assert a.of("session ended") == []
        assert len(link.session) == 20


async def test_a_write_that_is_held_up_is_looked_at_from_then() -> None:
    """The look that was due anyway would come too late."""
    async with Stage() as stage:
        stage.world.shape(NARROW)
        a = await stage.floor("a", config=Config(write_stall=4.0, ping_after=14.0))
        await opened(stage, a)
        link = a.to("x")
        link.waiting[1] = object()
        put(link, "a question")
        await asyncio.sleep(3)
        began = now()
        put(link, *[bytes(20_000)] * 20)
        await eventually(lambda: not link.open, timeout=30)
        assert now() - began < 4.2
        link.waiting.clear()


# -- health


async def test_a_silent_peer_is_asked_and_cut() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(ping_after=2.0, cut_after=6.0))
        caller, _ = await opened(stage, a)
        put(a.to("x"), "question")
        await caller.listen(1.9)
        assert [kind for kind, _ in caller.parts] == [Kind.DATA]
        await caller.listen(0.2)
        assert [kind for kind, _ in caller.parts] == [Kind.DATA, Kind.PING]
        await caller.listen(3.8)
        assert not caller.ended
        await caller.listen(0.2)
        assert caller.ended
        assert a.of("down") == [("x", "nothing heard for 6 s while an answer was due")]


async def test_a_peer_that_answers_is_asked_again_and_again_and_stays() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b", config=Config(ping_after=2.0, cut_after=6.0))
        link = await a.open_to(b)
        link.waiting[1] = object()
        put(link, "question")
        await asyncio.sleep(100)
        assert a.of("closed") == []
        stage.world.partition("a", "b")
        await asyncio.sleep(8.1)
        assert not link.open
        link.waiting.clear()


async def test_whether_a_peer_is_alive_is_told_by_its_own_answer() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        link = a.to("x")
        asking = [asyncio.create_task(link.alive(1.0)) for _ in range(2)]
        parts = await caller.listen()
        tokens = [body for kind, body in parts if kind == Kind.PING]
        assert len(set(tokens)) == 2
        caller.send(part(Kind.PONG, tokens[1]), part(Kind.PONG, bytes(8)), part(Kind.PONG, tokens[1]))
        assert await asyncio.gather(*asking) == [False, True]
        assert of(link)._pongs == {}


async def test_who_asks_is_answered_when_the_connection_ends() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        link = a.to("x")
        connection, began = of(link), now()
        asking = asyncio.create_task(link.alive(60.0))
        await asyncio.sleep(SOON)
        await caller.aclose()
        assert not await asking
        assert now() - began < 1
        assert not await connection.alive(60.0)
        assert not await link.alive(60.0)


# -- the end


async def test_why_it_was_cut_is_told_though_the_network_ends_it_too() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        for cut_first in (True, False):
            link = await a.open_to(b)
            a.told.clear()
            if not cut_first:
                stage.world.reset("a", "b")
            of(link).cut("for a test")
            of(link).cut("for another reason")
            await asyncio.sleep(SOON)
            assert a.of("closed")[0] == ("b", "for a test", 0)
            await eventually(lambda: b.to(a).open)


async def test_a_cut_connection_writes_nothing_more() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        link = a.to("x")
        connection = of(link)
        connection.cut()
        put(link, "kept")
        connection.flush_soon()
        assert (link.session.written, connection.closed, link.open) == (0, True, False)
        await caller.listen()
        assert (caller.parts, caller.ended) == ([], True)
        assert len(link.session) == 1


async def test_settled_is_when_all_is_acknowledged() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        connection = of(await a.open_to(b))
        await asyncio.sleep(SOON)
        assert await connection.settled(now())
        put(a.to(b), *range(100))
        began = now()
        assert await connection.settled(now() + 60)
        assert ACK_DELAY < now() - began < 0.1
        assert b.got == [*range(100)]


async def test_what_is_owed_to_the_peer_is_acknowledged_before_all_is_settled() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.open_to(b)
        put(b.to(a), "x")
        await asyncio.sleep(1.5 * LATENCY)
        assert a.got == ["x"]
        await link.part(Reason.STOP, now() + 5)
        assert [lost for *_, lost in b.of("closed")] == [0]


async def test_nothing_is_settled_at_the_deadline_or_when_it_ended() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        link = a.to("x")
        connection = of(link)
        put(link, "x")
        began = now()
        assert not await connection.settled(now() + 1.0)
        assert now() - began == pytest.approx(1.0)
        waiting = asyncio.create_task(connection.settled(now() + 60))
        await asyncio.sleep(SOON)
        await caller.aclose()
        assert not await waiting
        assert now() - began < 2
        assert not await connection.settled(now() + 60)


async def test_what_ended_is_not_settled_though_nothing_is_left() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        connection = of(await a.open_to(b))
        await asyncio.sleep(SOON)
        connection.cut()
        assert not await connection.settled(now() + 60)


async def test_one_that_breaks_a_rule_is_not_sent_what_is_unsent() -> None:
    async with Stage() as stage:
        stage.world.shape(NARROW)
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        put(a.to("x"), *[bytes(20_000)] * 20)
        await asyncio.sleep(SOON)
        caller.send(part(Kind.ACK, (99).to_bytes(8, "big")))
        await asyncio.sleep(SOON)
        [(name, why, lost)] = a.of("closed")
        assert why.startswith("ACK 99 outside 0..")
        assert (name, 0 < lost < 20) == ("x", True)


@pytest.mark.parametrize("closes", [True, False])
async def test_a_goodbye_waits_a_second_for_the_other_end_to_close(closes: bool) -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        caller, _ = await opened(stage, a)
        connection = of(a.to("x"))
        parting = asyncio.create_task(connection.part(Reason.LEAVE))
        began = now()
        assert (await caller.listen())[-1] == (Kind.GOODBYE, bytes([Reason.LEAVE]))
        assert (connection.open, parting.done()) == (False, False)
        if closes:
            await caller.aclose()
        await parting
        assert (now() - began < 0.5) == closes
        assert now() - began < 1.1
        await caller.listen()
        assert caller.ended


async def test_a_peer_that_said_goodbye_gets_the_end_of_the_stream_and_no_reset() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        for number in range(8):
            caller, _ = await opened(stage, a, f"x{number}")
            caller.send(goodbye(Reason.STOP))
            async with asyncio.timeout(1):
                assert await caller.stream.read(1) == b""


async def test_a_fault_of_the_floor_above_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    async with Stage() as stage:
        a = await stage.floor("a")

        def faulty(link: Link, messages: list[object]) -> None:
            raise ZeroDivisionError

        a.heed = faulty
        caller, _ = await opened(stage, a)
        caller.send(part(Kind.DATA, b"\x91\xa1x"))
        await caller.listen()
        assert caller.ended
        assert "a fault of this side" in caplog.text
        assert list(a.links) == []
