"""Questions that go in a crowd, many in a message: as if each had gone alone."""

import asyncio
from typing import Any

import pytest

from clusterkit import Config, UsageError
from clusterkit.errors import LoadFailed, UnknownKey
from tests.integration.cache_source import Source, caches, owned_many

pytestmark = pytest.mark.simulation(seed=1)


class Named(Source):
    """Its values are as long as their keys say: ``name-size``; names that begin with no are not there."""

    async def load(self, key: str) -> Any:
        self.asked.append(key)
        await self.open.wait()
        if key.startswith("no"):
            raise KeyError(key)
        if key.startswith("bad"):
            raise ValueError(key)
        return key.encode() + bytes(int(key.split("-")[1]))


async def crowd(group: Any, keys: list[str]) -> list[Any]:
    """Get all at once, each for itself."""
    return await asyncio.gather(*(group.get(key) for key in keys), return_exceptions=True)


@pytest.mark.parametrize("size", [0, 1_000, 30_000, 200_000])
@pytest.mark.parametrize("are_held", [True, False], ids=["held", "not held"])
async def test_each_key_has_its_own_value_and_is_loaded_once(size: int, are_held: bool) -> None:
    async with caches(Named()) as them:
        keys = [f"{key}-{size}" for key in map(str, range(200))]
        theirs = [key for key in keys if them["b"].is_owner(key)]
        if are_held:
            assert len(await crowd(them["b"], theirs)) == len(theirs)
        for _ in range(2):
            came = await crowd(them["a"], theirs)
            assert [value[: len(key)] for value, key in zip(came, theirs, strict=True)] == [k.encode() for k in theirs]
        assert sorted(them.source.asked) == sorted(theirs)
        assert them["a"].stats.passed_over == 0
        assert them["a"].stats.peer_hits + them["a"].stats.peer_loads >= len(theirs)


async def test_of_a_crowd_each_fails_for_itself() -> None:
    async with caches(Named(), negative_ttl=60) as them:
        keys = [f"{name}{number}-10" for number in range(60) for name in ("no", "bad", "good")]
        theirs = [key for key in keys if them["b"].is_owner(key)]
        for _ in range(2):
            for key, came in zip(theirs, await crowd(them["a"], theirs), strict=True):
                wanted = UnknownKey if key.startswith("no") else LoadFailed if key.startswith("bad") else bytes
                assert isinstance(came, wanted)
        assert them["a"].stats.passed_over == 0


@pytest.mark.parametrize("limit", [1 << 16, 1 << 20])
async def test_large_values_among_small_ones_come_without_the_owner_being_passed_over(limit: int) -> None:
    large = limit - 2_000
    async with caches(Named(), config=Config(message_limit=limit), max_bytes=1 << 28) as them:
        keys = [f"{number}-{large if number % 8 == 7 else 7_000}" for number in range(120)]
        theirs = [key for key in keys if them["b"].is_owner(key)]
        await crowd(them["b"], theirs)
        for _ in range(2):
            came = await crowd(them["a"], theirs)
            assert all(type(value) is bytes for value in came)
        assert them["a"].stats.passed_over == 0
        assert len(them.source.asked) == len(theirs)


async def test_who_gives_up_in_a_crowd_ends_nothing_for_others() -> None:
    async with caches(Source(**{"*": 1})) as them:
        keys = owned_many(them["b"], 60)
        await them["b"].get_many(keys)
        first = [asyncio.create_task(them["a"].get(key)) for key in keys]
        second = [asyncio.create_task(them["a"].get(key)) for key in keys]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in first:
            task.cancel()
        assert await asyncio.gather(*second) == [1] * 60
        assert len(them.source.asked) == 60


async def test_a_hung_owner_is_passed_over_by_a_crowd_within_a_second() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = owned_many(them["b"], 300)
        them.sim.pause("b")
        began = them.now()
        assert await crowd(them["a"], keys) == [1] * 300
        assert them.now() - began < 1.0
        them.sim.resume("b")


async def test_an_owner_that_dies_in_the_middle_is_passed_over() -> None:
    async with caches(Source(**{"*": 1}), 3) as them:
        keys = owned_many(them["b"], 300)
        await them["b"].get_many(keys)
        getting = asyncio.create_task(crowd(them["a"], keys))
        await asyncio.sleep(0.001)
        them.sim.crash("b", reset=True)
        assert await getting == [1] * 300


async def test_a_group_that_closes_tells_the_crowd_that_waits() -> None:
    async with caches(Source(**{"*": 1}), 2) as them:
        keys = owned_many(them["b"], 300)
        them.sim.pause("b")
        getting = asyncio.create_task(crowd(them["a"], keys))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(them["a"].aclose())
        assert {type(error) for error in await getting} <= {UsageError, int}
        them.sim.resume("b")
        await closing


async def test_an_invalidation_overtakes_a_crowd() -> None:
    async with caches(Source(**{"*": "old"}), 2, hot_rate=0.001, hot_ttl=1e3) as them:
        keys = owned_many(them["b"], 200)
        await them["b"].get_many(keys)
        before = asyncio.create_task(crowd(them["a"], keys))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        them.source.values["*"] = "new"
        await them["a"].invalidate(all=True)
        assert set(await before) <= {"old", "new"}
        for name in "ab":
            assert set(await crowd(them[name], keys)) == {"new"}
