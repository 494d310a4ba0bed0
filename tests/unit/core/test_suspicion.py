"""How long a suspicion lasts."""

import pytest

from clusterkit.core.suspicion import Suspicion


def suspicion(enough: int = 3) -> Suspicion:
    return Suspicion((7, 0), 10.0, least=2.5, most=6.0, enough=enough)


def test_confirmations_shorten_it_and_the_first_most() -> None:
    one = suspicion()
    deadlines = []
    for by in "abcdef":
        assert one.confirm(by)
        deadlines.append(one.deadline - 10.0)
    assert deadlines == pytest.approx([6.0, 4.25, 3.2263, 2.5, 2.5, 2.5], abs=1e-4)


def test_an_accuser_counts_once() -> None:
    one = suspicion(enough=1)
    assert [one.confirm("a"), one.confirm("a"), one.is_confirmed] == [True, False, False]
    assert [one.confirm("b"), one.is_confirmed, one.deadline] == [True, True, 12.5]


def test_with_nobody_to_confirm_it_is_short_at_once() -> None:
    assert suspicion(enough=0).deadline == 12.5


def test_begun_anew_it_lasts_as_if_nobody_had_accused() -> None:
    one = suspicion()
    for by in "abcd":
        one.confirm(by)
    one.defer(13.0)
    one.begin_anew(20.0)
    assert (one.begun, one.deadline, one.accusers, one.is_deferred) == (20.0, 26.0, {}, False)


def test_a_verdict_left_to_others_comes_later() -> None:
    one = suspicion(enough=0)
    one.defer(12.8)
    assert (one.is_deferred, one.deadline) == (True, 12.8)
    one.confirm("a")
    assert one.deadline == 12.8
