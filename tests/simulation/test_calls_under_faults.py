"""A call's promises, under a crash and a cut, by the hundred; and that a broken one is found.

The suite runs two hundred seeds, five thousand with ``-m long -k many_seeds``. A seed that
breaks a promise is replayed alone, with all that a simulation says of a failure, by
``pytest tests/simulation/test_calls_under_faults.py -k nothing_lost --seed 4711``.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from clusterkit.kernel.calls import Call
from clusterkit.testing import simulate
from tests.simulation.calls_under_faults import CALLERS, CALLS, broken_promises, calls_under_faults

SEEDS = 200
CHUNK = 50  # seeds of one test: some ten seconds on a busy core


@pytest.mark.simulation
async def test_nothing_lost_nothing_doubled_every_error_explained() -> None:
    evidence = await calls_under_faults()
    assert len(evidence.history) == CALLERS * CALLS
    assert broken_promises(evidence) == []


def broken_under(seeds: Iterable[int]) -> dict[int, list[str]]:
    """The seeds that break a promise, each with what is broken."""
    return {seed: found for seed in seeds if (found := broken_promises(simulate(calls_under_faults, seed=seed)))}


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_hundreds_of_seeds(first: int) -> None:
    assert broken_under(range(first, first + CHUNK)) == {}


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_many_seeds() -> None:
    assert broken_under(range(5_000)) == {}


def test_a_seed_replays_its_trace() -> None:
    traces = [simulate(calls_under_faults, seed=seed).trace for seed in (1, 2, 1, 2)]
    assert traces[:2] == traces[2:]
    assert traces[0] != traces[1]


# -- the tests can see ----------------------------------------------------------------


def found_within(seeds: int, sentence: str) -> int:
    """The first seed under which a promise is broken, in these words."""
    for seed in range(seeds):
        if any(sentence in found for found in broken_promises(simulate(calls_under_faults, seed=seed))):
            return seed
    raise AssertionError(f"{seeds} seeds did not find {sentence!r}")


Plant = Callable[..., Any]


def never_ended(self: Call, why: str, *, never_sent: bool) -> None:
    """Fault: a waiting call is not ended when its peer is gone."""


def always_no(self: Call, why: str, *, never_sent: bool) -> None:
    """Fault: a request that was written is reported as never sent."""
    self.withdraw()
    self.fail(self.node_down(why, "no"))


def keeps_its_deadline(self: Call, outcome: tuple[bool, bool, Any]) -> None:
    """Fault: a call that has ended keeps its deadline."""
    if not self.future.done():
        self.future.set_result(outcome)


@pytest.mark.parametrize(
    ("method", "fault", "sentence"),
    [
        ("lose", never_ended, "s after c was killed"),
        ("lose", always_no, 'executed="no", and it ran'),
        ("finish", keeps_its_deadline, "deadlines when all was over"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, method: str, fault: Plant, sentence: str) -> None:
    monkeypatch.setattr(Call, method, fault)
    assert found_within(200, sentence) < 200
