"""Who is in the ring: the members that this node knows, and what to tell whom.

The first membership: on a link that opens each side says Hello, the HelloAck lists
every known member, and who learns of a member introduces itself there, so all end
with the same list. It stands where the gossip ring will: behind `step`, with the
messages below.

Rules: a member is known by its name; a later incarnation replaces an earlier one;
one that left does not come back under the incarnation it left with, and who hears of it
first tells the others, for one may have met it only in a list; a member that is
down stays in the list.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sortedcontainers import SortedDict

from clusterkit.core.identity import NodeId, check_name, parse_host_port
from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.errors import ConfigError, ProtocolError


class State(StrEnum):
    """What is believed of a member."""

    ALIVE = "alive"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Member:
    """One member: which run of which node, and whether it can be reached from here."""

    node: NodeId
    state: State = State.ALIVE


# -- messages between rings


@dataclass(frozen=True, slots=True)
class Hello:
    """Here I am."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class HelloAck:
    """You are in; these are all the members that I know, myself included."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """This member has left."""

    node: NodeId


Message = Hello | HelloAck | Gone


def pack(message: Message) -> bytes:
    """Pack a ring message.

    >>> unpack(pack(Hello(NodeId("a", "127.0.0.1", 7022, 5))))
    Hello(node=NodeId(name='a', host='127.0.0.1', port=7022, incarnation=5))
    """
    if isinstance(message, HelloAck):
        return encode(["hello_ack", [_pack_node(node) for node in message.nodes]])
    return encode(["hello" if isinstance(message, Hello) else "gone", _pack_node(message.node)])


def unpack(payload: bytes) -> Message:
    """Read a ring message; raises `ProtocolError` for anything else."""
    try:
        kind, body = decode(payload)
        if kind == "hello_ack":
            return HelloAck(tuple(_unpack_node(fields) for fields in body))
        if kind not in ("hello", "gone"):
            raise ValueError(kind)
        return (Hello if kind == "hello" else Gone)(_unpack_node(body))
    except (PayloadError, ConfigError, ValueError, TypeError) as error:
        raise ProtocolError(f"a ring message that cannot be read: {error!r}", proven=True) from None


def _pack_node(node: NodeId) -> list[Any]:
    return [node.name, node.host, node.port, node.incarnation]


def _unpack_node(fields: Any) -> NodeId:
    name, host, port, incarnation = fields
    node = NodeId(check_name(name), host, port, incarnation)
    if parse_host_port(node.address) != (host, port) or type(incarnation) is not int or incarnation <= 0 or not port:
        raise ValueError(fields)
    return node


# -- events and effects


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link to a node opened, whoever dialled."""

    name: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A message came from the node of that name and incarnation."""

    name: str
    incarnation: int
    message: Message


@dataclass(frozen=True, slots=True)
class WentDown:
    """A node cannot be reached."""

    name: str


@dataclass(frozen=True, slots=True)
class Parted:
    """A node said goodbye; ``left`` when it left the ring, otherwise it only stopped."""

    name: str
    incarnation: int
    left: bool


Event = LinkOpened | Heard | WentDown | Parted


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to the node of that name."""

    name: str
    message: Message


@dataclass(frozen=True, slots=True)
class Meet:
    """Keep a link to this node from now on."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Forget:
    """End the link to this node: it left."""

    name: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A member took us in."""

    name: str


Effect = Tell | Meet | Forget | Joined


class Roster:
    """The members, as one node sees them.

    >>> roster = Roster(NodeId("a", "127.0.0.1", 7022, 1))
    >>> b = NodeId("b", "127.0.0.1", 7023, 1)
    >>> effects = roster.step(Heard("b", 1, Hello(b)))
    >>> [type(effect).__name__ for effect in effects], [str(node) for node in roster.nodes]
    (['Meet', 'Tell'], ['a@127.0.0.1:7022', 'b@127.0.0.1:7023'])
    """

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._members: SortedDict[str, Member] = SortedDict({me.name: Member(me)})
        self._left: dict[str, int] = {}

    @property
    def members(self) -> list[Member]:
        """All members, by name."""
        return list(self._members.values())

    @property
    def nodes(self) -> list[NodeId]:
        """All members' ids, by name."""
        return [member.node for member in self._members.values()]

    def get(self, name: str) -> Member | None:
        """The member of that name."""
        return self._members.get(name)

    def step(self, event: Event) -> list[Effect]:
        """Take one event."""
        match event:
            case LinkOpened(name=name):
                self._set_state(name, State.ALIVE)
                return [Tell(name, Hello(self._me))]
            case Heard():
                return self._heard(event)
            case WentDown(name=name):
                self._set_state(name, State.DOWN)
            case Parted(name=name, incarnation=incarnation, left=left):
                if left:
                    return self._remove(name, incarnation)
                if (member := self._members.get(name)) is not None and member.node.incarnation == incarnation:
                    self._set_state(name, State.DOWN)
        return []

    def _heard(self, event: Heard) -> list[Effect]:
        match event.message:
            case Hello(node=node) if self._speaks_for_itself(event, node):
                return [*self._admit([node], alive=True), Tell(event.name, HelloAck(tuple(self.nodes)))]
            case HelloAck(nodes=nodes):
                return [*self._admit(nodes, alive=False), Joined(event.name)]
            case Gone(node=node):
                return self._remove(node.name, node.incarnation)
        return []

    @staticmethod
    def _speaks_for_itself(event: Heard, node: NodeId) -> bool:
        """The handshake proved who speaks: nobody announces another."""
        return (node.name, node.incarnation) == (event.name, event.incarnation)

    def _admit(self, nodes: Iterable[NodeId], *, alive: bool) -> list[Effect]:
        effects: list[Effect] = []
        for node in nodes:
            if self._is_news(node, alive=alive):
                self._members[node.name] = Member(node)
                effects.append(Meet(node))
        return effects

    def _is_news(self, node: NodeId, *, alive: bool) -> bool:
        """Whether to take an entry: an address of a known incarnation only from the node itself."""
        if node.name == self._me.name or node.incarnation <= self._left.get(node.name, 0):
            return False
        known = self._members.get(node.name)
        if known is None or node.incarnation != known.node.incarnation:
            return known is None or node.incarnation > known.node.incarnation
        return alive and known != Member(node)

    def _set_state(self, name: str, state: State) -> None:
        member = self._members.get(name)
        if member is not None and name != self._me.name:
            self._members[name] = replace(member, state=state)

    def _remove(self, name: str, incarnation: int) -> list[Effect]:
        self._left[name] = max(incarnation, self._left.get(name, 0))
        member = self._members.get(name)
        if member is None or member.node.incarnation > incarnation or name == self._me.name:
            return []
        del self._members[name]
        others = [
            each.node.name for each in self._members.values() if each.state is State.ALIVE and each.node != self._me
        ]
        return [Forget(name), *(Tell(other, Gone(member.node)) for other in others)]
