"""What a membership says is carried out: frames, verdicts, the timer, the file; and what links tell comes in."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from clusterkit import Node
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.members import MemberUp, State
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import Begun, Effect, Insert, Notify, Ready, Remove, Reweigh, Send, Stopped
from clusterkit.core.ring_frames import Verdict
from clusterkit.core.ring_messages import State as WholeState
from clusterkit.core.ring_messages import unpack
from clusterkit.errors import AuthFailed, NotInRing, OldIncarnation, PeerLeaving, UsageError, WrongRing
from clusterkit.kernel.events import DeadLetter
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.driver import Driver
from clusterkit.ring.keeping import Keeping
from clusterkit.runtime import wall_time
from clusterkit.storage.state_file import StateFile
from tests.conftest import eventually
from tests.unit.ring.kernels import PORT, Floors

pytestmark = pytest.mark.simulation


@contextlib.asynccontextmanager
async def driving(
    kernel: Kernel, store: StateFile | None = None, told: Callable[[Effect], object] = lambda effect: None
) -> AsyncIterator[Driver]:
    """A driver that has begun."""
    membership = Membership(kernel.id, Random(1), wall_time)
    driver = kernel.inbound.ring = Driver(kernel, membership, Keeping(store), lambda effect: (told(effect), None)[1])
    driver.step(Begun())
    try:
        yield driver
    finally:
        kernel.inbound.ring = None
        await driver.aclose(save=False)


async def linked(floors: Floors, driver: Driver) -> Node:
    """A node that the driver's one knows and is linked to."""
    b = await floors.node("b")
    driver.step(Insert(b.id))
    await eventually(lambda: driver.membership.members["b"].node.incarnation and b.ring.has("a"))
    return b


async def test_members_are_met_judged_and_told_of() -> None:
    async with Floors() as floors:
        kernel, told = await floors.kernel("a"), list[Effect]()
        async with driving(kernel, told=told.append) as driver:
            b = await linked(floors, driver)
            assert {type(effect) for effect in told} >= {Notify}
            link = kernel.links.get("b")
            assert link is not None
            floors.world.crash("b", reset=True)
            await eventually(lambda: driver.membership.members["b"].state is State.DOWN)
            assert link.down
            assert link.why == "connection refused"
            assert b.id.name == "b"


async def test_one_that_is_removed_hears_of_it_and_its_link_ends() -> None:
    async with Floors() as floors:
        kernel = await floors.kernel("a")
        async with driving(kernel) as driver:
            b = await linked(floors, driver)
            driver.step(Remove("b"))
            await eventually(lambda: not b.ring.id and kernel.links.get("b") is None)


async def test_one_that_is_inserted_again_before_its_link_has_ended_is_met_again() -> None:
    async with Floors() as floors:
        kernel = await floors.kernel("a")
        async with driving(kernel) as driver:
            b = await linked(floors, driver)
            driver.step(Remove("b"))
            driver.step(Insert(b.id))
            await eventually(lambda: b.ring.id and driver.membership.members["b"].ready, timeout=20)
            assert driver.membership.members["b"].state is State.ALIVE


async def test_what_a_callback_causes_is_told_after_what_it_heard() -> None:
    async with Floors() as floors:
        kernel, told = await floors.kernel("a"), list[str]()
        async with driving(kernel) as driver:

            def follow(effect: Effect) -> None:
                if isinstance(effect, Notify):
                    event = effect.event
                    if isinstance(event, MemberUp) and event.member.name == "b":
                        driver.step(Ready(False))
                    told.append(f"{type(event).__name__} {event.member.name}")

            driver._upward = follow
            await linked(floors, driver)
            assert told.index("MemberUp b") < told.index("MemberUpdated a")
            with pytest.raises(UsageError):
                driver.step(Remove("nobody"))
            driver.step(Reweigh("a", 3))
            assert driver.membership.members["a"].weight == 3


async def test_a_frame_that_cannot_be_read_is_a_dead_letter_and_the_link_stays() -> None:
    async with Floors() as floors:
        kernel, dead = await floors.kernel("a"), list[DeadLetter]()
        kernel.events.on(DeadLetter, dead.append)
        async with driving(kernel) as driver:
            b = await linked(floors, driver)
            assert b._kernel is not None
            link = b._kernel.links.get("a")
            assert link is not None
            b._kernel.send_ring(link, b"\xc1")
            await eventually(lambda: dead)
            assert "cannot be read" in dead[0].reason
            assert link.open


