"""Floods between two kernels: what is refused is told, what a mailbox blocks stays with its sender."""

import asyncio

import pytest

from clusterkit.core.messages import pack_call
from clusterkit.core.payload import encode
from clusterkit.errors import MailboxFull
from clusterkit.kernel import pushback
from clusterkit.kernel.events import DeadLetter, Refused
from clusterkit.kernel.mailbox import Inbox
from tests.unit.kernel.pairs import SOON, Pair, linked, open_inbox

pytestmark = pytest.mark.simulation(seed=12)
A_LOT = 10_000  # casts: more than go while a mailbox is full


def refusals(pair: Pair) -> list[Refused]:
    heard: list[Refused] = []
    pair.a.events.on(Refused, heard.append)
    return heard


def read(inbox: Inbox, most: int = 1 << 30) -> int:
    """Take what waits; say how much it was."""
    count = 0
    while count < most and inbox.take() is not None:
        count += 1
    return count


async def flood(pair: Pair, to: str, count: int, timeout: float = 60.0) -> int:
    """Cast so often; say how often it was refused."""
    raised = 0
    for _ in range(count):
        try:
            await pair.cast(to, timeout=timeout)
        except MailboxFull:
            raised += 1
    return raised


# -- mailboxes that refuse


async def test_what_a_mailbox_refused_is_told_once_a_turn_and_raised_once() -> None:
    async with linked() as pair:
        open_inbox(pair.b, "srv", limit=10)
        heard = refusals(pair)
        assert await flood(pair, "srv", 30) == 0
        await asyncio.sleep(SOON)
        assert sum(each.count for each in heard) == 20
        assert len(heard) < 20, "not one by one"
        assert {(each.node.name, each.server, each.reason) for each in heard} == {("b", "srv", "mailbox_full")}
        with pytest.raises(MailboxFull, match="20 messages before") as caught:
            await pair.cast("srv")
        assert (caught.value.executed, caught.value.target) == ("no", "srv.note")
        await pair.cast("srv")
        assert pair.a.counters["refused_there"] == 20
        await asyncio.sleep(SOON)
        assert pair.a.counters["refused_there"] == 21


async def test_each_message_that_is_refused_is_a_dead_letter_where_it_ended() -> None:
    async with linked() as pair:
        letters: list[DeadLetter] = []
        pair.b.events.on(DeadLetter, letters.append)
        await flood(pair, "nobody", 3)
        await pair.a.info(pair.at_b("nobody"), "x", 1.0)
        await asyncio.sleep(SOON)
        assert [letter.target for letter in letters] == ["nobody.note"] * 3 + ["nobody.info"]
        assert {letter.executed for letter in letters} == {"no"}


async def test_messages_to_nobody_and_to_one_that_stops_are_told_and_not_raised() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "stopping")
        inbox.shut()
        heard = refusals(pair)
        for to in ("nobody", "stopping"):
            await flood(pair, to, 2)
        await asyncio.sleep(SOON)
        assert {(each.server, each.reason) for each in heard} == {("nobody", "no_server"), ("stopping", "server_down")}
        assert await flood(pair, "nobody", 1) + await flood(pair, "stopping", 1) == 0


async def test_what_is_said_of_one_server_is_not_raised_for_another() -> None:
    async with linked() as pair:
        for name in ("full", "free"):
            open_inbox(pair.b, name, limit=1 if name == "full" else 100)
        await flood(pair, "full", 3)
        await asyncio.sleep(SOON)
        assert await flood(pair, "free", 3) == 0
        assert await flood(pair, "full", 1) == 1


async def test_of_a_thousand_full_servers_the_least_recent_is_forgotten() -> None:
    async with linked() as pair:
        for number in range(1_100):
            pair.a.pushback.told(pair.link, number, "mailbox_full", 1)
        assert len(pair.a.pushback.refused[pair.link]) == 1_024
        assert pair.a.counters["refused_there"] == 1_100


async def test_a_session_that_ends_takes_with_it_what_was_said_in_it() -> None:
    async with linked() as pair:
        open_inbox(pair.b, "srv", limit=1)
        await flood(pair, "srv", 3)
        await asyncio.sleep(SOON)
        pair.link.end_session("a test")
        assert await flood(pair, "srv", 1) == 0
        assert not pair.a.pushback.refused


# -- mailboxes that block


async def test_a_flood_to_a_mailbox_that_blocks_stays_with_its_sender() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv", limit=10, overflow="block")
        heard = refusals(pair)
        flooding = asyncio.get_running_loop().create_task(flood(pair, "srv", A_LOT, timeout=600))
        await asyncio.sleep(60)
        assert not flooding.done()
        assert len(inbox) < 2 * 10 + 4_096 + 1_100, "what goes before the first answer, and two windows"
        assert len(pair.link.session) == 0, "nothing waits in between"
        taken = 0
        while not flooding.done() or len(inbox):
            taken += read(inbox, 100)
            await asyncio.sleep(0.01)
        assert (await flooding, taken, heard) == (0, A_LOT, [])


