"""Monitors and links between two kernels: each is told once, after all that came before, and leaves nothing behind."""

import asyncio
from collections.abc import Iterator

import pytest

from clusterkit.errors import UsageError
from clusterkit.kernel import monitors
from clusterkit.kernel.address import Address
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import Inbox
from clusterkit.kernel.monitors import Monitor
from tests.unit.kernel.pairs import SOON, Ears, Pair, end, linked, open_inbox

pytestmark = pytest.mark.simulation(seed=11)


class Told:
    """What a watcher hears."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)


def watch(kernel: Kernel, address: Address, *, linked: Inbox | None = None) -> tuple[Told, Monitor]:
    told = Told()
    monitor = kernel.monitors.watch(address, told, linked=linked)
    assert told.reasons == [], "never before it returns"
    return told, monitor


def is_idle(pair: Pair) -> bool:
    """Whether neither side keeps anything of any monitor."""
    kept = [getattr(each, table) for kernel in (pair.a, pair.b) for each in kernel.monitors._peers.values()
            for table in ("ours", "theirs", "linked")]  # fmt: skip
    return not any(kept)


@pytest.fixture
def few() -> Iterator[None]:
    """Two monitors of one peer are the most."""
    most, monitors._MOST = monitors._MOST, 2
    yield
    monitors._MOST = most


# -- on one node


async def test_each_watcher_on_the_node_is_told_once_as_the_process_ends() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.a, "srv")
        (one, _), (other, _) = watch(pair.a, Address(None, "srv")), watch(pair.a, Address(None, inbox.serial))
        end(pair.a, inbox, "boom")
        pair.a.monitors.ended(inbox, "again")
        assert (one.reasons, other.reasons) == (["boom"], ["boom"])


async def test_who_watches_no_more_is_not_told() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.a, "srv")
        told, monitor = watch(pair.a, Address(None, "srv"))
        nobody, in_vain = watch(pair.a, Address(None, "nobody"))
        for each in (monitor, monitor, in_vain):
            pair.a.monitors.unwatch(each)
        assert inbox.watchers == {}
        end(pair.a, inbox, "boom")
        await asyncio.sleep(SOON)
        assert (told.reasons, nobody.reasons) == ([], [])


async def test_nobody_there_is_told_soon() -> None:
    async with linked() as pair:
        told, _ = watch(pair.a, Address(None, "nobody"))
        await asyncio.sleep(0)
        assert told.reasons == ["noproc"]


async def test_a_local_link_tells_both_sides_whichever_ends() -> None:
    async with linked() as pair:
        for asker_ends in (True, False):
            asker, hears = open_inbox(pair.a, "asker")
            other, other_hears = open_inbox(pair.a, "other")
            told, _ = watch(pair.a, Address(None, "other"), linked=asker)
            end(pair.a, asker if asker_ends else other, "boom")
            if asker_ends:
                assert (told.reasons, other_hears.exits) == ([], [(Address(None, asker.serial), "boom")])
            else:
                assert (told.reasons, other_hears.exits) == (["boom"], [])
            assert hears.exits == []
            end(pair.a, other if asker_ends else asker, "later")
            assert len(told.reasons) + len(other_hears.exits) == 1, "the link is gone"


# -- between nodes


async def test_a_watcher_on_another_node_is_told_after_what_the_process_sent() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv")
        mine, _ = open_inbox(pair.a, "mine")
        by_name, _ = watch(pair.a, pair.at_b("srv"))
        by_serial, _ = watch(pair.a, pair.at_b(inbox.serial))
        await asyncio.sleep(SOON)
        assert len(inbox.watchers) == 2
        depths: list[int] = []
        watch_depth = pair.a.monitors.watch(pair.at_b("srv"), lambda reason: depths.append(len(mine)))
        await asyncio.sleep(SOON)
        assert watch_depth.is_live
        for _ in range(50):
            await pair.b.cast(pair.at_a("mine"), "note", (), {}, 1.0)
        end(pair.b, inbox, "boom")
        await asyncio.sleep(SOON)
        assert (by_name.reasons, by_serial.reasons, depths) == (["boom"], ["boom"], [50])
        assert is_idle(pair)


async def test_nobody_on_the_other_node_is_told_when_it_has_answered() -> None:
    async with linked() as pair:
        told, _ = watch(pair.a, pair.at_b("nobody"))
        await asyncio.sleep(0)
        assert told.reasons == []
        await asyncio.sleep(SOON)
        assert told.reasons == ["noproc"]
        assert is_idle(pair)


async def test_who_watches_no_more_from_another_node_is_forgotten_there() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv")
        told, monitor = watch(pair.a, pair.at_b("srv"))
        await asyncio.sleep(SOON)
        pair.a.monitors.unwatch(monitor)
        await asyncio.sleep(SOON)
        assert inbox.watchers == {}
        end(pair.b, inbox, "boom")
        await asyncio.sleep(SOON)
        assert told.reasons == []
        assert is_idle(pair)


async def test_an_end_and_a_demonitor_that_cross_tell_nobody() -> None:
    async with linked() as pair:
        inbox, _ = open_inbox(pair.b, "srv")
        told, monitor = watch(pair.a, pair.at_b("srv"))
        await asyncio.sleep(SOON)
        end(pair.b, inbox, "boom")
        pair.a.monitors.unwatch(monitor)
        await asyncio.sleep(SOON)
        assert told.reasons == []
        assert is_idle(pair)


async def test_what_is_taken_back_before_it_was_written_is_not_kept_in_the_outbox() -> None:
    async with linked() as pair:
        pair.world.partition(["a"], ["b"], reset=True)
        await asyncio.sleep(SOON)
        assert not pair.link.open
        for _ in range(100):
            _, monitor = watch(pair.a, pair.at_b("srv"))
            pair.a.monitors.unwatch(monitor)
        assert len(pair.link.session) == 0
        assert is_idle(pair)


async def test_a_link_between_nodes_tells_both_sides_whichever_ends() -> None:
    async with linked() as pair:
        for asker_ends in (True, False):
            asker, hears = open_inbox(pair.a, "asker")
            other, other_hears = open_inbox(pair.b, "other")
            told, monitor = watch(pair.a, pair.at_b("other"), linked=asker)
            await asyncio.sleep(SOON)
            assert monitor.process == pair.at_b(other.serial), "it learns whom it found"
            end(*((pair.a, asker) if asker_ends else (pair.b, other)), "boom")
            await asyncio.sleep(SOON)
            exits = [(pair.at_a(asker.serial), "boom")] if asker_ends else []
            assert (told.reasons, other_hears.exits, hears.exits) == ([] if asker_ends else ["boom"], exits, [])
            assert is_idle(pair)
            end(*((pair.b, other) if asker_ends else (pair.a, asker)), "later")
            await asyncio.sleep(SOON)
            assert len(told.reasons) + len(other_hears.exits) == 1


async def test_two_ends_that_cross_are_told_once_each() -> None:
    async with linked() as pair:
        asker, _ = open_inbox(pair.a, "asker")
        other, other_hears = open_inbox(pair.b, "other")
        told, _ = watch(pair.a, pair.at_b("other"), linked=asker)
        await asyncio.sleep(SOON)
        end(pair.a, asker, "mine")
        end(pair.b, other, "theirs")
        await asyncio.sleep(SOON)
        assert (told.reasons, other_hears.exits) == ([], [])
        assert is_idle(pair)


@pytest.mark.parametrize("where", ["here", "there"])
async def test_the_other_side_finds_and_undoes_a_link_that_was_made_with_it(where: str) -> None:
    async with linked() as pair:
        asker, _ = open_inbox(pair.a, "asker")
        kernel = pair.a if where == "here" else pair.b
        other, other_hears = open_inbox(kernel, "other")
        told, monitor = watch(pair.a, Address(None, "other") if where == "here" else pair.at_b("other"), linked=asker)
        await asyncio.sleep(SOON)
        seen_from_other = Address(None, asker.serial) if where == "here" else pair.at_a(asker.serial)
        stranger = Address(None, 99) if where == "here" else pair.at_a(99)
        assert kernel.monitors.link_of(other, stranger) is None
        kernel.monitors.unlink(other, stranger)
        assert kernel.monitors.link_of(other, seen_from_other) is not None
        kernel.monitors.unlink(other, seen_from_other)
        await asyncio.sleep(SOON)
        assert not monitor.is_live
        assert kernel.monitors.link_of(other, seen_from_other) is None
        assert (asker.watchers, other.watchers) == ({}, {})
        end(pair.a, asker, "boom")
        end(kernel, other, "boom")
        await asyncio.sleep(SOON)
        assert (told.reasons, other_hears.exits) == ([], [])
        assert is_idle(pair)


# -- the peer is gone


async def linked_all_ways(pair: Pair) -> tuple[Told, Told, Ears, Inbox]:
    """A monitor of b's process, a link made by a, and one made by b."""
    mine, hears = open_inbox(pair.a, "mine")
    theirs, _ = open_inbox(pair.b, "theirs")
    watching, _ = watch(pair.a, pair.at_b("theirs"))
    linking, _ = watch(pair.a, pair.at_b("theirs"), linked=mine)
    watch(pair.b, pair.at_a("mine"), linked=theirs)
    await asyncio.sleep(SOON)
    return watching, linking, hears, theirs


