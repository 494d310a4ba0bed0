"""To follow a node: ask it again and again over one connection, which is made anew when it breaks.

Rules: nothing is passed over in silence. A connection that is lost, one that is back, a
node that was restarted and events that were missed are told as events are, and in order. Only
the first connection may fail for good, and then as a question does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from clusterkit.cli.failure import Exit, Failure, no_answer, not_found, of_answer, of_question
from clusterkit.config import Config
from clusterkit.core.identity import NodeId, format_host_port
from clusterkit.errors import ClusterError, RemoteError, UnknownNode
from clusterkit.runtime import now, wall_time
from clusterkit.services.client import Client

T = TypeVar("T")
Event = Mapping[str, Any]

DISCONNECTED = "Disconnected"
CONNECTED = "Connected"
MISSED = "Missed"

_WAIT = 4.0  # seconds that the node holds a question for events open
_LOST = (Exit.UNREACHABLE, Exit.TIMEOUT)  # a connection that is made anew
_FIRST, _MOST = 0.1, 2.0  # seconds between two tries to connect: the first, and the most


class Wire:
    """An open way to one node's command server: connected at the first call, and again after a call that failed.

    ``given`` is what a `Client` takes; with ``through`` each question goes on to the member of that name.
    """

    def __init__(self, given: Mapping[str, Any], timeout: float, through: str | None = None) -> None:
        self.timeout = timeout
        self.peer: NodeId | None = None
        """Who answered last."""

        later = timeout + 1.0  # the time given is kept here
        config = Config(connect_timeout=later, handshake_timeout=max(later, Config.default().handshake_timeout))
        self._given = {"config": config} | dict(given)
        self._through = through
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    @property
    def where(self) -> str:
        """The address that is dialled."""
        return format_host_port(self._given["host"], self._given["port"])

    async def call(self, command: str, *args: Any, wait: float = 0.0) -> Any:
        """Ask; ``wait`` is what the node may take for it beside the time given. Raises `Failure`."""
        timeout = self.timeout + wait
        try:
            async with self._opening:
                client = self._client or await self._open()
        except (OSError, ClusterError) as error:
            raise of_question(error, self.where, self.timeout) from error
        try:
            if self._through is None:
                return await client.call(command, *args, timeout=timeout)
            return await client.call("through", self._through, command, list(args), timeout, timeout=timeout)
        except Exception as error:  # what the other side raised arrives with its type
            failure = self._failure(error, client, timeout)
            if failure.exit_code in _LOST:
                await self.aclose()
            raise failure from error

    def _failure(self, error: Exception, client: Client, timeout: float) -> Failure:
        name = self._through or client.peer.name
        if isinstance(error, UnknownNode):
            return not_found(error, name=client.peer.name, sought=[name], known=[])
        if not isinstance(error, OSError | ClusterError):
            error = RemoteError(type(error).__name__, str(error))
        return of_answer(error, name, self.where, timeout)

    async def _open(self) -> Client:
        async with AsyncExitStack() as undo:
            try:
                async with asyncio.timeout(self.timeout):
                    client = await undo.enter_async_context(Client(**self._given))
            except TimeoutError:
                raise no_answer(self.where, self.timeout) from None
            undo.pop_all()
        self._client, self.peer = client, client.peer
        return client

    async def aclose(self, timeout: float = 0.0) -> None:
        """Close the connection; the next call makes another."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose(timeout)


async def follow(
    wire: Wire, told: Callable[[Event], object], seen: tuple[Mapping[str, Any], int] | None = None
) -> None:
    """Call ``told`` with each event of a node, for ever: from now on, or after what was ``seen`` of which run of it.

    Without ``seen`` it raises `Failure` when the node is not reached at first.
    """
    if seen is None:
        seen = await wire.call("ping"), (await wire.call("events", None, 0.0))["cursor"]
        told(_of_connection(CONNECTED, seen[0], restarted=False))
    run, cursor = seen
    while True:
        try:
            page = await wire.call("events", cursor, _WAIT, wait=_WAIT)
        except Failure as failure:
            told(_of_connection(DISCONNECTED, run, why=failure.message))
            before, run = run, await _back(wire)
            told(_of_connection(CONNECTED, run, restarted=run["incarnation"] != before["incarnation"]))
            continue
        cursor = page["cursor"]
        if missed := page["missed"]:
            told({"at": wall_time(), "type": MISSED, "missed": missed if missed > 0 else None})
        for event in page["events"]:
            told(event)


async def recent(call: Callable[..., Awaitable[Any]]) -> tuple[list[Event], int]:
    """All events that a node has kept, as ``call`` asks it, and the cursor behind them."""
    found: list[Event] = []
    page = await call("events", 0, 0.0)
    while page["events"]:
        found += page["events"]
        page = await call("events", page["cursor"], 0.0)
    return found, page["cursor"]


async def _back(wire: Wire) -> Mapping[str, Any]:
    """Try until the node answers, and say who did."""
    pause = _FIRST
    while True:
        start = now()
        try:
            run: Mapping[str, Any] = await wire.call("ping")
            return run
        except Failure:
            await asyncio.sleep(max(0.0, pause - (now() - start)))
            pause = min(_MOST, pause * 2)


def _of_connection(kind: str, run: Mapping[str, Any], **more: Any) -> Event:
    return {"at": wall_time(), "type": kind, "node": run["name"], "incarnation": run["incarnation"]} | more


def run_following(work: Coroutine[Any, Any, T]) -> T:
    """Run what follows a node to its end. After a timeout the loop stays open: a name may resolve in a thread."""
    runner = asyncio.Runner()
    try:
        outcome = runner.run(work)
    except Failure as failure:
        if failure.exit_code is not Exit.TIMEOUT:
            runner.close()
        raise
    except BaseException:
        runner.close()
        raise
    runner.close()
    return outcome


async def closing(wire: Wire, work: Awaitable[T]) -> T:
    """Await ``work``, then close the wire, which says goodbye if the work ended well."""
    try:
        outcome = await work
    except BaseException:
        await wire.aclose()
        raise
    await wire.aclose(0.5)
    return outcome
