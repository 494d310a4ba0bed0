"""The scenario of the call's promises: three nodes, eight callers, one crash, one cut.

Each caller makes a hundred numbered calls to actors that note what they run. When all
is over, what the callers were told is held against what ran. `broken_promises` returns
one sentence for each promise that was not kept:

- a call that returned ran once, and returned its own number;
- a call that failed with ``executed="no"`` did not run; no call ran twice;
- every error is a `CallError`, and a fault that touches its two nodes explains it, which a reset alone is not;
- every call ended by its deadline, and soon after its node was killed;
- when all is over nothing waits any more.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from clusterkit import CallError, GenServer, Node, call
from clusterkit.runtime import now, rng
from clusterkit.testing.history import History, Operation
from clusterkit.testing.sim_cluster import SimCluster

CALLERS = 8
CALLS = 100
TIMEOUT = 2.0
PATIENT = 30.0
"""Seconds that every tenth call may take: its work is long, and it must end early when its node is killed."""
LATE = 0.1  # seconds: a timeout is found in ticks, and what arrives travels
NEWS = 4.0
"""Seconds after a kill in which its peers must have ended their calls: three without a link, and a redial."""
RECOVERY = 1.0
"""Seconds after a fault in which it still explains errors of new calls: what had stalled is sent again, and links are redialled."""


def is_patient(number: int) -> bool:
    """Tell the calls that may take long."""
    return number % 10 == 5


class Witness(GenServer):
    """Notes what it runs."""

    def __init__(self, ran: list[int]) -> None:
        self.ran = ran

    @call
    async def run(self, number: int) -> int:
        self.ran.append(number)
        if is_patient(number):
            await asyncio.sleep(3 * rng("work").random())
        return number


@dataclass(slots=True)
class Fault:
    """What explains an error between two nodes, from ``began`` to ``ended`` and a while longer."""

    nodes: tuple[str, ...]
    began: float
    ended: float = float("inf")

    def explains(self, operation: Operation) -> bool:
        touched = operation.argument[1:]
        concerned = set(touched) == set(self.nodes) if len(self.nodes) > 1 else self.nodes[0] in touched
        return concerned and operation.called <= self.ended + RECOVERY and operation.returned >= self.began


@dataclass(slots=True)
class Evidence:
    """What the callers saw, what ran, and which faults there were."""

    history: History = field(default_factory=History)
    ran: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    killed: tuple[str, float] = ("", float("inf"))
    left: list[str] = field(default_factory=list)
    trace: str = ""


async def calls_under_faults() -> Evidence:
    """Run the scenario in the running simulation."""
    evidence = Evidence()

    async def app(node: Node) -> None:
        await node.start(Witness(evidence.ran), name="witness")
        for caller in range(CALLERS):  # an actor does one thing at a time: long work must not hold up the others'
            await node.start(Witness(evidence.ran), name=f"slow.{caller}")

    async with SimCluster(3, app=app) as sim:
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(make_calls(sim, evidence, caller))
            group.create_task(crash(sim, evidence))
            group.create_task(cut(sim, evidence))
        await sim.settle()
        evidence.left = [f"{node.id.name}: {what}" for node in sim.running for what in still_waiting(node)]
        evidence.trace = sim.trace.digest()
    return evidence


async def make_calls(sim: SimCluster, evidence: Evidence, caller: int) -> None:
    """Call from a or b, which do not crash, any of the three."""
    chance, home = rng(f"caller {caller}"), "ab"[caller % 2]
    for index in range(CALLS):
        await asyncio.sleep(chance.random() / 5)
        number, target = caller * CALLS + index, chance.choice("abc")
        name, timeout = (f"slow.{caller}", PATIENT) if is_patient(number) else ("witness", TIMEOUT)
        ref = sim[home].ref(Witness, name, on=target).with_(timeout=timeout)
        work = ref.call(Witness.run, number)
        await evidence.history.record(f"caller {caller}", "call", (number, home, target), work)


async def crash(sim: SimCluster, evidence: Evidence) -> None:
    """Let c crash, silently or with resets, and start it again."""
    chance = rng("crash")
    await asyncio.sleep(1 + 5 * chance.random())
    reset = chance.random() < 0.5
    fault = Fault(("c",), now())
    evidence.faults.append(fault)
    if reset:
        evidence.killed = ("c", now())
    sim.crash("c", reset=reset)
    await asyncio.sleep(1 + 5 * chance.random())
    await sim.start("c")
    fault.ended = now()


async def cut(sim: SimCluster, evidence: Evidence) -> None:
    """Cut a and b apart, one way or both, or reset what connects them."""
    chance = rng("cut")
    await asyncio.sleep(1 + 5 * chance.random())
    how = chance.choice(["both", "one way", "reset"])
    if how == "reset":
        sim.world.reset("a", "b")  # explains nothing: the session goes on
        return
    fault = Fault(("a", "b"), now())
    evidence.faults.append(fault)
    if how == "both":
        sim.partition("a", "b")
    else:
        sim.cut(*chance.sample("ab", 2))
    await asyncio.sleep(4 * chance.random())
    sim.heal()
    fault.ended = now()


def still_waiting(node: Node) -> list[str]:
    """Calls that the kernel still holds, though all have ended."""
    kernel = node._kernel
    assert kernel is not None
    links = [f"{len(link.waiting)} calls to {link.peer.name}" for link in kernel.links if link.waiting]
    held = sum(len(slot) for slot in kernel._waiting._deadlines._slots.values())
    return [*links, *([f"{held} deadlines"] if held else [])]


# -- the verdict --------------------------------------------------------------------


def broken_promises(evidence: Evidence) -> list[str]:
    """Hold what the callers were told against what ran."""
    times = Counter(evidence.ran)
    wrong = [f"call {number} ran {count} times" for number, count in times.items() if count > 1]
    for each in evidence.history:
        wrong += [f"{shown(each)}: {why}" for why in faults_of(each, times, evidence)]
    return [*wrong, *(f"{what} when all was over" for what in evidence.left)]


def shown(each: Operation) -> str:
    number, home, target = each.argument
    return f"call {number} from {home} to {target} at {each.called:.3f} s, {each.error or each.result}"


def faults_of(each: Operation, times: Counter[int], evidence: Evidence) -> list[str]:
    number, _, target = each.argument
    wrong = []
    if each.ok and (each.result != number or not times[number]):
        wrong.append(f"returned {each.result}, and ran {times[number]} times")
    if each.failed and times[number]:
        wrong.append('executed="no", and it ran')
    if not each.ok and not isinstance_of_call_error(each.error):
        wrong.append("is no CallError")
    if not each.ok and not any(fault.explains(each) for fault in evidence.faults):
        wrong.append("no fault explains it")
    if each.returned - each.called > (PATIENT if is_patient(number) else TIMEOUT) + LATE:
        wrong.append(f"ended {each.returned - each.called:.3f} s after it began")
    victim, at = evidence.killed
    if target == victim and each.called <= at and each.returned > at + NEWS:
        wrong.append(f"ended {each.returned - at:.3f} s after {victim} was killed")
    return wrong


def isinstance_of_call_error(error: str) -> bool:
    """Tell by the name of the type, which is what the history keeps."""
    kinds = [CallError]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
    return error.partition(":")[0] in {kind.__name__ for kind in kinds}
