"""OTP style: the callbacks, answers given later, a timer, and monitors.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/pool.py
"""

import asyncio
from typing import Any

from clusterkit import NOREPLY, Down, From, GenServer, Node, Stop, TimerFired


class Pool(GenServer):
    """Lends permits to actors; the permit of one that ends comes back."""

    def __init__(self, size: int) -> None:
        self.free, self.waiting = size, dict[From, str]()

    async def init(self) -> None:  # node.start returns after this
        self.continue_with("open")  # handle_continue runs next, before any message

    async def handle_continue(self, arg: Any) -> None:
        print(f"{arg}, {self.free} free")

    async def handle_call(self, request: Any, frm: From) -> Any:
        match request:
            case "take", holder if self.free:
                return self.lend(holder)
            case "take", holder:
                self.waiting[frm] = holder
                self.send_after(0.5, frm)  # to handle_info, as TimerFired
                return NOREPLY  # {noreply, State}: answered later
            case "close":
                raise Stop("normal", reply=f"closed, {self.free} free")
            case _:
                return await super().handle_call(request, frm)  # NoSuchMethod at the caller

    async def handle_info(self, info: Any) -> None:
        match info:
            case TimerFired(tag=From() as frm) if self.waiting.pop(frm, None):
                await self.reply_error(frm, TimeoutError("no permit came back"))
            case Down(ref=ref, reason=why):
                print(f"{ref.name} went down: {why}")
                self.free += 1
                for frm in list(self.waiting)[:1]:
                    await self.reply(frm, self.lend(self.waiting.pop(frm)))
            case _:
                await super().handle_info(info)  # a dead letter

    def lend(self, holder: str) -> str:
        self.free -= 1
        self.monitor(self.node.ref(GenServer, holder))  # whatever ends it, we get one Down
        return f"lent to {holder}"


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as node:
        pool = await node.start(Pool(1), name="pool")
        for name in ("ada", "bob"):
            await node.start(GenServer(), name=name)
        print(await pool.call("take", "ada"))
        try:
            await pool.call("take", "bob")
        except TimeoutError as error:
            print("bob:", error)
        said, _ = await asyncio.gather(pool.call("take", "bob"), node.stop("ada", "tired"))
        print(said)
        print(await pool.call("close"))


if __name__ == "__main__":
    asyncio.run(main())
