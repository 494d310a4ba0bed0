"""Whatever happens to a failure detector, in whatever order and however late: whom it may accuse, and when."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

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
    Unwatch,
    Watch,
)
from clusterkit.core.liveness_timers import LivenessSafeguards, Timers
from clusterkit.core.ring_entry import Claim, Rank

TIMERS = Timers()
names = st.sampled_from("bcde")
"""Other members; "x" is none."""
someone = st.sampled_from("bcdex")
small = st.integers(0, 3)
ranks = st.sampled_from(Rank)


class AnyOrder(RuleBasedStateMachine):
    """A detector, its claims, and what a witness of all events would say of its accusations."""

    guards = LivenessSafeguards()

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        self.now = 10.0
        self.claims = {name: Claim(1, 0, Rank.ALIVE, ready=True) for name in ("me", *"bcdex")}
        self.liveness = Liveness("me", self, Random(seed), TIMERS, self.guards)
        self.watched: set[str] = set()
        self.alive: set[str] = set()
        self.probed: dict[int, tuple[str, float]] = {}
        self.tried: dict[tuple[str, int, int], float] = {}  # since when a member is suspected at its (boot, inc)
        self.refused: dict[tuple[str, int], dict[str, float]] = {}
        self.quiet_until = self.stepped_at = 0.0
        self.refuted: set[int] = set()

    def claim(self, name: str) -> Claim:
        return self.claims[name]

    # -- what happens -----------------------------------------------------------------------

    def take(self, event: Event) -> None:
        deadline = self.liveness.next_deadline
        if deadline is not None and self.now - deadline > TIMERS.stall:
            self.quiet_until = self.now + TIMERS.quiet
        self.alive = {name for name in self.watched if self.claims[name].rank is Rank.ALIVE}
        for effect in self.liveness.step(event, self.now):
            self.check(effect)
        self.stepped_at = self.now

    def store(self, name: str, claim: Claim) -> None:
        if claim[:3] > self.claims[name][:3]:
            self.claims[name] = claim
            if claim.rank is Rank.SUSPECT:
                self.tried.setdefault((name, claim.boot, claim.inc), self.now)

    @rule(name=names)
    def watch(self, name: str) -> None:
        self.watched.add(name)
        self.take(Watch(name))

    @rule(name=someone)
    def unwatch(self, name: str) -> None:
        self.watched.discard(name)
        self.take(Unwatch(name))

    @rule(name=someone, opened=st.booleans())
    def link(self, name: str, opened: bool) -> None:
        self.take(LinkOpened(name) if opened else LinkLost(name))

    @rule(name=someone, boot=small)
    def dial_refused(self, name: str, boot: int) -> None:
        self.refused.setdefault((name, boot), {})["me"] = self.now
        self.take(DialRefused(name, boot))

    @rule(name=someone, boot=small, by=names)
    def refused_elsewhere(self, name: str, boot: int, by: str) -> None:
        self.refused.setdefault((name, boot), {})[by] = self.now
        self.take(RefusedElsewhere(name, boot, by))

    @rule(name=someone, boot=small, inc=small, rank=ranks, by=names)
    def claimed(self, name: str, boot: int, inc: int, rank: Rank, by: str) -> None:
        claim = Claim(boot, inc, rank, ready=True)
        self.store(name, claim)
        self.take(Believed(name))
        if rank in (Rank.SUSPECT, Rank.DOWN):
            self.take(Accused(name, claim, by))

    @rule(boot=small, inc=small, rank=ranks)
    def accused_me(self, boot: int, inc: int, rank: Rank) -> None:
        self.take(AccusedMe(Claim(boot, inc, rank, ready=True)))

    @rule(name=someone, by=names, number=small)
    def asked(self, name: str, by: str, number: int) -> None:
        self.take(ProbeRequested(number, by, name))
        self.take(AskedToProbe(name))

    @precondition(lambda self: self.probed)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.probed)))
        self.take(Answered(number, self.probed[number][0]))

    @rule(number=st.integers(1, 30), via=names, ok=st.booleans())
    def indirectly(self, number: int, via: str, ok: bool) -> None:
        self.take(IndirectAnswered(number, via, ok))

    @rule(seconds=st.sampled_from([0.05, 0.3, 0.7, 2.5, 6.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.liveness.next_deadline) is not None and deadline <= end:
            self.now = deadline
            self.take(Tick())
        self.now = max(self.now, end)

    @rule(seconds=st.sampled_from([0.01, 0.04, 0.1, 0.3, 0.9, 1.5, 5.0]))
    def stand_still(self, seconds: float) -> None:
        self.now += seconds
        self.take(Tick())

    # -- what is asked of it ----------------------------------------------------------------

    def check(self, effect: Effect) -> None:
        match effect:
            case Probe(to=to, number=number):
                assert to in self.watched
                assert number not in self.probed
                self.probed[number] = to, self.now
            case AskProbe(via=via, target=target, number=number):
                assert self.probed[number][0] == target
                self.check_helper(via, target)
            case AskToProbe(via=via, target=target):
                self.check_helper(via, target)
            case AnswerProbe(to=to):
                assert to in "bcde"
            case TellRefused(name=name, boot=boot):
                assert "me" in self.refused[name, boot]
            case Refute(inc=inc):
                assert inc not in self.refuted
                assert inc > self.claims["me"].inc
                self.refuted.add(inc)
                self.claims["me"] = Claim(self.claims["me"].boot, inc, Rank.ALIVE, ready=True)
            case Accuse(name=name, claim=claim):
                self.check_accusation(name, claim)
                self.store(name, claim)

    def check_helper(self, via: str, target: str) -> None:
        assert via in self.alive - {target}, "or was, when this step began"

    def check_accusation(self, name: str, claim: Claim) -> None:
        stored = self.claims[name]
        assert name in self.watched
        assert self.now >= self.quiet_until, "after a stall of our own"
        assert stored.rank < Rank.DOWN
        assert (claim.boot, claim.inc, claim.ready) == (stored.boot, stored.inc, stored.ready)
        least = TIMERS.probe_timeout + TIMERS.indirect_timeout
        if claim.rank is Rank.SUSPECT:
            assert any(to == name and self.now - sent >= least - 1e-9 for to, sent in self.probed.values())
        else:
            tried = self.tried.get((name, claim.boot, claim.inc), self.now)
            assert self.is_refused(name, claim.boot) or self.now - tried >= TIMERS.suspicion_least - 1e-9

    def is_refused(self, name: str, boot: int) -> bool:
        """By two; or by one, if no other is believed alive, or all those refused us as well."""
        by = [by for by, at in self.refused.get((name, boot), {}).items() if self.now - at <= TIMERS.refused_window]
        others = self.alive - {name}
        refused_us = {other for other, boot in self.refused if self.has_refused_us(other, boot)}
        return len(by) >= 2 or (len(by) == 1 and others <= refused_us)

    def has_refused_us(self, other: str, boot: int) -> bool:
        at = self.refused[other, boot].get("me")
        return at is not None and self.now - at <= TIMERS.refused_window

    @invariant()
    def its_deadline_is_to_come(self) -> None:
        deadline = self.liveness.next_deadline
        assert deadline is None or deadline >= self.stepped_at

    @invariant()
    def its_health_is_in_bounds(self) -> None:
        assert 0 <= self.liveness.health <= 8


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize("safeguard", ["suspicion", "refutation_raises", "stall_protection", "second_observer"])
def test_the_machine_without_it_is_found(safeguard: str) -> None:
    off = type("Off", (AnyOrder,), {"guards": replace(LivenessSafeguards(), **{safeguard: False})})
    wide = settings(max_examples=1000, stateful_step_count=60, deadline=None, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(off, settings=wide)


class Claims(dict[str, Claim]):
    def claim(self, name: str) -> Claim:
        return self[name]


@settings(deadline=None)
@given(count=st.integers(1, 20), seed=st.integers(0, 1 << 30), after=st.floats(0.0, 5.0))
def test_a_member_that_falls_silent_is_down_in_bounded_time_and_nobody_else_is(
    count: int, seed: int, after: float
) -> None:
    """Alone, without any other's confirmation; the others answer all."""
    others = [f"n{number}" for number in range(count)]
    claims = Claims({name: Claim(1, 0, Rank.ALIVE, ready=True) for name in ("me", *others)})
    liveness = Liveness("me", claims, Random(seed))
    for name in others:
        liveness.step(Watch(name), 0.0)
    down: dict[str, float] = {}
    now, silent = 0.0, others[0]
    longest = after + 2 * 0.5 * count + 0.7 + 6.0 + 1.0  # its turn, the probe, the suspicion, leaving it to others
    while now <= longest + 1.0:
        effects = liveness.step(Tick(), now)
        while effects:
            events: list[Event] = []
            for effect in effects:
                match effect:
                    case Probe(to=to, number=number) if to != silent or now < after:
                        events.append(Answered(number, to))
                    case AskProbe(via=via, number=number):
                        events.append(IndirectAnswered(number, via, ok=False))
                    case Accuse(name=name, claim=claim):
                        claims[name] = claim
                        events.append(Believed(name))
                        if claim.rank is Rank.DOWN:
                            down[name] = now
            effects = [answer for event in events for answer in liveness.step(event, now)]
        deadline = liveness.next_deadline
        if deadline is None:
            break
        now = deadline
    assert list(down) == [silent]
    assert after + 2.5 <= down[silent] <= longest


@given(seed=st.integers(0, 1 << 30), members=st.integers(1, 12), at=st.integers(0, 40))
def test_one_history_is_one_run(seed: int, members: int, at: int) -> None:
    def run() -> list[Effect]:
        claims = Claims({f"n{number}": Claim(1, 0, Rank.ALIVE, ready=True) for number in range(members)})
        liveness = Liveness("me", claims, Random(seed))
        effects = [effect for name in claims for effect in liveness.step(Watch(name), 0.0)]
        for step in range(at):
            effects += liveness.step(Tick(), 0.1 * step)
        return effects

    assert run() == run()
