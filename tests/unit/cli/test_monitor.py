"""Which events a monitor prints."""

from typing import Any

import pytest

from clusterkit.cli.monitor import Enough, Teller


def event(kind: str, node: str | None = "a") -> dict[str, Any]:
    return {"at": 0.0, "type": kind, "node": node}


def told(*events: dict[str, Any], **asked: Any) -> tuple[list[str], list[str]]:
    printed: list[Any] = []
    aside: list[Any] = []
    teller = Teller(printed.append, aside.append, **asked)
    for each in events:
        teller(each)
    return [each["type"] for each in printed], [each["type"] for each in aside]


ALL = (event("Connected"), event("MemberUp"), event("MemberDown", "b"), event("Missed", None))


def test_all_events_are_printed_when_nothing_is_asked_for() -> None:
    assert told(*ALL) == (["Connected", "MemberUp", "MemberDown", "Missed"], [])


def test_what_befalls_the_connection_is_said_aside_when_other_events_are_asked_for() -> None:
    assert told(*ALL, types=["memberDOWN"]) == (["MemberDown"], ["Connected", "Missed"])
    assert told(*ALL, nodes=["b"]) == (["MemberDown"], ["Connected", "Missed"])
    assert told(*ALL, types=["Missed"]) == (["Missed"], ["Connected"])
    assert told(*ALL, types=["MemberUp"], nodes=["b"]) == ([], ["Connected", "Missed"])


def test_it_has_enough_after_so_many_events_of_the_node() -> None:
    printed: list[Any] = []
    teller = Teller(printed.append, printed.append, count=2)
    teller(event("Connected"))
    teller(event("MemberUp"))
    with pytest.raises(Enough):
        teller(event("MemberDown"))
    assert len(printed) == 3
