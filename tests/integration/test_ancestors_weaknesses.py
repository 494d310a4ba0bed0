"""W1, W2 and W7 to W10: what was weak in what the ancestor signed and checked, tried against real nodes over TCP.

The numbers are those of an audit of the signed message bus that this library succeeds. Beside
this file W3 to W5 and W21 are in test_ancestors_weaknesses_at_the_port.py, and W6, W11 and W12
in test_ancestors_weaknesses_in_use.py.
"""

import ast
import asyncio
import base64
import hmac
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clusterkit import AuthFailed, Client, DeadLetter, LinkDown, LinkUp, NameConflict, Node
from clusterkit.core import handshake, proof, record
from clusterkit.core.identity import NodeId
from clusterkit.core.messages import Code, pack_error, pack_reply
from clusterkit.core.payload import encode
from clusterkit.core.proof import Party, Role, prepare_cookies
from clusterkit.core.record import Kind, part
from clusterkit.core.session import Resume
from clusterkit.errors import WrongNode
from tests.conftest import COOKIE, NodeFactory, eventually
from tests.integration.attackers import (
    HELLO,
    MOST,
    SLOW,
    Between,
    Inbox,
    Liar,
    Passage,
    Way,
    cast_to_inbox,
    data,
    introduction,
    send_stranger,
    until_closed,
    with_inbox,
)

MARK = "the marked message"
TRANSPORT = "clusterkit.transport"
SECRET = "xSbD9aH3fUeYvTqLr0Wk"

LiarFactory = Callable[..., Awaitable[Liar]]


@pytest.fixture
async def lie() -> AsyncIterator[LiarFactory]:
    """Dial a node as `Liar.dial` does; what is still open when the test ends is dropped."""
    with ExitStack() as stack:

        async def dial(node: Node, name: str = "liar", **more: Any) -> Liar:
            liar = await Liar.dial(node, name, **more)
            stack.callback(liar.stream.abort)
            return liar

        yield dial


# -- W1: replay


async def test_w1_a_captured_frame_cannot_be_replayed(start_node: NodeFactory) -> None:
    """The ancestor took a captured frame as often as it came; here the second copy ends the link and is not delivered."""

    async def twice(passage: Passage, way: Way, _: int, frame: bytes) -> None:
        passage.send(way, frame)
        if MARK.encode() in frame:
            passage.send(way, frame)

    a, b = await start_node("a"), await start_node("b", ring=None)
    inbox = await with_inbox(a)
    async with Between(a, twice) as between:
        await b.ring.join("test", [between.address])
        ref = b.ref(Inbox, "inbox", on="a")
        await ref.cast(Inbox.take, MARK)
        await between.passages[0].over.wait()
        assert a.stats()["invalid_checksum"] == 1
        await ref.cast(Inbox.take, "after")
        await eventually(lambda: "after" in inbox.seen)
    assert inbox.seen == [MARK, "after"]


async def test_w1_a_recorded_session_cannot_be_replayed_to_either_side(start_node: NodeFactory) -> None:
    """The ancestor's frames were good in every session; here a whole recorded one gets a challenge, and nothing else."""
    a = await start_node("a", config=SLOW)
    async with Between(a) as between:
        async with Client("127.0.0.1", between.port, cookie=COOKIE) as client:
            assert (await client.call("ping"))["name"] == "a"
        recorded = between.passages[0].frames

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"".join(recorded[Way.BACK]))
            await until_closed(reader)
            writer.transport.abort()

        server = await asyncio.start_server(play, "127.0.0.1", 0)
        with pytest.raises(AuthFailed):
            async with Client("127.0.0.1", server.sockets[0].getsockname()[1], cookie=COOKIE):
                pass
        server.close()
    refused = a.stats()["refused"]
    for _ in range(20):
        assert (await send_stranger(a, *recorded[Way.OUT]))[37:] == b""
    assert a.stats()["refused"] == refused + 20


# -- W2: the MAC oracle


def shown(secret: bytes) -> list[str]:
    """What a text has in it that tells the beginning of a secret, in any of the usual ways."""
    start = secret[:9]
    numbers = ", ".join(map(str, start))
    return [
        start.hex(),
        start.hex().upper(),
        start.hex(" "),
        base64.b64encode(start).decode(),
        repr(start)[2:-1],
        numbers,
    ]


