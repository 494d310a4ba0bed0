"""What is logged at debug level, shown by `repr` or told in an error has no cookie, key or correct MAC in it.

The sieges in the tests beside this one end with the same search of all their logs. Here the
search is shown to find what it looks for, in any spelling and from a node that leaks.
"""

import asyncio
import base64
import gc
import hmac
import json
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from types import CellType, CoroutineType, FunctionType, MethodType
from typing import Any

import pytest

from clusterkit import Client, ConfigError, Node
from clusterkit.core import proof
from clusterkit.core.channel import Channel, Health
from clusterkit.core.handshake import Initiator, Proven, Responder
from clusterkit.core.proof import Party, RecordKeys, Status, prepare_cookies
from clusterkit.core.record import RecordReader, RecordWriter
from tests.conftest import NodeFactory
from tests.integration.hostile import Siege, besieged
from tests.integration.hostile_app import LEAKS, RING, Honest, Witness
from tests.integration.hostile_secrets import HEAD, Secrets
from tests.integration.hostile_visits import KINDS, Mirror, Replayer, a_true_one, disturb, record_some, spoil
from tests.integration.hostile_wire import OPENING, End, meet

COOKIE = "7fG2kQ-x9Vd_0Lr3tZw8hYb"
SECRET = bytes(range(120, 256, 5)) + b"\\'\n\r\"\0" + bytes(range(3))

# -- the search finds what it looks for -------------------------------------------------------

SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "hex": lambda secret: secret.hex().encode(),
    "HEX": lambda secret: secret.hex().upper().encode(),
    "hex with colons": lambda secret: secret.hex(":").encode(),
    "hex with spaces": lambda secret: secret.hex(" ").encode(),
    "hex after a digit": lambda secret: b"0" + secret.hex().encode(),
    "the first bytes in hex": lambda secret: secret[:HEAD].hex().encode(),
    "base64": base64.b64encode,
    "base64 for addresses": base64.urlsafe_b64encode,
    "base64 of more": lambda secret: base64.b64encode(b"x" + secret + b"yz"),
    "base64 of still more": lambda secret: base64.b64encode(b"xy" + secret),
    "repr": lambda secret: repr(secret).encode(),
    "repr of a tuple": lambda secret: repr((1, bytearray(secret))).encode(),
    "repr of text": lambda secret: repr(secret.decode("latin-1")).encode(),
    "ascii": lambda secret: ascii(secret.decode("latin-1")).encode(),
    "latin-1 text": lambda secret: secret.decode("latin-1").encode("utf-8"),
    "json": lambda secret: json.dumps(secret.decode("latin-1")).encode(),
    "numbers": lambda secret: str(list(secret)).encode(),
    "json numbers": lambda secret: json.dumps(list(secret), separators=(",", ":")).encode(),
    "one number": lambda secret: str(int.from_bytes(secret, "big")).encode(),
    "one number from the other end": lambda secret: str(int.from_bytes(secret, "little")).encode(),
    "a short number": lambda secret: str(int.from_bytes(secret[:8], "big")).encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_search_finds_a_secret_in_any_spelling(spelling: str) -> None:
    secrets, rng = Secrets(COOKIE), Random(spelling)
    for secret in (SECRET, *(rng.randbytes(rng.choice((16, 32))) for _ in range(50))):
        line = b"DEBUG clusterkit: peer 17 said \xc3\xa9 " + SPELLINGS[spelling](secret) + b", 3 left"
        assert secrets.found_in(b"DEBUG a line before\n" + line + b"\nDEBUG a line after") == set()
        secrets._add(secret, "a key")
        assert secrets.found_in(b"DEBUG a line before\n" + line + b"\nDEBUG a line after") == {"a key"}, secret


def test_the_search_finds_a_part_of_the_cookie_and_everything_that_a_link_has() -> None:
    secrets = Secrets(COOKIE)
    key, rng = prepare_cookies(COOKIE)[0], Random(5)
    a = End.dialling(Party("a", 1, "r"), key, rng)
    said = meet(a, End.listening(Party("b", 2, "r"), key, rng))
    assert a.keys is not None
    secrets.learn(b"".join(said[::2]), b"".join(said[1::2]))
    for what, secret in (
        ("the cookie", COOKIE[7:17].encode()),
        ("PRK", key),
        ("K_ir", a.keys.by_initiator),
        ("K_ri", a.keys.by_responder),
        ("mac_i", said[2][-32:]),
        ("mac_r", said[3][-32:]),
        ("a tag", said[4][-16:]),
        ("a tag", said[5][-16:]),
    ):
        assert secrets.found_in(b"DEBUG x: " + secret.hex().encode()) == {what}


