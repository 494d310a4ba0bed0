"""The command server of real nodes, asked by a client: what it tells of the ring, and what it changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from clusterkit import (
    AlreadyInRing,
    CacheGroup,
    Client,
    ConfigError,
    GenServer,
    JoinError,
    JoinTimeout,
    NameConflict,
    Node,
    NoSuchServer,
    UnknownKey,
    UnknownNode,
    UsageError,
    WrongRing,
    call,
    cast,
)
from clusterkit.core.hash_ring import HashRing
from clusterkit.runtime import wall_time
from clusterkit.services.command_views import package_version
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually

PATIENCE = 20.0


@asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[Client]:
    async with Client("127.0.0.1", node.id.port, cookie=COOKIE, config=QUICK) as client:
        yield client


@pytest.fixture
async def abc(start_node: NodeFactory) -> list[Node]:
    """Three nodes of one ring, which know it."""
    a = await start_node("a")
    nodes = [a, await start_node("b", seeds=(a,)), await start_node("c", seeds=(a,))]
    await a.ring.converged()
    return nodes


@pytest.fixture
async def client(abc: list[Node]) -> AsyncIterator[Client]:
    """A client of the first of them."""
    async with client_of(abc[0]) as client:
        yield client


def told(node: Node) -> dict[str, Any]:
    me = node.id
    return {"name": me.name, "host": me.host, "port": me.port, "incarnation": me.incarnation}


async def names(client: Client) -> list[str]:
    return [each["name"] for each in await client.call("nodes")]


class Desk(GenServer):
    def __init__(self) -> None:
        self.taken: list[Any] = []

    @call
    async def look(self, data: Any) -> Any:
        return [data]

    @cast
    async def take(self, data: Any) -> None:
        self.taken.append(data)


# -- what it tells


async def test_ping_tells_who_answers(abc: list[Node], client: Client) -> None:
    first, second = await client.call("ping"), await client.call("ping")
    assert {key: first[key] for key in told(abc[0])} == told(abc[0])
    assert (first["ring"], first["version"]) == ("test", package_version())
    assert 0 < first["uptime"] < second["uptime"] < PATIENCE
    assert first["at"] <= second["at"] <= wall_time()


async def test_members_tells_what_is_believed_of_each(abc: list[Node], client: Client) -> None:
    a, b, c = abc
    await a.ring.update("b", weight=3)
    b.ring.set_ready(False)
    await eventually(lambda: not a.ring.members[1].ready)
    members = await client.call("members")
    assert [{key: each[key] for key in told(a)} for each in members] == [told(a), told(b), told(c)]
    assert [each["state"] for each in members] == ["alive"] * 3
    assert [each["weight"] for each in members] == [1, 3, 1]
    assert [each["ready"] for each in members] == [True, False, True]
    assert [each["self"] for each in members] == [True, False, False]
    assert [each["linked"] for each in members] == [True] * 3
    assert [each["rtt"] for each in members] == [None] * 3
    assert all(0 <= each["since"] < PATIENCE and each["queue"] >= 0 for each in members)
    assert sum(each["share"] for each in members) == pytest.approx(1.0)
    assert members[1]["share"] > 0.4


async def test_members_tells_since_when_one_is_down_and_why(abc: list[Node], client: Client) -> None:
    before = {each["name"]: each["since"] for each in await client.call("members")}
    await abc[1].aclose(leave=False)
    await eventually(lambda: str(abc[0].ring.members[1].state) == "down", 15.0)
    _, b, c = await client.call("members")
    assert (b["state"], b["linked"]) == ("down", False)
    assert b["why"] == "stopped" or b["why"] == "connection refused"  # what is known by now
    assert b["since"] <= c["since"]
    assert c["since"] > before["c"]


async def test_members_with_round_trips(abc: list[Node], client: Client) -> None:
    a, b, c = await client.call("members", True)
    assert a["rtt"] is None
    assert 0 < b["rtt"] < 1
    assert 0 < c["rtt"] < 1


async def test_nodes_get_has_and_weights(abc: list[Node], client: Client) -> None:
    a, b, _ = abc
    await a.ring.update("b", weight=7)
    assert await client.call("nodes") == [told(node) for node in abc]
    assert await client.call("get", "b") == told(b)
    assert await client.call("get", f"b@{b.id.address}") == told(b)
    assert [await client.call("has", name) for name in ("a", "b", "x", "")] == [True, True, False, False]
    assert await client.call("weight", "b") == 7
    assert await client.call("weights") == {"a": 1, "b": 7, "c": 1}
    for command in ("get", "weight"):
        with pytest.raises(UnknownNode, match="no member is named 'x'"):
            await client.call(command, "x")


async def test_inspect_tells_the_hash_ring(abc: list[Node], client: Client) -> None:
    await abc[0].ring.update("c", weight=2)
    ring = HashRing({"a": 1, "b": 1, "c": 2})
    short, full = await client.call("inspect"), await client.call("inspect", True)
    assert full.pop("tree") == [[f"{token:016x}", node] for token, node in ring]
    assert short == full
    view = await client.call("view")
    assert (short["ring"], short["name"], short["members"], short["alive"]) == ("test", "a", 3, 3)
    assert (short["tokens"], short["weights"]) == (512, {"a": 1, "b": 1, "c": 2})
    assert (short["rfactor"], short["pfactor"]) == (1, 3)
    assert short["digest"] == view["digest"] != ""
    assert sum(short["shares"].values()) == pytest.approx(1.0)


async def test_a_ring_of_too_many_tokens_is_told_without_them(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.ring.update("a", weight=600)
    async with client_of(a) as client:
        assert (await client.call("inspect"))["tokens"] == 76_800
        with pytest.raises(UsageError, match="76800 tokens"):
            await client.call("inspect", True)


async def test_shares_are_what_keys_find(abc: list[Node], client: Client) -> None:
    shares = (await client.call("inspect"))["shares"]
    owned = [abc[0].ring.find(f"key {n}").name for n in range(20_000)]
    for name, share in shares.items():
        assert owned.count(name) / 20_000 == pytest.approx(share, abs=0.02)


async def test_owner_tells_the_order_of_a_key(abc: list[Node], client: Client) -> None:
    a = abc[0]
    for key in ("ada", b"\xff\x00", ""):
        answer = await client.call("owner", key, 2)
        assert [each["name"] for each in answer["owners"]] == [node.name for node in a.ring.range(key, 2)]
        assert all(each["state"] == "alive" for each in answer["owners"])
        assert (answer["key"], answer["available"]["name"]) == (key, a.ring.find(key).name)
    assert len((await client.call("owner", "ada", 1 << 60))["owners"]) == 3
    for node in abc:
        node.ring.set_ready(False)
    await eventually(lambda: not any(member.available for member in a.ring.members))
    assert (await client.call("owner", "ada"))["available"] is None


async def test_balance_compares_shares_with_weights(abc: list[Node], client: Client) -> None:
    await abc[0].ring.update("b", weight=2)
    answer = await client.call("balance")
    shares = (await client.call("inspect"))["shares"]
    assert [each["ideal"] for each in answer["members"]] == [0.25, 0.5, 0.25]
    assert {each["name"]: each["share"] for each in answer["members"]} == shares
    assert answer["worst"] == pytest.approx(max(each["share"] / each["ideal"] for each in answer["members"]))


async def test_actors_links_and_stats(abc: list[Node], client: Client) -> None:
    a = abc[0]
    await a.start(Desk(), name="desk")
    actors = await client.call("actors")
    assert [(each["name"], each["kind"]) for each in actors] == [
        ("clusterkit.command", "CommandServer"),
        ("desk", "Desk"),
    ]
    links = {each["name"]: each for each in await client.call("links")}
    me = next(name for name in links if name.startswith("cli-"))
    assert {name: links[name]["role"] for name in links} == {"b": "member", "c": "member", me: "client"}
    assert all(each["open"] and not each["down"] and each["sent"] > 0 < each["received"] for each in links.values())
    again = {each["name"]: each for each in await client.call("links")}
    assert all(again[me][key] > links[me][key] > 40 for key in ("bytes_in", "bytes_out"))
    assert (await client.call("stats"))["actors"] == 2


async def test_of_very_many_actors_the_busiest_are_told(start_node: NodeFactory) -> None:
    a = await start_node("a")
    for n in range(20):
        await a.start(Desk(), name=f"desk-{n}")
    for n in (3, 17):
        await a.ref(Desk, f"desk-{n}").call(Desk.look, n)
    async with client_of(a) as client:
        found = [each["name"] for each in await client.call("actors", 3)]
        assert sorted(found) == ["clusterkit.command", "desk-17", "desk-3"]
        assert len(await client.call("actors")) == 21


async def test_call_and_cast_an_actor_of_any_member(abc: list[Node], client: Client) -> None:
    desk = Desk()
    await abc[1].start(desk, name="desk")
    asked = await client.call("ask", "b", "desk", "look", 5)
    assert (asked["ok"], asked["value"]) == (True, [5])
    sent = await client.call("tell", "b", "desk", "take", {"n": 1})
    assert (sent["ok"], sent["seconds"] >= 0) == (True, True)
    await eventually(lambda: desk.taken == [{"n": 1}])
    for command in ("ask", "tell"):
        lost = await client.call(command, "x", "desk", "take", 1)
        assert (lost["ok"], lost["error"], lost["executed"]) == (False, "NodeDown", "no")


# -- what it changes


async def test_join_and_leave(start_node: NodeFactory) -> None:
    a, b = await start_node("a"), await start_node("b", ring=None)
    async with client_of(b) as client:
        assert (await client.call("ping"))["ring"] == ""
        answer = await client.call("join", "test", [a.id.address])
        assert (answer["name"], answer["ring"], answer["incarnation"]) == ("b", "test", b.id.incarnation)
        assert await names(client) == ["a", "b"]
        with pytest.raises(AlreadyInRing):
            await client.call("join", "other")
        answer = await client.call("leave")
        assert (answer["name"], answer["ring"]) == ("b", "")
        assert await names(client) == ["b"]
        await eventually(lambda: len(a.ring) == 1)
        assert (await client.call("leave"))["ring"] == ""
        assert (await client.call("join", "test", [f"a@{a.id.address}"]))["ring"] == "test"
        assert b.ring.has("a")
        assert (await client.call("leave", True))["ring"] == ""
        await eventually(lambda: len(a.ring) == 1)


async def test_what_keeps_a_node_from_joining_arrives_as_it_is(start_node: NodeFactory) -> None:
    a, other, b = await start_node("a"), await start_node("z", ring="other"), await start_node("b", ring=None)
    namesake = await start_node("a", ring=None)
    async with client_of(b) as client, client_of(namesake) as client_of_namesake:
        with pytest.raises(WrongRing):
            await client.call("join", "test", [other.id.address])
        assert b.ring.id == ""
        with pytest.raises(NameConflict):
            await client_of_namesake.call("join", "test", [a.id.address])
        with pytest.raises(ConfigError, match="ring id"):
            await client.call("join", "no such name!", [])
        with pytest.raises(ConfigError, match="port"):
            await client.call("join", "test", ["nowhere"])


async def test_a_join_that_finds_nobody_says_so_in_the_time_of_its_client_and_dials_on(start_node: NodeFactory) -> None:
    a, b = await start_node("a"), await start_node("b", ring=None)
    port = a.id.port
    await a.aclose()
    async with client_of(b) as client:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(JoinTimeout, match=f"127.0.0.1:{port}: .*dialling goes on"):
                await client.call("join", "test", [f"127.0.0.1:{port}"], timeout=1.5)
            with pytest.raises(JoinTimeout):
                await client.call("join", "test", [f"127.0.0.1:{port}"], 0.2)
        assert (await client.call("ping"))["ring"] == "test"


async def test_a_join_goes_on_when_its_client_has_gone(start_node: NodeFactory) -> None:
    a, b = await start_node("a", ring=None), await start_node("b", ring=None)
    async with client_of(b) as client:
        joining = asyncio.create_task(client.call("join", "test", [a.id.address]))
        await eventually(lambda: b.ring.id == "test")
    with pytest.raises(Exception, match="down|closed"):
        await joining
    await a.ring.join("test")
    await eventually(lambda: a.ring.has("b") and b.ring.has("a"), 15.0)


async def test_meet_merges_two_rings_of_one_id(start_node: NodeFactory) -> None:
    a, b, other = await start_node("a"), await start_node("b"), await start_node("c", ring="other")
    async with client_of(a) as client:
        answer = await client.call("meet", f"b@{b.id.address}")
        assert answer["ring"] == "test"
        assert await names(client) == ["a", "b"]
        with pytest.raises(WrongRing):
            await client.call("meet", other.id.address)
        port = other.id.port
        await other.aclose()
        with pytest.raises(JoinError, match="cannot be reached from this node"):
            await client.call("meet", f"127.0.0.1:{port}")


async def test_insert_update_and_remove(abc: list[Node], client: Client, start_node: NodeFactory) -> None:
    b = abc[1]
    d = await start_node("d")
    members = await client.call("insert", [f"d@{d.id.address}", "ghost@127.0.0.1:1"], 4)
    assert {each["name"]: each["weight"] for each in members} == {"a": 1, "b": 1, "c": 1, "d": 4, "ghost": 4}
    await eventually(lambda: b.ring.has("d") and d.ring.has("b"))
    members = await client.call("update", "d", 9)
    assert {each["name"]: each["weight"] for each in members}["d"] == 9
    assert [each["name"] for each in await client.call("remove", ["d", "ghost"])] == ["a", "b", "c"]
    await eventually(lambda: d.ring.id == "")
    with pytest.raises(UnknownNode):
        await client.call("remove", ["b", "nobody"])
    with pytest.raises(UnknownNode):
        await client.call("update", "nobody", 2)
    with pytest.raises(UsageError, match="does not remove itself"):
        await client.call("remove", ["a"])
    with pytest.raises(UsageError, match="b' is a member at"):
        await client.call("insert", ["b@127.0.0.1:1"])
    assert await names(client) == ["a", "b", "c"]


async def test_a_node_in_no_ring_answers_for_itself(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)
    async with client_of(a) as client:
        (member,) = await client.call("members", True)
        assert (member["name"], member["self"], member["share"], member["linked"]) == ("a", True, 1.0, True)
        assert (await client.call("inspect"))["digest"] == ""
        assert (await client.call("owner", "key"))["available"] == told(a)
        assert (await client.call("balance"))["worst"] == 1.0
        checked = await client.call("check")
        assert ([view["name"] for view in checked["views"]], checked["silent"]) == (["a"], {})
        commands: list[list[Any]] = [
            ["insert", ["b@127.0.0.1:1"]],
            ["remove", ["b"]],
            ["update", "a", 2],
            ["meet", "h:1"],
        ]
        for command in commands:
            with pytest.raises(UsageError, match="in no ring"):
                await client.call(*command)


async def test_a_removed_node_answers_for_itself(abc: list[Node]) -> None:
    a, b, _ = abc
    async with client_of(b) as client:
        await a.ring.remove("b")
        await eventually(lambda: b.ring.id == "")
        assert (await client.call("ping"))["ring"] == ""
        assert await names(client) == ["b"]
        view = await client.call("view")
        assert (view["ring"], view["digest"], list(view["members"]), view["reaches"]) == ("", "", ["b"], {"b": True})
        assert [each["name"] for each in await client.call("members", True)] == ["b"]
        assert (await client.call("leave"))["ring"] == ""
        assert (await client.call("join", "test", [a.id.address]))["ring"] == "test"
        assert await names(client) == ["a", "b", "c"]


async def test_two_changes_at_once_are_made_one_after_the_other(start_node: NodeFactory) -> None:
    a, b = await start_node("a"), await start_node("b", ring=None)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(b)) for _ in range(4)]
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(
                *(client.call("join", "test", [a.id.address]) for client in clients), return_exceptions=True
            )
            assert all(isinstance(each, dict | AlreadyInRing) for each in answers)
            assert any(isinstance(each, dict) for each in answers)
            answers = await asyncio.gather(*(client.call("leave") for client in clients))
            assert [each["ring"] for each in answers] == [""] * 4
            assert (await clients[0].call("join", "test", [a.id.address]))["ring"] == "test"


# -- caches


async def source(key: str) -> str:
    if key == "none":
        raise KeyError(key)
    return f"value of {key}"


async def test_caches_of_this_node(abc: list[Node], client: Client) -> None:
    a, b, _ = abc
    assert await client.call("caches") == []
    groups = [CacheGroup(node, name, source) for node in (a, b) for name in ("scores", "names")]
    await eventually(lambda: all(len(group._peers.members) == 1 for group in groups))
    first = await client.call("fetch", "scores", "ada")
    assert first["value"] == "value of ada"
    assert (await client.call("fetch", "scores", "ada"))["value"] == "value of ada"
    stats = {each["group"]: each for each in await client.call("caches")}
    assert list(stats) == ["names", "scores"]
    assert stats["scores"]["hits"] + stats["scores"]["peer_hits"] == 1
    assert await client.call("invalidate", "scores", "ada") == {"reached": ["b"], "missed": []}
    for arguments in ((None, "a", False), (None, None, True)):
        assert await client.call("invalidate", "scores", *arguments) == {"reached": ["b"], "missed": []}
    with pytest.raises(UsageError, match="one of them"):
        await client.call("invalidate", "scores")
    with pytest.raises(UnknownKey):
        await client.call("fetch", "scores", "none")
    with pytest.raises(NoSuchServer, match=r"'other' \(its caches: names, scores\)"):
        await client.call("fetch", "other", "ada")
    for group in groups:
        await group.aclose()
    assert await client.call("caches") == []
