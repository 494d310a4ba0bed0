"""What docs/guarantees.md says of messages, turns, mailboxes, names, references and stops, rule by rule.

Calls are in test_actor_rules_calls.py, ends in test_actor_rules_ends.py.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from clusterkit import (
    NOREPLY,
    DeadLetter,
    Down,
    From,
    GenServer,
    Mailbox,
    MailboxFull,
    MessageTooLarge,
    NameInUse,
    Node,
    NodeDown,
    NoReply,
    NoSuchServer,
    Ref,
    Refused,
    ServerDown,
    Stop,
    UnsupportedPayload,
    call,
    cast,
    message,
    on,
)
from clusterkit.testing import SimCluster
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration.places import Gate, Keeper, everywhere, place_of


class Counter(GenServer):
    """Counts how often it was asked, and breaks when it is told to."""

    def __init__(self) -> None:
        self.asked = 0

    @call
    async def count(self) -> int:
        self.asked += 1
        return self.asked

    @call
    async def count_and_die(self) -> int:
        self.asked += 1
        raise Stop("tired")


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


# -- turns


class Turns(GenServer):
    """Notes what begins and what ends."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.notes: list[str] = []

    @call
    async def work(self, name: str) -> str:
        return await self._turn(name)

    @cast
    async def work_silently(self, name: str) -> None:
        await self._turn(name)

    @on("event")
    async def work_as_an_event(self, name: Any) -> str:
        return await self._turn(name)

    async def _turn(self, name: str) -> str:
        self.notes.append(f"+{name}")
        await self.gate.passed()
        self.notes.append(f"-{name}")
        return name


class BesideTurns(Turns):
    @call(concurrent=True)
    async def peek(self, name: str) -> str:
        return await self._turn(name)

    @call(cancellable=True)
    async def look(self, name: str) -> str:
        return await self._turn(name)