def test_the_search_knows_the_mac_that_would_have_been_right() -> None:
    secrets, rng = Secrets(COOKIE), Random(5)
    hello, chal = b"CKT1\x01" + rng.randbytes(32), b"CKT1\x02" + rng.randbytes(32)
    fields = (60).to_bytes(2, "big") + rng.randbytes(28)
    secrets.learn(hello + fields + bytes(32), chal)
    key_i, _ = proof.expand(prepare_cookies(COOKIE)[0], b"clusterkit/1 auth", proof.sha256(hello, chal))
    right = hmac.digest(key_i, fields, "sha256")
    assert secrets.found_in(b"expected " + right.hex()[:16].encode()) == {"mac_i"}
    assert secrets.found_in(b"key " + repr(key_i).encode()) == {"A_i"}


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_node_that_leaks_is_found(leak: str, tmp_path: Path) -> None:
    async with besieged(tmp_path, leak=leak, tapped=True) as siege:
        await forge(siege)
        assert siege.leaks().keys() == {"victim.log"}


async def forge(siege: Siege) -> None:
    """Try a proof that has everything but the right MAC."""
    async with siege.visit() as visit:
        await visit.send(b"CKT1\x01" + siege.rng.randbytes(32))
        await visit.until(OPENING)
        await visit.send((60).to_bytes(2, "big") + b"\x03\x01\x01" + siege.rng.randbytes(57))
        await visit.to_the_end()


# -- and there is nothing to find --------------------------------------------------------------


async def test_a_node_logs_no_secret_whatever_befalls_it(tmp_path: Path) -> None:
    """Its links, those of others that it dials, and those that nobody should have tried; and asyncio's own debug log."""
    async with besieged(tmp_path, tapped=True, debug=True) as siege:
        await come_and_go(siege)
        await be_refused(siege)
        await be_attacked(siege)
        await be_cut_off(siege)
        await change_cookies(siege)
        assert siege.leaks() == {}
        said = (tmp_path / "victim.log").read_bytes()
        assert b"DEBUG asyncio" in said
        for sign in (b"INVALID_CHECKSUM", b"ended: ", b"handshake", b"dead letter"):
            assert sign in said, sign
        assert {"PRK", "A_i", "A_r", "mac_i", "mac_r", "K_ir", "K_ri", "a tag"} < set(siege.secrets.heads.values())


async def come_and_go(siege: Siege) -> None:
    """A member that joins and leaves, a client, errors of handlers, messages to nobody."""
    await siege.late_comer(port=siege.taps["victim"].port)
    async with Client("127.0.0.1", siege.taps["victim"].port, cookie=siege.cookie) as client:
        assert (await client.call("ping"))["name"] == "victim"
    witness = siege.observer.ref(Witness, "witness", on="victim")
    with pytest.raises(ValueError, match="as I was told"):
        await witness.call(Witness.fail, "as I was told")
    await siege.observer.ref(Witness, "nobody", on="victim").cast(Witness.note, 1)


async def be_refused(siege: Siege) -> None:
    """Callers that hold the cookie, and are told why not; and dials of its own that come to nothing."""
    boot = (await siege.facts())["boot"]
    callers = {
        Status.VERSION: Party("caller", 1 << 60, RING, version=9),
        Status.SELF: Party("victim", boot, RING),
        Status.RING: Party("caller", 1 << 60, "another"),
        Status.OLD_BOOT: Party("honest", 1, RING),
        Status.NAME_TAKEN: Party("victim", boot + 1, RING),
    }
    for status, me in callers.items():
        end = End.dialling(me, siege.key, siege.rng)
        async with siege.visit() as visit:
            await visit.speak(end)
        assert end.status is status
    end = End.dialling(Party("caller", 1 << 60, RING), prepare_cookies(siege.cookie[::-1])[0], siege.rng)
    async with siege.visit() as visit:
        await visit.speak(end)
    assert end.keys is None
    async with Mirror() as mirror:
        assert await siege.dialled(mirror.port) == "AuthFailed"
    assert await siege.dialled(siege.taps["honest"].port, "nobody") == "WrongNode"


async def be_attacked(siege: Siege) -> None:
    """What the sieges do, a little of each."""
    recordings, _ = await record_some(siege)
    others, back = await a_true_one(siege)
    await forge(siege)
    for number in range(60):
        data = KINDS[number % len(KINDS)](siege.rng, recordings)
        await disturb(siege, data, stays=False, at_once=number % 2 == 0)
        await spoil(siege, "caller", others, back)
    async with Replayer(siege, recordings) as replayer:
        assert await siege.dialled(replayer.port) == "AuthFailed"


async def be_cut_off(siege: Siege) -> None:
    """All links break, some by a flipped bit, and are made anew."""
    for place in (None, OPENING + 20, None, OPENING + 60):
        for tap in siege.taps.values():
            tap.flip = None if place is None else (0, 8 * place)
            tap.reset()
        await siege.honest()