async def test_when_the_session_ends_all_is_without_connection_and_forgotten() -> None:
    async with linked() as pair:
        watching, linking, hears, theirs = await linked_all_ways(pair)
        pair.link.end_session("a test")
        assert watching.reasons == linking.reasons == ["noconnection"]
        assert hears.exits == [(Address(pair.b.id, theirs.serial, pinned=True), "noconnection")]
        await asyncio.sleep(5)
        end(pair.b, theirs, "boom")
        await asyncio.sleep(SOON)
        assert watching.reasons == linking.reasons == ["noconnection"]
        assert len(hears.exits) == 1
        assert is_idle(pair)


async def test_when_the_peer_is_called_down_all_is_without_connection_and_told_no_second_time() -> None:
    async with linked() as pair:
        watching, linking, hears, theirs = await linked_all_ways(pair)
        pair.link.judge("a test")
        assert watching.reasons == linking.reasons == ["noconnection"]
        assert len(hears.exits) == 1
        late, _ = watch(pair.a, pair.at_b("theirs"))
        await asyncio.sleep(0)
        assert late.reasons == ["noconnection"], "as long as it is down"
        pair.link.judge(None)
        await asyncio.sleep(5)
        assert pair.link.open, "the session goes on"
        again, _ = watch(pair.a, pair.at_b("theirs"))
        await asyncio.sleep(SOON)
        end(pair.b, theirs, "boom")
        await asyncio.sleep(SOON)
        assert watching.reasons == linking.reasons == ["noconnection"]
        assert again.reasons == ["boom"]
        assert is_idle(pair)


