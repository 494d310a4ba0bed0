"""Where a message goes, and what is said of one that reached nobody."""

from dataclasses import dataclass

from clusterkit.core.identity import NodeId
from clusterkit.errors import Executed


@dataclass(frozen=True, slots=True)
class Address:
    """A node, and a name or a serial on it.

    ``node`` None is this node. ``pinned`` means this very incarnation of it.
    """

    node: NodeId | None
    to: str | int
    pinned: bool = False

    def __str__(self) -> str:
        server = self.to if isinstance(self.to, str) else f"#{self.to}"
        return f"{server} on {self.node.name}" if self.node else str(server)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that reached nobody: where it was going, and why it did not arrive.

    ``executed`` is "maybe" for one that was written to a connection that then ended.
    """

    node: NodeId
    target: str
    reason: str
    executed: Executed
