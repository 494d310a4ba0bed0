"""Where a message goes."""

from dataclasses import dataclass

from clusterkit.core.identity import NodeId


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """A node, and a name or a serial on it.

    ``node`` None is this node. ``pinned`` means this very incarnation of it. Two are equal that mean the
    same: however much of the node each knows, its name says which it is.
    """

    node: NodeId | None
    to: str | int
    pinned: bool = False

    @property
    def key(self) -> tuple[str | None, int, str | int]:
        """What it means: the node's name, its incarnation if that matters, and whom there."""
        if self.node is None:
            return None, 0, self.to
        return self.node.name, self.node.incarnation if self.pinned else 0, self.to

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        server = self.to if isinstance(self.to, str) else f"#{self.to}"
        return f"{server} on {self.node.name}" if self.node else str(server)
