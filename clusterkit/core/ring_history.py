"""Which events a replica of the ring has, and which of them was each actor's last about a name.

V, W, log and Vgc of the rules (docs/membership.md): counts of actors; per name the
floor, a boot below which every event counts as known; the log, an index for deltas
and contexts; the frontier of removal records that were forgotten.

Rules: counts only grow, by one event or by a join with what another replica has;
a floor only rises, and drops the older boots' counts and log entries; the frontier
is local and never compared. The digest covers counts and floors and changes in O(1).
"""

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

from clusterkit.core.ring_entry import Actor, Dot
from clusterkit.core.ring_frames import Clock

_NOTHING: Mapping[Actor, int] = {}


def hash64(kind: str, *parts: object) -> int:
    """Hash names and numbers to 64 bits, the same in every process; a name has no space in it.

    >>> hex(hash64("count", "a", 7, 1))
    '0x2d9051bcf19cd4a2'
    """
    return int.from_bytes(blake2b(" ".join((kind, *map(str, parts))).encode(), digest_size=8).digest(), "big")


class History:
    """The events of one replica.

    >>> history = History()
    >>> history.record(Dot(Actor("a", 7), 1), "b")
    >>> history.covers(Actor("a", 7), 1), history.context("b")
    (True, {Actor(name='a', boot=7): 1})
    """

    def __init__(self) -> None:
        self.counts: dict[Actor, int] = {}
        self.floors: dict[str, int] = {}
        self.log: dict[Actor, dict[str, int]] = {}
        self.forgotten: dict[Actor, int] = {}
        self.digest = 0
        self._about: dict[str, dict[Actor, int]] = {}  # the log by name
        self._boots: dict[str, set[int]] = {}

    # -- reading

    def clock(self) -> Clock:
        """A copy of counts and floors."""
        return Clock(dict(self.counts), dict(self.floors))

    def covers(self, actor: Actor, n: int) -> bool:
        """Tell whether the n-th event of the actor is known."""
        return self.counts.get(actor, 0) >= n or actor.boot < self.floors.get(actor.name, 0)

    def covers_clock(self, clock: Clock) -> bool:
        """Tell whether all that ``clock`` covers is known here."""
        return all(self.covers(actor, n) for actor, n in clock.counts.items()) and all(
            self.floors.get(name, 0) >= boot for name, boot in clock.floors.items()
        )

    def context(self, name: str) -> dict[Actor, int]:
        """Each actor's newest event about the name, as far as it is logged."""
        return dict(self._about.get(name, _NOTHING))

    def boots(self, name: str) -> Iterable[int]:
        """The boots of the name that have a count."""
        return self._boots.get(name, ())

    def logged(self) -> Collection[str]:
        """The names that have log entries."""
        return self._about

    def unknown_to(self, clock: Clock) -> list[str]:
        """The names with a logged event that ``clock`` does not cover, in order.

        O(log entries of the actors that it lacks something of).
        """
        names: set[str] = set()
        for actor, n in self.counts.items():
            if not clock.covers(actor, n):
                known = clock.counts.get(actor, 0)
                names.update(name for name, last in self.log.get(actor, {}).items() if last > known)
        return sorted(names)

    # -- growing

    def record(self, dot: Dot, name: str) -> None:
        """Incorporate an event about a name, the next one of its actor."""
        self._count(dot.actor, dot.n)
        self._note(dot.actor, name, dot.n)

    def join(self, clock: Clock, log: Mapping[Actor, Mapping[str, int]], forgotten: Mapping[Actor, int]) -> None:
        """Incorporate all that another replica's clock covers."""
        for name, boot in clock.floors.items():
            self.raise_floor(name, boot)
        for actor, n in clock.counts.items():
            if not self.covers(actor, n):
                self._count(actor, n)
        for actor, names in log.items():
            for name, n in names.items():
                self._note(actor, name, n)
        for actor, n in forgotten.items():
            self._forget_to(actor, n)

    def raise_floor(self, name: str, boot: int) -> None:
        """Take all events of older boots of the name as known, and drop what is kept of them."""
        old = self.floors.get(name, 0)
        if boot <= old:
            return
        self.floors[name] = boot
        self.digest ^= (hash64("floor", name, old) if old else 0) ^ hash64("floor", name, boot)
        for each in [each for each in self._boots.get(name, ()) if each < boot]:
            self._drop(Actor(name, each))

    def forget(self, name: str) -> None:
        """Drop the log entries of a name; the frontier remembers up to where."""
        for actor, n in self._about.pop(name, _NOTHING).items():
            del self.log[actor][name]
            self._forget_to(actor, n)

    def _count(self, actor: Actor, n: int) -> None:
        old = self.counts.get(actor, 0)
        self.counts[actor] = n
        self._boots.setdefault(actor.name, set()).add(actor.boot)
        self.digest ^= (hash64("count", *actor, old) if old else 0) ^ hash64("count", *actor, n)

    def _note(self, actor: Actor, name: str, n: int) -> None:
        about = self._about.get(name, _NOTHING)
        if actor in self.counts and n > about.get(actor, 0):
            self.log.setdefault(actor, {})[name] = n
            self._about.setdefault(name, {})[actor] = n

    def _forget_to(self, actor: Actor, n: int) -> None:
        if actor in self.counts and n > self.forgotten.get(actor, 0):
            self.forgotten[actor] = n

    def _drop(self, actor: Actor) -> None:
        self._boots[actor.name].discard(actor.boot)
        self.digest ^= hash64("count", *actor, self.counts.pop(actor))
        self.forgotten.pop(actor, None)
        for name in self.log.pop(actor, {}):
            about = self._about[name]
            del about[actor]
            if not about:
                del self._about[name]
