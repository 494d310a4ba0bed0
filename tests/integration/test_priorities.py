"""Ten megabytes of casts to a slow reader, and what must not wait for them: answers, membership, probes, other peers.

The way is slow and short: little of what was written is on it, and most waits in the outbox.
"""

import asyncio
from dataclasses import replace

from clusterkit import Node
from clusterkit.testing import Plan
from tests.conftest import COOKIE, QUICK, eventually
from tests.integration.paths import Pair, Sink, pair

PATIENCE = 30.0
KIB = bytes(1024)
CASTS = 10_000
RECORD = 64 + 1  # of those casts, in one record: 64 KiB plus one message
SLOW = Plan(delay=(0.008, 0.008))
SHORT = 64 << 10  # bytes that a socket holds


async def test_an_answer_overtakes_what_is_queued() -> None:
    async with asyncio.timeout(PATIENCE), pair(plan=SLOW, send_buffer=SHORT) as both:
        await both.fill(CASTS, KIB)
        session, written = both.a.link("b").session, list[int]()
        both.a.sink.answering = lambda: written.append(session.written)
        for number in range(3):
            assert await both.to_a.call(Sink.echo, number) == number
            assert len(both.b.sink.seen) <= written[number] + RECORD
        assert written[-1] < CASTS
        await all_arrive(both)


async def test_membership_overtakes_what_is_queued() -> None:
    async with asyncio.timeout(PATIENCE), pair(plan=SLOW, send_buffer=SHORT) as both:
        await both.fill(CASTS, KIB)
        session = both.a.link("b").session
        async with Node("c@127.0.0.1:0", cookie=COOKIE, config=QUICK) as c:
            await c.ring.join("test", [f"127.0.0.1:{both.a.proxy.target[1]}"])
            await eventually(lambda: "c" in both.a.node.ring)
            written = session.written
            await eventually(lambda: "c" in both.b.node.ring)
            assert len(both.b.sink.seen) <= written + RECORD
            assert written < CASTS
        await all_arrive(both)


async def test_a_probe_waits_for_one_record_at_the_most() -> None:
    async with asyncio.timeout(PATIENCE), pair(plan=SLOW, send_buffer=SHORT) as both:
        await both.fill(CASTS, KIB)
        link = both.a.link("b")
        for _ in range(3):
            written = link.session.written
            assert await link.alive(5.0)
            # Its answer came with an ACK of all that was received before it.
            assert link.session.acked <= written + 3 * RECORD
        assert link.session.written < CASTS
        await all_arrive(both)


async def test_a_probe_is_answered_ahead_of_what_is_queued() -> None:
    """It goes with a call, whose handler says how much was written when both came; its answer is not behind more."""
    async with asyncio.timeout(PATIENCE), pair(plan=SLOW, send_buffer=SHORT) as both:
        await both.fill(CASTS, KIB)
        session, written = both.a.link("b").session, list[int]()
        both.a.sink.answering = lambda: written.append(session.written)
        for number in range(3):
            asking = asyncio.create_task(both.to_a.call(Sink.echo, number))
            assert await both.b.link("a").alive(5.0)
            arrived = len(both.b.sink.seen)
            await asking
            assert arrived <= written[number] + RECORD
        assert written[-1] < CASTS
        await all_arrive(both)


async def test_a_slow_way_that_moves_is_not_cut() -> None:
    """Each record takes longer than a link may be silent before it probes, and all of them longer than it may be at all."""
    slower = Plan(delay=(0.05, 0.05))
    nervous = replace(QUICK, ping_after=0.04, cut_after=1.0, write_stall=1.0, record_timeout=1.0)
    async with asyncio.timeout(PATIENCE), pair(nervous, plan=slower, send_buffer=SHORT) as both:
        await both.fill(1_500, KIB)
        assert await both.to_a.call(Sink.echo, 1) == 1
        await eventually(lambda: len(both.b.sink.seen) == 1_500, timeout=PATIENCE)
        assert both.b.sink.seen == [*range(1_500)]
        assert (both.a.downs, both.b.downs) == ([], [])


async def all_arrive(both: Pair) -> None:
    """Open the way, and wait for the rest, which goes on over another connection: all came, in order."""
    for side in (both.a, both.b):
        side.proxy.plan = Plan()
    both.reset()
    await eventually(lambda: len(both.b.sink.seen) == CASTS, timeout=PATIENCE)
    assert both.b.sink.seen == [*range(CASTS)]
    assert {down.lost for side in (both.a, both.b) for down in side.downs} == {0}
    assert both.a.letters == []