async def test_a_sender_that_is_held_waits_up_to_its_deadline_and_others_go_on() -> None:
    async with linked() as pair:
        open_inbox(pair.b, "blocks", limit=10, overflow="block")
        open_inbox(pair.b, "free", limit=100)
        loop = asyncio.get_running_loop()
        with pytest.raises(MailboxFull, match="no room") as caught:
            while True:
                begun = loop.time()
                await pair.cast("blocks", timeout=2.0)
        assert loop.time() - begun == pytest.approx(2.0, abs=0.2)
        assert (caught.value.executed, caught.value.target) == ("no", "blocks.note")
        begun = loop.time()
        assert await flood(pair, "free", 50) == 0
        assert loop.time() - begun < 1


async def test_a_sender_that_is_told_nothing_waits_five_seconds_and_goes_on_within_its_outbox() -> None:
    async with linked() as pair:
        open_inbox(pair.b, "srv", limit=10, overflow="block")
        pair.world.partition(["a"], ["b"])  # nothing comes through, and nobody has noticed yet
        begun = asyncio.get_running_loop().time()
        raised = await flood(pair, "srv", A_LOT, timeout=1.0)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(5, abs=0.2)
        assert raised in (4, 5)
        assert pair.link.open
        assert len(pair.link.session) == A_LOT - raised + 1, "and one question"
        pair.world.heal()


async def test_large_messages_fill_a_window_sooner() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv", limit=1, overflow="block")
        with pytest.raises(MailboxFull):
            while True:
                await pair.cast("srv", size=64 << 10, timeout=1.0)
        assert len(inbox) < 40


async def test_a_sender_that_is_held_is_let_go_when_the_connection_breaks() -> None:
    """Then the outbox bounds what is sent."""
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv", limit=1, overflow="block")
        flooding = asyncio.get_running_loop().create_task(flood(pair, "srv", A_LOT, timeout=600))
        await asyncio.sleep(10)
        pair.world.partition(["a"], ["b"], reset=True)
        await asyncio.sleep(SOON)
        assert flooding.done()
        assert len(pair.link.session) > 1_000
        pair.world.heal()
        taken = 0
        async with asyncio.timeout(120):
            while taken < A_LOT:
                taken += read(inbox)
                await asyncio.sleep(0.001)
        assert await flooding == 0


async def test_a_sender_that_is_held_is_told_when_the_mailbox_closes() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv", limit=1, overflow="block")
        heard = refusals(pair)
        flooding = asyncio.get_running_loop().create_task(flood(pair, "srv", A_LOT, timeout=600))
        await asyncio.sleep(10)
        pair.b.unregister(inbox)
        await asyncio.sleep(10)
        assert await flooding == 0
        assert {each.reason for each in heard} == {"no_server"}


async def test_a_sender_that_gives_up_lets_the_others_wait_on() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv", limit=1, overflow="block")
        loop = asyncio.get_running_loop()
        flooding = loop.create_task(flood(pair, "srv", A_LOT, timeout=600))
        await asyncio.sleep(10)
        others = [loop.create_task(pair.cast("srv", timeout=600)) for _ in range(3)]
        await asyncio.sleep(1)
        others[1].cancel()
        while not all(task.done() for task in (flooding, *others)):
            read(inbox)
            await asyncio.sleep(0.01)
        assert [task.cancelled() for task in others] == [False, True, False]


async def test_another_actor_that_takes_the_name_and_does_not_block_is_found_out() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv", limit=1, overflow="block")
        await pair.cast("srv")
        flooding = asyncio.get_running_loop().create_task(flood(pair, "srv", A_LOT, timeout=600))
        await asyncio.sleep(10)
        pair.b.unregister(inbox)
        taker, _ = open_inbox(pair.b, "srv", limit=100_000)
        await asyncio.sleep(10)
        assert await flooding == 0
        assert len(taker) > 1_000


# -- bounds, and what a peer may say


async def test_of_more_servers_than_are_kept_account_of_the_first_is_forgotten() -> None:
    async with linked() as pair:
        for number in range(4_100):
            pair.a.pushback.new_flow(pair.link, number)
        assert len(pair.link.flows) == 4_096
        assert 0 not in pair.link.flows


@pytest.mark.parametrize(
    "args", [b"\xc1", encode([]), encode(7), encode(["srv"]), encode([None, True]), encode([[], 1])]
)
async def test_a_question_that_cannot_be_read_is_answered_all_the_same(args: bytes) -> None:
    async with linked() as pair:
        open_inbox(pair.b, "srv", limit=1, overflow="block")
        future = asyncio.get_running_loop().create_future()
        question = pushback._Question(pair.at_b(pushback.ROOM), "", future)
        question.link, question.number = pair.link, pair.a.new_number()
        question.body = pack_call(question.number, pushback.ROOM, "", 5.0, args, None)
        pair.link.waiting[question.number] = question
        pair.link.send_always(question)
        async with asyncio.timeout(5):
            packed, ok, _ = await future
        assert (packed, ok) == (True, True)
