"""``clusterkit cache serve``: a node that holds cache groups, and answers for them over HTTP if asked to.

It is `clusterkit start` with a program of its own. Rules: what was typed is checked before
the node starts; it ends within two seconds of its signal, whatever a request or a loader
waits for: those who wait are told that it closes.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clusterkit.cli.failure import Exit, Failure, of_start, usage
from clusterkit.cli.start import App, find_function, say
from clusterkit.config import Config
from clusterkit.core.identity import check_name, format_host_port, parse_host_port
from clusterkit.errors import ClusterError
from clusterkit.node import Node
from clusterkit.runtime import now, until
from clusterkit.services.cache import CacheGroup
from clusterkit.services.cache_loads import Loader

if TYPE_CHECKING:
    from clusterkit.cli.http import HttpServer

CONFIG = Config(drain_timeout=0.5)  # when the groups are closed nothing is left to drain but what is on its way
AT_MOST = 1.5  # seconds from the signal to the end: a loader that hangs in a thread is not waited for
_CLOSING = 0.6  # seconds for the groups to close, and before that
_GRACE = 0.3  # seconds of them for requests to end by themselves


@dataclass(frozen=True, slots=True)
class Serving:
    """What to serve: loaders by the group's name, and how all groups keep what is loaded."""

    loaders: dict[str, Loader | None]
    http: tuple[str, int] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def app(self) -> App:
        """What the node runs once it has joined."""
        return self._run

    async def _run(self, node: Node) -> None:
        try:
            groups = [CacheGroup(node, name, loader, **self.options) for name, loader in self.loaders.items()]
            say(f"caches {', '.join(group.name for group in groups)}")
            server = await self._listen(groups)
        except ClusterError as error:
            raise of_start(error) from error
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await _close(groups, server)

    async def _listen(self, groups: Sequence[CacheGroup]) -> "HttpServer | None":
        if self.http is None:
            return None
        from clusterkit.cli.http import HttpServer  # noqa: PLC0415 - the extra may be missing, and is not needed without --http
        from clusterkit.services.cache_web import cache_app  # noqa: PLC0415

        host, port = self.http
        server = HttpServer(cache_app(*groups), host, port)
        port = await server.start()
        say(f"answers HTTP on http://{format_host_port(host, port)}")
        return server


async def _close(groups: Sequence[CacheGroup], server: "HttpServer | None") -> None:
    """End the requests that can end, hand over what others will own, and tell those that still wait that nothing comes."""
    end = now() + _CLOSING
    if server is not None:
        await server.stop(_GRACE)
    with suppress(TimeoutError):
        await until(end, asyncio.gather(*(group.aclose() for group in groups)))
    if server is not None:
        await server.aclose()


# -- what was typed


def read_groups(given: Sequence[str], *, own: bool) -> dict[str, Loader | None]:
    """Read ``NAME=MODULE:LOADER`` of each ``--group``; raises `Failure`."""
    loaders: dict[str, Loader | None] = {}
    for text in given:
        name, equals, where = text.partition("=")
        if own and not equals:
            hint = "a node that only asks the others needs no loader: --no-own"
            raise usage(f"--group {text}: it must be NAME=MODULE:LOADER", hint)
        if name in loaders:
            raise usage(f"--group {name} is given twice")
        try:
            check_name(name, "cache group")
        except ClusterError as error:
            raise usage(f"--group {text}: {error}") from None
        loaders[name] = find_function("--group", where, "scores=my_module:load") if equals else None
        if equals and not callable(loaders[name]):
            raise usage(f"--group {text}: it must be a function that takes a key, not {loaders[name]!r}")
    return loaders


def read_http(text: str | None) -> tuple[str, int] | None:
    """Read ``HOST:PORT`` of ``--http``, and see that what it needs is installed; raises `Failure`."""
    if text is None:
        return None
    try:
        address = parse_host_port(text)
    except ClusterError as error:
        raise usage(f"--http {text}: {error}", "for instance 127.0.0.1:8080; port 0 takes a free one") from None
    try:
        import starlette  # noqa: F401, PLC0415 - the extra may be missing
        import uvicorn  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        message = f"--http needs {error.name}, of the [web] extra"
        raise Failure(Exit.REFUSED, "extra", message, 'pip install "clusterkit[web]"') from None
    return address
