"""The cache over HTTP, asked by real clients over real sockets: names, values, statuses, prefixes."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from clusterkit.cli.http import HttpServer
from clusterkit.core.identity import NodeId
from clusterkit.core.payload import decode
from clusterkit.errors import ConfigError
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_web import cache_app
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration.http_front import VALUES, load, say, serve

KEYS = [
    "plain",
    "a/b",
    "/",
    "//",
    "a?b",
    "a#b",
    "100%",
    "%2F",
    "a+b",
    "a b",
    "a&key=b",
    "a=b;c",
    'quote"',
    "back\\slash",
    "line\nend",
    "nul\x00",
    "ключ/grüße",
    "日本",
    "👍🏽",
    "x" * 1_000,
]

Front = tuple[CacheGroup, httpx.AsyncClient]


@pytest.fixture(name="front")
async def _front(start_node: NodeFactory) -> AsyncIterator[Front]:
    """One group, and a client of its app."""
    group = CacheGroup(await start_node("a"), "scores", load)
    async with serve(cache_app(group)) as client:
        yield group, client


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal; it is small JSON, and tells nothing of the inside."""
    told = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(told) == {"code", "message"}
    assert len(answer.content) < 300
    assert "Traceback" not in answer.text
    assert "password" not in answer.text
    return answer.status_code, told["code"]


# -- names


async def test_keys_of_any_characters_come_through_every_address(front: Front) -> None:
    _, client = front
    for key in KEYS:
        wanted = f"echo:{key}"
        escaped = quote(wanted, safe="")
        for target in (f"/api?key={escaped}", f"/api/scores?key={escaped}", f"/_geecache/scores/{escaped}"):
            answer = await client.get(target)
            assert (answer.status_code, answer.text) == (200, key), target


async def test_a_query_may_be_written_in_all_ways_that_mean_the_same(front: Front) -> None:
    _, client = front
    for query in ("key=echo:a+b", "key=echo%3Aa%20b", "%6Bey=echo:a%20b", "x=1&key=echo:a+b&y", "&&key=echo:a+b"):
        assert await say(client, f"/api?{query}") == (200, "a b"), query


async def test_a_plus_in_a_path_is_a_plus_and_a_bare_slash_there_is_of_the_key(front: Front) -> None:
    _, client = front
    assert await say(client, "/_geecache/scores/echo:a+b") == (200, "a+b")
    assert await say(client, "/_geecache/scores/echo:a/b//c") == (200, "a/b//c")
    assert await say(client, "/%61pi/%73cores?key=%65cho:x") == (200, "x")


async def test_what_cannot_be_read_as_it_was_meant_is_refused(front: Front) -> None:
    group, client = front
    for target in (
        "/api",
        "/api?",
        "/api?key",
        "/api?key=",
        "/api?other=a",
        "/api?key=a&key=a",
        "/api?key=a&k%65y=b",
        "/api?key=100%",
        "/api?key=%zz",
        "/api?key=%ff",
        "/api?key=%ED%A0%80",
        f"/api?key={'x' * 1_025}",
        "/api/scores",
        "/api/%",
        "/_geecache/scores",
        "/_geecache/scores/",
        "/_geecache/scores/%ff",
    ):
        status, body = await say(client, target)
        assert (status, json.loads(body)["code"]) == (400, "bad-key"), target
    assert group.stats.loads == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_asks_as_its_manual_says(front: Front) -> None:
    _, client = front
    url = f"{client.base_url}/api"
    for key in ("grüße/100% & mehr?", "日本"):
        command = ["curl", "-sS", "-m", "10", "-i", "--get", "--data-urlencode", f"key=echo:{key}", url]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        said, _ = await process.communicate()
        head, _, body = said.decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK")
        assert "x-cache: load" in head.lower()
        assert body == key


# -- values


async def test_a_value_has_the_type_that_carries_it(front: Front) -> None:
    _, client = front
    kinds = {}
    for key, value in VALUES.items():
        answer = await client.get("/api", params={"key": key})
        kinds[key] = answer.headers["content-type"]
        match kinds[key]:
            case "application/json":
                assert answer.json() == value
            case "application/msgpack":
                assert repr(decode(answer.content)) == repr(value)
            case "text/plain; charset=utf-8":
                assert answer.text == value
            case _:
                assert answer.content == value
    assert kinds == {
        "bytes": "application/octet-stream",
        "text": "text/plain; charset=utf-8",
        "number": "application/json",
        "none": "application/json",
        "list": "application/json",
        "nested bytes": "application/msgpack",
        "not a number": "application/msgpack",
        "time": "application/msgpack",
    }


