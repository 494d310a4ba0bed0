"""How one change spreads: N members that are all linked, at rest, with the real machines and nothing between them but delay.

`Spread` builds the cluster at once, for joining N members would take N * N messages. `Spread.change`
lets one member change its weight and follows the news: when each member has it, after how many hops, for
how many messages and bytes. Relays that hang keep their links and pass nothing on.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from clusterkit.core.identity import NodeId
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import Begun, Event, Heard, Reweigh, Send, Tick
from clusterkit.core.ring_entry import Actor
from clusterkit.core.ring_messages import News, RingMessage, State, Update, pack
from clusterkit.core.ring_state import RingState

LATENCY = (0.0002, 0.001)  # seconds: the least, and what chance adds
_WALL = 1_760_000_000.0


@dataclass(slots=True)
class Told:
    """What became of one change."""

    at: dict[str, float] = field(default_factory=dict)
    """When each member that runs had it, in seconds after the change."""
    hops: dict[str, int] = field(default_factory=dict)
    """For those that had it from news."""
    messages: int = 0
    size: int = 0
    """Of all messages that carried it, in bytes, without the headers of the wire."""

    @property
    def repaired(self) -> int:
        """How many had it by comparing digests, because no news reached them."""
        return len(self.at) - len(self.hops)


class Spread:
    """``members`` machines on virtual time."""

    def __init__(self, members: int, seed: int = 0) -> None:
        self.now = 0.0
        self.chance = Random(f"{seed}:spread")
        self.names = [f"n{number:04}" for number in range(members)]
        self.hung: set[str] = set()
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._alarms: dict[str, float] = {}
        self._arrivals: dict[tuple[str, str], float] = {}
        self._told = Told()
        self._origin, self._weight, self._begun = "", 1, 0.0
        self._hop = 0  # of the message that is being taken
        self._sizes: dict[int, int] = {}
        self.machines = {name: self._member(name, boot) for boot, name in enumerate(self.names, 1)}
        self._introduce()

    def _member(self, name: str, boot: int) -> Membership:
        machine = Membership(NodeId(name, "10.0.0.1", 1024 + boot, boot), self.chance, lambda: _WALL + self.now)
        machine.step(Begun(), 0.0)
        return machine

    def _introduce(self) -> None:
        """Let everybody know all, as if they had joined, and have a link to each."""
        everything = RingState(Actor("nobody", 1))
        for machine in self.machines.values():
            everything.merge(machine.ring.full(), _WALL)
        full = everything.full()
        boots = {name: machine.me.incarnation for name, machine in self.machines.items()}
        for name, machine in self.machines.items():
            machine._open.update((other, boot) for other, boot in boots.items() if other != name)
            machine.step(Heard("nobody", 1, State(full)), 0.0)
            self._arm(name)

    # -- what is asked of it

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self._next()
        self.now = end

    def change(self, by: str, within: float = 5.0) -> Told:
        """Let a member change its weight, and all others hear of it; who hangs is not waited for."""
        told = self._told = Told()
        machine = self.machines[by]
        self._origin, self._weight, self._begun = by, machine.members[by].weight % 900 + 1, self.now
        self._hop = 0
        self._step(by, Reweigh(by, self._weight))
        waiting = len(self.names) - len(self.hung)
        while len(told.at) < waiting and self.now < self._begun + within:
            self._next()
        self._origin = ""
        return told

    def hang(self, names: Iterable[str]) -> None:
        """These stand still from now on; nobody has noticed yet."""
        self.hung.update(names)

    def wake(self) -> None:
        """They go on; what was sent to them meanwhile is lost, and their timers are late."""
        woken, self.hung = self.hung, set()
        for name in sorted(woken):
            self._alarms.pop(name, None)
            self._hop = -1
            self._step(name, Tick())

    # -- time

    def _next(self) -> None:
        self.now, _, act = heapq.heappop(self._events)
        act()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def _step(self, name: str, event: Event) -> None:
        machine = self.machines[name]
        for effect in machine.step(event, self.now):
            if isinstance(effect, Send):
                self._send(name, effect.name, effect.message)
        self._arm(name)
        if self._origin and name not in self._told.at and machine.members[self._origin].weight == self._weight:
            self._told.at[name] = self.now - self._begun
            if self._hop >= 0:
                self._told.hops[name] = self._hop

    def _arm(self, name: str) -> None:
        at = self.machines[name].next_deadline
        if at is not None and at != self._alarms.get(name):
            self._alarms[name] = at
            self._at(at, partial(self._tick, name, at))

    def _tick(self, name: str, at: float) -> None:
        if name in self.hung or self._alarms.get(name) != at:
            return
        del self._alarms[name]
        self._hop = -1
        self._step(name, Tick())

    # -- messages

    def _send(self, src: str, dst: str, message: RingMessage) -> None:
        hop = self._hop + 1 if isinstance(message, News) and self._hop >= 0 else -1
        if self._carries(message):
            self._told.messages += 1
            self._told.size += self._size_of(message)
        pair = src, dst
        due = max(self.now + LATENCY[0] + LATENCY[1] * self.chance.random(), self._arrivals.get(pair, 0.0))
        self._arrivals[pair] = due
        self._at(due, partial(self._deliver, src, dst, message, hop))

    def _deliver(self, src: str, dst: str, message: RingMessage, hop: int) -> None:
        if dst in self.hung:
            return
        self._hop = hop if self._carries(message) else -1
        self._step(dst, Heard(src, self.machines[src].me.incarnation, message))

    def _carries(self, message: RingMessage) -> bool:
        """Whether the change that is followed is in a message."""
        if isinstance(message, News):
            return any(change.name == self._origin for change in message.changes)
        return isinstance(message, Update) and any(item.name == self._origin for item in message.delta.items)

    def _size_of(self, message: RingMessage) -> int:
        if id(message) not in self._sizes:
            self._sizes = {id(message): len(pack(message))}
        return self._sizes[id(message)]
