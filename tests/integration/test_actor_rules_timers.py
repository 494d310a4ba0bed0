"""Timers in the mailbox of an actor."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    ConfigError,
    TimerFired,
    call,
)
from clusterkit.testing import SimCluster
from tests.conftest import NodeFactory
from tests.integration.places import Keeper


class Timed(Keeper):
    @call
    async def after(self, delay: float, tag: Any) -> Any:
        self.timer = self.send_after(delay, tag)

    @call
    async def each(self, period: float, tag: Any) -> None:
        self.timer = self.every(period, tag)

    @call
    async def cancel(self) -> bool:
        return self.cancel_timer(self.timer)

    def tags(self) -> list[Any]:
        return [each.tag for each in self.seen if isinstance(each, TimerFired)]


@pytest.mark.simulation(seed=6)
async def test_timers_fire_in_order_die_with_their_actor_and_do_not_pile_up() -> None:
    async with SimCluster(1) as sim:
        node = sim["a"]
        timed = Timed()
        ref = await node.start(timed)
        for delay in (3, 1, 2, 0):
            await ref.call(Timed.after, delay, delay)
        await asyncio.sleep(10)
        assert timed.tags() == [0, 1, 2, 3]
        timed.seen.clear()
        await ref.call(Timed.each, 1.0, "tick")
        await asyncio.sleep(5.5)
        assert timed.tags() == ["tick"] * 5
        await node.suspend(ref)
        await asyncio.sleep(100)
        assert node.inspect()[-1].depth == 1, "one waits at the most"
        await node.resume(ref)
        await asyncio.sleep(0.1)
        assert timed.tags() == ["tick"] * 6
        assert await ref.call(Timed.cancel)
        assert not await ref.call(Timed.cancel)
        await asyncio.sleep(5)
        assert timed.tags() == ["tick"] * 6
        await ref.call(Timed.after, 1, "never")
        await node.stop(ref)
        await node.start(timed)
        await asyncio.sleep(5)
        assert "never" not in timed.tags()


@pytest.mark.simulation(seed=7)
async def test_a_timer_that_is_cancelled_while_it_waits_in_the_mailbox_is_not_heard() -> None:
    async with SimCluster(1) as sim:
        node = sim["a"]
        timed = Timed()
        ref = await node.start(timed)
        await ref.call(Timed.after, 1, "late")
        await node.suspend(ref)
        asking = asyncio.create_task(ref.call(Timed.cancel))
        await asyncio.sleep(2)
        assert node.inspect()[-1].depth == 2
        await node.resume(ref)
        assert await asking
        await asyncio.sleep(1)
        assert timed.tags() == []


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "1", 10**400, None])
async def test_a_delay_that_cannot_be_is_refused(bad: Any, start_node: NodeFactory) -> None:
    node = await start_node("a")
    actor = Keeper()
    await node.start(actor)
    with pytest.raises(ConfigError):
        actor.send_after(bad, "x")
    with pytest.raises(ConfigError):
        actor.every(bad, "x")
    with pytest.raises(ConfigError):
        actor.every(0, "x")
