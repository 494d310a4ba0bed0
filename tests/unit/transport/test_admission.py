"""Who may connect to a node, in what order it is judged, and what a stranger may cost."""

import asyncio
from typing import Any

import pytest

from clusterkit import Config
from clusterkit.core.channel import Reason
from clusterkit.core.proof import OPENING_SIZE, Role, opening, prepare_cookies
from clusterkit.errors import AuthFailed, JoinError, ListenError, NameConflict, OldIncarnation, PeerFull, PeerLeaving
from clusterkit.runtime import now
from clusterkit.transport.links import source_of
from tests.conftest import COOKIE
from tests.unit.transport.floors import LATENCY, SOON, Floor, Stage, broken, is_kept, opened, read_to_end, stranger

pytestmark = pytest.mark.simulation

NEXT = "the next cookie of all tests"


# -- who may connect


async def test_whoever_listens_in_our_place_is_told_with_the_address() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        other = Floor(stage.world, "a", port=a.port)
        with pytest.raises(ListenError, match=f"cannot listen on {a.network.host}:{a.port}"):
            await other.links.listen(a.network.host, a.port)
        await other.links.aclose(Reason.STOP, now())


@pytest.mark.parametrize("cookie", [COOKIE, NEXT])
async def test_every_cookie_that_is_accepted_is(cookie: str) -> None:
    async with Stage() as stage:
        a = await stage.floor("a", cookie=[COOKIE, NEXT])
        await opened(stage, a, cookie=cookie)
        keys = prepare_cookies([COOKIE, NEXT, "a third cookie of all tests"])
        assert [a.links.accepts(key) for key in keys] == [True, True, False]


async def test_the_first_cookie_is_dialled_with() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", cookie=[COOKIE, NEXT])
        b, c = await stage.floor("b", cookie=COOKIE), await stage.floor("c", cookie=NEXT)
        await a.open_to(b)
        with pytest.raises(AuthFailed):
            await a.links.dial(c.network.host, c.port, "c")
        assert a.links.counters["cookie_mismatch"] == 1
        assert (c.links.counters["invalid_checksum"], c.links.counters["refused"]) == (1, 1)


async def test_an_old_incarnation_is_refused_and_told_the_known_one() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        await stage.caller(a, boot=11)
        with pytest.raises(OldIncarnation) as caught:
            await stage.caller(a, boot=10)
        assert caught.value.known == 11


async def test_a_boot_that_was_refused_is_not_known() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        a.links.leaving = True
        with pytest.raises(PeerLeaving):
            await stage.caller(a, boot=11)
        a.links.leaving = False
        await opened(stage, a, boot=10)


async def test_another_incarnation_is_refused_while_the_one_before_answers() -> None:
    async with Stage() as stage:
        a, x = await stage.floors("a", "x")
        link = await x.open_to(a)
        with pytest.raises(NameConflict):
            await stage.caller(a, "x", boot=11)
        stage.world.partition("a", "x")
        with pytest.raises(OldIncarnation):
            async with asyncio.timeout(1):
                await stage.caller(a, "x", boot=9)  # nobody needs to be asked
        began = now()
        await stage.caller(a, "x", boot=11)
        assert 1.9 < now() - began < 2.2
        assert link.open


async def test_the_same_incarnation_may_open_another_connection_though_its_first_one_answers() -> None:
    async with Stage() as stage:
        a, x = await stage.floors("a", "x")
        link = await x.open_to(a)
        stream, proven = await x.links.dial(a.network.host, a.port, "a")
        stream.abort()
        assert proven.peer.name == "a"
        assert (link.open, a.links.counters["refused"]) == (True, 0)


async def test_who_waits_for_the_verdict_is_not_pushed_out_by_strangers() -> None:
    async with Stage() as stage:
        a, x = await stage.floors("a", "x", config=Config(unproven_limit=1))
        await x.open_to(a)
        stage.world.partition("a", "x")
        waiting = asyncio.create_task(stage.caller(a, "x", boot=11))
        await asyncio.sleep(SOON)  # the incarnation before is asked whether it is alive
        strangers = [await stranger(stage, a) for _ in range(3)]
        await (await waiting).resumed()
        for stream in strangers:
            stream.abort()


async def test_links_are_bounded_but_not_those_that_are_known() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(link_limit=3))
        await opened(stage, a, "x")
        await opened(stage, a, "cli", role=Role.CLIENT)
        theirs = await broken(stage, a, "y")
        await opened(stage, a, "z")  # y only waits
        for role in Role:
            with pytest.raises(PeerFull):
                await stage.caller(a, "w", role=role)
        await opened(stage, a, "x")
        await opened(stage, a, "cli", role=Role.CLIENT)
        assert await is_kept(stage, a, "y", theirs)


