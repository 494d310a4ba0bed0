"""The faults of the network in memory, one by one; its laws are in tests/conformance."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from clusterkit import runtime
from clusterkit.testing.loop import running_simulation
from clusterkit.testing.machine import Machine
from clusterkit.testing.network import World
from clusterkit.testing.path import Conditions
from clusterkit.transport.base import Stream

pytestmark = pytest.mark.simulation(seeds=3)
SLOW = Conditions(latency=0.1, jitter=0.0, fragmentation=0.0)


@contextlib.asynccontextmanager
async def pair(world: World, src: str = "a", dst: str = "b") -> AsyncIterator[tuple[Stream, Stream]]:
    """A connection from ``src`` to ``dst``: both ends."""
    taken: asyncio.Queue[Stream] = asyncio.Queue()
    listener = await world.network(dst).listen("0.0.0.0", 0, taken.put_nowait)
    near = await world.network(src).connect(dst, listener.port)
    far = await taken.get()
    await listener.aclose()
    try:
        yield near, far
    finally:
        near.abort()
        far.abort()


async def ends_within(seconds: float, stream: Stream) -> bytes | OSError | None:
    """What a read gives: bytes, an error, or None when nothing comes in time."""
    try:
        async with asyncio.timeout(seconds):
            return await stream.read(1 << 20)
    except TimeoutError:
        return None
    except OSError as error:
        return error


def refuse(stream: Stream) -> None:
    raise AssertionError(f"nobody should reach this listener: {stream}")


# -- time on the way --------------------------------------------------------------


async def test_a_connect_takes_a_round_trip_and_a_message_half_of_one() -> None:
    world = World(SLOW)
    started = runtime.now()
    async with pair(world) as (near, far):
        assert runtime.now() - started == pytest.approx(0.3)  # there, back, and there once more
        near.write(b"hello")
        assert await far.read(100) == b"hello"
        assert runtime.now() - started == pytest.approx(0.4)


async def test_what_is_written_in_one_turn_travels_as_one() -> None:
    async with pair(World(SLOW)) as (near, far):
        for word in (b"one ", b"two ", b"three"):
            near.write(word)
        assert await far.read(100) == b"one two three"


async def test_fragments_arrive_apart_and_in_order() -> None:
    async with pair(World(replace(SLOW, fragmentation=1.0))) as (near, far):
        near.write(b"0123456789")
        first = await far.read(100)
        assert 1 <= len(first) < 10
        assert first + await far.read(100) == b"0123456789"


async def test_a_lossy_path_is_slow_and_keeps_the_order() -> None:
    async with pair(World(Conditions(loss=0.2))) as (near, far):
        started = runtime.now()
        for number in range(200):
            near.write(bytes([number]))
            await asyncio.sleep(0.001)
        got = b""
        while len(got) < 200:
            got += await far.read(1000)
        assert got == bytes(range(200))
        assert 0.4 < runtime.now() - started < 5  # one retransmission at least, seldom four in a row


async def test_conditions_can_be_set_for_one_direction() -> None:
    world = World(Conditions(latency=0.0, jitter=0.0))
    async with pair(world) as (near, far):
        world.shape(SLOW, "a", "b")
        started = runtime.now()
        near.write(b"x")
        await far.read(1)
        assert runtime.now() - started == pytest.approx(0.1)
        far.write(b"x")
        await near.read(1)
        assert runtime.now() - started == pytest.approx(0.1)


# -- partitions -------------------------------------------------------------------


async def test_a_partition_stalls_both_ways_and_heal_delivers_all_in_order() -> None:
    world = World()
    async with pair(world) as (near, far):
        world.partition("a", "b")
        for word in (b"one ", b"two ", b"three"):
            near.write(word)
            await asyncio.sleep(1)
        far.write(b"back")
        assert await ends_within(600, far) is None
        assert await ends_within(600, near) is None
        world.heal()
        assert not world.quiet
        got = b""
        async with asyncio.timeout(1):
            while len(got) < 13:
                got += await far.read(100)
            assert await near.read(100) == b"back"
        assert got == b"one two three"
        assert world.quiet


async def test_a_cut_one_way_leaves_the_other_open() -> None:
    world = World()
    async with pair(world) as (near, far):
        world.cut("a", "b")
        near.write(b"lost for now")
        far.write(b"heard")
        assert await near.read(100) == b"heard"
        assert await ends_within(60, far) is None


async def test_without_acknowledgements_the_window_fills() -> None:
    world = World(replace(SLOW, window=1000))
    async with pair(world) as (near, far):
        world.cut("b", "a")
        near.write(bytes(3000))
        assert await far.read(5000) == bytes(1000)
        assert await ends_within(60, far) is None
        assert near.unsent == 2000
        world.heal()
        assert await far.read(5000) == bytes(1000)


async def test_what_is_in_flight_when_the_path_is_cut_stalls_too() -> None:
    world = World(SLOW)
    async with pair(world) as (near, far):
        near.write(b"under way")
        await asyncio.sleep(0.05)
        world.partition("a", "b")
        assert await ends_within(60, far) is None
        world.heal("a")
        assert await far.read(100) == b"under way"


@pytest.mark.parametrize(("src", "dst"), [("a", "b"), ("b", "a")])
async def test_a_connect_through_a_cut_hangs_until_it_is_healed(src: str, dst: str) -> None:
    world = World()
    taken: list[Stream] = []
    listener = await world.network("b").listen("b", 7022, taken.append)
    world.cut(src, dst)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await world.network("a").connect("b", 7022)
    assert taken == []
    dialled = asyncio.create_task(world.network("a").connect("b", 7022))
    await asyncio.sleep(60)
    world.heal()
    async with asyncio.timeout(1):
        stream = await dialled
        while not taken:
            await asyncio.sleep(0.01)
    assert len(taken) == 1
    for each in (stream, *taken):
        each.abort()
    await listener.aclose()


async def test_a_partition_with_reset_loses_the_connections_at_both_ends() -> None:
    world = World()
    async with pair(world) as (near, far):
        near.write(b"in flight")
        world.partition("a", "b", reset=True)
        for stream in (near, far):
            assert isinstance(await ends_within(0.1, stream), ConnectionResetError)


async def test_one_side_alone_is_cut_off_from_all_others() -> None:
    world = World()
    for name in "abc":
        world.network(name)
    world.partition("a")
    blocked = {(src, dst) for src in "abc" for dst in "abc" if src != dst and world.path(src, dst).blocked}
    assert blocked == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}
    world.heal("b")
    assert world.path("a", "c").blocked
    assert not world.path("a", "b").blocked


# -- connections that are lost ------------------------------------------------------


async def test_a_reset_drops_what_was_in_flight_and_what_was_not_read() -> None:
    world = World(SLOW)
    async with pair(world) as (near, far):
        near.write(b"arrived, not read")
        await asyncio.sleep(0.15)
        near.write(b"in flight")
        world.reset("a", "b")
        for stream in (near, far):
            with pytest.raises(ConnectionResetError):
                await stream.read(100)
            with pytest.raises(ConnectionResetError):
                await stream.drain()


async def test_an_abort_that_a_partition_swallows_leaves_the_other_end_half_open() -> None:
    world = World()
    async with pair(world) as (near, far):
        world.partition("a", "b")
        near.abort()
        await asyncio.sleep(1)
        assert await ends_within(600, far) is None


async def test_half_open_until_it_writes_to_an_end_that_is_gone() -> None:
    world = World()
    async with pair(world) as (near, far):
        world.crash("a")
        world.revive("a")
        assert await ends_within(600, far) is None
        far.write(b"are you there?")
        error = await ends_within(1, far)
        assert isinstance(error, ConnectionResetError)
        assert "a has no such connection" in str(error)
        assert near.unsent == 0


async def test_a_forgotten_connection_is_silent_for_ever_and_a_new_one_works() -> None:
    world = World(SLOW)
    async with pair(world) as (near, far):
        world.forget("a", "b")
        near.write(b"x")
        far.write(b"x")
        assert await ends_within(600, near) is None
        assert await ends_within(600, far) is None
        near.abort()
        assert await ends_within(600, far) is None
        async with pair(world) as (other, end):
            other.write(b"works")
            assert await end.read(10) == b"works"


# -- nodes that die -----------------------------------------------------------------


async def test_a_silent_crash_tells_nobody_and_connects_hang_until_it_is_back() -> None:
    world = World()
    listener = await world.network("b").listen("b", 7022, refuse)
    async with pair(world) as (near, _far):
        world.crash("b")
        near.write(b"x")
        assert await ends_within(600, near) is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await world.network("a").connect("b", listener.port)
        world.revive("b")
        with pytest.raises(ConnectionRefusedError):
            await world.network("a").connect("b", listener.port)


async def test_a_killed_process_resets_its_peers_and_refuses_connects() -> None:
    world = World()
    listener = await world.network("b").listen("b", 7022, refuse)
    async with pair(world) as (near, _far):
        world.crash("b", reset=True)
        assert isinstance(await ends_within(1, near), ConnectionResetError)
        with pytest.raises(ConnectionRefusedError, match=r"nobody listens on 10\.0\.0\.\d:7022"):
            await world.network("a").connect("b", listener.port)


async def test_after_a_restart_the_same_address_is_listened_on_again() -> None:
    world = World()
    await world.network("b").listen("b", 7022, refuse)
    world.crash("b")
    world.revive("b")
    taken: list[Stream] = []
    listener = await world.network("b").listen("b", 7022, taken.append)
    stream = await world.network("a").connect("b", 7022)
    await asyncio.sleep(1)
    assert len(taken) == 1
    for each in (stream, *taken):
        each.abort()
    await listener.aclose()


# -- slow and halted receivers --------------------------------------------------------


async def test_a_slow_reader_makes_unsent_grow_and_drain_wait() -> None:
    world = World(replace(SLOW, window=100_000))
    async with pair(world) as (near, far):
        near.write(bytes(300_000))
        await asyncio.sleep(60)
        assert near.unsent == 200_000
        drained = asyncio.create_task(near.drain())
        assert len(await far.read(1 << 20)) == 100_000
        await asyncio.sleep(60)
        assert near.unsent == 100_000
        assert not drained.done()
        assert len(await far.read(1 << 20)) == 100_000
        async with asyncio.timeout(0.01):
            await drained


async def test_a_halted_machine_takes_what_the_window_admits_and_accepts_late() -> None:
    world, machine, taken = World(), Machine("b"), list[Stream]()
    listener = await machine.run(world.network("b").listen("b", 7022, taken.append))
    running_simulation().halt(machine)
    stream = await world.network("a").connect("b", 7022)
    stream.write(b"waiting for you")
    await asyncio.sleep(60)
    assert taken == []
    assert stream.unsent == 0
    running_simulation().resume(machine)
    await asyncio.sleep(0)
    assert await taken[0].read(100) == b"waiting for you"
    for each in (stream, *taken):
        each.abort()
    await listener.aclose()


# -- addresses ----------------------------------------------------------------------


async def test_an_address_that_nobody_has_is_a_black_hole() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await World().network("a").connect("192.0.2.1", 7022)


async def test_a_name_that_nobody_has_does_not_resolve() -> None:
    with pytest.raises(OSError, match="no host 'nowhere'"):
        await World().network("a").connect("nowhere", 7022)


async def test_loopback_is_shared_and_refuses_where_nobody_listens() -> None:
    world, taken = World(), list[Stream]()
    listener = await world.network("b").listen("localhost", 0, taken.append)
    stream = await world.network("a").connect("127.0.0.1", listener.port)
    await asyncio.sleep(1)
    assert len(taken) == 1
    with pytest.raises(ConnectionRefusedError):
        await world.network("a").connect("127.0.0.1", 1)
    for each in (stream, *taken):
        each.abort()
    await listener.aclose()


async def test_the_address_of_another_node_cannot_be_bound() -> None:
    world = World()
    with pytest.raises(OSError) as failure:
        await world.network("a").listen(world.network("b").host, 7022, refuse)
    assert failure.value.errno == errno.EADDRNOTAVAIL


async def test_a_connection_that_comes_when_the_listener_has_closed_is_reset() -> None:
    world = World(SLOW)
    listener = await world.network("b").listen("b", 7022, refuse)
    stream = await world.network("a").connect("b", 7022)
    await listener.aclose()
    assert isinstance(await ends_within(1, stream), ConnectionResetError)
    stream.abort()


async def test_two_reads_at_once_are_an_error_of_the_caller() -> None:
    async with pair(World()) as (near, _far):
        first = asyncio.create_task(near.read(1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another read"):
            await near.read(1)
        first.cancel()
