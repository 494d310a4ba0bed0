"""Offers: what a node announces, what others read of it, and which events follow from what they see."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Lagged, Member, State
from clusterkit.core.message_types import message
from clusterkit.core.offers import (
    META_KEY,
    Backlog,
    Catalogue,
    Offer,
    ServiceChanged,
    ServiceEvent,
    ServiceOffline,
    ServiceOnline,
    check_meta,
    check_requirements,
    check_text,
    offers_of,
    pack,
    required_by,
    unpack,
)
from clusterkit.errors import ConfigError, UnsupportedPayload

A = NodeId("a", "10.0.0.1", 7022, 5)
B = NodeId("b", "10.0.0.2", 7022, 6)
GATE = Offer(A, "gate-1", "gate", ("data",), {"zone": "x"})
DATA = Offer(A, "store", "data")


@message
@dataclass
class Marked:
    """A message class."""

    number: int = 0


def member(*offers: Offer, node: NodeId = A, state: State = State.ALIVE, ready: bool = True, why: str = "") -> Member:
    return Member(node, state, ready, meta={META_KEY: pack(offers)} if offers else {}, why=why)


# -- what users give


@pytest.mark.parametrize("text", ["gate", "Gate.Server", "data/eu-1", "käse", "x" * 64, "a b"])
def test_names_that_can_be_announced(text: str) -> None:
    assert check_text(text, "resource") == text


@pytest.mark.parametrize("text", ["", "x" * 65, "ä" * 33, "two\nlines", "\x1b[2J", "\ud800"])
def test_names_that_cannot(text: str) -> None:
    with pytest.raises(ConfigError, match="resource .* 1 to 64 bytes of printable text"):
        check_text(text, "resource")


@pytest.mark.parametrize("text", [None, 7, b"gate", ["gate"]])
def test_what_is_no_name(text: object) -> None:
    with pytest.raises(ConfigError, match="module must be a str"):
        check_text(text, "module")


def test_requirements_are_resources_each_once() -> None:
    assert check_requirements(each for each in ("b", "a", "b")) == ("b", "a")
    assert check_requirements(str(each) for each in range(256))[255] == "255"
    for bad in ("data", b"data", None, 7):
        with pytest.raises(ConfigError, match="requirements is a list"):
            check_requirements(bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="requirement must be a str"):
        check_requirements([7])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="257 requirements"):
        check_requirements(str(each) for each in range(257))


def test_metadata_is_taken_as_others_will_read_it() -> None:
    mine = {"zone": "x", "at": (1, [2.5, b"raw"]), "deep": {"no": None}}
    taken = check_meta(MappingProxyType(mine))
    mine["zone"] = "y"
    assert taken == {"zone": "x", "at": [1, [2.5, b"raw"]], "deep": {"no": None}}
    assert check_meta(None) == {}


def test_metadata_that_others_could_not_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="meta is a mapping"):
        check_meta([("zone", "x")])  # type: ignore[arg-type]
    with pytest.raises(UnsupportedPayload, match=r"meta\['zone'\]"):
        check_meta({"zone": object()})
    for value in (Marked(1), [1, Marked(1)], {"x": (Marked(1),)}):
        with pytest.raises(UnsupportedPayload, match="message"):
            check_meta({"zone": value})


# -- what is announced


def test_what_is_announced_is_read_again_in_order() -> None:
    sick = replace(DATA, healthy=False)
    assert pack([DATA, GATE]) == [["gate-1", "gate", ["data"], {"zone": "x"}, True], ["store", "data", [], {}, True]]
    assert unpack(pack([sick, GATE]), A) == [GATE, sick]
    assert offers_of(member(GATE, node=B)) == [replace(GATE, peer=B)]
    assert offers_of(Member(A)) == []


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        "gate",
        {"gate": 1},
        (("gate-1", "gate", [], {}, True),),
        [7, None, "gate", [], {}],
        [["gate-1", "gate", [], {}]],
        [[b"gate-1", "gate", [], {}, True]],
        [["gate-1", 7, [], {}, True]],
        [["gate-1", "", [], {}, True]],
        [["gate-1", "x" * 65, [], {}, True]],
        [["gate-1", "\n", [], {}, True]],
        [["gate-1", "gate", "data", {}, True]],
        [["gate-1", "gate", [7], {}, True]],
        [["gate-1", "gate", [""], {}, True]],
        [["gate-1", "gate", [], [], True]],
        [["gate-1", "gate", [], {1: 2}, True]],
        [["gate-1", "gate", [], {}, 1]],
    ],
)
def test_what_is_malformed_is_left_out(told: object) -> None:
    assert unpack(told, A) == []
    if isinstance(told, list):
        assert unpack([*told, *pack([DATA])], A) == [DATA]


def test_what_is_told_beyond_what_is_known_is_passed_over() -> None:
    assert unpack([["gate-1", "gate", ["data"], {"zone": "x"}, True, "news", 7]], A) == [GATE]


def test_of_two_services_with_one_name_the_first_counts() -> None:
    assert unpack([*pack([GATE]), ["gate-1", "gate", [], {}, False]], A) == [GATE]


def test_what_is_read_is_bounded() -> None:
    many = unpack([[f"m{each}", "r", [], {}, True] for each in range(10_000)], A)
    wide = unpack([["m", "r", [str(each) for each in range(10_000)], {}, True]], A)
    assert (len(many), len(wide[0].requirements)) == (512, 256)


def test_an_offer_can_be_in_a_set() -> None:
    assert {GATE, replace(GATE)} == {GATE}
    assert replace(GATE, meta={}) != GATE


# -- what is seen


def seen(*views: Member | None, gone: str = "left") -> list[ServiceEvent]:
    """The events of the last of some views of one name."""
    catalogue = Catalogue()
    events: list[ServiceEvent] = []
    for view in views:
        events = catalogue.look("a", view, gone)
        assert catalogue.look("a", view, gone) == []  # who looks twice sees no more
    return events


def offline(*offers: Offer, why: str) -> list[ServiceEvent]:
    return [ServiceOffline(offer, why) for offer in offers]


NEXT = A.with_incarnation(9)
ELSEWHERE = replace(A, host="10.0.0.9")
BOTH = member(DATA, GATE)


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (None, BOTH, [ServiceOnline(GATE), ServiceOnline(DATA)]),
        (None, member(GATE, state=State.SUSPECT), [ServiceOnline(GATE)]),
        (None, member(GATE, state=State.DOWN), []),
        (None, member(GATE, state=State.LEFT), []),
        (None, member(GATE, ready=False), []),
        (None, member(replace(GATE, healthy=False)), []),
        (None, member(), []),
        (BOTH, None, offline(GATE, DATA, why="left")),
        (BOTH, member(GATE, DATA, state=State.SUSPECT), []),
        (BOTH, member(GATE, DATA, state=State.DOWN, why="no answer"), offline(GATE, DATA, why="no answer")),
        (BOTH, member(GATE, DATA, state=State.LEFT), offline(GATE, DATA, why="left")),
        (BOTH, member(GATE, DATA, ready=False), offline(GATE, DATA, why="not ready")),
        (BOTH, member(GATE), offline(DATA, why="deregistered")),
        (BOTH, member(), offline(GATE, DATA, why="deregistered")),
        (BOTH, member(replace(GATE, healthy=False), DATA), offline(GATE, why="not healthy")),
        (member(GATE, state=State.DOWN), member(GATE), [ServiceOnline(GATE)]),
        (member(GATE), member(replace(GATE, meta={})), [ServiceChanged(replace(GATE, meta={}))]),
        (
            member(GATE),
            member(replace(GATE, requirements=()), DATA),
            [ServiceChanged(replace(GATE, requirements=())), ServiceOnline(DATA)],
        ),
        (
            BOTH,
            member(GATE, DATA, node=NEXT),
            [
                *offline(GATE, DATA, why="restarted"),
                ServiceOnline(replace(GATE, peer=NEXT)),
                ServiceOnline(replace(DATA, peer=NEXT)),
            ],
        ),
        (BOTH, member(DATA, node=NEXT, state=State.DOWN), offline(GATE, DATA, why="restarted")),
        (
            member(GATE),
            member(GATE, node=ELSEWHERE),
            [*offline(GATE, why="moved"), ServiceOnline(replace(GATE, peer=ELSEWHERE))],
        ),
        (member(GATE, DATA), member(replace(GATE, module="gate-2"), DATA), None),
    ],
)
def test_what_is_told(before: Member | None, after: Member | None, events: list[ServiceEvent] | None) -> None:
    if events is None:  # another service in its place: the first ends before the second begins
        events = [ServiceOffline(GATE, "deregistered"), ServiceOnline(replace(GATE, module="gate-2"))]
    assert seen(before, after) == events


def test_it_is_found_by_resource_and_listed_in_order() -> None:
    catalogue = Catalogue()
    at_b, more = replace(GATE, peer=B), replace(GATE, peer=B, module="gate-0")
    catalogue.look("b", member(at_b, more, node=B))
    catalogue.look("a", BOTH)
    assert catalogue.offers() == [GATE, DATA, more, at_b]
    assert catalogue.offers("gate") == [GATE, more, at_b]
    assert (catalogue.offers("data"), catalogue.offers("none")) == ([DATA], [])
    assert catalogue.of_any(["gate", "none", "data", "gate"]) == [GATE, DATA, more, at_b]
    assert catalogue.lacking(["none", "gate", "other"]) == ("none", "other")
    catalogue.look("a", None)
    assert (catalogue.offers(), catalogue.offers("data")) == ([more, at_b], [])
    assert catalogue.lacking(["data", "gate"]) == ("data",)


def test_what_changed_is_found_as_it_is_now() -> None:
    catalogue = Catalogue()
    catalogue.look("a", member(GATE))
    changed = replace(GATE, meta={"zone": "y"})
    catalogue.look("a", member(changed))
    assert (catalogue.offers("gate"), catalogue.offers()) == ([changed], [changed])
    again = replace(GATE, peer=NEXT)
    catalogue.look("a", member(again, node=NEXT))
    assert (catalogue.offers("gate"), catalogue.offers()) == ([again], [again])


def test_what_services_require_together() -> None:
    assert required_by([GATE, replace(DATA, requirements=("log", "data"), healthy=False)]) == ("data", "log")
    assert required_by([]) == ()


# -- what a reader has not read yet


def drained(backlog: Backlog) -> list[ServiceEvent | Lagged]:
    read: list[ServiceEvent | Lagged] = []
    while (event := backlog.take()) is not None:
        read.append(event)
    return read


def test_a_reader_begins_with_what_is_online_and_then_reads_what_happens() -> None:
    backlog = Backlog([GATE, DATA], 10)
    changed = replace(DATA, meta={"x": 1})
    later: list[ServiceEvent] = [ServiceOnline(replace(GATE, peer=B)), ServiceOffline(replace(GATE, peer=B), "left")]
    for event in later:
        backlog.put(event)
    assert drained(backlog) == [ServiceOnline(GATE), ServiceOnline(DATA), *later]
    more: list[ServiceEvent] = [ServiceChanged(changed), ServiceOffline(changed, "down"), ServiceOnline(DATA)]
    for event in more:
        backlog.put(event)
    assert drained(backlog) == more
    assert backlog.take() is None


def test_what_ends_before_it_is_read_at_the_beginning_is_never_told() -> None:
    backlog = Backlog([GATE, DATA], 10)
    changed = replace(DATA, meta={"x": 1})
    backlog.put(ServiceOffline(GATE, "left"))
    backlog.put(ServiceChanged(changed))
    assert drained(backlog) == [ServiceOnline(changed)]


def put_all(backlog: Backlog, *events: ServiceEvent) -> None:
    for event in events:
        backlog.put(event)


def test_a_slow_reader_is_told_how_many_are_put_together_and_then_what_differs() -> None:
    backlog = Backlog([GATE, DATA], 2)
    assert len(drained(backlog)) == 2
    at_b, again, changed = replace(GATE, peer=B), replace(GATE, peer=NEXT), replace(DATA, meta={"x": 1})
    put_all(
        backlog,
        ServiceOffline(GATE, "down"),
        ServiceOnline(again),
        ServiceChanged(changed),
        ServiceOnline(at_b),
        ServiceOffline(at_b, "left"),
    )
    assert drained(backlog) == [
        Lagged(3),
        ServiceOffline(GATE, "down"),
        ServiceOnline(again),
        ServiceChanged(changed),
        ServiceOnline(at_b),
        ServiceOffline(at_b, "left"),
    ]
    put_all(backlog, *offline(changed, why="down"), ServiceOnline(DATA), ServiceOffline(again, "left"))
    assert drained(backlog) == [Lagged(3), ServiceOffline(again, "left"), ServiceChanged(DATA)]


def test_what_is_as_it_was_when_the_reader_comes_is_not_told() -> None:
    backlog = Backlog([GATE], 1)
    assert drained(backlog) == [ServiceOnline(GATE)]
    put_all(backlog, ServiceOffline(GATE, "down"), ServiceOnline(GATE))
    assert drained(backlog) == [Lagged(2)]
    put_all(backlog, ServiceOffline(GATE, "down"))
    assert drained(backlog) == [ServiceOffline(GATE, "down")]


def test_who_lags_again_before_it_has_caught_up_is_told_again() -> None:
    backlog = Backlog([], 1)
    at_b, again = replace(GATE, peer=B), replace(GATE, peer=NEXT)
    put_all(backlog, ServiceOnline(GATE), ServiceOnline(at_b))
    assert backlog.take() == Lagged(2)
    assert backlog.take() == ServiceOnline(GATE)
    put_all(backlog, ServiceOffline(GATE, "restarted"), ServiceOnline(again), ServiceChanged(replace(at_b, meta={})))
    assert backlog.take() == Lagged(2)
    put_all(backlog, ServiceOffline(again, "left"))
    assert drained(backlog) == [ServiceOnline(replace(at_b, meta={})), ServiceOffline(GATE, "restarted")]


def test_all_of_an_earlier_run_is_over_before_anything_of_the_next_is_told() -> None:
    backlog = Backlog([GATE, DATA], 1)
    drained(backlog)
    changed, gate, data = replace(GATE, meta={}), replace(GATE, peer=NEXT), replace(DATA, peer=NEXT)
    put_all(backlog, ServiceChanged(changed), ServiceChanged(replace(changed, requirements=())))
    assert backlog.take() == Lagged(2)
    put_all(backlog, *offline(changed, DATA, why="restarted"), ServiceOnline(gate), ServiceOnline(data))
    over = [ServiceOffline(GATE, "restarted"), ServiceOffline(DATA, "restarted")]
    assert drained(backlog) == [*over, ServiceOnline(gate), ServiceOnline(data)]


def test_a_restart_that_is_caught_up_with_ends_the_first_run_before_the_next_begins() -> None:
    backlog = Backlog([GATE], 1)
    drained(backlog)
    again = replace(GATE, peer=NEXT)
    put_all(backlog, ServiceOffline(GATE, "restarted"), ServiceOnline(again))
    assert (backlog.take(), backlog.take()) == (Lagged(2), ServiceOffline(GATE, "restarted"))
    put_all(backlog, ServiceOffline(again, "left"))
    assert backlog.take() is None


def test_metadata_of_an_offer_is_empty_unless_told() -> None:
    told: Mapping[str, Any] = DATA.meta
    assert (dict(told), DATA.healthy, DATA.requirements, DATA.service) == ({}, True, (), ("store", "data"))
