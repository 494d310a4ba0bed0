"""`node.ring` on a network in memory: what users call, and what they are told."""

import asyncio

import pytest

from clusterkit import MemberDown, MemberJoined, MemberRemoved, MemberUp, Node, RingChanged
from clusterkit.errors import AlreadyInRing, JoinTimeout, NameConflict, UsageError
from tests.conftest import eventually
from tests.unit.ring.kernels import Floors

pytestmark = pytest.mark.simulation


async def two(floors: Floors) -> tuple[Node, Node]:
    """Nodes a and b in one ring."""
    a, b = await floors.node("a"), await floors.node("b", ring=None)
    await b.ring.join("test", [floors.address("a")])
    await a.ring.converged()
    return a, b


async def test_outside_a_ring_a_node_owns_all_keys() -> None:
    async with Floors() as floors:
        a = await floors.node("a", ring=None)
        assert a.ring.find("key") == a.id
        assert a.ring.nodes == [a.id]
        assert a.ring.id == ""


async def test_to_meet_a_member_returns_at_once() -> None:
    async with Floors() as floors:
        a, b = await two(floors)
        for _ in range(3):
            async with asyncio.timeout(1):
                await a.ring.meet(b.id.address)
        assert len(a.ring) == 2


async def test_two_islands_that_meet_are_one() -> None:
    async with Floors() as floors:
        a, b = await floors.node("a"), await floors.node("b")
        await a.ring.meet(str(b.id))
        await a.ring.converged()
        assert a.ring.nodes == b.ring.nodes


async def test_one_that_was_removed_does_not_answer_who_meets_it() -> None:
    async with Floors() as floors:
        a, b = await two(floors)
        removed = list[MemberRemoved]()
        b.ring.on(MemberRemoved, removed.append)
        await a.ring.remove("b")
        await eventually(lambda: removed)
        assert removed[0].member.node == b.id
        assert (b.ring.id, b.ring.nodes) == ("", [b.id])
        with pytest.raises(JoinTimeout):
            await a.ring.meet(b.id.address, timeout=2)
        await b.ring.join("test", [floors.address("a")])
        assert len(a.ring) == 2


async def test_leave_may_be_called_twice_at_once() -> None:
    async with Floors() as floors:
        a, b = await two(floors)
        async with asyncio.timeout(10):
            await asyncio.gather(a.ring.leave(), a.ring.leave())
        await eventually(lambda: len(b.ring) == 1)
        assert a.ring.id == ""
        await a.ring.join("test", [floors.address("b")])
        assert len(b.ring) == 2


async def test_a_node_may_be_closed_while_it_leaves() -> None:
    async with Floors() as floors:
        a, b = await two(floors)
        floors.world.partition("a", "b")
        leaving = asyncio.create_task(a.ring.leave())
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            await a.aclose()
            await leaving
        assert b.ring.has("a")


async def test_moved_keys_are_told_once_for_all_that_changed_and_not_for_faults() -> None:
    async with Floors() as floors:
        a, _ = await two(floors)
        moved, order = list[float](), list[str]()
        a.ring.on(RingChanged, lambda event: moved.append(event.moved))
        for kind in (MemberJoined, MemberUp, MemberDown, RingChanged):
            a.ring.on(kind, lambda event: order.append(type(event).__name__))
        floors.world.crash("b", reset=True)
        await eventually(lambda: "MemberDown" in order)
        assert moved == []
        order.clear()
        await a.ring.insert(f"x@{floors.address('x')}", f"y@{floors.address('y')}")
        await eventually(lambda: moved)
        assert order[:3] == ["MemberJoined", "MemberJoined", "RingChanged"]
        assert len(moved) == 1
        assert 0.3 < moved[0] < 0.7
        await a.ring.update("x", weight=3)
        await eventually(lambda: len(moved) == 2)


async def test_join_waits_again_after_its_timeout_and_no_other_ring_is_joined_meanwhile() -> None:
    async with Floors() as floors:
        a = await floors.node("a", ring=None)
        with pytest.raises(JoinTimeout, match="dialling goes on"):
            await a.ring.join("test", [floors.address("b")], timeout=1)
        with pytest.raises(AlreadyInRing):
            await a.ring.join("other")
        joining = asyncio.create_task(a.ring.join("test", [floors.address("c")], timeout=30))
        b = await floors.node("b")
        await joining
        assert b.ring.has("a")
        with pytest.raises(AlreadyInRing):
            await a.ring.join("test")


async def test_who_leaves_while_it_joins_has_not_joined() -> None:
    async with Floors() as floors:
        a = await floors.node("a", ring=None)
        joining = asyncio.create_task(a.ring.join("test", [floors.address("b")], timeout=30))
        await asyncio.sleep(1)
        await a.ring.leave()
        with pytest.raises(UsageError, match="left ring"):
            await joining
        assert a.ring.id == ""


async def test_a_name_above_whose_incarnation_there_is_none_cannot_be_used() -> None:
    async with Floors() as floors:
        b = await floors.kernel("b")
        b.links.learn_boot("a", (1 << 64) - 1)
        a = await floors.node("a", ring=None)
        with pytest.raises(NameConflict, match="no incarnation is greater"):
            await a.ring.join("test", [floors.address("b")])
        assert a.ring.id == ""
        await a.ring.join("another")
