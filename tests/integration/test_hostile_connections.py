"""A hundred thousand strangers at the door of a node that works: nothing gets in, and nobody inside notices.

The suite runs a hundredth of each count; all of it, some minutes, with
``pytest tests/integration/test_hostile_connections.py -m long``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pytest

from clusterkit import Config
from clusterkit.runtime import now
from tests.integration.hostile import Visit, besieged, swarm
from tests.integration.hostile_visits import CASTS, KINDS, RECORDINGS, Replayer, disturb, record_some, replay
from tests.integration.hostile_wire import OPENING

CONNECTIONS = 100_000
REPLAYS = 1_000
HALF_OPEN, SLOW = 2_000, 500
SCALES = [
    pytest.param(100, id="a hundredth"),
    pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
]


@pytest.mark.parametrize("scale", SCALES)
async def test_garbage_truncated_and_spliced_bytes_get_nowhere(scale: int, tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        recordings, names = await record_some(siege)
        rng = siege.rng

        async def one(number: int) -> None:
            data = KINDS[number % len(KINDS)](rng, recordings)
            await disturb(siege, data, stays=rng.random() < 0.02, at_once=rng.random() < 0.5)

        await swarm(range(CONNECTIONS // scale), one)
        await siege.held(notes=CASTS * RECORDINGS, callers=names)


# -- replays ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
async def test_recorded_sessions_are_not_taken_again(scale: int, tmp_path: Path) -> None:
    """By the node that they were sent to, and, one in ten, by one that dials whoever replays them."""
    async with besieged(tmp_path) as siege:
        recordings, names = await record_some(siege)
        rng = siege.rng
        async with Replayer(siege, recordings) as replayer:

            async def one(number: int) -> None:
                if number % 10:
                    await replay(siege, rng.choice(recordings), at_once=rng.random() < 0.5)
                else:
                    assert await siege.dialled(replayer.port) == "AuthFailed"

            await swarm(range(REPLAYS // scale), one)
            assert replayer.taken == REPLAYS // scale // 10
        await siege.held(notes=CASTS * RECORDINGS, callers=names)


# -- those who hold a connection, and those who come too often ------------------------------


async def hold(visit: Visit, hello: bytes) -> None:
    """Send nothing, or half a HELLO, and wait to be thrown out."""
    await visit.send(hello[: len(hello) // 2] if hello[-1] % 4 == 0 else b"")
    await visit.to_the_end()


async def drip(visit: Visit, hello: bytes) -> None:
    """Send one byte a second of a true HELLO, until thrown out."""
    for byte in hello:
        await visit.send(bytes((byte,)))
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await visit.to_the_end()
                return


@pytest.mark.parametrize(
    ("half_open", "slow", "config"),
    [
        pytest.param(HALF_OPEN // 5, SLOW // 10, {"proof_timeout": 1.5}, id="a part"),
        pytest.param(HALF_OPEN, SLOW, {}, id="all", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
async def test_half_open_and_slow_connections_keep_nobody_out(
    half_open: int, slow: int, config: dict[str, Any], tmp_path: Path
) -> None:
    """One more member is in within a second, and all of them are closed when their time for a proof is over."""
    deadline, came, lives = Config(**config).proof_timeout, asyncio.Semaphore(0), list[float]()
    async with besieged(tmp_path, config=config) as siege:

        async def come(what: Callable[[Visit, bytes], Awaitable[None]]) -> None:
            async with siege.visit() as visit:
                began = now()
                came.release()
                await what(visit, b"CKT1\x01" + siege.rng.randbytes(32))
                lives.append(now() - began)

        async with asyncio.timeout(deadline + 20), asyncio.TaskGroup() as visitors:
            for what in [hold] * half_open + [drip] * slow:
                visitors.create_task(come(what))
            for _ in range(half_open + slow):
                await came.acquire()
            assert await siege.late_comer() <= 1.0
        assert len(lives) == half_open + slow
        assert max(lives) <= deadline + 1.0
        await siege.held()


async def test_a_flood_of_wrong_proofs_from_one_address_delays_nobody_else(tmp_path: Path) -> None:
    """Past 256 of them 200 a second are looked at; whoever comes from another address does not wait in that line."""
    async with besieged(tmp_path, config={}) as siege:
        began, guesses, over = now(), list[int](), False

        async def guess(number: int) -> None:
            async with siege.visit(source="127.0.0.254") as visit:
                await visit.send(b"CKT1\x01" + siege.rng.randbytes(32))
                await visit.until(OPENING)
                await visit.send((60).to_bytes(2, "big") + siege.rng.randbytes(60))
                await visit.to_the_end()
                assert len(visit.seen) == OPENING
                guesses.append(number)

        async with asyncio.timeout(30), asyncio.TaskGroup() as flood:
            flood.create_task(swarm(takewhile(lambda number: not over, count()), guess, at_once=128))
            while (await siege.facts())["counters"]["proofs_delayed"] < 100:
                await asyncio.sleep(0.05)
            assert await siege.late_comer() <= 1.0
            over = True
        assert (await siege.facts())["counters"]["invalid_checksum"] == len(guesses)
        assert 256 < len(guesses) <= 256 + 200 * (now() - began) + 1
        await siege.held()


async def test_a_node_that_is_told_to_stop_does_so_in_the_middle_of_it(tmp_path: Path) -> None:
    async with besieged(tmp_path, config={}) as siege:

        async def come(number: int) -> None:
            async with siege.visit() as visit:
                await visit.send(b"CKT1\x01" + siege.rng.randbytes(number % 40))
                if number % 3:
                    visit.half_close()
                await visit.to_the_end()

        with pytest.raises(ExceptionGroup) as refused:  # nobody listens any more
            async with asyncio.TaskGroup() as group:
                group.create_task(swarm(count(), come))
                while (await siege.facts())["counters"]["accepted"] < 200:
                    await asyncio.sleep(0.01)
                await siege.stop()
        assert refused.group_contains(ConnectionRefusedError)
        siege.check_logs()


async def test_what_strangers_send_beyond_a_handshake_is_not_buffered(tmp_path: Path) -> None:
    async with besieged(tmp_path, config={}) as siege, AsyncExitStack() as stack:
        visits = [await stack.enter_async_context(siege.visit()) for _ in range(250)]
        for visit in visits:
            await visit.send(b"CKT1\x01" + siege.rng.randbytes(32))
            await visit.until(OPENING)
        siege.halt()
        for visit in visits:
            visit.push((173).to_bytes(2, "big") + bytes(600_000))
        siege.go_on()
        for visit in visits:
            await visit.to_the_end()
        await siege.held()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_flood_that_goes_on_from_a_thousand_connections_at_once(tmp_path: Path) -> None:
    async with besieged(tmp_path, config={}) as siege:
        over = False

        async def come(number: int) -> None:
            async with siege.visit() as visit:
                await visit.send(b"CKT1\x01" + siege.rng.randbytes(32) if number % 2 else b"")
                await visit.to_the_end()

        async with asyncio.TaskGroup() as flood:
            flood.create_task(swarm(takewhile(lambda number: not over, count()), come, at_once=1_000))
            for _ in range(5):
                assert await siege.late_comer() <= 1.0
            over = True
        await siege.held()
