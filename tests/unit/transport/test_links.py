"""All links of a node: which there are, whose session waits and how long, and how they all end."""

import asyncio

import pytest

from clusterkit import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Role
from clusterkit.core.record import Kind
from clusterkit.errors import ProtocolError, WrongNode
from clusterkit.runtime import now
from clusterkit.transport.base import Stream
from tests.conftest import eventually
from tests.unit.transport.floors import (
    LATENCY,
    SOON,
    Stage,
    broken,
    goodbye,
    is_kept,
    opened,
    put,
    read_to_end,
    stranger,
)

pytestmark = pytest.mark.simulation


# -- the table


async def test_the_greatest_boot_that_was_announced_or_proven_is_known() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        for boot in (5, 7, 6):
            a.links.learn_boot("x", boot)
        await a.open_to(b)
        assert [a.links.known_boot(name) for name in ("x", "b", "y")] == [7, 10, 0]
        assert b.links.known_boot("a") == 10


async def test_a_link_that_is_not_open_takes_the_address_that_was_heard_of_last() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = a.links.link_to(NodeId("b", "10.9.9.9", 1))
        assert a.links.link_to(NodeId("b", "", 0)) is link
        assert (link.peer.host, link.peer.port) == ("10.9.9.9", 1)
        assert a.links.link_to(b.id) is link
        await eventually(lambda: link.open)
        a.links.link_to(NodeId("b", "10.9.9.9", 1))
        assert link.peer == b.id
        assert [each.peer.name for each in a.links] == ["b"]


async def test_no_two_sessions_have_one_number() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        numbers = [a.links.new_session().own for _ in range(5)]
        assert sorted(set(numbers)) == numbers
        assert numbers[0] > 0


async def test_a_caller_that_nobody_wants_is_forgotten_unless_its_session_may_go_on() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        await (await stage.caller(a, "x")).aclose()
        theirs = await broken(stage, a, "y")
        assert [each.peer.name for each in a.links] == ["y"]
        again = await stage.caller(a, "y")
        again.resume(peer=theirs.own)
        await asyncio.sleep(SOON)
        assert a.to("y").open
        again.send(goodbye(Reason.STOP))
        await asyncio.sleep(SOON)
        assert list(a.links) == []


async def test_a_peer_that_is_wanted_is_kept_though_its_session_ended() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        link = a.links.link_to(NodeId("x", "10.9.9.9", 1))
        await (await stage.caller(a, "x")).aclose()
        await asyncio.sleep(SOON)
        assert list(a.links) == [link]


async def test_a_seed_that_nobody_wants_after_all_is_forgotten() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.links.dial_seed(b.network.host, b.port)
        await eventually(lambda: link.open)
        assert link.peer == b.id
        await b.links.part_all(Reason.LEAVE, now())
        await asyncio.sleep(SOON)
        assert list(a.links) == list(b.links) == []


# -- sessions that wait for their peers


async def test_a_peer_that_may_have_met_our_session_keeps_it() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        link = await a.links.dial_seed(b.network.host, b.port)
        session = link.session
        await asyncio.sleep(1.5 * LATENCY)  # b has opened, and its answer is on the way
        assert b.of("opened")
        stage.world.reset("a", "b")
        await asyncio.sleep(SOON)
        assert (a.links.get("b"), link.open, link.session is session) == (link, False, True)
        await b.open_to(a)
        assert link.session is session


async def test_sessions_of_peers_that_replace_their_connection_in_vain_are_bounded_too() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(session_limit=2, link_limit=5))
        for number in range(8):
            first = await stage.caller(a, f"x{number}")
            await first.resumed(own=5)
            second = await stage.caller(a, f"x{number}")
            second.resume(own=4)  # an object that has ended
            await second.listen()
            assert second.ended
        assert sorted(link.peer.name for link in a.links) == ["x6", "x7"]


