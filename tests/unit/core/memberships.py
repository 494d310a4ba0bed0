"""Memberships without a network: what one machine sends the others hear in order, when a test says so."""

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, TypeVar

from clusterkit.core.identity import NodeId
from clusterkit.core.members import MemberEvent, State
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import Begun, Effect, Event, Heard, LinkLost, LinkOpened, Notify, Send, Tick
from clusterkit.core.ring_frames import Full
from clusterkit.core.ring_messages import RingMessage, pack, unpack

E = TypeVar("E", bound=Effect)
M = TypeVar("M", bound=RingMessage)
START = 100.0
WALL = 1_700_000_000.0


def node_of(name: str, boot: int = 10) -> NodeId:
    """A node whose address follows from its name."""
    return NodeId(name, f"10.0.0.{ord(name[0]) - 96}", 7022, boot)


class Mesh:
    """Machines by name, the links between them, and what is on its way."""

    def __init__(self, *names: str, seed: int = 0, **how: Any) -> None:
        self.now = START
        self.machines: dict[str, Membership] = {}
        self.effects: dict[str, list[Effect]] = {}
        self.on_the_way: deque[tuple[NodeId, str, RingMessage]] = deque()
        self.links: dict[frozenset[str], None] = {}
        self.passes: Callable[[str, str, RingMessage], bool] = lambda src, dst, message: True
        """Whether a message arrives."""
        self._seed = seed
        self._how = how
        for name in names:
            self.start(name)
        for name in names:
            for other in names:
                if name < other:
                    self.link(name, other)
        self.run()

    def __getitem__(self, name: str) -> Membership:
        return self.machines[name]

    def start(self, name: str, boot: int = 10, *, saved: Full | None = None, seeds: bool = False) -> Membership:
        """Begin a run."""
        rng = Random(f"{self._seed}:{name}:{boot}")
        machine = Membership(node_of(name, boot), rng, lambda: WALL + self.now, **self._how)
        self.machines[name] = machine
        self.effects[name] = []
        self.step(name, Begun(saved, seeds))
        return machine

    def step(self, name: str, event: Event) -> list[Effect]:
        """Step one machine; what it sends is on its way."""
        machine = self.machines[name]
        effects = machine.step(event, self.now)
        self.effects[name] += effects
        for effect in effects:
            if isinstance(effect, Send) and frozenset((name, effect.name)) in self.links:
                assert unpack(pack(effect.message)) == effect.message
                self.on_the_way.append((machine.me, effect.name, effect.message))
        return effects

    def link(self, a: str, b: str) -> None:
        """Open a link."""
        self.links[frozenset((a, b))] = None
        for one, other in ((a, b), (b, a)):
            self.step(one, LinkOpened(other, self.machines[other].me.incarnation))

    def unlink(self, a: str, b: str) -> None:
        """Lose a link, and all that is on it."""
        del self.links[frozenset((a, b))]
        self.on_the_way = deque(each for each in self.on_the_way if {each[0].name, each[1]} != {a, b})
        for one, other in ((a, b), (b, a)):
            if one in self.machines:
                self.step(one, LinkLost(other))

    def kill(self, name: str) -> None:
        """End a run without a word."""
        del self.machines[name]
        for pair in [pair for pair in self.links if name in pair]:
            self.unlink(*pair)

    def hear(self, name: str, sender: NodeId, message: RingMessage) -> list[Effect]:
        """Let a machine hear a message, as if it came from there."""
        return self.step(name, Heard(sender.name, sender.incarnation, message))

    def run(self, most: int = 10_000) -> None:
        """Deliver all that is on its way, and what follows from it."""
        for _ in range(most):
            if not self.on_the_way:
                return
            sender, name, message = self.on_the_way.popleft()
            if name in self.machines and self.passes(sender.name, name, message):
                self.hear(name, sender, message)
        raise AssertionError("they never come to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass: every machine is ticked when it asked for it, and messages arrive at once."""
        end = self.now + seconds
        self.run()
        while True:
            due = [(at, name) for name, each in self.machines.items() if (at := each.next_deadline) is not None]
            at, name = min(due, default=(end, ""))
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            self.step(name, Tick())
            self.run()

    # -- what came of it

    def of(self, name: str, kind: type[E]) -> list[E]:
        """The effects of one type so far."""
        return [effect for effect in self.effects[name] if isinstance(effect, kind)]

    def told(self, name: str) -> list[str]:
        """What the users were told so far."""
        return [shown(effect.event) for effect in self.of(name, Notify)]

    def forget(self) -> None:
        """Look only at what happens from now on."""
        for effects in self.effects.values():
            effects.clear()

    def views(self, names: Iterable[str] = ()) -> dict[str, dict[str, State]]:
        """What each believes of all."""
        return {
            name: {member.name: member.state for member in self.machines[name].members.values()}
            for name in names or self.machines
        }

    def agree(self) -> bool:
        """Whether all know and believe the same."""
        return len({machine.digests for machine in self.machines.values()}) == 1


def shown(event: MemberEvent) -> str:
    """An event in short.

    >>> from clusterkit.core.members import Member, MemberUp
    >>> shown(MemberUp(Member(node_of("b"))))
    'Up b'
    """
    return f"{type(event).__name__.removeprefix('Member')} {event.member.name}"


def sent(effects: Iterable[Effect], kind: type[M]) -> list[tuple[str, M]]:
    """The messages of one type among effects, with whom they go to."""
    return [(each.name, each.message) for each in effects if isinstance(each, Send) and isinstance(each.message, kind)]
