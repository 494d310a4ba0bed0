"""The cache's rules while its source changes and nodes crash, leave, stand still and are cut off; and that each safeguard is needed.

The suite plays 20 seeds of `cache_rules`, 3,000 with ``-m long -k thousands`` of this file; what is rare is played by hand in
`cache_scenes`. A seed that breaks a rule is replayed alone, with all that a simulation says of a failure, by
``pytest tests/simulation/test_cache.py -k one_seed --seed 4711``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest

from clusterkit.core.cache_store import CacheStore, Entry
from clusterkit.core.invalidations import Invalidation, Invalidations
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_loads import Load, Loads
from clusterkit.services.cache_questions import Questions
from clusterkit.services.cache_spread import Messenger, Spread
from clusterkit.testing import simulate
from tests.simulation import cache_scenes as scenes
from tests.simulation.cache_histories import broken_promises
from tests.simulation.cache_rules import caches_under_faults

SEEDS = 20
CHUNK = 10
Scene = Callable[[], Coroutine[Any, Any, list[str]]]
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def few_words(caplog: pytest.LogCaptureFixture) -> None:
    """Nodes are lost and named here by the hundred."""
    caplog.set_level(logging.CRITICAL, logger="clusterkit")


def broken(seed: int) -> list[str]:
    """The rules that are broken under a seed."""
    return broken_promises(simulate(caches_under_faults, seed=seed))


def broken_under(seeds: Iterable[int]) -> dict[int, list[str]]:
    """The seeds that break a rule, each with what is broken."""
    return {seed: found for seed in seeds if (found := broken(seed))}


@pytest.mark.simulation
async def test_one_seed_to_replay() -> None:
    assert broken_promises(await caches_under_faults()) == []


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_some_seeds(first: int) -> None:
    assert broken_under(range(first, first + CHUNK)) == {}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_seeds() -> None:
    assert broken_under(range(3_000)) == {}


def test_a_seed_replays_its_trace() -> None:
    traces = [simulate(caches_under_faults, seed=seed).trace for seed in (1, 2, 1)]
    assert traces[0] == traces[2] != traces[1]


# -- by hand ------------------------------------------------------------------------------


SCENES: list[Scene] = [
    scenes.an_owner_that_stands_still,
    scenes.a_crowd_before_a_silent_owner,
    scenes.owners_in_a_circle,
    scenes.one_who_knows_asks_one_who_does_not,
    scenes.a_crowd_and_an_invalidation,
    scenes.two_invalidations_cross,
    scenes.two_ways_that_are_cut,
    scenes.a_way_that_is_cut_for_long,
    scenes.an_invalidator_that_dies,
    scenes.an_invalidator_that_begins_anew,
    scenes.an_invalidator_whose_clock_is_behind,
    scenes.a_new_life_takes_what_is_old,
    scenes.one_that_began_beyond_a_cut,
    scenes.one_that_began_beyond_a_cut_and_an_invalidator_that_died,
    scenes.one_who_was_out_of_the_ring,
    scenes.one_who_was_removed,
    scenes.more_than_anybody_remembers,
    scenes.a_load_that_is_overtaken,
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_all_is_well_with(scene: Scene) -> None:
    assert simulate(scene) == []


def test_a_cold_key_is_loaded_once_however_many_ask() -> None:
    assert {seed: wrong for seed in range(20) if (wrong := simulate(scenes.cold_keys, seed=seed))} == {}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_cold_key_is_loaded_once_under_a_thousand_seeds() -> None:
    assert {seed: wrong for seed in range(1_000) if (wrong := simulate(scenes.cold_keys, seed=seed))} == {}


# -- the tests can see --------------------------------------------------------------------


def nothing_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what an invalidation overtook is stored."""
    monkeypatch.setattr(Invalidations, "is_stale", lambda *_: False)


def questions_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who asks says nothing of invalidations."""
    monkeypatch.setattr(Invalidations, "about", lambda *_: [])


def told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who did not hear of an invalidation at once is told no more."""
    told = Spread._told

    async def tell_once(self: Spread, name: str, what: list[Invalidation]) -> bool:
        await told(self, name, what)
        return True

    monkeypatch.setattr(Spread, "_told", tell_once)


