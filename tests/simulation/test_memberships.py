"""The whole membership under faults: safe at every moment, one view when the faults are over, and then silence.

`membership_scenarios` and `membership_comings` have what befalls the members, `memberships` what must hold. In
every run 200 seeds; ``-m long`` adds 2,000. A seed that fails is named with the command that plays it again.
"""

import os
from collections.abc import Callable, Iterable

import pytest

from clusterkit.core import liveness as detector
from clusterkit.core import members, ring_state
from clusterkit.core import membership as machine
from clusterkit.core.agreement import Agreement
from clusterkit.core.liveness import Liveness
from clusterkit.core.liveness_timers import LivenessSafeguards
from clusterkit.core.members import Member, MemberEvent, MemberJoined, State
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import Renew
from clusterkit.core.repair import Repair
from clusterkit.core.ring_frames import Change, Safeguards
from clusterkit.core.ring_state import RingState
from tests.simulation import membership_comings as comings
from tests.simulation import membership_scenarios as scenarios
from tests.simulation.membership_comings import COMINGS
from tests.simulation.membership_scenarios import FAULTS, Scenario
from tests.simulation.memberships import Memberships

SCENARIOS = (*FAULTS, *COMINGS)
EVERY_RUN = 200
LONG = 2_000
Plant = Callable[[pytest.MonkeyPatch], None]


def play(seed: int) -> list[str]:
    """Play one seed: each is a scenario, and all that chance decides in it."""
    return SCENARIOS[seed % len(SCENARIOS)](seed)


def replay(seed: int) -> str:
    scenario = SCENARIOS[seed % len(SCENARIOS)].__name__
    return f"MEMBERSHIP_SEED={seed} python -m pytest tests/simulation/test_memberships.py -k this_seed  # {scenario}"


def assert_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        wrong = play(seed)
        assert not wrong, "\n".join([f"seed {seed}; play it again: {replay(seed)}", *wrong[:10]])