def forged(passage: Passage, number: int, frame: bytes) -> tuple[bytes, bytes]:
    """A record changed in its payload, and the tag that would be right for it."""
    changed = frame.replace(MARK.encode(), MARK.upper().encode())
    signed = number.to_bytes(8, "big") + changed[:-16]
    _, keys = passage.keys(SECRET)
    return changed, hmac.digest(keys.by_initiator, signed, "sha256")


async def test_w2_no_log_error_event_or_byte_tells_a_right_mac(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """The ancestor logged the MAC it had expected, an oracle for any forgery; here no text or byte has one in it."""
    caplog.set_level(logging.DEBUG)
    secrets: list[bytes] = [SECRET.encode(), *prepare_cookies(SECRET)]
    texts: list[str] = []
    proven = bytearray()

    async def forge(passage: Passage, way: Way, number: int, frame: bytes) -> None:
        if MARK.encode() in frame:
            frame, tag = forged(passage, number - 2, frame)
            secrets.append(tag)
        elif way is Way.BACK and number == 1 and passage is not between.passages[0]:
            auth, _ = passage.keys(SECRET)
            frame = frame[:-33] + b"x" + frame[-32:]
            secrets.append(hmac.digest(auth.by_responder, passage.frames[Way.OUT][1] + frame[:-32], "sha256"))
        elif way is Way.OUT and number == 1:
            proven[:] = frame
        passage.send(way, frame)

    a, b = await start_node("a", cookie=SECRET), await start_node("b", ring=None, cookie=SECRET)

    def tell(event: object) -> None:
        texts.append(repr(event))

    for node in (a, b):
        node.on(DeadLetter, tell)
        node.on(LinkUp, tell)
        node.on(LinkDown, tell)
    async with Between(a, forge) as between:
        await b.ring.join("test", [between.address])
        await b.ref(Inbox, "inbox", on="a").cast(Inbox.take, MARK)
        await between.passages[0].over.wait()
        secrets += [key for pair in between.passages[0].keys(SECRET) for key in (pair.by_initiator, pair.by_responder)]
        texts += [repr(pair) for pair in between.passages[0].keys(SECRET)]
        with pytest.raises(AuthFailed) as caught:
            async with Client("127.0.0.1", between.port, cookie=SECRET):
                pass
        texts += [*traceback.format_exception(caught.value), repr(caught.value.__dict__)]
    reader, writer = await asyncio.open_connection("127.0.0.1", a.id.port)
    writer.write(HELLO)
    challenge = await reader.readexactly(37)
    key, _ = proof.expand(prepare_cookies(SECRET)[0], b"clusterkit/1 auth", proof.sha256(HELLO, challenge))
    secrets += [key, hmac.digest(key, bytes(proven[:-32]), "sha256")]
    writer.write(proven)
    assert await until_closed(reader) == b""
    writer.transport.abort()
    await eventually(lambda: a.stats()["invalid_checksum"] == 2)
    texts += [repr(node.stats()) for node in (a, b)]
    logged = caplog.text + "".join(repr((each.msg, each.args)) for each in caplog.records)
    everything = "\n".join([logged, *texts])
    assert len(secrets) == 10
    assert [secret for secret in secrets for form in shown(secret) if form in everything] == []


# -- W7: constant time


CHECKED = [Path(module.__file__) for module in (handshake, record, proof) if module.__file__]
_MACS = {"digest", "hexdigest", "next"}  # what makes one


def _calls(node: ast.AST, names: set[str]) -> bool:
    return any(
        isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in names
        for each in ast.walk(node)
    )


def variable_time(tree: ast.AST) -> Iterator[str]:
    """Each comparison of a MAC that takes longer the more of it is right, and each way out of a search among cookies."""
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        macs = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and _calls(node.value, _MACS)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Compare) and (
                _calls(node, _MACS) or any(isinstance(each, ast.Name) and each.id in macs for each in ast.walk(node))
            ):
                yield f"{function.name}: {ast.unparse(node)}"
            if isinstance(node, ast.For | ast.While) and _calls(node, {"compare_digest"}):
                ways_out = (ast.Return, ast.Break, ast.Raise, ast.Continue)
                yield from (f"{function.name}: way out" for each in ast.walk(node) if isinstance(each, ways_out))


