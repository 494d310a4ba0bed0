"""One direction between two nodes: how long bytes travel, and whether they pass at all.

TCP hides loss from its users as delay: what is lost goes again. So a lossy path is a
slower one, and a cut path delivers nothing until it is healed, then everything that
was sent meanwhile. Nothing here knows of connections.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from clusterkit.testing.loop import SimulationLoop


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a path treats what travels on it; durations in seconds, chances from 0 to 1.

    >>> Conditions(latency=0.02, jitter=0.01)
    Conditions(latency=0.02, jitter=0.01, loss=0.0, retransmission=0.2, fragmentation=0.05, window=262144)
    """

    latency: float = 0.001
    """The least that a segment takes, one way."""
    jitter: float = 0.001
    """The most that chance adds to it."""
    loss: float = 0.0
    """The chance that a segment is lost, and comes after a retransmission (or after two, or three)."""
    retransmission: float = 0.2
    """How long TCP waits before it sends again; after a heal, the most that it takes to notice."""
    fragmentation: float = 0.05
    """The chance that a segment arrives in two parts."""
    window: int = 256 * 1024
    """Bytes that a connection takes from its sender before the receiver has read any."""


class Path:
    """From one node to another. ``blocked`` while it is cut, or while either end is dark."""

    def __init__(self, loop: SimulationLoop, src: str, dst: str, conditions: Conditions) -> None:
        self.loop = loop
        self.src = src
        self.dst = dst
        self.conditions = conditions
        self.blocked = False
        self._chance = random.Random(f"{loop.seed}:path:{src}>{dst}")  # noqa: S311 - a simulation's chance
        self._waiting: list[Callable[[], object]] = []

    def chance(self) -> float:
        """Draw from 0 to 1."""
        return self._chance.random()

    def delay(self) -> float:
        """Draw how long the next segment travels."""
        conditions = self.conditions
        delay = conditions.latency + conditions.jitter * self.chance()
        while conditions.loss and self.chance() < conditions.loss:
            delay += conditions.retransmission
        return delay

    def after(self, delay: float, arrive: Callable[[], object]) -> None:
        """Call ``arrive`` when ``delay`` has passed, cut or not, and though a machine stands still."""
        self.loop.call_at(self.loop.time() + delay, arrive, context=self.loop.wire)

    def again(self, arrive: Callable[[], object]) -> None:
        """Call ``arrive`` once the path is open and a retransmission has passed."""
        if self.blocked:
            self._waiting.append(lambda: self.again(arrive))
        else:
            self.after(self.conditions.retransmission * self.chance(), arrive)

    def when_open(self, act: Callable[[], object]) -> None:
        """Call ``act`` now, or as soon as the path is open."""
        if self.blocked:
            self._waiting.append(act)
        else:
            act()

    async def travel(self) -> None:
        """Wait as long as something takes that is sent until it arrives."""
        arrived = self.loop.create_future()

        def arrive() -> None:
            if self.blocked:
                self.again(arrive)
            elif not arrived.done():
                arrived.set_result(None)

        self.after(self.delay(), arrive)
        await arrived

    def block(self, blocked: bool) -> None:
        """Cut the path or open it; what waited for it goes on."""
        self.blocked = blocked
        if not blocked:
            waiting, self._waiting = self._waiting, []
            for act in waiting:
                act()
