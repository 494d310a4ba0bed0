"""Delivery, order, and what the await of a send means: what docs/guarantees.md says, rule by rule."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    DeadLetter,
    Down,
    GenServer,
    Mailbox,
    MessageTooLarge,
    Node,
    NodeDown,
    NoSuchServer,
    Ref,
    Refused,
    ServerDown,
    Stop,
    call,
)
from clusterkit.testing import SimCluster
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, Keeper, everywhere, place_of
from tests.integration.rule_actors import Counter

# -- delivery: at most once


@everywhere
async def test_a_request_that_may_have_run_is_never_sent_again(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    counter = Counter()
    ref = await place.start(counter, "counter")
    with pytest.raises(ServerDown) as caught:
        await ref.with_(retry=5).call(Counter.count_and_die)
    assert (caught.value.executed, counter.asked) == ("maybe", 1)


@everywhere
async def test_a_request_that_proved_not_to_run_is_tried_again(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = place.ref(Counter, "counter")
    asking = asyncio.create_task(ref.with_(retry=50).call(Counter.count))
    with pytest.raises(NoSuchServer):
        await ref.call(Counter.count)
    await place.start(Counter(), "counter")
    assert await asking == 1


@everywhere
async def test_what_waits_in_the_mailbox_of_an_actor_that_is_killed_is_told_to_callers(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    gate = Gate()
    ref = await place.start(Keeper(gate), "keeper")
    letters: list[DeadLetter] = []
    place.home.on(DeadLetter, letters.append)
    running = asyncio.create_task(ref.call("first"))
    await gate.reached()
    waiting = asyncio.create_task(ref.call("second"))
    await ref.cast("third")
    await eventually(lambda: place.home.inspect()[-1].depth == 2)
    await place.home.stop("keeper", timeout=0.01)
    for task, executed in ((running, "maybe"), (waiting, "no")):
        with pytest.raises(ServerDown) as caught:
            await task
        assert caught.value.executed == executed
    assert [(letter.target, letter.executed) for letter in letters] == [("keeper.third", "no")]


# -- order: of one sender to one receiver


@everywhere
async def test_messages_of_one_sender_are_handled_in_the_order_sent_whatever_they_are(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    for number in range(30):
        await ref.cast("cast", 3 * number)
        await ref.send(["info", 3 * number + 1])
        await ref.call("call", 3 * number + 2)
    assert [each[-1] for each in keeper.seen] == list(range(90))


@everywhere
async def test_order_is_kept_for_a_sender_that_a_full_mailbox_holds_up(where: str, start_node: NodeFactory) -> None:
    class Narrow(Keeper):
        mailbox = Mailbox(3, overflow="block")

    place = await place_of(start_node, where)
    keeper = Narrow()
    ref = await place.start(keeper, "keeper")
    for number in range(2_000):
        await ref.with_(timeout=30).cast("n", number)
    await ref.call("end")
    assert [each[-1] for each in keeper.seen[:-1]] == list(range(2_000))


@everywhere
async def test_the_down_of_a_server_comes_after_its_reply_and_all_that_it_sent(
    where: str, start_node: NodeFactory
) -> None:
    class Talker(GenServer):
        @call
        async def talk(self, node: str) -> str:
            listener = self.node.ref(Keeper, "listener", on=node)
            for number in range(100):
                await listener.send(number)
            raise Stop("done", reply="said all")

    class Asker(Keeper):
        @call
        async def ask(self, node: str) -> Any:
            talker = self.node.ref(Talker, "talker", on=node)
            self.monitor(talker)
            return await talker.call(Talker.talk, self.node.id.name)

    place = await place_of(start_node, where)
    await place.start(Talker(), "talker")
    asker = Asker()
    ref = await place.asker.start(asker, name="listener")
    assert await ref.call(Asker.ask, place.home.id.name) == "said all"
    await eventually(lambda: len(asker.seen) == 101)
    assert asker.seen[:100] == list(range(100))
    assert isinstance(asker.seen[100], Down)
    assert asker.seen[100].reason == "done"


# -- what the await of a send means


@everywhere
async def test_a_cast_returns_before_it_is_handled(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    gate = Gate()
    keeper = Keeper(gate)
    ref = await place.start(keeper, "keeper")
    await ref.cast("n", 1)
    await ref.send(2)
    assert keeper.seen == []
    gate.open()
    await eventually(lambda: len(keeper.seen) == 2)


async def test_a_cast_to_nobody_is_told_at_once_here_and_later_from_there(start_node: NodeFactory) -> None:
    here = await place_of(start_node, "here")
    with pytest.raises(NoSuchServer):
        await here.ref(Keeper, "nobody").cast("n")
    b = await start_node("b", seeds=(here.home,))
    refused: list[Refused] = []
    b.on(Refused, refused.append)
    for _ in range(3):
        await b.ref(Keeper, "nobody", on="home").cast("n")
    await eventually(lambda: sum(each.count for each in refused) == 3)
    assert {each.reason for each in refused} == {"no_server"}


# -- links: limits of a message


@everywhere
async def test_a_message_over_the_limit_is_never_sent_between_nodes_and_has_no_limit_here(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    if place.is_here:
        await ref.cast("n", b"x" * (2 << 20))
        await eventually(lambda: keeper.seen)
        return
    for send in (ref.cast, ref.call):
        with pytest.raises(MessageTooLarge) as caught:
            await send("n", b"x" * (2 << 20))
        assert caught.value.executed == "no"
    with pytest.raises(MessageTooLarge):
        await ref.send(b"x" * (2 << 20))
    assert keeper.seen == []


# -- breaks, and incarnations


@pytest.mark.simulation(seed=3)
async def test_a_short_break_loses_nothing_doubles_nothing_and_keeps_the_order() -> None:
    keeper = Keeper()
    async with SimCluster(2, app=lambda node: _start_on_b(node, keeper)) as sim:
        ref = sim["a"].ref(Keeper, "keeper", on="b")
        for number in range(300):
            await ref.with_(timeout=60).cast("n", number)
            if number % 100 == 50:
                sim.partition("a", "b", reset=True)
            if number % 100 == 99:
                await asyncio.sleep(1)
                sim.heal()
        await ref.with_(timeout=60).call("end")
        assert [each[-1] for each in keeper.seen[:-1]] == list(range(300))


@pytest.mark.simulation(seed=4)
async def test_calls_end_and_casts_are_dead_letters_when_their_node_comes_back_as_another() -> None:
    async with SimCluster(2, app=lambda node: _start_on_b(node, Keeper(Gate()))) as sim:
        a = sim["a"]
        letters: list[DeadLetter] = []
        a.on(DeadLetter, letters.append)
        ref = a.ref(Keeper, "keeper", on="b")
        running = asyncio.create_task(ref.with_(timeout=600).call("ask"))
        await eventually(lambda: sim["b"].inspect()[-1].handler is not None)
        old = Ref(a._open_kernel(), Keeper, _address_of(sim["b"], "keeper", a))
        sim.crash("b")
        await old.cast("for the old one alone")
        await sim.start("b")
        await sim.settle()
        with pytest.raises(NodeDown) as caught:
            await running
        assert caught.value.executed == "maybe"
        assert [letter.target.partition(".")[2] for letter in letters] == ["for the old one alone"]
        with pytest.raises(NodeDown) as restarted:
            await old.call("ask")
        assert (restarted.value.reason, restarted.value.executed) == ("restarted", "no")
        with pytest.raises(NodeDown):
            await old.cast("n")
        await ref.cast("n")  # a name means who has it now


async def _start_on_b(node: Node, keeper: Keeper) -> None:
    if node.id.name == "b":
        actor = Keeper(keeper.gate) if keeper._clusterkit_process is not None else keeper
        await node.start(actor, name="keeper")


def _address_of(node: Node, name: str, seen_from: Node) -> Any:
    ref = node.whereis(name)
    assert ref is not None
    return ref.address_for(seen_from._open_kernel())


@everywhere
async def test_a_reference_to_a_process_is_dead_for_ever_and_a_name_resolves_anew(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    name = await place.start(Counter(), "counter")
    process = place.process_ref(Counter, "counter")
    assert await process.call(Counter.count) == 1
    await place.home.stop("counter")
    await place.start(Counter(), "counter")
    with pytest.raises(NoSuchServer) as caught:
        await process.call(Counter.count)
    assert caught.value.executed == "no"
    assert await name.call(Counter.count) == 1


async def test_a_reference_is_the_same_however_its_node_is_told(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    home = place.home.id
    refs = [place.asker.ref(Keeper, "keeper", on=on) for on in ("home", home, f"home@{home.address}")]
    assert len(set(refs)) == 1
    assert refs[0] != place.asker.ref(Keeper, "other", on="home")
    assert refs[0] != place.asker.ref(Keeper, "keeper")
    assert refs[0] == place.home.ref(Keeper, "keeper"), "also for who is there itself"
    await place.start(Keeper(), "keeper")
    first = place.process_ref(Keeper, "keeper")
    assert first not in refs, "a process is no name"
    await place.home.stop("keeper")
    await place.start(Keeper(), "keeper")
    assert place.process_ref(Keeper, "keeper") != first
