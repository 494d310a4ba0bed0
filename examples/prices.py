"""One question to many nodes, and dataclasses that may cross the wire.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/prices.py
"""

import asyncio
from dataclasses import dataclass

from clusterkit import GenServer, Node, call, cast, message


@message  # may cross the wire; checked against its annotations on arrival
@dataclass
class Price:
    sku: str
    cents: int


class Prices(GenServer):
    def __init__(self) -> None:
        self.book: dict[str, Price] = {}

    @call(concurrent=True)  # may run while another call awaits
    async def get(self, sku: str) -> Price:
        return self.book[sku]

    @cast
    async def put(self, price: Price) -> None:
        self.book[price.sku] = price


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as foo, Node("bar@127.0.0.1:0") as bar, Node("baz@127.0.0.1:0") as baz:
        for node in (foo, bar, baz):
            await node.ring.join("shop", seeds=[foo.id.address])
        await foo.ring.converged()
        await foo.start(Prices(), name="prices")
        await bar.start(Prices(), name="prices")

        told = await foo.abcast(["foo", "bar"], "prices", Prices.put, Price("apple", 120))
        print("put on:", ", ".join(sorted(peer.name for peer in told.ok)))
        got = await foo.multicall(foo.ring.nodes, "prices", Prices.get, "apple")  # Replies[Price]
        print("cents:", sorted((peer.name, price.cents) for peer, price in got.ok.items()))
        for peer, error in got.failed.items():  # partial results are results
            print(f"no answer from {peer.name}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
