"""A cache in virtual time: how long values live, how long who waits for whom, and what becomes hot."""

import asyncio

import pytest

from clusterkit import CallTimeout, Config, Node
from clusterkit.errors import LoadFailed, UnknownKey
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_results import Fetched
from clusterkit.testing import SimCluster
from tests.integration.cache_source import Pick, Source, caches, owned, owned_many

pytestmark = pytest.mark.simulation(seed=1)


# -- how long a value lives


async def test_without_a_ttl_a_value_lives_on() -> None:
    async with caches(Source(**{"*": 1})) as them:
        await them["a"].get("x")
        await asyncio.sleep(700)
        assert await them["a"].get("x") == await them["b"].get("x") == 1
        assert them.source.asked == ["x"]


async def test_with_a_ttl_it_is_loaded_again_after_that() -> None:
    async with caches(Source(**{"*": 1}), ttl=10) as them:
        key = them.key_of("a")
        assert await them["a"].get(key) == 1
        them.source.values["*"] = 2
        await asyncio.sleep(9.9)
        assert await them["a"].get(key) == await them["b"].get(key) == 1
        await asyncio.sleep(0.2)
        assert await them["b"].get(key) == await them["a"].get(key) == 2


async def test_a_copy_lives_no_longer_than_the_value_it_is_of() -> None:
    async with caches(Source(**{"*": 1}), ttl=10, hot_ttl=60, hot_rate=0.001) as them:
        key = them.key_of("a")
        await them["a"].get(key)
        await asyncio.sleep(8)
        for _ in range(5):
            await them["b"].get(key)
            await asyncio.sleep(0.2)
        assert them["b"].stats.copies == 1
        them.source.values["*"] = 2
        await asyncio.sleep(1.1)
        assert await them["b"].get(key) == 2


async def test_that_there_is_no_such_key_is_remembered_for_the_negative_ttl() -> None:
    async with caches(Source(), negative_ttl=5) as them:
        key = them.key_of("a")
        for _ in range(3):
            for name in "ab":
                with pytest.raises(UnknownKey):
                    await them[name].get(key)
        assert them.source.asked == [key]
        them.source.values[key] = 1
        await asyncio.sleep(5.1)
        assert await them["b"].get(key) == await them["a"].get(key) == 1


async def test_a_missing_key_that_comes_to_be_is_seen_when_it_is_invalidated() -> None:
    async with caches(Source(), negative_ttl=500) as them:
        key = them.key_of("a")
        with pytest.raises(UnknownKey):
            await them["b"].get(key)
        them.source.values[key] = 1
        await them["b"].invalidate(key)
        assert await them["b"].get(key) == 1


# -- when the source fails


async def test_a_value_past_its_ttl_is_served_while_the_source_fails() -> None:
    async with caches(Source(**{"*": 1}), ttl=10, stale_if_error=30) as them:
        key = them.key_of("a")
        await them["a"].get(key)
        them.source.error = OSError("no database")
        await asyncio.sleep(11)
        assert await them["a"].fetch(key) == Fetched(1, "hit")
        assert await them["b"].get(key) == 1
        assert them["a"].stats.stale == 2
        assert them["a"].stats.load_errors == 2
        await asyncio.sleep(30)
        for name in "ab":
            with pytest.raises(LoadFailed, match="OSError: no database"):
                await them[name].get(key)
        them.source.error, them.source.values["*"] = None, 2
        assert await them["b"].get(key) == await them["a"].get(key) == 2


async def test_a_stale_value_is_no_answer_when_the_source_has_no_such_key() -> None:
    async with caches(Source(**{"*": 1}), ttl=10, stale_if_error=30) as them:
        key = them.key_of("a")
        await them["a"].get(key)
        del them.source.values["*"]
        await asyncio.sleep(11)
        for name in "ba":
            with pytest.raises(UnknownKey):
                await them[name].get(key)
        them.source.error = OSError("no database")
        with pytest.raises(LoadFailed):  # it is forgotten by then
            await them["a"].get(key)


async def test_an_invalidated_value_is_not_served_when_the_source_fails() -> None:
    async with caches(Source(**{"*": 1}), ttl=10, stale_if_error=30) as them:
        key = them.key_of("a")
        await them["a"].get(key)
        them.source.error = OSError("no database")
        await them["b"].invalidate(key)
        for name in "ab":
            with pytest.raises(LoadFailed):
                await them[name].get(key)


