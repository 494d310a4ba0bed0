"""`LocalCluster` and `ProcessCluster`: real sockets, real processes, the product's own nodes."""

import asyncio

import pytest

from clusterkit import CallError, Node, UsageError
from clusterkit.testing import LocalCluster, ProcessCluster
from tests.integration.cluster_app import Witness, start

APP = "tests.integration.cluster_app:start"
DEADLINE = 60.0


async def test_local_nodes_meet_on_ports_that_the_system_chose() -> None:
    async with asyncio.timeout(DEADLINE), LocalCluster(3, app=start) as cluster:
        assert [node.name for node in cluster["a"].ring.nodes] == ["a", "b", "c"]
        assert len({node.id.port for node in cluster.running}) == 3
        assert await cluster["a"].ref(Witness, "witness", on="c").call(Witness.run, 5) == 5


async def test_a_local_node_that_restarts_keeps_its_port_and_is_another() -> None:
    async with asyncio.timeout(DEADLINE), LocalCluster(2, app=start) as cluster:
        before = cluster["b"].id
        after = (await cluster.restart("b")).id
        assert (after.name, after.port) == (before.name, before.port)
        assert after.incarnation > before.incarnation
        await cluster.settle()
        assert await cluster["a"].ref(Witness, "witness", on="b").call(Witness.run, 6) == 6


async def test_a_local_node_that_stopped_is_not_there() -> None:
    async with asyncio.timeout(DEADLINE), LocalCluster(2) as cluster:
        await cluster.stop("b")
        await cluster.settle()
        assert [node.name for node in cluster["a"].ring.nodes] == ["a"]
        with pytest.raises(UsageError, match="no node 'b' runs: a"):
            _ = cluster["b"]


async def test_an_app_that_fails_leaves_nothing_behind() -> None:
    async def broken(node: Node) -> None:
        if node.id.name == "b":
            raise ValueError(node.id.name)

    with pytest.raises(ValueError, match="b"):
        async with asyncio.timeout(DEADLINE), LocalCluster(3, app=broken):
            raise AssertionError("never entered")


async def test_processes_meet_and_are_called_from_an_observer() -> None:
    async with asyncio.timeout(DEADLINE), ProcessCluster(2, app=APP) as cluster:
        async with cluster.observer() as node:
            ref = node.ref(Witness, "witness", on="b")
            assert [await ref.call(Witness.run, number) for number in range(3)] == [0, 1, 2]
        assert [each["ran"] for each in cluster["b"].reports if "ran" in each] == [0, 1, 2]


async def test_a_killed_process_comes_back_on_its_port_as_another() -> None:
    async with asyncio.timeout(DEADLINE), ProcessCluster(2, app=APP) as cluster, cluster.observer() as node:
        before = node.ring.get("b")
        cluster["b"].kill()
        with pytest.raises(CallError):
            while True:
                await node.ref(Witness, "witness", on="b").call(Witness.run, 1)
        await cluster.restart("b")
        async with asyncio.timeout(10):
            while (after := node.ring.get("b")) == before:
                await asyncio.sleep(0.01)
        assert before is not None
        assert after is not None
        assert (after.port, after.name) == (before.port, before.name)
        assert await node.ref(Witness, "witness", on="b").call(Witness.run, 2) == 2


async def test_a_stopped_process_answers_when_it_goes_on() -> None:
    async with asyncio.timeout(DEADLINE), ProcessCluster(1, app=APP) as cluster, cluster.observer() as node:
        ref = node.ref(Witness, "witness", on="a")
        cluster["a"].stop()
        with pytest.raises(CallError):
            await ref.with_(timeout=0.3).call(Witness.run, 1)
        cluster["a"].go_on()
        assert await ref.call(Witness.run, 2) == 2


async def test_an_error_in_the_block_carries_what_each_process_printed() -> None:
    with pytest.raises(AssertionError) as failure:
        async with asyncio.timeout(DEADLINE), ProcessCluster(2, app=APP):
            raise AssertionError
    (note,) = failure.value.__notes__
    assert all(f'--- {name}-1.log ---\n@clusterkit {{"node": "{name}@' in note for name in "ab")
