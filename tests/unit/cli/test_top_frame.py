"""Frames: made of two looks, and drawn into the lines that there are."""

import json
from typing import Any

import pytest
from rich.console import Console

from clusterkit.cli.output import plain
from clusterkit.cli.top_frame import Frame, Look, allot, make_frame
from clusterkit.cli.top_screen import draw


def ping(incarnation: int = 1) -> dict[str, Any]:
    return {"name": "alpha", "host": "127.0.0.1", "port": 1, "incarnation": incarnation, "ring": "r", "uptime": 61.0}


def member(name: str, state: str = "alive", *, me: bool = False) -> dict[str, Any]:
    where = {"name": name, "host": "127.0.0.1", "port": 7022, "incarnation": 7}
    return where | {"state": state, "share": 0.5, "rtt": None if me else 0.0005, "since": 3.0, "queue": 0, "self": me}


def link(name: str, sent: int, received: int = 0, *, queued: int = 0, role: str = "member") -> dict[str, Any]:
    counts = {"queued": queued, "unacked": 0, "waiting": 0, "sent": sent, "received": received}
    return {"name": name, "role": role, "open": True, "down": False, "why": ""} | counts


def actor(serial: int, name: str | None, handled: int, *, depth: int = 0, since: float | None = None) -> dict[str, Any]:
    state = {"depth": depth, "size": 0, "limit": 1000, "handler": "work" if since else None, "since": since}
    return {"serial": serial, "name": name, "kind": "Worker", "handled": handled, "suspended": False} | state


def looks(incarnation: int = 1) -> tuple[Look, Look]:
    return (
        Look(10.0, ping(incarnation), [], [link("b", 100)], [actor(1, "a", 10), actor(2, "b", 0)]),
        Look(
            12.0,
            ping(),
            [member("alpha", me=True), member("b", "down")],
            [link("b", 150, 20), link("c", 9, queued=4), link("cli-1", 9, role="client")],
            [actor(1, "a", 20, depth=2), actor(2, "b", 100, since=0.5), actor(3, None, 5, depth=900)],
        ),
    )


def names(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["name"] for row in rows]


def test_a_rate_is_what_was_added_over_the_time_between() -> None:
    frame = make_frame(*looks())
    assert [(row["name"], row["sent_rate"]) for row in frame.links] == [("b", 25.0), ("c", None), ("cli-1", None)]
    assert [(row["name"], row["rate"]) for row in frame.actors] == [("b", 50.0), ("a", 5.0), (None, None)]


def test_counts_of_another_run_are_not_compared() -> None:
    frame = make_frame(*looks(incarnation=99))
    assert {row["sent_rate"] for row in frame.links} == {row["rate"] for row in frame.actors} == {None}


def test_a_first_look_alone_has_no_rates() -> None:
    assert make_frame(None, looks()[1]).actors[0]["rate"] is None


@pytest.mark.parametrize(
    ("sort", "actors", "links"),
    [
        ("rate", ["b", "a", None], ["b", "c", "cli-1"]),
        ("depth", [None, "a", "b"], ["c", "b", "cli-1"]),
        ("busy", ["b", None, "a"], ["b", "c", "cli-1"]),
        ("name", ["a", "b", None], ["b", "c", "cli-1"]),
    ],
)
def test_rows_are_sorted_as_was_asked(sort: str, actors: list[Any], links: list[str]) -> None:
    frame = make_frame(*looks(), sort=sort)
    assert (names(frame.actors), names(frame.links)) == (actors, links)


def test_a_frame_is_data_for_programs() -> None:
    data = json.loads(json.dumps(plain(make_frame(*looks(), [event("MemberUp")]).data)))
    assert data["node"]["name"] == "alpha"
    assert data["members"][0]["address"] == "127.0.0.1:7022"
    assert data["events"][0]["ts"] == "1970-01-01T00:00:00.000Z"


def event(kind: str) -> dict[str, Any]:
    return {"at": 0.0, "type": kind, "node": "b", "host": "127.0.0.1", "port": 1}


@pytest.mark.parametrize("lines", range(30))
def test_lines_are_shared_out_and_none_is_given_away(lines: int) -> None:
    wanted = [3, 0, 12, 5]
    given = allot(lines, wanted)
    assert sum(given) == min(lines, sum(wanted))
    assert all(0 <= some <= want for some, want in zip(given, wanted, strict=True))
    hungry = [some for some, want in zip(given, wanted, strict=True) if some < want]
    assert max(hungry, default=0) - min(hungry, default=0) <= 1


# -- drawn


def drawn(frame: Frame, height: int | None, width: int = 80, note: str = "") -> list[str]:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(draw(frame, height, note))
    return [line.rstrip() for line in captured.get().splitlines()]


def crowd(count: int) -> Frame:
    before = Look(0.0, ping())
    after = Look(
        1.0,
        ping(),
        [member(f"member-{n}") for n in range(count)],
        [link(f"link-{n}", n) for n in range(count)],
        [actor(n, f"actor-{n}", n) for n in range(count)],
    )
    return make_frame(before, after, [event(f"Event{n}") for n in range(count)])


@pytest.mark.parametrize("count", [1, 3, 5, 100])
@pytest.mark.parametrize("height", [10, 24, 50])
def test_it_fits_into_the_terminal(count: int, height: int) -> None:
    lines = drawn(crowd(count), height)
    assert len(lines) <= height
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("alpha  ring r, up 1m")
    assert lines[-1].startswith("q quit")


def test_what_does_not_fit_is_counted() -> None:
    shown = "\n".join(drawn(crowd(100), 24))
    assert "MEMBER (5 of 100)" in shown
    assert "LINK (5 of 100)" in shown
    assert "ACTOR (4 of 100)" in shown
    assert "EVENT (4 of 100)" in shown
    assert "Event99" in shown, "of the events the last are shown"
    assert "Event0" not in shown


def test_what_there_is_none_of_is_left_out() -> None:
    shown = "\n".join(drawn(make_frame(None, Look(0.0, ping(), [member("alpha", me=True)])), 24))
    assert "alpha *" in shown
    assert "LINK" not in shown
    assert "EVENT" not in shown


def test_without_a_height_all_is_drawn_and_no_keys_are_named() -> None:
    shown = "\n".join(drawn(crowd(40), None))
    assert "member-39" in shown
    assert "q quit" not in shown


def test_a_note_and_names_cannot_move_the_cursor() -> None:
    look = Look(0.0, ping() | {"name": "x\x1b[2J"}, [member("y\n\x1b[2J")])
    shown = drawn(make_frame(None, look), 24, note="lost\x1b[2J\nit")
    assert "\x1b" not in "".join(shown)
    assert "lost?[2J it" in shown[0]


def test_a_node_in_no_ring_and_an_unknown_share_are_shown() -> None:
    look = Look(0.0, ping() | {"ring": "", "uptime": None}, [member("alpha", me=True) | {"share": None}])
    head, _, row, *_ = drawn(make_frame(None, look), 24)
    assert head.startswith("alpha  in no ring  1/1 alive")
    assert row.split()[4] == "-"
