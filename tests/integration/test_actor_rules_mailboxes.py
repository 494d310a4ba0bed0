"""Full mailboxes: who is told what, by policy."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    DeadLetter,
    Down,
    Mailbox,
    MailboxFull,
    Refused,
    on,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, Keeper, everywhere, place_of


class Full(Keeper):
    mailbox = Mailbox(2)


@everywhere
async def test_a_full_mailbox_refuses_calls_and_says_that_they_did_not_run(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    gate = Gate()
    ref = await place.start(Full(gate), "full")
    asking = [asyncio.create_task(ref.call("ask", 0))]
    await gate.reached()
    asking += [asyncio.create_task(ref.call("ask", number)) for number in (1, 2)]
    await eventually(lambda: place.home.inspect()[-1].depth == 2)
    with pytest.raises(MailboxFull) as caught:
        await ref.call("ask", 3)
    assert (caught.value.executed, caught.value.node) == ("no", place.home.id)
    gate.open()
    assert await asyncio.gather(*asking) == [1, 2, 3]


async def test_a_full_mailbox_here_refuses_the_cast_itself(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    gate = Gate()
    ref = await place.start(Full(gate), "full")
    for number in range(2):
        await ref.cast("n", number)
    await gate.reached()
    await ref.cast("n", 2)
    with pytest.raises(MailboxFull):
        await ref.cast("n", 3)
    with pytest.raises(MailboxFull):
        await ref.send("n")
    gate.open()


async def test_a_full_mailbox_there_is_told_to_the_sending_node_and_raised_by_its_next_cast_to_it(
    start_node: NodeFactory,
) -> None:
    place = await place_of(start_node, "there")
    gate, keeper = Gate(), Keeper()
    ref = await place.start(Full(gate), "full")
    other = await place.start(keeper, "other")
    refused: list[Refused] = []
    letters: list[DeadLetter] = []
    place.asker.on(Refused, refused.append)
    place.home.on(DeadLetter, letters.append)
    await ref.cast("n", 0)
    await gate.reached()
    for number in range(1, 8):
        await ref.cast("n", number)
    await eventually(lambda: sum(each.count for each in refused) == 5)
    assert {(each.node, each.server, each.reason) for each in refused} == {(place.home.id, "full", "mailbox_full")}
    assert len(letters) == 5
    await other.cast("n", 0)  # another server's room is its own
    with pytest.raises(MailboxFull, match="5 messages") as caught:
        await ref.cast("n", 8)
    assert caught.value.executed == "no"
    gate.open()
    await ref.cast("n", 9)  # it is said once
    await eventually(lambda: place.home.inspect()[1].depth == 0)


@everywhere
async def test_a_full_mailbox_takes_a_stop_and_a_down(where: str, start_node: NodeFactory) -> None:
    class Watcher(Full):
        @on("watch")
        def watch(self, node: Any) -> None:
            self.monitor(self.node.ref(Keeper, "watched", on=node))

    place = await place_of(start_node, where)
    await place.start(Keeper(), "watched")
    watcher, gate = Watcher(), Gate()
    ref = await place.asker.start(watcher)
    await ref.call("watch", place.home.id.name)
    watcher.gate = gate
    for number in range(3):
        await ref.cast("n", number)
        if not number:
            await gate.reached()
    with pytest.raises(MailboxFull):
        await ref.cast("n", 4)
    await place.home.stop("watched")
    await eventually(lambda: place.asker.inspect()[-1].depth == 3)
    stopping = asyncio.create_task(place.asker.stop(ref))
    gate.open()
    await stopping
    assert [each[0] if isinstance(each, tuple) else type(each) for each in watcher.seen] == ["cast"] * 3 + [Down]


@everywhere
@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [0, 4, 5]), ("drop_newest", [0, 1, 2])])
async def test_a_mailbox_drops_by_choice_only_and_counts(
    where: str, overflow: Any, kept: list[int], start_node: NodeFactory
) -> None:
    class Dropping(Keeper):
        mailbox = Mailbox(2, overflow=overflow)

    place = await place_of(start_node, where)
    gate = Gate()
    keeper = Dropping(gate)
    ref = await place.start(keeper, "keeper")
    letters: list[DeadLetter] = []
    place.home.on(DeadLetter, letters.append)
    await ref.cast("n", 0)
    await gate.reached()
    for number in range(1, 6):
        await ref.cast("n", number)
    await eventually(lambda: len(letters) == 3)
    assert place.home.stats()["mailbox_full"] == 3
    gate.open()
    await eventually(lambda: len(keeper.seen) == 3)
    assert [each[-1] for each in keeper.seen] == kept


@everywhere
async def test_a_mailbox_that_blocks_holds_its_senders_up_to_their_deadline(
    where: str, start_node: NodeFactory
) -> None:
    class Blocking(Keeper):
        mailbox = Mailbox(2, overflow="block")

    place = await place_of(start_node, where)
    gate = Gate()
    keeper = Blocking(gate)
    ref = await place.start(keeper, "keeper")
    sent = 0
    with pytest.raises(MailboxFull) as caught:
        while True:
            await ref.with_(timeout=0.2).cast("n", sent)
            sent += 1
    assert caught.value.executed == "no"
    assert sent < 10_000, "what goes before the first answer, two windows and a mailbox"
    gate.open()
    await eventually(lambda: len(keeper.seen) == sent)


async def test_who_tries_again_at_once_lets_the_actor_work(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    keeper = Full()
    ref = await place.start(keeper, "full")
    async with asyncio.timeout(30):
        for number in range(50):
            while True:
                try:
                    await ref.cast("n", number)
                except MailboxFull:
                    continue
                break
    await eventually(lambda: len(keeper.seen) == 50)
