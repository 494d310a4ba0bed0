"""kill -9 of a process under load, again and again: what its peer is told of every call and cast is true.

Callers and casters of this process go on all the time. The other is killed, and started again
at once or a little later, and dials its peer or is dialled. The witness is the killed process
itself (`kill_app`): it says what comes into its mailboxes before it can be acknowledged, and
what runs before it is answered.

A cast that was acknowledged is in the mailbox, and a mailbox dies with its process. So, of the
casts of one sender, each life of the process takes a run of numbers without a hole, and handles
the first of them. The numbers between two runs never came; each was written to the earlier life,
or the later one would have it; and as many dead letters say so at least, "maybe". There
may be more: of casts that came, and whose acknowledgement did not come back.

It is killed 6 times in the suite, and 50 times by ``pytest -m long -s tests/integration/test_kill.py``;
each time directly, with an outbox so narrow that senders stand in line before it, and through resets.
"""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, cast

import pytest

from clusterkit import CallError, Config, DeadLetter, LinkDown, LinkFull, Node, Ref
from clusterkit.core.identity import NodeId
from clusterkit.testing import ChaosProxy, Child, Plan, Processes
from clusterkit.testing.history import History
from tests.conftest import eventually
from tests.integration.cast_app import Behind
from tests.integration.kill_app import Ledger, serve

ALL = 50  # kills
CALLERS = 32
SENDERS = ("ledger-0", "ledger-1", "ledger-2", "ledger-3")  # each casts to the ledger of its name
BURST, PACE = 5, 0.02  # casts of each sender, and seconds between two bursts
LOADS = (0, 50, 500, 2_000, 5_000)  # reports of a life before it is killed: of all that comes, and all that runs
APART = (-0.5, 0.5)  # seconds without the process after its calls have ended; below zero it is back before
PATIENCE = 30.0  # seconds that a call may wait,
SHORT = 0.03  # and how long one in four of them may
AT_ONCE = 5.0  # of them, how many it waits when its process is killed
QUICK = Config(redial_first=0.02, redial_most=0.2, down_after=1.0)


@dataclass(frozen=True, slots=True)
class Way:
    """How the two reach each other: directly, or each through a proxy with this plan."""

    config: Config = QUICK
    plan: Plan | None = None


WAYS = {
    "directly": Way(),
    "with a narrow outbox": Way(replace(QUICK, outbox_messages=100)),  # senders stand in line before it
    "through resets": Way(plan=Plan(reset_after=(500, 8_000))),
}


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the killed process: what it said of itself."""

    incarnation: int
    reports: list[dict[str, Any]]

    def said(self, key: str) -> list[Any]:
        """What it reported under a key, in order."""
        return [each[key] for each in self.reports if key in each]

    def numbers(self, key: str, sender: str) -> list[int]:
        """What it reported of one sender's casts."""
        return [number for name, number in self.said(key) if name == sender]


@dataclass
class Told:
    """What this process sent, and what it was told of it."""

    numbers: Iterator[int] = field(default_factory=itertools.count)  # of calls
    calls: History = field(default_factory=History)
    waiting: set[int] = field(default_factory=set)
    asked: dict[int, int] = field(default_factory=dict)  # whom a call that failed had asked: an incarnation
    sent: Counter[str] = field(default_factory=Counter)  # casts, by sender
    full: int = 0  # casts that found no room
    letters: Counter[tuple[int, str]] = field(default_factory=Counter)  # "maybe", by incarnation and sender
    others: list[DeadLetter] = field(default_factory=list)
    downs: list[LinkDown] = field(default_factory=list)

    def listen(self, node: Node) -> None:
        """Note what a node tells."""
        node.on(DeadLetter, self._letter)
        node.on(LinkDown, self.downs.append)

    def _letter(self, letter: DeadLetter) -> None:
        ledger, _, handler = letter.target.rpartition(".")
        if ledger in SENDERS and handler == "take" and letter.executed == "maybe":
            self.letters[letter.node.incarnation, ledger] += 1
        else:
            self.others.append(letter)


# -- the load


