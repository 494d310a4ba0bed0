"""The ring messages that docs/wire.md shows: made by the machines of core, with boots and times that are easy to read."""

import textwrap
from functools import cache
from typing import Any

import msgpack

from clusterkit.core.identity import NodeId
from clusterkit.core.pieces import GotPiece, Piece
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Delta
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
from clusterkit.core.ring_state import RingState

ALIVE = {boot: Claim(boot, 0, Rank.ALIVE, ready=True) for boot in (5, 6, 7)}


@cache
def ring_story() -> dict[str, bytes | int]:
    """Node b joins through a, and then a gives it a weight."""
    a, b = RingState(Actor("a", 5)), RingState(Actor("b", 6))
    a.hear("a", ALIVE[5])
    b.hear("b", ALIVE[6])
    a.announce("10.0.0.1", 7022, b"", 1.0)
    joined, node = b.announce("::1", 7023, b"", 2.0), NodeId("b", "::1", 7023, 6)
    joining = Hello(node, False, joined, ALIVE[6], None, (b.ring_digest, b.claims_digest))
    alone = a.full()
    a.deliver(joined, 2.0)
    a.hear("b", ALIVE[6])
    b.merge(alone, 2.0)
    before = a.ring_digest, a.claims_digest
    weighed = a.update("b", 3, 3.0)
    delta = a.answer(b.clock())
    assert isinstance(delta, Delta)
    told: dict[str, RingMessage] = {
        "HELLO of b, joining": joining,
        "HELLO_ACK of a": HelloAck(alone),
        "HELLO of b, settled": Hello(node, True, joined, ALIVE[6], ALIVE[5], before),
        "HELLO_ACK, nil": HelloAck(None),
        "NEWS of a": News("a", 6, 0, False, (weighed,)),
        "PULL of b": Pull(b.clock(), before),
        "DELTA of a": Update(delta),
    }
    assert (b.ring_digest, b.claims_digest) == before
    digests = {"before": before[0], "after": a.ring_digest, "claims": before[1]}
    return {name: pack(message) for name, message in told.items()} | digests


def of_story(*beginnings: str) -> dict[str, bytes]:
    told = ring_story()
    return {name: body for name, body in told.items() if isinstance(body, bytes) and name.startswith(beginnings)}


def ring_digests() -> dict[str, bytes]:
    numbers = [ring_story()[name] for name in ("before", "after", "claims")]
    names = ("ring, before", "ring, after", "claims")
    return {name: int(number).to_bytes(8, "big") for name, number in zip(names, numbers, strict=True)}


@cache
def ring_whole() -> RingState:
    """A state with a floor, two siblings, fences, a forgotten removal and an accusation in it."""
    a, b, c = (RingState(Actor(*each)) for each in (("a", 5), ("b", 6), ("c", 7)))
    a.announce("10.0.0.1", 7022, b"", 1.0)
    a.deliver(RingState(Actor("c", 4)).announce("10.0.0.3", 7022, b"", 1.0), 1.0)
    c.merge(a.full(), 2.0)
    a.deliver(c.announce("10.0.0.4", 7022, b"", 2.0), 2.0)
    c.report("a", a.ring_digest)
    retirement = c.retire()
    assert retirement is not None
    a.deliver(retirement, 2.0)
    b.merge(a.full(), 3.0)
    a.deliver(b.announce("10.0.0.2", 7022, b"\x81\xa4zone\xa1x", 3.0), 3.0)
    one, other = a.update("c", 2, 4.0), b.update("c", 5, 4.0)
    a.deliver(other, 4.0)
    b.deliver(one, 4.0)
    a.deliver(RingState(Actor("d", 9)).announce("10.0.0.5", 7022, b"", 5.0), 5.0)
    a.remove("d")
    a.insert("e", "10.0.0.6", 7022, 5.0)
    a.remove("e")
    a.forget_removals(["e"])
    a.hear("a", ALIVE[5])
    a.hear("b", ALIVE[6])
    a.hear("c", Claim(7, 0, Rank.SUSPECT, ready=True))
    entry = a.entry("c")
    assert entry is not None
    assert (len(a.siblings("c")), entry.weight, entry.host) == (2, 5, "10.0.0.4")
    return a


