"""Laws of the virtual clock and of the wire, for whatever programs and bytes hypothesis thinks of."""

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.testing.loop import simulate
from clusterkit.testing.network import World
from clusterkit.testing.path import Conditions
from clusterkit.transport.base import Stream

seeds = st.integers(0, 2**32)
delays = st.lists(st.floats(0, 1000), max_size=30)


@given(seeds, delays)
def test_timers_come_at_their_deadlines_in_order_and_once(seed: int, delays: list[float]) -> None:
    async def main() -> list[tuple[float, float]]:
        loop, log = asyncio.get_running_loop(), list[tuple[float, float]]()
        for delay in delays:
            loop.call_at(delay, lambda delay=delay: log.append((delay, loop.time())))  # type: ignore[misc]
        await asyncio.sleep(1001)
        return log

    log = simulate(main, seed=seed)
    assert all(deadline == at for deadline, at in log)
    assert [at for _, at in log] == sorted(delays)


conditions = st.builds(
    Conditions,
    latency=st.floats(0, 0.1),
    jitter=st.floats(0, 0.1),
    loss=st.floats(0, 0.5),
    fragmentation=st.floats(0, 1),
    window=st.integers(1, 1000),
)
writes = st.lists(st.binary(min_size=1, max_size=300), max_size=20)
cuts = st.lists(st.floats(0, 1), max_size=3)


@given(seeds, conditions, writes, cuts)
def test_a_stream_delivers_all_bytes_in_order_whatever_the_path_does(
    seed: int, conditions: Conditions, writes: list[bytes], cuts: list[float]
) -> None:
    async def main() -> bytes:
        world, taken = World(conditions), asyncio.Queue[Stream]()
        listener = await world.network("b").listen("b", 7022, taken.put_nowait)
        near = await world.network("a").connect("b", 7022)
        far = await taken.get()
        await listener.aclose()
        cutting = asyncio.create_task(cut_and_heal(world))
        writing = asyncio.create_task(write(near))
        got = b""
        while part := await far.read(97):
            got += part
        await asyncio.gather(cutting, writing)
        await far.aclose()
        return got

    async def write(stream: Stream) -> None:
        for data in writes:
            stream.write(data)
            await stream.drain()
        await stream.aclose()

    async def cut_and_heal(world: World) -> None:
        for pause in cuts:
            await asyncio.sleep(pause)
            world.partition("a", "b")
            await asyncio.sleep(pause)
            world.heal()

    assert simulate(main, seed=seed) == b"".join(writes)


@given(seeds, st.lists(st.integers(0, 3), min_size=2, max_size=20))
def test_the_clock_never_goes_back(seed: int, steps: list[int]) -> None:
    async def main() -> list[float]:
        times: list[float] = []

        async def walk(step: int) -> None:
            for _ in range(5):
                await asyncio.sleep(step)
                times.append(asyncio.get_running_loop().time())

        await asyncio.gather(*map(walk, steps))
        return times

    assert all(earlier <= later for earlier, later in pairwise(simulate(main, seed=seed)))
