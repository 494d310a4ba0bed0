"""100,000 casts and 10,000 calls each way between two processes, while their connections break hundreds of times.

Every connection goes through a chaos proxy that hands some of its bytes on one by one,
delays some, and ends it: with a reset in the middle of a record, or by a flipped bit, which
makes its receiver close. What was sent arrives all the same: once, in order, all of it, and
each call returns its own value.

The suite runs a twenty-fifth of it under three seeds; ``pytest -m long -s
tests/integration/test_casts_through_chaos.py`` runs the whole.
"""

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from clusterkit.testing import ChaosProxy, Child, Plan, Processes
from tests.integration.cast_app import exchange

TARGET = f"{exchange.__module__}:{exchange.__name__}"
DEADLINE = 90.0

# A span that begins below zero spares most: a fifth of the connections have single bytes, a fifth of the chunks a delay.
SINGLE_BYTES, DELAY = (-2_000, 500), (-0.02, 0.005)
RESETS = Plan(reset_after=(500, 16_000), single_bytes=SINGLE_BYTES, delay=DELAY)
FLIPPED_BITS = Plan(flip_every=(1_000, 12_000), single_bytes=SINGLE_BYTES, delay=DELAY)
SHORT_LIVES = Plan(reset_after=(600, 3_000), single_bytes=SINGLE_BYTES)  # a handshake takes 300 bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What each of the two sends, and how many open connections must end under it."""

    casts: int
    calls: int
    breaks: int

    def share(self, of: int) -> "Load":
        """So much of it."""
        return Load(self.casts // of, self.calls // of, self.breaks // of)


WHOLE = Load(casts=100_000, calls=10_000, breaks=300)
SEEDS = range(3)  # at once


async def one_round(seed: int, plan: Plan, load: Load, deadline: float) -> list[dict[str, Any]]:
    """What both ends report of one exchange. The chaos begins when they have met."""
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(
            Processes(environment={"CLUSTERKIT_COOKIE": f"cookie of round {seed}"})
        )
        proxies = [ChaosProxy("127.0.0.1", 0, seed=2 * seed + way) for way in (0, 1)]
        for proxy in proxies:
            await stack.enter_async_context(proxy)
        a = await start(processes, "a", "b", proxies[0], [], load)
        b = await start(processes, "b", "a", proxies[1], [f"127.0.0.1:{proxies[0].port}"], load)
        for proxy in proxies:
            proxy.plan = plan
            proxy.reset()
        return [await child.reported("outcomes", timeout=deadline) for child in (a, b)]


async def start(processes: Processes, name: str, peer: str, proxy: ChaosProxy, seeds: list[str], load: Load) -> Child:
    address = f"{name}@127.0.0.1:{proxy.port}"
    argument = {"address": address, "peer": peer, "seeds": seeds, "casts": load.casts, "calls": load.calls}
    child = await processes.start(name, TARGET, argument)
    proxy.target = "127.0.0.1", (await child.reported("listening"))["listening"]
    await child.reported("joined", timeout=60)
    return child


def check_casts(sender: dict[str, Any], receiver: dict[str, Any], load: Load) -> None:
    """All that one end sent has come to the other."""
    assert receiver["casts"] == [[0, load.casts - 1]], "lost, twice, or out of order"
    assert sender["letters"] == {}
    assert sender["lost"] == 0
    assert sender["breaks"] >= load.breaks, "a peaceful round shows nothing"


def check_calls(sender: dict[str, Any], receiver: dict[str, Any], load: Load, errors: Collection[str]) -> None:
    """Every call returned its own value, or one of these errors, which told the truth."""
    outcomes, failed, ran = sender["outcomes"], sender["failed"], receiver["calls"]
    assert set(outcomes) <= {"its own value", *errors}
    assert sum(outcomes.values()) == load.calls
    assert len(set(ran)) == len(ran), "ran twice"
    assert set(range(load.calls)) - set(ran) - set(failed["maybe"]) == set(failed["no"])


async def rounds(
    seeds: range, plan: Plan, load: Load, deadline: float, errors: Collection[str] = ()
) -> list[list[dict[str, Any]]]:
    """Run the seeds at once, and check them all."""
    ends = await asyncio.gather(*(one_round(seed, plan, load, deadline) for seed in seeds))
    for a, b in ends:
        for sender, receiver in ((a, b), (b, a)):
            check_casts(sender, receiver, load)
            check_calls(sender, receiver, load, errors)
        print(f"{load.casts} casts and {load.calls} calls each way, {a['breaks']} and {b['breaks']} breaks")
    return ends


def shares(of: int, whole: Load = WHOLE) -> pytest.MarkDecorator:
    """One part in ``of`` under several seeds; with ``-m long`` the whole under one."""
    return pytest.mark.parametrize(
        ("seeds", "load", "deadline"),
        [
            pytest.param(SEEDS, whole.share(of), DEADLINE, id="a share"),
            pytest.param(range(1), whole, 600.0, id="all", marks=[pytest.mark.long, pytest.mark.timeout(660)]),
        ],
    )


@shares(25)
async def test_through_resets_in_the_middle_of_records_all_arrives_once_and_in_order(
    seeds: range, load: Load, deadline: float
) -> None:
    await rounds(seeds, RESETS, load, deadline)


@shares(25)
async def test_a_flipped_bit_ends_its_connection_and_costs_no_message(
    seeds: range, load: Load, deadline: float
) -> None:
    """A flip in a record's length lets its reader wait for the rest of it, till it calls the peer down: calls end."""
    for a, b in await rounds(seeds, FLIPPED_BITS, load, deadline, errors={"NodeDown"}):
        assert a["forged"] + b["forged"] >= load.breaks


@shares(10, WHOLE.share(10))  # more of it takes minutes, in which a call waits behind all the casts
async def test_connections_that_carry_a_few_messages_each_get_on_all_the_same(
    seeds: range, load: Load, deadline: float
) -> None:
    for a, b in await rounds(seeds, SHORT_LIVES, load, deadline):
        assert min(a["breaks"], b["breaks"]) >= 10 * load.breaks