def reached_before_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who was sent an invalidation counts as reached."""
    tell = Spread.tell

    def tell_all(self: Spread, name: str, after: int) -> asyncio.Future[bool]:
        tell(self, name, after)
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        told.set_result(True)
        return told

    monkeypatch.setattr(Spread, "tell", tell_all)


def overtaken_loads_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who wants a key after its invalidation waits for the load from before it."""
    monkeypatch.setattr(Loads, "forget", lambda *_: None)


def overtaken_questions_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who wants a key after its invalidation waits for the question from before it."""
    monkeypatch.setattr(Questions, "forget", lambda *_: None)


def copies_outlive_invalidations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: an invalidation drops what a node owns, and no copies."""
    forget = CacheStore.forget

    def forget_own(self: CacheStore, what: Invalidation, now: float) -> None:
        copies = [(key, self.copies.peek(key)) for key in self.copies]
        forget(self, what, now)
        for key, entry in copies:
            assert entry is not None
            self.copies.put(key, entry, len(entry.body))

    monkeypatch.setattr(CacheStore, "forget", forget_own)


def copies_live_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a copy is served until something pushes it out."""
    monkeypatch.setattr(CacheStore, "find_copy", lambda self, key, _: self.copies.get(key))


def each_asks_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: nobody joins a load that runs."""
    load = Loads._load

    def load_anew(self: Loads, key: str, *, brief: bool) -> Load:
        self._running.pop(key, None)
        return load(self, key, brief=brief)

    monkeypatch.setattr(Loads, "_load", load_anew)


def deadlines_pass_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a get waits for a load as long as that takes."""

    async def wait(self: Questions, key: str, future: Awaitable[Any], deadline: float) -> Any:
        return await future

    monkeypatch.setattr(Questions, "in_time", wait)


def nobody_goes_on_for_the_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what a node made that is gone is told by nobody."""
    monkeypatch.setattr(Spread, "_take_over", lambda *_: None)


def nobody_tells_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a node that one cannot reach is told through no other."""

    async def told(*_: object) -> bool:
        return False

    monkeypatch.setattr(Spread, "_told_through_another", told)


def the_last_heard_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: of a key the invalidation that was heard last is remembered, whoever made it."""
    note = Invalidations._note

    def note_alone(self: Invalidations, what: Invalidation, now: float) -> None:
        for each in list(self._makers(what).values()):
            self._drop(each)
        note(self, what, now)

    monkeypatch.setattr(Invalidations, "_note", note_alone)


