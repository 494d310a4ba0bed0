"""How to test your own actor: three lines of test, alone, over half an hour, and on two simulated nodes.

python -m pytest examples/test_my_actor.py
"""

import asyncio

import pytest

from clusterkit import GenServer, Node, NoSuchServer, Stop, TimerFired, UnsupportedPayload, call
from clusterkit.testing import SimCluster, isolated


class Account(GenServer):
    def __init__(self, owner: str, balance: int = 0) -> None:
        self.owner, self.balance = owner, balance

    @call
    async def withdraw(self, amount: int, after: float = 0.0) -> int:
        await asyncio.sleep(after)
        self.balance -= amount
        return self.balance

    @call
    async def history(self, *days: object) -> object:
        return days


async def test_my_actor() -> None:
    async with isolated(Account("ada", 10)) as ref:
        assert await ref.call(Account.withdraw, 4) == 6


async def test_payloads_are_what_a_remote_caller_would_see() -> None:
    async with isolated(Account("ada", 10)) as ref:
        assert await ref.call(Account.history, ("mo", "tu")) == [["mo", "tu"]]  # tuples arrive as lists
        with pytest.raises(UnsupportedPayload, match=r"args\[0\]"):
            await ref.call(Account.history, object())


class Session(GenServer):
    """Ends when nobody came for ten minutes."""

    async def init(self) -> None:
        self.timer = self.send_after(600.0, "idle")

    @call
    async def touch(self) -> None:
        self.cancel_timer(self.timer)
        self.timer = self.send_after(600.0, "idle")

    async def handle_info(self, info: object) -> None:
        if info == TimerFired("idle"):
            raise Stop


@pytest.mark.simulation(seed=7)
async def test_half_an_hour_passes_in_milliseconds() -> None:
    async with isolated(Session()) as ref:
        for _ in range(3):
            await asyncio.sleep(500)
            await ref.call(Session.touch)
        await asyncio.sleep(601)
        with pytest.raises(NoSuchServer):
            await ref.call(Session.touch)


async def app(node: Node) -> None:
    await node.start(Account(node.id.name, 10), name="account")


@pytest.mark.simulation(seed=7)
async def test_my_actor_on_another_node() -> None:
    async with SimCluster(2, app=app) as sim:
        account = sim["a"].ref(Account, "account", on="b").proxy
        assert await account.withdraw(4, after=4.0) == 6  # four seconds of virtual time
