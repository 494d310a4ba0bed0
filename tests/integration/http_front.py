"""What tests of the cache's HTTP front share: a loader, an app behind a real socket, and requests byte by byte."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from clusterkit.cli.http import HttpServer
from clusterkit.errors import NodeDown

VALUES: dict[str, Any] = {
    "bytes": b"\x00\xff",
    "text": "grüße",
    "number": 7,
    "none": None,
    "list": [1, 2.5, {"ключ": "\n"}],
    "nested bytes": {"image": b"\x00"},
    "not a number": [float("nan")],
    "time": {"at": datetime(2026, 1, 2, tzinfo=UTC)},
}


async def load(key: str) -> Any:
    """Give what is in VALUES; or as the key says."""
    if key in VALUES:
        return VALUES[key]
    word, _, rest = key.partition(":")
    match word:
        case "echo":
            return rest
        case "size":
            return bytes(int(rest))
        case "hangs":
            print("it hangs", flush=True)
            await asyncio.get_running_loop().create_future()
        case "fails":
            raise ValueError("postgres://user:password@host")
        case "down":
            raise NodeDown("password", node="elsewhere")
        case "odd":
            return object()
    raise KeyError(key)


def block(key: str) -> Any:
    """Never end, in a thread."""
    print("it blocks", flush=True)
    threading.Event().wait()


@asynccontextmanager
async def serve(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an app; the client asks it, over TCP."""
    server = HttpServer(app, "127.0.0.1", 0)
    port = await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        await server.aclose()


async def say(client: httpx.AsyncClient, target: str) -> tuple[int, str]:
    """Ask for a target as it is written, which a library would escape; return the status and the body."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    return int(head.split()[1]), body.decode()