async def test_past_the_bound_the_oldest_session_of_a_client_is_ended_and_nodes_come_last() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(session_limit=3))
        node = await broken(stage, a, "n")
        clients = [await broken(stage, a, f"c{number}", role=Role.CLIENT) for number in range(2)]
        assert a.links.counters["sessions_evicted"] == 0
        await broken(stage, a, "m")
        assert a.links.counters["sessions_evicted"] == 1
        assert sorted(each.peer.name for each in a.links) == ["c1", "m", "n"]
        await broken(stage, a, "o")
        assert sorted(each.peer.name for each in a.links) == ["m", "n", "o"]
        assert await is_kept(stage, a, "n", node)
        assert not await is_kept(stage, a, "c1", clients[1], role=Role.CLIENT)


async def test_of_nodes_alone_the_one_that_waits_longest_is_ended() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(session_limit=2))
        for name in "lmno":
            await broken(stage, a, name)
        assert sorted(each.peer.name for each in a.links) == ["n", "o"]
        assert a.links.counters["sessions_evicted"] == 2


async def test_a_session_that_goes_on_waits_no_more() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(session_limit=2))
        first = await broken(stage, a, "l")
        await broken(stage, a, "m")
        assert await is_kept(stage, a, "l", first)
        await broken(stage, a, "n")
        assert a.links.counters["sessions_evicted"] == 0
        await a.links.forget("m", "removed")
        await broken(stage, a, "o")
        assert a.links.counters["sessions_evicted"] == 0


# -- clients


async def test_a_clients_session_waits_for_it_so_long() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(client_linger=10.0))
        theirs = await broken(stage, a, "cli", role=Role.CLIENT)
        for _ in range(3):  # longer than it waits, with all the breaks
            await asyncio.sleep(7)
            caller = await stage.caller(a, "cli", role=Role.CLIENT)
            assert (await caller.resumed(peer=theirs.own)).own == theirs.own
            await caller.aclose()
        await asyncio.sleep(9.9)
        assert len(list(a.links)) == 1
        await asyncio.sleep(0.2)
        assert list(a.links) == []


async def test_a_client_that_is_there_is_not_forgotten_however_long_it_stays() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(client_linger=10.0))
        theirs = await broken(stage, a, "cli", role=Role.CLIENT)
        caller = await stage.caller(a, "cli", role=Role.CLIENT)
        await caller.resumed(peer=theirs.own)
        await asyncio.sleep(100)
        [link] = a.links
        assert link.open


async def test_a_client_that_came_back_as_its_time_was_up_is_not_forgotten() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        await opened(stage, a, "cli", role=Role.CLIENT)
        a.links._client_gone(("cli", 10))
        await asyncio.sleep(SOON)
        [link] = a.links
        assert link.open


async def test_a_client_whose_session_ended_is_forgotten_at_once() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        await (await stage.caller(a, "cli", role=Role.CLIENT)).aclose()
        caller = await stage.caller(a, "cli", role=Role.CLIENT)
        await caller.resumed()
        caller.send(goodbye(Reason.STOP))
        await asyncio.sleep(SOON)
        assert list(a.links) == []


async def test_two_runs_of_a_client_and_a_node_of_its_name_do_not_clash() -> None:
    async with Stage() as stage:
        a = await stage.floor("a")
        answers = [
            await opened(stage, a, "x", boot=99, role=Role.CLIENT),
            await opened(stage, a, "x", boot=10, role=Role.CLIENT),
            await opened(stage, a, "x", boot=10),
        ]
        assert len({answer.own for answer in answers}) == 3
        assert all(link.open for link in a.links)
        assert a.links.known_boot("x") == 10


# -- dialling


async def test_a_dial_that_nobody_answers_ends_in_time() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(connect_timeout=2.0))
        with pytest.raises(TimeoutError, match="no answer within 2 s"):
            async with asyncio.timeout(3):
                await a.links.dial("10.9.9.9", 1, None)


