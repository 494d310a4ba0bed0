"""Seeds are dialled until one takes us: which are tried again, which are dropped, and what is said of each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.errors import AuthFailed, ConfigError, NameConflict, WrongNode, WrongRing
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.discovery import Seeds
from clusterkit.ring.seeker import Seeker
from tests.conftest import eventually
from tests.unit.ring.kernels import Floors

pytestmark = pytest.mark.simulation


class Seeking:
    """A seeker, and what it outbid."""

    def __init__(self, kernel: Kernel) -> None:
        self.known: list[int] = []
        self.members: list[NodeId] = []
        self.seeker = Seeker(kernel, self._outbid)

    async def _outbid(self, known: int) -> None:
        self.known.append(known)

    def add(self, seeds: Seeds) -> Seeker:
        self.seeker.add(seeds, lambda: self.members)
        return self.seeker


@contextlib.asynccontextmanager
async def seeking(floors: Floors, **how: object) -> AsyncIterator[Seeking]:
    each = Seeking(await floors.kernel("me", **how))  # type: ignore[arg-type]
    try:
        yield each
    finally:
        await each.seeker.aclose()


async def test_a_seed_that_listens_is_linked() -> None:
    async with Floors() as floors, seeking(floors) as me:
        b = await floors.node("b")
        seeker = me.add([floors.address("b")])
        await eventually(lambda: seeker._kernel.links.get("b") is not None)
        assert seeker.searching
        assert (seeker.failures, seeker.refusal, seeker.tried) == ({}, None, "no answer")
        seeker.accepted.set()
        await eventually(lambda: not seeker.searching)
        assert b.ring.id == "test"


async def test_one_that_cannot_be_reached_or_is_in_no_ring_is_tried_again_for_ever() -> None:
    async with Floors() as floors, seeking(floors) as me:
        await floors.node("b", ring=None)
        seeker = me.add([floors.address("b"), floors.address("nobody")])
        await asyncio.sleep(60)
        assert seeker.searching
        assert seeker.refusal is None
        assert len(seeker.failures) == 2
        assert "in no ring yet" in seeker.tried
        await floors.node("nobody")
        await eventually(lambda: seeker._kernel.links.get("nobody") is not None, timeout=20)


async def test_those_that_refuse_for_good_are_dropped() -> None:
    async with Floors() as floors, seeking(floors) as me:
        await floors.node("b", ring="other")
        seeker = me.add([floors.address("b")])
        await eventually(lambda: not seeker.searching)
        assert isinstance(seeker.refusal, WrongRing)
        assert seeker.fatal is None


async def test_another_cookie_is_believed_at_the_third_time() -> None:
    async with Floors() as floors, seeking(floors, cookie="another cookie, not theirs") as me:
        await floors.node("b")
        seeker = me.add([floors.address("b")])
        await eventually(lambda: not seeker.searching, timeout=30)
        assert type(seeker.refusal) is AuthFailed
        assert seeker._kernel.links.counters["cookie_mismatch"] == 3


async def test_another_node_of_that_name_ends_it_all() -> None:
    async with Floors() as floors, seeking(floors, boot=(1 << 64) - 1) as me:
        await floors.node("me", host="elsewhere")
        seeker = me.add([floors.address("nobody"), floors.address("elsewhere")])
        await eventually(lambda: not seeker.searching, timeout=30)
        assert isinstance(seeker.fatal, NameConflict)
        assert seeker.refusal is seeker.fatal


async def test_a_later_run_that_a_seed_knows_is_outbid() -> None:
    async with Floors() as floors, seeking(floors) as me:
        b = await floors.kernel("b")
        b.links.learn_boot("me", 99)
        seeker = me.add([floors.address("b")])
        await eventually(lambda: me.known)
        assert set(me.known) == {99}
        assert seeker.searching


async def test_the_own_address_is_no_seed() -> None:
    async with Floors() as floors, seeking(floors) as me:
        seeker = me.add([floors.address("me"), f"me@{floors.address('me')}"])
        await eventually(lambda: not seeker.searching)
        assert seeker.refusal is None


async def test_under_another_name_the_own_address_is_a_wrong_seed() -> None:
    async with Floors() as floors, seeking(floors) as me:
        seeker = me.add([f"you@{floors.address('me')}"])
        await eventually(lambda: not seeker.searching)
        assert isinstance(seeker.refusal, WrongNode)


async def test_a_callable_is_asked_anew_until_one_is_found() -> None:
    async with Floors() as floors, seeking(floors) as me:
        asked = 0

        def seeds() -> list[str]:
            nonlocal asked
            asked += 1
            return [floors.address("b")] if asked > 2 else []

        await floors.node("b")
        seeker = me.add(seeds)
        await eventually(lambda: seeker._kernel.links.get("b") is not None, timeout=60)
        assert asked > 2
        assert seeker.searching


async def test_a_callable_that_fails_is_a_failure_and_asked_again() -> None:
    async with Floors() as floors, seeking(floors) as me:

        def seeds() -> list[str]:
            raise ConfigError("no list today")

        seeker = me.add(seeds)
        await eventually(lambda: seeker.failures)
        assert "no list today" in seeker.tried
        assert seeker.searching


async def test_once_in_seeds_that_are_no_members_are_tried_now_and_then() -> None:
    async with Floors() as floors, seeking(floors) as me:
        b, _ = await floors.node("b"), await floors.node("c")
        me.members.append(b.id)
        me.seeker.accepted.set()
        seeker = me.add([floors.address("b"), floors.address("c"), floors.address("d")])
        await eventually(lambda: seeker._kernel.links.get("c") is not None)
        assert seeker._kernel.links.get("b") is None
        await floors.node("d")
        await eventually(lambda: seeker._kernel.links.get("d") is not None, timeout=40)


async def test_closed_it_dials_no_more() -> None:
    async with Floors() as floors, seeking(floors) as me:
        seeker = me.add([floors.address("nobody")])
        await eventually(lambda: seeker.failures)
        await seeker.aclose()
        assert seeker.news.is_set()
        assert not seeker.searching
