"""The scenario of the cache's rules: a source changes and is invalidated, everywhere it is read, and all sorts of things befall the nodes.

Three or four nodes share a cache of a few keys. On each, getters ask for keys by chance, and invalidators change some in
the source, and invalidate them then. Loads take from no time to longer than an owner's silence is borne; most read
the source when they begin, so that what they bring may be old. Nodes crash, are closed, start again, stand still, are
cut off alone or from one other, leave the ring or the group and come back; ways are slow. Some groups have pickers that disagree about
every owner. `tests.simulation.cache_histories` has the rules.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clusterkit import ClusterError, Node
from clusterkit.core.identity import NodeId
from clusterkit.core.invalidations import ALL, KEY, PREFIX
from clusterkit.errors import UnknownKey
from clusterkit.runtime import now, rng
from clusterkit.services.cache import CacheGroup
from clusterkit.testing.path import Conditions
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation.actor_faults import (
    RECOVERY,
    Fault,
    all_of,
    close,
    come_to_rest,
    crash,
    cut,
    in_each_life,
    pause,
)
from tests.simulation.cache_histories import ABSENT, SOON, Cached, Dropped, Got, Load, Version

KEYS = tuple(f"{kind}/{number}" for kind in "ab" for number in range(3))
TURNS = 3
"""How many things befall the nodes in one run."""
LONGEST = 14.0  # seconds that a fault lasts: some are longer than the detector needs
FOR_LONG = 75.0  # and a few are longer than anybody repeats what was invalidated
QUIET = 6.0  # seconds after the last change in which all have heard of it
GETTERS = 2  # on each node
LATENCIES = (0.0, 0.0, 0.02, 0.3, 0.8)  # seconds that a load takes


@dataclass(slots=True)
class Choice:
    """What one run is like."""

    options: dict[str, Any]
    disagree: bool
    fails: float
    """The chance that a load fails."""

    @classmethod
    def draw(cls, chance: Random) -> "Choice":
        """Let the seed choose."""
        options = {
            "ttl": chance.choice([None, None, None, 4.0]),
            "negative_ttl": chance.choice([0.0, 3.0]),
            "stale_if_error": chance.choice([0.0, 5.0]),
            "hot_ttl": chance.choice([2.0, 10.0]),
            "hot_rate": chance.choice([0.5, 0.5, 10.0]),
            "max_bytes": chance.choice([1 << 20, 1 << 20, 1 << 20, 1_300]),
        }
        return cls(options, chance.random() < 0.15, chance.choice([0.0, 0.03]))


@dataclass(slots=True)
class Caches(Cached):
    """And the groups, by node, and what makes them."""

    choice: Choice = field(default_factory=lambda: Choice.draw(rng("choice")))
    held: dict[str, CacheGroup] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions = {key: [Version(1, 0.0)] for key in KEYS}
        self.hot_ttl = self.choice.options["hot_ttl"]

    async def begin(self, node: Node) -> None:
        """Start what a life of a node needs."""
        self.new_life(node)
        self.open_group(node)

    def open_group(self, node: Node) -> None:
        """Open the group of a node, again if it was closed."""
        name = node.id.name
        life = f"{self.life(name)}.{sum(each.startswith(self.life(name)) for each in self.group_began)}"
        source = Source(self, life)
        picker = AnyOther(node) if self.choice.disagree else None
        self.held[name] = CacheGroup(node, "scores", source.load, picker=picker, **self.choice.options)
        self.groups[name], self.group_began[life] = life, now()

    def end_group(self, name: str) -> None:
        """Take note that the life of a group ends."""
        self.group_ended[self.groups[name]] = now()

    def change(self, keys: list[str], chance: Random) -> dict[str, int]:
        """Put something else into the source; return the versions that it has now."""
        for key in keys:
            self.versions[key].append(Version(self.latest(key).number + 1, now(), chance.random() < 0.15))
        return {key: self.latest(key).number for key in keys}


class Source:
    """What a life of a group loads from."""

    def __init__(self, evidence: Caches, life: str) -> None:
        self._evidence = evidence
        self._life = life

    async def load(self, key: str) -> Any:
        """Read a key; most read at once what they return later."""
        chance, evidence = rng("loads"), self._evidence
        load = Load(self._life, key, now())
        if not evidence.over:
            evidence.loads.append(load)
        found, takes = evidence.latest(key), chance.choice(LATENCIES)
        try:
            await asyncio.sleep(takes)
            if chance.random() < 0.2:
                found = evidence.latest(key)
            load.number = found.number
            if chance.random() < evidence.choice.fails:
                load.failed = True
                raise OSError("the source fails")
            if found.absent:
                raise KeyError(key)
            return [key, found.number]
        finally:
            load.ended = now()


class AnyOther:
    """A picker that names another owner each time: no two nodes agree for long."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._chance = rng("picker")

    def pick(self, key: str) -> NodeId | None:
        """Any node."""
        nodes = [each for each in self._node.ring.nodes if each.incarnation]
        picked = self._chance.choice(nodes) if nodes else self._node.id
        return None if picked.name == self._node.id.name else picked


