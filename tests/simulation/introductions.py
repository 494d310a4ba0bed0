"""The scenario of the membership's promises: all join at once, some leave, crash and come back, the network is cut.

Five nodes join at the same moment through each other. Then, for half a minute, the seed
decides what befalls them. When all is healed `verdict` says what is not as it
should be (``apart`` says whether nodes join and leave while the network is cut, too):

- all that run see one ring, and each other alive in it;
- who crashed and stayed away is in it as down, if anybody had met it; who left is not;
- every node can be called by every other;
- no task of the product died, and no `start`, `join` or `leave` failed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from clusterkit import CallError, ClusterError, JoinTimeout, Node, NodeId
from clusterkit.runtime import Tasks, now, rng
from clusterkit.testing.sim_cluster import Crashed, NotSettled, SimCluster

NAMES = "abcde"
ANCHOR = "a"
"""The one that neither crashes nor leaves, so that there is always a ring to come back to."""
EVENTS = 8
SPAN = 30.0  # seconds in which they fall
TALKS = 10  # times five seconds at the most, and one at the least: a dead link is cut at 15 s
REST = 120.0


@dataclass(slots=True)
class Story:
    """What happened, and what went wrong."""

    apart: bool = False
    """Nodes join and leave while the network is cut, too."""
    wrong: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    left: dict[str, None] = field(default_factory=dict)
    crashed: dict[str, None] = field(default_factory=dict)
    cut: bool = False
    stopped: dict[str, None] = field(default_factory=dict)
    rejoining: dict[str, None] = field(default_factory=dict)

    def note(self, *words: object) -> None:
        self.events.append(f"{now():.3f} {' '.join(map(str, words))}")


async def introductions(apart: bool = False) -> Story:
    """Run the scenario in the running simulation."""
    story = Story(apart)
    chance = rng("introductions")
    with errors_of_the_product(story.wrong):
        async with SimCluster([]) as sim:
            tasks = Tasks("introductions")
            for name in NAMES:
                tasks.spawn(begin(sim, story, name, seeds_for(chance, name, NAMES)), name)
            for at in sorted(SPAN * chance.random() for _ in range(EVENTS)):
                await asyncio.sleep(max(0.0, at - now()))
                befall(sim, story, chance, tasks)
            await asyncio.sleep(chance.random() * 5)
            sim.heal()
            for name in [each.id.name for each in sim.running]:
                sim.resume(name)
            story.note("heal at last")
            async with asyncio.timeout(REST):
                while len(tasks):
                    await asyncio.sleep(0.1)
            await verdict(sim, story)
    return story


def seeds_for(chance: Random, name: str, others: str | list[str]) -> list[str]:
    """Some of the others, the anchor among them."""
    known = [each for each in others if each != name]
    some = chance.sample(known, chance.randint(min(1, len(known)), len(known)))
    return [*some, *([ANCHOR] if name != ANCHOR and ANCHOR not in some else [])]


def befall(sim: SimCluster, story: Story, chance: Random, tasks: Tasks) -> None:
    """Let one thing happen; what takes time goes on by itself."""
    up = [node.id.name for node in sim.running if node.id.name != ANCHOR and node.ring.id]
    away = [name for name in NAMES if name in story.left or name in story.crashed]
    may_move, may_cut = story.apart or not story.cut, story.apart or not len(tasks)
    match chance.choice(["stop", "crash", "start", "start", "rejoin", "partition", "cut", "heal", "reset"]):
        case "stop" if may_move and up:
            tasks.spawn(stop(sim, story, chance.choice(up)), "stop")
        case "crash" if up:
            crash(sim, story, chance.choice(up), reset=chance.random() < 0.5)
        case "start" if may_move and away:
            name = chance.choice(away)
            tasks.spawn(begin(sim, story, name, seeds_for(chance, name, [ANCHOR, *up])), f"start {name}")
        case "rejoin" if may_move and up:
            tasks.spawn(rejoin(sim, story, chance.choice(up), chance.random()), "rejoin")
        case "partition" if may_cut:
            one = chance.sample(NAMES, chance.randint(1, 4))
            story.cut = True
            story.note("partition", one)
            sim.partition(one, [name for name in NAMES if name not in one], reset=chance.random() < 0.3)
        case "cut" if may_cut:
            src, dst = chance.sample(NAMES, 2)
            story.cut = True
            story.note("cut", src, dst)
            sim.cut(src, dst)
        case "heal":
            story.cut = False
            story.note("heal")
            sim.heal()
        case "reset":
            src, dst = chance.sample(NAMES, 2)
            story.note("reset", src, dst)
            sim.world.reset(src, dst)


async def begin(sim: SimCluster, story: Story, name: str, seeds: list[str]) -> None:
    story.note("start", name, "through", seeds)
    story.left.pop(name, None)
    story.crashed.pop(name, None)
    try:
        await sim.start(name, seeds=seeds)
    except Crashed:
        story.note("crashed at its start", name)
    except ClusterError as error:
        story.wrong.append(f"start of {name}: {error!r}")
    story.note("started", name)


async def stop(sim: SimCluster, story: Story, name: str) -> None:
    story.note("stop", name)
    story.stopped[name] = None
    try:
        await sim.stop(name)
    except Crashed:
        story.note("crashed at its stop", name)
    else:
        story.left[name] = None
        story.note("stopped", name)


async def rejoin(sim: SimCluster, story: Story, name: str, pause: float) -> None:
    """Leave and join again, in one process."""
    if name in story.rejoining:
        return
    story.note("rejoin", name)
    story.rejoining[name] = None
    seeds = [sim.address(each) for each in NAMES if each != name]
    try:
        await sim.run(name, _rejoin(sim, name, pause, seeds))
    except (Crashed, JoinTimeout) as error:
        story.note("rejoin of", name, type(error).__name__)
    except ClusterError as error:
        if name not in story.stopped:  # over which a join may fail in its own way
            story.wrong.append(f"rejoin of {name}: {error!r}")
    finally:
        del story.rejoining[name]


async def _rejoin(sim: SimCluster, name: str, pause: float, seeds: list[str]) -> None:
    node = sim[name]
    ring = node.ring.id
    await node.ring.leave()
    await asyncio.sleep(pause)
    await node.ring.join(ring, seeds)


def crash(sim: SimCluster, story: Story, name: str, *, reset: bool) -> None:
    story.note("crash", name, "reset" if reset else "silence")
    sim.crash(name, reset=reset)
    story.crashed[name] = None


# -- the verdict ----------------------------------------------------------------------


async def verdict(sim: SimCluster, story: Story) -> None:
    """Let all talk to all, for idle links are silent; wait for rest, and look at every list."""
    for _ in range(TALKS):
        await talk(sim)
    try:
        await sim.settle(REST)
    except NotSettled as error:
        story.wrong.append(str(error))
    running = {node.id.name for node in sim.running}
    for node in sim.running:
        for member in node.ring.members:
            name = member.node.name
            if name in story.left and name not in running:
                story.wrong.append(f"{node.id.name} lists {name}, which left")
            if name not in running and member.state == "alive":
                story.wrong.append(f"{node.id.name} believes {name} alive, which is gone")
        for name in sorted(running - {node.id.name}):
            try:
                await node.ping(name)
            except CallError as error:
                story.wrong.append(f"{node.id.name} cannot call {name}: {error!r}")


async def talk(sim: SimCluster) -> None:
    """Let every node ask after every member: a link that is dead is noticed by who uses it."""
    async with asyncio.TaskGroup() as group:
        for node in sim.running:
            for member in node.ring.nodes:
                group.create_task(ask(node, member))


async def ask(node: Node, member: NodeId) -> None:
    with contextlib.suppress(CallError):
        await node.ping(member.name)
    await asyncio.sleep(1)


class _Listener(logging.Handler):
    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        self._wrong.append(f"logged: {record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")


@contextlib.contextmanager
def errors_of_the_product(wrong: list[str]) -> Iterator[None]:
    """Take note of what the product logs as errors, a task that died among it."""
    listener, logger = _Listener(wrong), logging.getLogger("clusterkit")
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
