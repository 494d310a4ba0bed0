"""Handshakes that somebody stands in the middle of: changed, sent back, passed on to others.

What opens in the end is a link between two ends that agree on both names, or nothing. Every
single bit is flipped between two core machines in each run of the suite; over sockets one of
forty, and all of them with ``-m long``.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from clusterkit.core.proof import Party, Role, Status, prepare_cookies
from clusterkit.errors import ClusterError
from tests.integration.hostile import besieged, swarm
from tests.integration.hostile_tap import Tap
from tests.integration.hostile_visits import NOTE, Mirror
from tests.integration.hostile_wire import (
    OPENING,
    STEPS,
    End,
    bits_of_the_handshake,
    flipped,
    meet,
    split,
)

COUNT = 1_000
SCALES = [
    pytest.param(100, id="a hundredth"),
    pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
]
BITS = [
    pytest.param(40, id="one of forty"),
    pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
]

[COOKIE] = prepare_cookies(bytes(32))
[OTHER_COOKIE] = prepare_cookies(bytes(31) + b"\x01")
A, B, C = Party("node-a", 10, "prod"), Party("node-b", 20, "prod"), Party("node-c", 30, "prod")


def pair(rng: Random) -> tuple[End, End]:
    """A dials B, and each has something to say."""
    ends = End.dialling(A, COOKIE, rng, expected="node-b"), End.listening(B, COOKIE, rng)
    for end in ends:
        end.queue(NOTE)
    return ends


def refused(*ends: End, what: str = "") -> None:
    """None of them is open, and nothing came through."""
    for end in ends:
        assert not end.open, what
        assert not end.delivered, what


# -- bits -------------------------------------------------------------------------------


def test_untouched_the_two_open_and_agree() -> None:
    a, b = pair(Random(1))
    said = meet(a, b)
    assert a.open
    assert b.open
    assert (a.peer, b.peer) == (B, A)
    assert a.keys == b.keys
    assert len(a.delivered) == len(b.delivered) == 1
    assert len(bits_of_the_handshake(said)) == 8 * (2 * 37 + 2 * 57 + 2 * 53)


def test_of_the_six_messages_no_bit_can_be_flipped() -> None:
    said = meet(*pair(Random(1)))
    for step, bit in bits_of_the_handshake(said):
        a, b = pair(Random(1))
        meet(a, b, lambda now, data, step=step, bit=bit: flipped(data, bit) if now == step else data)  # type: ignore[misc]
        place = f"{STEPS[step]}, bit {bit}"
        refused(a, b, what=place)
        assert step > 2 or b.status is None, place  # nobody is judged who has not proven anything
        assert step > 3 or a.keys is None, place
        assert isinstance(a.error, ClusterError | ConnectionResetError), place


@pytest.mark.parametrize("every", BITS)
async def test_nor_can_one_on_the_way_to_a_node_that_works(every: int, tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        said = meet(
            siege.end("x", expected=None), End.listening(Party("victim", 1 << 61, "siege"), siege.key, siege.rng)
        )
        places = bits_of_the_handshake(said)[::every]
        async with Tap(siege) as tap:

            async def one(number: int) -> None:
                step, bit = places[number]
                before = sum(len(data) for data in said[step % 2 : step : 2])
                end = siege.end(f"caller-{number % 50}")
                end.queue(NOTE)
                tap.flip = step % 2, 8 * before + bit
                async with siege.visit(port=tap.port) as visit:
                    await visit.speak(end)
                    assert not end.open, (STEPS[step], bit)
                    visit.half_close()
                    await visit.to_the_end()
                    assert step > 2 or len(visit.seen) <= OPENING, (STEPS[step], bit)  # it is told nothing

            await swarm(range(len(places)), one, at_once=1)
            end = siege.end("caller-0")
            async with siege.visit(port=tap.port) as visit:
                await visit.speak(end)
                assert end.open  # nothing but the bit was in the way
        await siege.held(callers=tuple(f"caller-{number}" for number in range(50)))


# -- reflected and relayed, between core machines ------------------------------------------


def mirror(rng: Random) -> None:
    """A's own bytes come back to it, dressed as an answer."""
    a = End.dialling(A, COOKIE, rng)
    auth_i = a.hear(a.begin().replace(b"CKT1\x01", b"CKT1\x02"))
    a.hear(auth_i[:2] + b"\x04\x01\x00" + auth_i[5:])
    refused(a)


def own_port(rng: Random) -> None:
    """A dials somebody who passes everything on to A's own port: all proofs are good, and the name is its own."""
    a, listening = End.dialling(A, COOKIE, rng), End.listening(A, COOKIE, rng)
    meet(a, listening)
    refused(a, listening)
    assert a.status is Status.SELF


def own_dial(rng: Random) -> None:
    """A dials twice, and each dial is shown what the other says."""
    one, other = End.dialling(A, COOKIE, rng), End.dialling(A, COOKIE, rng)
    hello_1, hello_2 = one.begin(), other.begin()
    auth_1 = one.hear(b"CKT1\x02" + hello_2[5:])
    auth_2 = other.hear(b"CKT1\x02" + hello_1[5:])
    one.hear(auth_2)
    other.hear(auth_1[:2] + b"\x04\x01\x00" + auth_1[5:])
    refused(one, other)