async def test_a_node_that_is_not_known_is_without_connection() -> None:
    async with linked() as pair:
        unknown = Address(pair.b.id.with_incarnation(99), 1, pinned=True)
        told, _ = watch(pair.a, unknown)
        await asyncio.sleep(0)
        assert told.reasons == ["noconnection"]


# -- bounds


@pytest.mark.usefixtures("few")
async def test_there_is_a_most_of_monitors_of_one_peer_on_both_sides() -> None:
    async with linked() as pair:
        open_inbox(pair.b, "srv")
        first, second = (watch(pair.a, pair.at_b("srv")) for _ in range(2))
        with pytest.raises(UsageError, match="are the most"):
            watch(pair.a, pair.at_b("srv"))
        await asyncio.sleep(SOON)
        pair.a.monitors._peers[pair.link].ours.clear()  # as if a peer would not keep to it
        third, _ = watch(pair.a, pair.at_b("srv"))
        await asyncio.sleep(SOON)
        assert (first[0].reasons, second[0].reasons, third.reasons) == ([], [], ["noconnection"])


async def test_what_a_peer_says_of_monitors_that_there_are_not_is_passed_over() -> None:
    async with linked() as pair:
        inbox, hears = open_inbox(pair.a, "srv")
        told = pair.a.monitors
        for number in (0, 7):
            told.down(pair.link, number, "boom")
            told.down(pair.link, number, "")
            told.exit(pair.link, number, "boom")
            told.dropped(pair.link, number)
            told.linked(pair.link, number, 3)
        told.asked(pair.link, 7, "srv")
        told.exit(pair.link, 7, "a monitor is no link")
        assert (hears.exits, inbox.watchers) == ([], {})
