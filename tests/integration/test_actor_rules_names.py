"""Names on one node: unique, taken at once, free again."""

import asyncio
from dataclasses import dataclass

import pytest

from clusterkit import (
    GenServer,
    NameInUse,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, Keeper, everywhere, place_of
from tests.integration.rule_actors import Counter


async def test_a_name_is_unique_and_taken_at_once(start_node: NodeFactory) -> None:
    node = await start_node("a")
    gate = Gate()

    class Slow(GenServer):
        async def init(self) -> None:
            await gate.passed()

    starting = asyncio.create_task(node.start(Slow(), name="one"))
    await gate.reached()
    with pytest.raises(NameInUse):
        await node.start(Counter(), name="one")
    gate.open()
    await starting
    with pytest.raises(NameInUse):
        await node.start(Counter(), name="one")
    await node.stop("one")
    assert node.whereis("one") is None
    await node.start(Counter(), name="one")
    assert node.whereis("one", Counter) is not None


async def test_a_start_that_fails_or_is_given_up_leaves_the_name_free(start_node: NodeFactory) -> None:
    node = await start_node("a")
    gate = Gate()

    class Slow(GenServer):
        async def init(self) -> None:
            await gate.passed()

    class Failing(GenServer):
        async def init(self) -> None:
            raise OSError("no disk")

    @dataclass(frozen=True)
    class Frozen(GenServer):
        size: int = 1

    starting = asyncio.create_task(node.start(Slow(), name="one"))
    await gate.reached()
    starting.cancel()
    await asyncio.wait([starting])
    await eventually(lambda: node.whereis("one") is None)
    with pytest.raises(OSError, match="no disk"):
        await node.start(Failing(), name="one")
    with pytest.raises(Exception, match=r"cannot assign|Frozen"):
        await node.start(Frozen(), name="one")
    assert [each.name for each in node.inspect()] == ["clusterkit.command"]
    await node.start(Counter(), name="one")


@everywhere
async def test_messages_to_a_name_wait_while_its_actor_begins(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    gate = Gate()

    class Slow(Keeper):
        async def init(self) -> None:
            await gate.passed()
            self.seen.append("init")

    starting = asyncio.create_task(place.home.start(Slow(), name="slow"))
    await gate.reached()
    ref = place.ref(Slow, "slow")
    asking = asyncio.create_task(ref.call("ask"))
    await eventually(lambda: place.home.inspect()[-1].depth == 1)
    gate.open()
    await starting
    assert await asking == 2
