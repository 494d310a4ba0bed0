"""Deadlines that cross nodes, errors that say whether it may have happened, and cancellation.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/deadlines.py
"""

import asyncio

from clusterkit import CallTimeout, GenServer, MailboxFull, Node, NodeDown, NoSuchServer, Ref, call, deadline


class Till(GenServer):
    def __init__(self) -> None:
        self.paid = 0

    @call
    async def pay(self, amount: int, takes: float = 0.0) -> int:
        await asyncio.sleep(takes)
        self.paid += amount
        return self.paid


async def pay(till: Ref[Till], amount: int, takes: float = 0.0) -> int | None:
    try:
        with deadline(0.5):  # for every call made inside, and those that these lead to; the block is not cancelled
            return await till.call(Till.pay, amount, takes)
    except (CallTimeout, NodeDown) as error:
        print(f"{type(error).__name__}, executed: {error.executed}")
        if error.executed == "no":  # proven: no handler ran
            return await till.with_(timeout=2.0).call(Till.pay, amount)
        return None  # "maybe": only you know whether once more is harmless
    except (NoSuchServer, MailboxFull) as error:
        print("not now:", error)
        return None


async def first(tills: list[Ref[Till]]) -> int:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(till.call(Till.pay, 1, 0.1 * nth)) for nth, till in enumerate(tills)]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()  # what still queues leaves its mailbox
    return done.pop().result()


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as foo, Node("bar@127.0.0.1:0") as bar:
        await bar.ring.join("bank")
        await foo.ring.join("bank", seeds=[bar.id.address])
        here = await foo.start(Till(), name="till")
        await bar.start(Till(), name="till")
        print("paid:", await pay(here, 5))
        print("paid:", await pay(foo.ref(Till, "till", on="bar"), 5, takes=1.0))
        _, paid = await asyncio.gather(here.call(Till.pay, 10, 1.0), pay(here, 1))  # the second waits in the mailbox
        print("paid:", paid)
        print("missing:", await pay(foo.ref(Till, "tell", on="bar"), 1))
        print("first:", await first([here, foo.ref(Till, "till", on="bar")]))


if __name__ == "__main__":
    asyncio.run(main())
