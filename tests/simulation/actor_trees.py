"""The scenario of the rules for names under supervisors: who hears of an end finds the next life under the name.

On every node a supervisor keeps three named actors, which end for all kinds of reasons; the supervisor itself is
stopped or killed, and started again. From every node the actors are monitored by name, and whoever is told of an end
calls that name at once. Meanwhile nodes crash, are closed, start again and stand still, and connections break.
`broken_promises` returns one sentence for each rule that was not kept:

- whoever is told that a supervised process has ended, and how, finds another life of it under its name, unless
  its supervisor ends too, or a fault explains it;
- when a supervisor has ended, stopped or killed, nothing that it started lives, and all names are free.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from clusterkit import Child, ClusterError, GenServer, NameInUse, Node, NoSuchServer, Stop, Supervisor, call, cast
from clusterkit.actors.ref import Ref
from clusterkit.runtime import now, rng
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation import actor_faults
from tests.simulation.actor_ends import within
from tests.simulation.actor_faults import FOR_EVER, a_network, all_of, befall, come_to_rest
from tests.simulation.actor_rules import held_open

KIDS = ("kid.0", "kid.1", "kid.2")
KEEPERS = 3  # one after the other, on each node
ENDS = 5  # of kids, in the time of each keeper
WATCHES = 8  # of each node
TURNS = 2


@dataclass(slots=True)
class Found:
    """What was found under a name when its bearer had ended."""

    home: str
    to: str
    name: str
    asked: float
    before: int
    reason: str
    told: float
    after: int = -1
    error: str = ""
    ended: float = FOR_EVER

    def __str__(self) -> str:
        found = self.error or f"life {self.after}"
        ended = f"ended {self.reason!r}, as {self.home} heard at {self.told:.3f} s"
        return f"{self.name} on {self.to}, life {self.before}, {ended}; found {found}"


@dataclass(slots=True)
class Trees(actor_faults.Evidence):
    """And when supervisors ended, and what was found."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    found: list[Found] = field(default_factory=list)
    keepers: list[tuple[str, str, float]] = field(default_factory=list)
    """Which supervisor ended, on which node, and when that began."""
    orphans: list[str] = field(default_factory=list)

    async def begin(self, node: Node) -> None:
        """Note a life of a node."""
        self.new_life(node)

    def ends_of(self, keeper: str, node: Node) -> None:
        """Note that a supervisor ends."""
        if not self.over:
            self.keepers.append((keeper, node.id.name, now()))


class Kid(GenServer):
    """One life of a supervised actor."""

    def __init__(self, evidence: Trees) -> None:
        self.number = next(evidence.numbers)

    @call
    async def which(self) -> int:
        return self.number

    @cast
    async def end(self, reason: str) -> None:
        if reason == "ValueError":
            raise ValueError(self.number)
        raise Stop(reason)


class Keeper(Supervisor):
    """Keeps three of them, one below another supervisor."""

    intensity = 1_000
    start_timeout = 2.0

    def __init__(self, evidence: Trees, names: Sequence[str], strategy: Any) -> None:
        self.evidence = evidence
        self.names = names
        self.strategy = strategy

    async def terminate(self, reason: object) -> None:
        self.evidence.ends_of("keeper" if self.names[1:] else "below", self.node)
        await super().terminate(reason)

    def children(self) -> Sequence[Child[Any]]:
        kids: list[Child[Any]] = [Child(partial(Kid, self.evidence), name=name) for name in self.names[:2]]
        if below := self.names[2:]:
            kids.append(Child(partial(Keeper, self.evidence, below, self.strategy), name="below"))
        return kids


