"""What a node asks of the others for its clients: side by side, bounded in time, and in nobody's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clusterkit import (
    CallError,
    CallTimeout,
    Client,
    Config,
    ConfigError,
    GenServer,
    JoinTimeout,
    MailboxFull,
    Node,
    NodeDown,
    NoSuchMethod,
    ServerDown,
    UnknownNode,
    UsageError,
    call,
)
from clusterkit.runtime import now
from clusterkit.services.command_questions import fold
from clusterkit.testing import ProcessCluster
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually

PATIENCE = 20.0


@asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[Client]:
    async with Client("127.0.0.1", node.id.port, cookie=COOKIE, config=QUICK) as client:
        yield client


@pytest.fixture
async def abc(start_node: NodeFactory) -> list[Node]:
    a = await start_node("a")
    nodes = [a, await start_node("b", seeds=(a,)), await start_node("c", seeds=(a,))]
    await a.ring.converged()
    return nodes


class Gate(GenServer):
    """Answers when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0

    @call
    async def wait(self, data: Any) -> Any:
        self.begun += 1
        await self.gate.wait()
        return data


def agrees(views: list[dict[str, Any]]) -> bool:
    return len({(view["digest"], view["claims_digest"]) for view in views}) == 1


# -- check and diff


async def test_check_asks_every_member_for_its_view(abc: list[Node]) -> None:
    async with client_of(abc[0]) as client:
        checked = await client.call("check")
        views = checked["views"]
        assert (checked["silent"], [view["name"] for view in views]) == ({}, ["a", "b", "c"])
        assert agrees(views)
        assert all(view["members"] == views[0]["members"] for view in views)
        assert all(view["reaches"] == {"a": True, "b": True, "c": True} for view in views)
        assert views[0]["members"]["b"] == {
            "incarnation": abc[1].id.incarnation,
            "state": "alive",
            "host": "127.0.0.1",
            "port": abc[1].id.port,
            "weight": 1,
        }


async def test_check_names_those_that_are_down_and_what_the_others_see_of_them(abc: list[Node]) -> None:
    a, b, c = abc
    await b.aclose(leave=False)
    await eventually(lambda: all(str(node.ring.members[1].state) == "down" for node in (a, c)), 15.0)
    async with client_of(a) as client:
        checked = await client.call("check")
        assert list(checked["silent"]) == ["b"]
        assert checked["silent"]["b"].startswith("down: ")
        assert [view["name"] for view in checked["views"]] == ["a", "c"]
        assert [view["reaches"] for view in checked["views"]] == [{"a": True, "b": False, "c": True}] * 2
        assert [view["members"]["b"]["state"] for view in checked["views"]] == ["down", "down"]


async def test_check_shows_a_view_that_differs(abc: list[Node]) -> None:
    """What one side has not heard yet: a member that is cut off is asked all the same, here before it is told."""
    a, b, c = abc
    async with client_of(a) as client:
        links = b._open_kernel().links
        link = links.get("c")
        assert link is not None
        await links.forget("c", "test")
        checked = await client.call("check")
        reaches = {view["name"]: view["reaches"] for view in checked["views"]}
        assert reaches["b"] == {"a": True, "b": True, "c": False}
        assert c.ring.has("b")


async def test_diff_tells_two_views(abc: list[Node]) -> None:
    a, _, c = abc
    async with client_of(a) as client:
        found = await client.call("diff", "c")
        assert (found["here"]["name"], found["there"]["name"]) == ("a", "c")
        assert agrees([found["here"], found["there"]])
        itself = await client.call("diff", "a")
        assert itself["here"] == itself["there"]
        with pytest.raises(UnknownNode):
            await client.call("diff", "x")
        await c.aclose(leave=False)
        await eventually(lambda: str(a.ring.members[2].state) == "down", 15.0)
        with pytest.raises(NodeDown, match="node c is down"):
            await client.call("diff", "c")


async def test_a_check_of_a_ring_that_one_answer_does_not_take_says_nothing_twice(start_node: NodeFactory) -> None:
    config = Config(message_limit=1 << 16, redial_first=1.0, redial_most=2.0, drain_timeout=2.0)
    a = await start_node("a", config=config)
    b = await start_node("b", seeds=(a,), config=config)
    c = await start_node("c", seeds=(a,), config=config)
    ghosts = [f"{n:03}-{'g' * 60}@127.0.0.1:1" for n in range(100)]
    nodes = (a, b, c)

    def states() -> list[list[str]]:
        return [[member.state for member in node.ring.members if member.name[0].isdigit()] for node in nodes]

    async with client_of(a) as client:
        await client.call("insert", ghosts)
        await eventually(lambda: states() == [["down"] * 100] * 3, 30.0)
        checked = await client.call("check", 5.0, timeout=8.0)
        assert sorted([*checked["silent"], "a", "b", "c"]) == [node.name for node in a.ring.nodes]
        whole, *folded = checked["views"]
        assert (whole["name"], len(whole["members"])) == ("a", 103)
        assert [(view["members"], view["same"]) for view in folded] == [(None, "a")] * 2
        for view in checked["views"]:
            assert list(view["reaches"]) == [ghost.partition("@")[0] for ghost in ghosts]
            assert not any(view["reaches"].values())