class _PlainEquality(ast.NodeTransformer):
    """Puts == where a comparison in constant time stood."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "compare_digest":
            return ast.Compare(node.args[0], [ast.Eq()], [node.args[1]])
        return node


def test_w7_macs_are_compared_in_constant_time() -> None:
    """The ancestor compared with !==, which tells how much is right; here only compare_digest sees two MACs."""
    trees = [ast.parse(path.read_text()) for path in CHECKED]
    assert [fault for tree in trees for fault in variable_time(tree)] == []
    assert sum(ast.unparse(tree).count("hmac.compare_digest(") for tree in trees) == 3  # two proofs, and the records
    assert sum(1 for tree in trees for _ in variable_time(_PlainEquality().visit(tree))) == 3  # it would be seen


async def test_w7_every_cookie_is_tried_and_each_is_taken(start_node: NodeFactory) -> None:
    """The time of the ancestor's check told which bytes were right; here that of a proof does not tell which cookie is."""
    cookies = [f"cookie number {number} of four" for number in range(4)]
    a = await start_node("a", cookie=cookies)
    for cookie in cookies:
        async with Client("127.0.0.1", a.id.port, cookie=cookie) as client:
            assert (await client.call("ping"))["name"] == "a"


# -- W8: verify, then parse


def malformed_proof(change: int) -> bytes:
    """An AUTH_I with fields that break their rules, and a MAC that is wrong."""
    me = Party("b", 1 << 60, "test")
    good = proof.proof(3, me, Role.NODE, lambda _: bytes(32))
    return good[:change] + bytes(b ^ 0xFF for b in good[change:-32]) + good[-32:]


