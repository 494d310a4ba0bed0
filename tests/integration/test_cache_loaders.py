"""What a loader may be, and what becomes of all that it may do: with a cache before it, that is its only caller."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from clusterkit import Config, ConfigError, Node
from clusterkit.errors import LoadFailed, UnknownKey, UnsupportedPayload
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_results import Fetched
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration.cache_source import Source, groups_of, owned

Load = Callable[[str], Any]


@pytest.fixture
async def node(start_node: NodeFactory) -> Node:
    return await start_node("a")


@pytest.fixture
async def pair(start_node: NodeFactory, node: Node) -> list[Node]:
    return [node, await start_node("b", seeds=(node,))]


# -- what a loader may be


async def coroutine(key: str) -> str:
    return key.upper()


def plain(key: str) -> str:
    return key.upper()


def returns_coroutine(key: str) -> Awaitable[str]:
    return coroutine(key)


class Called:
    """An object that loads, whichever way."""

    async def __call__(self, key: str) -> str:
        return await self.method(key)

    async def method(self, key: str) -> str:
        return key.upper()

    @staticmethod
    def static(key: str) -> str:
        return key.upper()


async def two(_other: str, key: str) -> str:
    return key.upper()


@pytest.mark.parametrize(
    "load",
    [
        coroutine,
        plain,
        returns_coroutine,
        Called(),
        Called().method,
        Called.static,
        partial(two, "other"),
        lambda key: two("other", key),
        str.upper,
    ],
    ids=["coroutine", "plain", "returns one", "object", "method", "static", "partial", "lambda", "builtin"],
)
async def test_a_loader_is_whatever_takes_a_key(node: Node, load: Load) -> None:
    assert await CacheGroup(node, "scores", load).get("x") == "X"


async def test_a_plain_loader_runs_beside_the_loop_and_a_coroutine_on_it(node: Node) -> None:
    where: dict[str, int] = {}

    def plain(key: str) -> str:
        where[key] = threading.get_ident()
        return key

    async def coroutine(key: str) -> str:
        return plain(key)

    await CacheGroup(node, "one", plain).get("beside")
    await CacheGroup(node, "two", coroutine).get("on")
    assert where["on"] == threading.get_ident()
    assert where["beside"] != threading.get_ident()


async def test_a_plain_loader_that_blocks_holds_up_no_other(node: Node) -> None:
    free = threading.Event()

    def load(key: str) -> str:
        if key == "slow":
            free.wait(20)
        return key

    group = CacheGroup(node, "scores", load)
    slow = asyncio.create_task(group.get("slow", timeout=20))
    assert await group.get("fast") == "fast"
    assert not slow.done()
    free.set()
    assert await slow == "slow"


async def test_at_most_so_many_loads_at_once(node: Node) -> None:
    running, most = 0, 0

    async def load(key: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        return key

    group = CacheGroup(node, "scores", load, load_limit=3)
    keys = [f"k{number}" for number in range(50)]
    assert await group.get_many(keys) == {key: key for key in keys}
    assert most == 3


# -- what it may raise


class Unsayable(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(BaseException):
    """An error that is no `Exception`."""


FAILURES: list[tuple[BaseException, str]] = [
    (ValueError("no such table"), "ValueError: no such table"),
    (ValueError(), "ValueError"),
    (LookupError("no row"), "LookupError: no row"),
    (TimeoutError("of its own"), "TimeoutError: of its own"),
    (TimeoutError(), "TimeoutError"),
    (OSError(5, "disk"), r"OSError: \[Errno 5\] disk"),
    (LoadFailed("of another cache"), "LoadFailed: of another cache"),
    (Unsayable(), "Unsayable"),
    (ValueError("x" * 2_000_000), "ValueError: xxx"),
    (ValueError("\ud800"), r"ValueError: \\ud800"),
    (RuntimeError("two\nlines"), "RuntimeError: two\nlines"),
    (StopIteration("over"), "StopIteration"),
    (asyncio.CancelledError(), "Cancelled"),
    (Odd("thrown"), "Odd: thrown"),
    (SystemExit("bye"), "SystemExit: bye"),
]


@pytest.mark.parametrize("is_plain", [False, True], ids=["coroutine", "plain"])
@pytest.mark.parametrize(("error", "text"), FAILURES, ids=[type(error).__name__ for error, _ in FAILURES])
async def test_whatever_it_raises_all_who_wait_are_told_and_it_is_asked_once(
    pair: list[Node], error: BaseException, text: str, is_plain: bool
) -> None:
    asked: list[str] = []

    def plain(key: str) -> None:
        asked.append(key)
        raise error

    async def coroutine(key: str) -> None:
        plain(key)

    here, there = (CacheGroup(node, "scores", plain if is_plain else coroutine) for node in pair)
    await eventually(lambda: not here.is_owner("x") or not there.is_owner("x"))
    owner, asker = (here, there) if here.is_owner("x") else (there, here)
    for number, group in enumerate((owner, asker), 1):
        with pytest.raises(LoadFailed, match=f"'x' of cache 'scores' could not be loaded: .*{text}") as failure:
            await group.get("x")
        assert len(str(failure.value)) < 5_000
        assert len(asked) == number
    assert asker.stats.passed_over == 0
    assert owner.stats.load_errors == 2


@pytest.mark.parametrize("error", [KeyError("x"), UnknownKey("x")])
@pytest.mark.parametrize("is_plain", [False, True], ids=["coroutine", "plain"])
async def test_there_is_no_such_key(pair: list[Node], error: Exception, is_plain: bool) -> None:
    def plain(_key: str) -> None:
        raise error

    async def coroutine(key: str) -> None:
        plain(key)

    for group in [CacheGroup(node, "scores", plain if is_plain else coroutine) for node in pair]:
        with pytest.raises(UnknownKey, match="there is no 'x' in the source"):
            await group.get("x")


# -- what it may return


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": [{"b": object()}]}, 2**64, "\ud800", {"a"}, len])
async def test_a_value_that_cannot_be_carried_is_refused_everywhere(pair: list[Node], value: object) -> None:
    source = Source(**{"*": value})
    here, there = await groups_of(pair, source)
    key = owned(there)
    for number, group in enumerate((there, here), 1):
        with pytest.raises(LoadFailed, match=f"{key!r} of cache 'scores' could not be loaded: .*value") as failure:
            await group.get(key)
        assert isinstance(failure.value.__cause__, UnsupportedPayload)
        assert len(source.asked) == number
    assert (here.stats.passed_over, there.stats.entries) == (0, 0)


@pytest.mark.parametrize("limit", [1 << 16, 1 << 20])
@pytest.mark.parametrize("key", ["k", "ä" * 512])
async def test_a_value_as_large_as_a_message_comes_and_one_byte_more_is_refused(
    start_node: NodeFactory, limit: int, key: str
) -> None:
    config = Config(**{name: getattr(QUICK, name) for name in QUICK.__slots__} | {"message_limit": limit})
    a = await start_node("a", config=config)
    b = await start_node("b", seeds=(a,), config=config)
    most = limit - 1_024 - len(key.encode())
    for name, size in (("fits", most), ("over", most + 1)):
        source = Source(**{"*": bytes(size)})
        groups = await groups_of([a, b], source, name, max_bytes=8 << 20)
        for group in groups:
            if name == "fits":
                assert await group.get(key) == bytes(size)
                continue
            with pytest.raises(LoadFailed, match=f"its value of {size} bytes is over what a message carries"):
                await group.get(key)
        assert len(source.asked) == (1 if name == "fits" else 2)
        await groups[0].aclose()
        if name == "fits":  # it is handed over, too
            assert await groups[1].fetch(key) == Fetched(bytes(size), "hit")


async def test_a_value_over_the_room_is_served_and_not_held(node: Node) -> None:
    source = Source(x=bytes(2_000), y=b"small")
    group = CacheGroup(node, "scores", source.load, max_bytes=1_000)
    await group.get("y")
    assert await group.get("x") == await group.get("x") == bytes(2_000)
    assert source.asked == ["y", "x", "x"]
    assert (group.stats.entries, group.stats.evicted) == (1, 0)


async def test_what_is_held_is_bounded_and_the_oldest_goes(node: Node) -> None:
    source = Source(**{"*": bytes(500)})
    group = CacheGroup(node, "scores", source.load, max_bytes=10_000)
    for number in range(50):
        await group.get(f"k{number}")
        assert group.stats.bytes <= 10_000
    assert group.stats.evicted + group.stats.entries == 50
    assert (await group.fetch("k49")).source == "hit"
    assert (await group.fetch("k0")).source == "load"


# -- what it may do beside


async def test_a_loader_may_ask_the_cache_for_other_keys(pair: list[Node]) -> None:
    groups: list[CacheGroup] = []

    async def load(key: str) -> int:
        number = int(key)
        return number if number < 2 else sum([await groups[number % 2].get(str(number - each)) for each in (1, 2)])

    groups += [CacheGroup(node, "fibonacci", load) for node in pair]
    assert await groups[0].get("20") == 6_765
    assert sum(group.stats.loads for group in groups) == 21


async def test_a_loader_that_waits_for_its_own_key_ends_at_its_deadline(node: Node) -> None:
    async def load(key: str) -> Any:
        return await group.get(key, timeout=0.2)

    group = CacheGroup(node, "scores", load)
    with pytest.raises(LoadFailed, match="CallTimeout: the deadline passed before 'x'"):
        await group.get("x")


async def test_a_loader_may_invalidate_and_what_it_returns_then_is_not_stored(node: Node) -> None:
    source = Source(x=1)

    async def load(key: str) -> Any:
        value = await source.load(key)
        await group.invalidate(key)
        return value

    group = CacheGroup(node, "scores", load)
    assert await group.get("x") == await group.get("x") == 1
    assert (source.asked, group.stats.entries) == (["x", "x"], 0)


async def test_a_loader_may_close_its_group(node: Node) -> None:
    async def load(_key: str) -> int:
        await group.aclose()
        return 1

    group = CacheGroup(node, "scores", load)
    async with asyncio.timeout(10):
        with pytest.raises(Exception, match="closed|ended"):
            await group.get("x")


async def test_a_loader_that_cannot_be_called_so_fails_the_load(node: Node) -> None:
    def load() -> int:
        return 1

    group = CacheGroup(node, "scores", load)  # type: ignore[arg-type]
    with pytest.raises(LoadFailed, match="TypeError"):
        await group.get("x")
    with pytest.raises(ConfigError):
        CacheGroup(node, "others", 7)  # type: ignore[arg-type]


async def test_loads_that_run_when_the_group_closes_are_ended(node: Node) -> None:
    ended = asyncio.Event()

    async def load(_key: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    group = CacheGroup(node, "scores", load)
    waiting = asyncio.create_task(group.get("x", timeout=30))
    await eventually(lambda: group.stats.loads == 1)
    await group.aclose()
    assert ended.is_set()
    with pytest.raises(Exception, match="closed"):
        await waiting


HANGS = """
import asyncio, time
from clusterkit import Node
from clusterkit.services.cache import CacheGroup

async def main():
    async with Node("a@127.0.0.1:0", cookie="the cookie of all tests") as node:
        group = CacheGroup(node, "scores", lambda key: time.sleep(60))
        getting = asyncio.ensure_future(group.get("x", timeout=30))
        while group.stats.loads == 0:
            await asyncio.sleep(0.01)
    await asyncio.wait([getting])
    print(repr(getting.exception()))

asyncio.run(main())
"""


async def test_a_plain_loader_that_hangs_does_not_keep_the_process_from_its_end() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGS, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b"cache group 'scores' of a is closed" in told
