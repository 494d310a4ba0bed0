"""Commands about the cache groups of this node: found by their actors, which have reserved names.

A node without a cache loads none of it: its modules are imported when there is a group.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clusterkit.actors.process import Process
from clusterkit.errors import NoSuchServer
from clusterkit.kernel.kernel import Kernel

if TYPE_CHECKING:
    from clusterkit.node import Node
    from clusterkit.services.cache import CacheGroup

_PREFIX = "clusterkit.cache."


def find_groups(node: "Node", kernel: Kernel) -> dict[str, "CacheGroup"]:
    """The groups that this node takes part in, by name."""
    names = [each.name for each in node.inspect() if each.name is not None and each.name.startswith(_PREFIX)]
    found = [group for name in names if (group := _group(kernel, name)) is not None]
    return {group.name: group for group in sorted(found, key=lambda group: group.name)}


def _group(kernel: Kernel, name: str) -> "CacheGroup | None":
    from clusterkit.services.cache import CacheGroup  # noqa: PLC0415 - most nodes have none
    from clusterkit.services.cache_server import CacheServer  # noqa: PLC0415

    inbox = kernel.find(name)
    process = inbox.holder if inbox is not None else None
    actor = process.actor if isinstance(process, Process) else None
    host = actor._host if isinstance(actor, CacheServer) else None  # noqa: SLF001 - the actor is the group's own part
    return host if isinstance(host, CacheGroup) else None


def pick_group(node: "Node", kernel: Kernel, name: str) -> "CacheGroup":
    """The group of a name; raises `NoSuchServer`."""
    groups = find_groups(node, kernel)
    if name not in groups:
        there = ", ".join(groups) or "none"
        text = f"node {kernel.id.name} has no part in a cache {name!r} (its caches: {there})"
        raise NoSuchServer(text, node=kernel.id, target=f"{_PREFIX}{name}")
    return groups[name]


def tell_caches(node: "Node", kernel: Kernel) -> list[dict[str, Any]]:
    """What each group has counted and holds."""
    return [{"group": name} | asdict(group.stats) for name, group in find_groups(node, kernel).items()]


async def invalidate(
    group: "CacheGroup", key: str | None, prefix: str | None, *, everything: bool, timeout: float
) -> dict[str, Any]:
    """Forget a key, a prefix or all on every node of the group; say who knows of it."""
    known = await group.invalidate(key, prefix=prefix, all=everything, timeout=timeout)
    return {"reached": [node.name for node in known.reached], "missed": [node.name for node in known.missed]}


async def fetch(group: "CacheGroup", key: str, timeout: float) -> dict[str, Any]:
    """Get a value as any caller would, and say where it came from."""
    fetched = await group.fetch(key, timeout=timeout)
    return {"source": fetched.source, "value": fetched.value}