@pytest.mark.parametrize(
    ("error", "down"),
    [
        (ConnectionRefusedError("refused"), True),
        (WrongRing("it is in ring 'other'"), True),
        (NotInRing("it is in no ring"), True),
        (TimeoutError("no answer"), False),
        (PeerLeaving("it is leaving"), False),
        (AuthFailed("another cookie"), False),
    ],
)
async def test_which_failures_of_a_dial_prove_that_a_member_is_gone(error: Exception, down: bool) -> None:
    async with Floors() as floors, driving(await floors.kernel("a")) as driver:
        nobody = NodeId("nobody", floors.world.network("nobody").host, PORT)
        driver.step(Insert(nobody))
        driver.unreached(nobody, error)  # type: ignore[arg-type]
        member = driver.membership.members["nobody"]
        assert (member.state is State.DOWN) is down
        assert member.why == (str(error) if down else "")


async def test_a_member_that_knows_a_later_run_of_this_one_ends_it() -> None:
    async with Floors() as floors:
        kernel, told = await floors.kernel("a"), list[Effect]()
        async with driving(kernel, told=told.append) as driver:
            b = await linked(floors, driver)
            driver.unreached(b.id, OldIncarnation("a later one is known", 0))
            assert driver.membership.stopped is None
            driver.unreached(b.id, OldIncarnation("a later one is known", 1 << 40))
            assert Stopped(Verdict.SUPERSEDED) in told


async def test_a_goodbye_is_the_last_word_unless_it_only_drops_us() -> None:
    async with Floors() as floors:
        kernel = await floors.kernel("a")
        async with driving(kernel) as driver:
            await linked(floors, driver)
            link = kernel.links.get("b")
            assert link is not None
            driver.link_parted(link, Reason.DROP)
            assert driver.membership.members["b"].state is State.ALIVE
            driver.link_parted(link, Reason.LEAVE)
            assert "b" not in driver.membership.members


async def test_closed_it_does_nothing_more() -> None:
    async with Floors() as floors:
        kernel = await floors.kernel("a")
        async with driving(kernel) as driver:
            await driver.aclose(save=False)
            driver.step(Insert(NodeId("x", "10.0.0.9", PORT)))
            assert "x" not in driver.membership.members


async def test_one_that_refuses_for_good_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Floors() as floors:
        kernel = await floors.kernel("a")
        async with driving(kernel) as driver:
            await linked(floors, driver)
            link = kernel.links.get("b")
            assert link is not None
            with caplog.at_level(logging.WARNING, "clusterkit.ring"):
                driver.link_refused(link, WrongRing("it is in ring 'other'"))
            assert "node b refuses this node: it is in ring 'other'" in caplog.text


# -- the state file


async def test_the_ring_is_kept_a_second_after_it_changed_and_at_the_end(tmp_path: Path) -> None:
    with contextlib.closing(StateFile.open(tmp_path / "state", "a")) as store:
        async with Floors() as floors:
            kernel = await floors.kernel("a")
            async with driving(kernel, store) as driver:
                driver.step(Insert(NodeId("x", "10.0.0.9", PORT)))
                await eventually(lambda: store.saved is not None)
                driver.step(Insert(NodeId("y", "10.0.0.9", PORT)))
                await driver.aclose(save=True)
            saved = store.saved
            assert saved is not None
            message = unpack(saved.state)
            assert isinstance(message, WholeState)
            assert sorted(message.full.entries) == ["a", "x", "y"]
            assert (saved.ring_id, saved.boot) == ("test", 10)


# -- a ring that is too large


async def test_a_state_that_cannot_be_packed_is_logged_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with Floors() as floors:
        kernel = await floors.kernel("a")
        async with driving(kernel) as driver:
            await linked(floors, driver)
            full = driver.membership.ring.full()
            too_large = replace(full, fences={f"gone-{number}": 1 for number in range(40_000)})
            driver._carry_out(Send("b", WholeState(too_large)))
            assert "too large to be told to b" in caplog.text
            driver._carry_out(Send("b", WholeState(full)))
            assert caplog.text.count("too large") == 1
