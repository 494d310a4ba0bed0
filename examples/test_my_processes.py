"""How to test your own cluster on real processes: kill -9, and a proxy that resets connections."""

import asyncio

import pytest

from clusterkit import CallError, GenServer, Node, call
from clusterkit.testing import ChaosProxy, LocalCluster, Plan, ProcessCluster
from clusterkit.testing.local_cluster import COOKIE

APP = "examples.test_my_processes:app"  # each process imports it


class Greeter(GenServer):
    @call
    async def greet(self, name: str) -> str:
        return f"hello, {name}"


async def app(node: Node) -> None:
    await node.start(Greeter(), name="greeter")


async def test_a_process_is_killed_and_comes_back() -> None:
    async with ProcessCluster(2, app=APP) as cluster, cluster.observer() as node:
        greeter = node.ref(Greeter, "greeter", on="b")
        cluster["b"].kill()  # SIGKILL; stop() and go_on() are SIGSTOP and SIGCONT
        with pytest.raises(CallError):
            await greeter.call(Greeter.greet, "world")
        await cluster.restart("b")  # on its port, another incarnation
        assert await greeter_answers(node) == "hello, world"


async def greeter_answers(node: Node) -> str:
    while True:  # until the new process has introduced itself
        try:
            return await node.ref(Greeter, "greeter", on="b").call(Greeter.greet, "world")
        except CallError:
            await asyncio.sleep(0.01)


async def test_a_node_behind_a_bad_network() -> None:
    plan = Plan(single_bytes=(100, 200), delay=(0.0, 0.01))
    async with (
        LocalCluster(1, app=app) as cluster,
        ChaosProxy("127.0.0.1", cluster["a"].id.port, seed=7, plan=plan) as proxy,
        Node("outside@127.0.0.1:0", cookie=COOKIE) as node,
    ):
        await node.ring.join("local", [f"127.0.0.1:{proxy.port}"])
        assert await node.ref(Greeter, "greeter", on="a").call(Greeter.greet, "world") == "hello, world"
