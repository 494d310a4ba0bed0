"""What an actor hears of members is bounded, and what is left out is counted."""

import asyncio

from clusterkit import GenServer, Lagged, Member, MemberUp, NodeId, State, call
from clusterkit.testing import isolated

WAITING = 1_024


class Slow(GenServer):
    """Hears of members when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.told: list[object] = []

    @call
    async def wait(self) -> None:
        await self.gate.wait()

    def handle_info(self, info: object) -> None:
        self.told.append(info)


async def test_news_of_members_that_nobody_takes_are_counted() -> None:
    slow = Slow()
    async with asyncio.timeout(30), isolated(slow) as ref:
        waiting = asyncio.create_task(ref.call(Slow.wait))
        await asyncio.sleep(0)
        process = slow._clusterkit_process
        assert process is not None
        up = MemberUp(Member(NodeId("b", "b", 1, 1), State.ALIVE))
        for _ in range(WAITING + 6):
            process.ties._member_news(up)
        slow.gate.set()
        await waiting
        await ref.call(Slow.wait)
    assert slow.told == [up] * WAITING + [Lagged(6)]
