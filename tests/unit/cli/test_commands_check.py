"""The verdict of `check`: agreement, or what stands in its way; and where two views differ."""

from typing import Any

import click
import pytest

from clusterkit.cli.commands_check import compare, judge, show_check, show_diff, show_owner
from clusterkit.cli.failure import Failure


def seen(port: int, state: str = "alive", **more: Any) -> dict[str, Any]:
    return {"incarnation": port, "state": state, "host": "h", "port": port, "weight": 1} | more


MEMBERS = {"a": seen(1), "b": seen(2), "c": seen(3)}


def view(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "ring": "r", "digest": "d1", "members": MEMBERS, "reaches": dict.fromkeys("abc", True)} | more


def shown(told: dict[str, Any]) -> list[str]:
    return click.unstyle(show_check(told)).splitlines()


def test_members_that_see_the_same_agree() -> None:
    told = judge([view("a"), view("b"), view("c")], {}, "a")
    assert (told["agree"], told["sees"], told["digests"]) == (True, None, {"d1": ["a", "b", "c"]})
    assert shown(told) == [
        "[ok]   3 of 3 members of ring r answer",
        "[ok]   ring digest d1 on all of them",
        "[ok]   each sees every other alive, over an open link",
    ]


def test_a_one_way_partition_is_a_matrix() -> None:
    told = judge([view("a"), view("b", reaches={"a": True, "b": True, "c": False}), view("c")], {}, "a")
    assert not told["agree"]
    assert told["sees"]["b"] == {"a": "ok", "b": ".", "c": "no link"}
    assert shown(told)[2:] == [
        "[FAIL] not all see alive, over an open link: c",
        "",
        "WHO \\ SEES  a   b   c",
        "a           .   ok  ok",
        "b           ok  .   no link",
        "c           ok  ok  .",
    ]


def test_who_does_not_answer_is_named_and_sees_what_nobody_knows() -> None:
    down = MEMBERS | {"c": seen(3, "down")}
    told = judge([view("a", members=down), view("b", members=down)], {"c": "no answer within 2 s"}, "a")
    assert told["silent"] == {"c": "no answer within 2 s"}
    lines = shown(told)
    assert lines[:2] == ["[FAIL] 2 of 3 members of ring r answer", "       c: no answer within 2 s"]
    assert lines[-3:] == ["a           .   ok  down", "b           ok  .   down", "c           ?   ?   ?"]


def test_several_digests_are_listed_with_who_has_them() -> None:
    fewer = {"a": seen(1), "b": seen(2)}
    told = judge([view("a"), view("b"), view("c", digest="d2", members=fewer)], {}, "b")
    assert told["digests"] == {"d1": ["a", "b"], "d2": ["c"]}
    assert told["sees"]["c"]["c"] == "absent"
    lines = shown(told)
    assert lines[1:4] == ["[FAIL] 2 ring digests", "       d1 on a, b", "       d2 on c"]


def test_members_that_are_suspected_are_no_agreement() -> None:
    told = judge([view("a", members=MEMBERS | {"b": seen(2, "suspect")}), view("b"), view("c")], {}, "a")
    assert not told["agree"]
    assert told["sees"]["a"]["b"] == "suspect"


def test_the_views_of_a_large_ring_are_unfolded() -> None:
    folded = [
        view("a", reaches={}),
        view("b", members=None, same="a", reaches={"c": False}),
        view("c", members=None, same="a", reaches={}),
    ]
    told = judge(folded, {}, "a")
    assert told["sees"] == {
        "a": {"a": ".", "b": "ok", "c": "ok"},
        "b": {"a": "ok", "b": ".", "c": "no link"},
        "c": {"a": "ok", "b": "ok", "c": "."},
    }


def test_of_a_large_ring_only_what_is_wrong_is_shown() -> None:
    names = [f"n{number:02}" for number in range(40)]
    members = {name: seen(number) for number, name in enumerate(names, 1)}
    views = [view(name, members=members, reaches={"n07": name != "n03"}) for name in names]
    lines = shown(judge(views, {}, "n00"))
    assert lines[2:] == [
        "[FAIL] not all see alive, over an open link: n07",
        "",
        "WHO \\ SEES  n07",
        "n03         no link",
    ]


def test_a_node_in_no_ring_has_nothing_to_check() -> None:
    with pytest.raises(Failure, match="a is in no ring") as caught:
        judge([view("a", ring="", digest="")], {}, "a")
    assert (caught.value.exit_code, caught.value.code) == (1, "not-in-ring")


# -- diff


def test_views_that_are_the_same_have_no_differences() -> None:
    told = compare(view("a"), view("b"))
    assert told == {"here": "a", "there": "b", "same": True, "differences": []}
    assert show_diff(told) == "a and b see the same"


def test_each_difference_is_a_line() -> None:
    there = {"a": seen(1, "suspect"), "b": seen(2, weight=5) | {"port": 22}, "d": seen(4)}
    told = compare(view("a"), view("b", digest="d2", members=there))
    found = [(each["name"], each["what"], each["here"], each["there"]) for each in told["differences"]]
    assert found == [
        (None, "digest", "d1", "d2"),
        ("a", "state", "alive", "suspect"),
        ("b", "address", "h:2", "h:22"),
        ("b", "weight", 1, 5),
        ("c", "state", "alive", "absent"),
        ("d", "state", "absent", "alive"),
    ]
    assert not told["same"]
    lines = click.unstyle(show_diff(told)).splitlines()
    assert lines[0].split() == ["NAME", "WHAT", "AS", "a", "AS", "b"]
    assert lines[1].split() == ["the", "ring", "digest", "d1", "d2"]


# -- owner


def owners(*states: str, available: str | None) -> dict[str, Any]:
    nodes = [{"name": name, "address": "h:1", "state": state} for name, state in zip("abc", states, strict=False)]
    return {"key": "k", "owners": nodes, "available": available and {"name": available}}


def test_owners_come_in_order_with_a_star_at_who_is_used_now() -> None:
    shown = click.unstyle(show_owner(owners("alive", "alive", available="a")))
    assert [line.split()[:2] for line in shown.splitlines()] == [["#", "NAME"], ["1", "a"], ["2", "b"]]
    assert "a *" in shown
    assert show_owner(owners("down", "alive", available="b")).endswith("b stands in for a now")
    assert show_owner(owners("down", available=None)).endswith("no member can be used now")
