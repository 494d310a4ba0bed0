"""The HTTP server in the node's loop: what it leaves alone, and that it ends."""

import asyncio
import signal
import socket
from typing import Any

import httpx
import pytest

from clusterkit.cli.http import HttpServer
from clusterkit.errors import ListenError


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


class Hanging:
    """An app that answers when told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.told = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.set()
        await self.told.wait()
        await answer(scope, receive, send)


async def test_signals_stay_as_they_are() -> None:
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    server = HttpServer(answer, "127.0.0.1", 0)
    await server.start()
    try:
        assert {which: signal.getsignal(which) for which in before} == before
    finally:
        await server.aclose()
    assert {which: signal.getsignal(which) for which in before} == before


async def test_every_address_of_a_name_has_one_port() -> None:
    server = HttpServer(answer, "localhost", 0)
    port = await server.start()
    try:
        bound = [sock.getsockname()[:2] for listener in server.servers for sock in listener.sockets]
        assert {"127.0.0.1"} <= {host for host, _ in bound} <= {"127.0.0.1", "::1"}
        assert {each for _, each in bound} == {port}
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://localhost:{port}/")).status_code == 204
    finally:
        await server.aclose()


async def test_small_answers_are_not_held_back() -> None:
    server = HttpServer(answer, "127.0.0.1", 0)
    port = await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        (connection,) = server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()
    finally:
        await server.aclose()


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "cannot assign requested address"), ("no.such.host.invalid", "")],
)
async def test_a_place_that_cannot_be_had_is_a_listen_error(host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=f"cannot serve HTTP on {host}:0: {reason}"):
        await HttpServer(answer, host, 0).start()


async def test_a_port_in_use_is_a_listen_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"cannot serve HTTP on 127.0.0.1:{port}: address already in use"):
            await HttpServer(answer, "127.0.0.1", port).start()


async def test_a_request_that_ends_within_the_grace_is_answered() -> None:
    app = Hanging()
    server = HttpServer(app, "127.0.0.1", 0)
    port = await server.start()
    try:
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await app.asked.wait()
            stopping = tasks.create_task(server.stop(5.0))
            app.told.set()
            assert (await waiting).status_code == 204
            await stopping
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/")
    finally:
        await server.aclose()


async def test_one_that_does_not_is_cancelled() -> None:
    app = Hanging()
    server = HttpServer(app, "127.0.0.1", 0)
    port = await server.start()
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(10):
        waiting = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await app.asked.wait()
        await server.stop(0.0)
        await server.aclose()
        assert not server.server_state.tasks
        assert (await waiting).status_code == 500
