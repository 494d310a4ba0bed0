"""Connections that break before their two nodes have introduced themselves: the session waits all the same."""

import asyncio
from dataclasses import replace

from clusterkit import LinkDown, Node
from clusterkit.core.session import Resume
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration.attackers import MOST, Liar, cast_to_inbox, with_inbox

PATIENCE = 20.0


def knows(node: Node, name: str) -> bool:
    """Whether a node keeps a link to another one."""
    return node._open_kernel().links.get(name) is not None


async def test_what_was_delivered_counts_when_its_sender_comes_back(start_node: NodeFactory) -> None:
    node = await start_node("a")
    inbox = await with_inbox(node)
    downs: list[LinkDown] = []
    node.on(LinkDown, downs.append)
    async with asyncio.timeout(PATIENCE):
        first = await Liar.dial(node)
        first.say(cast_to_inbox("take", 1), cast_to_inbox("take", 2))
        await eventually(lambda: inbox.seen == [1, 2])
        first.stream.abort()
        await eventually(lambda: downs)
        again = await Liar.dial(node, resume=Resume(1, first.theirs.own, 0, MOST))
        again.stream.abort()
        assert (again.theirs.own, again.theirs.peer, again.theirs.received) == (first.theirs.own, 1, 2)


async def test_past_the_bound_on_sessions_the_one_that_waits_longest_is_forgotten(start_node: NodeFactory) -> None:
    node = await start_node("a", config=replace(QUICK, session_limit=1))
    downs: list[LinkDown] = []
    node.on(LinkDown, downs.append)
    async with asyncio.timeout(PATIENCE):
        for number, name in enumerate(("x", "y")):
            (await Liar.dial(node, name)).stream.abort()
            await eventually(lambda number=number: len(downs) > number)  # type: ignore[misc]
        await eventually(lambda: not knows(node, "x"))
        assert knows(node, "y")
