"""The probes under way: our own, and those for others.

A probe of our own has two stages: first the member itself is asked, then helpers are
asked to ask it. A *relay* is a probe for another member, which wants to know what came
of it: an answer, or no answer in time.
"""

from dataclasses import dataclass, field

_MOST = 1024  # under way at once; who asks for more is not served


@dataclass(slots=True)
class Running:
    """One probe under way."""

    number: int
    target: str
    of: tuple[int, int]
    """The (boot, inc) that was believed when it began: it says nothing of a later one."""
    sent: float
    due: float
    accuses: bool = True
    """False for a member that is believed down already: only its answer would be news."""
    asker: tuple[str, int] | None = None
    """Of a relay: who asked, and its number there."""
    helpers: tuple[str, ...] | None = None
    """None in the first stage."""
    noes: dict[str, None] = field(default_factory=dict)
    """The helpers that said that they had no answer either."""

    @property
    def silent_helpers(self) -> list[str]:
        """The helpers that did not even say no: if they are well, the trouble may be ours."""
        return [helper for helper in self.helpers or () if helper not in self.noes]


class Probes:
    """All of them, by number. Numbers are never used again.

    >>> probes = Probes()
    >>> probe = probes.begin("b", (7, 0), now=1.0, due=1.3)
    >>> probes.is_probing("b"), probes.deadline
    (True, 1.3)
    >>> probes.take(probe.number, "c"), probes.take(probe.number, "b") is probe
    (None, True)
    """

    def __init__(self) -> None:
        self._running: dict[int, Running] = {}
        self._own: dict[str, int] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._running)

    @property
    def is_full(self) -> bool:
        """Whether no more can begin."""
        return len(self._running) >= _MOST

    @property
    def deadline(self) -> float | None:
        """When the first of them is due. O(n)."""
        return min((each.due for each in self._running.values()), default=None)

    def is_probing(self, target: str) -> bool:
        """Whether a probe of our own is under way to it."""
        return target in self._own

    @property
    def targets(self) -> list[str]:
        """Whom probes of our own wait for."""
        return list(self._own)

    def to(self, target: str) -> Running | None:
        """Our own probe of a member, if one is under way."""
        number = self._own.get(target)
        return None if number is None else self._running[number]

    def begin(self, target: str, of: tuple[int, int], now: float, due: float, *, accuses: bool = True) -> Running:
        """Begin one of our own; there is none to that target."""
        probe = self._add(Running(self._next(), target, of, now, due, accuses))
        self._own[target] = probe.number
        return probe

    def relay(self, target: str, asker: tuple[str, int], now: float, due: float) -> Running:
        """Begin one for another member."""
        return self._add(Running(self._next(), target, (0, 0), now, due, asker=asker))

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _add(self, probe: Running) -> Running:
        self._running[probe.number] = probe
        return probe

    def own(self, number: int) -> Running | None:
        """Our own probe of that number, if it is under way."""
        probe = self._running.get(number)
        return probe if probe is not None and probe.asker is None else None

    def take(self, number: int, target: str) -> Running | None:
        """End the probe of that number and target."""
        probe = self._running.get(number)
        if probe is None or probe.target != target:
            return None
        self.end(probe)
        return probe

    def end(self, probe: Running) -> None:
        """End a probe that is under way."""
        del self._running[probe.number]
        if probe.asker is None:
            del self._own[probe.target]

    def due(self, now: float) -> list[Running]:
        """Those whose time is over."""
        return [each for each in self._running.values() if each.due <= now]

    def forget(self, target: str) -> None:
        """End our own probe of a member that needs none any more."""
        number = self._own.pop(target, None)
        if number is not None:
            del self._running[number]

    def void(self) -> None:
        """End all, and nothing was learnt."""
        self._running.clear()
        self._own.clear()
