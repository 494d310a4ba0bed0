"""One process of the load test: calls every other member as fast as it is answered.

Reads one line ("go SECONDS MEMBERS") from stdin, waits until it knows all members, prints one JSON line of
what it sent and got, and a second one of what its own server saw.
"""

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from clusterkit import GenServer, Node, call

CALLERS = 64


class Ledger(GenServer):
    """Writes down every request that it serves."""

    def __init__(self) -> None:
        self.served: Counter[tuple[str, int]] = Counter()

    @call
    async def serve(self, caller: str, number: int) -> list[Any]:
        self.served[caller, number] += 1
        return [self.node.id.name, caller, number]


async def load(node: Node, peer: str, seconds: float) -> dict[str, Any]:
    ledger = node.ref(Ledger, "ledger", on=peer)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    me = node.id.name
    result: dict[str, Any] = {"peer": peer, "sent": 0, "wrong": 0, "errors": []}

    async def caller() -> None:
        while loop.time() < end:
            number = result["sent"]
            result["sent"] += 1
            try:
                if await ledger.call(Ledger.serve, me, number) != [peer, me, number]:
                    result["wrong"] += 1
            except Exception as error:
                result["errors"].append(repr(error))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return result


async def main(name: str, seeds: list[str]) -> None:
    loop = asyncio.get_running_loop()
    async with Node(f"{name}@127.0.0.1:0") as node:
        ledger = Ledger()
        await node.start(ledger, name="ledger")
        await node.ring.join("load", seeds=seeds)
        print(node.id.address, flush=True)
        _, seconds, members = (await loop.run_in_executor(None, sys.stdin.readline)).split()
        async with asyncio.timeout(10):
            while len(node.ring) < int(members):
                await asyncio.sleep(0.01)
        peers = [member.name for member in node.ring.nodes if member != node.id]
        print(json.dumps(await asyncio.gather(*(load(node, peer, float(seconds)) for peer in peers))), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)  # all have finished
        served = Counter(caller for caller, _ in ledger.served)
        twice = sum(1 for times in ledger.served.values() if times != 1)
        print(json.dumps({"served": served, "twice": twice}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
