"""Three nodes in one program: what the ring tells, and which member owns a key.

CLUSTERKIT_COOKIE=$(clusterkit keygen) python examples/ring_events.py
"""

import asyncio

from clusterkit import MemberDown, MemberUp, Node, RingChanged


async def main() -> None:
    async with Node("foo@127.0.0.1:0") as foo, Node("bar@127.0.0.1:0") as bar, Node("baz@127.0.0.1:0") as baz:
        foo.ring.on(MemberUp, lambda event: print("up:", event.member.name))
        foo.ring.on(RingChanged, lambda event: print(f"{event.moved:.0%} of all keys have another owner"))
        await foo.ring.join("demo")
        for node in (bar, baz):
            await node.ring.join("demo", seeds=[foo.id.address])
        await foo.ring.converged()  # every live member knows what foo knows

        key = next(key for key in map(str, range(1_000)) if foo.ring.find(key).name == "bar")
        print("who may own the key, in order:", ", ".join(node.name for node in foo.ring.range(key)))

        events = foo.ring.events()  # all of them from now on, in order
        await bar.aclose(leave=False)  # it stays a member, as for a restart
        async for event in events:
            if isinstance(event, MemberDown):
                print("down:", event.member.name, f"({event.member.why})")
                break
        await events.aclose()
        print("its owner:", foo.ring.find(key).name, "| who stands in:", foo.ring.find(key, alive=True).name)

        await foo.ring.remove("bar")
        print("its owner:", foo.ring.find(key).name)


if __name__ == "__main__":
    asyncio.run(main())
