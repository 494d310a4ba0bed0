"""Questions to a running node: a client, one call, an answer within the time given."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from clusterkit.cli.failure import no_answer, of_question
from clusterkit.config import Config
from clusterkit.core.identity import format_host_port
from clusterkit.errors import ClusterError, RemoteError
from clusterkit.runtime import Tasks, now
from clusterkit.services.client import Client
from clusterkit.transport.tls import TLS


@dataclass(frozen=True, slots=True)
class Target:
    """The node to ask, and how long it may take; ``instance`` is its name if one was given."""

    host: str
    port: int
    cookie: bytes
    timeout: float
    instance: str | None = None
    tls: TLS | None = None

    @property
    def where(self) -> str:
        """The address, as people write it."""
        return format_host_port(self.host, self.port)


class _TimeIsUp(Exception):
    """The answer did not come; what waits for it is still there, and is not waited for."""


def ask(target: Target, question: Callable[[Client, float], Awaitable[Any]]) -> Any:
    """Ask a node; raises `Failure`, after ``target.timeout`` seconds at the latest."""
    runner = asyncio.Runner()
    try:
        answer = runner.run(_within(target, question))
    except _TimeIsUp:  # the runner stays open: closing it may wait for a name that resolves in a thread
        raise no_answer(target.where, target.timeout) from None
    except BaseException:
        runner.close()
        raise
    runner.close()
    return answer


async def _within(target: Target, question: Callable[[Client, float], Awaitable[Any]]) -> Any:
    task = Tasks("cli").spawn(_outcome(target, question), "question")
    done, _ = await asyncio.wait({task}, timeout=target.timeout)
    if not done:
        raise _TimeIsUp
    answer, error = task.result()
    if error is not None:
        raise of_question(error, target.where, target.timeout) from error
    return answer


async def _outcome(
    target: Target, question: Callable[[Client, float], Awaitable[Any]]
) -> tuple[Any, OSError | ClusterError | None]:
    later = target.timeout + 1.0  # the time given is kept above
    config = Config(connect_timeout=later, handshake_timeout=max(later, Config.default().handshake_timeout))
    try:
        async with Client(
            target.host, target.port, cookie=target.cookie, tls=target.tls, config=config, expect=target.instance
        ) as client:
            return await question(client, later), None
    except (OSError, ClusterError) as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - what the other side raised arrives with its type
        told = RemoteError(type(error).__name__, str(error))
        told.__cause__ = error
        return None, told


async def ping(client: Client, timeout: float) -> dict[str, Any]:
    """Ask who answers, and how fast."""
    start = now()
    answer = await client.call("ping", timeout=timeout)
    return _addressed(answer) | {"seconds": now() - start}


async def members(client: Client, timeout: float) -> list[dict[str, Any]]:
    """Ask whom it knows."""
    me = client.peer.name
    return [_addressed(each) | {"self": each["name"] == me} for each in await client.call("members", timeout=timeout)]


def _addressed(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"address": format_host_port(answer["host"], answer["port"])}
