"""What befalls members that come and go, in the simulation: restarts, clones, islands, removals, leaves, and random mixes.

As in `membership_scenarios`: one function a scenario, which plays one seed and returns what was wrong.
"""

from itertools import pairwise

from clusterkit.core.membership_events import Ready
from clusterkit.core.ring_frames import Verdict
from tests.simulation.member_process import Process
from tests.simulation.membership_scenarios import HOUR, Scenario, a_cluster, back_in, change, changes, some_of


def rolling_restart(seed: int) -> list[str]:
    """One after the other starts again at another address, killed or in good order, with its file or without."""
    world = a_cluster(seed, 3, 7)
    chance = world.chance
    for process in world.members:
        end = chance.choice([world.crash, world.stop])
        end(process)
        world.run(chance.choice([0.0, 0.05, 1.0, 4.0]))
        world.again(process, remembers=chance.random() < 0.5, moves=chance.random() < 0.8)
        world.run(chance.choice([0.05, 1.0]))
    return world.rest()


def all_restart_at_once(seed: int) -> list[str]:
    """All are gone in one moment, and come back."""
    world = a_cluster(seed)
    chance = world.chance
    everybody = world.members
    changes(world, 2.0)
    for process in everybody:
        process.saved = process.membership.ring.full()
    for process in everybody:
        chance.choice([world.crash, world.stop])(process)
    world.run(chance.choice([0.0, 1.0, 10.0]))
    remembers, moves = chance.random() < 0.7, chance.random() < 0.3
    for process in chance.sample(everybody, len(everybody)):
        world.again(process, remembers=remembers, moves=moves)
        world.run(0.2 * chance.random())
    return world.rest()


def clocks_are_wrong(seed: int) -> list[str]:
    """The wall clocks of a tenth are an hour ahead or behind, also of those that start again."""
    world = a_cluster(seed, skewed=True)
    chance = world.chance
    changes(world, 4.0)
    for process in some_of(world, 0.2):
        world.crash(process)
        world.run(chance.random())
        world.again(process, remembers=chance.random() < 0.5, skew=chance.choice([-HOUR, 0.0, HOUR]))
        changes(world, 2.0)
    return world.rest()


def many_boots(seed: int, boots: int = 12) -> list[str]:
    """One node starts again and again; the clocks of all keep one entry of it in the end."""
    world = a_cluster(seed, 3, 5)
    process = world.members[-1]
    for _ in range(boots):
        world.crash(process)
        process = world.again(process, remembers=world.chance.random() < 0.5)
        world.run(world.chance.choice([0.1, 1.0, 6.0]))
        if world.wrong:
            break
    found = world.rest()
    counts = {str(each): len(each.membership.ring.clock().counts) for each in world.members}
    most = len(world.members)
    return [*found, *(f"clock: {name} counts {size} boots" for name, size in counts.items() if size > most)]


def two_of_one_name(seed: int) -> list[str]:
    """A clone of a live member starts; another while its side is cut off."""
    world = a_cluster(seed, 3, 8)
    chance = world.chance
    original = chance.choice(world.members[1:])
    clone = world.start(original.me.name, world.some(), skew=chance.choice([-HOUR, 0.0, HOUR]))
    world.run(6.0)
    found = [] if clone.refused or not clone.is_in else [f"clone: {clone} was let in beside {original}"]
    if chance.random() < 0.5:
        one = [each for each in world.members if each.me.name != original.me.name]
        world.split(one, [original])
        world.run(chance.choice([1.0, 20.0]))
        world.start(original.me.name, lambda: [each.address for each in one])
        world.run(5.0)
        world.heal()
    return [*found, *world.rest()]


def islands_meet(seed: int) -> list[str]:
    """Several begin apart, live for a while with changes of their own, and meet by a seed or an insert."""
    world = a_cluster(seed, 2, 5)
    chance = world.chance
    main = world.members
    islands = [main]
    for number in range(chance.randint(1, 3)):
        first = world.start(f"i{number}", skew=chance.choice([0.0, -HOUR, HOUR]))
        others = range(chance.randint(0, 2))
        islands.append([first, *(world.start(f"i{number}{other}", [first.address]) for other in others)])
    world.run(3.0)
    for island in islands:
        for _ in range(3):
            change(world, chance.choice([each for each in island if each.is_in] or world.members))
            world.run(chance.random())
    for here, there in pairwise(islands):
        by, node = chance.choice(here), chance.choice(there).me
        world.insert(by, node if chance.random() < 0.5 else node.with_incarnation(0))
        world.run(chance.choice([0.0, 0.01, 3.0]))
    return back_in(world)


def removed_and_inserted_again(seed: int) -> list[str]:
    """Live members are removed, and inserted again by another: it is an invitation."""
    world = a_cluster(seed, 3, 8)
    chance = world.chance
    for _ in range(4):
        if len(world.members) < 2:
            break
        by, target = chance.sample(world.members, 2)
        other = chance.choice([each for each in world.members if each is not target])
        target.excused = float("inf")
        world.remove(by, target.me.name)
        world.run(chance.choice([0.0, 0.002, 0.5, 3.0]))
        world.insert(other, target.me.with_incarnation(0))
        world.run(chance.choice([0.01, 1.0, 8.0]))
    found = back_in(world)
    return [*found, *(f"superseded: {each}" for each in world.running if each.membership.stopped is Verdict.SUPERSEDED)]


