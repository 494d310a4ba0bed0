"""What a node knows of itself, its members and its links, in msgpack types: nobody is asked for it."""

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member
from clusterkit.core.offers import ServiceNode
from clusterkit.core.proof import Role
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.driver import Driver
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.transport.link import Link

if TYPE_CHECKING:
    from clusterkit.node import Node

MOST_ACTORS = 1_000


@cache
def package_version() -> str:
    """The version of the package; empty in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - a node starts without it

    try:
        return version("clusterkit")
    except PackageNotFoundError:
        return ""


def tell_node(node: NodeId) -> dict[str, Any]:
    """Who and where a node is."""
    return {"name": node.name, "host": node.host, "port": node.port, "incarnation": node.incarnation}


def tell_nodes(ring: GossipRing) -> list[dict[str, Any]]:
    """All members, down or not, by name."""
    return [tell_node(node) for node in ring.nodes]


def tell_member(member: Member) -> dict[str, Any]:
    """One member, and what is believed of it."""
    known = {"ready": member.ready, "weight": member.weight, "why": member.why}
    return tell_node(member.node) | {"state": str(member.state)} | known


def tell_services(node: ServiceNode) -> dict[str, Any]:
    """What one member offers and requires."""
    offers = [
        {
            "module": offer.module,
            "resource": offer.resource,
            "requirements": list(offer.requirements),
            "meta": dict(offer.meta),
            "healthy": offer.healthy,
        }
        for offer in node.offers
    ]
    lists = {"requirements": list(node.requirements), "unmet": list(node.unmet)}
    return tell_node(node.peer) | {"online": node.online, "offers": offers} | lists


# -- what this node sees of the ring


def digests(kernel: Kernel, ring: GossipRing) -> tuple[str, str]:
    """What this node knows of the ring, and what it believes of the members, in short; empty outside a ring."""
    door = kernel.inbound.ring
    if not ring.id or not isinstance(door, Driver):
        return "", ""
    known, believed = door.membership.digests
    return f"{known:016x}", f"{believed:016x}"


def tell_view(kernel: Kernel, ring: GossipRing) -> dict[str, Any]:
    """What this node sees: the members as it believes them, and those to whom its links are open."""
    digest, claims = digests(kernel, ring)
    members = ring.members
    seen = {
        member.name: {
            "incarnation": member.node.incarnation,
            "state": str(member.state),
            "host": member.node.host,
            "port": member.node.port,
            "weight": member.weight,
        }
        for member in members
    }
    reaches = {member.name: is_linked(kernel, member.name) for member in members}
    who = {"name": kernel.id.name, "ring": ring.id, "digest": digest, "claims_digest": claims}
    return who | {"members": seen, "reaches": reaches}


def is_linked(kernel: Kernel, name: str) -> bool:
    """Whether the link to a member is open; to itself a node has none, and needs none."""
    link = kernel.links.get(name)
    return name == kernel.id.name or (link is not None and link.open)


def queued_to(kernel: Kernel, name: str) -> int:
    """How many messages to a member are queued or not acknowledged."""
    link = kernel.links.get(name)
    return 0 if link is None else len(link.session)


# -- what runs here


def tell_links(kernel: Kernel, ring: GossipRing) -> list[dict[str, Any]]:
    """All links of this node, those to its clients too.

    Messages are counted since the present session began, bytes since the present connection did.
    """
    return [_tell_link(link, ring) for link in kernel.links]


def _tell_link(link: Link, ring: GossipRing) -> dict[str, Any]:
    session, connection, is_client = link.session, link.connection, link.role is Role.CLIENT
    role = "client" if is_client else "member" if ring.has(link.peer.name) else "seed"
    return {
        "name": link.peer.name,
        "role": role,
        "open": link.open,
        "down": link.down,
        "why": link.why,
        "queued": max(0, len(session) - session.unacked),
        "unacked": session.unacked,
        "waiting": len(link.waiting),
        "sent": session.written,
        "received": session.received,
        "bytes_out": connection.bytes_out if connection is not None else 0,
        "bytes_in": connection.bytes_in if connection is not None else 0,
    }


def tell_actors(node: "Node", most: int = MOST_ACTORS) -> list[dict[str, Any]]:
    """The actors of this node by serial; of more than ``most`` those with the most to do, the busiest first."""
    infos = node.inspect()
    if len(infos) > most:
        infos = sorted(infos, key=lambda info: (info.handler is None, -info.depth, -info.handled))[:most]
    return [asdict(info) for info in infos]
