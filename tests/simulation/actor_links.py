"""Pairs of partners on nodes that come and go: linked, some of them both ways, and one of each ended some day.

They are part of the scenario of `tests.simulation.actor_ends`. The rules: of two who are linked each hears once how the
other ended, as an `Exit` or by being ended for the same reason; of a normal end only who traps exits; when one hears
"noconnection", so does the other, and they can be linked again.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clusterkit import ClusterError, Exit, GenServer, Stop, call, cast
from clusterkit.actors.signals import reason_text
from clusterkit.runtime import now, rng
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation import actor_faults
from tests.simulation.actor_faults import FOR_EVER, TRAVEL, run_on

PAIRS = 2  # of each two nodes, both ways, and of each with itself
SHORTLY = 5.0  # seconds in which a crash is noticed


@dataclass(slots=True)
class Pair:
    """Two partners that are linked: the first asked, and with ``both`` the second too."""

    name: str
    nodes: tuple[str, str]
    lives: tuple[str, str]
    traps: tuple[bool, bool]
    both: bool
    linked: float = FOR_EVER
    ended: dict[int, tuple[float, str]] = field(default_factory=dict)
    ordered: dict[int, str] = field(default_factory=dict)
    exits: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: {0: [], 1: []})

    def __str__(self) -> str:
        links = "linked both ways" if self.both else "linked"
        heard = f"traps {self.traps}, ends {self.ended}, exits {self.exits}"
        return f"{self.name} of {self.nodes}, {links} at {self.linked:.3f} s, {heard}"


@dataclass(slots=True)
class Links(actor_faults.Evidence):
    """And who was linked to whom."""

    pairs: list[Pair] = field(default_factory=list)
    partners: dict[str, "list[Partner]"] = field(default_factory=dict)


def end_with(reason: str) -> None:
    """End the actor that handles something now."""
    if reason.startswith("ValueError"):
        raise ValueError(reason.partition(": ")[2])
    raise Stop(reason)


class Partner(GenServer):
    """One of two who are linked."""

    def __init__(self, evidence: Links, pair: Pair, side: int) -> None:
        self.evidence = evidence
        self.pair = pair
        self.side = side
        self.trap_exit = pair.traps[side]

    @call
    async def link_to(self, to: str) -> None:
        self.link(self.node.ref(Partner, f"{self.pair.name}.{1 - self.side}", on=to))

    @cast
    async def end(self, reason: str) -> None:
        self.pair.ordered[self.side] = reason
        end_with(reason)

    async def handle_info(self, info: Any) -> None:
        assert isinstance(info, Exit)
        if not self.evidence.over:
            self.pair.exits[self.side].append((now(), info.reason))

    async def terminate(self, reason: object) -> None:
        if not self.evidence.over:
            self.pair.ended[self.side] = now(), reason_text(reason)


async def pair_up(sim: SimCluster, evidence: Links, one: str, other: str, number: int) -> None:
    """Let two partners live together, if their nodes run."""
    name = f"{one}{other}{number}"
    chance = rng(f"pair {name}")
    await asyncio.sleep(5 * chance.random())
    if {one, other} <= {node.id.name for node in sim.running}:
        lives = evidence.life(one), evidence.life(other)
        traps = chance.random() < 0.5, chance.random() < 0.5
        pair = Pair(name, (one, other), lives, traps, chance.random() < 0.3)
        with suppress(ClusterError):  # a node may crash over it
            await live_together(sim, evidence, pair)


async def live_together(sim: SimCluster, evidence: Links, pair: Pair) -> None:
    """Start two partners, link them, and end one of them some day."""
    partners = evidence.partners[pair.name] = [Partner(evidence, pair, side) for side in (0, 1)]
    for side, node in enumerate(pair.nodes):
        await run_on(sim, node, sim[node].start(partners[side], name=f"{pair.name}.{side}"))
    await link_and_part(sim, evidence, pair, rng(f"live {pair.name}"), 6.0)


async def link_and_part(sim: SimCluster, evidence: Links, pair: Pair, chance: Random, most: float) -> None:
    """Link two who live, and end one of them after up to ``most`` seconds."""
    evidence.pairs.append(pair)
    refs = [sim[node].ref(Partner, f"{pair.name}.{side}") for side, node in enumerate(pair.nodes)]
    for side in (0, 1) if pair.both else (0,):
        await run_on(sim, pair.nodes[side], refs[side].call(Partner.link_to, pair.nodes[1 - side]))
    pair.linked = now()
    if most > 1.0 and chance.random() < 0.4:
        return  # they live on
    await asyncio.sleep(most * chance.random())
    side = chance.choice([0, 1])
    reason = chance.choice(["normal", "shutdown", f"left {pair.name}", f"ValueError: {pair.name}"])
    await run_on(sim, pair.nodes[side], refs[side].cast(Partner.end, reason))


async def link_again(sim: SimCluster, evidence: Links) -> None:
    """Link those anew who lost each other and still live, when all can talk."""
    chance = rng("again")
    for name, partners in evidence.partners.items():
        pair = partners[0].pair
        lost = any(reason == "noconnection" for side in (0, 1) for _, reason in pair.exits[side])
        if lost and not pair.ended and not any(life in evidence.ends for life in pair.lives):
            again = Pair(name, pair.nodes, pair.lives, pair.traps, pair.both)
            for partner in partners:
                partner.pair = again
            await link_and_part(sim, evidence, again, chance, 0.1)


# -- the verdict ----------------------------------------------------------------------------


def wrong_with_a_pair(pair: Pair, evidence: Links) -> Iterator[str]:
    told = [*pair.ended.values(), *pair.exits[0], *pair.exits[1]]
    if pair.linked == FOR_EVER or any(reason == "noconnection" and at <= pair.linked for at, reason in told):
        return  # the link never came about
    for side in (0, 1):
        if pair.lives[side] in evidence.ends:
            continue
        exits = exits_of(pair, side, evidence)
        if len(exits) > 1 or (exits and not pair.traps[side]):
            yield f"{len(exits)} Exits of {side}"
        yield from wrong_with_a_side(pair, side, evidence)


def exits_of(pair: Pair, side: int, evidence: Links) -> list[tuple[float, str]]:
    """What a side heard; where both had asked, one may come again: a LINK came too late, or had no answer yet."""
    exits = pair.exits[side]
    crossed = not is_settled(pair, evidence) or [reason for _, reason in exits][1:] == ["noproc"]
    return exits[:1] if pair.both and crossed else exits


def wrong_with_a_side(pair: Pair, side: int, evidence: Links) -> Iterator[str]:
    """What one side heard, against how the other ended."""
    other = 1 - side
    heard = pair.exits[side][0] if pair.exits[side] else None
    mine, theirs = pair.ended.get(side), pair.ended.get(other)
    if (
        heard is None
        and mine is not None
        and not pair.traps[side]
        and mine[1] not in (pair.ordered.get(side), "normal")
    ):
        heard = mine  # it was ended by the other's end
    broken = evidence.is_broken(pair.linked - 1, heard[0] if heard else FOR_EVER, *pair.nodes)
    if heard is not None:
        if heard[1] == "noconnection" and not broken:
            yield f"{side} heard noconnection, and no fault explains it"
        elif heard[1] == "noproc" and theirs is not None and theirs[0] <= heard[0]:
            return  # the link came when there was nobody any more
        elif heard[1] != "noconnection" and (theirs is None or theirs[1] != heard[1]):
            yield f"{side} heard {heard[1]!r}, which is not how the other ended"
        return
    if not is_settled(pair, evidence):
        return  # the other side may not know of the link
    if mine is not None and theirs is not None and mine[0] <= evidence.calm_since(theirs[0], *pair.nodes) + SHORTLY:
        return  # it ended first, or was not told yet
    if theirs is not None and (theirs[1] != "normal" or pair.traps[side]):
        yield f"{side} never heard how the other ended"
    crashed = evidence.crashes.get(pair.lives[other], FOR_EVER)
    if theirs is None and crashed < FOR_EVER and (mine is None or mine[0] > crashed + SHORTLY):
        yield f"{side} never heard that the other's node had crashed"


def is_settled(pair: Pair, evidence: Links) -> bool:
    """Whether both sides certainly came to know of their link."""
    return evidence.is_calm(pair.linked, pair.linked + TRAVEL, *pair.nodes)
