"""The scenario of the sessions' promises: two or three nodes live, and their connections do not.

Every node sends numbered casts and calls to every other, in bursts, from several senders.
Meanwhile connections are reset in the middle of records, both sides dial at once, ways are
cut for up to a minute, connections go half open, cookies are changed. `broken_promises` returns one
sentence for each promise that was not kept:

- every cast that was accepted was taken exactly once, and each stream in its order;
- a call that returned ran once; one that failed with ``executed="no"`` did not run, none ran twice, and none
  ran on a connection that opened after it had ended;
- a call fails only where a cut explains it, or its own haste; a reset explains nothing;
- no session ends: no dead letter, nothing lost;
- when all is over nothing is queued, unacknowledged or waiting.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from clusterkit import Config, DeadLetter, LinkDown, LinkUp
from clusterkit.runtime import now, rng
from clusterkit.testing.history import Operation
from clusterkit.testing.path import Conditions
from clusterkit.testing.sim_cluster import COOKIE, SimCluster
from tests.simulation.calls_under_faults import isinstance_of_call_error
from tests.simulation.numbered_messages import (
    BEAT,
    HASTY,
    LATE,
    Evidence,
    beats,
    come_to_rest,
    doubled,
    ends_of,
    next_beat,
    out_of_order,
    run_late,
    send,
    shown,
    strange_ends,
    wrong_with_a_call,
)

MESSAGES = 180  # each way between two nodes; a third of it where there are three
SENDERS = 5
LONGEST_CUT = 60.0
RECOVERY = 25.0
"""Seconds after a cut in which it still explains errors: silence is noticed after 15 s, and redials are up to 5 s apart."""


@dataclass(slots=True)
class Cut:
    """Two nodes could not talk, from ``began`` to ``ended``."""

    nodes: frozenset[str]
    began: float
    ended: float = float("inf")

    def explains(self, each: Operation) -> bool:
        _, home, to = ends_of(each.client)
        return self.nodes == {home, to} and each.called <= self.ended + RECOVERY and each.returned >= self.began


@dataclass(slots=True)
class BrokenLinks(Evidence):
    """And which cuts there were."""

    cuts: list[Cut] = field(default_factory=list)
    dead_letters: int = 0


async def sessions_under_faults(strict_part: float = 0.4) -> BrokenLinks:
    """Run the scenario in the running simulation; such a part of the seeds has a strict network."""
    evidence, chance = BrokenLinks(), rng("scenario")
    nodes, strict = chance.choice([2, 2, 2, 3]), chance.random() < strict_part
    config, conditions = bounds(chance, strict=strict), a_network(chance, strict=strict)
    async with SimCluster(nodes, app=evidence.begin, config=config, conditions=conditions) as sim:
        await next_beat()
        async with asyncio.TaskGroup() as group:
            for home, to in itertools.permutations(sim.names, 2):
                for sender in range(SENDERS):
                    numbers = iter(range(MESSAGES // SENDERS // (1 if nodes == 2 else 3)))
                    stream = f"{evidence.life(home)}>{to}/{sender}"
                    group.create_task(send(evidence, sim[home], stream, to, numbers, pace=1.0))
            group.create_task(reset_often(sim))
            group.create_task(cut(sim, evidence))
            group.create_task(change_cookies(sim))
        await come_to_rest(sim, evidence)
        evidence.dead_letters = sum(node.stats()["dead_letters"] for node in sim.running)
    return evidence


def bounds(chance: Random, *, strict: bool) -> Config:
    """By chance an outbox so small that senders stand in line before it."""
    pause = 1e-300 if strict else 0.1  # no pause at all: both sides dial in the same instant
    most = pause if strict else 5.0
    if chance.random() < 0.5:
        return Config(redial_first=pause, redial_most=most)
    few = chance.randint(8, 40)
    return Config(redial_first=pause, redial_most=most, message_limit=1 << 16, outbox_messages=few, outbox_size=1 << 17)


def a_network(chance: Random, *, strict: bool) -> Conditions:
    """A near or a far one, that splits what it carries and takes little at a time.

    In a strict one all travels for whole beats, so that what rarely meets does so often; and what is lost once
    takes longer than the handshake of the next connection.
    """
    window = chance.choice([1 << 12, 1 << 14, 1 << 16])
    if strict:
        return Conditions(BEAT, 0.0, loss=0.15, retransmission=24 * BEAT, fragmentation=0.3, window=window)
    latency = chance.choice([0.001, 0.01, 0.05])
    return Conditions(latency, latency, loss=0.02, fragmentation=0.3, window=window)


# -- the faults ---------------------------------------------------------------------


async def reset_often(sim: SimCluster) -> None:
    """Reset connections, most of them while bytes are on their way, up to three in a row.

    Then a connection comes about, unless a cut prevents it: who has none for three seconds is down, as promised.
    """
    chance = rng("resets")
    for _ in range(chance.randint(20, 40)):
        await reset_in_a_row(sim, chance, *chance.sample(sim.names, 2))


async def reset_in_a_row(sim: SimCluster, chance: Random, one: str, other: str) -> None:
    await for_a_while(lambda: are_linked(sim, one, other))
    await asyncio.sleep(beats(0.5 * chance.random()))
    for _ in range(chance.choice([1, 1, 2, 3])):
        if chance.random() < 0.8:
            await for_a_while(lambda: not sim.world.quiet)
        await asyncio.sleep(beats(4 * sim.world.path(one, other).delay() * chance.random()))
        sim.world.reset(one, other, seen_by=chance.choice([None, one]))


async def for_a_while(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, for two seconds at the most."""
    deadline = now() + 2.0
    while not condition() and now() < deadline:
        await asyncio.sleep(BEAT)


