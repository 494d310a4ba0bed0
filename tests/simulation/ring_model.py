"""A model of the gossip ring's state: members that live badly, and an own record of every event.

Several processes write, crash, come back with their file, without it, or with an old copy of it, under
clocks that are an hour wrong; they are removed, leave, and join again; two of them may have one name;
islands form and meet. What they tell each other is lost, doubled, late and out of order. Nothing is
taken from the code under test to judge it: the record knows of every event what it replaced and which
processes have it. `ring_rest.run` plays one seed and returns what was wrong, in sentences that begin with:

- ``lost``: an entry that nobody replaced or removed is missing where its event is known;
- ``back``: one that was replaced or removed is there, or one whose event is not known;
- ``fence``, ``floor``, ``claim``, ``read``, ``dot``, ``rest``: the other invariants of docs/membership.md.

The one exception that the rules have is followed exactly: what a retirement covers though its writer
did not know it (the limits of docs/membership.md) may be there or not.
"""

from collections.abc import Callable
from random import Random

from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Change, Clock, Delivery, Delta, Full, Known, Safeguards, Verdict, known_in
from clusterkit.core.ring_state import RingState
from tests.simulation.ring_process import File, Process, Told
from tests.simulation.ring_record import Event, Record, insist

NAMES = ["a", "b", "c", "d", "e"]
HOUR = 3600.0
_SAFE = Safeguards()
_UNHEARD = Claim(0, 0, Rank.ALIVE, ready=False)