async def change_cookies(siege: Siege) -> None:
    """From one cookie to the next, one step after the other on each node."""
    old, new = siege.cookie, "Q3kz81Wd-ePq7Uj_m2Xs5oC"
    siege.secrets.know(new)
    for cookies in ([old, new], [new, old], [new]):
        siege.observer.set_cookies(cookies)
        await siege.observer.ref(Witness, "witness", on="victim").call(Witness.take_cookies, cookies)
        await siege.observer.ref(Honest, "honest", on="honest").call(Honest.take_cookies, cookies)
        await siege.honest()


# -- what is shown by repr, and told in errors -----------------------------------------------------


async def test_no_object_of_a_node_shows_a_key(start_node: NodeFactory) -> None:
    """Whatever a node is made of and holds, down to the tasks and timers that asyncio would print."""
    a = await start_node("a", cookie=COOKIE)
    b = await start_node("b", cookie=COOKIE, seeds=(a,))
    await b.ping("a")
    loop = asyncio.get_running_loop()
    found = [*reachable([a, b, *asyncio.all_tasks()]), *loop._scheduled]  # type: ignore[attr-defined]
    kinds = {type(each).__name__ for each in found}
    assert {"Node", "Links", "Link", "Connection", "Channel", "RecordReader", "Session", "RecordKeys", "Proven"} < kinds
    keys = {each for each in found if isinstance(each, bytes) and len(each) == 32}
    assert {*a._keys} < keys
    secrets = Secrets(COOKIE)
    for key in keys:
        secrets._add(key, "a key")
    assert secrets.found_in(repr(keys).encode()) == {"a key"}
    for each in found:
        if not isinstance(each, bytes):
            assert secrets.found_in(f"{each!r} {each}".encode("utf-8", "replace")) == set(), type(each)


def reachable(roots: Iterable[object]) -> list[object]:
    """All objects of clusterkit's classes, all tasks and all bytes, that can be reached from some, also by locals."""
    seen: dict[int, object] = {}
    todo = list(roots)
    while todo:
        each = todo.pop()
        ours = type(each).__module__.partition(".")[0] == "clusterkit"
        if id(each) not in seen and (ours or isinstance(each, _HOLDERS)):
            seen[id(each)] = each
            todo += (each.__closure__ or ()) if isinstance(each, FunctionType) else gc.get_referents(each)
    return [each for each in seen.values() if not isinstance(each, _PLAIN) or isinstance(each, bytes)]


_PLAIN = (dict, list, tuple, set, frozenset, deque, bytes, FunctionType, MethodType, CellType, CoroutineType, partial)
_HOLDERS = (*_PLAIN, asyncio.Future, asyncio.Handle)


def test_keys_alone_do_not_show_themselves() -> None:
    keys = RecordKeys(SECRET, SECRET)
    secrets = Secrets(COOKIE)
    secrets._add(SECRET, "a key")
    rng = Random(1)
    shown = [
        keys,
        Proven(Party("a", 1), keys, SECRET),
        Initiator(Party("a", 1), SECRET, rng.randbytes(32), expected=None, known_boot=lambda name: 0, now=0.0),
        Responder(Party("a", 1), [SECRET], rng.randbytes(32), now=0.0),
        RecordWriter(SECRET),
        RecordReader(SECRET, 1 << 20),
        Channel(keys, initiator=True, most=1 << 20, health=Health(), expects_reply=lambda: False),
        Node("a@127.0.0.1:0", cookie=COOKIE),
        Client("127.0.0.1", 1, cookie=COOKIE),
    ]
    assert secrets.found_in(repr(SECRET).encode()) == {"a key"}
    assert secrets.found_in(repr(shown).encode()) == set()


@pytest.mark.parametrize(
    "bad",
    [
        COOKIE[:15],
        COOKIE[:15].encode(),
        [COOKIE] * 5,
        [COOKIE, 7],
        {COOKIE: COOKIE},
        [COOKIE, COOKIE[:9]],
        COOKIE + "\ud800",
    ],
    ids=["short", "short bytes", "five", "a number", "a mapping", "one of them short", "no UTF-8"],
)
async def test_an_error_about_a_cookie_does_not_tell_it(bad: Any, start_node: NodeFactory) -> None:
    node = await start_node("a", cookie=COOKIE)
    secrets = Secrets(COOKIE)
    for refused in (lambda: Node("a@127.0.0.1:0", cookie=bad), lambda: node.set_cookies(bad)):
        with pytest.raises(ConfigError) as caught:
            refused()
        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
        assert secrets.found_in(told.encode("utf-8", "replace")) == set()
