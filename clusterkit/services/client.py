"""A client: reaches the command server of one node, and is no member of anything.

It proves the cookie as a node does, in the role of a client. The command line is
made of it; programs outside a cluster may use it too.
"""

from typing import Any, Self

from clusterkit.config import Config
from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.proof import Party, Role, prepare_cookies
from clusterkit.errors import ConfigError, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.events import LinkUp
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.kernel.kernel import Kernel, new_incarnation
from clusterkit.runtime import entropy, now
from clusterkit.transport.base import Network
from clusterkit.transport.tcp import TcpNetwork
from clusterkit.transport.tls import TLS


class Client:
    """One connection to one node, as an async context manager.

    Entering raises `OSError` when nobody listens there (`ssl.SSLError`: TLS failed), or the
    `JoinError` that says why the node will not talk (`AuthFailed`: another cookie). With ``tls``
    this side shows a certificate too, for any name or none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        cookie: str | bytes,
        tls: TLS | None = None,
        config: Config | None = None,
        network: Network | None = None,
        expect: str | None = None,
    ) -> None:
        if tls is not None and network is not None:
            raise ConfigError("tls and network are both given: a network has its own way to TLS")
        self._where = (host, port)
        self._keys = prepare_cookies(cookie)
        self._config = config or Config()
        self._network = network or TcpNetwork(tls)
        self._expect = expect
        self._kernel: Kernel | None = None
        self._peer: NodeId | None = None

    async def __aenter__(self) -> Self:
        if self._kernel is not None:
            raise UsageError("a Client is entered once: make another")
        boot = new_incarnation()
        me = NodeId(f"cli-{entropy(6).hex()}", "client", 0, boot)
        self._kernel = Kernel(me, Party(me.name, boot, role=Role.CLIENT), self._keys, self._network, self._config)
        self._kernel.events.on(LinkUp, self._keep)
        try:
            link = await self._kernel.links.dial_seed(*self._where, self._expect)
        except BaseException:
            await self.aclose()
            raise
        self._peer = link.peer
        return self

    def _keep(self, up: LinkUp) -> None:
        """From now on a connection that breaks is made anew: no answer is lost."""
        assert self._kernel is not None
        self._kernel.links.link_to(up.peer)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.aclose(1.0 if kind is None else 0.0)

    async def aclose(self, timeout: float = 1.0) -> None:
        """Say goodbye, in at most ``timeout`` seconds. May be called twice."""
        if self._kernel is not None and not self._kernel.closed:
            await self._kernel.aclose(Reason.STOP, now() + timeout)

    @property
    def peer(self) -> NodeId:
        """The node that answers."""
        if self._peer is None:
            raise UsageError("a Client is used inside `async with`")
        return self._peer

    async def call(self, command: str, *args: Any, timeout: float = 5.0) -> Any:
        """Ask the node's command server; raises as ``Ref.call`` does."""
        if self._kernel is None:
            raise UsageError("a Client is used inside `async with`")
        return await self._kernel.call(Address(self.peer, COMMAND_SERVER), command, args, {}, timeout)