class World:
    """One run."""

    def __init__(self, chance: Random, safeguards: Safeguards = _SAFE) -> None:
        self.chance = chance
        self.safeguards = safeguards
        self.time = 1_760_000_000.0
        self.port = 1_000
        self.record = Record()
        self.brought = 0  # events that somebody from outside brought into a view
        self.network: list[Told] = []
        self.processes: list[Process] = []
        self.boots: set[Actor] = set()
        self.retirements = 0
        self.acts = self.restarts if self.chance.random() < 0.6 else self.changes
        self.islands = 2 if self.chance.random() < 0.3 else 1
        for name in NAMES[: self.chance.choice([2, 3, 3, 4])]:
            self.begin(name)

    # -- processes

    def begin(self, name: str) -> None:
        """A new process starts, and joins what it finds."""
        skew = self.chance.choice([0.0, 0.0, HOUR, -HOUR])
        process = Process(len(self.processes), name, skew, RingState(Actor(name, 1)))
        self.processes.append(process)
        self.start(process, None)

    def wall(self, process: Process) -> float:
        self.time += self.chance.choice([0.0, 0.001, 1.0])
        return self.time + process.skew

    def draw(self, process: Process, after: int = 0) -> Actor:
        """A boot: the time in the high bits, chance in the low, above what is known."""
        high = max(int((self.wall(process) - 1_750_000_000) * 10), (after >> 22) + 1)
        low = (self.chance.getrandbits(12) << 10) | len(self.boots)  # chance alone would meet itself when it shrinks
        actor = Actor(process.name, (high << 22) | low)
        self.boots.add(actor)
        return actor

    def start(self, process: Process, file: File | None) -> None:
        """A run of a process begins, with this file or none, at another address."""
        self.port += 1
        process.port = self.port
        process.running, process.out, process.ready = True, False, False
        process.island = self.chance.randrange(self.islands)
        after = max((each.boot for each in process.files), default=0) if self.chance.random() < 0.5 else 0
        actor = self.draw(process, max(after, file.boot if file else 0))
        process.state, process.had = RingState(actor, safeguards=self.safeguards), 0
        process.heard = {}
        if file is not None:
            process.state.merge(file.state, self.wall(process))
            process.had = file.had
            process.brought = file.had & self.brought
        self.join(process, file)

    def others(self, process: Process) -> list[Process]:
        """Whom it can reach: running members, as far as they know."""
        return [
            each
            for each in self.processes
            if each is not process and each.running and not each.out and each.island == process.island
        ]

    def join(self, process: Process, file: File | None = None) -> None:
        """R12, at a seed of its island; alone it is a ring of one."""
        seeds = [each for each in self.others(process) if each.state.verdict() is Verdict.IN]
        if any(each.name == process.name for each in self.others(process)):
            process.running = False
            return
        if seeds:
            seed = self.chance.choice(seeds)
            full = seed.state.full()
            known = known_in(full, process.name)
            self.settle_boot(process, known, file)
            self.absorb(process, full, seed.had, seed.actor)
            self.absorb(seed, process.state.full(), process.had, process.actor)
        self.stand_up(process)
        if seeds and self.chance.random() < 0.8:
            self.push(seed, process.state.own_change() if process.state.verdict() is Verdict.IN else None, seed.had)

    def settle_boot(self, process: Process, known: Known, file: File | None) -> None:
        stale = file is not None and self.is_stale(file, known)
        refused = known.boot > process.actor.boot or known.fence >= process.actor.boot
        if not stale and not refused:
            return
        kept = process.state.full()
        process.state.reset(self.draw(process, max(known.boot, process.actor.boot)) if refused else process.actor)
        process.heard = {}
        if stale or process.out:
            process.had = 0
        else:
            process.state.merge(kept, self.wall(process))

    @staticmethod
    def is_stale(file: File, known: Known) -> bool:
        return file.boot < known.boot or file.boot <= known.fence

    def stand_up(self, process: Process) -> None:
        """R11: announce again, or stop."""
        verdict = process.state.verdict()
        if verdict is Verdict.UNANNOUNCED:
            wall = self.wall(process)
            self.write(process, process.name, lambda: process.state.announce("10.0.0.1", process.port, b"", wall))
            insist(process.name in process.state, "fence: an announcement is not visible to its writer")
            self.believe(process, process.name, Claim(process.actor.boot, 0, Rank.ALIVE, process.ready))
        elif verdict is not Verdict.IN:
            process.out = True

    def come_back(self, process: Process) -> None:
        """A process that is out joins again: empty, under a new boot."""
        process.state.reset(self.draw(process, process.state.known(process.name)))
        process.had, process.out, process.heard = 0, False, {}
        self.join(process)

    # -- writing, with the record

    def write(self, process: Process, name: str, make: Callable[[], Change | None]) -> Event | None:
        """Let a process write, and put down what it was."""
        state = process.state
        before = dict(state.siblings(name))
        known = state.known(name)
        change = make()
        if change is None:
            return None
        event = self.record.put(change, before)
        process.had |= event.bit
        if event.entry is None:
            insist(state.fence(name) >= known, f"fence: {name} is removed below a boot that is known")
        self.check(process)
        self.push(process, change, process.had)
        return event

    def push(self, process: Process, change: Change | None, had: int) -> None:
        if change is None:
            return
        for other in self.others(process):
            for _ in range(self.chance.choice([0, 1, 1, 1, 2])):
                self.network.append(Told(other, process.actor, change, had))

    def check(self, process: Process) -> None:
        """Check the invariants of one process, if anything changed."""
        state = process.state
        now = (process.had, state.ring_digest, state.claims_digest, state.me)
        if now != process.checked:
            process.checked = now
            self.record.check(state, process.had, process.heard)

    # -- exchange

    def absorb(self, process: Process, state: Full | Delta, had: int, sender: Actor) -> None:
        """Take a delta or a whole state of another, unless that one is closed here (R10)."""
        if self.is_closed(process, sender):
            return
        outside = process.state.entry(sender.name)
        news = had & ~process.had
        wall = self.wall(process)
        if isinstance(state, Full):
            process.state.merge(state, wall)
        elif not process.state.apply(state, wall):
            return
        if outside is None or outside.boot != sender.boot:
            self.brought |= news
        process.brought |= news & self.brought
        process.had |= had
        self.taken(process)

    def is_closed(self, process: Process, sender: Actor) -> bool:
        return process.state.closed(*sender)

    def taken(self, process: Process) -> None:
        for change in process.state.take_delivered():
            process.had |= self.record.by_dot[change.dot].bit
        for name in process.state.names:
            self.heed(process, name, process.state.claim(name))
        self.check(process)

    def deliver(self) -> None:
        """One frame arrives, any of those on their way; some are lost, some come again."""
        if not self.network:
            return
        at = self.chance.randrange(len(self.network))
        told = self.network[at]
        if self.chance.random() < 0.9:
            self.network[at] = self.network[-1]
            self.network.pop()
        process = told.to
        if not process.running or process.out or self.chance.random() < 0.1:
            return
        match told.frame:
            case Change():
                delivery = process.state.deliver(told.frame, self.wall(process))
                self.taken(process)
                if delivery is Delivery.NEW and self.chance.random() < 0.3:
                    self.push(process, told.frame, process.had)
            case Clock():
                self.reply(process, told)
            case Full() | Delta():
                self.absorb(process, told.frame, told.had, told.sender)
            case (name, claim):
                self.believe(process, name, claim)
        self.stand_up(process)

    def reply(self, process: Process, told: Told) -> None:
        assert isinstance(told.frame, Clock)
        assert told.asked is not None
        if not self.is_closed(process, told.sender):
            differs = told.frame == process.state.clock() and told.asked.state.ring_digest != process.state.ring_digest
            answer = process.state.answer(told.frame, differs=differs)
            self.network.append(Told(told.asked, process.actor, answer, process.had))

    # -- liveness

    def believe(self, process: Process, name: str, claim: Claim) -> None:
        process.state.hear(name, claim)
        self.heed(process, name, claim)
        self.taken(process)

    def heed(self, process: Process, name: str, claim: Claim) -> None:
        if name not in process.state:
            process.heard.pop(name, None)
        elif claim[1:] != _UNHEARD[1:] and claim > process.heard.get(name, _UNHEARD):
            process.heard[name] = claim

    def tell_claim(self, process: Process, name: str) -> None:
        claim = process.state.claim(name)
        for other in self.others(process):
            if self.chance.random() < 0.7:
                self.network.append(Told(other, process.actor, (name, claim), 0))

    def refute(self, process: Process) -> None:
        claim = process.state.claim(process.name)
        if claim.boot == process.actor.boot and (claim.rank is not Rank.ALIVE or claim.ready != process.ready):
            self.believe(process, process.name, Claim(claim.boot, claim.inc + 1, Rank.ALIVE, process.ready))
            self.tell_claim(process, process.name)

    # -- acts

    def retire(self, process: Process) -> None:
        name, had = process.name, process.had
        view = {each: process.state.entry(each) for each in process.state.names}
        event = self.write(process, name, process.state.retire)
        if event is None:
            return
        self.retirements += 1
        self.record.retired(event, had)
        for other in self.processes:
            seen = view.get(other.name)
            if other.running and seen is not None and seen.boot == other.actor.boot and not other.out:
                stolen = other.had & event.forsaken & ~other.brought
                insist(not stolen, f"floor: {name} retires an event which only {other.name} has")

    def act(self) -> None:
        """One process does something, or something is done to it."""
        process = self.chance.choice(self.processes)
        if not process.running:
            if self.chance.random() < 0.6:
                self.start(process, self.chance.choice([None, *process.files[-1:], *process.files]))
            return
        if process.out:
            if self.chance.random() < 0.3:
                self.come_back(process)
            return
        self.stand_up(process)
        if process.out:
            return
        self.chance.choice(self.acts)(self, process)

    def gather(self, process: Process) -> None:
        """A member takes the reports of the others, as they are."""
        for other in self.others(process):
            process.state.report(other.name, other.state.ring_digest)
        self.retire(process)

    def calm(self, process: Process) -> None:
        """For a while all goes well, and a member takes the reports of the others."""
        for other in self.others(process):
            self.pull(process, other)
        for other in self.others(process):
            if not process.out:
                self.pull(other, process)
        if not process.out:
            for other in self.others(process):
                process.state.report(other.name, other.state.ring_digest)
            self.retire(process)

    def insert(self, process: Process) -> None:
        absent = [name for name in NAMES if name not in process.state]
        if absent:
            name, wall = self.chance.choice(absent), self.wall(process)
            self.write(process, name, lambda: process.state.insert(name, "10.0.0.9", 99, wall))
            insist(name in process.state, "fence: an insert is not visible to its writer")

    def update(self, process: Process) -> None:
        name, wall = self.chance.choice(process.state.names), self.wall(process)
        weight = self.chance.randint(1, 1_000)
        self.write(process, name, lambda: process.state.update(name, weight, wall))
        entry = process.state.entry(name)
        insist(entry is not None and entry.weight == weight, f"read: {name} has not the weight that was just set")

    def remove(self, process: Process) -> None:
        name = self.chance.choice(process.state.names)
        if name != process.name:
            self.write(process, name, lambda: process.state.remove(name))
        elif self.chance.random() < 0.3:
            self.write(process, name, process.state.leave)
            process.out = True

    def crash(self, process: Process) -> None:
        process.running = False

    def save(self, process: Process) -> None:
        process.files.append(File(process.actor.boot, process.state.full(), process.had))

    def forget(self, process: Process) -> None:
        removed = process.state.removed()
        if removed:
            process.state.forget_removals(self.chance.choice([None, removed[:1]]))
            self.check(process)

    def ask(self, process: Process) -> None:
        if others := self.others(process):
            other = self.chance.choice(others)
            self.network.append(Told(other, process.actor, process.state.clock(), 0, process))

    def report(self, process: Process) -> None:
        for other in self.others(process):
            other.state.report(process.name, process.state.ring_digest)

    def accuse(self, process: Process) -> None:
        name = self.chance.choice(process.state.names)
        if name != process.name:
            claim = process.state.claim(name)
            rank = self.chance.choice([Rank.SUSPECT, Rank.DOWN])
            self.believe(process, name, max(claim, claim._replace(rank=rank)))
            self.tell_claim(process, name)

    def turn(self, process: Process) -> None:
        process.ready = not process.ready
        self.refute(process)

    def meet(self, process: Process) -> None:
        """Two islands find each other."""
        for other in self.processes:
            other.island = process.island
        self.islands = 1

    def clone(self, process: Process) -> None:
        """A second process of a name starts in another island."""
        if self.islands > 1 and len(self.processes) < 6:
            self.begin(process.name)

    def talk(self, process: Process) -> None:
        """Two members agree, by whatever it takes."""
        if others := self.others(process):
            other = self.chance.choice(others)
            self.pull(process, other)
            self.pull(other, process)

    always = (*[ask] * 4, *[talk] * 3, report, retire, save, accuse, turn, refute, meet, clone)
    changes = (*always, *[insert] * 4, *[remove] * 4, *[update] * 3, *[forget] * 3, *[save] * 2, crash, calm)
    restarts = (
        *always,
        *[update] * 4,
        *[crash] * 4,
        *[calm] * 6,
        *[retire] * 3,
        *[report] * 2,
        *[save] * 2,
        insert,
        remove,
    )

    def pull(self, process: Process, other: Process) -> None:
        mine, theirs = process.state, other.state
        if process.out or other.out or self.is_closed(other, process.actor) or self.is_closed(process, other.actor):
            process.out |= self.is_closed(other, process.actor)
            return
        if (mine.ring_digest, mine.claims_digest) != (theirs.ring_digest, theirs.claims_digest):
            clock = mine.clock()
            answer = theirs.answer(clock, differs=clock == theirs.clock())
            self.absorb(process, answer, other.had, other.actor)
            self.stand_up(process)
