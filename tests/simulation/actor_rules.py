"""The scenario of the rules for messages: servers that work, answer late, ask others, and callers who give up.

On each of three nodes run a server that does one thing at a time, one with cancellable and concurrent handlers, and
one that both of them ask; in some runs the mailboxes of the first two are so small that senders wait. From every node
streams of numbered calls, casts and infos go to each of those, half of the streams from actors; calls have deadlines,
of their own and ambient, and many are cancelled. Meanwhile nodes crash, are closed, start again and stand still, and
connections break. `broken_promises` in `actor_rules_verdict` returns one sentence for each rule that was not kept:

- what one sends to another starts in the order sent, unless it was tried again; once at the most, and where both lived
  on not less than once;
- each call ends once: in its own answer, a typed error that a fault explains, or at its deadline, never later; an
  answer that was given in time arrives; with ``executed="no"`` no handler ran;
- a deadline travels as time left. So the receiver's is never before the sender's, and later by the travel alone;
  nothing starts after the receiver's, on one node nothing after its caller was told; what a handler asks ends with its
  own;
- what was cancelled does not start once CANCEL came, which is behind it on the same way; what runs cancellably is
  cancelled, at the latest at its deadline, and what it awaits elsewhere; nothing else ever is;
- when all is over nothing is queued, unacknowledged or waiting, and no server holds a call open.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clusterkit import CallError, GenServer, Mailbox, Node, NoReply, TimerFired, call, cast, deadline
from clusterkit.actors.ref import Ref
from clusterkit.runtime import now, rng
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation import actor_faults
from tests.simulation.actor_faults import FOR_EVER, a_network, all_of, befall, come_to_rest

MESSAGES = 10  # of each stream
SERVERS = {"worker": ["run"], "nimble": ["run", "nimbly", "nimbly", "beside", "nimbly_beside"]}
"""And how each is called."""
TURNS = 4
"""How many things befall the nodes in one run."""
LONG = 60.0
Work = list[Any]
"""What a server is to do for a call: how it answers, after how many seconds, and whom it asks what for that."""


@dataclass(slots=True)
class Sent:
    """One message, and what its sender was told."""

    tag: str
    kind: str
    home: str
    life: str
    to: str
    work: Work
    at: float
    timeout: float
    retry: int = 0
    ended: float = FOR_EVER
    outcome: str = ""
    """"ok", "no" or "maybe" for an error, "cancelled"."""
    error: str = ""
    typed: bool = True
    result: Any = None

    def __str__(self) -> str:
        end = f"{self.error or self.outcome or 'nothing'} at {self.ended:.3f} s"
        return f"{self.kind} {self.tag} {self.work} of {self.at:.3f} s ({self.timeout:.3f} s), {end}"


@dataclass(slots=True)
class Run:
    """One handler, or deferred work, and how it ended; the deadline is that which the server was given."""

    tag: str
    part: str
    by: str
    began: float
    deadline: float
    is_cancellable: bool
    ended: float = FOR_EVER
    how: str = ""


@dataclass(slots=True)
class Requests(actor_faults.Evidence):
    """And what was sent, and what ran."""

    sent: dict[str, Sent] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    is_tight: bool = False
    """Mailboxes are so small that senders wait for room."""

    async def begin(self, node: Node) -> None:
        """Start what a life of a node needs."""
        life = self.new_life(node)
        await node.start((TightWorker if self.is_tight else Worker)(self, life), name="worker")
        await node.start((TightNimble if self.is_tight else Nimble)(self, life), name="nimble")
        await node.start(Nimble(self, life), name="deep")

    @contextmanager
    def running(
        self, tag: str, part: str, server: "Worker", deadline: float | None, cancellable: bool
    ) -> Iterator[Run]:
        """Note that a handler runs."""
        run = Run(tag, part, server.life, now(), FOR_EVER if deadline is None else deadline, cancellable)
        if not self.over:
            self.runs.append(run)
        how = "raised"
        try:
            yield run
            how = "done"
        except asyncio.CancelledError:
            how = "cancelled"
            raise
        finally:
            if not self.over:
                run.ended, run.how = now(), how

    async def send(self, message: Sent, work: Coroutine[Any, Any, Any]) -> Sent:
        """Send a message, and note how that ended."""
        if not self.over:
            self.sent[message.tag] = message
        outcome, error = "cancelled", ""
        try:
            message.result = await work
            outcome = "ok"
        except Exception as caught:  # every error is evidence
            outcome = caught.executed if isinstance(caught, CallError) else "maybe"
            error = f"{type(caught).__name__}: {caught}"
            message.typed = isinstance(caught, CallError)
        finally:
            if not self.over:
                message.ended, message.outcome, message.error = now(), outcome, error
        return message


# -- who works --------------------------------------------------------------------------


class Worker(GenServer):
    """Does one thing at a time."""

    mailbox = Mailbox(100_000)

    def __init__(self, evidence: Requests, life: str) -> None:
        self.evidence = evidence
        self.life = life
        self.waiting: dict[str, Any] = {}

    @call
    async def run(self, tag: str, work: Work) -> str:
        return await self.work(tag, work, cancellable=False)

    @cast
    async def take(self, tag: str) -> None:
        with self.evidence.running(tag, "handler", self, None, cancellable=False):
            await asyncio.sleep(0.01)

    async def handle_info(self, info: Any) -> None:
        if isinstance(info, TimerFired):
            await self.answer_late(str(info.tag))
        else:
            await self.take(info)

    async def work(self, tag: str, work: Work, *, cancellable: bool) -> str:
        how, seconds, *ask = work
        frm = self.caller
        with self.evidence.running(tag, "handler", self, frm.deadline, cancellable) as run:
            match how:
                case "defer":
                    return self.defer(frm, self.deferred(tag, seconds, ask, run.deadline))
                case "leave":
                    self.waiting[tag] = frm
                    self.send_after(seconds, tag)
                    raise NoReply
                case "raise":
                    await asyncio.sleep(seconds)
                    raise ValueError(tag)
                case _:
                    await asyncio.sleep(seconds)
                    await self.ask(tag, ask, run.deadline)
        return tag

    async def deferred(self, tag: str, seconds: float, ask: Work, deadline: float) -> str:
        with self.evidence.running(tag, "deferred", self, deadline, cancellable=True):
            await asyncio.sleep(seconds)
            await self.ask(tag, ask, deadline)
        return tag

    async def answer_late(self, tag: str) -> None:
        """Answer twice: the second time is one too many."""
        frm = self.waiting.pop(tag)
        await self.reply(frm, tag)
        await self.reply_error(frm, RuntimeError("answered twice"))

    async def ask(self, tag: str, ask: Work, deadline: float) -> None:
        """Ask a server on a third node for a part of it."""
        if not ask:
            return
        to, method, seconds = ask
        name, home = f"{tag}.1", self.node.id.name
        message = Sent(name, "part", home, self.life, to, [method, seconds], now(), max(0.0, deadline - now()))
        ref = self.node.ref(Nimble, "deep", on=to).with_(timeout=LONG)
        await self.evidence.send(message, ref.call(METHODS[method], name, ["answer", seconds]))


class Nimble(Worker):
    """Has handlers that end when nobody waits for them any more, and handlers that run beside others."""

    @call(cancellable=True)
    async def nimbly(self, tag: str, work: Work) -> str:
        return await self.work(tag, work, cancellable=True)

    @call(concurrent=True)
    async def beside(self, tag: str, work: Work) -> str:
        return await self.work(tag, work, cancellable=False)

    @call(concurrent=True, cancellable=True)
    async def nimbly_beside(self, tag: str, work: Work) -> str:
        return await self.work(tag, work, cancellable=True)


class TightWorker(Worker):
    """Lets its senders wait for room."""

    mailbox = Mailbox(1, overflow="block")


class TightNimble(Nimble):
    """Lets its senders wait for room."""

    mailbox = Mailbox(1, overflow="block")


METHODS = {
    "run": Nimble.run,
    "nimbly": Nimble.nimbly,
    "beside": Nimble.beside,
    "nimbly_beside": Nimble.nimbly_beside,
}

# -- who sends --------------------------------------------------------------------------


class Sender(GenServer):
    """Sends one stream from inside of a handler."""

    def __init__(self, stream: "Stream", node: Node) -> None:
        self.stream = stream
        self.sender = node
        self.done = asyncio.Event()

    @cast
    async def go(self) -> None:
        await self.stream.send(self.sender)
        self.done.set()


class Stream:
    """What one sender sends to one server, in order; another life of its node goes on with it."""

    def __init__(self, evidence: Requests, home: str, to: str, server: str) -> None:
        self.evidence = evidence
        self.name = f"{home}>{to}/{server}"
        self.to = to
        self.server = server
        self.nodes = sorted({"a", "b", "c"} - {to})
        self.chance = rng(self.name)
        self.in_actor = self.chance.random() < 0.5
        self.numbers = iter(range(MESSAGES))

    async def run(self, node: Node) -> None:
        """Send from a node, by a task or by an actor."""
        if not self.in_actor:
            await self.send(node)
            return
        sender = Sender(self, node)
        ref = await node.start(sender)
        await ref.cast(Sender.go)
        await sender.done.wait()

    async def send(self, node: Node) -> None:
        """Send what is left; calls go beside each other."""
        stream, chance = f"{self.evidence.life(node.id.name)}:{self.name}", self.chance
        calls = []
        for number in self.numbers:
            if chance.random() < 0.7:
                await asyncio.sleep(1.6 * chance.random())
            calls += await self.send_one(node, f"{stream}#{number}")
        await asyncio.gather(*calls, return_exceptions=True)

    async def send_one(self, node: Node, tag: str) -> "list[asyncio.Task[Sent]]":
        ref = node.ref(Nimble, self.server, on=self.to)
        kind = self.chance.choice(["cast", "info", *["call"] * 4])
        timeout = self.chance.choice([0.05, 0.4, 1.0, 3.0, 10.0])
        message = Sent(
            tag,
            kind,
            node.id.name,
            self.evidence.life(node.id.name),
            self.to,
            some_work(self.chance, self.nodes),
            now(),
            timeout,
        )
        match kind:
            case "cast":
                await self.evidence.send(message, ref.cast(Worker.take, tag))
            case "info":
                await self.evidence.send(message, ref.send(tag))
            case _:
                return [await self.call(ref, message)]
        return []

    async def call(self, ref: Ref[Nimble], message: Sent) -> "asyncio.Task[Sent]":
        method = METHODS[self.chance.choice(SERVERS[self.server])]
        message.retry = self.chance.choice([0, 0, 0, 3])
        if self.chance.random() < 0.5:
            work = ref.with_(timeout=message.timeout, retry=message.retry).call(method, message.tag, message.work)
        else:
            patient = ref.with_(timeout=LONG, retry=message.retry)
            work = bounded(message.timeout, patient.call(method, message.tag, message.work))
        task = asyncio.create_task(self.evidence.send(message, work))
        if self.chance.random() < 0.3:
            timer = asyncio.get_running_loop().call_later(self.chance.random() ** 2, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())
        await asyncio.sleep(0)  # it has sent its request when this goes on
        return task


async def bounded(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Await a call under an ambient deadline."""
    with deadline(seconds):
        return await work


