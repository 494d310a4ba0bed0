"""The bounded outbox: a full one holds its senders, each to his deadline; nothing that was taken is dropped unreported."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import CallTimeout, DeadLetter, LinkDown, LinkFull, MailboxFull, NodeDown
from clusterkit.actors.ref import Ref
from clusterkit.config import Config
from clusterkit.runtime import now
from clusterkit.testing import Child, ProcessCluster
from tests.conftest import QUICK, eventually
from tests.integration.cluster_app import Witness
from tests.integration.paths import Pair, Sink, pair

PATIENCE = 10.0
KIB = bytes(1024)
FEW = replace(QUICK, outbox_messages=8, down_after=60.0)
SMALL = replace(QUICK, outbox_size=64 << 10, message_limit=64 << 10, down_after=60.0)
BOUNDS = {"messages": (FEW, 8, b""), "bytes": (SMALL, 62, KIB)}

Send = Callable[[Ref[Sink], int, bytes], Awaitable[Any]]
SENDS: dict[str, Send] = {
    "cast": lambda ref, number, fill: ref.cast(Sink.take, number, fill),
    "call": lambda ref, number, fill: ref.call(Sink.echo, number, fill),
    "info": lambda ref, number, fill: ref.send([number, fill]),
}


async def taken_until_full(ref: Ref[Sink], fill: bytes) -> int:
    """Cast until the outbox takes no more; return how many it took."""
    number = 0
    while True:
        try:
            await ref.with_(timeout=0.05).cast(Sink.take, number, fill)
        except LinkFull:
            return number
        number += 1


@pytest.mark.parametrize("how", SENDS)
@pytest.mark.parametrize("bound", BOUNDS)
async def test_a_full_outbox_holds_each_sender_to_his_deadline(bound: str, how: str) -> None:
    config, count, fill = BOUNDS[bound]
    async with asyncio.timeout(PATIENCE), pair(config) as both:
        both.stall()
        assert await taken_until_full(both.to_b, fill) == count
        began = now()
        with pytest.raises(LinkFull, match="outbox to b stayed full") as caught:
            await SENDS[how](both.to_b.with_(timeout=0.2), -1, fill)
        assert now() - began >= 0.2
        assert caught.value.executed == "no"
        assert caught.value.node == both.b.node.id
        both.go_on()
        await both.to_b.cast(Sink.take, count)
        await eventually(lambda: len(both.b.sink.seen) > count)
        assert both.b.sink.seen == [*range(count + 1)]  # what was taken, and not what was refused
        assert (both.a.letters, both.a.node.stats()["dead_letters"]) == ([], 0)


async def test_senders_are_served_in_the_order_in_which_they_came() -> None:
    async with asyncio.timeout(PATIENCE), pair(FEW) as both, asyncio.TaskGroup() as group:
        both.stall()
        await both.fill(8)
        for number in range(8, 100):
            group.create_task(both.to_b.cast(Sink.take, number))
            await asyncio.sleep(0)
        both.go_on()
        for number in range(100, 200):  # who comes while others wait stands behind them
            await both.to_b.cast(Sink.take, number)
        await eventually(lambda: len(both.b.sink.seen) == 200)
        assert both.b.sink.seen == [*range(200)]


async def test_a_small_message_does_not_overtake_a_large_one_that_waits_for_room() -> None:
    async with asyncio.timeout(PATIENCE), pair(SMALL) as both:
        both.stall()
        await both.fill(60, KIB)
        large = asyncio.create_task(both.to_b.cast(Sink.take, 60, bytes(8 << 10)))
        await asyncio.sleep(0)
        small = asyncio.create_task(both.to_b.cast(Sink.take, 61))
        await asyncio.sleep(0)
        assert not large.done()
        assert not small.done()  # though there is room for it
        both.go_on()
        await asyncio.wait([large, small])
        await eventually(lambda: len(both.b.sink.seen) == 62)
        assert both.b.sink.seen == [*range(62)]


async def test_one_who_gives_up_in_the_line_does_not_hold_up_those_behind_him() -> None:
    async with asyncio.timeout(PATIENCE), pair(FEW) as both:
        both.stall()
        await both.fill(8)
        late = [asyncio.create_task(both.to_b.with_(timeout=0.05).cast(Sink.take, -1)) for _ in range(3)]
        gone = [asyncio.create_task(both.to_b.cast(Sink.take, -2)) for _ in range(3)]
        rest = asyncio.create_task(both.fill(4, start=8))
        await asyncio.wait(late)
        for task in gone:
            task.cancel()
        both.go_on()
        await rest
        await eventually(lambda: len(both.b.sink.seen) == 12)
        assert both.b.sink.seen == [*range(12)]
        assert {type(error) for error in await asyncio.gather(*late, return_exceptions=True)} == {LinkFull}
        assert {type(error) for error in await asyncio.gather(*gone, return_exceptions=True)} == {
            asyncio.CancelledError
        }


async def unreachable(both: Pair) -> None:
    """Take the way between the two away, but call neither down."""
    both.refuse()
    await eventually(lambda: both.a.link("b").connection is None and both.b.link("a").connection is None)


async def test_the_room_of_a_call_that_timed_out_in_the_queue_is_used() -> None:
    async with asyncio.timeout(PATIENCE), pair(FEW) as both:
        await unreachable(both)
        calls = [asyncio.create_task(both.to_b.with_(timeout=0.1).call(Sink.echo, 1)) for _ in range(8)]
        await asyncio.sleep(0)
        assert len(both.a.link("b").session) == 8
        await both.fill(8)  # each waits for the room of one
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [(type(end), end.executed) for end in ends if isinstance(end, CallTimeout)] == [(CallTimeout, "no")] * 8
        both.go_on()
        await eventually(lambda: len(both.b.sink.seen) == 8)
        assert both.b.sink.seen == [*range(8)]


async def test_the_room_of_a_call_that_was_cancelled_in_the_queue_is_used() -> None:
    async with asyncio.timeout(PATIENCE), pair(FEW) as both:
        await unreachable(both)
        calls = [asyncio.create_task(both.to_b.with_(timeout=60).call(Sink.echo, 1)) for _ in range(8)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(both.fill(8))
        await asyncio.sleep(0)
        assert not waiting.done()
        for task in calls:
            task.cancel()
        await asyncio.wait([*calls, waiting])
        both.go_on()
        await eventually(lambda: len(both.b.sink.seen) == 8)
        assert both.b.sink.seen == [*range(8)]


async def test_the_room_of_a_call_that_is_cancelled_as_its_session_ends_is_given_back_once() -> None:
    async with asyncio.timeout(PATIENCE), pair(FEW) as both:
        await unreachable(both)
        calls = [asyncio.create_task(both.to_b.with_(timeout=60).call(Sink.echo, 1)) for _ in range(8)]
        await asyncio.sleep(0)
        link = both.a.link("b")
        link.end_session("for a test")
        for task in calls:
            task.cancel()
        await asyncio.wait(calls)
        assert (len(link.session), link.session.size) == (0, 0)
        assert await taken_until_full(both.to_b, b"") == 8
        both.go_on()
        await eventually(lambda: len(both.b.sink.seen) == 8)


async def test_calls_that_end_with_their_peer_down_leave_their_room_to_casts() -> None:
    async with asyncio.timeout(PATIENCE), pair(replace(FEW, down_after=0.2)) as both:
        await unreachable(both)
        calls = [asyncio.create_task(both.to_b.with_(timeout=60).call(Sink.echo, 1)) for _ in range(16)]
        await asyncio.sleep(0)  # eight are queued, and eight stand in line
        waiting = asyncio.create_task(both.fill(8))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [(type(end), end.executed) for end in ends if isinstance(end, NodeDown)] == [(NodeDown, "no")] * 16
        await waiting
        with pytest.raises(LinkFull):
            await both.to_b.with_(timeout=0.05).cast(Sink.take, -1)
        with pytest.raises(NodeDown):
            await both.to_b.call(Sink.echo, 1)
        both.go_on()
        await eventually(lambda: len(both.b.sink.seen) == 8)
        assert both.b.sink.seen == [*range(8)]


async def test_answers_may_fill_it_twice_and_what_is_over_that_is_reported() -> None:
    async with asyncio.timeout(PATIENCE), pair(FEW) as both:
        calls = [asyncio.create_task(both.to_b.with_(timeout=1.0).call(Sink.wait)) for _ in range(24)]
        sink = both.b.sink
        await eventually(lambda: sink._clusterkit_process is not None and len(sink._clusterkit_process.mailbox) == 23)
        both.stall()
        sink.gate.set()
        await eventually(lambda: len(both.b.letters) == 8)
        both.go_on()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert ends[:16] == ["the answer"] * 16
        assert [(type(end), end.executed) for end in ends[16:] if isinstance(end, CallTimeout)] == [
            (CallTimeout, "maybe")
        ] * 8
        assert {(letter.target, letter.executed) for letter in both.b.letters} == {("reply", "maybe")}
        assert both.b.node.stats()["dead_letters"] == 8


async def test_a_mailbox_that_is_full_reports_each_cast_that_it_does_not_take() -> None:
    async with asyncio.timeout(PATIENCE), pair() as both:
        sink = both.b.sink
        blocked = asyncio.create_task(both.to_b.call(Sink.wait))
        await eventually(lambda: sink._clusterkit_process is not None and sink._clusterkit_process.current is not None)
        assert sink._clusterkit_process is not None
        sink._clusterkit_process.mailbox._room_left = 10
        await both.fill(30)
        with pytest.raises(MailboxFull):
            await both.to_b.call(Sink.echo, 1)
        sink.gate.set()
        await blocked
        await eventually(lambda: len(sink.seen) == 10)
        assert sink.seen == [*range(10)]
        assert [letter.target for letter in both.b.letters] == ["sink.take"] * 20
        assert both.b.node.stats()["dead_letters"] == 20


# -- peers that die


async def test_casts_to_a_peer_that_is_away_queue_within_the_bound_and_arrive_when_it_is_back() -> None:
    async with asyncio.timeout(PATIENCE), pair(replace(FEW, down_after=0.1)) as both:
        both.refuse()
        await eventually(lambda: both.a.link("b").down)
        assert await taken_until_full(both.to_b, b"") == 8
        waiting = asyncio.create_task(both.fill(40, start=8))
        both.go_on()
        await waiting
        await eventually(lambda: len(both.b.sink.seen) == 48)
        assert both.b.sink.seen == [*range(48)]
        assert {down.lost for down in both.a.downs} == {0}


QUEUED, WRITTEN = 30, 20


async def test_what_a_process_that_died_had_is_reported_and_the_rest_goes_to_the_next() -> None:
    """Written to one that stands still, queued for one that is dead; the next process gets what was never written."""
    config: Config = replace(QUICK, outbox_messages=QUEUED + WRITTEN)
    letters: list[DeadLetter] = []
    lost: list[LinkDown] = []
    app = "tests.integration.cluster_app:start"
    async with asyncio.timeout(30), ProcessCluster(1, app=app) as cluster, cluster.observer(config=config) as node:
        ref = node.ref(Witness, "witness", on="a")
        assert await ref.call(Witness.run, 0) == 0
        node.on(DeadLetter, letters.append)
        node.on(LinkDown, lost.append)
        cluster["a"].stop()
        for number in range(WRITTEN):
            await ref.cast(Witness.note, number)
        await asyncio.sleep(0)
        cluster["a"].kill()
        await eventually(lambda: lost)
        for number in range(QUEUED):
            await ref.cast(Witness.note, WRITTEN + number)
        with pytest.raises(LinkFull):
            await ref.with_(timeout=0.05).cast(Witness.note, -1)
        await cluster.restart("a")
        child = cluster["a"]
        await eventually(lambda: len(noted(child)) == QUEUED)
        assert noted(child) == [*range(WRITTEN, WRITTEN + QUEUED)]
        assert [(letter.target, letter.executed) for letter in letters] == [("witness.note", "maybe")] * WRITTEN
        assert node.stats()["dead_letters"] == WRITTEN
        assert [down.lost for down in lost] == [0, WRITTEN]


def noted(child: Child) -> list[int]:
    """What a witness took, in order."""
    return [each["noted"] for each in child.reports if "noted" in each]
