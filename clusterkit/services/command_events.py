"""What happens on a node, written into its chronicle in plain types, and since when each member is as it is.

Everything is noted in the turn in which it happens. Of links only those to nodes are
told. That keys have other owners (`RingChanged`) is worked out and noted only while
somebody reads, and for a minute after: comparing whole rings is not for nothing.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusterkit.core.identity import NodeId
from clusterkit.core.members import (
    Member,
    MemberDown,
    MemberEvent,
    MemberJoined,
    MemberLeft,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    RingChanged,
    State,
)
from clusterkit.core.offers import ServiceChanged, ServiceEvent, ServiceOffline, ServiceOnline
from clusterkit.errors import NameConflict
from clusterkit.kernel.events import LinkDown, LinkUp
from clusterkit.kernel.kernel import Kernel
from clusterkit.runtime import now, wall_time
from clusterkit.services.chronicle import Asker, Chronicle, Page

if TYPE_CHECKING:
    from clusterkit.node import Node

_MEMBERS = (MemberJoined, MemberUp, MemberSuspect, MemberDown, MemberLeft, MemberRemoved, MemberUpdated)
_SERVICES = (ServiceOnline, ServiceOffline, ServiceChanged)
READ_FOR = 60.0
"""Seconds after the last question for which somebody counts as reading."""
_MOST_TEXT = 256
_MOST_NODES = 2_048


class Reporter:
    """Follows one node from now on, until `close`."""

    def __init__(self, node: "Node", kernel: Kernel) -> None:
        self._kernel = kernel
        self._ring = node.ring
        self._chronicle = Chronicle(int(wall_time() * 1e6))
        self._began = now()
        self._states: dict[str, tuple[int, State, float]] = {}  # incarnation, state, since when
        self._nodes: OrderedDict[str, int] = OrderedDict()  # incarnations of the nodes that were linked last
        self._end_reading: Callable[[], None] | None = None
        self._read_at = 0.0
        of_member: Callable[[Any], object] = self._member
        of_service: Callable[[Any], object] = self._service
        self._ends = [
            *(self._ring.on(kind, of_member) for kind in _MEMBERS),
            *(node.services.on(kind, of_service) for kind in _SERVICES),
            self._ring.on(LinkUp, self._link_up),
            self._ring.on(LinkDown, self._link_down),
            self._ring.on(NameConflict, self._conflict),
        ]

    def close(self) -> None:
        """Follow no more."""
        for end in self._ends:
            end()
        self.read_no_more()

    # -- reading

    async def poll(self, asker: Asker, cursor: int | None, wait: float) -> Page:
        """Give what came after a cursor, as `Chronicle.poll` does."""
        self._read_at = now()
        return await self._chronicle.poll(asker, cursor, wait)

    def begin_reading(self) -> bool:
        """Tell of `RingChanged` from now on; whether nobody read before."""
        self._read_at = now()
        if self._end_reading is not None:
            return False
        self._end_reading = self._ring.on(RingChanged, self._moved)
        return True

    @property
    def is_read(self) -> bool:
        """Whether somebody asked within the last minute."""
        return now() - self._read_at < READ_FOR

    def read_no_more(self) -> None:
        """Tell of `RingChanged` no more."""
        if self._end_reading is not None:
            self._end_reading()
            self._end_reading = None

    def since(self, member: Member) -> float:
        """For how many seconds a member has been in its state, as far as this run of the node knows."""
        incarnation, state, at = self._states.get(member.name, (0, None, self._began))
        is_known = (incarnation, state) == (member.node.incarnation, member.state)
        return now() - (at if is_known else self._began)

    # -- writing

    def _note(self, kind: str, node: NodeId, **told: Any) -> None:
        self._chronicle.add(wall_time(), kind, node=node.name, incarnation=node.incarnation, **told)

    def _member(self, event: MemberEvent) -> None:
        member = event.member
        if isinstance(event, MemberRemoved) or (isinstance(event, MemberLeft) and not self._ring.has(member.name)):
            self._states.pop(member.name, None)
        elif self._states.get(member.name, (0, None))[:2] != (member.node.incarnation, member.state):
            self._states[member.name] = member.node.incarnation, member.state, now()
        where = {"host": member.node.host, "port": member.node.port}
        what = {"state": str(member.state), "ready": member.ready, "weight": member.weight, "why": _short(member.why)}
        self._note(type(event).__name__, member.node, **where, **what)

    def _service(self, event: ServiceEvent) -> None:
        offer = event.offer
        told = {"module": offer.module, "resource": offer.resource, "healthy": offer.healthy}
        why = {"why": _short(event.why)} if isinstance(event, ServiceOffline) else {}
        self._note(type(event).__name__, offer.peer, **told, **why)

    def _moved(self, event: RingChanged) -> None:
        self._note("RingChanged", self._kernel.id, moved=event.moved)

    def _conflict(self, error: NameConflict) -> None:
        self._note("NameConflict", self._kernel.id, why=_short(str(error)))

    def _link_up(self, event: LinkUp) -> None:
        peer = event.peer
        link = self._kernel.links.get(peer.name)
        if link is None or link.peer.incarnation != peer.incarnation:  # a client's
            return
        self._nodes[peer.name] = peer.incarnation
        self._nodes.move_to_end(peer.name)
        if len(self._nodes) > _MOST_NODES:
            self._nodes.popitem(last=False)
        self._note("LinkUp", peer)

    def _link_down(self, event: LinkDown) -> None:
        if self._nodes.get(event.peer.name) == event.peer.incarnation:  # it may be told twice: what is lost comes later
            self._note("LinkDown", event.peer, why=_short(event.why), lost=event.lost)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."
