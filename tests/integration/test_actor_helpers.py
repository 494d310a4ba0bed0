"""Small promises of actors: tasks of their own, generic classes, what a client is not told."""

import asyncio
from typing import Generic, TypeVar

import pytest

from clusterkit import ConfigError, GenServer, UsageError, call
from clusterkit.kernel.faults import RemoteTraceback
from clusterkit.services.client import Client
from tests.conftest import COOKIE, NodeFactory, eventually

T = TypeVar("T")


class Polling(GenServer):
    """Does something beside its messages, as long as it lives."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def init(self) -> None:
        self.create_task(self.poll())

    async def poll(self) -> None:
        self.log.append("begun")
        try:
            await asyncio.sleep(3600)
        finally:
            self.log.append("ended")

    @call
    async def count(self) -> int:
        return len(self.log)

    async def terminate(self, reason: object) -> None:
        self.log.append(f"terminate {reason}")


async def test_a_task_of_an_actor_runs_beside_its_messages_and_ends_before_terminate(start_node: NodeFactory) -> None:
    node = await start_node("a")
    polling = Polling()
    ref = await node.start(polling)
    await eventually(lambda: polling.log == ["begun"])
    assert await ref.call(Polling.count) == 1
    await node.stop(ref)
    assert polling.log == ["begun", "ended", "terminate normal"]


async def test_outside_of_its_life_an_actor_has_no_tasks() -> None:
    work = asyncio.sleep(0)
    with pytest.raises(UsageError, match="is not started"):
        Polling().create_task(work)
    work.close()


class Cache(GenServer, Generic[T]):
    """A class of classes."""

    def __init__(self, value: T) -> None:
        self.value = value

    @call
    async def get(self) -> T:
        return self.value


async def test_a_generic_actor_is_named_with_its_parameter(start_node: NodeFactory) -> None:
    node = await start_node("a")
    await node.start(Cache(7), name="cache")
    assert await node.ref(Cache[int], "cache").proxy.get() == 7
    found = node.whereis("cache", Cache[int])
    assert found is not None
    assert await found.call(Cache.get) == 7
    with pytest.raises(ConfigError, match="takes a class of actors"):
        node.ref(int, "cache")  # type: ignore[type-var]


async def test_a_client_is_told_the_error_and_not_the_traceback(start_node: NodeFactory) -> None:
    node = await start_node("a")
    async with asyncio.timeout(10), Client("127.0.0.1", node.id.port, cookie=COOKIE) as client:
        with pytest.raises(UsageError, match="cannot call itself") as caught:
            await client.call("ask", "a", "clusterkit.command", "ping")
    assert not isinstance(caught.value.__cause__, RemoteTraceback)