def ring_whole_vectors() -> dict[str, bytes]:
    a = ring_whole()
    return {
        "FULL": pack(State(a.full())),
        "ring": a.ring_digest.to_bytes(8, "big"),
        "claims": a.claims_digest.to_bytes(8, "big"),
    }


def ring_whole_reads() -> str:
    """The same as text, one line for each part."""
    _, (table, clock, entries, *others) = msgpack.unpackb(pack(State(ring_whole().full())))
    parts = [("table", table), ("clock", clock)]
    parts += [("entries" if not number else "", each) for number, each in enumerate(entries)]
    parts += zip(("fences", "log", "forgotten", "claims"), others, strict=True)
    lines: list[str] = []
    for label, part_ in parts:
        first, *rest = textwrap.wrap(_literal(part_), 100)
        lines.append(f"    {label:<11}{first}")
        lines += [" " * 16 + each for each in rest]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bytes):
        return f"bin {value.hex()}" if value else "bin"
    return {True: "true", False: "false", None: "nil"}[value] if type(value) in (bool, type(None)) else repr(value)


RING_NEWS = (
    (1, "array of 8 elements"),
    (1, "5, NEWS"),
    (2, "origin: 'a'"),
    (1, "number: 6"),
    (1, "tree: 0"),
    (1, "wanted: false"),
    (1, "array of 1 change"),
    (1, "a change: array of 9 elements"),
    (9, "table: names 'a' and 'b', boots 5 and 6; so actor 0 is a, actor 1 is b"),
    (2, "the dot: actor 0, its event 2"),
    (1, "about name 1, b"),
    (1, "array of 1 sibling"),
    (1, "a sibling: array of 11 elements"),
    (2, "its dot: actor 0, event 2"),
    (1, "boot 6"),
    (6, "address written at: 2,000 ms << 16, by actor 1"),
    (4, "host: '::1'"),
    (3, "port: 7023"),
    (2, "meta: empty"),
    (6, "weight written at: 3,000 ms << 16, by actor 0"),
    (1, "weight: 3"),
    (5, "context: actor 1 to event 1, actor 0 to event 2"),
    (1, "fence: 0"),
    (1, "floor: 0"),
    (5, "claim: boot 6, inc 0, alive, ready"),
    (2, "no accusations, no refusals"),
)


def ring_others() -> dict[str, RingMessage]:
    accused = Accusation("b", Claim(6, 0, Rank.SUSPECT, ready=True), "a")
    return {
        "CLOSED": Closed(6, 6),
        "ABSENT": Absent(6, removed=True),
        "INVITE": Invite(),
        "NEWS, b is suspect": News("a", 7, 1, False, (), (accused,)),
        "NEWS, b refused": News("a", 8, 2, False, (), (), (Refusal("b", 6, "a"),)),
        "GOT": Got(8),
        "PROBE": Probe(1, (2, 3)),
        "PROBE_ACK": ProbeAck(1, (2, 3)),
        "ASK": Ask(1, "b"),
        "ASKED": Asked(1, "b", ok=False),
        "URGE": Urge("b"),
        "CLAIMS": Claims((("a", ALIVE[5]), ("b", ALIVE[6])), more=True),
        "PIECE": Piece(1, 3, b"abc"),
        "GOT_PIECE": GotPiece(1),
    }


EXAMPLES = {msgpack.unpackb(body)[0]: unpack(body) for body in of_story("HELLO", "PULL", "DELTA").values()}
EXAMPLES |= {14: State(ring_whole().full())} | {msgpack.unpackb(pack(each))[0]: each for each in ring_others().values()}
