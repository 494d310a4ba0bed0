"""`isolated`: one actor alone, called as another node would call it.

::

    async with isolated(Account("ada", 10)) as ref:
        assert await ref.call(Account.withdraw, 4) == 6

No cluster, no socket, no port. Payloads are packed and unpacked on their way to the
actor and back (`clusterkit.testing.remote_payloads`), so what could not cross the wire
fails here already. It works on a real loop and in a simulation.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.ref import Ref
from clusterkit.config import Config
from clusterkit.node import Node
from clusterkit.testing.remote_payloads import look_remote
from clusterkit.transport.base import Listener, Stream

A = TypeVar("A", bound=GenServer)
_ADDRESS = "isolated@127.0.0.1:7022"
_COOKIE = "the cookie of an isolated actor"


@contextlib.asynccontextmanager
async def isolated(actor: A, *, name: str | None = None, config: Config | None = None) -> AsyncIterator[Ref[A]]:
    """Start ``actor`` on a node of its own that no other can reach; stop it at the end.

    Raises what its ``init`` raises. To the actor ``self.node`` is a node in no ring.
    """
    async with Node(_ADDRESS, cookie=_COOKIE, config=config, network=_Nowhere()) as node:
        look_remote(node)
        yield await node.start(actor, name=name)


class _Nowhere:
    """A `clusterkit.transport.base.Network` on which there is nobody else."""

    async def connect(self, host: str, port: int) -> Stream:
        raise ConnectionRefusedError(f"an isolated actor reaches nobody, nor {host}:{port}")

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:  # noqa: ARG002
        return _Deaf(port)


class _Deaf:
    """A `clusterkit.transport.base.Listener` to which nobody comes."""

    pauses = 0

    def __init__(self, port: int) -> None:
        self.port = port

    async def aclose(self) -> None:
        """Nothing was bound."""
