"""The ring's state under all that can happen to it, by the thousand; and that every rule of it is needed.

The suite plays 2,000 seeds of `ring_model`, and 100,000 with
``pytest tests/simulation/test_ring_model.py -m long``. A seed that fails is replayed
by ``run(4711)`` of `ring_rest`.
"""

from collections.abc import Callable

import pytest

from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Delta, Safeguards
from clusterkit.core.ring_state import RingState
from tests.simulation import ring_mistakes
from tests.simulation.ring_mistakes import MISTAKES, SAFE, Plant
from tests.simulation.ring_rest import run, wrong_under

CHUNK = 500
NOW = 1_760_000_000.0


@pytest.mark.parametrize("first", range(0, 2_000, CHUNK))
def test_nothing_is_lost_and_nothing_comes_back(first: int) -> None:
    assert wrong_under(range(first, first + CHUNK)) == {}


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(0, 100_000, 10_000))
def test_nothing_is_lost_and_nothing_comes_back_in_a_hundred_thousand_runs(first: int) -> None:
    assert wrong_under(range(first, first + 10_000)) == {}


# -- rare ways to go wrong, which are played out by hand


def announced(name: str, boot: int, safeguards: Safeguards) -> RingState:
    made = RingState(Actor(name, boot), safeguards=safeguards)
    made.announce("10.0.0.1", 7022, b"", NOW)
    return made


def agree(*states: RingState) -> None:
    for one in (*states, *states):
        for two in states:
            one.merge(two.full(), NOW)


def began_anew(state: RingState, name: str, boot: int, safe: Safeguards) -> RingState:
    """A process comes back with this state: its own file, or a seed's."""
    made = RingState(Actor(name, boot), safeguards=safe)
    made.merge(state.full(), NOW)
    made.announce("10.0.0.1", 7022, b"", NOW)
    return made


def weight(state: RingState, name: str) -> int:
    entry = state.entry(name)
    return 0 if entry is None else entry.weight


def a_member_reports_another_state(safe: Safeguards) -> bool:
    """The old boot told one member alone of an insert; it reports, and its state is another."""
    a, b, c = announced("a", 7, safe), announced("b", 8, safe), announced("c", 9, safe)
    agree(a, b, c)
    change = a.insert("d", "10.0.0.4", 7022, NOW)
    a = began_anew(c, "a", 10, safe)
    agree(a, c)
    b.deliver(change, NOW)
    a.report("c", c.ring_digest)
    a.report("b", b.ring_digest)
    a.retire()
    agree(a, b, c)
    return all("d" in state for state in (a, b, c))


def a_member_returns_after_its_report(safe: Safeguards) -> bool:
    """All have reported; then one begins anew, from a state that has what only it knew, and is seen."""
    a, b, c = announced("a", 7, safe), announced("b", 8, safe), announced("c", 9, safe)
    agree(a, b, c)
    insert = a.insert("d", "10.0.0.4", 7022, NOW)
    aside = RingState(Actor("b", 20), safeguards=safe)  # the other island has the insert
    aside.merge(b.full(), NOW)
    aside.deliver(insert, NOW)
    a = began_anew(c, "a", 10, safe)
    agree(a, b, c)
    for member in (b, c):
        a.report(member.me.name, member.ring_digest)
    a.deliver(aside.announce("10.0.0.2", 7022, b"", NOW), NOW)
    a.retire()
    agree(a, aside, c)
    return all("d" in state for state in (a, aside, c))


def a_delta_over_a_retirement(safe: Safeguards) -> bool:
    """One that was away asks with its clock; meanwhile a boot has retired, of which it misses a change."""
    a, b, away = announced("a", 7, safe), announced("b", 8, safe), RingState(Actor("c", 9), safeguards=safe)
    agree(a, b, away)
    a.update("b", 5, NOW)
    agree(a, b)
    a = began_anew(a, "a", 10, safe)
    agree(a, b)
    a.report("b", b.ring_digest)
    assert a.retire() is not None
    answer = a.answer(away.clock())
    if isinstance(answer, Delta):
        away.apply(answer, NOW)
    else:
        away.merge(answer, NOW)
    return weight(away, "b") == 5


