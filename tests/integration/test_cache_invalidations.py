"""Invalidations in virtual time: who is reached, who is told later, and that nobody who knows serves what was before."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clusterkit import Config, Node
from clusterkit.core.identity import NodeId
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_results import Fetched, Invalidated
from clusterkit.testing import SimCluster
from tests.integration.cache_source import Caches, Source, caches, owned, owned_many

pytestmark = pytest.mark.simulation(seed=1)
LONG = 700.0  # seconds: more than an invalidation is told with questions


def names(nodes: tuple[NodeId, ...]) -> list[str]:
    return [node.name for node in nodes]


async def filled(them: Caches, *keys: str) -> None:
    """Have every key held by its owner, and copied by all others."""
    for _ in range(3):
        for group in list(them.values()):
            await group.get_many(keys)
        await asyncio.sleep(0.2)


async def values(them: Caches, key: str, of: str) -> list[Any]:
    return [await them[name].get(key) for name in of]


# -- what is meant, and who is reached


async def test_a_key_is_forgotten_everywhere_and_other_keys_are_not() -> None:
    async with caches(Source(**{"*": "old"}), 3, hot_rate=0.001) as them:
        await filled(them, "x", "y")
        them.source.values["*"] = "new"
        done = await them["a"].invalidate("x")
        assert (names(done.reached), done.missed) == (["b", "c"], ())
        assert await values(them, "x", "abc") == ["new"] * 3
        assert await values(them, "y", "abc") == ["old"] * 3
        assert sorted(them.source.asked) == ["x", "x", "y"]


async def test_a_prefix_and_all() -> None:
    async with caches(Source(**{"*": "old"}), 3, hot_rate=0.001) as them:
        keys = ["user:1", "user:2", "user", "group:1"]
        await filled(them, *keys)
        them.source.values["*"] = "new"
        assert names((await them["b"].invalidate(prefix="user:")).reached) == ["a", "c"]
        for group in them.values():
            assert list((await group.get_many(keys)).values()) == ["new", "new", "old", "old"]
        assert names((await them["c"].invalidate(all=True)).reached) == ["a", "b"]
        assert {(group.stats.entries, group.stats.copies, group.stats.bytes) for group in them.values()} == {(0, 0, 0)}
        for group in them.values():
            assert set((await group.get_many(keys)).values()) == {"new"}


async def test_an_empty_prefix_is_all() -> None:
    async with caches(Source(**{"*": 1})) as them:
        await filled(them, "x", "y")
        await them["a"].invalidate(prefix="")
        assert [group.stats.entries for group in them.values()] == [0, 0]


async def test_a_node_alone_reaches_nobody_and_forgets() -> None:
    async with caches(Source(**{"*": "old"}), 1) as them:
        await filled(them, "x")
        them.source.values["*"] = "new"
        assert await them["a"].invalidate("x") == Invalidated((), ())
        assert await them["a"].get("x") == "new"


async def test_nodes_without_the_group_are_neither_reached_nor_missed() -> None:
    made: dict[str, CacheGroup] = {}

    async def start(node: Node) -> None:
        if node.id.name != "c":
            made[node.id.name] = CacheGroup(node, "scores", Source(x=1).load)

    async with SimCluster(3, app=start):
        assert names((await made["a"].invalidate("x")).reached) == ["b"]
        await made["b"].aclose()
        await asyncio.sleep(1)
        assert await made["a"].invalidate("x") == Invalidated((), ())


async def test_who_cannot_be_reached_is_missed_within_the_timeout_and_told_later() -> None:
    async with caches(Source(**{"*": "old"}), 3, hot_rate=0.001) as them:
        key = them.key_of("c")
        await filled(them, key)
        them.sim.partition("c", ["a", "b"])
        them.source.values["*"] = "new"
        began = them.now()
        done = await them["a"].invalidate(key, timeout=2)
        assert them.now() - began <= 2.01
        assert (names(done.reached), names(done.missed)) == (["b"], ["c"])
        assert await them["c"].get(key) == "old", "it does not know"
        assert await values(them, key, "ab") == ["new"] * 2
        them.sim.heal()
        await them.sim.settle()
        assert await values(them, key, "abc") == ["new"] * 3


async def test_who_is_down_is_missed_at_once() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        them.sim.partition("c", ["a", "b"])
        await asyncio.sleep(60)
        began = them.now()
        assert names((await them["a"].invalidate("x")).missed) == ["c"]
        assert them.now() - began < 1.0


async def test_one_that_is_away_for_long_serves_nothing_old_once_it_is_back() -> None:
    async with caches(Source(**{"*": "old"}), 3, hot_rate=0.001, hot_ttl=5) as them:
        keys = owned_many(them["c"], 5)
        await filled(them, *keys)
        them.sim.partition("c", ["a", "b"])
        await asyncio.sleep(30)
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True)
        await asyncio.sleep(LONG)
        them.sim.heal()
        await until_owner(them, "c", keys)
        for name in "ab":  # at the first moment at which they ask it again
            assert set((await them[name].get_many(keys)).values()) == {"new"}
        await them.sim.settle()
        assert set((await them["c"].get_many(keys)).values()) == {"new"}


async def until_owner(them: Caches, name: str, keys: list[str]) -> None:
    """Wait until the others ask a node for its keys again, and not a moment longer."""
    others = [group for each, group in them.items() if each != name]
    async with asyncio.timeout(300):
        while any(group.is_owner(key) for group in others for key in keys):
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)


async def test_the_others_go_on_when_who_invalidates_is_gone() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        key = them.key_of("c")
        await filled(them, key)
        them.sim.partition("c", ["a", "b"])
        them.source.values["*"] = "new"
        assert names((await them["a"].invalidate(key, timeout=1)).reached) == ["b"]
        them.sim.crash("a")
        await asyncio.sleep(LONG)
        them.sim.heal("c")
        await them.sim.settle()
        assert await values(them, key, "bc") == ["new"] * 2


async def test_where_the_way_is_cut_another_node_tells() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        key = them.key_of("c")
        await filled(them, key)
        them.sim.cut("a", "c")
        them.sim.cut("c", "a")
        them.source.values["*"] = "new"
        done = await them["a"].invalidate(key, timeout=10)
        assert names(done.reached) == ["b", "c"]
        assert await them["c"].get(key) == "new"
        them.sim.heal()


async def test_both_sides_of_a_partition_invalidate_and_learn_of_each_other() -> None:
    async with caches(Source(**{"*": "old"}), 4) as them:
        keys = [f"key-{number}" for number in range(40)]
        await filled(them, *keys)
        them.sim.partition(["a", "b"], ["c", "d"])
        them.source.values["*"] = "new"
        await asyncio.gather(them["a"].invalidate(prefix="key-1"), them["d"].invalidate(prefix="key-2"))
        await asyncio.sleep(LONG)
        them.sim.heal()
        await them.sim.settle()
        for group in them.values():
            found = await group.get_many(keys)
            assert {found[key] for key in keys if key.startswith(("key-1", "key-2"))} == {"new"}


async def test_one_that_missed_more_than_is_remembered_forgets_all() -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        keys = owned_many(them["b"], 5)
        await filled(them, *keys)
        them.sim.partition("a", "b")
        await asyncio.sleep(60)
        them.source.values["*"] = "new"
        for key in keys:
            await them["a"].invalidate(key)
        for number in range(10_001):
            await them["a"].invalidate(f"other-{number}")
        them.sim.heal()
        await until_owner(them, "b", keys)
        assert set((await them["a"].get_many(keys)).values()) == {"new"}
        await them.sim.settle()
        assert set((await them["b"].get_many(keys)).values()) == {"new"}


# -- who was elsewhere


async def leave(sim: SimCluster) -> None:
    await sim["c"].ring.leave()


async def be_removed(sim: SimCluster) -> None:
    await sim["a"].ring.remove("c")


@pytest.mark.parametrize("go", [leave, be_removed])
@pytest.mark.parametrize("away", [5.0, LONG])
async def test_who_was_out_of_the_ring_serves_nothing_old_when_it_joins_again(
    go: Callable[[SimCluster], Awaitable[None]], away: float
) -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        keys = owned_many(them["c"], 20)
        await filled(them, *keys)
        await go(them.sim)
        await asyncio.sleep(1)
        await them["c"].get_many(keys)
        them.source.values["*"] = "new"
        done = await them["a"].invalidate(all=True)
        assert names(done.reached) == ["b"]
        await asyncio.sleep(away)
        await them.sim["c"].ring.join("simulation", [them.sim.address("b")])
        await them.sim.settle()
        for group in them.values():
            assert set((await group.get_many(keys)).values()) == {"new"}


async def test_what_was_loaded_before_a_node_joined_is_not_served_after() -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        late = await them.sim.start("late", seeds=[])  # in a ring of its own, of the same name
        keys = owned_many(them["late"], 20)
        await late.ring.leave()
        await them["late"].get_many(keys)
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True)
        await asyncio.sleep(LONG)
        await late.ring.join("simulation", [them.sim.address("a")])
        await them.sim.settle()
        for group in them.values():
            assert set((await group.get_many(keys)).values()) == {"new"}


@pytest.mark.parametrize("away", [5.0, LONG])
async def test_islands_that_merge_serve_nothing_old(away: float) -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        keys = [f"key-{number}" for number in range(40)]
        island = await them.sim.start("island", seeds=[])
        for group in them.values():
            await group.get_many(keys)
        them.source.values["*"] = "new"
        await them["a"].invalidate(prefix="key-1")
        await them["island"].invalidate(prefix="key-2")
        await asyncio.sleep(away)
        await island.ring.meet(them.sim.address("a"))
        await them.sim.settle()
        for group in them.values():
            found = await group.get_many(keys)
            assert {found[key] for key in keys if key.startswith(("key-1", "key-2"))} == {"new"}


@pytest.mark.parametrize("asks", ["a", "b"])
async def test_who_meets_an_island_serves_nothing_old_from_the_first_moment(asks: str) -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        await them.sim.start("island", seeds=[])
        keys = [f"key-{number}" for number in range(40)]
        for group in them.values():
            await group.get_many(keys)
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True)
        await asyncio.sleep(LONG)
        await them.sim[asks].ring.meet(them.sim.address("island"))
        async with asyncio.timeout(60):
            while not (theirs := [key for key in keys if not them["a"].is_owner(key) and not them["b"].is_owner(key)]):
                await asyncio.sleep(0.0003)
        assert set((await them[asks].get_many(theirs)).values()) == {"new"}


async def test_a_group_closed_and_made_again_holds_nothing_old() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        keys = owned_many(them["c"], 10)
        await filled(them, *keys)
        await them["c"].aclose()
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True)
        them["c"] = CacheGroup(them.sim["c"], "scores", them.source.load)
        await them.sim.settle()
        for name in "cba":
            assert set((await them[name].get_many(keys)).values()) == {"new"}


# -- while a value is on its way


async def test_a_load_that_was_overtaken_is_returned_to_who_waits_and_not_stored() -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        key = them.key_of("a")
        them.source.open.clear()
        before = [asyncio.create_task(them[name].get(key)) for name in "aab"]
        await them.source.is_asked()
        await asyncio.sleep(0.1)
        them.source.values["*"] = "new"
        await them["b"].invalidate(key)
        after = [asyncio.create_task(them[name].get(key)) for name in "abb"]
        await them.source.is_asked(2)
        await asyncio.sleep(0.1)
        assert len(them.source.asked) == 2, "who asks later waits for a load of its own, one for all"
        them.source.open.set()
        assert await asyncio.gather(*before) == ["old"] * 3
        assert await asyncio.gather(*after) == ["new"] * 3
        assert [await them[name].fetch(key) for name in "ab"] == [Fetched("new", "hit"), Fetched("new", "peer")]


@pytest.mark.parametrize("meant", [{"key": "*"}, {"prefix": "key-"}, {"all": True}])
async def test_an_old_load_that_ends_last_does_not_take_the_place_of_the_new(meant: dict[str, Any]) -> None:
    slow = asyncio.Event()

    class Late(Source):
        async def load(self, key: str) -> Any:
            value = await super().load(key)
            if len(self.asked) == 1:
                await slow.wait()
            return value

    async with caches(Late(**{"*": "old"}), 2) as them:
        key = them.key_of("a")
        meant = {"key": key} if "key" in meant else meant
        first = asyncio.create_task(them["b"].get(key))
        await them.source.is_asked()
        them.source.values["*"] = "new"
        await them["b"].invalidate(**meant)
        assert await them["a"].get(key) == "new"
        slow.set()
        them.source.asked.append("over")
        assert await first == "old"
        assert await values(them, key, "ab") == ["new", "new"]


async def test_an_old_answer_on_its_way_makes_no_copy() -> None:
    async with caches(Source(**{"*": "old"}), 2, hot_rate=0.001, hot_ttl=1e3) as them:
        key = them.key_of("a")
        await filled(them, key)
        await them["b"].invalidate(key)
        them.source.open.clear()
        getting = asyncio.create_task(them["b"].get(key))
        await them.source.is_asked(2)
        them.source.values["*"] = "new"
        await them["a"].invalidate(key)
        them.source.open.set()
        assert await getting == "old"
        for _ in range(3):
            assert await values(them, key, "ab") == ["new", "new"]


async def test_an_invalidation_during_a_failing_load_leaves_nothing() -> None:
    async with caches(Source(**{"*": "old"}), 2, ttl=5, stale_if_error=1e3) as them:
        key = them.key_of("a")
        await filled(them, key)
        await asyncio.sleep(6)
        them.source.open.clear()
        them.source.error = OSError("no database")
        getting = asyncio.create_task(them["b"].get(key))
        await them.source.is_asked(2)
        await them["b"].invalidate(key)
        them.source.open.set()
        with pytest.raises(Exception, match="no database"):
            await getting


async def test_a_new_owner_takes_nothing_old_from_one_that_was_not_reached() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        keys = owned_many(them["c"], 30)
        await filled(them, *keys)
        them.sim.partition("c", ["a", "b"])
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True, timeout=0.5)
        them.sim.heal()
        await them.sim.start("d")
        for name in "ab":
            assert set((await them[name].get_many(keys)).values()) == {"new"}
        await them.sim.settle()
        for group in them.values():
            assert set((await group.get_many(keys)).values()) == {"new"}


@pytest.mark.simulation(seeds=12)
async def test_one_that_joined_among_those_who_were_not_reached_serves_nothing_old_once_all_can_talk() -> None:
    async with caches(Source(**{"*": "old"}), 4) as them:
        keys = [f"key-{number}" for number in range(60)]
        await filled(them, *keys)
        them.sim.partition(["a", "b"], ["c", "d", "late"])
        await asyncio.sleep(30)
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True)
        await asyncio.sleep(10)
        await them.sim.start("late", seeds=["c", "d"])
        await asyncio.sleep(10)
        assert "old" in (await them["late"].get_many(keys)).values(), "it has heard of nothing"
        them.sim.heal()
        await them.sim.settle()
        await asyncio.sleep(1)
        assert set((await them["late"].get_many(keys)).values()) == {"new"}


async def test_one_that_stops_hands_over_nothing_old() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        keys = owned_many(them["c"], 30)
        await filled(them, *keys)
        them.source.values["*"] = "new"
        stopping = asyncio.create_task(them.sim.stop("c"))
        await asyncio.sleep(0.001)
        await them["a"].invalidate(all=True)
        await stopping
        await them.sim.settle()
        for name in "ab":
            assert set((await them[name].get_many(keys)).values()) == {"new"}


async def test_everyone_invalidates_at_once_and_all_are_reached() -> None:
    async with caches(Source(**{"*": "old"}), 4) as them:
        keys = [f"key-{number}" for number in range(100)]
        await filled(them, *keys)
        them.source.values["*"] = "new"
        groups = list(them.values())
        done = await asyncio.gather(*(groups[number % 4].invalidate(key) for number, key in enumerate(keys)))
        assert all(len(each.reached) == 3 and not each.missed for each in done)
        for group in groups:
            assert set((await group.get_many(keys)).values()) == {"new"}


async def test_who_gives_up_invalidating_has_others_told_still() -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        key = them.key_of("b")
        await filled(them, key)
        them.source.values["*"] = "new"
        them.sim.partition("a", "b")
        telling = asyncio.create_task(them["a"].invalidate(key))
        await asyncio.sleep(0.5)
        telling.cancel()
        them.sim.heal()
        await asyncio.sleep(10)
        assert await values(them, key, "ab") == ["new", "new"]


async def test_a_closed_group_ends_who_waits_for_others_to_know() -> None:
    async with caches(Source(**{"*": "old"}), 2) as them:
        them.sim.partition("a", "b")
        telling = asyncio.create_task(them["a"].invalidate("x", timeout=300))
        await asyncio.sleep(0.5)
        closing = asyncio.create_task(them["a"].aclose())
        done = await telling
        assert names(done.missed) == ["b"]
        await closing
        them.sim.heal()


async def test_an_owner_is_told_with_the_question_when_it_was_not_reached() -> None:
    async with caches(Source(**{"*": "old"}), 3) as them:
        key = owned(them["c"])
        await filled(them, key)
        them.sim.partition("a", ["c"])
        them.source.values["*"] = "new"
        await them["a"].invalidate(key, timeout=0.1)
        assert await them["b"].get(key) == "new", "b was reached, and asks c"
        them.sim.heal()


@pytest.mark.parametrize("begin", ["x" * 1_000, "ä" * 500, "😀" * 250])
async def test_many_are_told_in_messages_that_fit(begin: str) -> None:
    small = Config(message_limit=1 << 16)
    async with caches(Source(**{"*": "old"}), 2, config=small) as them:
        keys = owned_many(them["b"], 200, begin)
        await filled(them, *keys)
        them.sim.partition("a", "b")
        await asyncio.sleep(30)
        them.source.values["*"] = "new"
        for key in keys:
            await them["a"].invalidate(key)
        them.sim.heal()
        await them.sim.settle()
        for name in "ba":
            assert set((await them[name].get_many(keys)).values()) == {"new"}
