"""Events: a line, an object, a notice."""

import json
from typing import Any

import click
import pytest

from clusterkit.cli.event_lines import Notices, as_json, as_line, details
from clusterkit.cli.output import plain


def event(kind: str, node: str | None = "bravo", **more: Any) -> dict[str, Any]:
    return {"at": 1_795_298_109.25, "type": kind, "node": node, "incarnation": 7, "cursor": 9} | more


def member(kind: str, node: str = "bravo", why: str = "") -> dict[str, Any]:
    where = {"host": "127.0.0.1", "port": 7022}
    return event(kind, node, **where, state="alive", ready=True, weight=2, why=why)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (member("MemberJoined"), "127.0.0.1:7022"),
        (member("MemberDown", why="stopped"), "127.0.0.1:7022 (stopped)"),
        (member("MemberUpdated"), "127.0.0.1:7022 weight 2"),
        (member("MemberUpdated") | {"ready": False}, "127.0.0.1:7022 weight 2, not ready"),
        (event("LinkUp"), ""),
        (event("LinkDown", why="refused", lost=0), "refused"),
        (event("LinkDown", why="refused", lost=3), "refused, 3 messages in doubt"),
        (event("RingChanged", moved=0.125), "12.5% of the keys have another owner"),
        (
            event("ServiceOffline", module="m", resource="r", healthy=True, why="left"),
            "module=m resource=r healthy=True why=left",
        ),
        (event("Connected", restarted=False), "connected"),
        (event("Connected", restarted=True), "connected to another run of the node"),
        (event("Disconnected", why="gone"), "gone; trying again"),
        (event("Missed", None, missed=None), "an unknown number of events was missed"),
        (event("Missed", None, missed=2), "2 events were missed"),
        (event("OfALaterVersion", new="thing"), "new=thing"),
    ],
)
def test_what_an_event_says(told: dict[str, Any], said: str) -> None:
    assert details(told) == said
    assert click.unstyle(as_line(told)).split(maxsplit=2)[1] == told["type"]


def test_what_a_peer_chose_is_one_line_that_cannot_move_the_cursor() -> None:
    told = event("NameConflict", "x\n\x1b[2J", why="a\x1b[1mb\nc")
    assert "\n" not in as_line(told)
    assert "\x1b[2J" not in as_line(told)
    assert "\x1b" not in details(told)
    assert "\x1b" not in Notices().of(member("MemberJoined", "x\x1b[2J"), "me")


def test_for_a_program_it_has_its_time_and_its_type_first() -> None:
    told = json.loads(json.dumps(plain(as_json(member("MemberUp")))))
    assert list(told)[:3] == ["ts", "type", "node"]
    assert told["ts"] == "2026-11-21T21:55:09.250Z"
    assert told["incarnation"] == 7


def test_members_are_told_as_they_come_and_go() -> None:
    notices = Notices()

    def told(kind: str, **more: Any) -> str:
        return notices.of(member(kind, **more), "me")

    assert told("MemberJoined") == "bravo came, from 127.0.0.1:7022"
    assert told("MemberUp") == ""
    assert told("MemberSuspect") == ""
    assert told("MemberUp") == "bravo is up"
    assert told("MemberDown", why="refused") == "bravo is down (refused)"
    assert told("MemberUp") == "bravo is up"
    assert told("MemberUpdated") == ""
    assert told("MemberLeft") == "bravo left"
    assert told("MemberRemoved") == "bravo was removed"


def test_of_the_node_itself_only_its_removal_is_news() -> None:
    notices = Notices()
    assert notices.of(member("MemberJoined", "me"), "me") == ""
    assert notices.of(member("MemberUp", "me"), "me") == ""
    assert notices.of(member("MemberRemoved", "me"), "me") == "me was removed"
    assert notices.of(event("LinkUp"), "me") == notices.of(event("RingChanged", "me", moved=0.1), "me") == ""


def test_the_connection_is_told_too() -> None:
    notices = Notices()
    assert notices.of(event("Disconnected", "me", why="refused"), "me") == "lost me: refused; trying again"
    assert notices.of(event("Connected", "me", restarted=False), "me") == "connected to me"
    assert notices.of(event("Connected", "me", restarted=True), "me") == "connected to me, which was restarted"
    assert notices.of(event("Missed", None, missed=1), "me") == "1 event was missed"