async def test_a_load_past_its_timeout_fails_and_a_stale_value_will_do() -> None:
    async with caches(Source(**{"*": 1}), ttl=10, stale_if_error=1e6, load_timeout=3) as them:
        key = them.key_of("a")
        await them["a"].get(key)
        await asyncio.sleep(11)
        them.source.open.clear()
        began = them.now()
        assert await them["b"].get(key) == 1
        assert them.now() - began == pytest.approx(3, abs=0.5)


async def test_a_loader_that_hangs_is_ended_at_the_load_timeout() -> None:
    async with caches(Source(**{"*": 1}), load_timeout=3) as them:
        key = them.key_of("a")
        them.source.open.clear()
        began = them.now()
        for error in await asyncio.gather(*(them[name].get(key) for name in "ab"), return_exceptions=True):
            assert isinstance(error, LoadFailed)
            assert str(error) == f"{key!r} of cache 'scores' could not be loaded: TimeoutError: no value within 3 s"
        assert them.now() - began == pytest.approx(3, abs=0.5)
        assert them.source.asked == [key]
        them.source.open.set()
        assert await them["b"].get(key) == 1


async def test_loads_that_hang_give_their_place_to_others() -> None:
    async with caches(Source(**{"*": 1}), 1, load_limit=2, load_timeout=3) as them:
        them.source.open.clear()
        hanging = [asyncio.create_task(them["a"].get(f"hangs-{number}")) for number in range(2)]
        await asyncio.sleep(1)
        waiting = asyncio.create_task(them["a"].get("x", timeout=10))
        await asyncio.sleep(1)
        assert them.source.asked == ["hangs-0", "hangs-1"]
        await asyncio.sleep(1.5)
        assert them.source.asked[2:] == ["x"]
        them.source.open.set()
        assert await waiting == 1
        assert all(isinstance(each, LoadFailed) for each in await asyncio.gather(*hanging, return_exceptions=True))


async def test_a_get_ends_at_its_timeout_wherever_it_waits() -> None:
    async with caches(Source(**{"*": 1}), load_timeout=60) as them:
        them.source.open.clear()
        for name in "ab":
            key, began = them.key_of("a"), them.now()
            with pytest.raises(CallTimeout, match="the deadline passed"):
                await them[name].get(key, timeout=7)
            assert them.now() - began == pytest.approx(7, abs=0.1)
        assert len(them.source.asked) == 1
        assert them["b"].stats.passed_over == 0, "an owner that says that it takes long is there"
        them.source.open.set()


# -- an owner that gives no word


async def test_a_hung_owner_is_passed_over_and_not_asked_for_a_while() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = owned_many(them["b"], 5)
        them.sim.pause("b")
        began = them.now()
        assert await them["a"].get(keys[0]) == 1
        assert them.now() - began < 1.0
        began = them.now()
        assert await them["a"].get(keys[1]) == 1
        assert them.now() - began < 0.3, "it is known to be silent"
        assert them["a"].stats.passed_over == 1
        them.sim.resume("b")


async def test_several_hung_nodes_delay_a_get_by_less_than_a_second() -> None:
    async with caches(Source(**{"*": 1}), 4) as them:
        for name in "bcd":
            them.sim.pause(name)
        for name in "bcd":
            began = them.now()
            assert await them["a"].get(them.key_of(name)) == 1
            assert them.now() - began < 1.0
        for name in "bcd":
            them.sim.resume(name)


@pytest.mark.simulation(seeds=5)
async def test_one_that_joins_while_others_hang_answers_within_a_second() -> None:
    async with caches(Source(**{"*": 1}), 4) as them:
        for name in "bc":
            them.sim.pause(name)
        await them.sim.start("late", seeds=["a"])
        for key in [them.key_of(name, f"{name}s") for name in "abcd"] + owned_many(them["late"], 3):
            began = them.now()
            assert await them["late"].get(key) == 1
            assert them.now() - began < 1.0
        for name in "bc":
            them.sim.resume(name)


