"""Section 7 of docs/wire.md, and the member of section 12: tables and numbers are the code's, and the member gets along."""

import asyncio
import hashlib
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import msgpack
import pytest

from clusterkit.core import dissemination, pieces, repair, ring_messages, ring_packing, ring_parking
from clusterkit.core.liveness_timers import Timers
from clusterkit.core.members import Member
from clusterkit.core.members import State as MemberState
from clusterkit.core.pieces import Piece
from clusterkit.core.ring_history import hash64
from clusterkit.core.ring_messages import Hello, State, Update, pack
from clusterkit.core.session import Outbox
from clusterkit.node import Node
from tests.conftest import COOKIE, eventually
from tests.unit.ring_vectors import EXAMPLES, ring_whole
from tests.unit.wire_page import PAGE, page_client, rows


def test_the_table_of_ring_messages_is_the_shapes() -> None:
    told = {cells[1]: (int(cells[0].strip("| ")), cells[2].strip("`")) for cells in rows("7.4 The messages")}
    kinds = {number: kind for number, (kind, _) in ring_messages._SHAPES.items()} | {0: Hello}
    names = {Update: "DELTA", State: "FULL"}
    expected = {
        number: names.get(kind, re.sub("(?<!^)(?=[A-Z])", "_", kind.__name__).upper()) for number, kind in kinds.items()
    }
    assert {number: name for name, (number, _) in told.items()} == expected
    for number, elements in told.values():
        count = len(re.sub(r"\[[^`]*?\]\]?", "", elements).split(",")) if elements != "none" else 0
        assert count == len(msgpack.unpackb(pack(EXAMPLES[number]))) - 1, elements


def test_the_numbers_in_the_text() -> None:
    timers = Timers()
    for said in (
        f"up to {dissemination.DIRECT} members that are not down",
        f"places 0 to {dissemination.ARITY - 1}",
        f"(it remembers {dissemination._SEEN:,})",
        f"up to {ring_parking.PARKED:,} of them, and asked for with PULL after {repair._PARKED * 1000:g} ms",
        f"not changed for {repair._QUIET * 1000:g} ms, or the difference has lasted for {repair._PATIENCE:g} s",
        f"to one member within {repair._AGAIN * 1000:g} ms",
        f"`meta` of at most {ring_packing.MOST_META} bytes",
        f"weight 1 to {ring_packing.MOST_WEIGHT:,}",
        f"up to {Outbox().control:,} bytes queued",
        f"`count a 7 1` hashes to {hash64('count', 'a', 7, 1):x}",
        f"Each {timers.probe_interval:g} s a member probes",
        f"Without PROBE_ACK in {timers.probe_timeout:g} s, or any other record",
        f"Without an `ok` in another {timers.indirect_timeout:g} s",
        f"A suspicion lasts {timers.suspicion_most:g} s, and {timers.suspicion_least:g} s when three",
        f"two observers within {timers.refused_window:g} s",
        f"A message of more than {pieces._SIZE:,} bytes",
        f"{pieces._MOST:,} at most",
    ):
        assert said in " ".join(PAGE.split()), said


def test_the_trees_of_the_page() -> None:
    names = [f"n{number:03}" for number in range(300)]
    for number in range(3):
        for tree in (1, 2):
            hashed = int.from_bytes(hashlib.blake2b(b"n007" + number.to_bytes(8, "big"), digest_size=8).digest(), "big")
            others = [name for name in names if name != "n007"]
            turn = (hashed + (tree - 1) * (len(others) // 2)) % len(others)
            places = [others[(place + turn) % len(others)] for place in range(len(others))]
            assert dissemination.children(names, "n007", number, tree, "n007") == places[:16]
            for place, name in enumerate(places):
                first = 16 * (place + 1)
                assert dissemination.children(names, "n007", number, tree, name) == places[first : first + 16]


# -- the member of the page


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A ring of one."""
    async with Node("node-a@127.0.0.1:0", cookie=COOKIE) as node:
        await node.ring.join("prod")
        yield node


class Visit:
    """The member of the page, in a thread of its own, until it is told to leave."""

    def __init__(self, node: Node) -> None:
        self._leave = threading.Event()
        self._member = page_client()["Member"]
        self._node = node

    def live(self) -> None:
        node = self._node.id
        member = self._member("127.0.0.1", node.port, COOKIE.encode(), "prod", "guest", ("127.0.0.1", 9))
        while not self._leave.is_set():
            member.run(0.2)
        member.close(2)

    async def __aenter__(self) -> None:
        self._living = asyncio.get_running_loop().run_in_executor(None, self.live)
        await eventually(lambda: "guest" in self._node.ring, timeout=5.0)

    async def __aexit__(self, *_: object) -> None:
        self._leave.set()
        await asyncio.wait_for(self._living, 5.0)


def seen(node: Node, name: str) -> Member:
    return next(each for each in node.ring.members if each.name == name)


async def test_the_member_of_the_page_agrees_with_a_node(node: Node) -> None:
    """`converged` compares digests: the page says how they are made."""
    async with Visit(node):
        await node.ring.converged()
        assert seen(node, "guest") == Member(replace(seen(node, "guest").node, host="127.0.0.1", port=9))
        await node.ring.update("guest", weight=3)
        await node.ring.insert("nobody@127.0.0.1:9")
        node.ring.set_ready(False)
        await node.ring.converged()
        await eventually(lambda: seen(node, "nobody").state is MemberState.SUSPECT, timeout=10.0)
        await node.ring.converged()
        await node.ring.remove("nobody")
        await node.ring.converged()
        assert seen(node, "guest").state is MemberState.ALIVE
    await eventually(lambda: "guest" not in node.ring)


def test_the_member_of_the_page_reads_a_whole_state_and_pieces_of_one() -> None:
    a = ring_whole()
    packed = pack(State(a.full()))
    halves = packed[: len(packed) // 2], packed[len(packed) // 2 :]
    for told in [packed], [pack(Piece(index, 2, half)) for index, half in enumerate(halves)]:
        made = page_client()["Member"]
        member = made.__new__(made)
        member.name, member.boot, member.claim = "guest", 1 << 63, [1 << 63, 0, 0, True]
        member.ring, member.boots, member.claims = 0, {}, {}
        answers: list[tuple[int, int]] = []
        member.say = lambda *message, answers=answers: answers.append(message)
        for each in told:
            member.hear(*msgpack.unpackb(each))
        assert member.digests == [a.ring_digest, a.claims_digest]
        assert answers == [(17, index) for index in range(len(told)) if len(told) > 1]
