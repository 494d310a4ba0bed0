"""What a client gives to a command: taken, or refused in one short line."""

from math import inf, nan
from typing import Any

import pytest

from clusterkit import ConfigError
from clusterkit.services.command_arguments import (
    MOST_NAMES,
    checked_count,
    checked_flag,
    checked_text,
    checked_texts,
    checked_wait,
)


@pytest.mark.parametrize(
    ("check", "value", "taken"),
    [
        (checked_text, "", ""),
        (checked_text, "x" * 512, "x" * 512),
        (checked_texts, [], []),
        (checked_texts, ("a", "b"), ["a", "b"]),
        (checked_flag, True, True),
        (checked_count, 1, 1),
        (checked_count, 1 << 60, 1 << 60),
    ],
)
def test_what_fits_is_taken(check: Any, value: Any, taken: Any) -> None:
    assert check(value, "it") == taken


def test_what_is_bounded_is_cut() -> None:
    assert checked_count(5_000, "n", 100) == 100
    assert [checked_wait(value, "wait", 4.0) for value in (0, 0.5, 4, 5, inf)] == [0.0, 0.5, 4.0, 4.0, 4.0]


UNFIT: list[tuple[Any, list[Any]]] = [
    (checked_text, [None, 1, b"x", ["x"], {}, "x" * 513, "x" * 10_000_000]),
    (checked_texts, [None, "abc", {"a": 1}, [1], ["a", None], ["x"] * (MOST_NAMES + 1)]),
    (checked_flag, [None, 0, 1, "yes", []]),
    (checked_count, [None, 0, -1, True, 1.5, "3", [1]]),
]


@pytest.mark.parametrize(
    ("check", "value"), [(check, value) for check, values in UNFIT for value in values], ids=lambda _: ""
)
def test_what_does_not_fit_is_refused_in_one_short_line(check: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="^it ") as caught:
        check(value, "it")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [-1, -0.1, nan, None, "1", True, [1.0]], ids=str)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="wait is .*: it must be a number of seconds, not negative"):
        checked_wait(value, "wait", 4.0)
