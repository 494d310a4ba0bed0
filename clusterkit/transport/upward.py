"""What the transport floor tells the floor above: one callback object, given at construction."""

from typing import TYPE_CHECKING, Any, Protocol

from clusterkit.core.channel import Reason
from clusterkit.core.identity import NodeId
from clusterkit.core.session import Outgoing
from clusterkit.errors import ClusterError, JoinError

if TYPE_CHECKING:
    from clusterkit.transport.link import Link


class Upward(Protocol):
    """What the floor above is told."""

    def delivered(self, link: "Link", messages: list[Any]) -> None:
        """Messages came, in order. Raises `ProtocolError` for one that is none."""

    def opened(self, link: "Link") -> None:
        """A connection opened, whoever dialled."""

    def closed(self, link: "Link", why: str, lost: int) -> None:
        """The open connection ended, or a session without one; ``lost`` written messages are in doubt."""

    def session_ended(self, link: "Link", written: list[Outgoing], queued: list[Outgoing], why: str) -> None:
        """The session ended: what was written is in doubt, what was queued was never sent."""

    def too_large(self, link: "Link", messages: list[Outgoing]) -> None:
        """Queued messages are over what the peer takes; they were taken back."""

    def down(self, link: "Link", why: str) -> None:
        """The peer cannot be reached."""

    def parted(self, link: "Link", reason: Reason) -> None:
        """The peer said goodbye."""

    def unreached(self, link: "Link", dialled: NodeId, error: OSError | ClusterError) -> None:
        """A dial of a peer that the ring judges ended without a link."""

    def refused(self, link: "Link", error: JoinError) -> None:
        """The peer will not have us, and trying again will not help."""
