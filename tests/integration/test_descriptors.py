"""A node whose process runs out of descriptors: it goes on with those it has, says so once, and serves again (F17)."""

import asyncio
from typing import Any

from clusterkit import Client
from clusterkit.testing import Child, Processes
from tests.conftest import COOKIE, eventually
from tests.integration.descriptors_app import serve

TARGET = f"{serve.__module__}:{serve.__name__}"
LIMIT = 64  # descriptors of the node's process
CROWD = 200


def reports(child: Child, key: str) -> list[Any]:
    return [each[key] for each in child.reports if key in each]


async def test_a_node_without_descriptors_pauses_and_serves_again_when_there_are_some() -> None:
    async with Processes(environment={"CLUSTERKIT_COOKIE": COOKIE}) as processes:
        child = await processes.start("few", TARGET, {"limit": LIMIT})
        port = (await child.reported("port"))["port"]
        async with asyncio.timeout(30):
            crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CROWD)]
            await eventually(lambda: reports(child, "pauses")[-1:] >= [5])
            assert child.status is None
            for _, writer in crowd:
                writer.transport.abort()
        async with asyncio.timeout(5), Client("127.0.0.1", port, cookie=COOKIE) as client:
            assert (await client.call("ping"))["name"] == "few"
        before = reports(child, "pauses")[-1]
        await eventually(lambda: reports(child, "pauses")[-3:] == [before] * 3)  # it pauses no more
        logged = [(each["logged"], each["traceback"]) for each in child.reports if "logged" in each]
        assert logged == [("WARNING", False)], reports(child, "text")
