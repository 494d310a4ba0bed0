"""What befalls members that stay, in the simulation: one function a scenario, each plays one seed.

A scenario draws how many members there are, and all else, from its seed, and returns what was wrong. Those in
which members end, start and leave are in `membership_comings`.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from clusterkit.core.identity import NodeId
from clusterkit.testing.message_net import Delivery
from tests.simulation.member_process import RECOVERS, Process
from tests.simulation.memberships import Memberships

HOUR = 3600.0
Scenario = Callable[[int], list[str]]


def a_cluster(seed: int, least: int = 3, most: int = 10, *, direct: int = 128, skewed: bool = False) -> Memberships:
    """Some members that are in one ring."""
    chance = Random(f"{seed}:cluster")
    breaks = chance.choice([0.0, 0.0, 0.002])
    world = Memberships(seed, Delivery(0.0002, chance.choice([0.001, 0.02]), breaks=breaks, redial=5.0), direct=direct)
    count = chance.randint(least, most)
    world.start("n00")
    for number in range(1, count):
        skew = chance.choice([-HOUR, HOUR]) if skewed and (number == 1 or chance.random() < 0.1) else 0.0
        world.start(f"n{number:02}", world.some(), skew=skew)
        world.run(0.3 * chance.random())
    world.run(1.0 + chance.random())
    return world


def some_of(world: Memberships, share: float) -> list[Process]:
    """A share of the members, at least one, and never all."""
    members = world.members
    return world.chance.sample(members, max(1, min(len(members) - 1, round(share * len(members)))))


def stranger(world: Memberships) -> NodeId:
    """A node that does not run."""
    number = world.chance.randrange(3)
    return NodeId(f"x{number}", "h", 60_000 + number)


def change(world: Memberships, by: Process) -> None:
    """Let a user change something."""
    chance = world.chance
    names = list(by.membership.members)
    match chance.choice(["insert", "insert", "remove stranger", "weight", "weight"]):
        case "insert":
            world.insert(by, stranger(world))
        case "weight":
            world.reweigh(by, chance.choice(names), chance.randint(1, 9))
        case _:
            world.remove(by, chance.choice(["x0", "x1", "x2"]))


def changes(world: Memberships, seconds: float, often: float = 1.0) -> None:
    """Let users change things for a while."""
    end = world.net.now + seconds
    while world.net.now < end:
        world.run(min(2 * often * world.chance.random(), end - world.net.now))
        change(world, world.chance.choice(world.members))


# -- the scenarios -----------------------------------------------------------------------


def one_change_with_dead_relays(seed: int) -> list[str]:
    """None, one or more of those that pass news on hang, and nobody knows."""
    world = a_cluster(seed, 8, 24, direct=4)
    dead = some_of(world, world.chance.choice([0.01, 0.05, 0.2]))
    if world.chance.random() < 0.7:
        for process in dead:
            world.hang(process)
    by = world.chance.choice(world.members)
    world.reweigh(by, by.me.name, 7)
    world.run(1.2)
    late = [str(each) for each in world.members if each.membership.members[by.me.name].weight != 7]
    return [*(f"late: {each} did not hear of a change within 1.2 s" for each in late), *world.rest()]


def half_join_at_once(seed: int) -> list[str]:
    """As many again join within a second, at three seeds."""
    world = a_cluster(seed, 3, 8)
    seeds = [each.address for each in world.members[:3]]
    joiners = len(world.members)
    for number in range(joiners):
        world.start(f"j{number:02}", seeds)
        world.run(world.chance.random() / joiners)
    return world.rest()


def crash_at_once(seed: int) -> list[str]:
    """One, a tenth or half of them are killed, or hang, in the same moment."""
    world = a_cluster(seed)
    hangs = world.chance.random() < 0.5
    for process in some_of(world, world.chance.choice([0.01, 0.1, 0.5])):
        if hangs:
            world.hang(process)
        else:
            world.crash(process)
    return world.rest()


def split_with_changes(seed: int) -> list[str]:
    """Two halves are apart for up to a minute, and users change things on both sides."""
    world = a_cluster(seed)
    one = some_of(world, 0.5)
    other = [each for each in world.members if each not in one]
    world.split(one, other, silent=world.chance.random() < 0.5)
    chance = world.chance
    for _ in range(6):
        for side in (one, other):
            by = chance.choice([each for each in side if each.is_in] or world.members)
            if chance.random() < 0.2:
                world.remove(by, chance.choice(list(by.membership.members)))
            else:
                change(world, by)
        world.run(chance.choice([0.1, 2.0, 10.0]))
    world.heal()
    return back_in(world)


def back_in(world: Memberships) -> list[str]:
    """Let who was removed join again, and wait for rest."""
    world.run(8.0)
    for process in world.running:
        if process.membership.stopped is not None and not process.refused:
            process.join_again()
    return world.rest()


def removed_while_cut_off(seed: int) -> list[str]:
    """One is cut off and removed meanwhile; it learns it when it is back, and joins again."""
    world = a_cluster(seed)
    one = world.chance.choice(world.members)
    others = [each for each in world.members if each is not one]
    world.split([one], others, silent=world.chance.random() < 0.5)
    world.run(world.chance.choice([0.5, 8.0, 20.0]))
    change(world, one)
    world.remove(world.chance.choice(others), one.me.name)
    world.run(world.chance.choice([0.0, 2.0]))
    world.heal()
    world.run(7.0)
    found = [] if one.membership.stopped is not None else [f"removed: {one} does not know it"]
    return [*found, *back_in(world)]


def one_that_reaches_only_its_seed(seed: int) -> list[str]:
    """Who joins cannot reach the others for now; they hear of it from its seed at once."""
    world = a_cluster(seed, 4, 10)
    by = world.chance.choice(world.members)
    others = [each for each in world.members if each is not by]
    joiner = world.start("j00", [by.address])
    world.net.partition([joiner.address], [each.address for each in others])
    joiner.excused = float("inf")
    world.run(0.25)
    late = [f"late: {each} has not heard of {joiner}" for each in others if "j00" not in each.membership.members]
    world.run(5.0)
    world.heal()
    joiner.excused = world.net.now + RECOVERS
    return [*(late if joiner.accepted else []), *world.rest()]


def news_comes_out_of_order(seed: int) -> list[str]:
    """One piece of news does not arrive, the next one does: what lacks is asked for at once."""
    world = a_cluster(seed, 6, 10)
    world.net.delivery = replace(world.net.delivery, breaks=0.0, jitter=0.001)
    by, unlucky = world.chance.sample(world.members, 2)
    found = []
    for weight in range(2, 8):
        world.net.lose(by.address, unlucky.address, 1.0)
        world.reweigh(by, by.me.name, weight)
        world.net.heal()
        world.insert(by, NodeId(f"y{weight}", "h", 60_100 + weight))
        world.run(0.22)
        if unlucky.membership.members[by.me.name].weight != weight:
            found.append(f"late: {unlucky} still waits for a change that came before another")
        world.run(world.chance.random())
    return [*found, *world.rest()]


def one_way_loss(seed: int) -> list[str]:
    """Of what one says to another a part vanishes, for some pairs; everybody reaches a third."""
    world = a_cluster(seed, 4, 10)
    chance, share = world.chance, world.chance.choice([0.05, 0.2, 0.5])
    one = chance.choice(world.members)
    for other in chance.sample([each for each in world.members if each is not one], 2):
        src, dst = chance.sample([one.address, other.address], 2)
        world.net.lose(src, dst, share)
    changes(world, 10.0)
    world.heal()
    return world.rest()


def links_flap(seed: int) -> list[str]:
    """The link of a pair is cut and comes back, each second."""
    world = a_cluster(seed, 4, 10)
    for _ in range(10):
        one, other = world.chance.sample(world.members, 2)
        world.net.partition([one.address], [other.address])
        world.run(0.5)
        change(world, world.chance.choice(world.members))
        world.net.heal()
        world.run(0.5)
    return world.rest()


def loops_stall(seed: int) -> list[str]:
    """The loops of a tenth of them stand still for 1 to 5 s, again and again."""
    world = a_cluster(seed)
    for _ in range(4):
        for process in some_of(world, 0.1):
            world.pause(process, world.chance.choice([0.4, 1.0, 2.0, 2.9, 5.0]))
        changes(world, 4.0, often=2.0)
    world.run(6.0)
    return world.rest()


FAULTS: tuple[Scenario, ...] = (
    one_change_with_dead_relays,
    half_join_at_once,
    crash_at_once,
    split_with_changes,
    removed_while_cut_off,
    one_that_reaches_only_its_seed,
    news_comes_out_of_order,
    one_way_loss,
    links_flap,
    loops_stall,
)
