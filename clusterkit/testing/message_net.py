"""A message-level network: a hundred core machines and more, without links, sockets or a loop.

What a cluster of that size decides is decided by its core machines; a simulated link for
each of the thousands of pairs would cost minutes and show nothing new. So here whole
messages travel between `Host` objects, each a thin coat around a machine; virtual time is
a heap of deliveries, and the seed decides how long each takes::

    net = MessageNet(seed=7, delivery=Delivery(breaks=0.01))
    for name in names:
        net.start(name, RosterHost(...))
    net.partition(names[:50], names[50:])
    net.run(60.0)
    net.heal()
    net.run(60.0)

Rules. A pair of hosts has a *contact* while one of them wants it and both can reach each
other: opened at both ends, messages in order each way, lost at both with all that is on
its way. It is tried again for ever, as links are, and its end is told as down when no new
contact follows within ``patience``. With ``loss`` single messages vanish unseen, as those
do that a full outbox has no room for.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from clusterkit.errors import UsageError

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages travel; durations in seconds, chances from 0 to 1.

    >>> Delivery(latency=0.1)
    Delivery(latency=0.1, jitter=0.01, loss=0.0, breaks=0.0, redial=1.0, patience=3.0)
    """

    latency: float = 0.001
    """The least that a message takes."""
    jitter: float = 0.01
    """The most that chance adds."""
    loss: float = 0.0
    """The chance that a message vanishes, and nobody is told."""
    breaks: float = 0.0
    """The chance that a contact is lost with the message and all that is on its way."""
    redial: float = 1.0
    """The most that passes until a contact is tried again."""
    patience: float = 3.0
    """How long there is no contact until a host is told that the other is down."""


class Host(Protocol[M_contra]):
    """One machine in its coat: it is told what happens, and acts through the `Door` that it was made with."""

    def opened(self, peer: str, now: float) -> None:
        """There is a contact with ``peer``; it is told the same."""

    def heard(self, peer: str, message: M_contra, now: float) -> None:
        """A message came."""

    def down(self, peer: str, now: float) -> None:
        """There was no contact with ``peer`` for too long."""

    def parted(self, peer: str, now: float) -> None:
        """The peer said goodbye."""

    def tick(self, now: float) -> None:
        """The moment that was asked for with `Door.wake` has come."""


class _Life(Generic[M]):
    """From a host's start to its end."""

    host: Host[M]

    def __init__(self, door: "Door[M]") -> None:
        self.door = door
        self.wants: dict[str, None] = {}
        self.open: dict[str, int] = {}  # the contacts, each with its number
        self.alarm: float | None = None


class Door(Generic[M]):
    """What one host can do. After its host crashed it does nothing."""

    def __init__(self, net: "MessageNet[M]", name: str) -> None:
        self._net = net
        self.name = name

    def send(self, peer: str, message: M) -> None:
        """Send to ``peer`` if there is a contact; otherwise the message is discarded."""
        self._net.send(self, peer, message)

    def meet(self, peer: str) -> None:
        """Want a contact with ``peer`` from now on."""
        self._net.want(self, peer)

    def forget(self, peer: str) -> None:
        """Want it no more, and end it."""
        self._net.unwant(self, peer)

    def wake(self, at: float) -> None:
        """Be ticked at that moment; the last one asked for counts."""
        self._net.wake(self, at)


