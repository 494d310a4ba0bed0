"""Members that watch each other: the failure detector alone, on virtual time, with faults.

Each `Watcher` is a `Liveness` with a plain dict of claims in its coat. Messages take 0.2 to
1 ms and keep their order between two; a stopped process keeps what is sent to it and reads it
when it goes on; the machine of a crashed one ends its links and refuses dials. As in the product,
a probe and its answer carry digests of the claims, and where they differ claims are exchanged.

What must never happen is noted as it happens, in ``false_downs``: a verdict on the boot of a process that
runs and whose loop did not stand still for 3 s, by one that is not cut off from it.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from clusterkit.core.liveness import Liveness
from clusterkit.core.liveness_events import (
    Accuse,
    Accused,
    AccusedMe,
    Answered,
    AnswerProbe,
    AskedToProbe,
    AskProbe,
    AskToProbe,
    Believed,
    DialRefused,
    Effect,
    Event,
    IndirectAnswered,
    LinkLost,
    LinkOpened,
    Probe,
    ProbeRequested,
    RefusedElsewhere,
    Refute,
    TellRefused,
    Tick,
    Watch,
)
from clusterkit.core.liveness_timers import LivenessSafeguards, Timers
from clusterkit.core.ring_entry import Claim, Rank

PATIENCE = 3.0
"""How long a loop may stand still and never be declared down."""


@dataclass(frozen=True, slots=True)
class Accusation:
    """Who accused whom, and when."""

    at: float
    by: str
    claim: Claim
    target: str


class Watcher:
    """One process."""

    def __init__(self, cluster: "Watchers", name: str, boot: int) -> None:
        self.name = name
        self.boot = boot
        self.running = True
        self.stopped_at: float | None = None
        self.inbox: list[Callable[[], None]] | None = None
        """What waits unread; None while all is read as it comes."""
        self.claims = {name: Claim(boot, 0, Rank.ALIVE, ready=True)}
        self.digest = hash((name, boot, 0, 0))
        self.lost: dict[str, None] = {}
        """The peers that there is no link to."""
        self.alarm: float | None = None
        self.liveness = Liveness(name, self, cluster.chance, cluster.timers, cluster.guards)

    def claim(self, name: str) -> Claim:
        return self.claims[name]

    def hear(self, name: str, claim: Claim) -> bool:
        known = self.claims.get(name)
        if known is not None and claim[:3] <= known[:3]:
            return False
        for each in (claim, known):
            if each is not None:
                self.digest ^= hash((name, *each[:3]))
        self.claims[name] = claim
        return True


class Watchers:
    """All of them, on virtual time from 0; they know and are linked to each other at the start."""

    def __init__(
        self, count: int, seed: int = 0, timers: Timers | None = None, guards: LivenessSafeguards | None = None
    ) -> None:
        self.now = 0.0
        self.chance = Random(f"{seed}:watchers")
        self.timers = timers or Timers()
        self.guards = guards or LivenessSafeguards()
        self.names = [f"n{number:03}" for number in range(count)]
        self.sent: Counter[str] = Counter()
        self.accusations: list[Accusation] = []
        self.false_downs: list[Accusation] = []
        self.loss: dict[tuple[str, str], float] = {}
        """The chance that a message from one to another vanishes."""
        self.cut: dict[tuple[str, str], None] = {}
        """Who is on another side of a partition."""
        self.delays: dict[str, float] = {}
        """What is added to each message to that one."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._arrivals: dict[tuple[str, str], float] = {}
        self._exchanged: dict[tuple[str, str], float] = {}
        self.watchers = {name: Watcher(self, name, 1) for name in self.names}
        for watcher, name in itertools.product(self.watchers.values(), self.names):
            if name != watcher.name:
                self._meet(watcher, name, Claim(1, 0, Rank.ALIVE, ready=True))

    # -- what a test does ---------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = end

    def run_until(self, holds: Callable[[], bool], within: float) -> float:
        """Let time pass until it holds; return how much. Fails when it takes longer than ``within``."""
        begun = self.now
        while not holds():
            assert self._events, "nothing happens any more"
            assert self._events[0][0] <= begun + within, f"not within {within} s: {self.beliefs()}"
            self.now, _, act = heapq.heappop(self._events)
            act()
        return self.now - begun

    def after(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), act))

    def stop(self, name: str, seconds: float | None = None, backlog: float = 0.0) -> None:
        """SIGSTOP, or a loop that user code blocks; with ``seconds`` it goes on."""
        watcher = self.watchers[name]
        watcher.stopped_at = self.now
        watcher.inbox = watcher.inbox or []
        if seconds is not None:
            self.after(seconds, partial(self.go_on, name, backlog))

    def go_on(self, name: str, backlog: float = 0.0) -> None:
        """Go on: timers first or sockets first, as chance will have it; nothing is read for ``backlog`` seconds more."""
        watcher = self.watchers[name]
        watcher.stopped_at = None
        if backlog or self.chance.random() < 0.5:
            self._ring(watcher)
        self.after(backlog, partial(self._read, watcher))

    def _read(self, watcher: Watcher) -> None:
        """Read what waits, unless it was stopped again."""
        if watcher.stopped_at is None:
            waiting, watcher.inbox = watcher.inbox, None
            for act in waiting or []:
                act()
            self._ring(watcher)

    def crash(self, name: str, redial: float = 0.001) -> None:
        """SIGKILL: links end, and dials are refused from then on."""
        crashed = self.watchers[name]
        crashed.running = False
        for peer in self._others(crashed):
            self.after(self._delay(name, peer.name), partial(self._cut_off, peer, crashed, redial))

    def restart(self, name: str) -> None:
        """Start a crashed process anew, at another address."""
        old = self.watchers[name]
        assert not old.running
        new = self.watchers[name] = Watcher(self, name, old.boot + 1)
        for peer in self._others(new):
            self._meet(new, peer.name, Claim(peer.boot, 0, Rank.ALIVE, ready=True))
            self.after(self.chance.uniform(0.001, 0.005), partial(self._open, new, peer))

    def refuse(self, one: str, other: str) -> None:
        """A firewall between two that are well: a link breaks, and the dial of one end is refused."""
        self._deliver(self.watchers[one], LinkLost(other))
        self._deliver(self.watchers[one], DialRefused(other, self.watchers[other].boot))

    def cut_link(self, one: str, other: str) -> None:
        """A link breaks and cannot be had again; silence would be a loss of 1.0."""
        for name, peer in ((one, other), (other, one)):
            self.watchers[name].lost[peer] = None
            self._deliver(self.watchers[name], LinkLost(peer))

    def mend_link(self, one: str, other: str) -> None:
        self._open(self.watchers[one], self.watchers[other])

    def partition(self, sides: Iterable[list[str]]) -> None:
        for one, other in itertools.permutations(sides, 2):
            self.cut |= dict.fromkeys(itertools.product(one, other))
        self.loss |= dict.fromkeys(self.cut, 1.0)

    def heal(self) -> None:
        """Packets pass again, and within a second the links are new."""
        cut, self.cut = self.cut, {}
        self.loss.clear()
        for one, other in [pair for pair in cut if pair[0] < pair[1]]:
            self.cut_link(one, other)
            self.after(self.chance.random(), partial(self.mend_link, one, other))

    # -- what a test asks ---------------------------------------------------------------------

    def holds(self, target: str, rank: Rank) -> bool:
        """Whether all others that run believe this of a member."""
        return all(each.claims[target].rank is rank for each in self._others(self.watchers[target]))

    def claimed_by_the_well(self, target: str, rank: Rank) -> bool:
        """Whether all that run and do not stand still believe this of a member."""
        well = [each for each in self.watchers.values() if each.running and each.stopped_at is None]
        return all(each.claims[target].rank is rank for each in well)

    def all_alive(self) -> bool:
        """Whether every one that runs is believed alive by every other, at its own boot."""
        running = [each for each in self.watchers.values() if each.running]
        return all(
            one.claims[other.name].rank is Rank.ALIVE and one.claims[other.name].boot == other.boot
            for one, other in itertools.permutations(running, 2)
        )

    def beliefs(self) -> Counter[tuple[str, str]]:
        """How many of the well hold whom for suspect or down."""
        well = [each for each in self.watchers.values() if each.running and each.stopped_at is None]
        claims = [item for each in well for item in each.claims.items()]
        return Counter((name, claim.rank.name) for name, claim in claims if claim.rank is not Rank.ALIVE)

    def is_probing(self, name: str, *targets: str) -> bool:
        """Whether it waits for an answer of one of these."""
        return any(self.watchers[name].liveness._probes.is_probing(target) for target in targets)

    def verdict_at(self, by: str, target: str) -> float:
        """When one that suspects another would declare it down."""
        return self.watchers[by].liveness._suspicions[target].deadline

    def accused_by(self, name: str) -> list[Accusation]:
        return [each for each in self.accusations if each.by == name]

    def _others(self, watcher: Watcher) -> list[Watcher]:
        return [each for each in self.watchers.values() if each is not watcher and each.running]

    # -- the network --------------------------------------------------------------------------

    def _delay(self, src: str, dst: str) -> float:
        """When a message is there: in order between two."""
        at = self.now + self.chance.uniform(0.0002, 0.001) + self.delays.get(dst, 0.0)
        self._arrivals[src, dst] = at = max(at, self._arrivals.get((src, dst), 0.0))
        return at - self.now

    def _send(self, src: Watcher, dst: str, kind: str, *body: Any) -> None:
        if dst in src.lost:
            return
        self.sent[kind] += 1
        loss = self.loss.get((src.name, dst), 0.0)
        if not loss or self.chance.random() >= loss:
            self.after(self._delay(src.name, dst), partial(self._arrive, self.watchers[dst], src.name, kind, body))

    def _arrive(self, dst: Watcher, src: str, kind: str, body: tuple[Any, ...]) -> None:
        if dst.inbox is not None:
            dst.inbox.append(partial(self._arrive, dst, src, kind, body))
        elif dst.running:
            getattr(self, f"_heard_{kind}")(dst, src, *body)

    def _deliver(self, watcher: Watcher, event: Event) -> None:
        if watcher.inbox is not None:
            watcher.inbox.append(partial(self._step, watcher, event))
        else:
            self._step(watcher, event)

    def _cut_off(self, peer: Watcher, gone: Watcher, redial: float) -> None:
        if peer.running and self.watchers[gone.name] is gone:
            peer.lost[gone.name] = None
        self._deliver(peer, LinkLost(gone.name))
        self._redial(peer, gone, redial)

    def _redial(self, peer: Watcher, gone: Watcher, delay: float) -> None:
        """Dial where it was, until it is known to be down or elsewhere."""

        def refused() -> None:
            claim = peer.claims[gone.name]
            if peer.running and claim.boot == gone.boot and claim.rank is not Rank.DOWN:
                self._redial(peer, gone, min(5.0, delay * 2))
            self._deliver(peer, DialRefused(gone.name, gone.boot))

        self.after(delay * self.chance.uniform(0.5, 1.0), refused)

    def _meet(self, watcher: Watcher, name: str, claim: Claim) -> None:
        watcher.hear(name, claim)
        self._step(watcher, Watch(name))
        self._step(watcher, LinkOpened(name))

    def _open(self, one: Watcher, other: Watcher) -> None:
        for each, peer in ((one, other), (other, one)):
            each.lost.pop(peer.name, None)
            self._deliver(each, LinkOpened(peer.name))
            self._send(each, peer.name, "claims", dict(each.claims), True)

    # -- processes ----------------------------------------------------------------------------

    def _ring(self, watcher: Watcher) -> None:
        """Tick a process when its deadline has come; one that is stopped is ticked when it goes on."""
        deadline = watcher.liveness.next_deadline
        if watcher.stopped_at is None and watcher.running and deadline is not None:
            watcher.alarm = None
            if deadline <= self.now:
                self._step(watcher, Tick())
            else:
                self._wind(watcher)

    def _wind(self, watcher: Watcher) -> None:
        deadline = watcher.liveness.next_deadline
        if deadline is not None and (watcher.alarm is None or deadline < watcher.alarm):
            watcher.alarm = max(deadline, self.now)
            self.after(watcher.alarm - self.now + self.chance.uniform(0.0, 0.002), partial(self._ring, watcher))

    def _step(self, watcher: Watcher, event: Event) -> None:
        if not watcher.running:
            return
        for effect in watcher.liveness.step(event, self.now):
            self._carry_out(watcher, effect)
        self._wind(watcher)

    def _carry_out(self, watcher: Watcher, effect: Effect) -> None:
        match effect:
            case Probe(to=to, number=number):
                self._send(watcher, to, "probe", number, watcher.digest)
            case AskProbe(via=via, target=target, number=number):
                self._send(watcher, via, "ask", target, number)
            case AnswerProbe(to=to, number=number, ok=ok):
                self._send(watcher, to, "asked", number, ok)
            case AskToProbe(via=via, target=target):
                self._send(watcher, via, "urge", target)
            case TellRefused(name=name, boot=boot):
                self._tell_all(watcher, "refused", name, boot)
            case Accuse(name=name, claim=claim, push=push):
                self._note(Accusation(self.now, watcher.name, claim, name))
                self._hear(watcher, name, claim)
                if push:
                    self._tell_all(watcher, "accused" if claim.rank is Rank.SUSPECT else "down", name, claim)
            case Refute(inc=inc):
                claim = Claim(watcher.boot, inc, Rank.ALIVE, ready=True)
                self._hear(watcher, watcher.name, claim)
                self._tell_all(watcher, "refuted", watcher.name, claim)

    def _tell_all(self, src: Watcher, kind: str, *body: Any) -> None:
        """The network has trees for it; here each is told by the source. Who is held for down is told if there is a link."""
        for name in self.names:
            if name != src.name:
                self._send(src, name, kind, *body)

    def _note(self, accusation: Accusation) -> None:
        self.accusations.append(accusation)
        target = self.watchers[accusation.target]
        stood_still = target.stopped_at is not None and self.now - target.stopped_at >= PATIENCE
        is_true = not target.running or stood_still or accusation.claim.boot < target.boot
        if accusation.claim.rank is Rank.DOWN and not is_true and (accusation.by, target.name) not in self.cut:
            self.false_downs.append(accusation)

    def _hear(self, watcher: Watcher, name: str, claim: Claim) -> None:
        if watcher.hear(name, claim):
            self._step(watcher, Believed(name))

    def _heard_probe(self, dst: Watcher, src: str, number: int, digest: int) -> None:
        self._send(dst, src, "answer", number, dst.digest)
        self._compare(dst, src, digest)

    def _heard_answer(self, dst: Watcher, src: str, number: int, digest: int) -> None:
        self._step(dst, Answered(number, src))
        self._compare(dst, src, digest)

    def _compare(self, watcher: Watcher, peer: str, digest: int) -> None:
        last = self._exchanged.get((watcher.name, peer), -1.0)
        if digest != watcher.digest and self.now - last >= 0.2:
            self._exchanged[watcher.name, peer] = self.now
            self._send(watcher, peer, "claims", dict(watcher.claims), True)

    def _heard_claims(self, dst: Watcher, src: str, claims: dict[str, Claim], answer: bool) -> None:
        for name, claim in claims.items():
            self._hear(dst, name, claim)
        better = {name: claim for name, claim in dst.claims.items() if claim[:3] > claims[name][:3]}
        if answer and better:
            self._send(dst, src, "claims", dict(dst.claims), False)

    def _heard_ask(self, dst: Watcher, src: str, target: str, number: int) -> None:
        self._step(dst, ProbeRequested(number, src, target))

    def _heard_asked(self, dst: Watcher, src: str, number: int, ok: bool) -> None:
        self._step(dst, IndirectAnswered(number, src, ok))

    def _heard_urge(self, dst: Watcher, _: str, target: str) -> None:
        self._step(dst, AskedToProbe(target))

    def _heard_refused(self, dst: Watcher, src: str, name: str, boot: int) -> None:
        self._step(dst, RefusedElsewhere(name, boot, src))

    def _heard_accused(self, dst: Watcher, src: str, name: str, claim: Claim) -> None:
        if name == dst.name:
            self._step(dst, AccusedMe(claim))
        else:
            self._hear(dst, name, claim)
            self._step(dst, Accused(name, claim, src))

    _heard_down = _heard_accused

    def _heard_refuted(self, dst: Watcher, _: str, name: str, claim: Claim) -> None:
        self._hear(dst, name, claim)
