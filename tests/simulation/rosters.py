"""Rosters on a message-level network: a hundred members and more, as the product's ring drives each of them."""

from random import Random

from clusterkit.core.identity import NodeId
from clusterkit.core.roster import (
    Event,
    Forget,
    Heard,
    LinkOpened,
    Meet,
    Message,
    Parted,
    Roster,
    State,
    Tell,
    WentDown,
)
from clusterkit.testing.message_net import Delivery, Door, MessageNet


class RosterHost:
    """One roster in its coat. ``incarnations`` is what the handshakes would prove."""

    def __init__(self, door: Door[Message], me: NodeId, seeds: list[str], incarnations: dict[str, int]) -> None:
        self.roster = Roster(me)
        self._door = door
        self._incarnations = incarnations
        for seed in seeds:
            door.meet(seed)

    def opened(self, peer: str, now: float) -> None:
        self._step(LinkOpened(peer))

    def heard(self, peer: str, message: Message, now: float) -> None:
        self._step(Heard(peer, self._incarnations[peer], message))

    def down(self, peer: str, now: float) -> None:
        self._step(WentDown(peer))

    def parted(self, peer: str, now: float) -> None:
        self._step(Parted(peer, self._incarnations[peer], left=True))

    def tick(self, now: float) -> None:
        raise AssertionError("a roster has no deadlines")

    def _step(self, event: Event) -> None:
        for effect in self.roster.step(event):
            match effect:
                case Tell(name=name, message=message):
                    self._door.send(name, message)
                case Meet(node=node):
                    self._door.meet(node.name)
                case Forget(name=name):
                    self._door.forget(name)


class Rosters:
    """A network of them, and what all should believe."""

    def __init__(self, seed: int, delivery: Delivery | None = None) -> None:
        self.net = MessageNet[Message](seed, delivery)
        self.chance = Random(f"{seed}:rosters")
        self.incarnations: dict[str, int] = {}
        self.hosts: dict[str, RosterHost] = {}
        self.expected: dict[str, NodeId] = {}
        """The members that every list should end with."""

    def join(self, name: str, *seeds: str) -> None:
        """Start a member, or start it again under another incarnation."""
        self.incarnations[name] = self.incarnations.get(name, 0) + 1
        me = self.expected[name] = NodeId(name, "h", 7022, self.incarnations[name])

        def make(door: Door[Message]) -> RosterHost:
            host = self.hosts[name] = RosterHost(door, me, list(seeds), self.incarnations)
            return host

        self.net.start(name, make)

    def crash(self, name: str) -> None:
        self.net.crash(name)

    def leave(self, name: str) -> None:
        self.net.leave(name)
        del self.expected[name]

    def wrong(self) -> list[str]:
        """How the lists of all that run differ from what they should be."""
        expected = [self.expected[name] for name in sorted(self.expected)]
        running = set(self.net.running)
        found = []
        for name in self.net.running:
            roster = self.hosts[name].roster
            if roster.nodes != expected:
                missing = [str(node) for node in expected if node not in roster.nodes]
                extra = [str(node) for node in roster.nodes if node not in expected]
                found.append(f"{name} lacks {missing} and has {extra}")
            found += [
                f"{name} believes {each.node.name} {each.state}"
                for each in roster.members
                if (each.state is State.ALIVE) != (each.node.name in running)
            ]
        return found