@pytest.mark.parametrize("change", range(2, 25, 3))
async def test_w8_a_proof_is_verified_before_it_is_parsed(
    change: int, start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """The ancestor parsed what came and checked it after; here broken fields under a wrong MAC are never looked at."""
    caplog.set_level(logging.DEBUG, TRANSPORT)
    a = await start_node("a", config=SLOW)
    await send_stranger(a, HELLO, malformed_proof(change))
    assert [line.rpartition(": ")[2] for line in caplog.messages if "127.0.0.1" in line] == ["INVALID_CHECKSUM"]


MALFORMED = {
    "no msgpack": part(Kind.DATA, b"\xc1"),
    "no message": part(Kind.DATA, b"\x91\x93\x63\x01\x02"),
    "a part too long": b"\x00\x00\xff\xff\x02\x90",
    "an unknown kind": part(99, b"\x00"),
}


@pytest.mark.parametrize("right", [False, True], ids=["wrong-tag", "right-tag"])
@pytest.mark.parametrize("what", MALFORMED)
async def test_w8_a_record_is_verified_before_it_is_parsed(
    what: str, right: bool, start_node: NodeFactory, lie: LiarFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a record with a right tag is parsed, breaks the protocol and ends its session; a forged one ends its link."""
    caplog.set_level(logging.DEBUG, TRANSPORT)
    a = await start_node("a", config=SLOW)
    liar = await lie(a)
    liar.say(introduction(NodeId("liar", "127.0.0.1", 9, 1 << 60)))  # a member: its session waits for it
    sealed = liar.seal(MALFORMED[what])
    liar.stream.write(sealed if right else sealed[:-1] + bytes([sealed[-1] ^ 1]))
    await liar.all_parts()
    await eventually(lambda: caplog.messages)
    assert ("INVALID_CHECKSUM" in caplog.text) is not right
    again = await lie(a, resume=Resume(1, liar.theirs.own, 1, MOST))
    assert (again.theirs.own == liar.theirs.own) is not right


# -- W9: who speaks


async def test_w9_nobody_answers_for_another(start_node: NodeFactory, lie: LiarFactory) -> None:
    """The ancestor matched replies by a tag that one could guess; here only the peer that was asked can answer."""
    a, b = await start_node("a"), await start_node("b", ring=None)
    inbox = await with_inbox(a)
    await b.ring.join("test", [a.id.address])
    waiting = asyncio.create_task(b.ref(Inbox, "inbox", on="a").call(Inbox.wait))
    liars = [await lie(b, "c"), await lie(b, "a", role=Role.CLIENT)]
    for liar in liars:
        for number in range(300):
            liar.say(pack_reply(number, encode("a lie")), pack_error(number, Code.RAISED, encode({}), maybe=False))
    await eventually(lambda: b.stats()["late_replies"] == 1_200)
    assert not waiting.done()
    inbox.gate.set()
    assert await waiting == "the answer"


async def test_w9_who_speaks_is_proven_and_cannot_be_said(start_node: NodeFactory, lie: LiarFactory) -> None:
    """The ancestor believed the `from` in a message; here the handshake says it, and a live member's name is taken."""
    a, b = await start_node("a"), await start_node("b", ring=None)
    inbox = await with_inbox(a)
    await b.ring.join("test", [a.id.address])
    with pytest.raises(NameConflict):
        await lie(a, "b")
    liar = await lie(a, "c")
    liar.say(cast_to_inbox("take_name"))
    await b.ref(Inbox, "inbox", on="a").cast(Inbox.take_name)
    await eventually(lambda: len(inbox.seen) == 2)
    assert sorted(inbox.seen) == ["b", "c"]


async def test_w9_a_hello_for_another_is_not_believed(start_node: NodeFactory, lie: LiarFactory) -> None:
    """A member announces itself: not a ghost, nor a later incarnation or another address of a living one."""
    a, b = await start_node("a"), await start_node("b", ring=None)
    inbox = await with_inbox(a)
    await b.ring.join("test", [a.id.address])
    liar = await lie(a, "c", boot=1 << 60)
    for name, boot in (("ghost", 1), ("b", 1 << 63), ("b", b.id.incarnation), ("c", (1 << 60) + 1)):
        liar.say(introduction(NodeId(name, "127.0.0.1", 9, boot)))
    liar.say(cast_to_inbox("take", "the end"))
    await eventually(lambda: inbox.seen)
    assert a.ring.nodes == [a.id, b.id]
    assert await a.ping("b") >= 0


# -- W10: direction and destination


async def test_w10_a_record_is_not_taken_by_its_author(start_node: NodeFactory) -> None:
    """The ancestor's frames did not say where they went, so they could be sent back; here that ends the link."""

    async def reflect(passage: Passage, way: Way, _: int, frame: bytes) -> None:
        passage.send(way, frame)
        if MARK.encode() in frame:
            passage.send(Way.BACK if way is Way.OUT else Way.OUT, frame)

    a, b = await start_node("a"), await start_node("b", ring=None)
    inboxes = [await with_inbox(a), await with_inbox(b)]
    async with Between(a, reflect) as between:
        await b.ring.join("test", [between.address])
        await b.ref(Inbox, "inbox", on="a").cast(Inbox.take, MARK)
        await between.passages[0].over.wait()
    await eventually(lambda: inboxes[0].seen == [MARK])
    assert inboxes[1].seen == []


async def test_w10_a_record_of_one_link_and_direction_is_good_on_no_other(
    start_node: NodeFactory, lie: LiarFactory
) -> None:
    """The ancestor signed no destination; here a record of the same number is refused on another link, and sent back."""
    a, d = await start_node("a", config=SLOW), await start_node("d", config=SLOW)
    inboxes = [await with_inbox(a), await with_inbox(d)]
    author = await lie(a, "author")
    sealed = author.seal(data([cast_to_inbox("take", MARK)]))
    others = [await lie(a, "other"), await lie(d, "author")]
    for other in others:
        other.stream.write(sealed)
        await other.all_parts()
    mirror = await lie(a, "mirror")
    await mirror.parts(2)
    mirror.stream.write(mirror.heard[4 + 33 + 16 :])  # the node's own record of that number, in the same session
    await mirror.all_parts()
    author.stream.write(sealed)
    await eventually(lambda: inboxes[0].seen == [MARK])
    assert inboxes[1].seen == []
    assert (a.stats()["invalid_checksum"], d.stats()["invalid_checksum"]) == (2, 1)


async def test_w10_a_handshake_relayed_to_another_name_is_refused(start_node: NodeFactory) -> None:
    """The ancestor's signature named nobody; here the proof of whoever answers does, and the dialler meant another."""
    a, b, c = await start_node("a"), await start_node("b"), await start_node("c", ring=None)
    inbox = await with_inbox(b)
    async with Between(b) as relay:
        with pytest.raises(WrongNode, match="'a'.*'b'"):
            await c.ring.join("test", [f"a@{relay.address}"])
        assert len(relay.passages[0].frames[Way.OUT]) == 2  # HELLO and the proof, and no record
    assert (a.ring.nodes, b.ring.nodes, inbox.seen) == ([a.id], [b.id], [])


async def test_w10_a_handshake_relayed_to_its_author_is_refused(start_node: NodeFactory) -> None:
    """A node that is dialled with its own handshake sees both names in the proofs, and takes itself for no member."""
    a = await start_node("a", ring=None)
    async with Between(a) as relay:
        await a.ring.join("test", [relay.address])
        await relay.passages[0].over.wait()
        assert len(relay.passages[0].frames[Way.OUT]) == 2
    assert a.ring.nodes == [a.id]
    assert list(a._open_kernel().links) == []