async def test_one_caller_in_a_hurry_finds_out_for_the_others_that_an_owner_is_hung() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = owned_many(them["b"], 5)
        them.sim.pause("b")
        with pytest.raises(CallTimeout):
            await them["a"].get(keys[0], timeout=0.4)  # less than the patience
        assert [await them["a"].get(key, timeout=0.4) for key in keys] == [1] * 5
        assert them["a"].stats.passed_over == 1
        them.sim.resume("b")


async def test_what_was_loaded_past_a_hung_owner_is_kept_for_the_hot_ttl_only() -> None:
    async with caches(Source(**{"*": 1}), 3, hot_ttl=4) as them:
        key = them.key_of("b")
        them.sim.pause("b")
        assert await them["a"].get(key) == 1
        them.sim.resume("b")
        assert (await them["a"].fetch(key)).source == "hit"
        them.source.values["*"] = 2
        await asyncio.sleep(4.1)
        assert await them["b"].get(key) == 2
        assert await them["a"].get(key) == 2


async def test_a_front_asks_the_next_when_an_owner_is_hung() -> None:
    source = Source(**{"*": 1})

    async def start(node: Node) -> None:
        name = node.id.name
        groups[name] = CacheGroup(node, "scores", None if name == "a" else source.load, owns=name != "a")

    groups: dict[str, CacheGroup] = {}
    async with SimCluster(3, app=start) as sim:
        key = owned(groups["b"])
        sim.pause("b")
        began = sim.loop.time()
        assert await groups["a"].get(key) == 1
        assert sim.loop.time() - began < 1.0
        assert groups["c"].stats.loads == 1
        sim.pause("c")
        with pytest.raises(LoadFailed, match="no owner"):
            await groups["a"].get(owned(groups["b"], "other"))
        sim.resume("b")
        sim.resume("c")


async def test_a_crashed_owner_is_passed_over_and_its_keys_move() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = owned_many(them["b"], 20)
        await them["a"].get_many(keys)
        them.sim.crash("b")
        began = them.now()
        assert await them["a"].get(keys[0]) == 1
        assert them.now() - began < 1.0
        await asyncio.sleep(30)
        assert {them["a"].is_owner(key) or them["c"].is_owner(key) for key in keys} == {True}
        for name in "ac":
            assert await them[name].get_many(keys) == dict.fromkeys(keys, 1)
        assert len(them.source.asked) <= 41


async def test_owners_that_name_each_other_answer_within_a_second() -> None:
    source = Source(**{"*": 1})
    groups: dict[str, CacheGroup] = {}
    others = {"a": "b", "b": "a"}

    async def start(node: Node) -> None:
        name = node.id.name
        groups[name] = CacheGroup(node, "scores", source.load, picker=Pick(lambda _: nodes[others[name]].id))

    nodes: dict[str, Node] = {}
    async with SimCluster(2, app=start) as sim:
        nodes |= {name: sim[name] for name in "ab"}
        for _ in range(3):
            began = sim.loop.time()
            assert await asyncio.gather(*(groups[name].get("x") for name in "ab")) == [1, 1]
            assert sim.loop.time() - began < 1.0
            await groups["a"].invalidate("x")
        assert len(source.asked) <= 6


# -- hot keys


async def ask(group: CacheGroup, key: str, times: int, rate: float) -> list[str]:
    """Ask so often, evenly; return where the answers came from."""
    sources: list[str] = []
    for _ in range(times):
        sources.append((await group.fetch(key)).source)
        await asyncio.sleep(1 / rate)
    return sources


async def test_a_key_is_copied_near_when_its_owner_is_asked_often() -> None:
    async with caches(Source(**{"*": 1}), hot_rate=10, hot_ttl=5) as them:
        key = them.key_of("a")
        sources = await ask(them["b"], key, 100, 50)
        assert sources[0] == "load"
        assert 5 <= sources.count("peer") <= 40
        assert set(sources[50:]) == {"hit"}
        assert them["b"].stats.hot_hits == sources.count("hit")
        assert (them["b"].stats.copies, them["b"].stats.entries) == (1, 0)


async def test_a_key_that_is_asked_seldom_is_not() -> None:
    async with caches(Source(**{"*": 1}), hot_rate=10) as them:
        sources = await ask(them["b"], them.key_of("a"), 60, 5)
        assert set(sources[1:]) == {"peer"}
        assert them["b"].stats.copies == 0


