"""The seam between links and the network: three protocols and their laws.

`clusterkit.transport.tcp` keeps them over asyncio streams; the simulation keeps
them in memory. Nothing above the transport floor sees either.
"""

from collections.abc import Callable
from typing import Protocol


class Stream(Protocol):
    """A connection: bytes both ways, in order, until one end closes.

    Laws. Bytes flow once `established` has returned; before that only `remote`, `abort` and `aclose`
    may be used. What was written before `aclose` is sent before the end of the stream.
    A lost connection shows as `OSError` (often `ConnectionError`) or as the end of the stream, and
    never as wrong bytes. `write` never blocks and never raises for a lost connection.
    """

    @property
    def remote(self) -> str:
        """The host that the other end dials from or listens on."""

    @property
    def names(self) -> frozenset[str] | None:
        """The names that the other end's certificate carries, as written there; None: there is nothing to check.

        Known once `established` has returned.
        """

    @property
    def unsent(self) -> int:
        """Bytes written here and not yet taken by the network."""

    async def established(self) -> None:
        """Wait until bytes can flow: over TLS until its handshake is done. Returns at once on a stream we opened.

        To be awaited once on one that was accepted. Raises `OSError` (`ssl.SSLError` is one); the caller
        bounds the wait: cancelled, it aborts.
        """

    async def proven(self) -> None:
        """Take note that the other end proved itself: from now on it may be read ahead of `read`.

        Until then an accepted stream takes from the network no more than is asked for. Raises
        `OSError` when it is lost meanwhile.
        """

    async def read(self, size: int) -> bytes:
        """At least one byte and at most ``size``; ``b""`` at the end of the stream."""

    def write(self, data: bytes) -> None:
        """Take bytes for sending, in order."""

    async def drain(self) -> None:
        """Wait until few bytes are unsent; raises `OSError` when the connection is lost."""

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes too. May be called at any time and twice."""

    async def aclose(self) -> None:
        """Send what is unsent, then the end of the stream, and release all; never raises for a lost connection.

        The caller bounds it: cancelled, it aborts.
        """


class Listener(Protocol):
    """A bound address that accepts connections."""

    @property
    def port(self) -> int:
        """The port that was bound, for one asked for as 0."""

    @property
    def pauses(self) -> int:
        """How often accepting has waited because descriptors or buffers had run out."""

    async def aclose(self) -> None:
        """Stop accepting. Streams that were accepted live on."""


class Network(Protocol):
    """Where streams come from."""

    async def connect(self, host: str, port: int) -> Stream:
        """Open a connection; raises `OSError` when it is refused. The caller bounds the wait."""

    async def listen(self, host: str, port: int, accepted: Callable[[Stream], None]) -> Listener:
        """Bind, and hand each connection that comes to ``accepted``; raises `OSError`."""
