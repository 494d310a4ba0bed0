"""Everything at once, drawn by a seed: whatever was asked ends, and when all is over nothing is left of it."""

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from clusterkit import (
    ClusterError,
    DeadLetter,
    GenServer,
    LinkDown,
    Mailbox,
    MailboxFull,
    Node,
    NoReply,
    Ref,
    Refused,
    call,
    cast,
    deadline,
    on,
)
from clusterkit.testing import SimCluster, simulate

SEEDS = range(4)
CLIENTS, REQUESTS = 12, 60
MOST_SECONDS = 600.0  # virtual: every await has ended by then


class Busy(GenServer):
    """Does its work in each way there is, and takes its time."""

    mailbox = Mailbox(30)

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.done: Counter[str] = Counter()
        self.running = 0

    async def _work(self, what: str) -> str:
        await asyncio.sleep(self.chance.choice((0.0, 0.001, 0.05, 0.4)))
        self.done[what] += 1
        if self.chance.random() < 0.1:
            raise ValueError(what)
        return what

    async def _turn(self, what: str) -> str:
        assert not self.running, "one handler at a time"
        self.running += 1
        try:
            return await self._work(what)
        finally:
            self.running -= 1

    @call
    async def keep_the_turn(self) -> str:
        return await self._turn("turn")

    @call
    async def defer_it(self) -> Any:
        return self.defer(self.caller, self._work("deferred"))

    @call
    async def leave_it_open(self) -> Any:
        self.create_task(self._answer(self.caller))
        raise NoReply

    async def _answer(self, frm: Any) -> None:
        await asyncio.sleep(0.01)
        with suppress(ClusterError):
            await self.reply(frm, "open")

    @cast
    async def note(self) -> None:
        self.done["cast"] += 1

    @on("event")
    def event(self, data: Any) -> Any:
        return data

    async def handle_info(self, info: Any) -> None:
        self.done["info"] += 1


class BusyBeside(Busy):
    @call(concurrent=True)
    async def beside(self) -> str:
        return await self._work("beside")

    @call(cancellable=True)
    async def frail(self) -> str:
        return await self._turn("frail")


PLAIN_WORK = ("keep_the_turn", "defer_it", "leave_it_open", "event")
WORK = {Busy: PLAIN_WORK, BusyBeside: (*PLAIN_WORK, "beside", "frail")}


class Client:
    """Sends, waits, gives up, as it is drawn."""

    def __init__(self, ref: Ref[Any], work: tuple[str, ...], chance: Random) -> None:
        self.outcomes: Counter[str] = Counter()
        self._ref = ref
        self._work = work
        self._chance = chance

    async def live(self) -> None:
        for _ in range(REQUESTS):
            await asyncio.sleep(self._chance.choice((0.0, 0.0, 0.01, 0.1)))
            try:
                await self._act()
            except (ClusterError, ValueError) as error:
                self.outcomes[type(error).__name__] += 1

    async def _act(self) -> None:
        ref = self._ref.with_(timeout=self._chance.choice((0.02, 0.3, 5.0)))
        match self._chance.choice(("call", "call", "call", "cast", "send", "give up", "deadline")):
            case "call":
                await ref.call(self._chance.choice(self._work))
            case "cast":
                await ref.cast("note")
            case "send":
                await ref.send("info")
            case "deadline":
                with deadline(self._chance.choice((0.0, 0.05))):
                    await ref.call(self._chance.choice(self._work))
            case "give up":
                await self._give_up(ref)
        self.outcomes["fine"] += 1

    async def _give_up(self, ref: Ref[Any]) -> None:
        asking = asyncio.get_running_loop().create_task(ref.call(self._chance.choice(self._work)))
        await asyncio.sleep(self._chance.choice((0.0, 0.0, 0.001, 0.02)))
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


async def annoy(node: Node, chance: Random) -> None:
    """Suspend the actor now and then."""
    for _ in range(20):
        await asyncio.sleep(chance.random() / 5)
        await node.suspend("busy")
        await asyncio.sleep(chance.random() / 10)
        await node.resume("busy")


