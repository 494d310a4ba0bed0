"""Where a message goes."""

from dataclasses import dataclass

from clusterkit.core.identity import NodeId


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
