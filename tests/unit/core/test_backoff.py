"""Full jitter: every delay is drawn from the whole interval, whose cap doubles up to the most."""

from random import Random

import pytest

from clusterkit.core.backoff import Backoff


class Highest(Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


def test_the_cap_doubles_from_the_first_to_the_most() -> None:
    backoff = Backoff(0.1, 1.0, Highest())
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_reset_begins_with_the_first_cap_again() -> None:
    backoff = Backoff(0.1, 1.0, Highest())
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 0.1


def test_delays_fill_the_whole_interval() -> None:
    backoff = Backoff(5.0, 5.0, Random(1))
    delays = [backoff.next() for _ in range(1_000)]
    assert min(delays) < 0.1
    assert max(delays) > 4.9


def test_equal_chance_gives_equal_delays() -> None:
    one, other = (Backoff(0.1, 5.0, Random(7)) for _ in range(2))
    assert [one.next() for _ in range(20)] == [other.next() for _ in range(20)]


def test_no_delay_exceeds_the_most_even_when_the_first_does() -> None:
    assert Backoff(10.0, 5.0, Highest()).next() <= 5.0
