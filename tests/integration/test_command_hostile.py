"""A client that means harm, or makes mistakes: every question is answered, and the node goes on."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import Client, ClusterError, Config, ConfigError, MailboxFull, MessageTooLarge, Node, UsageError
from clusterkit.actors.side import Side
from clusterkit.runtime import now
from clusterkit.services.command import CommandServer
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually

PATIENCE = 30.0
LARGE = replace(QUICK, message_limit=32 << 20, outbox_size=64 << 20)
COMMANDS = sorted(CommandServer.__handlers__)
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.5, float("nan"), float("inf"), -1e308, 1 << 63, -(1 << 63)),
    *("", "a", "b", "x" * 3_000, "@", "a@", "b@127.0.0.1:1", "::", "\x00", "é\u2028", "clusterkit.command"),
    *(b"", b"\xff" * 100, [], {}, [[]], ["a"], [None], [1, [2, [3, [4]]]], {"a": {"b": []}}, ["a@b:1"] * 50, {1.5: 2}),
]


@asynccontextmanager
async def client_of(node: Node, config: Config = QUICK) -> AsyncIterator[Client]:
    async with Client("127.0.0.1", node.id.port, cookie=COOKIE, config=config) as client:
        yield client


def side(node: Node) -> Side:
    """What runs beside the command server."""
    return next(each.side for each in node._processes.values() if isinstance(each.actor, CommandServer))


def waiting(node: Node) -> int:
    """How many answers of the command server wait for something."""
    return len(side(node).tasks)


async def outcome(client: Client, command: str, *arguments: Any) -> Any:
    """What came of a command: its answer, or the error; a timeout is none."""
    try:
        return await client.call(command, *arguments, timeout=8.0)
    except TimeoutError as error:
        if type(error).__name__ == "CallTimeout" and "no answer in time" in str(error):
            raise
        return error
    except Exception as error:
        return error


def test_the_commands_are_those_of_the_page() -> None:
    assert len(COMMANDS) == 30
    assert {"ping", "members", "services", "ask", "check", "through", "events"} < set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_answers_whatever_it_is_given(command: str, start_node: NodeFactory) -> None:
    """Each value in each place, alone and behind good ones; then the node still answers."""
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    good: dict[str, list[Any]] = {
        "through": ["b", "ping", []],
        "ask": ["b", "x", "y", 1],
        "tell": ["b", "x", "y", 1],
        "fetch": ["g"],
        "invalidate": ["g", "k"],
        "join": ["test", []],
        "update": ["b"],
        "insert": [["b@127.0.0.1:1"]],
        "owner": ["key"],
        "events": [None],
    }
    starts: list[list[Any]] = [[], *(good[command][:n] for n in range(1, len(good.get(command, [])) + 1))]
    async with client_of(a) as client, asyncio.timeout(60.0):
        for start in starts:
            batch = [outcome(client, command, *start, odd) for odd in ODD]
            answers = await asyncio.gather(*batch)
            refused = [each for each in answers if isinstance(each, Exception)]
            assert len(answers) == len(ODD)
            assert [each for each in refused if not isinstance(each, ClusterError | TypeError)] == []
            assert all("takes" in str(each) or "missing" in str(each) for each in refused if type(each) is TypeError)
            assert all(len(str(each)) < 4_000 for each in refused)
        many: list[list[Any]] = [[1] * 40, [ODD], [{}] * 3]
        for arguments in many:
            await outcome(client, command, *arguments)
        assert (await client.call("ping"))["name"] == "a"
        assert isinstance(await client.call("members", True), list)
    async with client_of(b) as client:
        assert (await client.call("ping"))["name"] == "b"


async def test_ten_megabytes_of_names_are_refused_at_once(start_node: NodeFactory) -> None:
    a = await start_node("a", config=LARGE)
    many = [f"{n:05}{'x' * 160}@127.0.0.1:1" for n in range(60_000)]
    long = "x" * 10_000_000
    async with client_of(a, LARGE) as client, asyncio.timeout(PATIENCE):
        for command in (
            ("insert", many),
            ("remove", many),
            ("join", "test", many),
            ("insert", [long]),
            ("remove", [long]),
            ("join", long),
            ("meet", long),
            ("get", long),
            ("has", long),
            ("weight", long),
            ("update", long, 2),
            ("owner", long),
            ("diff", long),
            ("through", long, "ping"),
            ("through", "a", long),
            ("invalidate", long, "k"),
            ("fetch", long, "k"),
            ("events", long),
            ("members", long),
            ("check", long),
        ):
            started = now()
            with pytest.raises(ConfigError) as caught:
                await client.call(*command)
            assert len(str(caught.value)) < 200
            assert now() - started < 5.0
        with pytest.raises(UsageError, match="a ring of 1024 at the most"):
            await client.call("insert", ["b@127.0.0.1:1"] * 1_024)
        assert [each["name"] for each in await client.call("nodes")] == ["a"]


async def test_what_a_message_does_not_take_is_refused_here(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        with pytest.raises(MessageTooLarge):
            await client.call("insert", ["x" * 100] * 60_000)
        assert (await client.call("ping"))["name"] == "a"


async def test_a_flood_of_questions_is_bounded_and_others_are_answered(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await start_node("b", seeds=(a,))
    async with client_of(a) as greedy, client_of(a) as other, asyncio.timeout(PATIENCE):
        flood = [
            asyncio.create_task(outcome(greedy, *command))
            for _ in range(500)
            for command in (("check",), ("members", True), ("through", "b", "ping"), ("diff", "b"), ("events", 0))
        ]
        while not all(each.done() for each in flood):
            assert (await other.call("ping"))["name"] == "a"
            assert waiting(a) <= 129
        answers = [each.result() for each in flood]
        assert all(isinstance(each, dict | list | MailboxFull) for each in answers)
        assert any(isinstance(each, dict) for each in answers)
        await eventually(lambda: waiting(a) == 0)


async def test_a_client_that_goes_leaves_nothing_behind(start_node: NodeFactory) -> None:
    a = await start_node("a")
    client = Client("127.0.0.1", a.id.port, cookie=COOKIE, config=QUICK)
    async with client_of(a) as other:
        await client.__aenter__()
        cursor = (await client.call("events"))["cursor"]
        polls = [asyncio.create_task(outcome(client, "events", cursor)) for _ in range(20)]
        await eventually(lambda: waiting(a) == 20)
        await client.aclose(0.0)
        await asyncio.gather(*polls)
        await eventually(lambda: waiting(a) == 0, 10.0)
        assert (await other.call("ping"))["name"] == "a"


async def test_changes_that_contradict_each_other_leave_a_node_that_can_join(start_node: NodeFactory) -> None:
    a, b = await start_node("a"), await start_node("b", ring=None)
    chance = random.Random(9)
    orders: list[list[Any]] = [
        ["join", "test", [a.id.address]],
        ["join", "other"],
        ["join", "test", ["127.0.0.1:1"], 0.2],
        ["leave"],
        ["leave", True],
        ["meet", a.id.address, 0.5],
        ["insert", [f"a@{a.id.address}"]],
        ["update", "b", 3],
    ]
    async with client_of(b) as client, asyncio.timeout(60.0):
        for _ in range(8):
            batch = [outcome(client, *chance.choice(orders)) for _ in range(12)]
            await asyncio.gather(*batch)
        await client.call("leave", timeout=10.0)
        assert (await client.call("ping"))["ring"] == ""
        await outcome(client, "join", "test", [a.id.address])
        assert (await client.call("ping"))["ring"] == "test"
        await eventually(lambda: b.ring.has("a"), 15.0)