async def test_large_values_up_to_the_message_limit_and_a_clear_error_over_it(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    owner = CacheGroup(a, "scores", load)
    asker = CacheGroup(b, "scores", None, owns=False)
    await eventually(lambda: asker._peers.pick("any") is not None)
    async with serve(cache_app(owner)) as at_owner, serve(cache_app(asker)) as at_asker:
        for client in (at_owner, at_asker):
            answer = await client.get("/api", params={"key": f"size:{(1 << 20) - 2_048}"})
            assert (answer.status_code, len(answer.content)) == (200, (1 << 20) - 2_048)
            refused = await client.get("/api", params={"key": f"size:{1 << 20}"})
            assert error_of(refused) == (502, "bad-value")
            assert f"{1 << 20}" in refused.json()["message"]


async def test_a_higher_limit_lets_larger_values_through(start_node: NodeFactory) -> None:
    group = CacheGroup(await start_node("a", config=replace(QUICK, message_limit=8 << 20)), "scores", load)
    async with serve(cache_app(group)) as client:
        answer = await client.get("/api", params={"key": f"size:{4 << 20}"})
        assert len(answer.content) == 4 << 20


# -- statuses


async def test_where_a_value_came_from_is_told(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    CacheGroup(a, "scores", load)
    asker = CacheGroup(b, "scores", None, owns=False)
    await eventually(lambda: asker._peers.pick("text") is not None)
    async with serve(cache_app(asker)) as client:
        assert (await client.get("/api?key=text")).headers["x-cache"] == "load"
        assert (await client.get("/api?key=text")).headers["x-cache"] == "peer"


async def test_a_second_get_is_a_hit_and_head_is_a_get_without_the_body(front: Front) -> None:
    group, client = front
    head = await client.head("/api?key=text")
    get = await client.get("/api?key=text")
    again = await client.head("/_geecache/scores/text")
    assert (head.headers["x-cache"], get.headers["x-cache"], again.headers["x-cache"]) == ("load", "hit", "hit")
    assert head.content == again.content == b""
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]
    assert group.stats.loads == 1
    assert (await client.head("/api?key=nothing")).status_code == 404


async def test_each_failure_has_its_status(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    _, client = front
    assert error_of(await client.get("/api?key=nothing")) == (404, "unknown-key")
    assert error_of(await client.get("/api/other?key=text")) == (404, "unknown-group")
    assert error_of(await client.get("/api/?key=text")) == (404, "unknown-group")
    assert error_of(await client.get("/api/scores/text")) == (404, "unknown-path")
    assert error_of(await client.get("/api/a%2Fb?key=text")) == (404, "unknown-group")
    assert error_of(await client.get("/_geecache/other/text")) == (404, "unknown-group")
    assert error_of(await client.get("/_geecache")) == (404, "unknown-path")
    assert error_of(await client.get("/")) == (404, "unknown-path")
    assert error_of(await client.get("/api?key=fails")) == (502, "load-failed")
    assert error_of(await client.get("/api?key=odd")) == (502, "bad-value")
    assert error_of(await client.get("/api?key=down")) == (503, "unavailable")
    assert "password" in caplog.text  # the operator is told


async def test_a_cache_is_only_asked(front: Front) -> None:
    group, client = front
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await client.request(method, "/api?key=text")
        assert error_of(answer) == (405, "method")
        assert answer.headers["allow"] == "GET, HEAD"
    assert error_of(await client.post("/nothing")) == (404, "unknown-path")
    assert group.stats.loads == 0


async def test_a_value_that_does_not_come_is_a_timeout(start_node: NodeFactory) -> None:
    group = CacheGroup(await start_node("a"), "scores", load)
    async with serve(cache_app(group, timeout=0.05)) as client:
        assert error_of(await client.get("/api?key=hangs")) == (504, "timeout")
        assert (await client.get("/api?key=text")).status_code == 200


async def test_a_closing_node_sends_its_clients_elsewhere(start_node: NodeFactory) -> None:
    node = await start_node("a")
    group = CacheGroup(node, "scores", load)
    async with serve(cache_app(group)) as client, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(client.get("/api?key=hangs"))
        await eventually(lambda: group.stats.loads == 1)
        await node.aclose(drain=False)
        assert error_of(await waiting) == (503, "closing")
        assert error_of(await client.get("/api?key=text")) == (503, "closing")


async def test_a_server_that_ends_sends_its_clients_elsewhere(front: Front) -> None:
    group, _ = front
    server = HttpServer(cache_app(group), "127.0.0.1", 0)
    port = await server.start()
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(client.get(f"http://127.0.0.1:{port}/api?key=hangs"))
        await eventually(lambda: group.stats.loads == 1)
        await server.aclose()
        assert error_of(await waiting) == (503, "closing")


async def test_a_fault_is_told_to_the_log_and_not_to_the_client(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def pick(self, key: str) -> NodeId | None:
            raise ZeroDivisionError("password")

    group = CacheGroup(await start_node("a"), "scores", load, picker=Broken())
    async with serve(cache_app(group)) as client:
        assert error_of(await client.get("/api?key=text")) == (500, "fault")
    assert "ZeroDivisionError" in caplog.text


# -- the app


async def test_several_groups_are_asked_by_name(start_node: NodeFactory) -> None:
    node = await start_node("a")
    scores, names = CacheGroup(node, "scores", load), CacheGroup(node, "names", lambda key: f"name of {key}")
    async with serve(cache_app(scores, names)) as client:
        assert error_of(await client.get("/api?key=text")) == (404, "unknown-group")
        assert (await client.get("/api/scores?key=text")).text == "grüße"
        assert (await client.get("/api/names?key=text")).text == "name of text"
        assert (await client.get("/_geecache/names/a%2Fb")).text == "name of a/b"


@asynccontextmanager
async def mounted(front: Front, *prefixes: str) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = cache_app(front[0])
    for prefix in reversed(prefixes):
        app = Starlette(routes=[Mount(prefix, app=app)])
    async with serve(app) as client:
        yield client


@pytest.mark.parametrize(
    ("prefixes", "written"),
    [
        (("/cache",), "/cache"),
        (("/a/b",), "/a/b"),
        (("/outer", "/inner"), "/outer/inner"),
        (("/with space",), "/with%20space"),
        (("/grüße",), quote("/grüße")),
        (("/api",), "/api"),
        (("/{tenant}",), "/any%2Fone"),
    ],
)
async def test_it_can_be_mounted_under_any_prefix(front: Front, prefixes: tuple[str, ...], written: str) -> None:
    if "{" in prefixes[0]:
        prefixes = ("/{tenant:path}/x",)
        written += "/x"
    async with mounted(front, *prefixes) as client:
        assert await say(client, f"{written}/api?key=echo:a%2Fb") == (200, "a/b")
        assert await say(client, f"{written}/_geecache/scores/echo:a%2Fb+c%25") == (200, "a/b+c%")
        assert (await say(client, f"{written}/nothing"))[0] == 404


async def test_behind_a_proxy_that_takes_a_prefix_away_or_leaves_it(front: Front) -> None:
    app = cache_app(front[0])
    for root in ("/pre/fix", "/pre/fix/"):
        transport = httpx.ASGITransport(app, root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
            for prefix in ("", "/pre/fix"):
                assert (await client.get(f"{prefix}/api?key=echo:x")).text == "x"
                assert (await client.get(f"{prefix}/_geecache/scores/echo:a%2Fb")).text == "a/b"


async def test_a_server_that_gives_no_raw_path(front: Front) -> None:
    app = cache_app(front[0])

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        del scope["raw_path"]
        await app(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(bare), base_url="http://any") as client:
        for key in ("a/b", "100%", "grüße"):
            assert (await client.get(f"/_geecache/scores/{quote(f'echo:{key}', safe='')}")).text == key


async def test_what_no_app_can_be_made_of(start_node: NodeFactory) -> None:
    with pytest.raises(ConfigError, match="needs a CacheGroup"):
        cache_app()
    a, b = await start_node("a"), await start_node("b")
    groups = CacheGroup(a, "scores", load), CacheGroup(b, "scores", load)
    with pytest.raises(ConfigError, match="two groups of one name"):
        cache_app(*groups)
    for timeout in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="timeout is"):
            cache_app(groups[0], timeout=timeout)


async def test_a_websocket_is_closed(front: Front) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/api", "raw_path": b"/api", "query_string": b"", "headers": []}
    await cache_app(front[0])(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_without_the_extra_the_import_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['starlette'] = None; import clusterkit; clusterkit.CacheGroup; clusterkit.cache_app"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr.strip().splitlines()[-1] == (
        'ModuleNotFoundError: the HTTP front of a cache needs starlette: pip install "clusterkit[web]"'
    )