# -- what nodes do ----------------------------------------------------------------------


async def get_on(evidence: Caches, node: Node, number: int) -> None:
    """Get one key after the other, at times the same by several at once, or all."""
    name = node.id.name
    chance = rng(f"get {evidence.life(name)} {number}")
    while evidence.sending:
        await asyncio.sleep(0.8 * chance.random() ** 2)
        key, timeout = chance.choice(KEYS), chance.choice([0.3, 2.0, 5.0])
        keys = chance.choice([[key], [key], [key], [key] * 3, KEYS])
        tasks = [asyncio.ensure_future(get(evidence, name, each, timeout)) for each in keys]
        if chance.random() < 0.1:
            asyncio.get_running_loop().call_later(0.3 * chance.random(), tasks[0].cancel)
        await asyncio.wait(tasks)


async def get(evidence: Caches, name: str, key: str, timeout: float) -> Got:
    """Get a key, and note what came of it."""
    group = evidence.held[name]
    got = Got(name, evidence.groups[name], key, now(), now() + timeout)
    if not evidence.over:
        evidence.gets.append(got)
    copies = group.stats.hot_hits
    outcome, text = "cancelled", ""
    try:
        fetched = await group.fetch(key, timeout=timeout)
        outcome = "value" if fetched.value[0] == key else "another key's value"
        got.number, got.source = fetched.value[1], fetched.source
        got.is_copy = got.source == "hit" and now() == got.began and group.stats.hot_hits > copies
    except UnknownKey:
        outcome = ABSENT
    except Exception as error:  # every error is evidence
        outcome, text = type(error).__name__, str(error)
    finally:
        if not evidence.over:
            got.ended, got.outcome, got.text = now(), outcome, text
    return got


async def invalidate_on(sim: SimCluster, evidence: Caches, node: Node) -> None:
    """Change something in the source and invalidate it, again and again."""
    name = node.id.name
    chance = rng(f"invalidate {evidence.life(name)}")
    while evidence.sending:
        await asyncio.sleep(len(sim.names) * 2.0 * chance.random())
        if evidence.sending:
            kind, text = chance.choice(
                [
                    *[(KEY, key) for key in KEYS],
                    *[(KEY, key) for key in KEYS],
                    (PREFIX, "a/"),
                    (PREFIX, "b/"),
                    (ALL, ""),
                ]
            )
            await invalidate(sim, evidence, name, kind, text, chance)