async def check_rest(node: Node, actor: Busy) -> None:
    """Nothing is left of what was asked, and all places of the mailbox are free."""
    process = actor._clusterkit_process
    assert process is not None
    async with asyncio.timeout(60):
        while (info := node.inspect()[-1]).depth or info.beside or info.handler is not None:
            await asyncio.sleep(0.1)
    assert info.size == 0
    await node.suspend("busy")
    taken = 0
    with suppress(ClusterError):
        while taken <= actor.mailbox.limit:
            await node.ref(Busy, "busy").cast(Busy.note)
            taken += 1
    assert taken == 30
    await node.resume("busy")
    await node.ref(Busy, "busy").call("event", 1)
    assert len(process.handlers.open) < 100


@pytest.mark.parametrize("overflow", ["reject", "block", "drop_oldest"])
@pytest.mark.parametrize("cls", [Busy, BusyBeside])
@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_is_asked_ends_and_leaves_nothing(seed: int, cls: type[Busy], overflow: Any) -> None:
    simulate(storm, Random(seed), cls, overflow, seed=seed)


async def storm(chance: Random, cls: type[Busy], overflow: Any) -> None:
    """Let all clients live, and look at what is left."""

    class Chosen(cls):  # type: ignore[valid-type,misc]
        mailbox = Mailbox(30, overflow=overflow)

    actor = Chosen(chance)
    async with SimCluster(2) as sim:
        await sim["a"].start(actor, name="busy")
        refs = [sim[name].ref(Chosen, "busy", on="a") for name in "ab"]
        clients = [Client(refs[number % 2], WORK[cls], chance) for number in range(CLIENTS)]
        async with asyncio.timeout(MOST_SECONDS), asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.live())
            group.create_task(annoy(sim["a"], chance))
        assert sum(sum(client.outcomes.values()) for client in clients) == CLIENTS * REQUESTS
        if overflow == "reject":
            await check_rest(sim["a"], actor)
        total = sum((client.outcomes for client in clients), Counter[str]())
        assert total["fine"] > CLIENTS * REQUESTS / 5, total
        await sim["a"].stop("busy")
        assert sim["a"].whereis("busy") is None


# -- casts, through breaks of the connection


class Slow(GenServer):
    """Takes its time with each cast, and is held up now and then."""

    mailbox = Mailbox(20)

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.seen: list[int] = []

    @cast
    async def note(self, number: int) -> None:
        if self.chance.random() < 0.01:
            await asyncio.sleep(self.chance.random())
        self.seen.append(number)


CASTS = 3_000


@pytest.mark.parametrize("overflow", ["reject", "block", "drop_oldest", "drop_newest"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_cast_is_handled_or_told_of_through_breaks_of_the_connection(seed: int, overflow: Any) -> None:
    simulate(breaks, Random(seed), overflow, seed=seed)


async def breaks(chance: Random, overflow: Any) -> None:
    """Cast while the connection comes and goes; account for each."""

    class Chosen(Slow):
        mailbox = Mailbox(20, overflow=overflow)

    told: Counter[str] = Counter()
    actor = Chosen(chance)
    async with SimCluster(2) as sim:
        a, b = sim["a"], sim["b"]
        await b.start(actor, name="slow")
        a.on(Refused, lambda each: told.update(refused=each.count))
        b.on(DeadLetter, lambda each: told.update(dead=1))
        a.on(LinkDown, lambda each: told.update(lost=each.lost, breaks=1))
        async with asyncio.timeout(MOST_SECONDS), asyncio.TaskGroup() as group:
            breaking = group.create_task(break_often(sim, chance))
            for number in range(CASTS):
                if chance.random() < 0.05:
                    await asyncio.sleep(chance.random() / 20)
                try:
                    await a.ref(Chosen, "slow", on="b").with_(timeout=1.0).cast(Slow.note, number)
                except MailboxFull:
                    told["raised"] += 1
            breaking.cancel()
        sim.heal()
        await sim.settle()
        await asyncio.sleep(30)
        assert actor.seen == sorted(set(actor.seen)), "once, and in order"
        lost = told["dead"] if overflow.startswith("drop") else told["refused"]
        assert len(actor.seen) + lost + told["raised"] == CASTS, told
        assert told["lost"] == 0, "the session outlives its connections"
        assert told["breaks"] >= 5, "a peaceful run shows nothing"
        if overflow == "block":
            assert told["refused"] == 0


async def break_often(sim: SimCluster, chance: Random) -> None:
    """Break the connection again and again, for less than a peer is called down for."""
    while True:
        await asyncio.sleep(chance.random() / 10)
        sim.partition("a", "b", reset=True)
        await asyncio.sleep(chance.random() / 10)
        sim.heal()
