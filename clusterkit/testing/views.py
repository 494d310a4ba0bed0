"""Do the nodes of a cluster agree: who is in the ring, and who is alive.

All three kinds of cluster ask this when they wait for calm.
"""

from collections.abc import Iterable

from clusterkit.node import Node

View = tuple[str, ...]


def view(node: Node) -> View:
    """What a node believes of all members, one line for each."""
    return tuple(
        f"{each.node}/{each.node.incarnation} {each.state} {'ready' if each.ready else 'not ready'} x{each.weight}"
        for each in node.ring.members
    )


def filled_mailboxes(node: Node) -> list[str]:
    """The actors of a node that have letters waiting."""
    boxes = [process.mailbox for process in node._processes.values()]  # noqa: SLF001 - Node shows no mailboxes
    return [box.shown for box in boxes if len(box)]


def unacknowledged(node: Node) -> list[str]:
    """The peers that have not acknowledged all that a node has for them; what keeps the ring does not count."""
    links = node._open_kernel().links  # noqa: SLF001 - Node shows no links
    return [link.peer.name for link in links if len(link.session)]


def disagreement(nodes: Iterable[Node]) -> str | None:
    """Say how the views of ``nodes`` differ, or which of them is not alive to the others; None when they agree."""
    views = {node.id.name: view(node) for node in nodes}
    if len(set(views.values())) > 1:
        return "\n".join(f"{name} sees {', '.join(seen)}" for name, seen in views.items())
    for node in nodes:
        me = f"{node.id}/{node.id.incarnation} alive"
        if views and not any(line.startswith(me) for line in next(iter(views.values()))):
            return f"nobody sees {me}"
    return None