async def test_who_waits_for_our_dial_is_spared_for_a_second() -> None:
    async with Stage() as stage:
        a, m = await stage.floors("a", "m")
        link = a.links.link_to(m.id)
        await asyncio.sleep(4.5 * LATENCY)
        assert link.challenged_at is not None
        stage.world.cut("m", "a")
        with pytest.raises(JoinError, match="dials this node at the same time"):
            await stage.caller(a, "m")
        await asyncio.sleep(1)
        await opened(stage, a, "m")
        assert link.open


# -- without a proof


async def test_of_too_many_without_a_proof_the_oldest_of_the_busiest_source_goes() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(unproven_limit=3))
        quiet = await stranger(stage, a, "quiet")
        busy = [await stranger(stage, a, "busy") for _ in range(3)]
        assert await read_to_end(busy[0], 0.1) == b""
        await opened(stage, a)  # proven, and no longer among them
        assert a.links.counters["evicted"] == 2
        assert await read_to_end(busy[1], 0.1) == b""
        for stream in (quiet, busy[2]):
            with pytest.raises(TimeoutError):
                await read_to_end(stream, 0.1)


async def test_who_has_proven_itself_is_never_evicted() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(unproven_limit=1))
        callers = [await stage.caller(a, f"x{number}") for number in range(5)]
        strangers = [await stranger(stage, a) for _ in range(3)]
        for caller in callers:
            await caller.resumed()
        assert a.links.counters["evicted"] == 2
        for stream in strangers:
            stream.abort()


async def test_a_stranger_has_less_time_than_one_that_proved_itself() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(proof_timeout=2.0, handshake_timeout=8.0))
        silent, halfway = await stranger(stage, a), await stranger(stage, a)
        halfway.write(opening(1, bytes(32)))
        began = now()
        assert await read_to_end(silent, 5) == b""
        assert len(await read_to_end(halfway, 5)) == OPENING_SIZE
        assert 1.9 < now() - began < 2.1
        assert (a.links.counters["refused"], len(a.links._unproven)) == (2, 0)


async def test_one_that_says_something_else_is_closed_at_once() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        stream = await stranger(stage, a)
        stream.write(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
        assert await read_to_end(stream, 0.1) == b""


# -- how many proofs a source may cost

SLOW = Config(proof_rate=10.0, proof_burst=2)


async def seconds_to_prove(stage: Stage, to: Floor, name: str, **how: Any) -> float:
    began = now()
    await stage.caller(to, name, **how)
    return round(now() - began - 6 * LATENCY, 6)


async def test_proofs_of_one_source_beyond_its_burst_stand_in_line_and_others_do_not_feel_it() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=SLOW)
        async with asyncio.TaskGroup() as group:
            busy = [group.create_task(seconds_to_prove(stage, a, f"x{number}", via="busy")) for number in range(5)]
            quiet = group.create_task(seconds_to_prove(stage, a, "y", via="quiet"))
        assert sorted(task.result() for task in busy) == pytest.approx([0, 0, 0.1, 0.2, 0.3])
        assert quiet.result() == 0
        assert a.links.counters["proofs_delayed"] == 3
        assert await seconds_to_prove(stage, a, "z", via="busy") > 0.05  # what was waited for is spent


async def test_who_leaves_the_line_makes_it_shorter() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=SLOW)
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(stage.caller(a, f"x{number}"))
        waiting = [asyncio.create_task(stage.caller(a, f"y{number}")) for number in range(8)]
        await asyncio.sleep(10 * LATENCY)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await asyncio.sleep(SOON)
        assert await seconds_to_prove(stage, a, "z") < 0.1


async def test_a_flood_of_wrong_proofs_is_slowed_down_too() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=SLOW)
        began = now()
        for number in range(6):
            with pytest.raises(AuthFailed):
                await stage.caller(a, f"x{number}", cookie=NEXT)
        assert now() - began > 0.35
        assert a.links.counters["invalid_checksum"] == 6


async def test_a_proof_whose_turn_comes_after_its_deadline_is_not_checked() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(proof_rate=0.1, proof_burst=1, proof_timeout=1.0))
        await stage.caller(a, "x")
        began = now()
        with pytest.raises(AuthFailed):
            await stage.caller(a, "y")
        assert 0.9 < now() - began < 1.1
        assert a.links.counters["refused"] == 1


async def test_a_byte_too_many_in_the_line_ends_the_wait() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(proof_rate=0.1, proof_burst=1))
        await stage.caller(a, "x")
        stream = await stranger(stage, a, "by hand")
        stream.write(opening(1, bytes(32)))
        stream.write((46).to_bytes(2, "big") + bytes(46))
        await asyncio.sleep(SOON)
        stream.write(b"x")
        assert len(await read_to_end(stream, 0.1)) == OPENING_SIZE


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
async def test_a_customers_network_is_one_source(remote: str, source: str) -> None:
    assert source_of(remote) == source
