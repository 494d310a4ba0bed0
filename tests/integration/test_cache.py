"""A cache on real nodes: what callers get, who is asked for it, and how it says no."""

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import Any

import pytest

from clusterkit import CallTimeout, ConfigError, NameInUse, Node, UsageError
from clusterkit.errors import LoadFailed, UnknownKey
from clusterkit.kernel.turns import deadline
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_results import Fetched
from tests.conftest import COOKIE, NodeFactory, eventually
from tests.integration.cache_source import Pick, Source, groups_of, owned, owned_many


@pytest.fixture
async def pair(start_node: NodeFactory) -> list[Node]:
    a = await start_node("a")
    return [a, await start_node("b", seeds=(a,))]


# -- getting


async def test_a_node_alone_loads_once_and_holds(start_node: NodeFactory) -> None:
    source = Source(x={"score": [1, 2]})
    group = CacheGroup(await start_node("a", ring=None), "scores", source.load)
    assert await group.fetch("x") == Fetched({"score": [1, 2]}, "load")
    assert await group.fetch("x") == Fetched({"score": [1, 2]}, "hit")
    assert await group.get("x") == {"score": [1, 2]}
    assert source.asked == ["x"]
    stats = group.stats
    assert (stats.hits, stats.loads, stats.entries, stats.copies) == (2, 1, 1, 0)
    assert stats.bytes > 0
    assert repr(group) == "<CacheGroup 'scores' of a, 1 entries>"


async def test_who_misses_a_key_asks_its_owner(pair: list[Node]) -> None:
    source = Source(**{"*": b"value"})
    here, there = await groups_of(pair, source)
    key = owned(there)
    assert await here.fetch(key) == Fetched(b"value", "load")
    assert await here.fetch(key) == Fetched(b"value", "peer")
    assert await there.fetch(key) == Fetched(b"value", "hit")
    assert source.asked == [key]
    assert (here.stats.peer_loads, here.stats.peer_hits, here.stats.loads, here.stats.entries) == (1, 1, 0, 0)
    assert (there.stats.served, there.stats.loads, there.stats.entries) == (2, 1, 1)


@pytest.mark.parametrize("value", [b"", b"bytes", "text", "", None, 0, 1.5, True, [], [1, [b"2"]], {"a": {"b": None}}])
async def test_values_are_bytes_or_what_a_message_may_hold(start_node: NodeFactory, value: object) -> None:
    nodes = [await start_node("a")]
    nodes.append(await start_node("b", seeds=(nodes[0],)))

    def load(_key: str) -> object:
        return value

    groups = [CacheGroup(node, "values", load) for node in nodes]
    await eventually(lambda: not groups[0].is_owner("x") or not groups[1].is_owner("x"))
    for group in groups * 2:
        came = await group.get("x")
        assert came == value
        assert type(came) is type(value)


async def test_each_caller_has_a_copy_of_its_own(pair: list[Node]) -> None:
    given = {"list": [1]}
    here, there = await groups_of(pair, Source(**{"*": given}), hot_rate=0.001)
    key = owned(there)
    came = await asyncio.gather(*(group.get(key) for group in (here, here, there, there)))
    for value in came:
        value["list"].append(2)
    given["list"].append(3)
    for _ in range(3):  # from its owner, and from a copy near
        (await here.get(key))["list"].append(4)
    assert here.stats.hot_hits > 0
    assert await here.get(key) == await there.get(key) == {"list": [1]}