async def invalidate(sim: SimCluster, evidence: Caches, name: str, kind: int, text: str, chance: Random) -> None:
    """Change something in the source and invalidate it."""
    group, life = evidence.held[name], evidence.groups[name]
    dropped = Dropped(name, life, kind, text, now(), {})
    dropped.numbers = evidence.change([key for key in KEYS if dropped.covers(key)], chance)
    evidence.dropped.append(dropped)
    how: dict[str, Any] = {"all": True} if kind == ALL else {"prefix": text} if kind == PREFIX else {"key": text}
    try:
        outcome = await group.invalidate(**how, timeout=chance.choice([0.2, 2.0, 5.0]))
    except ClusterError:
        return  # it was closing
    if evidence.over:
        return
    dropped.returned, dropped.knowing = now(), {life: name}
    dropped.missed = [each.name for each in outcome.missed]
    running = {each.id: each.id.name for each in sim.running}
    for reached in outcome.reached:
        known = running.get(reached)
        if known is not None and evidence.group_began[evidence.groups[known]] <= dropped.began:
            dropped.knowing[evidence.groups[known]] = known


# -- what befalls them ------------------------------------------------------------------


FAULTS = (
    "half open",
    "pause",
    "pause",
    "crash",
    "kill",
    "kill at once",
    "close",
    "cut",
    "cut",
    "one way",
    "partition",
    "partition",
    "rejoin",
    "regroup",
    "slow",
    "slow",
    "newcomer",
    "newcomer",
)
NEWCOMER = "x"


async def befall(sim: SimCluster, evidence: Caches, chance: Random) -> None:
    """Let one thing after the other happen."""
    for _ in range(TURNS):
        await asyncio.sleep(3 * chance.random())
        one, other = chance.sample(sim.names, 2)
        mortal = chance.choice(sim.names)
        lasting = FOR_LONG if chance.random() < 0.06 else LONGEST * chance.random() ** 2
        match chance.choice(FAULTS):
            case "half open":
                sim.world.forget(one, other)
                evidence.faults.append(Fault("half open", frozenset((one, other)), now(), now() + 16.0))
            case "pause":
                await pause(sim, evidence, one, min(lasting, LONGEST))
            case "crash" | "kill" as how:
                evidence.end_group(mortal)
                await crash(sim, evidence, mortal, lasting, reset=how == "kill")
            case "kill at once":
                evidence.end_group(mortal)
                await crash(sim, evidence, mortal, 0.0, reset=True)
            case "close":
                evidence.end_group(mortal)
                await close(sim, evidence, mortal, lasting)
            case "cut" | "one way" as how:
                await cut_and_kill(sim, evidence, chance, one, other, lasting, both=how == "cut")
            case "partition":
                await partition(sim, evidence, one, lasting, reset=chance.random() < 0.5)
            case "rejoin":
                await rejoin(sim, evidence, mortal, lasting)
            case "newcomer" if NEWCOMER not in evidence.lives:
                await begin_on_one_side(sim, evidence, chance, lasting)
            case "regroup":
                await regroup(sim, evidence, mortal, 0.2 * lasting)
            case _:
                await slow(sim, evidence, one, other, chance.choice([0.05, 0.2, 0.4]), lasting)


async def cut_and_kill(
    sim: SimCluster, evidence: Caches, chance: Random, one: str, other: str, lasting: float, *, both: bool
) -> None:
    """Cut two from each other; at times one of them dies over that."""
    cutting = cut(sim, evidence, one, other, lasting, both=both)
    if chance.random() < 0.5:
        await cutting
        return

    async def kill() -> None:
        await asyncio.sleep(lasting * chance.random())
        evidence.end_group(one)
        await crash(sim, evidence, one, lasting, reset=True)

    await all_of(cutting, kill())


async def partition(sim: SimCluster, evidence: Caches, name: str, lasting: float, *, reset: bool) -> None:
    """Cut one off from all others."""
    evidence.faults.append(fault := Fault("partition", frozenset((name,)), now()))
    sim.partition(name, [each for each in sim.names if each != name], reset=reset)
    await asyncio.sleep(lasting)
    sim.heal()
    fault.ended = now()