def two_listeners(rng: Random) -> None:
    """B's challenge is answered by A, and the answer shown to C."""
    a, b, c = End.dialling(A, COOKIE, rng), End.listening(B, COOKIE, rng), End.listening(C, COOKIE, rng)
    hello = a.begin()
    c.hear(hello)
    auth_i = a.hear(b.hear(hello))
    assert not c.hear(auth_i)
    refused(a, c)


def two_links(rng: Random) -> None:
    """The proofs of two handshakes of the same two nodes change places."""
    first, second = pair(rng), pair(rng)
    auths = [a.hear(b.hear(a.begin())) for a, b in (first, second)]
    for (_, b), auth in zip((second, first), auths, strict=True):
        assert not b.hear(auth)
    refused(*first, *second)


def the_other_answer(rng: Random) -> None:
    """Both callers are shown the answer that was meant for the other."""
    first, second = pair(rng), pair(rng)
    answers = [b.hear(a.hear(b.hear(a.begin()))) for a, b in (first, second)]
    for (a, _), answer in zip((second, first), answers, strict=True):
        assert not a.hear(answer)
    refused(*first, *second)


def another_name(rng: Random) -> None:
    """A dialled C, and whoever took the call passed it on to B."""
    a, b = End.dialling(A, COOKIE, rng, expected="node-c"), End.listening(B, COOKIE, rng)
    meet(a, b)
    refused(a, b)


def another_ring(rng: Random) -> None:
    """The same cookie, another ring."""
    a, b = End.dialling(A, COOKIE, rng), End.listening(Party("node-b", 20, "test"), COOKIE, rng)
    meet(a, b)
    refused(a, b)
    assert a.status is Status.RING


def another_cookie(rng: Random) -> None:
    """Passed on to a cluster with another cookie."""
    a, b = End.dialling(A, COOKIE, rng), End.listening(B, OTHER_COOKIE, rng)
    meet(a, b)
    refused(a, b)


def client_as_node(rng: Random) -> None:
    """A client's call, passed on with the role of a node."""
    client, b = End.dialling(Party("tool", 5, "", Role.CLIENT), COOKIE, rng), End.listening(B, COOKIE, rng)
    meet(client, b, lambda step, data: data[:4] + b"\x01" + data[5:] if step == 2 else data)
    refused(client, b)


def refusal_turned_into_a_yes(rng: Random) -> None:
    """The status in B's answer is overwritten, and the other way round."""
    verdict = rng.choice([0, 3])
    b = Party("node-b", 20, "test" if not verdict else "prod")
    a, listening = End.dialling(A, COOKIE, rng), End.listening(b, COOKIE, rng)
    meet(a, listening, lambda step, data: data[:4] + bytes((verdict,)) + data[5:] if step == 3 else data)
    refused(a, listening)


def records_sent_back(rng: Random) -> None:
    """Every record comes back to its author, the first or a later one."""
    a, b = pair(rng)
    resume = a.hear(b.hear(a.hear(b.hear(a.begin()))))
    if rng.random() < 0.5:
        assert not a.hear(resume)
        assert not a.open
    else:
        out = a.hear(b.hear(resume))
        assert a.open
        delivered = len(a.delivered)
        a.hear(out)
        assert a.error is not None
        assert len(a.delivered) == delivered


def passed_on(rng: Random) -> None:
    """A dials whoever, who passes all of it on to B: A and B agree, and a byte of the one between is noticed."""
    a, b = End.dialling(A, COOKIE, rng), End.listening(B, COOKIE, rng)
    meet(a, b)
    assert a.open
    assert b.open
    assert (a.peer, b.peer) == (B, A)
    a.queue(NOTE)
    (record,) = split(a.records())
    b.hear(flipped(record, rng.randrange(8 * len(record))))
    b.hear(record)
    assert b.delivered == []


TRICKS: list[Callable[[Random], None]] = [
    mirror,
    own_port,
    own_dial,
    two_listeners,
    two_links,
    the_other_answer,
    another_name,
    another_ring,
    another_cookie,
    client_as_node,
    refusal_turned_into_a_yes,
    records_sent_back,
    passed_on,
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_reflected_and_relayed_handshakes_open_nothing_that_both_ends_do_not_agree_on(
    trick: Callable[[Random], None],
) -> None:
    for seed in range(-(-COUNT // len(TRICKS))):
        trick(Random(f"{trick.__name__} {seed}"))


# -- reflected and relayed, to a node that works ---------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
async def test_a_node_that_dials_somebody_in_the_middle_is_not_deceived(scale: int, tmp_path: Path) -> None:
    """The one between sends it its own words, or passes it on to its own port, or to a member that it did not mean."""
    async with (
        besieged(tmp_path) as siege,
        Mirror() as mirror,
        Tap(siege) as own,
        Tap(siege, siege.honest_port) as other,
    ):
        ways = (
            (mirror.port, None, "AuthFailed"),
            (own.port, None, "DialledSelf"),
            (own.port, "honest", "DialledSelf"),
            (other.port, "somebody", "WrongNode"),
            (other.port, None, "proven honest"),  # it is: both know each other's name, and no byte can be changed
        )

        async def one(number: int) -> None:
            port, expected, outcome = ways[number % len(ways)]
            assert await siege.dialled(port, expected) == outcome

        await swarm(range(COUNT // scale), one, at_once=8)
        await siege.held()


async def test_who_joins_through_somebody_in_the_middle_is_a_member_like_others(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege, Tap(siege) as tap:
        assert await siege.late_comer(port=tap.port) < 5.0
        assert "late" in (await siege.facts())["ups"]
        await siege.held()