def test_views_that_all_differ_are_cut_to_the_first() -> None:
    views = [{"name": name, "members": {"a": name}, "reaches": {"a": True}} for name in "abc"]
    assert [view["members"] for view in fold(views)] == [{"a": "a"}, {"a": "b"}, {"a": "c"}]
    assert [(view["members"], view.get("same")) for view in fold(views, whole=1)] == [
        ({"a": "a"}, None),
        (None, None),
        (None, None),
    ]


# -- through


async def test_through_asks_another_members_command_server(abc: list[Node]) -> None:
    a, b, _ = abc
    gate = Gate()
    await b.start(gate, name="gate")
    async with client_of(a) as client:
        assert (await client.call("through", "b", "ping"))["name"] == "b"
        assert (await client.call("through", f"b@{b.id.address}", "ping", []))["name"] == "b"
        assert [each["self"] for each in await client.call("through", "b", "members", [True])] == [False, True, False]
        actors = await client.call("through", "b", "actors")
        assert [each["name"] for each in actors] == ["clusterkit.command", "gate"]
        assert (await client.call("through", "b", "events"))["missed"] == 0
        with pytest.raises(UnknownNode, match="'x'"):
            await client.call("through", "x", "ping")
        with pytest.raises(UnknownNode, match="'y'"):
            await client.call("through", "b", "get", ["y"])
        with pytest.raises(NoSuchMethod, match="nonsense"):
            await client.call("through", "b", "nonsense")
        with pytest.raises(TypeError, match="missing 1 required"):
            await client.call("through", "b", "get", [])


async def test_through_oneself_and_in_a_circle(abc: list[Node]) -> None:
    async with client_of(abc[0]) as client, asyncio.timeout(PATIENCE):
        assert (await client.call("through", "a", "ping"))["name"] == "a"
        assert len((await client.call("through", "a", "check"))["views"]) == 3
        for member in ("a", "b"):
            with pytest.raises(UsageError, match="goes through one node"):
                await client.call("through", member, "through", ["a", "through", ["b", "ping"]])
        asked = await client.call("ask", "b", "clusterkit.command", "ask", "a")
        assert (asked["ok"], asked["error"]) == (False, "TypeError")
        with pytest.raises(UsageError, match="cannot call itself"):
            await client.call("ask", "a", "clusterkit.command", "ping")


async def test_a_member_that_leaves_through_another_is_answered_for(abc: list[Node]) -> None:
    a, b, c = abc
    async with client_of(a) as client:
        answer = await client.call("through", "b", "leave")
        assert (answer["name"], answer["incarnation"], answer["ring"]) == ("b", b.id.incarnation, "")
        await eventually(lambda: b.ring.id == "" and len(a.ring) == len(c.ring) == 2)
        answer = await client.call("through", "c", "leave", [True])
        assert (answer["name"], answer["ring"]) == ("c", "")
        await eventually(lambda: c.ring.id == "" and len(a.ring) == 1)
        assert (await client.call("through", "a", "leave"))["ring"] == ""
        assert a.ring.id == ""


async def test_changes_through_another_member(abc: list[Node], start_node: NodeFactory) -> None:
    a, _, c = abc
    async with client_of(a) as client:
        assert [each["weight"] for each in await client.call("through", "b", "update", ["c", 5])] == [1, 1, 5]
        assert len(await client.call("through", "b", "insert", [["ghost@127.0.0.1:1"]])) == 4
        assert len(await client.call("through", "b", "remove", [["c", "ghost"]])) == 2
        await eventually(lambda: len(a.ring) == 2 and c.ring.id == "")
        assert a.ring.has("b")


async def test_a_node_that_is_removed_through_another_still_answers_its_client(abc: list[Node]) -> None:
    """The answer comes over the very link that ends with it; if it does not, the client is told so."""
    a, _, _ = abc
    async with client_of(a) as client:
        answers = await asyncio.gather(client.call("through", "b", "remove", [["a"]]), return_exceptions=True)
        assert isinstance(answers[0], list | NodeDown)
        assert not isinstance(answers[0], NodeDown) or answers[0].executed == "maybe"
        await eventually(lambda: a.ring.id == "")
        assert [each["name"] for each in await client.call("members")] == ["a"]


# -- a member that hangs