async def begin_on_one_side(sim: SimCluster, evidence: Caches, chance: Random, lasting: float) -> None:
    """Cut the cluster in two; a new node begins on one side of it."""
    shuffled = chance.sample(sim.names, len(sim.names))
    near, far = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
    ways = [frozenset((one, other)) for one in (*near, NEWCOMER) for other in far]
    cuts = [Fault("cut", way, now()) for way in ways]
    evidence.faults += cuts
    sim.partition(near, far)
    sim.partition(NEWCOMER, far)
    await asyncio.sleep(lasting * chance.random())
    await sim.start(NEWCOMER, seeds=near)
    await asyncio.sleep(lasting * chance.random())
    sim.heal()
    for each in cuts:
        each.ended = now()


async def rejoin(sim: SimCluster, evidence: Caches, name: str, lasting: float) -> None:
    """Let a node leave the ring, and join again under another incarnation; its group goes on."""
    evidence.faults.append(fault := Fault("rejoin", frozenset((name,)), now()))
    await sim.run(name, sim[name].ring.leave())
    await asyncio.sleep(lasting)
    seeds = [sim.address(each) for each in sim.names if each != name]
    await sim.run(name, sim[name].ring.join("simulation", seeds))
    fault.ended = now()


async def regroup(sim: SimCluster, evidence: Caches, name: str, lasting: float) -> None:
    """Close a node's group, and open it again."""
    evidence.faults.append(fault := Fault("regroup", frozenset((name,)), now()))
    evidence.end_group(name)
    await sim.run(name, evidence.held[name].aclose())
    await asyncio.sleep(lasting)

    async def open_again() -> None:
        evidence.open_group(sim[name])

    await sim.run(name, open_again())
    fault.ended = now()


async def slow(sim: SimCluster, evidence: Caches, one: str, other: str, latency: float, lasting: float) -> None:
    """Let all take long from one to another, one way."""
    path = sim.world.path(one, other)
    usual = path.conditions
    evidence.faults.append(fault := Fault("slow", frozenset((one, other)), now()))
    sim.world.shape(Conditions(latency, latency), one, other)
    await asyncio.sleep(lasting)
    path.conditions = usual
    fault.ended = now()


# -- the scenario -----------------------------------------------------------------------


async def caches_under_faults() -> Caches:
    """Run the scenario in the running simulation."""
    evidence, chance = Caches(), rng("network")
    latency = chance.choice([0.0005, 0.005, 0.02])
    network = Conditions(latency, latency, loss=chance.choice([0.0, 0.0, 0.02]), fragmentation=0.1)
    async with SimCluster(chance.choice((3, 3, 3, 4)), app=evidence.begin, conditions=network) as sim:

        async def until_it_is_over() -> None:
            await befall(sim, evidence, rng("faults"))
            await asyncio.sleep(SOON + RECOVERY + 2.0 * chance.random())
            evidence.sending = False

        workers = [
            in_each_life(sim, evidence, name, work)
            for name in (*sim.names, NEWCOMER)
            for work in (
                *[lambda node, number=number: get_on(evidence, node, number) for number in range(GETTERS)],
                lambda node: invalidate_on(sim, evidence, node),
            )
        ]
        await all_of(until_it_is_over(), *workers)
        await asyncio.sleep(QUIET)
        await look_at_rest(sim, evidence)
        await come_to_rest(sim, evidence, lambda node: [])
    return evidence


async def look_at_rest(sim: SimCluster, evidence: Caches) -> None:
    """When nothing changes any more, no node holds what the source has not, and all are answered with what it has."""
    for name, group in evidence.held.items():
        for room in (group.store.own, group.store.copies):
            for key in room:
                entry = room.peek(key)
                assert entry is not None
                latest, shown = evidence.latest(key), "none" if entry.is_missing else entry.value[1]
                if shown != ("none" if latest.absent else latest.number) and entry.until > now():
                    evidence.at_rest.append(f"at rest {name} holds {key} v{shown}, not v{latest.number}")
    for name in evidence.held:
        for key in KEYS:
            got = await sim.run(name, get(evidence, name, key, 5.0))
            latest = evidence.latest(key)
            if (got.outcome, got.number) not in {
                (ABSENT, 0) if latest.absent else ("value", latest.number),
                ("LoadFailed", 0),
            }:
                evidence.at_rest.append(f"at rest {got}, not v{latest.number}")
