"""Supervision: what crashes is started again, with what was started after it, and found under its name.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/supervised.py
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from clusterkit import Child, GenServer, Node, Supervisor, call


class Worker(GenServer):
    def __init__(self, number: int) -> None:
        self.number, self.done = number, 0

    @call
    async def work(self) -> str:
        self.done += 1
        return f"worker {self.number}: {self.done} done"


class App(Supervisor):
    strategy = "rest_for_one"
    intensity, period = 3, 5.0  # more than 3 restarts in 5 s: give up, and let my supervisor decide

    def children(self) -> Sequence[Child[GenServer]]:
        return [Child(partial(Worker, number), name=f"w{number}", restart="transient") for number in range(3)]


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as node:
        app = await node.start(App(), name="app")  # returns when all children run
        workers = [node.ref(Worker, f"w{number}") for number in range(3)]  # names: whoever bears them
        print([await worker.proxy.work() for worker in workers])
        async with node.monitor(workers[1]) as down, node.monitor(workers[2]) as next_down:
            await node.stop("w1", "boom")  # a crash: all but "normal" and "shutdown" is, for a transient child
            print("w1 went down:", (await down).reason)
            print("w2 went down:", (await next_down).reason)
        print([await worker.proxy.work() for worker in workers])  # the names have the new ones already
        for child in await app.proxy.which_children():
            print(child.name, child.state, child.restart)


if __name__ == "__main__":
    asyncio.run(main())