def are_linked(sim: SimCluster, one: str, other: str) -> bool:
    """Whether both ends have the connection open."""
    links = [sim[home]._open_kernel().links.get(to) for home, to in ((one, other), (other, one))]
    return all(link is not None and link.open for link in links)


async def cut(sim: SimCluster, evidence: BrokenLinks) -> None:
    """Cut two nodes apart, never or twice: both ways, one way, or their connections for ever."""
    chance = rng("cut")
    for _ in range(chance.choice([0, 1, 2])):
        await asyncio.sleep(10 * chance.random())
        one, other = chance.sample(sim.names, 2)
        fault = Cut(frozenset((one, other)), now())
        evidence.cuts.append(fault)
        match chance.choice(["both", "one way", "for ever"]):
            case "both":
                sim.partition(one, other)
            case "one way":
                sim.cut(one, other)
            case _:
                sim.world.forget(one, other)
                fault.ended = await next_open(evidence, fault)
                continue
        await asyncio.sleep(LONGEST_CUT * chance.random() ** 2)
        sim.heal()
        fault.ended = now()


async def next_open(evidence: Evidence, fault: Cut) -> float:
    """Wait until the nodes have another connection, or a while, and say when."""
    for _ in range(200):
        await asyncio.sleep(0.1)
        for told in evidence.of(LinkUp):
            if told.at > fault.began and {told.life[0], told.event.peer.name} == fault.nodes:
                return told.at
    return float("inf")


async def change_cookies(sim: SimCluster) -> None:
    """By chance go over to other cookies, node by node: no step withdraws what another node dials with."""
    chance, old = rng("cookies"), COOKIE
    for number in range(chance.choice([0, 0, 1, 6])):
        new = f"cookie number {number} of a simulated cluster"
        for cookies in ([old, new], [new, old], [new]):
            for name in sim.names:
                await asyncio.sleep(beats(chance.random()))
                sim[name].set_cookies(cookies)
        old = new


# -- the verdict --------------------------------------------------------------------


def broken_promises(evidence: BrokenLinks) -> list[str]:
    """Hold what the senders were told against what ran."""
    times = Counter((run.stream, run.number) for run in evidence.ran)
    wrong = [*doubled(evidence), *out_of_order(evidence), *run_late(evidence), *strange_ends(evidence)]
    for each in evidence.history:
        runs = times[each.client, each.argument]
        found = wrong_with_a_cast(each, runs) if each.name == "cast" else [*wrong_with_a_call(each, runs)]
        if each.failed and runs:
            found.append('executed="no", and it ran')
        if each.name != "cast" and not each.ok and not explained(each, evidence):
            found.append("no cut explains it")
        if not each.ok and not isinstance_of_call_error(each.error):
            found.append("is not typed")
        wrong += [f"{shown(each)}: {why}" for why in found]
    wrong += [f"{told.life} told of {told.event}" for told in evidence.of(DeadLetter)]
    wrong += [f"{told.life} told of {told.event}" for told in evidence.of(LinkDown) if told.event.lost]
    wrong += [f"{evidence.dead_letters} dead letters were counted"] if evidence.dead_letters else []
    return [*wrong, *(f"{what} when all was over" for what in evidence.left)]


def wrong_with_a_cast(each: Operation, runs: int) -> list[str]:
    if not each.ok:
        return ["was not accepted"]
    return [] if runs else ["was accepted, and never taken"]


def explained(each: Operation, evidence: BrokenLinks) -> bool:
    gave_up = each.error.startswith(("CallTimeout", "LinkFull")) and each.returned - each.called > HASTY - LATE
    return (each.name == "hasty call" and gave_up) or any(cut.explains(each) for cut in evidence.cuts)
