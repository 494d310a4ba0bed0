"""All join at once, some leave, crash and come back, the network is cut and healed: one ring at the end.

While the network is whole nodes may come and go, while it is cut they may crash: so much the
roster promises. That joins and goodbyes on either side of a cut meet too is the gossip ring's
to promise; the last test counts how often it fails until then.
"""

import pytest

from clusterkit.core.roster import Roster
from clusterkit.testing import simulate
from tests.simulation.introductions import introductions

SEEDS = 100
CHUNK = 50


def broken_under(seeds: range, *, apart: bool = False) -> dict[int, list[str]]:
    """The seeds under which something is wrong in the end, each with what."""
    return {seed: story.wrong for seed in seeds if (story := simulate(introductions, apart, seed=seed)).wrong}


@pytest.mark.simulation
async def test_all_see_one_ring_in_the_end() -> None:
    story = await introductions()
    assert story.wrong == [], "\n".join(story.events)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_many_seeds(first: int) -> None:
    assert broken_under(range(first, first + CHUNK)) == {}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_thousand_seeds() -> None:
    assert broken_under(range(2_000)) == {}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.xfail(strict=True, reason="lists meet only when links open, and seeds are dialled until one accepts")
def test_two_thousand_seeds_with_joins_and_goodbyes_while_it_is_cut() -> None:
    assert broken_under(range(2_000), apart=True) == {}


def test_a_seed_is_one_story() -> None:
    stories = [simulate(introductions, seed=seed).events for seed in (3, 4, 3)]
    assert stories[0] == stories[2] != stories[1]


def test_a_roster_that_takes_no_lists_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    admit = Roster._admit
    monkeypatch.setattr(Roster, "_admit", lambda self, nodes, *, alive: admit(self, nodes, alive=True) if alive else [])
    assert broken_under(range(5))
