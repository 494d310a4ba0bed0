"""Who is alive: a failure detector of SWIM's kind, for links that last.

Each member probes the others in turn over their links; who does not answer is asked
through others; who does not answer them either is *suspect*, is told so, and is *down*
unless it refutes in time. Two signs are quicker than a probe: a link that ended makes us
probe at once, and a dial that two observers found refused is proof, without suspicion.

Rules:

- An accusation names (boot, inc) and is void against any other: only a member itself raises
  its ``inc``, when it refutes, and its boot, when it restarts.
- Nobody is declared down within 3.2 s of its last sign of life, unless its machine refuses dials
  for it. See `Timers`.
- Who is in trouble itself does not judge: a late tick voids the probes under way, a
  stall silences us for a while, and local health stretches our timeouts.
- When all observers must come to the same verdict at the same moment, a few speak first, by an order
  that all share, and the others only if those did not.
- What others claim counts at every moment; this machine holds no claims, but reads them
  through `Beliefs`.

Not promised: that a process which the kernel keeps alive and which answers probes is of any
use; that a member under a loss of every second message is never suspected.

Reference: SWIM (2002) and Lifeguard (2018), see `Rotation` and `LocalHealth`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any

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
    SignOfLife,
    TellRefused,
    Tick,
    Unwatch,
    Watch,
)
from clusterkit.core.liveness_timers import LivenessSafeguards, Timers
from clusterkit.core.local_health import LocalHealth
from clusterkit.core.loop_lag import LoopLag
from clusterkit.core.probes import Probes, Running
from clusterkit.core.refusals import Refusals
from clusterkit.core.ring_entry import Claim, Rank
from clusterkit.core.rotation import Rotation
from clusterkit.core.suspicion import Suspicion
from clusterkit.core.witnesses import Beliefs, Witnesses

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - only the name of the argument's type


class Liveness:
    """The failure detector of the member ``me``.

    >>> from random import Random
    >>> class Believing(dict[str, Claim]):
    ...     def claim(self, name: str) -> Claim:
    ...         return self[name]
    >>> beliefs = Believing(a=Claim(7, 0, Rank.ALIVE, True), b=Claim(9, 0, Rank.ALIVE, True))
    >>> liveness = Liveness("a", beliefs, Random(1))
    >>> liveness.step(Watch("b"), now=1.0)
    []
    >>> liveness.step(Tick(), now=liveness.next_deadline)
    [Probe(to='b', number=1)]
    >>> liveness.step(AccusedMe(Claim(7, 0, Rank.SUSPECT, True)), now=1.5)
    [Refute(inc=1)]
    """

    def __init__(
        self,
        me: str,
        beliefs: Beliefs,
        rng: Random,
        timers: Timers | None = None,
        safeguards: LivenessSafeguards | None = None,
    ) -> None:
        self.next_deadline: float | None = None
        self._me = me
        self._beliefs = beliefs
        self._rng = rng
        self._timers = timers or Timers()
        self._guards = safeguards or LivenessSafeguards()
        self._lag = LoopLag(self._timers, self._guards)
        self._health = LocalHealth(counts=self._guards.local_health)
        self._members = Rotation(rng)
        self._witnesses = Witnesses(self._members, beliefs, rng)
        self._open: dict[str, None] = {}
        self._probes = Probes()
        self._suspicions: dict[str, Suspicion] = {}
        self._refusals = Refusals(self._timers.refused_window if self._guards.refusal_window else inf)
        self._refuted = (0, 0)
        self._next_probe = 0.0
        self._handlers: dict[type[Event], Callable[[Any, float], list[Effect]]] = {
            Watch: self._watch,
            Unwatch: self._unwatch,
            LinkOpened: self._link_opened,
            LinkLost: self._link_lost,
            DialRefused: self._dial_refused,
            SignOfLife: self._sign_of_life,
            RefusedElsewhere: self._refused_elsewhere,
            Answered: self._answered,
            IndirectAnswered: self._indirect_answered,
            ProbeRequested: self._probe_requested,
            AskedToProbe: self._asked_to_probe,
            Accused: self._accused,
            AccusedMe: self._accused_me,
            Believed: self._believed,
            Tick: self._tick,
        }

    @property
    def health(self) -> int:
        """The local health, from 0, healthy, to 8."""
        return self._health.score

    @property
    def awaited(self) -> list[str]:
        """The members that are probed or suspected: look for a sign of life of each before the next `Tick`."""
        return [*self._probes.targets, *(name for name in self._suspicions if self._probes.to(name) is None)]

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event. Claims are stored before their event comes, and effects are carried out before the next."""
        self._notice_lag(now)
        effects = self._handlers[type(event)](event, now)
        soonest = self._soonest(now)  # a confirmation may put it into the past: that is no lag
        self.next_deadline = None if soonest is None else max(soonest, now)
        return effects

    # -- our own trouble

    def _notice_lag(self, now: float) -> None:
        late = 0.0 if self.next_deadline is None else now - self.next_deadline
        lag = self._lag.notice(late, self._health.scale, now)
        if lag.stalled:
            for suspicion in self._suspicions.values():
                suspicion.begin_anew(now)
        if lag.voids or (lag.felt and self._probes):
            self._health.worsen()
        if lag.voids:
            self._probes.void()

    def _soonest(self, now: float) -> float | None:
        dues = [due for due in (self._probes.deadline, self._refusals.deadline) if due is not None]
        dues += [max(each.deadline, self._lag.quiet_until) for each in self._suspicions.values()]
        judged = self._lag.soonest(dues, now)
        if not self._members:
            return judged
        return self._next_probe if judged is None else min(judged, self._next_probe)

    def _tick(self, _: Tick, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self._lag.may_judge(now):
            effects += self._judge(now)
        if self._members and now >= self._next_probe:
            self._next_probe = now + self._timers.probe_interval * self._health.scale
            target = self._members.next(self._is_worth_a_probe)
            effects += [] if target is None else self._probe(target, now)
        return effects

    def _judge(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for probe in self._probes.due(now):
            effects += self._overdue(probe, now)
        if self._lag.may_accuse(now):
            for name, suspicion in list(self._suspicions.items()):
                if suspicion.deadline <= now:
                    effects += self._verdict(name, suspicion, now)
        effects += [TellRefused(name, boot) for name, boot in self._refusals.due(now)]
        return effects

    # -- members and links

    def _watch(self, event: Watch, now: float) -> list[Effect]:
        if not self._members:
            self._next_probe = now + self._rng.uniform(0.0, self._timers.probe_interval)
        self._members.add(event.name)
        return self._believed(Believed(event.name), now)

    def _unwatch(self, event: Unwatch, _: float) -> list[Effect]:
        self._members.discard(event.name)
        self._forget(event.name)
        return []

    def _forget(self, name: str) -> None:
        """Nothing is to be found out about a member, now."""
        self._probes.forget(name)
        self._suspicions.pop(name, None)
        self._refusals.drop(name)

    def _link_opened(self, event: LinkOpened, now: float) -> list[Effect]:
        self._open[event.name] = None
        self._refusals.retract(event.name, self._me)
        self._proved_alive(event.name, now)
        is_accused = event.name in self._members and self._rank(event.name) in (Rank.SUSPECT, Rank.DOWN)
        return self._probe(event.name, now) if is_accused else []

    def _proved_alive(self, name: str, now: float) -> None:
        """Who opens a link has just proved that it runs: no older probe or suspicion says anything of it."""
        self._probes.forget(name)
        if (suspicion := self._suspicions.get(name)) is not None and self._guards.proof_of_life:
            suspicion.begin_anew(now)

    def _link_lost(self, event: LinkLost, now: float) -> list[Effect]:
        self._open.pop(event.name, None)
        return self._asked_to_probe(AskedToProbe(event.name), now)

    def _rank(self, name: str) -> Rank:
        return self._beliefs.claim(name).rank

    # -- probes

    def _is_worth_a_probe(self, name: str) -> bool:
        """Whether to probe it in turn: one believed down whose link is open may only have slept."""
        rank = self._rank(name)
        return (rank < Rank.DOWN or (rank is Rank.DOWN and name in self._open)) and not self._probes.is_probing(name)

    def _probe(self, target: str, now: float) -> list[Effect]:
        if self._probes.is_probing(target) or self._probes.is_full:
            return []
        claim = self._beliefs.claim(target)
        due = now + self._timers.probe_timeout * self._health.scale
        probe = self._probes.begin(target, (claim.boot, claim.inc), now, due, accuses=claim.rank < Rank.DOWN)
        return [Probe(target, probe.number)]

    def _asked_to_probe(self, event: AskedToProbe, now: float) -> list[Effect]:
        is_in_doubt = event.target in self._members and self._rank(event.target) < Rank.DOWN
        return self._probe(event.target, now) if is_in_doubt else []

    def _probe_requested(self, event: ProbeRequested, now: float) -> list[Effect]:
        if event.target not in self._members or self._probes.is_full:
            return [AnswerProbe(event.by, event.number, event.target, ok=event.target == self._me)]
        due = now + self._timers.probe_timeout
        return [Probe(event.target, self._probes.relay(event.target, (event.by, event.number), now, due).number)]

    def _answered(self, event: Answered, now: float) -> list[Effect]:
        probe = self._probes.take(event.number, event.name)
        if probe is None:
            return []
        if probe.asker is not None:
            return [AnswerProbe(*probe.asker, event.name, ok=True)]
        if probe.helpers is None:
            self._health.mend()
        self._saw_alive(probe, now)
        return []

    def _sign_of_life(self, event: SignOfLife, now: float) -> list[Effect]:
        suspicion, probe = self._suspicions.get(event.name), self._probes.to(event.name)
        if suspicion is not None and event.at > suspicion.begun and self._guards.proof_of_life:
            suspicion.begin_anew(now)
        if probe is None or event.at <= probe.sent:
            return []
        return self._answered(Answered(probe.number, event.name), now)

    def _indirect_answered(self, event: IndirectAnswered, now: float) -> list[Effect]:
        probe = self._probes.own(event.number)
        if probe is None or event.via not in (probe.helpers or ()):
            return []
        if event.ok:
            self._probes.end(probe)
            self._saw_alive(probe, now)
        else:
            probe.noes[event.via] = None
        return []

    def _saw_alive(self, probe: Running, now: float) -> None:
        """Who answers what was asked after it was accused is alive, though its refutation is not here yet."""
        suspicion = self._suspicions.get(probe.target)
        if suspicion is not None and probe.sent >= suspicion.begun and self._guards.proof_of_life:
            suspicion.begin_anew(now)

    def _overdue(self, probe: Running, now: float) -> list[Effect]:
        if probe.asker is not None:
            self._probes.end(probe)
            return [AnswerProbe(*probe.asker, probe.target, ok=False)]
        if not probe.accuses or probe.helpers is not None:
            self._probes.end(probe)
            return self._failed(probe, now) if probe.accuses else []
        helpers = self._witnesses.some(self._timers.indirect, probe.target) if self._guards.indirect_probes else []
        probe.helpers = tuple(helpers)
        probe.due = now + self._timers.indirect_timeout * self._health.scale
        return [AskProbe(helper, probe.target, probe.number) for helper in helpers]

    def _failed(self, probe: Running, now: float) -> list[Effect]:
        """Accuse, or confirm the accusation, unless we are in trouble or the member has spoken since."""
        if any(self._rank(helper) is Rank.ALIVE for helper in probe.silent_helpers):
            self._health.worsen()
        claim = self._beliefs.claim(probe.target)
        is_stale = probe.of != (claim.boot, claim.inc) and self._guards.stale_probes
        if not self._lag.may_accuse(now) or is_stale or claim.rank >= Rank.DOWN:
            return []
        if not self._guards.suspicion:
            return [Accuse(probe.target, claim._replace(rank=Rank.DOWN), push=True)]
        suspicion = self._suspect(probe.target, claim, now)
        was_confirmed = suspicion.is_confirmed
        if not suspicion.confirm(self._me) or was_confirmed:
            return []
        accusation = Accuse(probe.target, claim._replace(rank=Rank.SUSPECT), push=True)
        others = self._witnesses.some(self._timers.ask, probe.target) if claim.rank is Rank.ALIVE else []
        return [accusation, *(AskToProbe(via, probe.target) for via in others)]

    # -- suspicions

    def _suspect(self, name: str, claim: Claim, now: float) -> Suspicion:
        """The suspicion of a member at its (boot, inc); begun, if it is new."""
        suspicion = self._suspicions.get(name)
        if suspicion is None or suspicion.of != (claim.boot, claim.inc):
            timers = self._timers
            others = (each for each in self._members if each != name and self._rank(each) < Rank.DOWN)
            enough = len(list(islice(others, timers.confirmations))) if self._guards.confirmations else 0
            suspicion = Suspicion((claim.boot, claim.inc), now, timers.suspicion_least, timers.suspicion_most, enough)
            self._suspicions[name] = suspicion
        return suspicion

    def _accused(self, event: Accused, now: float) -> list[Effect]:
        if event.name == self._me:
            return self._accused_me(AccusedMe(event.claim), now)
        claim = self._beliefs.claim(event.name) if event.name in self._members else None
        if claim is not None and claim.rank is Rank.SUSPECT and claim[:3] == event.claim[:3]:
            self._suspect(event.name, claim, now).confirm(event.by)
        return []

    def _believed(self, event: Believed, now: float) -> list[Effect]:
        if event.name == self._me:
            return self._accused_me(AccusedMe(self._beliefs.claim(self._me)), now)
        if event.name not in self._members:
            return []
        claim = self._beliefs.claim(event.name)
        if claim.rank is Rank.SUSPECT:
            self._suspect(event.name, claim, now)
        elif claim.rank is Rank.ALIVE:
            self._suspicions.pop(event.name, None)
        else:
            self._forget(event.name)
        return []

    def _verdict(self, name: str, suspicion: Suspicion, now: float) -> list[Effect]:
        delay = 0.0 if suspicion.is_deferred else self._delay(name)
        if delay > 0:
            suspicion.defer(now + delay)
            return []
        del self._suspicions[name]
        return [Accuse(name, self._beliefs.claim(name)._replace(rank=Rank.DOWN), push=True)]

    def _delay(self, target: str) -> float:
        """How long we leave it to others to speak."""
        place, of = self._witnesses.turn(self._me, target) if self._guards.tellers else (0, 1)
        return 0.0 if place < self._timers.tellers else self._timers.tell_after * (1 + place / of)

    # -- refused dials

    def _dial_refused(self, event: DialRefused, now: float) -> list[Effect]:
        if not self._lag.may_accuse(now) or not self._note_refusal(event.name, event.boot, self._me, now):
            return []
        effects = self._convict(self._refusals.names, now)  # this one may have been the last that could confirm another
        if event.name in self._refusals.names:
            self._refusals.plan(event.name, now + self._delay(event.name), now)
            effects += [TellRefused(name, boot) for name, boot in self._refusals.due(now)]
        return effects

    def _refused_elsewhere(self, event: RefusedElsewhere, now: float) -> list[Effect]:
        is_news = self._note_refusal(event.name, event.boot, event.by, now)
        return self._convict([event.name], now) if is_news and self._lag.may_accuse(now) else []

    def _note_refusal(self, name: str, boot: int, by: str, now: float) -> bool:
        claim = self._beliefs.claim(name) if name in self._members else None
        if claim is None or claim.rank >= Rank.DOWN or (claim.boot != boot and self._guards.boots):
            return False
        self._refusals.note(name, claim.boot, by, now)
        return True

    def _convict(self, names: list[str], now: float) -> list[Effect]:
        """Declare down whom two observers found gone; or one, when no other could be asked."""
        gone = [name for name in names if self._is_gone(name, now)]  # all, before any of the cases is closed
        effects: list[Effect] = []
        for name in gone:
            claim = self._beliefs.claim(name)
            effects.append(Accuse(name, claim._replace(rank=Rank.DOWN), push=self._delay(name) == 0))
            self._forget(name)
        return effects

    def _is_gone(self, name: str, now: float) -> bool:
        needed = 2 if self._guards.second_observer and self._has_witness(name, now) else 1
        return len(self._refusals.observers(name, now)) >= needed

    def _has_witness(self, name: str, now: float) -> bool:
        """Whether another member is believed alive that did not refuse us itself."""
        return any(self._me not in self._refusals.observers(other, now) for other in self._witnesses.alive(name))

    # -- accusations of ourselves

    def _accused_me(self, event: AccusedMe, _: float) -> list[Effect]:
        """Refute once what accuses this boot; leaving is final, and a later boot is another's affair."""
        claim, own = event.claim, self._beliefs.claim(self._me)
        is_ours = claim.boot == own.boot and claim.rank in (Rank.SUSPECT, Rank.DOWN) and own.rank is not Rank.LEFT
        refutation = (claim.boot, claim.inc + self._guards.refutation_raises)
        if not is_ours or claim.inc < own.inc or refutation <= self._refuted:
            return []
        self._refuted = refutation
        self._health.worsen()
        return [Refute(refutation[1])]