@pytest.mark.parametrize("part", range(4))
def test_members_under_faults(part: int) -> None:
    assert_all(range(part * EVERY_RUN // 4, (part + 1) * EVERY_RUN // 4))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
def test_members_under_faults_with_many_seeds(part: int) -> None:
    assert_all(range(part * LONG // 4, (part + 1) * LONG // 4))


def test_this_seed() -> None:
    assert_all([int(os.environ.get("MEMBERSHIP_SEED", "0"))])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_thousand_boots_of_one_node_leave_one_entry_in_the_clocks() -> None:
    assert comings.many_boots(1, boots=1_000) == []


def test_one_seed_is_one_run() -> None:
    def story(seed: int) -> list[str]:
        told: list[str] = []
        world = scenarios.a_cluster(seed)
        world.on_send = lambda process, to, message: told.append(f"{world.net.now} {process} {to} {message}")
        scenarios.changes(world, 5.0)
        return told

    assert story(5) == story(5)
    assert story(5) != story(6)


# -- each safeguard is needed ------------------------------------------------------------


def news_of_joiners_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who lets a node in tells nobody."""

    def learn(self: Membership, name: str, change: Change) -> bool:
        self.ring.deliver(change, self._wall())
        return False

    monkeypatch.setattr(Membership, "_learn", learn)


def what_waits_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a change that came before what it depends on waits until probes show a difference."""
    monkeypatch.setattr(Repair, "parked", lambda *_: None)


def digests_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: probes are probes and nothing else."""
    monkeypatch.setattr(Agreement, "compare", lambda *_: None)


def closed_boots_get_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what a removed member says is dropped without a word."""
    monkeypatch.setattr(Membership, "_heard_closed", lambda *_: None)


def goodbye_comes_before_the_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who is removed is parted from, and not told why."""
    follow = Membership._follow

    def follow_silently(self: Membership, name: str, before: Member | None, after: Member | None) -> None:
        boot = self._open.pop(name, None) if after is None else None
        follow(self, name, before, after)
        if boot is not None:
            self._open[name] = boot

    monkeypatch.setattr(Membership, "_follow", follow_silently)


def nothing_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who is accused does not answer."""
    monkeypatch.setattr(Liveness, "_accused_me", lambda *_: [])


def nothing_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the counts of earlier boots stay for ever."""
    monkeypatch.setattr(RingState, "retire", lambda *_: None)


def a_stale_file_outbids_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who finds its file to be stale goes on under the boot that it has."""
    monkeypatch.setattr(machine, "Renew", lambda _: Renew(0))


def an_accusation_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who does not answer a probe is down, and has no time to refute."""
    monkeypatch.setattr(detector, "LivenessSafeguards", lambda: LivenessSafeguards(suspicion=False))


def nobody_is_introduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: users are told that a member is up, and not that it joined."""
    tell = members.changes

    def tell_less(before: Member | None, after: Member | None) -> list[MemberEvent]:
        return [event for event in tell(before, after) if not isinstance(event, MemberJoined)]

    monkeypatch.setattr(machine, "changes", tell_less)


def removals_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a fence deletes nothing."""
    monkeypatch.setattr(ring_state, "_SAFE", Safeguards(fences=False, closed_boots=False))
    init = RingState.__init__
    monkeypatch.setattr(RingState, "__init__", lambda self, me: init(self, me, safeguards=ring_state._SAFE))


@pytest.mark.parametrize(
    ("plant", "scenario", "sentence"),
    [
        (news_of_joiners_stays, scenarios.one_that_reaches_only_its_seed, "has not heard of"),
        (what_waits_is_not_asked_for, scenarios.news_comes_out_of_order, "still waits for a change"),
        (digests_are_not_compared, scenarios.one_way_loss, "has other digests"),
        (closed_boots_get_no_answer, scenarios.removed_while_cut_off, "does not know it"),
        (goodbye_comes_before_the_removal, comings.removed_and_inserted_again, "down: "),
        (nothing_is_refuted, scenarios.split_with_changes, "sees Member"),
        (nothing_is_retired, comings.many_boots, "clock: "),
        (a_stale_file_outbids_nobody, comings.many_boots, "down: "),
        (an_accusation_is_a_verdict, scenarios.loops_stall, "down: "),
        (nobody_is_introduced, scenarios.half_join_at_once, "event "),
        (removals_are_not_noticed, scenarios.split_with_changes, "below its fence"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, scenario: Scenario, sentence: str
) -> None:
    plant(monkeypatch)
    assert any(sentence in each for seed in range(200) for each in scenario(seed))


# -- how long it takes -------------------------------------------------------------------


def a_ring_of(count: int, seed: int) -> Memberships:
    world = Memberships(seed)
    world.start("n00")
    for number in range(1, count):
        world.start(f"n{number:02}", world.some())
        world.run(0.02)
    world.run(2.0)
    return world


def until_all_believe(world: Memberships, state: State, names: set[str]) -> float:
    """Let time pass until all members that take part believe that of these; how much that was."""
    begun = world.net.now
    while not all(all(each.membership.members[name].state is state for name in names) for each in world.members):
        world.net.run(0.005)
        assert world.net.now < begun + 30.0
    return world.net.now - begun


@pytest.mark.parametrize("count", [2, 3, 8, 32])
def test_a_killed_member_is_down_at_once(count: int) -> None:
    world = a_ring_of(count, seed=count)
    killed = world.crash(world.chance.choice(world.members))
    assert until_all_believe(world, State.DOWN, {killed.me.name}) <= 0.05


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("count", [8, 16])
def test_all_are_alive_again_two_seconds_after_a_split_of_a_minute(count: int, silent: bool) -> None:
    world = a_ring_of(count, seed=count)
    world.split(world.members[: count // 2], world.members[count // 2 :], silent=silent)
    world.run(60.0)
    world.heal()
    assert until_all_believe(world, State.ALIVE, {each.me.name for each in world.members}) <= 2.0


def test_who_starts_again_elsewhere_is_in_at_once() -> None:
    world = a_ring_of(8, seed=1)
    killed = world.crash(world.members[3])
    again = world.again(killed, moves=True)
    world.net.run(0.3)
    assert all(each.membership.members[again.me.name].node == again.me for each in world.members)
