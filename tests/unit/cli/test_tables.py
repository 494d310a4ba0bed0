"""Tables: columns that line up, whatever stands in them."""

import click
import pytest

from clusterkit.cli.tables import counted, span, table


def test_text_goes_to_the_left_and_numbers_to_the_right() -> None:
    shown = table(
        ("NAME", "ADDRESS", "SHARE", "RTT"),
        [("a", "127.0.0.1:7022", "33.3%", "-"), ("bob", "[::1]:7", "5.0%", "1.2ms")],
    )
    assert shown.splitlines() == [
        "NAME  ADDRESS         SHARE    RTT",
        "a     127.0.0.1:7022  33.3%      -",
        "bob   [::1]:7          5.0%  1.2ms",
    ]


def test_a_state_has_a_colour_that_takes_no_room() -> None:
    shown = table(("STATE", "N"), [("down", 1), ("alive", 2)])
    assert click.unstyle(shown) != shown
    assert [len(line) for line in click.unstyle(shown).splitlines()] == [8, 8, 8]


def test_an_empty_table_has_its_head() -> None:
    assert table(("NAME", "WEIGHT"), []) == "NAME  WEIGHT"


def test_what_a_peer_said_moves_no_cursor_and_breaks_no_line() -> None:
    assert table(("WHY",), [("a\x1b[2J\nb",)]).splitlines() == ["WHY", "a?[2J b"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0ms"),
        (0.00999, "10.0ms"),
        (0.99, "990ms"),
        (1.0, "1.0s"),
        (59.94, "59.9s"),
        (60, "1m00s"),
        (3600, "1h00m"),
    ],
)
def test_a_span_of_time_is_short(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_none_of_them_is_a_plural_too() -> None:
    assert [counted(n, "node") for n in range(3)] == ["0 nodes", "1 node", "2 nodes"]