async def test_many_concurrent_callers_are_one_load(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    callers = [asyncio.create_task(group.get(key)) for key in ("x", "y") for group in (here, there) for _ in range(100)]
    await source.is_asked(2)
    source.open.set()
    assert await asyncio.gather(*callers) == ["value"] * 400
    assert sorted(source.asked) == ["x", "y"]


class Table(StrEnum):
    """Keys of a program."""

    USERS = "users"


async def test_a_key_of_a_kind_of_str_is_the_same_key(pair: list[Node]) -> None:
    source = Source(users=1)
    here, there = await groups_of(pair, source)
    for group in (here, there, here, there):
        assert await group.get(Table.USERS) == await group.get("users") == 1
    assert source.asked == ["users"]
    await here.invalidate(Table.USERS)
    assert await there.get("users") == 1
    assert source.asked == ["users", "users"]
    assert await here.get_many([Table.USERS, "users"]) == {"users": 1}


@pytest.mark.parametrize("key", ["ä" * 512, "\0", "a/b?c=d#e", "😀", " ", "x" * 1_024])
async def test_keys_are_any_text(pair: list[Node], key: str) -> None:
    source = Source(**{"*": key})
    for group in await groups_of(pair, source) * 2:
        assert await group.get(key) == key
    assert source.asked == [key]


# -- many at once


async def test_many_keys_come_in_one_dict_in_the_order_asked(pair: list[Node]) -> None:
    source = Source(**{f"k{number}": number for number in range(1_000)})
    here, there = await groups_of(pair, source)
    keys = [f"k{number}" for number in range(1_000)]
    found = await here.get_many(reversed(keys))
    assert found == source.values
    assert list(found) == keys[::-1]
    assert found.failed == {}
    assert await there.get_many(keys + keys) == source.values
    assert sorted(source.asked) == sorted(keys)


async def test_no_keys_are_nothing(pair: list[Node]) -> None:
    here, _ = await groups_of(pair, Source())
    found = await here.get_many([])
    assert (found, found.failed) == ({}, {})


async def test_of_many_keys_some_may_fail_and_why_is_said(pair: list[Node]) -> None:
    async def load(key: str) -> str:
        match key:
            case "unknown":
                raise UnknownKey("gone")
            case "broken":
                raise ValueError("no such table")
            case "slow":
                await asyncio.sleep(60)
        return key

    groups = [CacheGroup(node, "scores", load) for node in pair]
    for group in groups:
        found = await group.get_many(["a", "unknown", "broken", "slow", "b"], timeout=1.0)
        assert found == {"a": "a", "b": "b"}
        assert {key: type(error) for key, error in found.failed.items()} == {
            "unknown": UnknownKey,
            "broken": LoadFailed,
            "slow": CallTimeout,
        }


async def test_the_timeout_is_for_all_keys_together(start_node: NodeFactory) -> None:
    source = Source()
    source.open.clear()
    group = CacheGroup(await start_node("a"), "scores", source.load)
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = await group.get_many([f"k{number}" for number in range(1_500)], timeout=0.3)
    assert loop.time() - began < 3.0, "six rounds of 256 have one deadline"
    assert len(found.failed) == 1_500
    assert {type(error) for error in found.failed.values()} == {CallTimeout}
    source.open.set()


@pytest.mark.parametrize("keys", ["abc", b"abc", ["a", ""], ["a", 7], [None], ["x" * 1_025]])
async def test_of_many_keys_one_that_is_none_fails_all(start_node: NodeFactory, keys: Any) -> None:
    source = Source(**{"*": 1})
    group = CacheGroup(await start_node("a", ring=None), "scores", source.load)
    with pytest.raises(ConfigError):
        await group.get_many(keys)
    assert source.asked == []


# -- refusals


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_bytes": 0}, "max_bytes is 0: it must be a positive whole number"),
        ({"ttl": 0}, "ttl is 0: it must be a number of seconds, positive"),
        ({"negative_ttl": -1}, "negative_ttl is -1: it must be a number of seconds, not negative"),
        ({"stale_if_error": None}, "stale_if_error is None: it must be a number of seconds"),
        ({"hot_ttl": float("nan")}, "hot_ttl is nan: it must be a number of seconds"),
        ({"hot_fraction": 1}, "hot_fraction is 1: it must be from 0 to under 1"),
        ({"hot_rate": 0}, "hot_rate is 0: it must be a positive number"),
        ({"load_limit": 0}, "load_limit is 0: it must be a positive whole number"),
        ({"load_limit": True}, "load_limit is True"),
        ({"load_timeout": 0}, "load_timeout is 0: it must be a number of seconds, positive"),
        ({"patience": 0}, "patience is 0: it must be a number of seconds, positive"),
        ({"patience": "1"}, "patience is '1'"),
        ({"loader": None}, r"loader is None: it must be a function of a key, or None with owns=False"),
        ({"loader": "load", "owns": False}, "loader is 'load'"),
        ({"name": ""}, "cache group"),
        ({"name": "two words"}, "cache group"),
        ({"name": None}, "cache group"),
    ],
)
async def test_options_that_cannot_be_leave_nothing_behind(
    start_node: NodeFactory, options: dict[str, Any], text: str
) -> None:
    node = await start_node("a", ring=None)
    source = Source(x=1)
    given = {"name": "scores", "loader": source.load, **options}
    with pytest.raises(ConfigError, match=text):
        CacheGroup(node, given.pop("name"), given.pop("loader"), **given)
    assert await CacheGroup(node, "scores", source.load).get("x") == 1


