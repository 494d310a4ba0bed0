"""The failure detector, event by event."""

from dataclasses import replace
from random import Random

import pytest

from clusterkit.core import probes as probes_module
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
    SignOfLife,
    TellRefused,
    Tick,
    Unwatch,
    Watch,
)
from clusterkit.core.liveness_timers import LivenessSafeguards, Timers
from clusterkit.core.ring_entry import Claim, Rank

ALIVE, SUSPECT, DOWN, LEFT = Rank


def claim(rank: Rank = ALIVE, *, boot: int = 7, inc: int = 0) -> Claim:
    return Claim(boot, inc, rank, ready=True)


BY_HAND = Timers(probe_interval=100.0)
"""Nobody is probed but by events."""


class Member:
    """A detector of "me" and of others that are all alive at boot 7, its claims, and its clock."""

    def __init__(self, others: str = "b", timers: Timers = BY_HAND, **off: bool) -> None:
        self.claims = {name: claim() for name in ("me", *others)}
        self.liveness = Liveness("me", self, Random(1), timers, replace(LivenessSafeguards(), **off))
        self.now = 1.0
        for name in others:
            self.take(Watch(name))

    def claim(self, name: str) -> Claim:
        return self.claims[name]

    def take(self, event: Event, after: float = 0.0) -> list[Effect]:
        """Take an event, and store what is claimed; time stands still but for ``after``."""
        self.now += after
        effects = self.liveness.step(event, self.now)
        for effect in effects:
            if isinstance(effect, Accuse):
                self.believe(effect.name, effect.claim)
        return effects

    def believe(self, name: str, what: Claim) -> list[Effect]:
        self.claims[name] = what
        return self.take(Believed(name))

    def pass_time(self, seconds: float) -> list[Effect]:
        """Tick in time, at each deadline."""
        end, effects = self.now + seconds, []
        while (deadline := self.liveness.next_deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            effects += self.take(Tick())
        self.now = end
        return effects

    def probe(self, target: str = "b") -> Probe:
        """Have it probe a member."""
        (probe,) = self.take(AskedToProbe(target))
        assert isinstance(probe, Probe)
        return probe

    def suspected(self, name: str = "b") -> list[Effect]:
        """Have its probe of a member fail."""
        self.probe(name)
        effects = of(Accuse, self.pass_time(0.75))
        assert Accuse(name, claim(SUSPECT), push=True) in effects
        return effects


def of(kind: type[Effect], effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def place(target: str, others: str) -> int:
    """When it is our turn to speak about one of the others."""
    return Member(others).liveness._witnesses.turn("me", target)[0]


# -- probes ----------------------------------------------------------------------------------


def test_alone_it_has_nothing_to_do() -> None:
    member = Member("")
    assert member.liveness.next_deadline is None
    assert member.take(Tick()) == []
    assert member.liveness.next_deadline is None


def test_members_are_probed_in_turn() -> None:
    member = Member("bcd", timers=Timers())
    seen = []
    for _ in range(3):
        deadline = member.liveness.next_deadline
        assert deadline is not None
        assert deadline <= member.now + 0.5
        (probe,) = member.pass_time(deadline - member.now)
        assert isinstance(probe, Probe)
        seen.append(probe.to)
        assert member.take(Answered(probe.number, probe.to), after=0.001) == []
    assert sorted(seen) == ["b", "c", "d"]


def test_who_does_not_answer_is_asked_through_three_others_and_then_accused() -> None:
    member = Member("bcdef")
    member.probe()
    asked = of(AskProbe, member.pass_time(0.301))
    helpers = {each.via for each in asked if isinstance(each, AskProbe) and each.target == "b"}
    assert len(helpers) == 3
    assert "b" not in helpers
    effects = member.pass_time(0.401)
    assert of(Accuse, effects) == [Accuse("b", claim(SUSPECT), push=True)]
    assert {each.via for each in effects if isinstance(each, AskToProbe)} == {*"cdef"}


def test_a_late_answer_is_an_answer_but_no_sign_of_health() -> None:
    member = Member("bc")
    member.take(AccusedMe(claim(SUSPECT)))
    probe = member.probe()
    member.pass_time(0.9)
    member.take(Answered(probe.number, "b"))
    assert of(Accuse, member.pass_time(1.0)) == []
    assert member.liveness.health == 1


def test_an_answer_through_a_helper_is_as_good() -> None:
    member = Member("bc")
    probe = member.probe()
    member.pass_time(0.301)
    assert member.take(IndirectAnswered(probe.number, "x", ok=True)) == []
    assert member.take(IndirectAnswered(99, "c", ok=True)) == []
    assert member.take(IndirectAnswered(probe.number, "c", ok=True)) == []
    assert of(Accuse, member.pass_time(0.4)) == []


def test_only_those_believed_alive_are_asked() -> None:
    member = Member("bcde")
    member.believe("c", claim(DOWN))
    member.believe("d", claim(SUSPECT))
    probe = member.probe()
    assert member.pass_time(0.301) == [AskProbe("e", "b", probe.number)]


def test_one_probe_at_a_time_for_a_member() -> None:
    member = Member()
    member.probe()
    assert member.take(AskedToProbe("b")) == []
    assert member.take(LinkLost("b")) == []


def test_a_lost_link_is_probed_at_once() -> None:
    member = Member()
    assert member.take(LinkLost("b")) == [Probe("b", 1)]
    assert member.take(LinkLost("x")) == []


def test_what_a_probe_before_a_refutation_found_is_void_after_it() -> None:
    for guarded in (True, False):
        member = Member(stale_probes=guarded)
        member.probe()
        member.pass_time(0.35)
        member.believe("b", claim(inc=1))
        accused = of(Accuse, member.pass_time(0.4))
        assert accused == ([] if guarded else [Accuse("b", claim(SUSPECT, inc=1), push=True)])


def test_an_unknown_answer_is_nothing() -> None:
    member = Member()
    assert member.take(Answered(99, "b")) == []


# -- probes for others -----------------------------------------------------------------------


def test_it_probes_for_another_and_says_yes() -> None:
    member = Member("bc")
    assert member.take(ProbeRequested(5, "c", "b")) == [Probe("b", 1)]
    assert member.take(Answered(1, "b")) == [AnswerProbe("c", 5, "b", ok=True)]


def test_it_probes_for_another_and_says_no_in_time() -> None:
    member = Member("bc")
    member.take(ProbeRequested(5, "c", "b"))
    assert member.pass_time(0.31) == [AnswerProbe("c", 5, "b", ok=False)]


def test_who_is_no_member_is_not_probed_and_who_asks_of_me_hears_me() -> None:
    member = Member("bc")
    assert member.take(ProbeRequested(5, "c", "x")) == [AnswerProbe("c", 5, "x", ok=False)]
    assert member.take(ProbeRequested(6, "c", "me")) == [AnswerProbe("c", 6, "me", ok=True)]


def test_there_is_a_bound_on_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_module, "_MOST", 1)
    member = Member("bc")
    member.take(ProbeRequested(5, "c", "b"))
    assert member.take(ProbeRequested(6, "c", "b")) == [AnswerProbe("c", 6, "b", ok=False)]
    assert member.take(AskedToProbe("b")) == []


# -- suspicion -------------------------------------------------------------------------------


def test_with_nobody_else_a_suspicion_ends_after_the_shortest_time() -> None:
    member = Member()
    member.suspected()
    assert of(Accuse, member.pass_time(2.3)) == []
    assert of(Accuse, member.pass_time(0.3)) == [Accuse("b", claim(DOWN), push=True)]


def test_unconfirmed_it_takes_the_longest_time() -> None:
    member = Member("bc")
    member.suspected()
    assert of(Accuse, member.pass_time(5.9)) == []
    assert of(Accuse, member.pass_time(0.2)) == [Accuse("b", claim(DOWN), push=True)]


def test_another_accuser_shortens_it_and_the_same_one_twice_does_not() -> None:
    member = Member("bc")
    member.suspected()
    for _ in range(2):
        member.take(Accused("b", claim(SUSPECT), by="me"))
    assert of(Accuse, member.pass_time(2.6)) == []
    member.take(Accused("b", claim(SUSPECT), by="c"))
    assert of(Accuse, member.pass_time(0.01)) == [Accuse("b", claim(DOWN), push=True)]


def test_the_accusation_of_others_runs_here_too_and_is_confirmed_once() -> None:
    member = Member("bcd")
    member.claims["b"] = claim(SUSPECT)
    member.take(Accused("b", claim(SUSPECT), by="c"))
    assert of(Accuse, member.suspected()) == [Accuse("b", claim(SUSPECT), push=True)]
    member.probe()
    assert of(Accuse, member.pass_time(0.75)) == []


def test_a_suspicion_that_is_confirmed_enough_is_confirmed_no_more() -> None:
    member = Member("bcdef")
    member.claims["b"] = claim(SUSPECT)
    for by in "cdef":
        member.take(Accused("b", claim(SUSPECT), by))
    member.probe()
    assert of(Accuse, member.pass_time(0.75)) == []


def test_a_refutation_ends_it() -> None:
    member = Member(timers=Timers())
    member.suspected()
    member.believe("b", claim(inc=1))
    for _ in range(10):  # b answers all that comes
        for probe in of(Probe, member.pass_time(0.5)):
            assert isinstance(probe, Probe)
            member.take(Answered(probe.number, "b"))
    assert member.claims["b"] == claim(inc=1)


def test_an_answer_since_then_begins_it_anew() -> None:
    for guarded, ends in ((True, []), (False, [Accuse("b", claim(DOWN), push=True)])):
        member = Member(proof_of_life=guarded)
        member.suspected()
        member.pass_time(2.0)
        member.take(Answered(member.probe().number, "b"))
        assert of(Accuse, member.pass_time(1.0)) == ends


def test_an_answer_to_what_was_asked_before_does_not() -> None:
    member = Member()
    probe = member.probe()
    member.believe("b", claim(SUSPECT))
    member.take(Answered(probe.number, "b"))
    assert of(Accuse, member.pass_time(2.6)) == [Accuse("b", claim(DOWN), push=True)]


def test_an_accusation_of_another_boot_or_number_is_nothing() -> None:
    member = Member("bc")
    for other in (claim(SUSPECT, boot=6), claim(SUSPECT, inc=1), claim(DOWN)):
        member.take(Accused("b", other, by="c"))
        member.take(Accused("x", other, by="c"))
    assert member.claims["b"].rank is ALIVE


def test_most_observers_leave_the_verdict_to_a_few() -> None:
    names = "abcdefghijklmnop"
    targets = {place(name, names) < 5: name for name in names}
    taken = {}
    for is_teller, target in targets.items():
        member = Member(names)
        member.believe(target, claim(SUSPECT))
        for by in [each for each in names if each != target][:4]:
            member.take(Accused(target, claim(SUSPECT), by))
        taken[is_teller] = [bool(of(Accuse, member.pass_time(seconds))) for seconds in (2.51, 0.24, 0.26)]
    assert taken == {True: [True, False, False], False: [False, False, True]}


def test_without_the_others_a_failed_probe_is_a_verdict() -> None:
    member = Member(suspicion=False, indirect_probes=False)
    member.probe()
    assert of(Accuse, member.pass_time(0.75)) == [Accuse("b", claim(DOWN), push=True)]


def test_confirmations_can_be_off() -> None:
    member = Member("bcd", confirmations=False)
    member.suspected()
    assert of(Accuse, member.pass_time(2.6)) == [Accuse("b", claim(DOWN), push=True)]


# -- who is down -----------------------------------------------------------------------------


def test_one_that_is_down_is_probed_in_turn_only_while_its_link_is_open() -> None:
    member = Member(timers=Timers())
    member.believe("b", claim(DOWN))
    assert member.pass_time(2.0) == []
    assert member.take(LinkOpened("b")) == [Probe("b", 1)]
    assert {type(effect) for effect in member.pass_time(4.0)} == {Probe}
    member.take(LinkLost("b"))
    member.pass_time(1.0)
    assert member.pass_time(2.0) == []


def test_one_that_left_is_let_be() -> None:
    member = Member(timers=Timers())
    member.take(LinkOpened("b"))
    member.believe("b", claim(LEFT))
    assert member.take(AskedToProbe("b")) == []
    assert member.pass_time(2.0) == []


def test_a_verdict_of_others_ends_our_own_efforts() -> None:
    member = Member("bc")
    member.probe()
    member.believe("b", claim(DOWN))
    assert AskProbe("c", "b", 1) not in member.pass_time(0.4)


def test_one_that_goes_out_is_of_no_interest() -> None:
    member = Member()
    member.suspected()
    member.probe()
    member.take(Unwatch("b"))
    member.take(Unwatch("b"))
    assert member.liveness.next_deadline is None
    assert member.take(Believed("b")) == []


def test_one_that_comes_in_suspected_is_on_trial_at_once() -> None:
    member = Member("")
    member.claims["b"] = claim(SUSPECT)
    member.take(Watch("b"))
    assert Accuse("b", claim(DOWN), push=True) in member.pass_time(2.6)


# -- refused dials ---------------------------------------------------------------------------


def test_alone_with_it_one_refused_dial_is_proof() -> None:
    assert Member().take(DialRefused("b", 7)) == [Accuse("b", claim(DOWN), push=True)]


def test_with_others_it_takes_a_second_observer() -> None:
    member = Member("bc")
    assert member.take(DialRefused("b", 7)) == [TellRefused("b", 7)]
    assert member.take(DialRefused("b", 7), after=0.1) == [], "once is enough"
    assert member.take(RefusedElsewhere("b", 7, by="c"), after=0.1) == [Accuse("b", claim(DOWN), push=True)]


def test_it_may_be_off() -> None:
    member = Member("bc", second_observer=False)
    assert member.take(DialRefused("b", 7)) == [Accuse("b", claim(DOWN), push=True)]


def test_two_refusals_far_apart_are_no_proof() -> None:
    for guarded, found in ((True, []), (False, [Accuse("b", claim(DOWN), push=True)])):
        member = Member("bc", refusal_window=guarded)
        member.take(DialRefused("b", 7))
        assert member.take(RefusedElsewhere("b", 7, by="c"), after=1.1) == found


def test_two_others_are_proof_too() -> None:
    member = Member("bcd")
    assert member.take(RefusedElsewhere("b", 7, by="c")) == []
    assert member.take(RefusedElsewhere("b", 7, by="d")) == [Accuse("b", claim(DOWN), push=True)]


def test_a_refusal_of_another_boot_or_of_one_that_is_down_is_nothing() -> None:
    member = Member("bcd")
    member.take(DialRefused("b", 7))
    member.believe("b", claim(boot=8))
    assert member.take(RefusedElsewhere("b", 7, by="c")) == []
    assert member.take(DialRefused("b", 7)) == []
    assert member.take(DialRefused("x", 7)) == []
    member.believe("b", claim(DOWN, boot=8))
    assert member.take(DialRefused("b", 8)) == []


def test_boots_can_be_off() -> None:
    member = Member("b", boots=False)
    assert member.take(DialRefused("b", 6)) == [Accuse("b", claim(DOWN), push=True)]


def test_a_link_takes_our_refusal_back() -> None:
    member = Member("bc")
    member.take(DialRefused("b", 7))
    member.take(LinkOpened("b"))
    assert member.take(RefusedElsewhere("b", 7, by="c")) == []


def test_when_all_refuse_the_last_one_settles_the_first() -> None:
    member = Member("bc")
    assert member.take(DialRefused("b", 7)) == [TellRefused("b", 7)]
    downs = [Accuse(name, claim(DOWN), push=True) for name in "bc"]
    assert member.take(DialRefused("c", 7)) == downs


def test_most_observers_tell_only_when_nobody_did() -> None:
    names = "abcdefghijklmnop"
    target = next(name for name in names if place(name, names) >= 5)
    member = Member(names)
    assert member.take(DialRefused(target, 7)) == []
    assert member.pass_time(0.24) == []
    assert of(TellRefused, member.pass_time(0.3)) == [TellRefused(target, 7)]
    assert member.take(RefusedElsewhere(target, 7, by="a" if target != "a" else "b")) == [
        Accuse(target, claim(DOWN), push=False)
    ]


def test_tellers_can_be_off() -> None:
    names = "abcdefghijklmnop"
    member = Member(names, tellers=False)
    assert all(member.take(DialRefused(name, 7)) == [TellRefused(name, 7)] for name in names[:-1])


# -- accused ---------------------------------------------------------------------------------


def test_an_accusation_is_refuted_once_with_a_higher_number() -> None:
    member = Member()
    assert member.take(AccusedMe(claim(SUSPECT))) == [Refute(1)]
    assert member.liveness.health == 1
    assert member.take(Accused("me", claim(DOWN), by="b")) == []
    member.claims["me"] = claim(inc=1)
    assert member.take(AccusedMe(claim(DOWN))) == []
    assert member.take(AccusedMe(claim(DOWN, inc=1))) == [Refute(2)]
    assert member.believe("me", claim(SUSPECT, inc=4)) == [Refute(5)]


@pytest.mark.parametrize("other", [claim(), claim(LEFT), claim(SUSPECT, boot=6), claim(DOWN, boot=8)])
def test_what_is_no_accusation_of_this_run_is_not_refuted(other: Claim) -> None:
    assert Member().take(AccusedMe(other)) == []


def test_leaving_is_final() -> None:
    member = Member()
    member.claims["me"] = claim(LEFT)
    assert member.take(AccusedMe(claim(SUSPECT))) == []


def test_a_refutation_that_raises_nothing_can_be_planted() -> None:
    member = Member(refutation_raises=False)
    assert member.take(AccusedMe(claim(SUSPECT, inc=3))) == [Refute(3)]


# -- our own trouble -------------------------------------------------------------------------


def late(member: Member, seconds: float, event: Event | None = None) -> list[Effect]:
    """Come so many seconds after the deadline."""
    deadline = member.liveness.next_deadline
    assert deadline is not None
    return member.take(event or Tick(), after=deadline + seconds - member.now)


@pytest.mark.parametrize("event", [Tick(), LinkOpened("c")])
def test_a_probe_during_which_our_loop_stood_still_is_void(event: Event) -> None:
    member = Member("bc")
    member.probe()
    late(member, 0.2, event)
    assert member.liveness.health == 1
    assert member.pass_time(2.0) == []


def test_a_little_late_it_judges_when_the_sockets_are_read() -> None:
    member = Member("bc")
    probe = member.probe()
    member.pass_time(0.25)
    assert late(member, 0.06) == [], "due, but there may be an answer"
    assert member.liveness.health == 1
    assert member.pass_time(0.06) == [AskProbe("c", "b", probe.number)]


def test_late_with_no_probe_under_way_is_no_trouble() -> None:
    member = Member()
    late(member, 0.1)
    assert member.liveness.health == 0


def test_a_verdict_that_a_late_confirmation_makes_overdue_is_no_lag() -> None:
    member = Member("bc")
    member.suspected()
    member.pass_time(5.0)
    member.take(Accused("b", claim(SUSPECT), by="c"))
    assert of(Accuse, member.pass_time(0.001)) == [Accuse("b", claim(DOWN), push=True)]
    assert member.liveness.health == 1  # of the helper that said nothing


def test_after_a_stall_it_judges_nobody_for_a_while() -> None:
    member = Member("bc")
    member.believe("b", claim(SUSPECT))
    member.take(Accused("b", claim(SUSPECT), by="c"))
    member.take(Accused("b", claim(SUSPECT), by="d"))
    assert late(member, 3.0) == []
    assert member.take(DialRefused("b", 7)) == []
    member.take(RefusedElsewhere("b", 7, by="d"))
    assert member.take(RefusedElsewhere("b", 7, by="c")) == []
    member.probe()
    assert of(Accuse, member.pass_time(2.4)) == []
    assert of(Accuse, member.pass_time(4.0)) == [Accuse("b", claim(DOWN), push=True)]


def test_short_suspicions_of_others_wait_for_the_end_of_our_silence() -> None:
    member = Member("b")
    late(member, 3.0)
    member.believe("b", claim(SUSPECT))
    assert of(Accuse, member.pass_time(2.45)) == []


def test_helpers_that_are_well_and_say_nothing_are_a_sign_of_our_own_trouble() -> None:
    for answer, health in ((False, 0), (None, 1)):
        member = Member("bc")
        probe = member.probe()
        member.pass_time(0.301)
        if answer is not None:
            member.take(IndirectAnswered(probe.number, "c", ok=answer))
        member.pass_time(0.401)
        assert member.liveness.health == health


def test_good_probes_mend_it() -> None:
    member = Member()
    member.take(AccusedMe(claim(SUSPECT)))
    member.take(Answered(member.probe().number, "b"))
    assert member.liveness.health == 0


def test_in_bad_health_everything_takes_longer() -> None:
    member = Member("bc")
    for inc in range(3):
        member.take(AccusedMe(claim(SUSPECT, inc=inc)))
    member.probe()
    assert member.pass_time(1.1) == []
    assert of(AskProbe, member.pass_time(0.2)) == [AskProbe("c", "b", 1)]


# -- signs of life


def test_any_record_answers_a_probe_that_it_came_after() -> None:
    member = Member("bc")
    [probe] = member.take(AskedToProbe("b"))
    assert (probe, member.liveness.awaited) == (Probe("b", 1), ["b"])
    assert member.take(SignOfLife("b", member.now)) == []  # it may have been under way
    assert member.liveness.awaited == ["b"]
    assert member.take(SignOfLife("c", member.now + 0.1), after=0.2) == []
    member.take(SignOfLife("b", member.now - 0.1))
    assert member.liveness.awaited == []
    assert member.pass_time(10.0) == []


def test_a_suspicion_lasts_as_long_as_nothing_comes() -> None:
    member = Member("b")
    member.take(AskedToProbe("b"))
    member.pass_time(1.0)
    ranks = [member.claims["b"].rank]
    assert member.liveness.awaited == ["b"]
    for _ in range(5):
        member.pass_time(1.0)
        member.take(SignOfLife("b", member.now - 0.5))
        member.take(SignOfLife("b", member.now - 0.5))  # no news: the suspicion began after it
    ranks.append(member.claims["b"].rank)
    member.pass_time(2.6)
    assert [*ranks, member.claims["b"].rank] == [Rank.SUSPECT, Rank.SUSPECT, Rank.DOWN]


def test_who_opens_a_link_is_alive_whatever_was_suspected_before() -> None:
    member = Member("b")
    member.take(AskedToProbe("b"))
    member.pass_time(1.0)
    assert member.claims["b"].rank is Rank.SUSPECT
    member.pass_time(2.0)
    member.take(LinkOpened("b"))  # and its refutation comes later
    member.take(LinkLost("b"))
    ranks = []
    for seconds in (2.4, 1.0):
        member.pass_time(seconds)
        ranks.append(member.claims["b"].rank)
    assert ranks == [Rank.SUSPECT, Rank.DOWN]  # it would be down earlier
