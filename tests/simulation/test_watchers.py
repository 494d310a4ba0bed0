"""Failure detection alone, with 2 to 1,000 members: quick verdicts, never a false one, and each safeguard is needed.

``-m long`` adds the large clusters and hundreds of seeds.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from statistics import median

import pytest

from clusterkit.core.liveness_timers import LivenessSafeguards, Timers
from clusterkit.core.ring_entry import Rank
from tests.simulation.watchers import Watchers

Scenario = Callable[[int, LivenessSafeguards], list[str]]
ALL_ON = LivenessSafeguards()


def settled(count: int, seed: int, guards: LivenessSafeguards = ALL_ON) -> Watchers:
    watchers = Watchers(count, seed, guards=guards)
    watchers.run(2 + watchers.chance.uniform(0, 5))
    return watchers


def verdict(watchers: Watchers) -> list[str]:
    return [f"false: {down}" for down in watchers.false_downs]


# -- who is gone is found --------------------------------------------------------------------


def time_to_hang(count: int, seed: int) -> float:
    """Stop one for good; how long until all others hold it for down."""
    watchers = settled(count, seed)
    stopped = watchers.chance.choice(watchers.names)
    watchers.stop(stopped)
    taken = watchers.run_until(lambda: watchers.holds(stopped, Rank.DOWN), within=8.0)
    watchers.run(5.0)
    assert watchers.beliefs() == {(stopped, "DOWN"): count - 1}
    assert verdict(watchers) == []
    return taken


def assert_quick(times: list[float]) -> None:
    assert median(times) <= 4.0
    assert sorted(times)[int(0.99 * len(times)) - 1] <= 6.0


@pytest.mark.parametrize(("count", "runs"), [(2, 50), (3, 100), (8, 100), (32, 20), (100, 4)])
def test_a_process_that_hangs_is_found(count: int, runs: int) -> None:
    assert_quick([time_to_hang(count, seed) for seed in range(runs)])


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("count", "runs"), [(3, 1000), (8, 500), (32, 200), (100, 50), (300, 10), (1000, 2)])
def test_a_process_that_hangs_is_found_in_large_clusters(count: int, runs: int) -> None:
    assert_quick([time_to_hang(count, seed) for seed in range(runs)])


@pytest.mark.parametrize("count", [2, 3, 8, 32, 100])
def test_a_crashed_process_is_down_at_once_for_few_messages(count: int) -> None:
    watchers = settled(count, 1)
    crashed = watchers.chance.choice(watchers.names)
    watchers.sent.clear()
    watchers.crash(crashed)
    assert watchers.run_until(lambda: watchers.holds(crashed, Rank.DOWN), within=1.0) < 0.02
    watchers.run(0.05)
    assert watchers.sent["refused"] + watchers.sent["down"] <= 10 * count
    watchers.run(10.0)
    assert watchers.beliefs() == {(crashed, "DOWN"): count - 1}


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("how", [Watchers.crash, Watchers.stop])
def test_many_that_go_at_once_are_all_found(share: float, how: Callable[[Watchers, str], None]) -> None:
    watchers = settled(32, 2)
    gone = watchers.chance.sample(watchers.names, int(32 * share))
    for name in gone:
        how(watchers, name)
    watchers.run_until(lambda: all(watchers.claimed_by_the_well(name, Rank.DOWN) for name in gone), within=15.0)
    watchers.run(10.0)
    assert set(watchers.beliefs()) <= {(name, "DOWN") for name in gone}
    assert verdict(watchers) == []


def test_all_but_one_crash_and_that_one_knows() -> None:
    watchers = settled(8, 3)
    for name in watchers.names[1:]:
        watchers.crash(name)
    taken = watchers.run_until(lambda: len(watchers.beliefs()) == 7, within=1.0)
    assert taken < 0.05, "nobody is left to confirm, and nobody is asked to"


@pytest.mark.parametrize("seed", range(10))
def test_one_that_restarts_elsewhere_is_alive_at_once(seed: int) -> None:
    watchers = settled(8, seed)
    watchers.crash("n003")
    watchers.run(watchers.chance.choice([0.0005, 0.01, 1.0, 20.0]))
    watchers.restart("n003")
    watchers.run(0.1)
    assert watchers.all_alive()
    watchers.run(20.0)
    assert watchers.all_alive()
    assert verdict(watchers) == []


# -- who is well is not ------------------------------------------------------------------------


def test_at_rest_each_sends_two_probes_a_second_and_accuses_nobody() -> None:
    for count in (2, 8, 32, 100):
        watchers = settled(count, 4)
        watchers.sent.clear()
        watchers.run(30.0)
        assert set(watchers.sent) == {"probe", "answer"}
        assert watchers.sent["probe"] == pytest.approx(2 * 30 * count, rel=0.02)
        assert watchers.accusations == []


def stalls(
    count: int, share: float, seconds: float, seed: int, guards: LivenessSafeguards = ALL_ON, backlog: float = 0.0
) -> Watchers:
    """Six times a share of all stand still, each for so long, within the same second."""
    watchers = settled(count, seed, guards)
    for _ in range(6):
        for name in watchers.chance.sample(watchers.names, max(1, int(count * share))):
            watchers.after(watchers.chance.random(), partial(watchers.stop, name, seconds, backlog))
        watchers.run(seconds + 1.0 + backlog + watchers.chance.uniform(0.3, 4.0))
    watchers.run(10.0)
    return watchers


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize(("count", "share"), [(2, 0.5), (3, 0.3), (8, 0.1), (8, 0.3), (32, 0.1)])
def test_a_loop_that_stands_still_for_up_to_three_seconds_is_never_down(
    count: int, share: float, seconds: float
) -> None:
    for seed in range(4):
        watchers = stalls(count, share, seconds, seed)
        assert verdict(watchers) == []
        assert watchers.all_alive()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [1.0, 2.0, 2.5, 2.9, 3.0])
@pytest.mark.parametrize(("count", "share"), [(2, 0.5), (3, 0.3), (8, 0.3), (32, 0.1), (100, 0.1)])
def test_stalls_under_hundreds_of_seeds(count: int, share: float, seconds: float) -> None:
    for seed in range(max(4, 800 // count)):
        watchers = stalls(count, share, seconds, seed)
        assert verdict(watchers) == []
        assert watchers.all_alive()


def awoken(seed: int, guards: LivenessSafeguards = ALL_ON, seconds: float = 1.2, backlog: float = 1.7) -> list[str]:
    """One stands still just when it has sent a probe, and what waited is read late: whom it accuses."""
    watchers = settled(8, seed, guards)
    for _ in range(3):
        watchers.run_until(lambda: watchers.is_probing("n000", *watchers.names), within=8.0)
        watchers.stop("n000", seconds, backlog)
        watchers.run(seconds + 6.0)
    return [f"{each.target} accused by the stalled one" for each in watchers.accused_by("n000")]


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.9, 1.5, 2.5, 5.0])
@pytest.mark.parametrize("backlog", [0.0, 0.8])
def test_a_stalled_one_accuses_nobody_on_waking(seconds: float, backlog: float) -> None:
    for seed in range(10):
        assert awoken(seed, seconds=seconds, backlog=backlog) == []


def test_a_process_stopped_for_long_is_alive_again_at_once() -> None:
    watchers = settled(8, 5)
    watchers.stop("n003", 20.0)
    watchers.run(19.9)
    assert watchers.holds("n003", Rank.DOWN)
    watchers.run(0.2)
    assert watchers.all_alive()
    assert watchers.accused_by("n003") == []


def dead_link(seed: int, guards: LivenessSafeguards = ALL_ON) -> list[str]:
    """Two that cannot reach each other, in silence or with broken links; all others reach both."""
    watchers = settled(5, seed, guards)
    if seed % 2:
        watchers.cut_link("n000", "n001")
    else:
        watchers.loss |= {("n000", "n001"): 1.0, ("n001", "n000"): 1.0}
    watchers.run(60.0)
    return [*verdict(watchers), *(f"accused: {each}" for each in watchers.accusations)]


def test_a_dead_link_accuses_nobody() -> None:
    for seed in range(10):
        assert dead_link(seed) == []


def lossy(count: int, loss: float, seed: int, guards: LivenessSafeguards = ALL_ON) -> list[str]:
    """What one sends is lost in part; nothing is lost on the way to it."""
    watchers = settled(count, seed, guards)
    watchers.loss |= {("n000", name): loss for name in watchers.names[1:]}
    watchers.run(60.0)
    watchers.loss.clear()
    watchers.run(10.0)
    return [*verdict(watchers), *([] if watchers.all_alive() else [f"at last: {watchers.beliefs()}"])]


@pytest.mark.parametrize("loss", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("count", [3, 8, 32])
def test_loss_one_way_is_no_death(count: int, loss: float) -> None:
    for seed in range(5):
        assert lossy(count, loss, seed) == []


def test_links_that_flap_are_no_death() -> None:
    for seed in range(5):
        watchers = settled(8, seed)
        for _ in range(20):
            one, other = watchers.chance.sample(watchers.names, 2)
            watchers.cut_link(one, other)
            watchers.after(1.0, partial(watchers.mend_link, one, other))
            watchers.run(0.5)
        watchers.run(10.0)
        assert verdict(watchers) == []
        assert watchers.accusations == []
        assert watchers.all_alive()


@pytest.mark.parametrize("count", [2, 3, 8, 16])
def test_both_sides_of_a_partition_go_on_and_all_are_alive_after_it(count: int) -> None:
    watchers = settled(count, 6)
    sides = [watchers.names[: count // 2], watchers.names[count // 2 :]]
    watchers.partition(sides)
    watchers.run(60.0)
    sizes = [(name, "DOWN", len(sides[name in sides[0]])) for name in watchers.names]
    assert sorted((*who, many) for who, many in watchers.beliefs().items()) == sorted(sizes)
    watchers.heal()
    watchers.run_until(watchers.all_alive, within=2.0)
    watchers.run(10.0)
    assert watchers.all_alive()
    assert verdict(watchers) == []


def slow_prober(seed: int, guards: LivenessSafeguards = ALL_ON, delay: float = 1.0) -> Watchers:
    """All that is sent to one is late."""
    watchers = settled(8, seed, guards)
    watchers.delays["n000"] = delay
    watchers.run(120.0)
    return watchers


def test_a_slow_prober_harms_nobody_and_soon_holds_its_tongue() -> None:
    for seed in range(2):
        watchers = slow_prober(seed)
        assert verdict(watchers) == []
        assert watchers.watchers["n000"].liveness.health >= 1
        assert len([each for each in watchers.accused_by("n000") if each.at > 60]) <= 5


def test_one_seed_is_one_run() -> None:
    def story(seed: int) -> tuple[object, ...]:
        watchers = stalls(8, 0.3, 2.0, seed)
        return watchers.now, watchers.accusations, watchers.sent

    assert story(1) == story(1)
    assert story(1) != story(2)


# -- each safeguard is needed ------------------------------------------------------------------


def stalled(seed: int, guards: LivenessSafeguards) -> list[str]:
    return verdict(stalls(8, 0.2, 2.0, seed, guards))


def at_the_last_moment(late: float, seed: int, guards: LivenessSafeguards) -> list[str]:
    """One stands still for 3 s and refutes; the others stand still just then, until their verdict is overdue."""
    watchers = settled(3, seed, guards)
    watchers.stop("n000", 3.0)
    watchers.run(2.99)
    for name in watchers.names[1:]:
        watchers.stop(name, watchers.verdict_at(name, "n000") + late - watchers.now)
    watchers.run(15.0)
    return verdict(watchers)


wakes_in_time = partial(at_the_last_moment, 0.005)
wakes_a_little_late = partial(at_the_last_moment, 0.08)


def verdict_while_blocked(seed: int, guards: LivenessSafeguards) -> list[str]:
    """An observer is blocked while the accused one refutes, and reads slowly."""
    watchers = settled(3, seed, guards)
    watchers.stop("n000", 2.9)
    watchers.after(2.6, partial(watchers.stop, "n001", 1.6, 0.5))
    watchers.run(15.0)
    return verdict(watchers)


def nobody_else_to_ask(seed: int, guards: LivenessSafeguards) -> list[str]:
    """One hears nothing of another, and the third, who could tell, stands still until after the shortest suspicion."""
    watchers = settled(3, seed, guards)
    watchers.loss["n001", "n000"] = 1.0
    watchers.run_until(lambda: watchers.is_probing("n000", "n001"), within=8.0)
    watchers.stop("n002", 3.6)
    watchers.run(20.0)
    return verdict(watchers)


def talkative(seed: int, guards: LivenessSafeguards) -> list[str]:
    found = slow_prober(seed, guards).accused_by("n000")
    late = [each for each in found if each.at > 60]
    return [f"{len(late)} accusations by a slow prober"] if len(late) > 5 else []


def blocked_for_less_than_a_second(seed: int, guards: LivenessSafeguards) -> list[str]:
    return awoken(seed, guards, seconds=0.9, backlog=1.2)


def firewall(seed: int, guards: LivenessSafeguards) -> list[str]:
    """One is refused by another that is well; a minute later, a third is."""
    watchers = settled(8, seed, guards)
    watchers.refuse("n000", "n001")
    watchers.run(60.0)
    watchers.refuse("n002", "n001")
    watchers.run(10.0)
    return verdict(watchers)


def restarted(seed: int, guards: LivenessSafeguards) -> list[str]:
    """A member is back elsewhere before all dials of its old address are refused."""
    watchers = settled(8, seed, guards)
    watchers.crash("n003", redial=0.02)
    watchers.run(0.003)
    watchers.restart("n003")
    watchers.run(5.0)
    return verdict(watchers)


def crowd(_: int, guards: LivenessSafeguards) -> list[str]:
    """What a crash of one and a hang of another cost."""
    watchers = settled(32, 0, guards)
    watchers.crash("n003")
    watchers.stop("n004")
    watchers.run(10.0)
    told = sum(watchers.sent[kind] for kind in ("refused", "down", "accused"))
    return [f"{told} messages"] if told > 30 * 32 else []


def found_within(seeds: Iterable[int], scenario: Scenario, guards: LivenessSafeguards) -> list[str]:
    return next((found for seed in seeds if (found := scenario(seed, guards))), [])


ABLATIONS: list[tuple[str, Scenario]] = [
    ("indirect_probes", dead_link),
    ("suspicion", stalled),
    ("refutation_raises", stalled),
    ("confirmations", nobody_else_to_ask),
    ("local_health", talkative),
    ("lag_voids", blocked_for_less_than_a_second),
    ("stall_protection", awoken),
    ("stall_protection", verdict_while_blocked),
    ("grace", wakes_a_little_late),
    ("pulse", wakes_in_time),
    ("second_observer", firewall),
    ("refusal_window", firewall),
    ("boots", restarted),
    ("tellers", crowd),
]


@pytest.mark.parametrize(
    ("safeguard", "scenario"), ABLATIONS, ids=[f"{name}{number}" for number, (name, _) in enumerate(ABLATIONS)]
)
def test_without_it_a_promise_breaks_and_with_it_none(safeguard: str, scenario: Scenario) -> None:
    assert found_within(range(200), scenario, replace(ALL_ON, **{safeguard: False})) != []
    assert found_within(range(8), scenario, ALL_ON) == []


def test_the_wide_area_profile_bears_what_the_local_one_does_not() -> None:
    def hour(timers: Timers) -> Watchers:
        watchers = Watchers(5, 7, timers)
        watchers.delays |= dict.fromkeys(watchers.names, 0.4)
        watchers.run(60.0)
        return watchers

    assert hour(Timers()).accusations != []
    assert hour(Timers.wan()).accusations == []
