"""An app for ``clusterkit start``: every node runs a greeter, and greets whom it sees.

export CLUSTERKIT_COOKIE=$(clusterkit keygen)
clusterkit start foo@127.0.0.1:7022 --ring demo --app examples.greeter_app:main
clusterkit start bar@127.0.0.1:7023 --ring demo --app examples.greeter_app:main --seed 127.0.0.1:7022
"""

from clusterkit import From, GenServer, Node, on


class Greeter(GenServer):
    @on("hello")
    async def hello(self, data: str, frm: From) -> str:
        return f"hello {frm.peer.name}, {data}"


async def main(node: Node) -> None:
    await node.start(Greeter(), name="greeter")
    replies = await node.multicall(node.ring.nodes, "greeter", "hello", "how are you?")
    for member, reply in replies.ok.items():
        print(f"{member.name} says: {reply}", flush=True)
    for member, error in replies.failed.items():
        print(f"{member.name} is not to be greeted: {error}", flush=True)
