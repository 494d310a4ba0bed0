"""The scenario of the rules for cycles: calls that call further, along paths that a seed draws, over three nodes.

Each call carries a plan: whom its handler calls in turn or all at once, whether it answers by itself, from deferred
work, or leaves the rest to a task of its actor. Some handlers are concurrent. Meanwhile nodes crash, are closed, start
again and stand still, and connections break. `broken_promises` returns one sentence for each rule that was not kept:

- a call to a server that waits, directly or not, for that very call raises `CallCycle` at once, on any node;
- no other does: not where the one who waits has deferred its answer or left the rest to a task, not where the handler
  is concurrent, which starts at once; not because a server had such a turn in an earlier life of its node;
- `CallCycle.chain` names the server that waits.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from clusterkit import CallCycle, GenServer, Node, call
from clusterkit.runtime import now, rng
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation import actor_faults
from tests.simulation.actor_faults import FOR_EVER, TRAVEL, a_network, all_of, befall, come_to_rest, node_of
from tests.simulation.actor_rules import held_open

ROOTS = 12  # of each node
SERVERS = {"plain": "abc", "open": "abc"}
TURNS = 2
TIMEOUT = 8.0
HOWS = ("visit", "visit", "visit", "later", "apart", "look")
Plan = list[Any]
"""Server, node, how its handler goes on, after how many seconds, whether it calls all at once, and whom (plans)."""


@dataclass(slots=True)
class Made:
    """One call, made by the handler of its parent."""

    number: int
    parent: int | None
    server: str
    to: str
    how: str
    life: str
    """Of the node that it was made from."""
    at: float
    is_leaf: bool
    seconds: float
    by_life: str = ""
    """Of the node that ran it."""
    ended: float = FOR_EVER
    error: str = ""
    chain: tuple[str, ...] = ()

    def __str__(self) -> str:
        end = f"{self.error or 'ok'} at {self.ended:.3f} s"
        made = f"{self.how} of {self.server} on {self.to}, at {self.at:.3f} s, for {self.parent}"
        return f"call {self.number} ({made}), {end}"


@dataclass(slots=True)
class Cycles(actor_faults.Evidence):
    """And which calls were made."""

    made: list[Made] = field(default_factory=list)

    async def begin(self, node: Node) -> None:
        """Start what a life of a node needs."""
        life = self.new_life(node)
        await node.start(Visited(self, life), name="plain")
        await node.start(Open(self, life), name="open")

    async def make(self, node: Node, life: str, parent: int | None, plan: Plan) -> None:
        """Make one call, and note how it ended."""
        server, to, how, seconds, _, further = plan
        made = Made(len(self.made), parent, server, to, how, life, now(), not further, seconds)
        ref = node.ref(Open, server, on=to).with_(timeout=TIMEOUT)
        if not self.over:
            self.made.append(made)
        error, chain = "cancelled", tuple[str, ...]()
        try:
            await ref.call(METHODS[how], made.number, plan)
            error = ""
        except Exception as caught:  # every error is evidence
            error = type(caught).__name__
            chain = caught.chain if isinstance(caught, CallCycle) else ()
        finally:
            if not self.over:
                made.ended, made.error, made.chain = now(), error, chain


class Visited(GenServer):
    """Calls whom it is told to call."""

    def __init__(self, evidence: Cycles, life: str) -> None:
        self.evidence = evidence
        self.life = life

    @call
    async def visit(self, number: int, plan: Plan) -> None:
        await self.go_on(number, plan)

    @call
    async def later(self, number: int, plan: Plan) -> None:
        return self.defer(self.caller, self.go_on(number, plan))

    @call
    async def apart(self, number: int, plan: Plan) -> None:
        self.create_task(self.go_on(number, plan))

    async def go_on(self, number: int, plan: Plan) -> None:
        *_, seconds, at_once, further = plan
        if not self.evidence.over:
            self.evidence.made[number].by_life = self.life
        if seconds:
            await asyncio.sleep(seconds)
        make = partial(self.evidence.make, self.node, self.life, number)
        if at_once:
            await asyncio.gather(*(make(each) for each in further))
            return
        for each in further:
            await make(each)


class Open(Visited):
    """Has a handler that runs beside others."""

    @call(concurrent=True)
    async def look(self, number: int, plan: Plan) -> None:
        await self.go_on(number, plan)


METHODS = {"visit": Open.visit, "later": Open.later, "apart": Open.apart, "look": Open.look}


def a_plan(chance: Random, depth: int) -> Plan:
    server = chance.choice(list(SERVERS))
    how = chance.choice(HOWS if server == "open" else HOWS[:-1])
    count = chance.choice([0, 1, 1, 2]) if depth else 0
    seconds = chance.choice([0.0, 0.0, 0.02, 0.2, 1.5])
    further = [a_plan(chance, depth - 1) for _ in range(count)]
    return [server, chance.choice(SERVERS[server]), how, seconds, chance.random() < 0.3, further]


async def actor_cycles() -> Cycles:
    """Run the scenario in the running simulation."""
    evidence, chance = Cycles(), rng("scenario")
    async with SimCluster(3, app=evidence.begin, conditions=a_network(chance)) as sim:
        roots = [
            actor_faults.in_each_life(sim, evidence, name, lambda node: call_some(evidence, node)) for name in sim.names
        ]
        await all_of(befall(sim, evidence, TURNS, most=3.0), *roots)
        evidence.sending = False
        await come_to_rest(sim, evidence, held_open)
    return evidence


async def call_some(evidence: Cycles, node: Node) -> None:
    """Make calls one after the other, some of them beside the next."""
    life = evidence.life(node.id.name)
    chance = rng(life)
    async with asyncio.TaskGroup() as group:
        for _ in range(ROOTS):
            task = group.create_task(evidence.make(node, life, None, a_plan(chance, 4)))
            if chance.random() < 0.7:
                await task
            await asyncio.sleep(0.3 * chance.random())


# -- the verdict --------------------------------------------------------------------------


def broken_promises(evidence: Cycles) -> list[str]:
    """Hold each call against those that waited for it."""
    wrong = [f"{made}: {why}" for made in evidence.made for why in wrong_with_a_call(made, evidence)]
    return [*wrong, *(f"{what} when all was over" for what in evidence.left)]


def wrong_with_a_call(made: Made, evidence: Cycles) -> Iterator[str]:
    cycle, home = closes_a_cycle(made, evidence), node_of(made.life)
    if made.error == CallCycle.__name__:
        if cycle is None:
            yield "nobody waits for it"
        elif evidence.crashes.get(cycle.waits.by_life, FOR_EVER) < made.at:
            yield "who waited for it was in an earlier life"
        elif not any(turn.startswith(f"{made.to}/") and turn.endswith(f"/{made.server}") for turn in made.chain):
            yield f"the chain is {made.chain}"
    deadline = root_of(made, evidence).at + TIMEOUT
    is_sure = evidence.is_calm(made.at, made.ended, home, made.to) and made.error != "cancelled"
    if is_sure and made.life not in evidence.ends and made.at + made.seconds + TRAVEL < deadline:
        awaited = is_awaited(made, evidence)
        if awaited is not None and awaited.lasts(made, evidence):
            if made.how != "look":
                yield from wrong_with_a_cycle(made)
            elif made.is_leaf:
                yield from wrong_with_a_look(made)


def wrong_with_a_cycle(made: Made) -> Iterator[str]:
    if made.error != CallCycle.__name__:
        yield "it closes a cycle"
    elif made.ended > made.at + TRAVEL:
        yield f"it took {made.ended - made.at:.3f} s to say so"


def wrong_with_a_look(made: Made) -> Iterator[str]:
    """A concurrent handler answers at once who waits."""
    if made.error:
        yield "a concurrent handler did not answer who waits"
    elif made.ended > made.at + made.seconds + TRAVEL:
        yield f"a concurrent handler answered after {made.ended - made.at:.3f} s"


def root_of(made: Made, evidence: Cycles) -> Made:
    """The call whose deadline all that are made for it have: the first, or the first of a task apart."""
    while made.parent is not None and evidence.made[made.parent].how != "apart":
        made = evidence.made[made.parent]
    return made


@dataclass(frozen=True, slots=True)
class Cycle:
    """A handler that waits, and the call that it waits for."""

    waits: Made
    asks: Made

    def lasts(self, made: Made, evidence: Cycles) -> bool:
        """Whether it still waits when the call that closes the cycle has come."""
        waits_on = self.asks is made or self.asks.ended > made.at + TRAVEL
        return waits_on and self.waits.by_life not in evidence.ends


def closes_a_cycle(made: Made, evidence: Cycles) -> Cycle | None:
    """Who waits for this call, and is asked by it."""
    return None if made.how == "look" else is_awaited(made, evidence)


def is_awaited(made: Made, evidence: Cycles) -> Cycle | None:
    """Who holds the very server that is called, until this call ends."""
    asks = made
    while asks.parent is not None:
        above = evidence.made[asks.parent]
        if above.how == "apart":
            return None  # nobody waits for that
        if above.how == "visit" and (above.server, above.to) == (made.server, made.to):
            return Cycle(above, asks)
        asks = above
    return None