@everywhere
@pytest.mark.parametrize("cls", [Turns, BesideTurns])
async def test_one_handler_at_a_time_and_its_awaits_let_no_other_message_in(
    where: str, cls: type[Turns], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    turns = cls()
    ref = await place.start(turns, "turns")
    first = asyncio.create_task(ref.call(Turns.work, "a"))
    await turns.gate.reached()
    await ref.cast(Turns.work_silently, "b")
    await ref.cast("event", "c")
    last = asyncio.create_task(ref.call("event", "d"))
    await eventually(lambda: place.home.inspect()[-1].depth == 3)
    assert turns.notes == ["+a"]
    turns.gate.open()
    assert [await first, await last] == ["a", "d"]
    assert turns.notes == ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"]


@everywhere
async def test_a_concurrent_handler_starts_in_its_turn_and_lets_others_in(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    turns = BesideTurns()
    ref = await place.start(turns, "turns")
    first = asyncio.create_task(ref.call(Turns.work, "turn"))
    await turns.gate.reached()
    beside = [asyncio.create_task(ref.call(BesideTurns.peek, name)) for name in "abc"]
    await turns.gate.reached(4)
    await ref.cast(Turns.work_silently, "waits")
    last = asyncio.create_task(ref.call(BesideTurns.peek, "behind"))
    await eventually(lambda: place.home.inspect()[-1].depth == 2)
    assert turns.notes == ["+turn", "+a", "+b", "+c"], "those behind a handler that keeps its turn wait"
    turns.gate.open()
    assert await asyncio.gather(first, *beside, last) == ["turn", "a", "b", "c", "behind"]
    assert turns.notes.index("+behind") > turns.notes.index("+waits")


class Deferring(GenServer):
    """Answers later."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.cancelled = 0

    async def _later(self, value: Any) -> Any:
        try:
            await self.gate.passed()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if value == "no":
            raise ValueError(value)
        return value

    @call
    async def later(self, value: Any) -> Any:
        return self.defer(self.caller, self._later(value))

    @call
    async def now(self) -> str:
        return "now"

    @call
    async def defer_and_stop(self) -> Any:
        self.defer(self.caller, self._later(1))
        raise Stop("gone")


class SplitDeferring(Deferring):
    @call(cancellable=True)
    async def other(self) -> None: ...


deferring = pytest.mark.parametrize("cls", [Deferring, SplitDeferring])


@everywhere
@deferring
async def test_deferred_work_answers_later_and_lets_other_messages_in(
    where: str, cls: type[Deferring], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    actor = cls()
    ref = await place.start(actor, "deferring")
    good, bad = (asyncio.create_task(ref.call(Deferring.later, value)) for value in (7, "no"))
    await actor.gate.reached(2)
    assert await ref.call(Deferring.now) == "now"
    assert place.home.inspect()[-1].beside == 2
    actor.gate.open()
    assert await good == 7
    with pytest.raises(ValueError, match="no"):
        await bad
    await eventually(lambda: place.home.inspect()[-1].beside == 0)


@everywhere
@deferring
async def test_deferred_work_dies_with_its_actor(where: str, cls: type[Deferring], start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    actor = cls()
    ref = await place.start(actor, "deferring")
    asking = asyncio.create_task(ref.call(Deferring.later, 7))
    await actor.gate.reached()
    await place.home.stop("deferring", drain=False)
    with pytest.raises(ServerDown) as caught:
        await asking
    assert (caught.value.executed, actor.cancelled) == ("maybe", 1)


@everywhere
@deferring
async def test_work_that_is_deferred_by_an_actor_that_stops_never_begins(
    where: str, cls: type[Deferring], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(cls(), "deferring")
    with pytest.raises(ServerDown, match="deferring"):
        await ref.call(Deferring.defer_and_stop)


@everywhere
@deferring
async def test_a_stop_waits_for_deferred_work_as_for_what_waits(
    where: str, cls: type[Deferring], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    actor = cls()
    ref = await place.start(actor, "deferring")
    asking = asyncio.create_task(ref.call(Deferring.later, 7))
    await actor.gate.reached()
    stopping = asyncio.create_task(place.home.stop("deferring"))
    await eventually(lambda: place.home._processes[2].mailbox.closing)
    actor.gate.open()
    await stopping
    assert await asking == 7


# -- mailboxes


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


# -- names on one node


async def test_a_name_is_unique_and_taken_at_once(start_node: NodeFactory) -> None:
    node = await start_node("a")
    gate = Gate()

    class Slow(GenServer):
        async def init(self) -> None:
            await gate.passed()

    starting = asyncio.create_task(node.start(Slow(), name="one"))
    await gate.reached()
    with pytest.raises(NameInUse):
        await node.start(Counter(), name="one")
    gate.open()
    await starting
    with pytest.raises(NameInUse):
        await node.start(Counter(), name="one")
    await node.stop("one")
    assert node.whereis("one") is None
    await node.start(Counter(), name="one")
    assert node.whereis("one", Counter) is not None


async def test_a_start_that_fails_or_is_given_up_leaves_the_name_free(start_node: NodeFactory) -> None:
    node = await start_node("a")
    gate = Gate()

    class Slow(GenServer):
        async def init(self) -> None:
            await gate.passed()

    class Failing(GenServer):
        async def init(self) -> None:
            raise OSError("no disk")

    @dataclass(frozen=True)
    class Frozen(GenServer):
        size: int = 1

    starting = asyncio.create_task(node.start(Slow(), name="one"))
    await gate.reached()
    starting.cancel()
    await asyncio.wait([starting])
    await eventually(lambda: node.whereis("one") is None)
    with pytest.raises(OSError, match="no disk"):
        await node.start(Failing(), name="one")
    with pytest.raises(Exception, match=r"cannot assign|Frozen"):
        await node.start(Frozen(), name="one")
    assert [each.name for each in node.inspect()] == ["clusterkit.command"]
    await node.start(Counter(), name="one")


@everywhere
async def test_messages_to_a_name_wait_while_its_actor_begins(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    gate = Gate()

    class Slow(Keeper):
        async def init(self) -> None:
            await gate.passed()
            self.seen.append("init")

    starting = asyncio.create_task(place.home.start(Slow(), name="slow"))
    await gate.reached()
    ref = place.ref(Slow, "slow")
    asking = asyncio.create_task(ref.call("ask"))
    await eventually(lambda: place.home.inspect()[-1].depth == 1)
    gate.open()
    await starting
    assert await asking == 2


# -- leaving and stopping

PATIENT = replace(QUICK, drain_timeout=20.0)


@everywhere
async def test_a_stop_is_ordered_behind_what_was_sent_before(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    for number in range(500):
        await ref.cast("n", number)
    await ref.call("end")
    for number in range(500):
        await place.home.ref(Keeper, "keeper").cast("n", number)
    await place.home.stop("keeper", "enough")
    assert len(keeper.seen) == 1_001
    assert keeper.reason == "enough"


@everywhere
async def test_a_suspended_actor_loses_nothing_and_handles_nothing(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    await place.home.suspend("keeper")
    await place.home.suspend("keeper")
    for number in range(100):
        await ref.cast("n", number)
    asking = asyncio.create_task(ref.call("end"))
    await eventually(lambda: place.home.inspect()[-1].depth == 101)
    assert keeper.seen == []
    assert place.home.inspect()[-1].suspended
    await place.home.resume("keeper")
    assert await asking == 101
    assert [each[-1] for each in keeper.seen[:100]] == list(range(100))


@pytest.mark.parametrize("cls", [Turns, BesideTurns])
async def test_suspending_waits_for_the_handler_that_runs(cls: type[Turns], start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    turns = cls()
    ref = await place.start(turns, "turns")
    working = asyncio.create_task(ref.call(Turns.work, "a"))
    await turns.gate.reached()
    with pytest.raises(TimeoutError, match="work"):
        await place.home.suspend("turns", timeout=0.01)
    suspending = asyncio.create_task(place.home.suspend("turns"))
    await ref.cast(Turns.work_silently, "b")
    await asyncio.sleep(0)
    assert not suspending.done()
    turns.gate.open()
    assert await working == "a"
    await suspending
    assert turns.notes == ["+a", "-a"]
    await place.home.resume("turns")
    await eventually(lambda: turns.notes[2:] == ["+b", "-b"])


@everywhere
async def test_a_suspended_actor_can_be_stopped_and_handles_what_waits_first(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    keeper = Keeper()
    ref = await place.start(keeper, "keeper")
    await place.home.suspend("keeper")
    await ref.cast("n", 1)
    await eventually(lambda: place.home.inspect()[-1].depth == 1)
    await place.home.stop("keeper")
    assert (len(keeper.seen), keeper.reason) == (1, "normal")


async def test_an_actor_that_drains_cannot_be_suspended(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    gate = Gate()
    keeper = Keeper(gate)
    ref = await place.start(keeper, "keeper")
    for number in range(3):
        await ref.cast("n", number)
    await gate.reached()
    stopping = asyncio.create_task(place.home.stop("keeper", timeout=60))
    await asyncio.sleep(0)
    suspending = asyncio.create_task(place.home.suspend("keeper"))
    await asyncio.sleep(0)
    gate.open()
    async with asyncio.timeout(10):
        await stopping
        await asyncio.wait([suspending])
    assert len(keeper.seen) == 3
    suspending.exception()


@everywhere
async def test_a_stopping_actor_takes_nothing_new(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    gate = Gate()
    ref = await place.start(Keeper(gate), "keeper")
    await ref.cast("n", 1)
    await gate.reached()
    await ref.cast("n", 2)
    await eventually(lambda: place.home.inspect()[-1].depth == 1)
    stopping = asyncio.create_task(place.home.stop("keeper"))
    gate.open()
    gate = Gate()
    with pytest.raises((ServerDown, NoSuchServer)) as caught:
        while True:
            await ref.call("ask")
    assert caught.value.executed == "no"
    await stopping


async def test_a_node_that_closes_drains_its_mailboxes_and_tells_others_that_it_leaves(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there", PATIENT)
    gate = Gate()
    keeper = Keeper(gate)
    ref = await place.start(keeper, "keeper")
    for number in range(3):
        await ref.cast("n", number)
    await eventually(lambda: place.home.inspect()[-1].depth == 2)
    closing = asyncio.create_task(place.home.aclose())
    with pytest.raises(NodeDown) as caught:
        while True:
            with suppress(ServerDown, TimeoutError):
                await ref.with_(timeout=0.05).call("ask")
    assert (caught.value.reason, caught.value.executed) == ("leaving", "no")
    gate.open()
    await closing
    assert [each[-1] for each in keeper.seen[:3]] == [0, 1, 2]
    assert keeper.reason == "shutdown"


async def test_a_node_stops_its_actors_in_the_reverse_of_the_order_in_which_they_started(
    start_node: NodeFactory,
) -> None:
    ends: list[str] = []

    class Noting(GenServer):
        def __init__(self, name: str) -> None:
            self.name = name

        async def terminate(self, reason: object) -> None:
            await asyncio.sleep(0.01 if self.name == "c" else 0)
            ends.append(self.name)

    node = await start_node("a")
    for name in "abc":
        await node.start(Noting(name))
    await node.aclose()
    assert ends == ["c", "b", "a"]


# -- payloads


@message
@dataclass(frozen=True)
class Price:
    """What a price is."""

    symbol: str
    value: float
    at: datetime | None = None


@message
@dataclass
class Order:
    """Several of them."""

    prices: list[Price]
    note: tuple[int, str] = (0, "")


class Desk(GenServer):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @call
    async def keep(self, value: Any) -> Any:
        self.seen.append(value)
        return value


VALUES: list[tuple[Any, Any]] = [
    (None, None),
    ([True, -(2**63), 2**64 - 1, 1.5, "é", b"\x00"], [True, -(2**63), 2**64 - 1, 1.5, "é", b"\x00"]),
    ({"a": (1, 2), "b": {"c": []}}, {"a": [1, 2], "b": {"c": []}}),
    (bytearray(b"ab"), b"ab"),
    (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 1, 22, tzinfo=UTC)),
    (Price("x", 1.5), Price("x", 1.5)),
    (Order([Price("x", 2.0, datetime(2026, 1, 2, tzinfo=UTC))], (3, "n")),) * 2,
]


@pytest.mark.parametrize(("sent", "comes"), VALUES)
async def test_a_payload_comes_as_the_wire_says_both_ways(sent: Any, comes: Any, start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    desk = Desk()
    ref = await place.start(desk, "desk")
    assert await ref.call(Desk.keep, sent) == comes
    assert desk.seen == [comes]
    assert type(desk.seen[0]) is type(comes)


async def test_a_local_payload_is_given_away_as_it_is(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    ref = await place.start(Desk(), "desk")
    value = object()
    assert await ref.call(Desk.keep, value) is value


BAD: list[tuple[Any, str]] = [
    ({"a": [1, {2}]}, r"args\[0\]\['a'\]\[1\]"),
    ({1: 2}, r"args\[0\]"),
    ([2**64], r"args\[0\]\[0\]"),
    (datetime(2026, 1, 2), r"args\[0\]"),  # noqa: DTZ001 - that is what is wrong with it
    ([Price("x", "dear")], r"args\[0\]\[0\]\.value"),  # type: ignore[arg-type]
    (Order([Price("x", 1.0), "y"]), r"args\[0\]\.prices\[1\]"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("value", "path"), BAD)
async def test_what_cannot_cross_is_the_senders_error_with_its_path(
    value: Any, path: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, "there")
    desk = Desk()
    ref = await place.start(desk, "desk")
    for send in (ref.call, ref.cast):
        with pytest.raises(UnsupportedPayload, match=path) as caught:
            await send("keep", value)
        assert caught.value.executed == "no"
    assert desk.seen == []


# -- who handles a message


@everywhere
async def test_an_answer_left_open_may_come_from_another_actor_of_that_node(
    where: str, start_node: NodeFactory
) -> None:
    class Front(GenServer):
        @call
        async def ask(self, value: int) -> int:
            await self.node.ref(Back, "back").cast(Back.answer, self.caller, value)
            raise NoReply

        def handle_call(self, request: Any, frm: From) -> Any:
            self.waiting = frm
            return NOREPLY

    class Back(GenServer):
        @cast
        async def answer(self, frm: From, value: int) -> None:
            if value < 0:
                await self.reply_error(frm, ValueError("negative"))
            await self.reply(frm, value * 2)

    place = await place_of(start_node, where)
    await place.start(Back(), "back")
    front = Front()
    ref = await place.start(front, "front")
    assert await ref.call(Front.ask, 4) == 8
    with pytest.raises(ValueError, match="negative"):
        await ref.call(Front.ask, -1)
    for number in range(300):
        assert await ref.call(Front.ask, number) == 2 * number
    process = front._clusterkit_process
    assert process is not None
    assert len(process.handlers.open) < 200, "calls that were answered are not kept"