@pytest.mark.parametrize("key", [None, 7, b"x", "", "x" * 1_025, "ä" * 513, "\ud800", ["x"]])
async def test_what_is_no_key_is_refused(start_node: NodeFactory, key: Any) -> None:
    group = CacheGroup(await start_node("a", ring=None), "scores", Source().load)
    for refused in (group.get, group.fetch):
        with pytest.raises(ConfigError, match="key"):
            await refused(key)
    if key is not None:
        with pytest.raises(ConfigError, match="key"):
            await group.invalidate(key)
    with pytest.raises(ConfigError, match="key"):
        await group.get_many([key])


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), None, "1", float("inf"), True])
async def test_a_timeout_that_cannot_be_is_refused(start_node: NodeFactory, timeout: Any) -> None:
    group = CacheGroup(await start_node("a", ring=None), "scores", Source(x=1).load)
    for refused in (group.get("x", timeout=timeout), group.get_many(["x"], timeout=timeout)):
        with pytest.raises(ConfigError, match="timeout is"):
            await refused
    with pytest.raises(ConfigError, match="timeout is"):
        await group.invalidate("x", timeout=timeout)


async def test_one_group_of_a_name_on_a_node(start_node: NodeFactory) -> None:
    node = await start_node("a")
    first = CacheGroup(node, "scores", Source(x=1).load)
    with pytest.raises(NameInUse):
        CacheGroup(node, "scores", Source().load)
    other = CacheGroup(node, "others", Source(x=2).load)
    assert (await first.get("x"), await other.get("x")) == (1, 2)
    await first.aclose()
    again = CacheGroup(node, "scores", Source(x=3).load)
    assert await again.get("x") == 3
    assert await other.get("x") == 2


async def test_a_node_that_does_not_run_has_no_cache() -> None:
    node = Node("a@127.0.0.1:0", cookie=COOKIE)
    with pytest.raises(UsageError):
        CacheGroup(node, "scores", Source().load)
    async with node:
        pass
    with pytest.raises(UsageError):
        CacheGroup(node, "scores", Source().load)


async def test_without_room_in_the_ring_entry_there_is_no_group_and_nothing_is_left(start_node: NodeFactory) -> None:
    node = await start_node("a")
    node.ring.announce("mine", "x" * 4_050)
    with pytest.raises(UsageError, match="metadata"):
        CacheGroup(node, "scores" * 8, Source().load)
    node.ring.announce("mine", None)
    group = await made_soon(node, "scores" * 8, Source(x=1))
    assert await group.get("x") == 1


async def made_soon(node: Node, name: str, source: Source) -> CacheGroup:
    """Make a group as soon as its name is free."""
    made: list[CacheGroup] = []

    def is_made() -> bool:
        with suppress(NameInUse):
            made.append(CacheGroup(node, name, source.load))
        return bool(made)

    await eventually(is_made)
    return made[0]


@pytest.mark.parametrize(
    "meant", [{}, {"key": "x", "all": True}, {"prefix": "x", "all": True}, {"key": "x", "prefix": ""}]
)
async def test_invalidate_means_one_of_three(start_node: NodeFactory, meant: dict[str, Any]) -> None:
    group = CacheGroup(await start_node("a"), "scores", Source().load)
    with pytest.raises(UsageError, match="invalidate takes a key, a prefix=, or all=True: one of them"):
        await group.invalidate(**meant)


# -- failures


async def test_that_there_is_no_such_key_is_said_and_not_remembered(pair: list[Node]) -> None:
    source = Source()
    here, there = await groups_of(pair, source)
    key = owned(there)
    for group in (here, there):
        with pytest.raises(UnknownKey, match=f"there is no '{key}' in the source of cache 'scores'") as failure:
            await group.get(key)
        assert isinstance(failure.value, LookupError)
    source.values[key] = 1
    assert await here.get(key) == await there.get(key) == 1
    assert len(source.asked) == 3
    assert there.stats.unknown == 2
    assert there.stats.load_errors == 0


async def test_a_loaders_error_reaches_all_who_wait_and_is_not_remembered(pair: list[Node]) -> None:
    source = Source(**{"*": 1})
    source.error = ValueError("no such table")
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(there)
    callers = [asyncio.create_task(group.get(key)) for group in (here, there) for _ in range(10)]
    await source.is_asked()
    await eventually(lambda: there.stats.served == 1)
    source.open.set()
    for error in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(error, LoadFailed)
        assert str(error) == f"{key!r} of cache 'scores' could not be loaded: ValueError: no such table"
    assert len({id(error) for error in await asyncio.gather(*callers, return_exceptions=True)}) == 20
    assert source.asked == [key]
    assert (there.stats.load_errors, here.stats.loads, here.stats.passed_over) == (1, 0, 0)
    source.error = None
    assert await here.get(key) == 1