def some_work(chance: Random, nodes: list[str]) -> Work:
    seconds = 0.5 * chance.random() ** 2
    how = chance.choice(["answer", "answer", "raise", "defer", "defer", "leave"])
    if how in ("answer", "defer") and chance.random() < 0.4:
        return [how, seconds / 4, chance.choice(nodes), chance.choice(["run", "nimbly"]), 2 * seconds]
    return [how, seconds]


async def actor_rules() -> Requests:
    """Run the scenario in the running simulation."""
    chance = rng("scenario")
    evidence = Requests(is_tight=chance.random() < 0.3)
    async with SimCluster(3, app=evidence.begin, conditions=a_network(chance)) as sim:
        streams = [
            (home, Stream(evidence, home, to, server))
            for (home, to), server in itertools.product(itertools.product(sim.names, repeat=2), SERVERS)
        ]
        sending = [actor_faults.in_each_life(sim, evidence, home, stream.run) for home, stream in streams]
        await all_of(befall(sim, evidence, TURNS), *sending)
        evidence.sending = False
        await come_to_rest(sim, evidence, held_open)
    return evidence


def held_open(node: Node) -> Iterator[str]:
    """Calls that a server keeps for an answer, and tasks of it that work."""
    for process in node._processes.values():
        if process.handlers.open or process.beside or process.current is not None:
            yield f"{process.mailbox.shown} holds {len(process.handlers.open)} calls, and {process.beside} tasks"
