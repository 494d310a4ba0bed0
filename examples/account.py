"""A typed actor: arguments and results are checked, errors arrive with their type.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/account.py
"""

import asyncio

from clusterkit import GenServer, Node, call, cast


class Account(GenServer):
    def __init__(self, owner: str, balance: int = 0) -> None:  # cheap, no I/O
        self.owner, self.balance = owner, balance

    @call  # only decorated methods can be reached
    async def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise ValueError(f"{self.owner} has only {self.balance}")
        self.balance -= amount
        return self.balance

    @cast
    async def note(self, text: str) -> None:
        print(f"{self.owner}: {text}")


async def use(node: Node) -> None:
    ref = await node.start(Account("ada", 100), name="ada")  # Ref[Account]
    left: int = await ref.call(Account.withdraw, 30)  # checked arguments and result
    print("here:", left)
    ada = node.ref(Account, "ada", on="bar").proxy  # has the type Account
    print("on bar:", await ada.withdraw(5))  # the same signature, on another node
    await ada.note("paid")  # a cast: awaiting it means that it is queued for sending
    try:
        await ada.withdraw(1_000)
    except ValueError as error:  # the type that was raised over there
        print("refused:", error)
        print("its cause begins:", str(error.__cause__).strip().splitlines()[0])


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as foo, Node("bar@127.0.0.1:0") as bar:
        await bar.start(Account("ada on bar", 50), name="ada")
        await bar.ring.join("bank")
        await foo.ring.join("bank", seeds=[bar.id.address])
        await use(foo)


if __name__ == "__main__":
    asyncio.run(main())