async def test_a_node_that_connects_and_says_nothing_is_given_up_in_time() -> None:
    async with Stage() as stage:
        a = await stage.floor("a", config=Config(handshake_timeout=6.0))
        silent = stage.world.network("silent")
        taken: list[Stream] = []
        listener = await silent.listen(silent.host, 0, taken.append)
        with pytest.raises(ProtocolError, match="took too long"):
            async with asyncio.timeout(7):
                await a.links.dial(silent.host, listener.port, None)
        taken[0].abort()
        await listener.aclose()


async def test_a_dial_that_is_cancelled_leaves_no_connection() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        for turns in range(7):
            dialling = asyncio.create_task(a.links.dial(b.network.host, b.port, "b"))
            await asyncio.sleep((turns + 0.5) * LATENCY)
            if not dialling.done():
                dialling.cancel()
                await asyncio.wait([dialling])
            else:
                (await dialling)[0].abort()
        await asyncio.sleep(SOON)
        assert len(b.links._unproven) == 0
        assert list(b.links) == []


async def test_a_seed_is_whoever_answers_or_the_one_that_was_named() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        with pytest.raises(WrongNode):
            await a.links.dial_seed(b.network.host, b.port, "c")
        link = await a.links.dial_seed(b.network.host, b.port)
        assert (link.peer, a.links.get("b")) == (b.id, link)


# -- the end


async def test_a_node_that_closes_takes_nobody_and_says_goodbye_to_all() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        await b.open_to(a)
        client = await stage.caller(a, "cli", role=Role.CLIENT)
        await client.resumed()
        lingering = await broken(stage, a, "gone", role=Role.CLIENT)
        assert lingering.own
        idle = await stranger(stage, a)
        await a.links.aclose(Reason.LEAVE, now() + 5)
        await client.listen()
        assert (Kind.GOODBYE, bytes([Reason.LEAVE])) in client.parts
        assert b.of("parted") == [("a", Reason.LEAVE)]
        assert await read_to_end(idle, 0.1) == b""
        with pytest.raises(ConnectionRefusedError):
            await stranger(stage, a)
        assert list(a.links) == []


async def test_all_that_was_taken_is_delivered_before_the_goodbye() -> None:
    async with Stage() as stage:
        a, b, c = await stage.floors("a", "b", "c")
        for peer in (b, c):
            put(await a.open_to(peer), *range(500))
        await a.links.aclose(Reason.STOP, now() + 5)
        assert b.got == c.got == [*range(500)]


@pytest.mark.parametrize("reset", [False, True])
async def test_nobody_hears_a_goodbye_before_all_have_what_was_sent_to_them(reset: bool) -> None:
    async with Stage() as stage:
        a, b, c = await stage.floors("a", "b", "c")
        await a.open_to(b)
        put(await a.open_to(c), "held up")
        stage.world.partition("a", "c", reset=reset)
        parting = asyncio.create_task(a.links.part_all(Reason.LEAVE, now() + 5))
        await asyncio.sleep(2)
        assert b.of("parted") == []
        stage.world.heal()
        await parting
        assert b.of("parted") == c.of("parted") == [("a", Reason.LEAVE)]
        assert c.got == ["held up"]


async def test_who_comes_while_goodbyes_are_said_hears_one_too() -> None:
    async with Stage() as stage:
        a, b, c = await stage.floors("a", "b", "c")
        put(await a.open_to(b), "held up")
        stage.world.partition("a", "b")
        parting = asyncio.create_task(a.links.part_all(Reason.LEAVE, now() + 2))
        await asyncio.sleep(1)
        await c.open_to(a)
        await parting
        assert c.of("parted") == [("a", Reason.LEAVE)]
        assert list(a.links) == []


async def test_stats_are_what_was_counted() -> None:
    async with Stage() as stage:
        a, b = await stage.floors("a", "b")
        await a.open_to(b)
        stats = b.links.stats()
        assert (stats["accepted"], stats["refused"], stats["accept_pauses"]) == (1, 0, 0)
