"""What the questions about the ring show to people."""

from typing import Any

import click

from clusterkit.cli.commands_ring import show_members, show_nodes, show_ping, show_ring


def member(name: str, state: str = "alive", **more: Any) -> dict[str, Any]:
    known = {"address": "127.0.0.1:7022", "incarnation": 7, "rtt": 0.0012, "since": 75.0, "share": 0.5, "queue": 3}
    return {"name": name, "state": state, "self": False, "why": ""} | known | more


def test_members_are_columns_with_a_star_at_who_answered() -> None:
    listed = [member("a"), member("charlie", "down", rtt=None, why="no answer"), member("me", self=True, since=0.5)]
    assert click.unstyle(show_members(listed)).splitlines() == [
        "NAME     ADDRESS         STATE    RTT  SINCE  SHARE  QUEUE  INCARNATION",
        "a        127.0.0.1:7022  alive  1.2ms  1m15s  50.0%      3            7",
        "charlie  127.0.0.1:7022  down       -  1m15s  50.0%      3            7",
        "me *     127.0.0.1:7022  alive  1.2ms  500ms  50.0%      3            7",
        "",
        "3 members: 2 alive, 1 down, as me sees it",
        "charlie is down: no answer",
    ]


def test_one_member_is_no_plural() -> None:
    assert show_members([member("me", self=True)]).endswith("1 member: 1 alive, as me sees it")


def test_a_node_in_no_ring_answers_too() -> None:
    data = {"name": "a", "address": "127.0.0.1:7022", "ring": "", "seconds": 0.01}
    assert show_ping(data) == "pong from a@127.0.0.1:7022, in no ring, in 10.0 ms"


def test_nodes_are_lines() -> None:
    assert show_nodes([member("a")]).splitlines()[1].split() == ["a", "127.0.0.1:7022", "7"]


def test_a_ring_is_figures_and_shares_and_its_tokens_when_asked() -> None:
    data: dict[str, Any] = {
        "ring": "demo",
        "name": "a",
        "members": 2,
        "alive": 1,
        "digest": "5c25",
        "tokens": 1280,
        "shares": {"b": 0.75, "a": 0.25},
        "weights": {"a": 1, "b": 9},
        "rfactor": 1,
        "pfactor": 3,
    }
    shown = show_ring(data)
    assert shown.splitlines() == [
        "ring      demo",
        "members   2, 1 alive",
        "digest    5c25",
        "tokens    1,280",
        "replicas  3 by default",
        "",
        "NAME  WEIGHT  SHARE",
        "a          1  25.0%",
        "b          9  75.0%",
    ]
    whole = show_ring(data | {"tree": [["00ff", "a"], ["ff00", "b"]]})
    assert whole.startswith(shown)
    assert [line.split() for line in whole.splitlines()[-3:]] == [["TOKEN", "NAME"], ["00ff", "a"], ["ff00", "b"]]
