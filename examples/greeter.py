"""Two nodes in one program: an event handler, called here and on the other node.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/greeter.py
"""

import asyncio

from clusterkit import From, GenServer, Node, on


class Greeter(GenServer):
    @on("hello")  # an event, its data, who asked
    async def hello(self, data: str, frm: From) -> str:
        return f"world, {data} from {frm.peer.name}"  # the return value is the reply of a call


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as foo, Node("bar@127.0.0.1:0") as bar:
        await foo.ring.join("demo")
        await bar.ring.join("demo", seeds=[foo.id.address])
        await foo.start(Greeter(), name="greeter")
        await bar.start(Greeter(), name="greeter")
        here = bar.ref(Greeter, "greeter")
        there = bar.ref(Greeter, "greeter", on="foo")
        print(await here.call("hello", "me"))
        print(await there.call("hello", "you"))
        print("members:", ", ".join(str(node) for node in bar.ring.nodes))


if __name__ == "__main__":
    asyncio.run(main())
