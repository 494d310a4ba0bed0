"""A message-level network: a hundred core machines and more, without links, sockets or a loop.

What a cluster of that size decides is decided by its core machines; a simulated link for
each of the thousands of pairs would cost minutes and show nothing new. So here whole
messages travel between `Host` objects, each a thin coat around a machine; virtual time is
a heap of deliveries, and the seed decides how long each takes::

    net = MessageNet(seed=7, delivery=Delivery(breaks=0.01))
    for name in names:
        net.start(name, make_host)
    net.partition(names[:50], names[50:])
    net.run(60.0)
    net.heal()
    net.run(60.0)

Rules. A pair of hosts has a *contact* while one of them wants it and both can reach each
other: opened at both ends, messages in order each way, lost at both with all that is on
its way. It is tried again for ever, as links are: at once when it stood for a second, then
with back-off; who dials is told of each dial that came to nothing. Its end is told as down when no new
contact follows within ``patience``. With ``loss`` single messages vanish unseen, as those
do that a full outbox has no room for. A host that is paused keeps its contacts for ``silence``
seconds, reads nothing, and hears all of it when it goes on.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from clusterkit.core.backoff import Backoff
from clusterkit.errors import UsageError

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)
Pair = tuple[str, str]
REFUSED = "refused"
"""Why a dial came to nothing: no host of that name runs."""
UNANSWERED = "no answer"
"""Why a dial came to nothing: the way is cut, or the host is paused."""
_STOOD = 1.0  # seconds
_FIRST_REDIAL = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages travel; durations in seconds, chances from 0 to 1.

    >>> Delivery(latency=0.1)
    Delivery(latency=0.1, jitter=0.01, loss=0.0, breaks=0.0, redial=1.0, patience=3.0, silence=15.0)
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
    silence: float = 15.0
    """How long a contact is kept whose other end is paused, or which nothing passes."""


class Host(Protocol[M_contra]):
    """One machine in its coat: it is told what happens, and acts through the `Door` that it was made with."""

    def opened(self, peer: str, now: float) -> None:
        """There is a contact with ``peer``; it is told the same."""

    def heard(self, peer: str, message: M_contra, now: float) -> None:
        """A message came."""

    def lost(self, peer: str, now: float) -> None:
        """The contact with ``peer`` broke."""

    def down(self, peer: str, now: float) -> None:
        """There was no contact with ``peer`` for too long."""

    def parted(self, peer: str, now: float) -> None:
        """The peer said goodbye, and the contact ended."""

    def refuses(self, caller: str) -> str:
        """Say why a dial of ``caller`` is not taken; nothing when it is."""
        ...

    def unreached(self, peer: str, why: str, now: float) -> None:
        """A dial came to nothing: `REFUSED`, `UNANSWERED`, or what the peer said."""

    def tick(self, now: float) -> None:
        """The moment that was asked for with `Door.wake` has come."""


class _Life(Generic[M]):
    """From a host's start to its end."""

    host: Host[M]

    def __init__(self, door: "Door[M]") -> None:
        self.door = door
        self.wants: dict[str, Backoff] = {}
        self.open: dict[str, int] = {}  # the contacts, each with its number
        self.since: dict[str, float] = {}  # when they opened
        self.alarm: float | None = None
        self.unread: list[Callable[[], None]] | None = None  # what it does not hear while it is paused


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

    def part(self, peer: str) -> None:
        """Say goodbye behind what was sent before, and want no contact any more."""
        self._net.part(self, peer)

    def hurry(self, peer: str) -> None:
        """Dial now, if there is no contact but one is wanted."""
        self._net.hurry(self, peer)

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
        self._losses: dict[Pair, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._last: dict[tuple[Pair, int], float] = {}  # when the last message of a contact arrives
        self._trying: dict[Pair, int] = {}  # each with the number of the next try
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
        for peer, number in self._end(name).open.items():
            self._farewell(name, peer, number)

    def pause(self, name: str) -> None:
        """Let a host stand still: it hears nothing and is not ticked."""
        life = self._life(name)
        if life.unread is None:
            unread = life.unread = []
            self._after(self.delivery.silence, lambda: self._silent(name, life, unread))

    def resume(self, name: str, *, late_tick_first: bool = False) -> None:
        """Let it go on: it hears all that waited, and is ticked late, last or first."""
        life = self._life(name)
        unread, life.unread = life.unread or [], None
        if late_tick_first and life.alarm is not None and life.alarm <= self.now:
            life.alarm = None
            life.host.tick(self.now)
        for act in unread:
            act()

    def is_paused(self, name: str) -> bool:
        """Whether a host stands still."""
        return self._life(name).unread is not None

    def _silent(self, name: str, life: _Life[M], unread: list[Callable[[], None]]) -> None:
        if self._lives.get(name) is life and life.unread is unread:
            for peer in list(life.open):
                self._break(name, peer)

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

    def lose(self, src: str, dst: str, chance: float) -> None:
        """Let messages from ``src`` to ``dst`` vanish with that chance, and nobody is told.

        With 1 the two cannot dial each other, and their contact is lost after ``silence``.
        """
        self._losses[src, dst] = chance
        if chance >= 1:
            self._after(self.delivery.silence, lambda: self._mute(src, dst))

    def heal(self) -> None:
        """Undo all cuts and losses between pairs."""
        self._cuts.clear()
        self._losses.clear()

    def _mute(self, src: str, dst: str) -> None:
        if self._losses.get((src, dst), 0.0) >= 1:
            self._break(src, dst)

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

    def at(self, delay: float, act: Callable[[], None]) -> None:
        """Do something after so many seconds."""
        self._after(delay, act)

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
        elif self._chance.random() < self._losses.get((name, peer), self.delivery.loss):
            self.counts["lost"] += 1
        else:
            self._travel((name, peer), number, lambda life: life.host.heard(name, message, self.now))

    def want(self, door: Door[M], peer: str) -> None:
        """Keep a contact; see `Door.meet`."""
        life = self._of(door)
        if life is not None and peer != door.name and peer not in life.wants:
            life.wants[peer] = Backoff(_FIRST_REDIAL, self.delivery.redial, self._chance)
            if peer not in life.open:
                self._try(door.name, peer, 0.0)

    def unwant(self, door: Door[M], peer: str) -> None:
        """End a contact; see `Door.forget`."""
        if (life := self._of(door)) is None:
            return
        life.wants.pop(peer, None)
        self._trying.pop((door.name, peer), None)
        if life.open.pop(peer, None) is not None:
            self._lose(peer, door.name)

    def part(self, door: Door[M], peer: str) -> None:
        """Say goodbye; see `Door.part`."""
        if (life := self._of(door)) is None:
            return
        life.wants.pop(peer, None)
        if (number := life.open.pop(peer, None)) is not None:
            self._farewell(door.name, peer, number)

    def hurry(self, door: Door[M], peer: str) -> None:
        """Dial now; see `Door.hurry`."""
        if (door.name, peer) in self._trying:
            del self._trying[door.name, peer]
            self._try(door.name, peer, 0.0)

    def wake(self, door: Door[M], at: float) -> None:
        """Tick a host; see `Door.wake`."""
        if (life := self._of(door)) is None:
            return
        life.alarm = at

        def ring() -> None:
            if self._of(door) is life and life.alarm == at:
                life.alarm = None
                life.host.tick(self.now)

        self._after(max(0.0, at - self.now), lambda: self._tell(life, ring))

    def _tell(self, life: _Life[M], act: Callable[[], None]) -> None:
        """Let a host hear something, now or when it goes on."""
        if life.unread is None:
            act()
        else:
            life.unread.append(act)

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
                self._tell(life, lambda: act(life))

        self._after(due - self.now, arrive)

    def _farewell(self, name: str, peer: str, number: int) -> None:
        def part(life: _Life[M]) -> None:
            if life.open.get(name) == number:
                del life.open[name]
                if name in life.wants:
                    self._try(peer, name, life.wants[name].next())
                life.host.parted(name, self.now)

        self._travel((name, peer), number, part)

    def _break(self, one: str, other: str) -> None:
        self.counts["broken"] += 1
        self._lose(one, other)
        self._lose(other, one)

    def _lose(self, name: str, peer: str) -> None:
        """One end has lost its contact, if it had one: it is told, dials, and in the end is told that the peer is down."""
        life = self._lives.get(name)
        if life is None or life.open.pop(peer, None) is None:
            return
        self._miss(name, peer)
        if peer in life.wants:
            stood = self.now - life.since[peer] >= _STOOD
            self._try(name, peer, 0.0 if stood else life.wants[peer].next())
        self._after(0.0, lambda: self._tell(life, lambda: life.host.lost(peer, self.now)))

    def _miss(self, name: str, peer: str) -> None:
        if (name, peer) not in self._apart:
            self._apart[name, peer] = self.now
            self._after(self.delivery.patience, lambda: self._give_up(name, peer))

    def _try(self, name: str, peer: str, delay: float) -> None:
        """Open a contact after a while, and what a handshake takes; who wants it tries for ever."""
        if (name, peer) not in self._trying:
            number = self._trying[name, peer] = next(self._numbers)
            self._miss(name, peer)
            takes = 2 * (self.delivery.latency + self.delivery.jitter * self._chance.random())
            self._after(delay + takes, lambda: self._dial(name, peer, number))

    def _dial(self, name: str, peer: str, number: int) -> None:
        if self._trying.get((name, peer)) != number:
            return
        del self._trying[name, peer]
        life = self._lives.get(name)
        if life is None or peer not in life.wants or peer in life.open:
            return
        if life.unread is not None:
            life.unread.append(lambda: self._try(name, peer, 0.0))
        elif why := self._obstacle(name, peer):
            self._try(name, peer, life.wants[peer].next())
            life.host.unreached(peer, why, self.now)
        else:
            self._open(name, peer)

    def _obstacle(self, name: str, peer: str) -> str:
        """Why a dial comes to nothing."""
        ways = (name, peer), (peer, name)
        if any(way in self._cuts or self._losses.get(way, 0.0) >= 1 for way in ways):
            return UNANSWERED
        if (there := self._lives.get(peer)) is None:
            return REFUSED
        return there.host.refuses(name) if there.unread is None else UNANSWERED

    def _open(self, name: str, peer: str) -> None:
        number = next(self._numbers)
        self.counts["opened"] += 1
        for one, other in ((name, peer), (peer, name)):
            self._apart.pop((one, other), None)
            life = self._lives[one]
            life.open[other], life.since[other] = number, self.now
            if other in life.wants:
                life.wants[other].reset()
        for one, other in ((name, peer), (peer, name)):
            if self._lives[one].open.get(other) == number:
                self._lives[one].host.opened(other, self.now)

    def _give_up(self, name: str, peer: str) -> None:
        since, life = self._apart.get((name, peer)), self._lives.get(name)
        if since is not None and life is not None and self.now >= since + self.delivery.patience:
            self._tell(life, lambda: life.host.down(peer, self.now))
