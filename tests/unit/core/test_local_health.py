"""How far a member trusts its own judgement."""

from clusterkit.core.local_health import LocalHealth


def test_it_goes_from_0_to_8_and_stretches_by_one_more() -> None:
    health = LocalHealth()
    health.mend()
    assert (health.score, health.scale) == (0, 1)
    for _ in range(20):
        health.worsen()
    assert (health.score, health.scale) == (8, 9)
    health.mend()
    assert health.score == 7


def test_one_that_does_not_count_stays_well() -> None:
    health = LocalHealth(counts=False)
    health.worsen()
    assert health.scale == 1
