"""How to test your own actor: three lines of test, alone, and the same on two simulated nodes."""

import asyncio

import pytest

from clusterkit import GenServer, Node, UnsupportedPayload, call
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


async def app(node: Node) -> None:
    await node.start(Account(node.id.name, 10), name="account")


@pytest.mark.simulation(seed=7)
async def test_my_actor_on_another_node() -> None:
    async with SimCluster(2, app=app) as sim:
        account = sim["a"].ref(Account, "account", on="b").proxy
        assert await account.withdraw(4, after=4.0) == 6  # four seconds of virtual time
