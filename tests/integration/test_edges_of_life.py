"""Start, stop, leave and close at awkward moments: each ends, and says what it did."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clusterkit import Config, GenServer, Node, NodeDown, NodeId, NoSuchServer, UsageError, call, cast
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually


class Odd(GenServer):
    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.notes: list[int] = []

    async def init(self) -> None:
        if self.slow:
            await asyncio.sleep(60)

    @call
    async def close_node(self) -> None:
        await self.node.aclose()

    @call
    async def stop_me(self) -> str:
        await self.node.stop(self.ref, "enough")
        return "stopping"

    @call
    async def swallow(self) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if self.notes:
                    raise

    @cast
    async def note(self, number: int) -> None:
        self.notes.append(number)

    @call
    async def total(self) -> int:
        return sum(self.notes)


async def test_arguments_that_do_not_fit_stop_nobody(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.start(Odd(), name="odd")
    for node in (a, b):
        ref = node.ref(Odd, "odd", on="a")
        await ref.cast("note")  # as a node of another version might
        with pytest.raises(TypeError, match="takes 1 positional"):
            await ref.call("total", 1)  # takes nothing
        assert await ref.call(Odd.total) == 0
    assert a._open_kernel().counters["dead_letters"] == 2


async def test_sends_to_a_link_that_is_being_left_are_refused_at_once(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.start(Odd(), name="odd")
    link = b._open_kernel().links.get("a")
    assert link is not None
    link.parting = True
    ref = b.ref(Odd, "odd", on="a")
    for send in (ref.cast(Odd.note, 1), ref.call(Odd.total)):
        with pytest.raises(NodeDown) as caught:
            await send
        assert caught.value.executed == "no"


async def test_an_actor_may_stop_itself_and_not_close_its_node(start_node: NodeFactory) -> None:
    a = await start_node("a")
    ref = await a.start(Odd(), name="odd")
    with pytest.raises(UsageError, match="cannot close its own node"):
        await ref.call(Odd.close_node)
    assert await ref.call(Odd.stop_me) == "stopping"
    await eventually(lambda: a.whereis("odd") is None)


async def test_a_start_that_is_given_up_leaves_no_actor(start_node: NodeFactory) -> None:
    a = await start_node("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await a.start(Odd(slow=True), name="odd")
    await eventually(lambda: a.whereis("odd") is None)
    await a.start(Odd(), name="odd")


async def test_a_handler_that_swallows_its_cancellation_holds_nobody_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    odd = Odd()
    node = Node("a@127.0.0.1:0", cookie=COOKIE, config=Config(drain_timeout=0.2))
    async with node:
        await node.start(odd, name="odd")
        stuck = asyncio.create_task(node.ref(Odd, "odd").with_(timeout=30).call(Odd.swallow))
        await eventually(lambda: odd._clusterkit_process is not None and odd._clusterkit_process.current)
        task = odd._clusterkit_process.task if odd._clusterkit_process else None
        async with asyncio.timeout(8):
            await node.aclose()
    assert "swallows its cancellation" in caplog.text
    with pytest.raises(UsageError):
        await stuck
    odd.notes.append(1)
    assert task is not None
    task.cancel()
    await asyncio.wait([task])


async def test_leaving_while_joining_ends_the_join_with_an_error(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)
    b = await start_node("b", ring=None)  # in no ring: a's seed says so, again and again
    joining = asyncio.create_task(a.ring.join("test", seeds=[b.id.address], timeout=20))
    await eventually(lambda: a.ring._seeker.failures)
    await a.ring.leave()
    with pytest.raises(UsageError, match="while it was joining"):
        await joining


async def test_an_incarnation_that_is_too_old_by_now_is_not_let_in_again(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    kernel = a._open_kernel()
    link = kernel.links.get("b")
    assert link is not None
    kernel.links.learn_boot("b", b.id.incarnation + 1)
    assert link.connection is not None
    link.connection.cut()  # b redials under an incarnation that is too old by now
    await eventually(lambda: link.down)
    assert a.ring.get("b") == b.id


LIFE: dict[str, Callable[[Node], Awaitable[Any]]] = {
    "start": lambda node: node.start(Odd()),
    "stop": lambda node: node.stop("odd"),
    "aclose": lambda node: node.aclose(),
    "leave": lambda node: node.ring.leave(),
    "join": lambda node: node.ring.join("other"),
    "call": lambda node: node.ref(Odd, "odd").call(Odd.total),
}


@pytest.mark.parametrize("what", LIFE)
async def test_from_another_event_loop_nothing_is_done(what: str, start_node: NodeFactory) -> None:
    node = await start_node("a", config=QUICK)
    await node.start(Odd(), name="odd")

    def elsewhere() -> None:
        async def use() -> None:
            async with asyncio.timeout(3):
                await LIFE[what](node)

        asyncio.run(use())

    with pytest.raises(UsageError, match="another event loop"):
        await asyncio.to_thread(elsewhere)
    assert node.ring.id == "test"
    assert await node.ref(Odd, "odd").call(Odd.total) == 0


async def test_a_name_that_nobody_bears_is_told_at_once(start_node: NodeFactory) -> None:
    node = await start_node("a")
    with pytest.raises(NoSuchServer):
        await node.stop("nobody")
    assert node.ring.get("nobody") is None
    assert NodeId("nobody", "h", 1) not in node.ring