async def keep(evidence: Trees, node: Node) -> None:
    """Start a supervisor, end its children one after the other, then itself; and again."""
    chance = rng(f"keep {evidence.life(node.id.name)}")
    for _ in range(KEEPERS):
        keeper = Keeper(evidence, KIDS, chance.choice(["one_for_one", "one_for_all", "rest_for_one"]))
        try:
            ref = await node.start(keeper, name="keeper")
        except NameInUse as error:
            evidence.orphans.append(f"all supervisors of {node.id.name} had ended, and {error}")
            return
        for _ in range(ENDS):
            await asyncio.sleep(0.8 * chance.random())
            which, how = chance.choice([*KIDS, "below"]), chance.choice(["normal", "boom", "ValueError", "killed"])
            await end_one(evidence, node, which, how)
        await asyncio.sleep(0.5 * chance.random())
        evidence.ends_of("keeper", node)
        async with node.monitor(ref) as down:
            await end_keeper(node, ref, kill=chance.random() < 0.5)
            await within(10.0, down)
        left = [each for each in (*KIDS, "below", "keeper") if node.whereis(each) is not None]
        if left and not evidence.over:
            evidence.orphans.append(f"at {now():.3f} s the supervisor of {node.id.name} had ended, and {left} lived")


async def end_keeper(node: Node, ref: Ref[Keeper], *, kill: bool) -> None:
    if not kill:
        with suppress(NoSuchServer):  # it gave up
            await node.stop(ref)
    elif (process := node._processes.get(int(ref.address.to))) is not None:
        process.kill()


async def end_one(evidence: Trees, node: Node, name: str, reason: str) -> None:
    ref = node.whereis(name)
    if ref is None:
        return  # it is being started again
    process = node._processes[int(ref.address.to)]
    if name == "below":
        evidence.ends_of(name, node)
    if reason == "killed" or name == "below":
        process.kill()
        return
    with suppress(ClusterError):
        await ref.cast("end", reason)


async def watch_some(evidence: Trees, node: Node) -> None:
    """Wait for the end of one kid after the other, and call its name when it has come."""
    chance = rng(f"watch {evidence.life(node.id.name)}")
    for _ in range(WATCHES):
        await asyncio.sleep(0.2 * chance.random())
        to, name = chance.choice("abc"), chance.choice(KIDS)
        ref = node.ref(Kid, name, on=to).with_(timeout=4.0)
        with suppress(ClusterError):
            before, asked = await ref.call(Kid.which), now()
            async with node.monitor(ref) as down:
                if (end := await within(3.0, down)) is not None and not evidence.over:
                    found = Found(node.id.name, to, name, asked, before, end.reason, now())
                    await look(evidence, found, ref.call(Kid.which))


async def look(evidence: Trees, found: Found, work: Any) -> None:
    evidence.found.append(found)
    try:
        found.after = await work
    except ClusterError as error:
        found.error = type(error).__name__
    found.ended = now()


async def actor_trees() -> Trees:
    """Run the scenario in the running simulation."""
    evidence, chance = Trees(), rng("scenario")
    async with SimCluster(3, app=evidence.begin, conditions=a_network(chance)) as sim:
        works = [
            actor_faults.in_each_life(sim, evidence, name, partial(work, evidence))
            for name in sim.names
            for work in (keep, watch_some, watch_some)
        ]
        await all_of(befall(sim, evidence, TURNS, most=4.0), *works)
        evidence.sending = False
        await come_to_rest(sim, evidence, held_open)
        evidence.left += [f"{node.id.name}: {each.shown}" for node in sim.running for each in kids_left(node)]
    return evidence


def kids_left(node: Node) -> list[Any]:
    return [each.mailbox for each in node._processes.values() if isinstance(each.actor, Kid | Keeper)]


# -- the verdict --------------------------------------------------------------------------


def broken_promises(evidence: Trees) -> list[str]:
    """Hold what was found against who kept it."""
    wrong = [f"{found}" for found in evidence.found if is_wrong(found, evidence)]
    return [*evidence.orphans, *wrong, *(f"{what} when all was over" for what in evidence.left)]


def is_wrong(found: Found, evidence: Trees) -> bool:
    """Whether no other life was found, and nothing explains it."""
    if found.ended == FOR_EVER or found.reason in ("noconnection", "noproc"):
        return False  # that tells of no end
    if not found.error:
        return found.after <= found.before
    keepers = ("keeper", "below") if found.name == KIDS[2] else ("keeper",)
    ending = any(
        keeper in keepers and on == found.to and found.asked - 1.0 <= at <= found.ended
        for keeper, on, at in evidence.keepers
    )
    broken = evidence.is_broken(found.asked, found.ended, found.home, found.to)
    return not ending and (found.error == "NoSuchServer" or not broken)