def a_floor_comes_without_what_it_retires(safe: Safeguards) -> bool:
    """A name is retired, removed, forgotten and inserted again; the insert reaches one that was away."""
    a, b, c = announced("a", 7, safe), announced("b", 8, safe), announced("c", 9, safe)
    away = RingState(Actor("e", 11), safeguards=safe)
    agree(b, c, away)
    agree(a, b, c)
    a.update("b", 5, NOW)
    a = began_anew(a, "a", 10, safe)
    agree(a, b, c)
    for member in (b, c):
        a.report(member.me.name, member.ring_digest)
    assert a.retire() is not None
    b.merge(a.full(), NOW)
    b.remove("a")
    c.merge(b.full(), NOW)
    c.forget_removals()
    away.deliver(c.insert("a", "10.0.0.1", 7022, NOW), NOW)
    agree(away, b, c)
    return all(weight(state, "b") == 5 for state in (away, b, c))


def a_change_comes_late_from_a_closed_boot(safe: Safeguards) -> bool:
    """All have reported; then one of them receives what the old boot had sent it, and takes it or not."""
    a, b, c = announced("a", 7, safe), announced("b", 8, safe), announced("c", 9, safe)
    agree(a, b, c)
    late = a.update("b", 5, NOW)
    a = began_anew(c, "a", 10, safe)
    agree(a, b, c)
    for member in (b, c):
        a.report(member.me.name, member.ring_digest)
    b.deliver(late, NOW)
    assert a.retire() is not None
    agree(a, b, c)
    return all("b" in state for state in (a, b, c))


def a_forgotten_removal_is_passed_on(safe: Safeguards) -> bool:
    """One forgets a removal, another takes its whole state, and tells a third what that one lacks."""
    a, b, c = announced("a", 7, safe), announced("b", 8, safe), announced("c", 9, safe)
    a.insert("d", "10.0.0.4", 7022, NOW)
    agree(a, b, c)
    a.remove("d")
    a.forget_removals()
    b.merge(a.full(), NOW)
    answer = b.answer(c.clock())
    if isinstance(answer, Delta):
        c.apply(answer, NOW)
    else:
        c.merge(answer, NOW)
    return "d" not in c


def a_boot_that_is_only_heard_of(safe: Safeguards) -> bool:
    """A member is removed that has just begun anew, which the remover knows from a claim alone."""
    a, b = announced("a", 7, safe), announced("b", 8, safe)
    agree(a, b)
    b.hear("a", Claim(10, 0, Rank.ALIVE, ready=True))
    b.remove("a")
    b.merge(began_anew(a, "a", 10, safe).full(), NOW)
    return "a" not in b


SCENES: dict[Plant, Callable[[Safeguards], bool]] = {
    ring_mistakes.forgotten_frontier_not_merged: a_forgotten_removal_is_passed_on,
    ring_mistakes.removal_fences_only_entries: a_boot_that_is_only_heard_of,
    ring_mistakes.closed_boots_accepted: a_change_comes_late_from_a_closed_boot,
    ring_mistakes.any_digest_is_a_report: a_member_reports_another_state,
    ring_mistakes.reports_outlive_the_view: a_member_returns_after_its_report,
    ring_mistakes.delta_for_another_floor: a_delta_over_a_retirement,
    ring_mistakes.floor_taken_from_any_change: a_floor_comes_without_what_it_retires,
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=[scene.__name__ for scene in SCENES.values()])
def test_all_is_well_when(scene: Callable[[Safeguards], bool]) -> None:
    assert scene(SAFE)


# -- each rule is needed, and the model can see


SEEDS = 1_000


@pytest.mark.parametrize("mistake", [each for each in MISTAKES if each not in SCENES], ids=lambda each: each.__name__)
def test_the_model_finds(mistake: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    safeguards = mistake(monkeypatch)
    found = next((found for seed in range(SEEDS) if (found := run(seed, safeguards))), None)
    assert found is not None


@pytest.mark.parametrize("mistake", SCENES, ids=lambda each: each.__name__)
def test_the_scene_finds(mistake: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    safeguards = mistake(monkeypatch)
    assert not SCENES[mistake](safeguards)


def test_there_are_at_least_twenty_mistakes() -> None:
    assert len(MISTAKES) >= 20
