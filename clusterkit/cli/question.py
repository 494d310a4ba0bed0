"""Questions to a running node: a client, a call or a few, an answer within the time given."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from clusterkit.cli.failure import Failure, no_answer, not_found, not_in_ring, of_answer, of_question
from clusterkit.config import Config
from clusterkit.core.identity import format_host_port
from clusterkit.errors import ClusterError, RemoteError, UnknownNode, UsageError
from clusterkit.runtime import Tasks, now, until
from clusterkit.services.client import Client
from clusterkit.transport.tls import TLS

_LEAST = 0.05  # seconds that a question is given, however late it is
_THERE = 0.9  # of the time that is left, for the member behind the one that is addressed
_FOR_A_HINT = 0.3  # of it, for each question that only makes an error clearer
_CLOSING = 0.2  # seconds for a question that took too long to let go of its connection


@dataclass(frozen=True, slots=True)
class Target:
    """The node to ask, and how long it may take; ``instance`` is its name if one was given, ``through`` the member meant."""

    host: str
    port: int
    cookie: bytes
    timeout: float
    instance: str | None = None
    tls: TLS | None = None
    through: str | None = None

    @property
    def where(self) -> str:
        """The address, as people write it."""
        return format_host_port(self.host, self.port)


class Asked:
    """The node that a question is put to: the one addressed, or another member through it."""

    def __init__(self, client: Client, target: Target, end: float) -> None:
        self._client = client
        self._through = target.through
        self._end = end
        self.sought: list[str] = []
        """The texts that were asked for last: one of them may be a name that is not known."""

    @property
    def name(self) -> str:
        """The node that answers."""
        return self._through or self._client.peer.name

    @property
    def left(self) -> float:
        """Seconds until the time given is up."""
        return max(0.0, self._end - now())

    async def call(self, command: str, *args: Any) -> Any:
        """Ask its command server; raises what that raised."""
        self.sought = [
            each for arg in args for each in (arg if isinstance(arg, list) else [arg]) if isinstance(each, str)
        ]
        left = max(_LEAST, self.left)
        if self._through is None:
            return await self._ask(command, args, left)
        self.sought.append(self._through)
        return await self._ask("through", (self._through, command, list(args), left * _THERE), left)

    async def _ask(self, command: str, args: Sequence[Any], timeout: float) -> Any:
        try:
            return await self._client.call(command, *args, timeout=timeout)
        except (OSError, ClusterError):
            raise
        except Exception as error:  # what the other side raised arrives with its type
            told = RemoteError(type(error).__name__, str(error))
            told.add_note("raised by the node")
            raise told from error

    # -- for a hint, in a part of the time that is left

    async def known(self) -> tuple[str, list[str]]:
        """Tell who knows which members: the node that does not know the one to ask, else that one."""
        name, names = self._client.peer.name, await self._names(self._client.call)
        if self._through in names:
            return self.name, await self._names(self.call)
        return name, names

    async def _names(self, call: Callable[..., Awaitable[Any]]) -> list[str]:
        return [each["name"] for each in await self._briefly(call("nodes")) or ()]

    async def is_in_ring(self) -> bool:
        """Tell whether it is in a ring; if it does not say, it is."""
        told = await self._briefly(self.call("ping"))
        return told is None or bool(told["ring"])

    async def _briefly(self, answer: Awaitable[Any]) -> Any:
        with suppress(TimeoutError, OSError, ClusterError):
            return await until(now() + self.left * _FOR_A_HINT, answer)
        return None


Question = Callable[[Asked], Awaitable[Any]]
Told = tuple[Any, Failure | None]


class _TimeIsUp(Exception):
    """The answer did not come."""


def ask(target: Target, question: Question) -> Any:
    """Ask a node; raises `Failure`, soon after ``target.timeout`` seconds at the latest."""
    runner = asyncio.Runner()
    try:
        answer = runner.run(_within(target, question))
    except _TimeIsUp:  # closing the runner would wait for a name that resolves in a thread
        loop = runner.get_loop()
        if not asyncio.all_tasks(loop):
            loop.close()
        raise no_answer(target.where, target.timeout) from None
    except BaseException:
        runner.close()
        raise
    runner.close()
    return answer


async def _within(target: Target, question: Question) -> Any:
    told: list[Told] = []
    task = Tasks("cli", logged=False).spawn(_tell(target, question, told), "question")
    done, _ = await asyncio.wait({task}, timeout=target.timeout)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=_CLOSING)
    if done and not told:
        task.result()
    if not told:
        raise _TimeIsUp
    answer, failure = told[0]
    if failure is not None:
        raise failure
    return answer


async def _tell(target: Target, question: Question, told: list[Told]) -> None:
    """Ask, and note what came of it before the goodbye, for which a node that hangs takes its time."""
    end, later = now() + target.timeout, target.timeout + 1.0
    config = Config(connect_timeout=later, handshake_timeout=max(later, Config.default().handshake_timeout))
    try:
        async with Client(
            target.host, target.port, cookie=target.cookie, tls=target.tls, config=config, expect=target.instance
        ) as client:
            told.append(await _put(Asked(client, target, end), question, target))
    except (OSError, ClusterError) as error:
        told.append((None, _from(error, of_question(error, target.where, target.timeout))))


async def _put(asked: Asked, question: Question, target: Target) -> Told:
    """Put the question over an open connection; tell how it failed, if it did."""
    try:
        return await question(asked), None
    except Failure as failure:
        return None, failure
    except UnknownNode as error:
        sought, (name, known) = asked.sought, await asked.known()
        return None, _from(error, not_found(error, name, sought, known))
    except UsageError as error:
        told = of_answer(error, asked.name, target.where, target.timeout)
        return None, _from(error, told if await asked.is_in_ring() else not_in_ring(asked.name))
    except (OSError, ClusterError) as error:
        return None, _from(error, of_answer(error, asked.name, target.where, target.timeout))


def _from(error: Exception, failure: Failure) -> Failure:
    failure.__cause__ = error
    return failure