class MessageNet(Generic[M]):
    """All hosts and what is between them, on virtual time from 0."""

    def __init__(self, seed: int = 0, delivery: Delivery | None = None) -> None:
        self.now = 0.0
        self.delivery = delivery or Delivery()
        self.counts: Counter[str] = Counter()
        """What happened so far: delivered, lost, broken, opened."""
        self._chance = random.Random(f"{seed}:messages")  # noqa: S311 - a simulation's chance
        self._lives: dict[str, _Life[M]] = {}
        self._cuts: dict[Pair, None] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._last: dict[tuple[Pair, int], float] = {}  # when the last message of a contact arrives
        self._trying: dict[Pair, None] = {}
        self._apart: dict[Pair, float] = {}  # since when a wanted pair has no contact

    # -- hosts --------------------------------------------------------------------------

    def start(self, name: str, make: Callable[[Door[M]], Host[M]]) -> Host[M]:
        """Start a host: ``make`` is given its door. Raises `UsageError` for a name that runs."""
        if name in self._lives:
            raise UsageError(f"host {name} runs already")
        door = Door(self, name)
        life = self._lives[name] = _Life(door)
        life.host = make(door)
        return life.host

    def crash(self, name: str) -> None:
        """End a host; the others find out."""
        for peer in self._end(name).open:
            self._lose(peer, name)

    def leave(self, name: str) -> None:
        """End a host that says goodbye: who has a contact hears it, behind what it sent before."""

        def farewell(life: _Life[M]) -> None:
            del life.open[name]
            life.host.parted(name, self.now)

        for peer, number in self._end(name).open.items():
            self._travel((name, peer), number, farewell)

    @property
    def running(self) -> list[str]:
        """The names of all that run."""
        return list(self._lives)

    def host(self, name: str) -> Host[M]:
        """The host of that name."""
        return self._life(name).host

    def _of(self, door: Door[M]) -> _Life[M] | None:
        """The life that a door belongs to, if it has not ended."""
        life = self._lives.get(door.name)
        return life if life is not None and life.door is door else None

    def _life(self, name: str) -> _Life[M]:
        if name not in self._lives:
            raise UsageError(f"no host {name!r} runs")
        return self._lives[name]

    def _end(self, name: str) -> _Life[M]:
        life = self._lives.pop(name, None) or self._life(name)
        for pair in [pair for pair in self._apart if pair[0] == name]:
            del self._apart[pair]
        return life

    # -- faults -------------------------------------------------------------------------

    def cut(self, src: str, dst: str) -> None:
        """Let nothing pass from ``src`` to ``dst``: their contact is lost with the next message, or after ``patience``."""
        self._cuts[src, dst] = None
        self._after(self.delivery.patience, lambda: self._cut_contact(src, dst))

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut both ways between all sides."""
        for one, other in itertools.permutations([list(side) for side in sides], 2):
            for pair in itertools.product(one, other):
                self.cut(*pair)

    def heal(self) -> None:
        """Undo all cuts."""
        self._cuts.clear()

    def _cut_contact(self, src: str, dst: str) -> None:
        if (src, dst) in self._cuts:
            self._break(src, dst)

    # -- time ---------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = end

    def _after(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), act))

    # -- what doors do --------------------------------------------------------------------

    def send(self, door: Door[M], peer: str, message: M) -> None:
        """Put a message on its way; see `Door.send`."""
        name, life = door.name, self._of(door)
        if life is None or (number := life.open.get(peer)) is None:
            self.counts["discarded"] += 1
        elif self._chance.random() < self.delivery.breaks:
            self._break(name, peer)
        elif self._chance.random() < self.delivery.loss:
            self.counts["lost"] += 1
        else:
            self._travel((name, peer), number, lambda life: life.host.heard(name, message, self.now))

    def want(self, door: Door[M], peer: str) -> None:
        """Keep a contact; see `Door.meet`."""
        life = self._of(door)
        if life is not None and peer != door.name and peer not in life.wants:
            life.wants[peer] = None
            if peer not in life.open:
                self._try(door.name, peer)

    def unwant(self, door: Door[M], peer: str) -> None:
        """End a contact; see `Door.forget`."""
        if (life := self._of(door)) is None:
            return
        life.wants.pop(peer, None)
        if life.open.pop(peer, None) is not None:
            self._lose(peer, door.name)

    def wake(self, door: Door[M], at: float) -> None:
        """Tick a host; see `Door.wake`."""
        if (life := self._of(door)) is None:
            return
        life.alarm = at

        def ring() -> None:
            if self._of(door) is life and life.alarm == at:
                life.alarm = None
                life.host.tick(self.now)

        self._after(max(0.0, at - self.now), ring)

    # -- contacts -------------------------------------------------------------------------

    def _travel(self, pair: Pair, number: int, act: Callable[[_Life[M]], None]) -> None:
        """Deliver behind what the contact carries already, unless it is lost meanwhile."""
        due = self.now + self.delivery.latency + self.delivery.jitter * self._chance.random()
        due = self._last[pair, number] = max(due, self._last.get((pair, number), 0.0))

        def arrive() -> None:
            src, dst = pair
            life = self._lives.get(dst)
            if life is None or life.open.get(src) != number:
                self.counts["lost"] += 1
            elif pair in self._cuts:
                self._break(src, dst)
            else:
                self.counts["delivered"] += 1
                act(life)

        self._after(due - self.now, arrive)

    def _break(self, one: str, other: str) -> None:
        self.counts["broken"] += 1
        self._lose(one, other)
        self._lose(other, one)

    def _lose(self, name: str, peer: str) -> None:
        """One end has lost its contact, if it had one: it dials, and in the end is told."""
        life = self._lives.get(name)
        if life is None or life.open.pop(peer, None) is None:
            return
        self._miss(name, peer)
        if peer in life.wants:
            self._try(name, peer)

    def _miss(self, name: str, peer: str) -> None:
        if (name, peer) not in self._apart:
            self._apart[name, peer] = self.now
            self._after(self.delivery.patience, lambda: self._give_up(name, peer))

    def _try(self, name: str, peer: str) -> None:
        """Open a contact soon; who wants it tries for ever."""
        if (name, peer) not in self._trying:
            self._trying[name, peer] = None
            self._miss(name, peer)
            self._after(self.delivery.redial * self._chance.random(), lambda: self._dial(name, peer))

    def _dial(self, name: str, peer: str) -> None:
        self._trying.pop((name, peer), None)
        life = self._lives.get(name)
        if life is None or peer not in life.wants or peer in life.open:
            return
        if peer not in self._lives or {(name, peer), (peer, name)} & self._cuts.keys():
            self._try(name, peer)
            return
        number = next(self._numbers)
        self.counts["opened"] += 1
        for one, other in ((name, peer), (peer, name)):
            self._apart.pop((one, other), None)
            self._lives[one].open[other] = number
        life.host.opened(peer, self.now)
        if self._lives[peer].open.get(name) == number:
            self._lives[peer].host.opened(name, self.now)

    def _give_up(self, name: str, peer: str) -> None:
        since = self._apart.get((name, peer))
        if since is not None and self.now >= since + self.delivery.patience:
            self._lives[name].host.down(peer, self.now)
