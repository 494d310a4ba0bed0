"""Messages between rings: what is packed is read again, and what is malformed is refused by name."""

from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.payload import encode
from clusterkit.core.pieces import GotPiece, Piece
from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Change, Clock, Delta, Full, Item
from clusterkit.core.ring_messages import (
    Absent,
    Accusation,
    Ask,
    Asked,
    Claims,
    Closed,
    Got,
    Hello,
    HelloAck,
    Invite,
    News,
    Probe,
    ProbeAck,
    Pull,
    Refusal,
    RingMessage,
    State,
    Update,
    Urge,
    pack,
    unpack,
)
from clusterkit.errors import ProtocolError

ACTOR = Actor("a", 7)
STAMP = Stamp(5, "a", 7)
ENTRY = Entry(7, STAMP, "10.0.0.1", 7022, b"", STAMP, 1)
SIBLINGS = {Dot(ACTOR, 1): ENTRY}
CLAIM = Claim(7, 1, Rank.SUSPECT, True)
CHANGE = Change(Dot(ACTOR, 1), "a", SIBLINGS, {ACTOR: 1}, 3, 0, CLAIM)
CLOCK = Clock({ACTOR: 3}, {"a": 7})
FULL = Full(CLOCK, {"a": SIBLINGS}, {"b": 3}, {ACTOR: {"a": 1}}, {ACTOR: 1}, {"a": CLAIM})
NODE = NodeId("a", "::1", 7022, 7)
TOP = (1 << 64) - 1

MESSAGES: list[RingMessage] = [
    Hello(NODE, True, CHANGE, CLAIM, CLAIM, (TOP, 0)),
    Hello(NODE, False, None, CLAIM, None, (0, 1)),
    HelloAck(FULL),
    HelloAck(None),
    Closed(7, 8),
    Absent(7, True),
    Invite(),
    News("a", TOP, 2, False, (CHANGE,), (Accusation("b", CLAIM, "a"),), (Refusal("b", 7, "a"),)),
    News("a", 1, 0, True),
    Got(9),
    Probe(1, (2, 3)),
    ProbeAck(1, (2, 3)),
    Ask(1, "b"),
    Asked(1, "b", False),
    Urge("b"),
    Pull(CLOCK, (2, 3)),
    Update(Delta(CLOCK, CLOCK, (Item("a", SIBLINGS, {ACTOR: 1}, 3, None),))),
    State(FULL),
    Claims((("a", CLAIM), ("b", CLAIM)), True),
    Piece(1, 4, b"part"),
    GotPiece(1),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_what_is_packed_is_read_again(message: RingMessage) -> None:
    assert unpack(pack(message)) == message


HELLO = [0, "a", 7, "10.0.0.1", 7022, True, None, [7, 0, 0, True], None, [0, 0]]


def but(message: list[Any], *changed: tuple[int, Any]) -> list[Any]:
    """A message with other elements at some places."""
    other = list(message)
    for place, value in changed:
        other[place] = value
    return other


def test_the_hello_that_the_next_test_spoils_is_good() -> None:
    assert unpack(encode(HELLO)) == Hello(
        NodeId("a", "10.0.0.1", 7022, 7), True, None, Claim(7, 0, Rank.ALIVE, True), None, (0, 0)
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "text",
        [],
        {"a": 1},
        [True],
        [99],
        [1.0, 1, [0, 0]],
        [7],
        [7, 1, [0, 0], 0],
        [7, -1, [0, 0]],
        [7, True, [0, 0]],
        [7, 1, [0]],
        [7, 1, 0],
        [7, 1, [0, "x"]],
        [3, 7, 1],
        [9, 1, "no name!"],
        [5, "a", 1, 3, False, [], [], []],
        [5, "a", 1, True, False, [], [], []],
        [5, "a", 1, 0, False, {}, [], []],
        [5, "a", 1, 0, False, [], [["b", None, "a"]], []],
        [5, "a", 1, 0, False, [], [["b"]], []],
        [15, [["a", [7, 0, 4, True]]], True],
        [13, None],
        [16, 0, 1, "text"],
        [14, None],
        but(HELLO, (1, "no name!")),
        but(HELLO, (1, 7)),
        but(HELLO, (2, 0)),
        but(HELLO, (3, "no host!")),
        but(HELLO, (3, 7)),
        but(HELLO, (3, "[::1]")),
        but(HELLO, (4, 0)),
        but(HELLO, (3, "h"), (4, True)),
        but(HELLO, (4, 70_000)),
        but(HELLO, (4, "7022")),
        but(HELLO, (5, 1)),
        but(HELLO, (7, None)),
        HELLO[:-1],
        [*HELLO, 0],
    ],
    ids=repr,
)
def test_what_is_malformed_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        unpack(encode(value))


def test_what_is_no_payload_is_refused() -> None:
    with pytest.raises(ProtocolError):
        unpack(b"\xc1")


def test_a_list_without_a_bound_is_refused() -> None:
    refusals = [["b", 7, "a"]] * 65_537
    packed = b"\x98\x05\xa1a\x01\x00\xc2\x90\x90\xdd" + len(refusals).to_bytes(4, "big")
    with pytest.raises(ProtocolError):
        unpack(packed + encode(refusals[0]) * len(refusals))