@asynccontextmanager
async def load(node: Node, told: Told) -> AsyncIterator[None]:
    """Callers and casters, who go on until the block ends."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(call_on(node, told, caller, enough))
        for sender in SENDERS:
            group.create_task(cast_on(node, told, sender, enough))
        yield
        enough.set()


async def call_on(node: Node, told: Told, caller: int, enough: asyncio.Event) -> None:
    ref = node.ref(Ledger, SENDERS[caller // 4 % len(SENDERS)], on="a").with_(
        timeout=SHORT if caller % 4 == 0 else PATIENCE
    )
    while not enough.is_set():
        number = next(told.numbers)
        if await told.calls.record(f"caller {caller}", "run", number, call_once(ref, told, number)) is None:
            await asyncio.sleep(PACE)


async def call_once(ref: Ref[Ledger], told: Told, number: int) -> int:
    told.waiting.add(number)
    try:
        return await ref.call(Ledger.run, number)
    except CallError as error:
        told.asked[number] = cast("NodeId", error.node).incarnation
        raise
    finally:
        told.waiting.remove(number)


async def cast_on(node: Node, told: Told, sender: str, enough: asyncio.Event) -> None:
    ref = node.ref(Ledger, sender, on="a").with_(timeout=SHORT)
    while not enough.is_set():
        for _ in range(BURST):
            try:
                await ref.cast(Ledger.take, sender, told.sent[sender])
                told.sent[sender] += 1
            except LinkFull:
                told.full += 1  # it was not sent: the number is still to be had
        await asyncio.sleep(PACE)


@dataclass
class Victim:
    """The process that is killed; ``address`` is its port, or that of the proxy before it."""

    processes: Processes
    proxy: ChaosProxy | None
    address: str
    peer: str

    async def start(self, *, dials: bool = False) -> Child:
        """Begin its next life: it dials its peer, or waits to be dialled."""
        argument = {
            "address": f"a@{self.address}",
            "listen": self.address if self.proxy is None else "127.0.0.1:0",
            "seeds": [self.peer] if dials else [],
            "ledgers": SENDERS,
        }
        child = await self.processes.start("a", f"{serve.__module__}:{serve.__name__}", argument)
        if self.proxy is not None:
            self.proxy.target = "127.0.0.1", (await child.reported("listening"))["listening"]
        self.address = NodeId.parse((await child.reported("node", timeout=20.0))["node"]).address
        return child


@asynccontextmanager
async def stage(way: Way, told: Told) -> AsyncIterator[tuple[Node, Victim, list[ChaosProxy]]]:
    """A node that notes what it is told, a process to kill, and the proxies before the two, if there are any."""
    cookie = os.urandom(32).hex()
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(Processes(environment={"CLUSTERKIT_COOKIE": cookie}))
        proxies = [ChaosProxy("127.0.0.1", 0, seed=seed) for seed in ((0, 1) if way.plan else ())]
        addresses = [f"127.0.0.1:{(await stack.enter_async_context(each)).port}" for each in proxies]
        mine, its = addresses or ("127.0.0.1:0", "127.0.0.1:0")

        def told_port(port: int) -> None:
            for proxy in proxies[:1]:
                proxy.target = "127.0.0.1", port

        node = Node(
            f"observer@{mine}", listen="127.0.0.1:0", cookie=cookie, config=way.config, network=Behind(told_port)
        )
        told.listen(await stack.enter_async_context(node))
        await node.ring.join("kill")
        yield node, Victim(processes, proxies[1] if proxies else None, its, node.id.address), proxies


async def killed_under_load(kills: int, chance: Random, way: Way, told: Told) -> list[Life]:
    """Kill the process so many times, and once more when the last life has taken all; return its lives."""
    lives: list[Life] = []
    async with stage(way, told) as (node, victim, proxies):
        child = await victim.start(dials=True)
        await eventually(lambda: "a" in node.ring)
        for proxy in proxies:
            proxy.plan = way.plan or Plan()
            proxy.reset()
        async with load(node, told):
            for _ in range(kills):
                await reports_of(child, chance.choice(LOADS))
                lives.append(await killed(child))
                if (apart := chance.uniform(*APART)) > 0:
                    await eventually(partial(told.waiting.isdisjoint, frozenset(told.waiting)), AT_ONCE)
                    await asyncio.sleep(apart)
                child = await victim.start(dials=chance.random() < 0.5)
            await reports_of(child, LOADS[-1])
        for proxy in proxies:
            proxy.plan = Plan()
            proxy.reset()
        await all_has_come(node)
        lives.append(await killed(child))
    return lives


async def reports_of(child: Child, count: int) -> None:
    async with asyncio.timeout(60):
        while len(child.reports) < count:
            await asyncio.sleep(0.001)


async def killed(child: Child) -> Life:
    child.kill()
    await child.ended()
    return Life((await child.reported("incarnation"))["incarnation"], child.reports)


async def all_has_come(node: Node) -> None:
    """Be answered by every ledger: casts that were sent before have been handled."""
    for sender in SENDERS:
        await node.ref(Ledger, sender, on="a").with_(timeout=PATIENCE).call(Ledger.run, -1)


# -- what must hold


def check_calls(told: Told, lives: list[Life]) -> None:
    """A call ends in its value or a typed error, runs once at most, and never when it is said not to have."""
    ran = Counter(number for life in lives for number in life.said("ran") if number >= 0)
    calls = list(told.calls)
    assert max(ran.values()) == 1, "ran twice"
    assert [each for each in calls if each.failed and each.argument in ran] == []
    assert [each for each in calls if each.ok and not each.argument == each.result in ran] == []
    assert [
        each
        for each in calls
        if not each.ok and not each.error.startswith(("NodeDown: ", "CallTimeout: ", "LinkFull: "))
    ] == []


def check_casts(told: Told, lives: list[Life], sender: str) -> Counter[str]:
    """A cast is handled, or was in the mailbox of the killed, or is reported; return how many of each."""
    found: Counter[str] = Counter()
    at, letters, before = 0, 0, 0  # the next number, and since the last life that took any: letters, what it took
    for life in lives:
        came, took = life.numbers("take came", sender), life.numbers("took", sender)
        assert took == came[: len(took)]
        if came:
            assert came == list(range(came[0], came[-1] + 1)), "a hole, or out of order"
            never_came = came[0] - at
            assert 0 <= never_came <= letters <= never_came + before
            found += Counter({"never came": never_came, "handled": len(took), "in a mailbox": len(came) - len(took)})
            at, letters, before = came[-1] + 1, 0, len(came)
        letters += told.letters[life.incarnation, sender]
    assert took == came
    assert at == told.sent[sender] == found.total()
    return found


def check_losses(told: Told, life: Life, *, resumed: bool) -> None:
    """One event says of a life how many of the messages that were written to it are in doubt.

    Those are its dead letters and the calls that were not acknowledged: all that never came
    and ended as "maybe", and some of those that came. But a call that has ended does not
    go again on the next connection, and is in doubt no more.
    """
    letters = sum(told.letters[life.incarnation, sender] for sender in SENDERS)
    calls = [each.argument for each in told.calls if each.unknown and told.asked[each.argument] == life.incarnation]
    came = {number for (number,) in life.said("run came")}
    lost = [each.lost for each in told.downs if each.peer.incarnation == life.incarnation and each.lost]
    assert len(lost) <= 1
    least = letters + (0 if resumed else sum(number not in came for number in calls))
    assert least <= sum(lost) <= letters + len(calls)


@pytest.mark.parametrize(
    "kills",
    [pytest.param(6, id="six"), pytest.param(ALL, id="all", marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_what_is_told_of_calls_and_casts_is_true_when_their_process_is_killed(way: Way, kills: int) -> None:
    told = Told()
    lives = await killed_under_load(kills, Random(kills), way, told)
    check_calls(told, lives)
    casts = sum((check_casts(told, lives, sender) for sender in SENDERS), Counter[str]())
    for life in lives[:-1]:
        check_losses(told, life, resumed=way.plan is not None)
    assert told.others == []
    calls = Counter(each.outcome for each in told.calls)
    assert min(calls["ok"], calls["failed"], calls["unknown"]) > 0
    assert told.full or way is not WAYS["with a narrow outbox"]
    assert len(told.downs) >= (5 if way.plan else 1) * kills
    if kills == ALL:  # a few show some of it, not always all
        assert min(casts["handled"], casts["in a mailbox"], casts["never came"]) > 0
    print(
        f"{kills} kills, {len(told.downs)} breaks, calls: {calls}, casts: {casts}, {told.letters.total()} dead letters"
    )