async def test_the_cause_of_a_failure_is_at_hand_where_it_was_raised(start_node: NodeFactory) -> None:
    source = Source(x=1)
    source.error = ValueError("no such table")
    group = CacheGroup(await start_node("a"), "scores", source.load)
    with pytest.raises(LoadFailed) as failure:
        await group.get("x")
    assert failure.value.__cause__ is source.error


# -- giving up


async def test_who_gives_up_at_the_owner_ends_nothing_for_others(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(there)
    first = asyncio.create_task(there.get(key))
    await source.is_asked()
    others = [asyncio.create_task(group.get(key)) for group in (here, there) for _ in range(3)]
    await eventually(lambda: there.stats.served == 1)
    first.cancel()
    others[4].cancel()
    await asyncio.wait([first, others[4]], timeout=5)
    source.open.set()
    assert await asyncio.gather(*(each for each in others if not each.cancelled())) == ["value"] * 5
    assert source.asked == [key]


async def test_who_gives_up_at_the_asker_ends_nothing_for_others(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(there)
    callers = [asyncio.create_task(here.get(key)) for _ in range(5)]
    await source.is_asked()
    callers[0].cancel()  # who asks for all
    callers[2].cancel()
    await asyncio.wait([callers[0], callers[2]], timeout=5)
    source.open.set()
    assert await asyncio.gather(*(callers[each] for each in (1, 3, 4))) == ["value"] * 3
    assert source.asked == [key]


async def test_all_may_give_up_and_the_load_goes_on(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(there)
    callers = [asyncio.create_task(group.get(key)) for group in (here, there)]
    await source.is_asked()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers, timeout=5)
    source.open.set()
    await eventually(lambda: there.stats.entries == 1)
    assert await here.fetch(key) == Fetched("value", "peer")
    assert source.asked == [key]


@pytest.mark.parametrize("short", [0.05, 0.7], ids=["within the patience", "past the patience"])
async def test_a_short_deadline_ends_only_its_own_caller(pair: list[Node], short: float) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(there)
    hasty = [asyncio.create_task(group.get(key, timeout=short)) for group in (here, there)]
    await source.is_asked()
    patient = [asyncio.create_task(group.get(key)) for group in (here, there) for _ in range(3)]
    for error in await asyncio.gather(*hasty, return_exceptions=True):
        assert isinstance(error, CallTimeout)
        assert str(error) == f"the deadline passed before {key!r} of cache 'scores' came"
        assert error.executed == "maybe"
    source.open.set()
    assert await asyncio.gather(*patient) == ["value"] * 6
    assert source.asked == [key]
    assert here.stats.passed_over == 0


async def test_a_get_ends_with_the_deadline_around_it(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    async with asyncio.timeout(5):
        for group in (here, there):
            with deadline(0.1), pytest.raises(CallTimeout):
                await group.get(owned(there), timeout=60)
    source.open.set()
    assert await here.get(owned(there)) == "value"


# -- the end


async def test_a_closed_group_says_so_and_may_be_closed_again(start_node: NodeFactory) -> None:
    group = CacheGroup(await start_node("a"), "scores", Source(x=1).load)
    await group.get("x")
    await group.aclose()
    await group.aclose()
    for refused in (group.get("x"), group.fetch("y"), group.get_many(["x"]), group.invalidate("x")):
        with pytest.raises(UsageError, match="cache group 'scores' of a is closed"):
            await refused
    assert (group.stats.entries, group.stats.bytes) == (0, 0)


async def test_who_waits_when_a_group_closes_is_told(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(here)
    waiting = [asyncio.create_task(here.get(key)) for _ in range(3)]
    await source.is_asked()
    await here.aclose()
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, UsageError)
        assert str(error) == "cache group 'scores' of a is closed"
    source.open.set()
    assert await there.get(key) == "value"


async def test_who_waits_for_an_owner_that_closes_is_answered_by_another(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    source.open.clear()
    here, there = await groups_of(pair, source)
    key = owned(there)
    waiting = [asyncio.create_task(here.get(key)) for _ in range(3)]
    await source.is_asked()
    closing = asyncio.create_task(there.aclose())
    await source.is_asked(2)
    source.open.set()
    assert await asyncio.gather(*waiting) == ["value"] * 3
    assert source.asked == [key, key]
    await closing


async def test_a_group_ends_with_its_node(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    here, there = await groups_of(pair, source)
    await pair[1].aclose()
    with pytest.raises(UsageError):
        await there.get("x")
    await there.aclose()
    await eventually(lambda: here.is_owner("x") and here.is_owner("y"))
    assert await here.get("x") == "value"


async def test_two_who_close_it_wait_for_one_end(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    here, there = await groups_of(pair, source)
    keys = owned_many(here, 20)
    await here.get_many(keys)
    await asyncio.gather(here.aclose(), here.aclose())
    assert await there.get_many(keys) == dict.fromkeys(keys, "value")
    assert len(source.asked) == 20


async def test_a_closed_group_hands_over_what_it_held(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    here, there = await groups_of(pair, source)
    keys = owned_many(here, 300)
    await here.get_many(keys)
    assert there.stats.entries == 0
    await here.aclose()
    assert there.stats.entries == 300
    assert [await there.fetch(key) for key in keys[:3]] == [Fetched("value", "hit")] * 3
    assert len(source.asked) == 300


async def test_the_groups_actor_is_the_groups_own(pair: list[Node]) -> None:
    """Stopped from outside it ends the group, which says so; others load by themselves."""
    source = Source(**{"*": "value"})
    here, there = await groups_of(pair, source)
    key = owned(there)
    await pair[1].stop(there._process.ref)
    with pytest.raises(UsageError):
        await there.get(key)
    await there.aclose()
    assert await here.fetch(key) == Fetched("value", "load")


# -- who picks


async def test_a_picker_of_the_users_decides(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    a, b = pair
    here, there = await groups_of(pair, source, picker=Pick(lambda key: (b if key.startswith("b") else a).id))
    assert here.is_owner("a-1")
    assert there.is_owner("b-1")
    for group in (here, there):
        assert await group.get("a-1") == await group.get("b-1") == "value"
    assert source.asked == ["a-1", "b-1"]
    assert (here.stats.entries, there.stats.entries) == (1, 1)
    assert (here.stats.served, there.stats.served) == (1, 1), "nobody asks itself"


async def test_a_pickers_own_error_is_the_callers(start_node: NodeFactory) -> None:
    def fail(key: str) -> None:
        raise ZeroDivisionError(key)

    group = CacheGroup(await start_node("a"), "scores", Source(x=1).load, picker=Pick(fail))
    with pytest.raises(ZeroDivisionError):
        await group.get("x")


async def test_owners_that_name_each_other_answer_at_once(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    a, b = pair
    here = CacheGroup(a, "scores", source.load, picker=Pick(lambda _: b.id))
    there = CacheGroup(b, "scores", source.load, picker=Pick(lambda _: a.id))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.gather(*(group.get("x") for group in (here, there))) == ["value"] * 2
    assert loop.time() - began < 1.0
    assert len(source.asked) <= 2


async def test_a_picker_that_names_one_without_the_group_is_passed_over(pair: list[Node]) -> None:
    source = Source(x="value")
    a, b = pair
    group = CacheGroup(a, "scores", source.load, picker=Pick(lambda _: b.id))
    assert await group.fetch("x") == Fetched("value", "load")
    assert group.stats.passed_over == 1


async def test_a_front_owns_nothing_and_asks(pair: list[Node]) -> None:
    source = Source(**{"*": "value"})
    a, b = pair
    owner = CacheGroup(a, "scores", source.load)
    front = CacheGroup(b, "scores", None, owns=False)
    await eventually(lambda: not front.is_owner("x"))
    for number in range(20):
        assert await front.get(f"key-{number}") == "value"
    assert (owner.stats.entries, front.stats.entries, owner.stats.served) == (20, 0, 20)
    assert (await front.invalidate(all=True)).reached == (a.id,)
    assert owner.stats.entries == 0


async def test_a_front_alone_says_that_nobody_can_be_asked(start_node: NodeFactory) -> None:
    front = CacheGroup(await start_node("a"), "scores", None, owns=False)
    with pytest.raises(LoadFailed, match="'x' of cache 'scores' could not be loaded: .*no owner"):
        await front.get("x")


async def test_a_front_that_is_taken_for_an_owner_is_passed_over(pair: list[Node]) -> None:
    source = Source(x="value")
    a, b = pair
    group = CacheGroup(a, "scores", source.load, picker=Pick(lambda _: b.id))
    CacheGroup(b, "scores", None, owns=False)
    assert await group.get("x") == "value"
