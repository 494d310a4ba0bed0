"""The scenario of the sessions' ends: three nodes send to each other, and their incarnations come and go.

Node a lives through. b and c crash and start again, leave the ring and join again, close in
good order and start again; cookies change, connections break, ways are cut. A sender dies
with its node, and another goes on in the node's next life. Some senders hold to one incarnation
of their peer. `broken_promises` returns one sentence for each promise that was not kept:

- every cast that was accepted was taken, or was reported (a dead letter, here or there), or was in a mailbox that
  died with its node, or its sender crashed;
- every error is typed;
- nothing is taken twice, no message is reported twice by one node, each stream is taken in its order;
- ``executed="no"`` is said of nothing that was taken, by an error or by a dead letter;
- what was never written and is addressed by name is never reported because its receiver was restarted;
- what is addressed to an incarnation is taken by that one or by none;
- ``LinkDown.lost`` counts the dead letters told "maybe" before it, and at most the calls that failed "maybe" beside;
- a node that closes in good order, and could reach its peers, loses nothing that it had accepted before;
- when all is over nothing is queued, unacknowledged or waiting.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from clusterkit import DeadLetter, JoinTimeout, LinkDown, Node
from clusterkit.runtime import now, rng
from clusterkit.testing.history import Operation
from clusterkit.testing.sim_cluster import COOKIE, Crashed, SimCluster
from tests.simulation.calls_under_faults import isinstance_of_call_error
from tests.simulation.numbered_messages import (
    BEAT,
    Evidence,
    Run,
    Told,
    beats,
    come_to_rest,
    doubled,
    ends_of,
    next_beat,
    out_of_order,
    send,
    shown,
    strange_ends,
    wrong_with_a_call,
)
from tests.simulation.sessions_under_faults import Cut, a_network, bounds

MESSAGES = 50  # of each sender
SENDERS = 2  # to each peer; the second holds to an incarnation
TURNS = 5
"""What befalls the nodes in one run, one after the other."""
UNNOTICED = 15.0  # seconds until a half-open connection is cut
RECOVERY = 20.0  # seconds after a fault in which a peer may be out of reach
EVICTED = ("too many sessions wait for their peers", "the peer ended the session")  # what each end says of it
UNASKED = "the session that asked has ended, or its outbox is full"
Message = tuple[str, int]
"""A stream, and a number in it."""


@dataclass(slots=True)
class Closing:
    """A node closed in good order, between these times, and had accepted these before."""

    life: str
    began: float
    accepted: set[Message]
    ended: float = float("inf")


@dataclass(slots=True)
class Restarts(Evidence):
    """And what befell the nodes."""

    cookies: list[str] = field(default_factory=lambda: [COOKIE])
    cuts: list[Cut] = field(default_factory=list)
    crashes: dict[str, float] = field(default_factory=dict)
    """When each life that ended so crashed."""
    buried: set[Message] = field(default_factory=set)
    """What was in the mailbox of a node that crashed."""
    back: list[tuple[str, float]] = field(default_factory=list)
    """Which node was in the ring again after something had befallen it, and when."""
    closings: list[Closing] = field(default_factory=list)
    sending: bool = True
    evicts: bool = False
    """Sessions are ended when more than one waits for its peer."""

    async def begin(self, node: Node) -> None:
        await Evidence.begin(self, node)
        node.set_cookies(self.cookies)

    def accepted(self) -> Iterator[Operation]:
        """The casts that were accepted so far."""
        return (each for each in self.history if each.ok and each.name == "cast")


async def restarts_under_faults() -> Restarts:
    """Run the scenario in the running simulation."""
    chance = rng("scenario")
    strict = chance.random() < 0.4
    # What is queued must fit into the time of a close: the window is a wide one.
    conditions = replace(a_network(chance, strict=strict), window=1 << 15)
    pause, limit = chance.choice([0.005, 0.1]), chance.choice([1, 1_024])
    evidence = Restarts(slowness=0.5, evicts=limit == 1)
    config = replace(bounds(chance, strict=False), redial_first=pause, session_limit=limit)
    async with SimCluster(3, app=evidence.begin, config=config, conditions=conditions) as sim:
        await next_beat()
        async with asyncio.TaskGroup() as group:
            for home, to in itertools.permutations(sim.names, 2):
                for sender in range(SENDERS):
                    group.create_task(keep_sending(sim, evidence, home, f"{to}/{sender}"))
            connections = group.create_task(break_connections(sim, evidence))
            await befall(sim, evidence)
            connections.cancel()
            sim.heal()
            evidence.sending = False
        await come_to_rest(sim, evidence)
    return evidence


async def keep_sending(sim: SimCluster, evidence: Restarts, home: str, to: str) -> None:
    """Send in each life of a node, until the faults are over."""
    numbers = iter(range(MESSAGES))
    while evidence.sending:
        if any(node.id.name == home for node in sim.running):
            stream, peer = f"{evidence.life(home)}>{to}", to.partition("/")[0]
            work = send(evidence, sim[home], stream, peer, numbers, pace=0.6, pinned=to.endswith("/1"))
            with contextlib.suppress(Crashed):
                await sim.run(home, work)
        await asyncio.sleep(beats(0.25))


# -- what befalls connections -----------------------------------------------------------


async def break_connections(sim: SimCluster, evidence: Restarts) -> None:
    """Reset connections, make them half open, and cut ways for some seconds."""
    chance = rng("connections")
    while True:
        await asyncio.sleep(beats(2 * chance.random()))
        one, other = chance.sample(sim.names, 2)
        match chance.choice(["reset"] * 6 + ["one end"] * 3 + ["half open", "cut", "cut both ways"]):
            case "reset":
                sim.world.reset(one, other)
            case "one end":
                sim.world.reset(one, other, seen_by=one)
            case "half open":
                sim.world.forget(one, other)
                evidence.cuts.append(Cut(frozenset((one, other)), now(), now() + UNNOTICED))
            case kind:
                sim.cut(one, other)
                if kind == "cut both ways":
                    sim.cut(other, one)
                evidence.cuts.append(fault := Cut(frozenset((one, other)), now()))
                await asyncio.sleep(beats(20 * chance.random() ** 3))
                sim.heal()
                fault.ended = now()


# -- what befalls nodes -----------------------------------------------------------------


async def befall(sim: SimCluster, evidence: Restarts) -> None:
    """Let one thing after the other happen."""
    chance = rng("nodes")
    for _ in range(TURNS):
        await asyncio.sleep(beats(4 * chance.random()))
        name, pause = chance.choice("bc"), beats(3 * chance.random())
        match chance.choice(["crash", "kill", "leave", "close", "cookies"]):
            case "crash":
                await crash(sim, evidence, name, pause, reset=False)
            case "kill":
                await crash(sim, evidence, name, pause, reset=True)
            case "leave":
                await leave(sim, name, pause)
            case "close":
                await close(sim, evidence, name, pause)
            case _:
                await change_cookies(sim, evidence, chance)
                continue
        evidence.back.append((name, now()))


async def crash(sim: SimCluster, evidence: Restarts, name: str, pause: float, *, reset: bool) -> None:
    mailbox = sim[name]._open_kernel().find("inbox")
    assert mailbox is not None
    evidence.buried.update(message_of(letter[1]) for letter in mailbox._user)
    evidence.crashes[evidence.life(name)] = now()
    sim.crash(name, reset=reset)
    await asyncio.sleep(pause)
    await sim.start(name)


def message_of(event: str) -> Message:
    stream, number = event.split("#")
    return stream, int(number)


async def leave(sim: SimCluster, name: str, pause: float) -> None:
    """Leave the ring and join it again, in one life."""
    node = sim[name]
    ring = node.ring.id
    seeds = [sim.address(each) for each in sim.names if each != name]

    async def work() -> None:
        await node.ring.leave()
        await asyncio.sleep(pause)
        while len(node._open_kernel().find("inbox") or ()):  # what came for this incarnation is taken by it
            await asyncio.sleep(BEAT)
        with contextlib.suppress(JoinTimeout):  # it dials on
            await node.ring.join(ring, seeds)

    await sim.run(name, work())


async def close(sim: SimCluster, evidence: Restarts, name: str, pause: float) -> None:
    life = evidence.life(name)
    accepted = {(each.client, each.argument) for each in evidence.accepted() if ends_of(each.client)[0] == life}
    closing = Closing(life, now(), accepted)
    evidence.closings.append(closing)
    await sim.stop(name)
    closing.ended = now()
    await asyncio.sleep(pause)
    await sim.start(name)


async def change_cookies(sim: SimCluster, evidence: Restarts, chance: Random) -> None:
    """Go over to another cookie, node by node."""
    old, new = evidence.cookies[0], f"the cookie of {now():.3f} s of a simulated cluster"
    for cookies in ([old, new], [new, old], [new]):
        evidence.cookies = cookies
        for node in sim.running:
            await asyncio.sleep(beats(chance.random()))
            node.set_cookies(cookies)


# -- the verdict --------------------------------------------------------------------


def broken_promises(evidence: Restarts) -> list[str]:
    """Hold what the senders were told against what ran."""
    taken = Counter((run.stream, run.number) for run in evidence.ran)
    wrong = [
        *doubled(evidence),
        *out_of_order(evidence),
        *strange_ends(evidence),
        *wrong_with_reports(evidence, taken),
    ]
    reported = {message for message, _ in reports(evidence)}
    for each in evidence.history:
        message = (each.client, each.argument)
        found = wrong_with_a_call(each, taken[message]) if each.name != "cast" and lived_on(each, evidence) else []
        if each.failed and taken[message]:
            found.append('executed="no", and it was taken')
        if not each.ok and lived_on(each, evidence) and not is_typed(each, evidence):
            found.append("is not typed")
        accounted = taken[message] or message in reported or message in evidence.buried
        if each.ok and each.name == "cast" and not accounted and lived_on(each, evidence):
            found.append("was accepted, and is nowhere")
        wrong += [f"{shown(each)}: {why}" for why in found]
    wrong += [f"{run.stream}#{run.number} was taken by {run.incarnation}" for run in evidence.ran if is_anothers(run)]
    return [*wrong, *miscounted(evidence), *(f"{what} when all was over" for what in evidence.left)]


def lived_on(each: Operation, evidence: Restarts) -> bool:
    """Whether who sent it did not crash."""
    return ends_of(each.client)[0] not in evidence.crashes


def is_typed(each: Operation, evidence: Restarts) -> bool:
    """Whether an error is a `CallError`, or says of a node that was closed that it is."""
    closed = each.error.startswith("UsageError: node") and "closed" in each.error
    of_one = any(closing.life == ends_of(each.client)[0] for closing in evidence.closings)
    return isinstance_of_call_error(each.error) or (closed and of_one)


def is_anothers(run: Run) -> bool:
    """Whether it was addressed to another incarnation."""
    return "!" in run.stream and run.stream.partition("!")[2] != str(run.incarnation)


def reports(evidence: Restarts) -> Iterator[tuple[Message, Told]]:
    """The dead letters that are about messages of the scenario, but those of lives that had crashed."""
    for told in evidence.of(DeadLetter):
        if "#" in told.event.target and told.at <= evidence.crashes.get(told.life, told.at):
            yield message_of(told.event.target.removeprefix("inbox.")), told


def wrong_with_reports(evidence: Restarts, taken: Counter[Message]) -> Iterator[str]:
    seen: set[tuple[str, Message]] = set()
    for message, told in reports(evidence):
        stream, number = message
        letter = f"{told.life} told at {told.at:.3f} s that {stream}#{number} is dead ({told.event.reason})"
        if told.event.executed == "no" and taken[message]:
            yield f'{letter}, executed="no", and it was taken'
        if (told.life, message) in seen:
            yield f"{letter}, again"
        if (told.event.reason, told.event.executed) == ("restarted", "no") and "!" not in stream:
            yield f"{letter}: it was never written, and is for any incarnation"
        if any(lost_at(closing, message, told, evidence) for closing in evidence.closings):
            yield f"{letter}: it had been accepted before the node closed"
        seen.add((told.life, message))


def lost_at(closing: Closing, message: Message, told: Told, evidence: Restarts) -> bool:
    """Whether a node lost a message at its end, though nothing kept it from its peer."""
    if told.life != closing.life or told.at < closing.began or message not in closing.accepted:
        return False
    _, home, to = ends_of(message[0])
    since = closing.began - RECOVERY
    cut = any(
        each.nodes == {home, to} and each.began <= closing.ended and each.ended >= since for each in evidence.cuts
    )
    gone = any(name == to and since <= at <= closing.ended for name, at in evidence.back)
    return not (cut or gone or (evidence.evicts and told.event.reason in EVICTED))


def miscounted(evidence: Restarts) -> Iterator[str]:
    """Compare what each life was told to be lost on the way to each peer with what it reported as in doubt."""
    lost, letters, calls = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for told in evidence.told:
        if isinstance(told.event, LinkDown):
            lost[told.life, told.event.peer.name] += told.event.lost
        elif isinstance(told.event, DeadLetter) and told.event.executed == "maybe" and told.event.reason != UNASKED:
            letters[told.life, told.event.node.name] += 1
    for each in evidence.history:
        if each.name != "cast" and each.unknown:
            life, _, to = ends_of(each.client)
            calls[life, to] += 1
    for key in sorted({*lost, *letters}):
        if not letters[key] <= lost[key] <= letters[key] + calls[key]:
            yield f"{key}: {lost[key]} lost, {letters[key]} dead letters and {calls[key]} calls in doubt"