async def test_a_member_that_hangs_is_named_in_time_and_holds_up_nobody() -> None:
    async with ProcessCluster(3) as cluster, asyncio.timeout(60.0):
        host, _, port = cluster.address("a").partition(":")
        async with Client(host, int(port), cookie=cluster.cookie) as client:
            while len((await client.call("check"))["views"]) < 3:
                await asyncio.sleep(0.02)
            cluster["b"].stop()
            started = now()
            slow = [
                asyncio.create_task(client.call("check", 1.5)),
                asyncio.create_task(client.call("members", True)),
                asyncio.create_task(client.call("through", "b", "ping", [], 1.5)),
                asyncio.create_task(client.call("ask", "b", "clusterkit.command", "ping", None, 1.5)),
                asyncio.create_task(client.call("diff", "b")),
            ]
            assert (await client.call("ping"))["name"] == "a"
            assert not any(each.done() for each in slow)
            results = await asyncio.gather(*slow, return_exceptions=True)
            assert now() - started < 4.5  # 2 s at the most for each, side by side
            checked, members, pinged, asked, differs = results
            assert isinstance(checked, dict)
            assert isinstance(members, list)
            assert isinstance(asked, dict)
            assert [view["name"] for view in checked["views"]] == ["a", "c"]
            assert checked["silent"]["b"].startswith(("no answer within 1.5 s", "down:"))
            assert members[1]["rtt"] is None
            assert isinstance(members[2]["rtt"], float)
            assert isinstance(pinged, CallTimeout | NodeDown)
            assert isinstance(differs, CallTimeout | NodeDown)
            assert asked["ok"] is False
            started = now()
            assert (await client.call("leave"))["ring"] == ""
            assert now() - started < 5.0
            cluster["b"].go_on()


async def test_a_join_whose_seed_hangs_ends_in_the_time_of_its_client() -> None:
    async with ProcessCluster(1) as cluster, Node("z@127.0.0.1:0", cookie=cluster.cookie) as node:
        cluster["a"].stop()
        async with Client("127.0.0.1", node.id.port, cookie=cluster.cookie) as client, asyncio.timeout(PATIENCE):
            with pytest.raises(JoinTimeout):
                await client.call("join", "processes", [cluster.address("a")], timeout=2.0)
            assert (await client.call("leave"))["ring"] == ""
        cluster["a"].go_on()


# -- bounds, and the end


async def test_what_waits_ends_when_the_node_does(abc: list[Node]) -> None:
    a, b, _ = abc
    gate = Gate()
    await b.start(gate, name="gate")
    async with client_of(a) as client:
        cursor = (await client.call("events"))["cursor"]
        waiting = [
            asyncio.create_task(client.call("ask", "b", "gate", "wait", 1, 30.0, timeout=30.0)),
            asyncio.create_task(client.call("through", "b", "ask", ["b", "gate", "wait", 1, 30.0], 30.0, timeout=30.0)),
            asyncio.create_task(client.call("events", cursor + 1_000_000, timeout=30.0)),
        ]
        await eventually(lambda: gate.begun == 1)
        started = now()
        await a.aclose()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert now() - started < QUICK.drain_timeout + 3.0
        for each in results[:2]:
            assert isinstance(each, ServerDown | NodeDown)
            assert each.executed == "maybe"
    gate.gate.set()


async def test_a_change_under_way_ends_when_the_node_does(start_node: NodeFactory) -> None:
    b = await start_node("b", ring=None)
    async with client_of(b) as client:
        joining = asyncio.create_task(client.call("join", "test", ["127.0.0.1:1"], timeout=30.0))
        await eventually(lambda: b.ring.id == "test")
        await b.aclose()
        with pytest.raises((CallError, UsageError)):
            await joining


async def test_one_client_waits_for_so_many_answers_and_others_are_answered(abc: list[Node]) -> None:
    a, b, _ = abc
    gate = Gate()
    await b.start(gate, name="gate")
    async with client_of(a) as greedy, client_of(a) as other, asyncio.timeout(PATIENCE):
        asked = [asyncio.create_task(greedy.call("ask", "b", "gate", "wait", n)) for n in range(500)]
        await eventually(lambda: sum(each.done() for each in asked) == 500 - 128)
        refused = [each.exception() for each in asked if each.done()]
        assert all(isinstance(each, MailboxFull) for each in refused)
        assert (await greedy.call("ping"))["name"] == "a"
        assert len((await other.call("check"))["views"]) == 3
        gate.gate.set()
        answers = await asyncio.gather(*(each for each in asked if not each.done()))
        assert all(each["ok"] for each in answers)
        assert (await greedy.call("ask", "b", "gate", "wait", "again"))["value"] == "again"


@pytest.mark.parametrize("timeout", [-1, "2", None, float("nan"), True], ids=str)
async def test_a_time_that_is_none_is_refused(timeout: Any, abc: list[Node]) -> None:
    async with client_of(abc[0]) as client:
        commands: list[list[Any]] = [["check"], ["through", "b", "ping", []]]
        commands += [[command, "b", "server", "event", 1] for command in ("ask", "tell")]
        for command in commands:
            with pytest.raises(ConfigError, match="timeout is"):
                await client.call(*command, timeout)
