"""Floods of a sleeping actor: memory stays bounded, at both ends, and nothing is lost in silence.

What was sent was handled, or raised `MailboxFull`, or was told: by `Refused` where it was
sent from, by `DeadLetter` where it ended.

The suite sends 10,000; ``pytest -m long -s tests/integration/test_floods.py`` a million of each kind.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from clusterkit.testing import Processes
from tests.integration.flood_app import receive, send

MOST_GROWTH = 100.0  # MiB
POLICIES = ("reject", "block", "drop_oldest", "drop_newest")
RECEIVE, SEND = (f"{each.__module__}:{each.__name__}" for each in (receive, send))


@dataclass(frozen=True, slots=True)
class Size:
    """How much is sent, and how many seconds that may take."""

    count: int
    patience: float


sizes = pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size(10_000, 60.0), id="10,000"),
        pytest.param(Size(1_000_000, 550.0), id="a million", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
policies = pytest.mark.parametrize("overflow", POLICIES)


async def flooded(kind: str, overflow: str, size: Size, *, here: bool = False) -> dict[str, Any]:
    """What became of a flood, told by both ends."""
    argument = {"kind": kind, "overflow": overflow, "count": size.count, "patience": size.patience}
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(Processes())
        seeds = []
        if not here:
            receiver = await processes.start("receiver", RECEIVE, argument)
            seeds = [(await receiver.reported("address"))["address"]]
        sender = await processes.start("sender", SEND, argument | {"seeds": seeds})
        told: dict[str, Any] = (await sender.reported("settled", timeout=size.patience))["settled"]
    print(f"{size.count:,} {kind}, {overflow}, {'here' if here else 'there'}: {told}")
    return told


def check_growth(told: dict[str, Any]) -> None:
    assert told["growth"] <= MOST_GROWTH, "the sender keeps what it cannot send"
    assert told["there"]["growth"] <= MOST_GROWTH, "the receiver keeps what it does not take"


@sizes
async def test_casts_that_a_mailbox_refuses_are_told_to_their_sender(size: Size) -> None:
    told = await flooded("casts", "reject", size)
    there = told["there"]
    assert there["handled"] >= 1_000, "what was taken is handled"
    assert there["handled"] + told["raised"] + told["refused"] == size.count
    assert there["dead"] == told["refused"]
    assert told["raised"], "the sender hears of it while it floods"
    assert there["in_order"]
    check_growth(told)


@sizes
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_casts_that_a_mailbox_drops_are_dead_letters_where_they_were_dropped(overflow: str, size: Size) -> None:
    told = await flooded("casts", overflow, size)
    there = told["there"]
    assert (told["raised"], told["refused"], told["taken"]) == (0, 0, size.count)
    assert there["handled"] >= 1_000
    assert there["handled"] + there["dead"] == size.count
    assert there["in_order"]
    check_growth(told)


@sizes
async def test_casts_that_keep_trying_all_arrive_in_order_once_there_is_room(size: Size) -> None:
    told = await flooded("casts that keep trying", "block", size)
    there = told["there"]
    assert told["raised"], "it had to wait past its timeout"
    assert (told["taken"], there["handled"]) == (size.count, size.count)
    assert (told["refused"], there["dead"]) == (0, 0)
    assert there["in_order"]
    check_growth(told)


@sizes
@policies
async def test_a_flood_of_casts_on_one_node(overflow: str, size: Size) -> None:
    kind = "casts that keep trying" if overflow == "block" else "casts"
    told = await flooded(kind, overflow, size, here=True)
    there = told["there"]
    if overflow == "block":
        assert (there["handled"], there["dead"]) == (size.count, 0)
    else:
        assert there["handled"] + told["raised"] + there["dead"] == size.count
        assert bool(told["raised"]) == (overflow == "reject")
    assert told["refused"] == 0
    check_growth(told)


@sizes
@pytest.mark.parametrize("here", [True, False], ids=["here", "there"])
async def test_a_flood_of_calls_each_ends_in_its_own_answer_or_is_refused(size: Size, here: bool) -> None:
    told = await flooded("calls", "reject", size, here=here)
    there = told["there"]
    assert told["answered"] + told["raised"] == size.count
    assert there["handled"] == told["answered"] >= 1_000
    assert (told["refused"], there["dead"]) == (0, 0)
    check_growth(told)
