"""A run of the ring's model from a seed, and its end: no more faults, every process is told what it missed.

At rest all running processes agree, each is in the ring with its own boot and address, nobody is
accused, there is one of each name, and no count of an old boot is left.
"""

from collections.abc import Iterable
from functools import partial
from random import Random

from clusterkit.core.ring_entry import Rank
from clusterkit.core.ring_frames import Safeguards, Verdict
from tests.simulation.ring_model import World
from tests.simulation.ring_process import Process
from tests.simulation.ring_record import Wrong, insist

ROUNDS = 40
_SAFE = Safeguards()


def come_to_rest(world: World) -> None:
    """No more faults: every process is told what it missed, until nothing changes any more."""
    world.network.clear()
    for process in world.processes:
        process.island = 0
    for turn in range(ROUNDS):
        before = [state_of(each) for each in running(world)]
        one_round(world, turn)
        if turn and before == [state_of(each) for each in running(world)]:
            return
    raise Wrong("rest: the members never come to rest")


def running(world: World) -> list[Process]:
    return [each for each in world.processes if each.running]


def state_of(process: Process) -> tuple[object, ...]:
    state = process.state
    return process.number, process.actor, process.out, state.ring_digest, state.claims_digest, state.verdict()


def one_round(world: World, turn: int) -> None:
    for process in running(world):
        if process.out or process.state.verdict() in (Verdict.REMOVED, Verdict.SUPERSEDED):
            process.out = True
            world.come_back(process) if turn < 3 else world.crash(process)
        else:
            world.stand_up(process)
            world.refute(process)
    for process in running(world):
        for other in world.others(process):
            world.pull(process, other)
    if turn in (2, 3):
        remove_the_dead(world)
    for process in running(world):
        world.report(process)
    for process in running(world):
        if not process.out:
            world.retire(process)
    world.network.clear()


def remove_the_dead(world: World) -> None:
    there = {each.name for each in running(world)}
    for process in running(world)[:1]:
        for name in process.state.names:
            if name not in there and process.state.verdict() is Verdict.IN:
                world.write(process, name, partial(process.state.remove, name))


def check_rest(world: World) -> None:
    there = running(world)
    for process in there:
        state, entry = process.state, process.state.entry(process.name)
        insist(state.verdict() is Verdict.IN, f"rest: {process.name} is {state.verdict()}")
        insist(
            entry is not None and (entry.boot, entry.port) == (process.actor.boot, process.port),
            f"rest: {process.name} is in the ring with another boot or address",
        )
        check_alike(process, there[0])
        claim = state.claim(process.name)
        insist(claim == (process.actor.boot, claim.inc, Rank.ALIVE, process.ready), f"rest: {claim} is wrong")
    insist(len({each.name for each in there}) == len(there), "rest: two processes of one name")
    if there and set(there[0].state.names) == {each.name for each in there}:
        counts = there[0].state.clock().counts
        old = [actor for actor in counts if actor.name in there[0].state]
        insist(len(old) == len(there), f"floor: counts of old boots are left at rest: {sorted(old)}")


def check_alike(one: Process, two: Process) -> None:
    def state(process: Process) -> tuple[object, ...]:
        its = process.state
        entries = {name: (its.siblings(name), its.claim(name)) for name in its.names}
        return its.clock(), entries, its.full().fences, its.ring_digest, its.claims_digest, its.view_hash()

    insist(state(one) == state(two), f"rest: {one.name} and {two.name} differ")


def run(seed: int, safeguards: Safeguards = _SAFE, acts: int = 60) -> str | None:
    """Play one seed; return what was wrong, if something was."""
    world = World(Random(seed), safeguards)
    try:
        for _ in range(acts):
            world.act()
            for _ in range(world.chance.choice([0, 0, 1, 2, 4])):
                world.deliver()
        come_to_rest(world)
        check_rest(world)
    except Wrong as wrong:
        return str(wrong)
    return None


def wrong_under(seeds: Iterable[int], safeguards: Safeguards = _SAFE) -> dict[int, str]:
    """The seeds under which something is wrong, and what."""
    return {seed: found for seed in seeds if (found := run(seed, safeguards)) is not None}
