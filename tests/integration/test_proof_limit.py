"""Each address may have so many proofs checked a second: more of them wait, and those of other addresses do not."""

import asyncio
import contextlib
import os
from dataclasses import replace

from clusterkit import AuthFailed, Client, Node
from clusterkit.config import Config
from clusterkit.runtime import now
from clusterkit.transport.base import Stream
from clusterkit.transport.tcp import TcpNetwork, TcpStream
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually

PATIENCE = 20.0
BURST, RATE = 5, 20.0
FEW = replace(QUICK, proof_burst=BURST, proof_rate=RATE)


class From(TcpNetwork):
    """Dials from another address of loopback."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source

    async def connect(self, host: str, port: int) -> Stream:
        stream = TcpStream(host)
        stream._carry(*await asyncio.open_connection(host, port, local_addr=(self._source, 0)))
        return stream


async def prove(node: Node, source: str, cookie: str = COOKIE, config: Config = QUICK) -> float:
    """Prove a cookie from an address; return how long it took."""
    began = now()
    async with Client("127.0.0.1", node.id.port, cookie=cookie, network=From(source), config=config):
        return now() - began


async def test_proofs_past_the_burst_wait_their_turn_and_those_of_others_do_not(start_node: NodeFactory) -> None:
    a = await start_node("a", config=FEW)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        began = now()
        many = [group.create_task(prove(a, "127.0.0.1")) for _ in range(BURST + 10)]
        await eventually(lambda: a.stats()["proofs_delayed"] == 10)
        await prove(a, "127.0.0.2")
        assert not all(task.done() for task in many)
        assert a.stats()["proofs_delayed"] == 10
        await asyncio.wait(many)
        assert now() - began >= 9.5 / RATE  # the last waited for ten more tokens
    assert sorted(task.result() for task in many)[BURST] >= 0.5 / RATE


async def test_wrong_proofs_use_up_what_their_own_address_may(start_node: NodeFactory) -> None:
    a = await start_node("a", config=replace(FEW, proof_rate=0.1))
    async with asyncio.timeout(PATIENCE):
        for _ in range(BURST):
            with contextlib.suppress(AuthFailed):
                await prove(a, "127.0.0.1", cookie="the cookie of another cluster")
        assert a.stats()["invalid_checksum"] == BURST
        honest = asyncio.create_task(prove(a, "127.0.0.1"))
        await eventually(lambda: a.stats()["proofs_delayed"] == 1)
        await prove(a, "127.0.0.2")
        honest.cancel()
        await asyncio.wait([honest])


async def test_connections_without_a_proof_use_up_nothing(start_node: NodeFactory) -> None:
    a = await start_node("a", config=replace(FEW, proof_rate=0.1))
    async with asyncio.timeout(PATIENCE):
        for _ in range(10 * BURST):
            _, writer = await asyncio.open_connection("127.0.0.1", a.id.port)
            writer.write(b"CKT1\x01" + os.urandom(32))
            writer.transport.abort()
        await prove(a, "127.0.0.1")
        assert a.stats()["proofs_delayed"] == 0


async def test_who_gives_up_gives_its_turn_back(start_node: NodeFactory) -> None:
    a = await start_node("a", config=FEW)
    async with asyncio.timeout(PATIENCE):
        many = [asyncio.create_task(prove(a, "127.0.0.1")) for _ in range(BURST + 100)]  # five seconds' worth
        await eventually(lambda: a.stats()["proofs_delayed"] == 100)
        for task in many:
            task.cancel()
        await asyncio.wait(many)
        await eventually(lambda: not a._open_kernel().links._unproven)
        assert await prove(a, "127.0.0.1") < 2.0


async def test_a_turn_that_would_come_too_late_ends_with_its_deadline(start_node: NodeFactory) -> None:
    a = await start_node("a", config=replace(FEW, proof_rate=1.0, proof_timeout=0.3))
    async with asyncio.timeout(PATIENCE):
        many = [asyncio.create_task(prove(a, "127.0.0.1")) for _ in range(BURST + 10)]
        ends = await asyncio.gather(*many, return_exceptions=True)
        assert sum(isinstance(end, float) for end in ends) == BURST
        assert sum(isinstance(end, AuthFailed) for end in ends) == 10