def readiness_changes(seed: int) -> list[str]:
    """Members say that they are not ready, and that they are, under loss and stalls; others believe the last word."""
    world = a_cluster(seed)
    chance = world.chance
    for _ in range(12):
        process = chance.choice(world.members)
        process.step(Ready(chance.random() < 0.5))
        if chance.random() < 0.3:
            world.pause(chance.choice(world.members), chance.choice([0.3, 2.0]))
        world.run(chance.choice([0.0, 0.001, 0.3, 1.0]))
    world.run(4.0)
    for process in world.members:
        process.step(Ready(True))
    return world.rest()


def an_old_copy_is_restored(seed: int) -> list[str]:
    """A member starts again with a copy of its file from long ago; members were removed and came since."""
    world = a_cluster(seed, 3, 7)
    chance = world.chance
    process = chance.choice(world.members)
    copy = process.membership.ring.full()
    changes(world, 5.0)
    victim = chance.choice([each for each in world.members if each is not process])
    if chance.random() < 0.5:
        world.again(world.crash(process), remembers=False)
        world.run(1.0)
        process = world.named(process.me.name)
    victim.excused = float("inf")
    world.remove(chance.choice([each for each in world.members if each is not victim]), victim.me.name)
    world.run(1.0)
    world.crash(process)
    world.run(chance.choice([0.0, 5.0]))
    process.saved = copy
    world.again(process, moves=chance.random() < 0.5)
    world.run(2.0)
    found = [f"back: {victim} is in again" for each in world.members if victim.me.name in each.membership.members]
    return [*found, *back_in(world)]


def leaves_in_trouble(seed: int) -> list[str]:
    """Members leave while others hang, stall or are cut off; nobody lists them in the end."""
    world = a_cluster(seed, 4, 9)
    chance = world.chance
    leaver, hung, cut, *_ = chance.sample(world.members, 4)
    match chance.choice(["hang", "stall", "cut", "crash"]):
        case "hang":
            world.hang(hung)
        case "stall":
            world.pause(hung, 2.5)
        case "crash":
            world.crash(hung)
        case _:
            world.split([leaver], [cut], silent=chance.random() < 0.5)
    world.run(chance.choice([0.0, 0.5]))
    leaver.leave()
    world.run(chance.choice([0.0, 0.003, 1.0, 3.0]))
    if chance.random() < 0.3:
        world.crash(leaver)
        world.heal()
        return world.rest()
    world.run(4.0)
    world.heal()
    world.run(1.0)
    found = [
        f"left: {each} still lists {leaver}" for each in world.members if leaver.me.name in each.membership.members
    ]
    return [*found, *world.rest()]


def goers_and_comers(seed: int) -> list[str]:  # noqa: C901 - one line each thing that happens
    """Everything at once: joins, leaves, crashes, removals, inserts, stalls, flaps and splits in random order."""
    world = a_cluster(seed)
    chance = world.chance
    gone: list[Process] = []
    for number in range(chance.randint(6, 14)):
        members = world.members
        match chance.choice(
            ["change"] * 4 + ["crash", "stop", "again", "again", "leave", "join", "remove", "stall", "cut"]
        ):
            case "crash" if len(members) > 2:
                gone.append(world.crash(chance.choice(members)))
            case "stop" if len(members) > 2:
                gone.append(world.stop(chance.choice(members)))
            case "again" if gone:
                process = gone.pop(chance.randrange(len(gone)))
                if all(each.me.name != process.me.name for each in members):
                    world.again(process, remembers=chance.random() < 0.5, moves=chance.random() < 0.5)
            case "leave" if len(members) > 2:
                chance.choice(members).leave()
            case "join":
                world.start(f"j{number:02}", world.some(), skew=chance.choice([0.0, 0.0, HOUR, -HOUR]))
            case "remove" if len(members) > 2:
                by, target = chance.sample(members, 2)
                target.excused = float("inf")
                world.remove(by, target.me.name)
            case "stall":
                world.pause(chance.choice(members), chance.choice([0.5, 2.0, 4.0]))
            case "cut" if len(members) > 2:
                world.split(*[[each] for each in chance.sample(members, 2)], silent=chance.random() < 0.5)
                world.run(chance.random())
                world.heal()
            case _:
                change(world, chance.choice(members))
        world.run(chance.choice([0.0, 0.01, 0.3, 2.0, 7.0]))
    world.run(6.0)
    for process in world.running:
        is_out = process.left or (process.membership.stopped is not None and not process.refused)
        if is_out and all(each.me.name != process.me.name for each in world.members):
            process.join_again()
    return world.rest()


COMINGS: tuple[Scenario, ...] = (
    rolling_restart,
    all_restart_at_once,
    clocks_are_wrong,
    many_boots,
    two_of_one_name,
    islands_meet,
    removed_and_inserted_again,
    readiness_changes,
    an_old_copy_is_restored,
    leaves_in_trouble,
    goers_and_comers,
)