def incarnations_are_those_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what a node makes bears the incarnation that it had before it joined."""
    monkeypatch.setattr(Invalidations, "boot", property(lambda self: self._first, begin_with), raising=False)


def begin_with(log: Any, boot: int) -> None:
    """Keep the first."""
    log._first = getattr(log, "_first", boot)


def the_new_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: one that is new learns nothing of before."""

    async def learn_nothing(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr(Messenger, "catch_up", learn_nothing)
    nobody_tells_the_new(monkeypatch)


def nobody_tells_the_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: one that is new is told what it asks for, and nothing else."""

    async def tell_nothing(*_: object) -> None:
        return

    monkeypatch.setattr(Spread, "_tell_own", tell_nothing)


def all_is_kept_outside_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who was out of the ring comes back with what it holds, and is told nothing."""
    monkeypatch.setattr(CacheStore, "forget_all", lambda *_: None)
    the_new_are_told_nothing(monkeypatch)


def what_is_forgotten_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who missed more than is remembered is told what is."""
    after = Invalidations.after

    def after_all(self: Invalidations, seq: int) -> tuple[list[Invalidation], int]:
        return after(self, max(seq, self._forgotten))

    monkeypatch.setattr(Invalidations, "after", after_all)


def the_silent_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who gave no word is asked once more, for what it held before."""
    monkeypatch.setattr(Questions, "is_silent", lambda *_: False)


def a_crowd_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who asks with others looks for nothing to tell."""
    monkeypatch.setattr(Questions, "_tells", lambda *_: False)


def silence_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: an owner is waited for until the deadline."""
    monkeypatch.setattr(Questions, "_patience", property(lambda _: 60.0, lambda *_: None), raising=False)


def a_question_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who is asked for what it does not own asks the owner."""
    ask = CacheGroup._ask_former

    async def ask_owner(self: CacheGroup, key: str) -> Entry | None:
        if self.is_owner(key):
            return await ask(self, key)
        return (await self._miss(key, self._time() + 5.0)).entry

    monkeypatch.setattr(CacheGroup, "_ask_former", ask_owner)


BY_CHANCE: list[tuple[Plant, str]] = [
    (nothing_is_stale, "old: "),
    (questions_tell_nothing, "old: "),
    (reached_before_it_knows, "old: "),
    (overtaken_loads_are_joined, "old: "),
    (copies_outlive_invalidations, "old: "),
    (copies_live_for_ever, "a copy that is too old"),
    (each_asks_the_source, "loaded twice at once"),
    (deadlines_pass_unseen, "too late"),
]

BY_HAND: list[tuple[Plant, Scene]] = [
    (the_silent_are_asked_again, scenes.an_owner_that_stands_still),
    (the_silent_are_asked_again, scenes.a_crowd_before_a_silent_owner),
    (a_crowd_tells_nothing, scenes.a_crowd_and_an_invalidation),
    (silence_is_borne, scenes.an_owner_that_stands_still),
    (a_question_is_passed_on, scenes.owners_in_a_circle),
    (questions_tell_nothing, scenes.one_who_knows_asks_one_who_does_not),
    (the_last_heard_counts, scenes.two_invalidations_cross),
    (told_once, scenes.two_ways_that_are_cut),
    (nobody_tells_for_another, scenes.a_way_that_is_cut_for_long),
    (nobody_goes_on_for_the_gone, scenes.an_invalidator_that_dies),
    (nobody_goes_on_for_the_gone, scenes.an_invalidator_that_begins_anew),
    (incarnations_are_those_of_the_start, scenes.an_invalidator_whose_clock_is_behind),
    (the_new_are_told_nothing, scenes.a_new_life_takes_what_is_old),
    (nobody_tells_the_new, scenes.one_that_began_beyond_a_cut),
    (all_is_kept_outside_the_ring, scenes.one_who_was_out_of_the_ring),
    (all_is_kept_outside_the_ring, scenes.one_who_was_removed),
    (what_is_forgotten_is_not_told, scenes.more_than_anybody_remembers),
    (nothing_is_stale, scenes.a_load_that_is_overtaken),
    (overtaken_loads_are_joined, scenes.a_load_that_is_overtaken),
    (overtaken_questions_are_joined, scenes.a_load_that_is_overtaken),
    (each_asks_the_source, scenes.cold_keys),
]


def found_within(seeds: int, sentence: str) -> int:
    """The first seed under which a rule is broken, in these words."""
    for seed in range(seeds):
        if any(sentence in found for found in broken(seed)):
            return seed
    raise AssertionError(f"{seeds} seeds did not find {sentence!r}")


@pytest.mark.parametrize(("plant", "sentence"), BY_CHANCE, ids=[plant.__name__ for plant, _ in BY_CHANCE])
def test_a_fault_is_found_by_chance(monkeypatch: pytest.MonkeyPatch, plant: Plant, sentence: str) -> None:
    plant(monkeypatch)
    assert found_within(200, sentence) < 200


@pytest.mark.parametrize(
    ("plant", "scene"), BY_HAND, ids=[f"{plant.__name__}-{scene.__name__}" for plant, scene in BY_HAND]
)
def test_a_fault_is_found_by(monkeypatch: pytest.MonkeyPatch, plant: Plant, scene: Scene) -> None:
    plant(monkeypatch)
    assert simulate(scene) != []
