"""Processes that run `Membership` on a message-level network, and an own record of all that they do to the ring.

Each `Process` is a `Membership` in a coat that does what the node around it would: it proves name and
boot at each contact and judges callers as docs/wire.md says, dials seeds until somebody takes it in, keeps
the contacts that the ring wants, takes another boot when the ring says so, and stops. A host of the
network is named by its address, so a process may move, and two may have one name.

What must never happen is written down as it happens, in ``wrong``, as sentences that begin with:

- ``down``: a running process that did not stall for 3 s, and is not cut off, is believed down;
- ``accused``: a process that had stalled accuses a live one when it wakes;
- ``spoke``: a process that was removed or superseded still tells news or probes;
- ``event``: what users are told is not in order, or told twice;
- ``back``: an entry is there that somebody replaced or removed.

`Memberships.differences` says what keeps a cluster from rest, and `Memberships.lost` which inserts are missing.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from clusterkit.core.identity import NodeId, draw_incarnation
from clusterkit.core.liveness_timers import Timers
from clusterkit.core.members import (
    Member,
    State,
)
from clusterkit.core.membership_events import (
    Event,
    Insert,
    Remove,
    Reweigh,
)
from clusterkit.core.ring_entry import Dot, Rank
from clusterkit.core.ring_frames import Change, Full
from clusterkit.core.ring_messages import Absent, Closed, Got, HelloAck, News, Probe, ProbeAck, Pull, RingMessage
from clusterkit.errors import UsageError
from clusterkit.testing.message_net import Delivery, MessageNet
from tests.simulation.member_process import RECOVERS, Message, Process

PATIENCE = 3.0
"""How long a loop may stand still and never be believed down."""
QUIET = 2.4  # seconds after a stall in which its process accuses nobody


@dataclass(slots=True)
class Made:
    """What the record has of one change."""

    change: Change
    established: bool = False
    """Everybody who ran had it, at some moment."""

    def replaces(self, other: "Made") -> bool:
        dot = other.change.dot
        return self.change.context.get(dot.actor, 0) >= dot.n and dot not in self.change.siblings


class Memberships:
    """All processes, on virtual time from 0."""

    def __init__(
        self, seed: int, delivery: Delivery | None = None, *, timers: Timers | None = None, direct: int = 128
    ) -> None:
        self.net = MessageNet[Message](seed, delivery or Delivery(latency=0.0002, jitter=0.001, redial=5.0))
        self.chance = Random(f"{seed}:memberships")
        self.timers = timers
        self.direct = direct
        self.processes: dict[str, Process] = {}
        """All that ever ran, by address; the last one at each."""
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.made: dict[Dot, Made] = {}
        self.on_send: Callable[[Process, str, Message], None] = lambda process, to, message: None
        self._ports = count(7001)
        self._soon: Callable[[float, Callable[[], None]], None] = self.net.at

    # -- processes

    @property
    def running(self) -> list[Process]:
        return [process for process in self.processes.values() if process.running]

    @property
    def members(self) -> list[Process]:
        """Those that run and take part."""
        return [process for process in self.running if process.is_in]

    def named(self, name: str) -> Process:
        """The member of that name; the newest, if there are two."""
        return max((each for each in self.members if each.me.name == name), key=lambda each: each.me.incarnation)

    def start(
        self,
        name: str,
        seeds: Iterable[str] | Callable[[], list[str]] = (),
        *,
        saved: Full | None = None,
        after: int = 0,
        port: int = 0,
        skew: float = 0.0,
    ) -> Process:
        """Start a process. ``seeds`` are addresses; a callable is asked again and again."""
        fixed = [] if callable(seeds) else list(seeds)
        process = Process(self, name, port or next(self._ports), seeds if callable(seeds) else lambda: fixed, saved, 0)
        process.skew = skew
        process.excused = self.net.now + 1.0
        process.me = process.me.with_incarnation(self.boot(process, after))
        self.processes[process.address] = process
        self.net.start(process.address, process.begin)
        return process

    def boot(self, process: Process, after: int) -> int:
        wall_ms = int(process._wall() * 1000)
        return draw_incarnation(wall_ms, self.chance.getrandbits(22), after)

    def some(self, most: int = 2) -> Callable[[], list[str]]:
        """Seeds: some of those that run, others each time."""

        def choose() -> list[str]:
            places = [each.address for each in self.members]
            return self.chance.sample(places, min(most, len(places)))

        return choose

    def crash(self, process: Process) -> Process:
        """Kill it; its machine goes on, ends its links and refuses dials."""
        process.saved = process.membership.ring.full() if self.chance.random() < 0.5 else process.saved
        process.running = False
        self.net.crash(process.address)
        return process

    def stop(self, process: Process) -> Process:
        """Let it end in good order: it says goodbye, and stays a member."""
        process.saved = process.membership.ring.full()
        process.running = False
        process.part_all(left=False)
        process.running = False
        self.net.crash(process.address)
        return process

    def again(self, process: Process, *, remembers: bool = True, moves: bool = False, skew: float = 0.0) -> Process:
        """Start a process again that has ended; one that ``remembers`` has its state file, and may need no seeds."""
        keeps = remembers and process.saved is not None
        return self.start(
            process.me.name,
            () if keeps and self._would_be_met(process) and self.chance.random() < 0.5 else self.some(),
            saved=process.saved if keeps else None,
            after=process.me.incarnation if keeps else 0,
            port=0 if moves else process.me.port,
            skew=skew,
        )

    def _would_be_met(self, process: Process) -> bool:
        """Whether some that its file knows are where they were."""
        known = process.saved.entries.values() if process.saved is not None else ()
        places = {f"{entry.host}:{entry.port}" for siblings in known for entry in siblings.values()}
        return any(each.address in places for each in self.members)

    def pause(self, process: Process, seconds: float) -> None:
        """Let its loop stand still, as SIGSTOP or user code does."""
        if self.net.is_paused(process.address):
            return
        if seconds > PATIENCE - 0.01:
            process.excused = max(process.excused, self.net.now + seconds + RECOVERS)
        self.net.pause(process.address)
        self.net.at(seconds, lambda: self._resume(process, stalled=seconds > 1.0))

    def hang(self, process: Process) -> None:
        """Let it stand still for ever: it keeps its links and answers nobody."""
        process.excused = float("inf")
        process.running = False
        self.net.pause(process.address)

    def _resume(self, process: Process, *, stalled: bool) -> None:
        if process.running:
            process.woke = self.net.now if stalled else process.woke
            self.net.resume(process.address, late_tick_first=self.chance.random() < 0.5)

    def excuse(self, processes: Iterable[Process], seconds: float = 0.0) -> None:
        """These may be believed down for so long, and until their links are back."""
        for process in processes:
            process.excused = max(process.excused, self.net.now + seconds + RECOVERS)

    def split(self, one: Iterable[Process], other: Iterable[Process], *, silent: bool = False) -> None:
        """Cut all ways between two sides; ``silent`` as a switch does, so that no link ends for 15 s."""
        sides = list(one), list(other)
        self.excuse([*sides[0], *sides[1]], 120.0)
        if not silent:
            self.net.partition(*([each.address for each in side] for side in sides))
            return
        for a in sides[0]:
            for b in sides[1]:
                self.net.lose(a.address, b.address, 1.0)
                self.net.lose(b.address, a.address, 1.0)

    def heal(self) -> None:
        """Undo all cuts and losses; who was cut off has a moment to come back."""
        self.net.heal()
        for process in self.processes.values():
            if process.running and self.net.now < process.excused < float("inf"):
                process.excused = self.net.now + RECOVERS

    def is_well(self, address: str, caller: str) -> bool:
        """Whether a process answers, as seen from another."""
        process = self.processes.get(address)
        return process is not None and process.running and not self.net.is_paused(address)

    def soon(self, process: Process, act: Callable[[], None]) -> None:
        """Do something outside of a step, if the process still runs and in the same boot."""
        boot = process.me.incarnation
        self.net.at(0.0, lambda: act() if process.running and process.me.incarnation == boot else None)

    # -- what users do

    def insert(self, by: Process, node: NodeId, weight: int | None = None) -> None:
        self._ask(by, Insert(node, weight))

    def remove(self, by: Process, name: str) -> None:
        if name in by.membership.members and name != by.me.name:
            self._ask(by, Remove(name))

    def reweigh(self, by: Process, name: str, weight: int) -> None:
        if name in by.membership.members:
            self._ask(by, Reweigh(name, weight))

    def _ask(self, by: Process, event: Event) -> None:
        try:
            by.step(event)
        except UsageError:  # its ring is not as the test thinks, now
            self.counts["refused"] += 1

    # -- what is written down

    def sees(self, process: Process, to: str, message: RingMessage) -> None:
        """Look at what a process sends."""
        self.on_send(process, to, message)
        if process.was_out and not isinstance(message, Absent | Got | HelloAck | Closed):
            self._spoke(process, message)
        if isinstance(message, News):
            self._check_accusations(process, message)

    def _spoke(self, process: Process, message: RingMessage) -> None:
        if isinstance(message, Probe | Pull) or (isinstance(message, News) and message.origin == process.me.name):
            self.wrong.append(f"spoke: {process} is {process.membership.stopped} and sends {message}")

    def record(self, process: Process, change: Change) -> None:
        if change.dot.actor == (process.me.name, process.me.incarnation) and change.dot not in self.made:
            self.made[change.dot] = Made(change)

    def _check_accusations(self, process: Process, news: News) -> None:
        """A process that stood still accuses no live one when it wakes; it may repeat what others believe."""
        if not 0 < self.net.now - process.woke < QUIET:
            return
        for each in news.accusations:
            target = self._live(each.name, each.claim.boot)
            is_its_own = each.by == process.me.name and each.claim.rank in (Rank.SUSPECT, Rank.DOWN)
            is_repeated = any(other.membership.ring.claim(each.name) == each.claim for other in self.members)
            if target is not None and is_its_own and not is_repeated:
                self.wrong.append(
                    f"accused: {process} woke at {process.woke:.3f} and at {self.net.now:.3f} says {each}"
                )

    def _live(self, name: str, boot: int) -> Process | None:
        for each in self.members:
            if (each.me.name, each.me.incarnation) == (name, boot) and self.net.now >= each.excused:
                return each
        return None

    def is_down(self, observer: Process, member: Member) -> None:
        """Look at what a process believes of another."""
        target = self._live(member.name, member.node.incarnation)
        if target is not None and member.why != "restarted":
            self.wrong.append(f"down: {observer} believes at {self.net.now:.3f} that {target} is ({member.why})")

    # -- the verdict

    def look(self) -> None:
        """Check what must hold at every moment, and note what everybody has."""
        members = self.members
        for process in members:
            self._look_back(process)
        if not self.wrong and members:
            for dot, made in self.made.items():
                name = made.change.name
                if not made.established and dot in made.change.siblings:
                    made.established = all(dot in each.membership.ring.siblings(name) for each in members)

    def _look_back(self, process: Process) -> None:
        ring = process.membership.ring
        clock = ring.clock()
        known = [made for made in self.made.values() if clock.covers(*made.change.dot)]
        for name in ring.names:
            for dot in ring.siblings(name):
                mine = self.made.get(dot)
                if mine is None:
                    continue
                for other in known:
                    retired = other.change.dot.actor.boot < clock.floors.get(other.change.dot.actor.name, 0)
                    about_it = other is not mine and other.change.name == name
                    if about_it and not retired and other.replaces(mine):
                        self.wrong.append(f"back: {process} has {name} of {dot}, replaced by {other.change.dot}")
            entry = ring.entry(name)
            if entry is not None and entry.boot <= ring.fence(name):
                self.wrong.append(f"back: {process} has {name} at a boot below its fence")

    def lost(self) -> list[str]:
        """The entries that nobody replaced or removed, and that are missing where their change is known."""
        found = []
        for process in self.members:
            ring = process.membership.ring
            clock = ring.clock()
            known = [made for made in self.made.values() if clock.covers(*made.change.dot)]
            for made in known:
                name, dot = made.change.name, made.change.dot
                entry = made.change.siblings.get(dot)
                if entry is None or entry.boot <= ring.fence(name) or dot in ring.siblings(name):
                    continue
                forsaken = dot.actor.boot < clock.floors.get(dot.actor.name, 0) and not made.established
                others = (each for each in known if each is not made and each.change.name == name)
                if not forsaken and not any(other.replaces(made) for other in others):
                    found.append(f"lost: {process} lacks {name} of {dot}")
        return found

    def differences(self) -> list[str]:
        """What keeps the cluster from rest."""
        members = self.members
        names = Counter(each.me.name for each in members)
        found = [f"{name} runs {times} times" for name, times in names.items() if times > 1]
        views = {each: self._view(each) for each in members}
        model = next(iter(views.values()), None)
        for process, view in views.items():
            if view != model:
                found.append(f"{process} sees {sorted(set(view) ^ set(model or ()))}")
            if process.membership.digests != members[0].membership.digests:
                found.append(f"{process} has other digests than {members[0]}")
            if not process.membership.settled:
                found.append(f"{process} was not let in")
            found += self._misjudged(process)
        return found

    def _view(self, process: Process) -> tuple[str, ...]:
        return tuple(
            f"{each.node}#{each.node.incarnation} {each.state} {each.ready} {each.weight}"
            for each in process.membership.members.values()
        )

    def _misjudged(self, observer: Process) -> list[str]:
        found = []
        seen = observer.membership.members
        live = {each.me.name: each.me for each in self.members}
        for name, node in live.items():
            member = seen.get(name)
            if member is None or member.node != node or member.state is not State.ALIVE or not member.ready:
                found.append(f"{observer} sees {member} instead of {node}")
        for name, member in seen.items():
            if name in live and name != observer.me.name and name not in observer.linked:
                found.append(f"{observer} has no link to {name}")
            if name not in live and member.state is not State.DOWN:
                found.append(f"{observer} believes that {name} is {member.state}")
            believed_down = observer.verdicts.get(name) is not None
            if name != observer.me.name and believed_down != (member.state in (State.DOWN, State.LEFT)):
                found.append(f"{observer} has judged the link to {name}: {observer.verdicts.get(name)}")
        return found

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, and look at all now and then."""
        end = self.net.now + seconds
        while self.net.now < end:
            self.net.run(min(step, end - self.net.now))
            self.look()

    def rest(self, within: float = 80.0) -> list[str]:
        """Wait until all agree and nothing changes any more; return what is wrong, in the end and before."""
        end = self.net.now + within
        self.net.delivery = replace(self.net.delivery, breaks=0.0)
        while self.differences() and self.net.now < end and not self.wrong:
            self.run(1.0)
        calm = 0
        while calm < 2 and self.net.now < end + 40 and not self.wrong:
            before = [(each.membership.digests, len(each.events)) for each in self.members]
            self.counts.clear()
            self.run(3.0, step=3.0)
            calm = calm + 1 if before == [(each.membership.digests, len(each.events)) for each in self.members] else 0
        found = [*self.wrong, *self.differences(), *self.lost()]
        if calm < 2:
            found.append("it does not come to rest")
        chatter = {
            kind: times for kind, times in self.counts.items() if kind not in (Probe.__name__, ProbeAck.__name__)
        }
        if chatter and not found:
            found.append(f"at rest there are other messages than probes: {chatter}")
        return found