async def test_a_hot_key_stays_near_while_it_is_wanted_and_goes_when_it_is_not() -> None:
    async with caches(Source(**{"*": 1}), hot_rate=10, hot_ttl=5) as them:
        key = them.key_of("a")
        await ask(them["b"], key, 100, 50)
        sources = await ask(them["b"], key, 2_000, 50)  # eight times as long as a copy lives
        assert 6 <= sources.count("peer") <= 12, "it is fetched again once each time"
        await asyncio.sleep(60)
        assert set(await ask(them["b"], key, 20, 5)) == {"peer"}


async def test_copies_push_out_nothing_of_a_nodes_own() -> None:
    async with caches(Source(**{"*": bytes(400)}), max_bytes=16_000, hot_rate=0.001, hot_ttl=600) as them:
        mine = owned_many(them["b"], 15)
        await them["b"].get_many(mine)
        for key in owned_many(them["a"], 20):
            await ask(them["b"], key, 3, 1)
        stats = them["b"].stats
        assert stats.entries == 15
        assert 1 <= stats.copies <= 4
        assert stats.bytes <= 16_000


async def test_without_a_fraction_nothing_is_copied() -> None:
    async with caches(Source(**{"*": 1}), hot_rate=1, hot_fraction=0) as them:
        assert set((await ask(them["b"], them.key_of("a"), 50, 50))[1:]) == {"peer"}


# -- moving


async def test_a_new_owner_asks_the_old_one_before_the_source() -> None:
    async with caches(Source(**{"*": 1}), 2) as them:
        keys = [f"key-{number}" for number in range(200)]
        await them["a"].get_many(keys)
        await them.sim.start("aa")
        await them.sim.settle()
        moved = [key for key in keys if them["aa"].is_owner(key)]
        assert 20 < len(moved) < 120
        for name in ("b", "aa", "a"):
            assert await them[name].get_many(keys) == dict.fromkeys(keys, 1)
        assert len(them.source.asked) == 200
        assert them["aa"].stats.handed_over == len(moved)


async def test_a_node_that_stops_hands_over() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = [f"key-{number}" for number in range(200)]
        await them["a"].get_many(keys)
        await them.sim.stop("c")
        await them.sim.settle()
        for name in "ab":
            assert await them[name].get_many(keys) == dict.fromkeys(keys, 1)
        assert len(them.source.asked) == 200


async def test_who_leaves_and_joins_again_owns_keys_again() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = [f"key-{number}" for number in range(100)]
        await them["a"].get_many(keys)
        await them.sim["c"].ring.leave()
        await asyncio.sleep(5)
        assert sum(them[name].is_owner(key) for name in "ab" for key in keys) == 100
        assert await them["c"].get("key-1") == 1, "alone it serves itself"
        await them.sim["c"].ring.join("simulation", [them.sim.address("a")])
        await them.sim.settle()
        assert sum(them[name].is_owner(key) for name in "abc" for key in keys) == 100
        assert 10 < sum(them["c"].is_owner(key) for key in keys) < 60
        for name in "abc":
            assert await them[name].get_many(keys) == dict.fromkeys(keys, 1)
        assert len(them.source.asked) == 101, "only what it wanted while it was alone"


async def test_a_ttl_goes_on_when_a_value_moves() -> None:
    async with caches(Source(**{"*": 1}), 2, ttl=100) as them:
        keys = [f"key-{number}" for number in range(50)]
        await them["a"].get_many(keys)
        await asyncio.sleep(60)
        await them.sim.start("aa")
        await them.sim.settle()
        await them["aa"].get_many(keys)
        them.source.values["*"] = 2
        await asyncio.sleep(41)
        for name in ("a", "aa"):
            assert await them[name].get_many(keys) == dict.fromkeys(keys, 2)


@pytest.mark.parametrize(("number", "begin", "size"), [(50, "key", 10_000), (200, "x" * 1_000, 1)])
async def test_a_node_hands_over_in_messages_that_fit(number: int, begin: str, size: int) -> None:
    small = Config(message_limit=1 << 16)
    async with caches(Source(**{"*": bytes(size)}), 2, config=small) as them:
        keys = owned_many(them["b"], number, begin)
        await them["a"].get_many(keys)
        await them["b"].aclose()
        assert them["a"].stats.entries == number
