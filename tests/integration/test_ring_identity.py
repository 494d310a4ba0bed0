"""Who belongs to a ring of real processes: namesakes, other rings, islands, removed members, other clocks.

``pytest -m long tests/integration/test_ring_identity.py`` adds what waits for a seed that comes late.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.real_ring import CHANGES, RING, OrderRefused, RealRing, alive, together

HOUR = 3600.0
DEADLINE = 60.0


@pytest.fixture
async def ring() -> AsyncIterator[RealRing]:
    """No node yet, and a deadline for all that they do."""
    async with asyncio.timeout(DEADLINE), RealRing() as real:
        yield real


# -- namesakes


async def test_a_clone_of_a_live_node_is_refused_and_nobody_is_harmed(ring: RealRing) -> None:
    await ring.start_all("abc")
    before = await ring.views("abc")
    told = await ring.told("abc", *CHANGES)
    for number, seed in enumerate("ab"):
        clone = await ring.start("b", [ring[seed].place], process=f"clone{number}")
        outcome = await clone.child.reported("came")
        assert outcome["refused"] == "NameConflict"
        assert "'b'" in outcome["text"]
        assert (await clone.view()).ring == ""
    assert await ring["a"].order("count", "b") == 1
    assert await ring.agrees("abc", alive("abc")) == before
    assert await ring.told("abc", *CHANGES) == told


async def test_a_clone_that_is_a_ring_of_its_own_meets_nobody(ring: RealRing) -> None:
    await ring.start_all("abc")
    before = await ring.views("abc")
    told = await ring.told("abc", *CHANGES)
    clone = await ring.start("b", process="clone")
    await ring.joined("clone")
    with pytest.raises(OrderRefused, match="NameConflict"):
        await clone.order("meet", ring["a"].address)
    with pytest.raises(OrderRefused, match="UsageError"):
        await ring["a"].order("insert", clone.address)
    assert await ring["a"].order("count", "b") == 1
    assert await ring.agrees("abc", alive("abc")) == before
    assert await ring.told("abc", *CHANGES) == told


async def test_a_process_that_stood_still_while_its_namesake_took_over_is_told(ring: RealRing) -> None:
    await ring.start_all("abc")
    first = ring["b"]
    first.child.stop()
    await ring.agrees("ac", {**alive("ac"), "b": "down"})
    await ring.start("b", [ring["a"].place], process="later")
    await ring.joined("later")
    later = (await ring["later"].view()).incarnation
    await ring.sees("ac", alive("abc"))
    first.child.go_on()
    async with asyncio.timeout(DEADLINE):
        while not await first.events("NameConflict"):
            await asyncio.sleep(0.05)
    view = await first.view()
    assert (view.ring, list(view.members)) == ("", ["b"])
    assert (await ring.agrees("ac", alive("abc")))["a"].members["b"].incarnation == later


# -- other rings


async def test_two_rings_with_one_cookie_never_mix(ring: RealRing) -> None:
    await ring.start("a", ring="one")
    await ring.start("c", ring="two")
    await together(map(ring.joined, "ac"))
    await ring.start("b", [ring["a"].place, ring["c"].place], ring="one")
    await ring.start("d", [ring["c"].place, ring["a"].place], ring="two")
    await together(map(ring.joined, "bd"))
    await together([ring.agrees("ab", alive("ab")), ring.agrees("cd", alive("cd"))])
    with pytest.raises(OrderRefused, match="WrongRing"):
        await ring["c"].order("meet", ring["b"].address)
    stray = await ring.start("e", [ring["a"].place, ring["b"].place], ring="two")
    assert (await stray.child.reported("came"))["refused"] == "WrongRing"
    told = await ring.told("cd", *CHANGES)

    await ring["a"].order("insert", ring["c"].address)
    views = await ring.agrees("ab", {**alive("ab"), "c": "down"})
    assert all("'two'" in view.members["c"].why for view in views.values()), views
    await ring.agrees("cd", alive("cd"))
    await ring["b"].order("remove", "c")
    await together([ring.agrees("ab", alive("ab")), ring.agrees("cd", alive("cd"))])
    assert await ring.told("cd", *CHANGES) == told


async def test_a_node_that_is_inserted_before_it_joins_is_down_with_that_reason_until_it_does(ring: RealRing) -> None:
    await ring.start_all("ab")
    await ring.start("x", ring=None)
    await ring["a"].order("insert", ring["x"].address, weight=4)
    views = await ring.agrees("ab", {**alive("ab"), "x": "down"})
    assert all("no ring" in view.members["x"].why for view in views.values()), views
    await ring["x"].order("join", RING)  # nobody told it of a seed: it is dialled
    views = await ring.agrees("abx", alive("abx"))
    assert views["x"].members["x"].weight == 4


# -- islands of one ring


async def start_islands(ring: RealRing) -> None:
    """Two rings of one id that do not know each other."""
    await ring.start_all("abc")
    await ring.start_all("xyz")
    await ring["a"].order("update", "b", weight=2)
    await ring["x"].order("update", "y", weight=3)
    await together([ring.agrees("abc", alive("abc")), ring.agrees("xyz", alive("xyz"))])


async def are_one(ring: RealRing) -> None:
    """All six are one ring, with the weights of both."""
    views = await ring.agrees("abcxyz", alive("abcxyz"))
    weights = {name: member.weight for name, member in views["c"].members.items()}
    assert weights == {"a": 1, "b": 2, "c": 1, "x": 1, "y": 3, "z": 1}
    assert await ring.told("abcxyz", "MemberDown", "MemberRemoved", "MemberLeft") == []


@pytest.mark.parametrize("way", ["meet", "insert"])
async def test_two_islands_become_one_ring(ring: RealRing, way: str) -> None:
    await start_islands(ring)
    await ring["c"].order(way, ring["z"].address)
    await are_one(ring)


async def test_a_node_whose_seeds_are_in_two_islands_makes_one_of_them(ring: RealRing) -> None:
    await start_islands(ring)
    await ring.start("m", [ring["a"].place, ring["x"].place])
    await ring.joined("m")
    await ring.agrees("abcmxyz", alive("abcmxyz"))


@pytest.mark.long
async def test_islands_meet_at_a_seed_that_comes_late(ring: RealRing) -> None:
    await ring.start("a", ring=None)  # its port will be a's again
    ring["a"].child.kill()
    await ring.start("x", [ring["a"].place], patience=0.5)
    assert (await ring["x"].child.reported("came"))["refused"] == "JoinTimeout"
    await ring.start("y", [ring["x"].place])
    await ring.joined("y")
    await ring.agrees("xy", alive("xy"))
    await ring.restart("a", [], same_port=True)
    await ring.start("b", [ring["a"].place])
    await ring.joined("b")
    await ring.sees("abxy", alive("abxy"), within=40.0)  # seeds that are no members are dialled every 30 s
    await ring.agrees("abxy", alive("abxy"))


async def test_nodes_that_are_each_others_seeds_meet(ring: RealRing) -> None:
    for name in "abc":
        await ring.start(name, ring=None)
    seeds = [ring[name].place for name in "abc"]
    for _ in range(3):
        await together(ring[name].order("join", RING, seeds) for name in "abc")
        await ring.agrees("abc", alive("abc"))
        await together(ring[name].order("leave") for name in "abc")
    for name in "ab":
        ring[name].child.kill()
    await together([ring.restart("a", "b", same_port=True), ring.restart("b", "a", same_port=True)])
    await ring.agrees("ab", alive("ab"))


# -- members that were removed, or are back


async def test_a_member_that_is_removed_while_alive_is_told_and_may_come_back(ring: RealRing) -> None:
    await ring.start_all("abc")
    assert await ring["c"].order("count", "c") == 1
    before = (await ring["c"].view()).incarnation
    await ring["a"].order("remove", "c")
    await ring.agrees("ab", alive("ab"))
    await ring.sees("c", alive("c"))
    assert (await ring["c"].view()).ring == ""
    (removed,) = await ring["c"].events("MemberRemoved")
    assert (removed["name"], removed["incarnation"]) == ("c", before)
    assert await ring["c"].order("count", "c") == 2  # its actors live on
    with pytest.raises(OrderRefused, match="NodeDown"):
        await ring["a"].order("count", "c")
    with pytest.raises(OrderRefused, match="UsageError"):
        await ring["c"].order("insert", ring["a"].address)

    await ring["c"].order("join", RING, [ring["b"].place])
    await ring.agrees("abc", alive("abc"))
    joined = (await ring["c"].view()).incarnation
    assert joined > before
    assert await ring["a"].order("count", "c") == 3

    await ring["b"].order("remove", "c")
    await ring.agrees("ab", alive("ab"))
    await ring.sees("c", alive("c"))
    await ring["a"].order("insert", ring["c"].address)  # an invitation
    await ring.agrees("abc", alive("abc"))
    assert (await ring["c"].view()).incarnation > joined
    assert await ring["b"].order("count", "c") == 4
    assert await ring.told("ab", "MemberDown") == []


async def test_a_node_that_restarts_at_another_address_is_in_at_once(ring: RealRing) -> None:
    await ring.start_all("abc")
    first = ring["b"]
    first.child.kill()
    await ring.restart("b", "a")
    await ring.sees("ac", alive("abc"), within=5.0)
    views = await ring.agrees("abc", alive("abc"))
    assert views["a"].members["b"].node == ring["b"].address != first.address
    assert await ring["c"].order("count", "b") == 1


# -- clocks


async def test_wall_clocks_that_differ_by_an_hour_change_nothing(ring: RealRing) -> None:
    await ring.start_all("ab")
    await ring.start("f", [ring["a"].place], ahead=HOUR)
    await ring.start("s", [ring["b"].place], ahead=-HOUR)
    await together(map(ring.joined, "fs"))
    await ring.start("x", ahead=HOUR)
    await ring.joined("x")
    await ring.agrees("abfs", alive("abfs"))
    await ring["s"].order("insert", ring["x"].address, weight=3)  # a decision, above what x began with in the future
    views = await ring.agrees("abfsx", alive("abfsx"))
    assert views["x"].members["x"].weight == 3
    await ring["f"].order("update", "a", weight=9)
    await ring.agrees("abfsx", alive("abfsx"))
    await ring["s"].order("update", "a", weight=2)  # later than the one before, whatever the clocks say
    views = await ring.agrees("abfsx", alive("abfsx"))
    assert views["f"].members["a"].weight == 2
    await together([ring["f"].order("update", "b", weight=7), ring["s"].order("update", "b", weight=5)])
    views = await ring.agrees("abfsx", alive("abfsx"))
    assert views["a"].members["b"].weight in (5, 7)  # at the same time: one of them, for all
    await ring["s"].order("remove", "x")
    await ring.agrees("abfs", alive("abfs"))
    await ring["f"].order("leave")
    await ring.agrees("abs", alive("abs"))
    await ring["f"].order("join", RING, [ring["s"].place])
    await ring.agrees("abfs", alive("abfs"))
    assert await ring.told("abfs", "MemberDown") == []


async def test_a_wall_clock_that_jumps_while_it_runs_changes_nothing(ring: RealRing) -> None:
    await ring.start_all("abc")
    before = await ring.views("abc")
    told = await ring.told("abc", *CHANGES)
    for weight, ahead in enumerate((HOUR, -HOUR, 0.0), start=2):
        await ring["c"].order("set_clock", ahead)
        for name in "abc":
            await ring[name].order("update", "b", weight=weight)
            await ring.agrees("abc", alive("abc"))
            await ring[name].order("update", "b", weight=1)
            assert await ring.agrees("abc", alive("abc")) == before
    later = await ring.told("abc", *CHANGES)
    assert {event["kind"] for _, event in later} == {event["kind"] for _, event in told} | {"MemberUpdated"}


async def test_a_node_whose_clock_went_back_an_hour_comes_back_as_a_later_one(ring: RealRing) -> None:
    await ring.start_all("abc")
    before = (await ring["b"].view()).incarnation
    ring["b"].child.kill()
    await ring.restart("b", "a", ahead=-HOUR)
    await ring.agrees("abc", alive("abc"))
    assert (await ring["b"].view()).incarnation > before
