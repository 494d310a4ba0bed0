"""The command server: what a client of a node may ask.

An actor named ``clusterkit.command`` on every node, the only one that a client
(role 2 of the handshake) reaches. The command line is such a client.
"""

from typing import Any

from clusterkit.actors.gen_server import GenServer, NoReply
from clusterkit.actors.handlers import call
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member
from clusterkit.core.offers import ServiceNode
from clusterkit.errors import CallError, UsageError
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.kernel.mailbox import From
from clusterkit.runtime import Tasks, now


def tell_node(node: NodeId) -> dict[str, Any]:
    """Who and where a node is, in msgpack types."""
    return {"name": node.name, "host": node.host, "port": node.port, "incarnation": node.incarnation}


def tell_member(member: Member) -> dict[str, Any]:
    """One member in msgpack types."""
    return tell_node(member.node) | {"state": str(member.state)}


def tell_services(node: ServiceNode) -> dict[str, Any]:
    """What one member offers and requires, in msgpack types."""
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


class CommandServer(GenServer):
    """Answers for its node. What it asks of others does not hold up its own answers."""

    async def init(self) -> None:
        """Own the questions that wait for others."""
        self._asked = Tasks("command")

    async def terminate(self, reason: object) -> None:  # noqa: ARG002
        """End them; who asked is told `ServerDown`."""
        await self._asked.aclose()

    @call
    async def ping(self) -> dict[str, Any]:
        """Tell who answers."""
        return tell_node(self.node.id) | {"ring": self.node.ring.id}

    @call
    async def members(self) -> list[dict[str, Any]]:
        """Tell the members that this node knows, and what it believes of them."""
        return [tell_member(member) for member in self.node.ring.members]

    @call
    async def services(self) -> list[dict[str, Any]]:
        """Tell what the members that have services offer and require, as this node sees it."""
        return [tell_services(node) for node in self.node.services.nodes()]

    @call(timeout=30.0)
    async def ask(self, node: str, server: str, event: str, data: Any = None, timeout: float = 5.0) -> dict[str, Any]:
        """Call a server on a member from this node, and tell how it went."""
        if server == COMMAND_SERVER and node == self.node.id.name:
            raise UsageError("the command server cannot call itself")
        self._asked.spawn(self._ask(self.caller, node, server, event, data, timeout), f"ask {node}")
        raise NoReply

    async def _ask(self, frm: From, node: str, server: str, event: str, data: Any, timeout: float) -> None:
        started = now()
        try:
            ref = self.node.ref(GenServer, server, on=node).with_(timeout=timeout)
            answer = {"ok": True, "value": await ref.call(event, data)}
        except CallError as error:
            answer = {"ok": False, "error": type(error).__name__, "message": str(error), "executed": error.executed}
        except Exception as error:  # noqa: BLE001 - what the server raised is its answer
            answer = {"ok": False, "error": type(error).__name__, "message": str(error), "executed": "maybe"}
        await self.reply(frm, answer | {"seconds": now() - started})
