"""The registry's rules while nodes crash, are closed, stand still, are cut off and leave; and that a broken one is found.

The suite plays three hundred seeds, five thousand with ``-m long -k thousands`` of this file. A seed that breaks a
rule is replayed alone, with all that a simulation says of a failure, by
``pytest tests/simulation/test_registry.py -k one_seed --seed 4711``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Lagged, Member, State
from clusterkit.core.offers import META_KEY, Catalogue, Offer, ServiceEvent, ServiceOffline, ServiceOnline
from clusterkit.services import offer_events
from clusterkit.services.offer_events import Listeners
from clusterkit.services.registry import Services
from clusterkit.testing import simulate
from tests.simulation.registry_rules import FAULTS, broken_promises, services_under_faults

SEEDS = 300
CHUNK = 50


@pytest.fixture(autouse=True)
def few_words(caplog: pytest.LogCaptureFixture) -> None:
    """Nodes are removed and fail here by the hundred, as they are told to."""
    caplog.set_level(logging.CRITICAL, logger="clusterkit")


def broken_under(seeds: Iterable[int]) -> dict[int, list[str]]:
    """The seeds that break a rule, each with what is broken."""
    return {seed: found for seed in seeds if (found := broken_promises(simulate(services_under_faults, seed=seed)))}


@pytest.mark.simulation
async def test_one_seed_to_replay() -> None:
    assert broken_promises(await services_under_faults()) == []


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_hundreds_of_seeds(first: int) -> None:
    assert broken_under(range(first, first + CHUNK)) == {}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_seeds() -> None:
    assert broken_under(range(5_000)) == {}


def test_a_seed_replays_its_trace() -> None:
    traces = [simulate(services_under_faults, seed=seed).trace for seed in (1, 2, 1)]
    assert traces[0] == traces[2] != traces[1]


# -- the tests can see ----------------------------------------------------------------


def test_the_scenario_has_all_faults_and_looks_at_much() -> None:
    played = [simulate(services_under_faults, seed=seed) for seed in range(20)]
    assert {fault.kind for evidence in played for fault in evidence.faults} >= {*FAULTS} - {"kill", "one way"}
    assert sum(evidence.looks for evidence in played) > 500
    assert sum(evidence.lagged for evidence in played) > 100
    assert sum(len(history) for evidence in played for history in evidence.histories.values()) > 2_000


Plant = Callable[[pytest.MonkeyPatch], None]


def a_run_is_as_good_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a service of a new run takes the place of the old one's, and nobody is told that this is over."""
    look = Catalogue.look

    def look_past(self: Catalogue, name: str, member: Member | None, gone: str = "") -> list[ServiceEvent]:
        events = look(self, name, member, gone)
        return [each for each in events if not (isinstance(each, ServiceOffline) and each.why == "restarted")]

    monkeypatch.setattr(Catalogue, "look", look_past)


def see_members(monkeypatch: pytest.MonkeyPatch, alter: Callable[[Services, Member], Member]) -> None:
    """Let the registry see all members altered."""
    member = Services._member

    def altered(self: Services, name: str) -> Member | None:
        seen = member(self, name)
        return seen and alter(self, seen)

    monkeypatch.setattr(Services, "_member", altered)


def the_dead_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what a member that is down offers is online."""
    see_members(monkeypatch, lambda _, seen: replace(seen, state=State.ALIVE) if seen.state is State.DOWN else seen)


def the_sick_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a service whose health check says no is online."""

    def well(_: Services, seen: Member) -> Member:
        told = [[*each[:4], True] for each in seen.meta.get(META_KEY, ())]
        return replace(seen, meta={META_KEY: told})

    see_members(monkeypatch, well)


def changes_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what a run told first is taken for what it tells."""
    first: dict[tuple[Services, NodeId], Member] = {}
    see_members(monkeypatch, lambda self, seen: replace(seen, meta=first.setdefault((self, seen.node), seen).meta))


def who_is_out_of_the_ring_keeps_its_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: when a node is in no ring any more, the registry is not told that the others are gone."""
    look = Services._look
    monkeypatch.setattr(
        Services,
        "_look",
        lambda self, name: look(self, name) if self._ring.id or name == self._kernel.id.name else None,
    )


class ShortMemory:
    """In the place of a `Backlog`: drops what waits longest, whatever it is."""

    def __init__(self, present: Iterable[Offer], most: int) -> None:
        self.waiting: deque[ServiceEvent] = deque(map(ServiceOnline, present), maxlen=most)
        self.missed = 0

    def put(self, event: ServiceEvent) -> None:
        self.missed += len(self.waiting) == self.waiting.maxlen
        self.waiting.append(event)

    def take(self) -> ServiceEvent | Lagged | None:
        if self.missed:
            missed, self.missed = self.missed, 0
            return Lagged(missed)
        return self.waiting.popleft() if self.waiting else None


def slow_readers_lose_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: past the bound events are dropped, as the ring's are."""
    monkeypatch.setattr(offer_events, "Backlog", ShortMemory)


def callbacks_are_told_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what a callback causes is told before the others have heard what it was told of."""
    tell = Listeners.tell

    def tell_at_once(self: Listeners, events: Iterable[ServiceEvent]) -> None:
        waiting, self._untold, self._telling = self._untold, deque(), False
        tell(self, events)
        self._untold, self._telling = waiting, bool(waiting)

    monkeypatch.setattr(Listeners, "tell", tell_at_once)


def who_waits_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: news wake nobody who waits for a resource."""
    look = Services._look

    def look_quietly(self: Services, name: str) -> None:
        kept, self._changed = self._changed, asyncio.Event()
        look(self, name)
        self._changed = kept

    monkeypatch.setattr(Services, "_look", look_quietly)


PLANTED: list[tuple[Plant, str]] = [
    (a_run_is_as_good_as_another, "out of turn"),
    (the_dead_are_offered, "dead since"),
    (the_sick_are_offered, "as its ring has it"),
    (changes_are_not_seen, "as its ring has it"),
    (who_is_out_of_the_ring_keeps_its_view, "as its ring has it"),
    (slow_readers_lose_the_oldest, "slow: out of turn"),
    (callbacks_are_told_in_the_middle, "in different orders"),
    (who_waits_is_not_woken, "waited for"),
]


@pytest.mark.parametrize(("plant", "sentence"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, sentence: str) -> None:
    plant(monkeypatch)
    found = (broken_promises(simulate(services_under_faults, seed=seed)) for seed in range(200))
    assert any(sentence in each for broken in found for each in broken)
