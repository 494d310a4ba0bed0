"""The durations and counts of the failure detector, each with its reason.

They bound each other. A probe takes ``probe_timeout + indirect_timeout`` until it
accuses, a suspicion at least ``suspicion_least``: so nobody is declared down within
0.3 + 0.4 + 2.5 = 3.2 s of its last sign of life, which is what lets a member's loop
stall for 3.0 s unpunished. There is no factor that grows with the number of members:
an accusation reaches all within a few hops, and a refutation returns as fast.
"""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Timers:
    """Durations in seconds, for a local network.

    >>> Timers().suspicion_least, Timers.wan().suspicion_least
    (2.5, 10.0)
    """

    probe_interval: float = 0.5
    """One member is probed in each; times (1 + health), as are the next two."""
    probe_timeout: float = 0.3
    """From a probe until others are asked to probe too."""
    indirect_timeout: float = 0.4
    """From then until the target is accused; more than ``probe_timeout``, so that helpers can say no."""
    indirect: int = 3
    """How many members are asked to probe."""
    suspicion_least: float = 2.5
    """How long a suspicion lasts that enough others confirm."""
    suspicion_most: float = 6.0
    """How long it lasts when nobody does."""
    confirmations: int = 3
    """How many others make it shortest; fewer when there are fewer."""
    ask: int = 5
    """How many members an accuser asks for their own judgement."""
    refused_window: float = 1.0
    """Within it, refused dials of two observers are one fact."""
    tellers: int = 5
    """How many observers speak at once when all see the same; the others follow only if need be."""
    tell_after: float = 0.25
    """The least that the others wait; they speak within as much again."""
    quiet: float = 2.5
    """After a stall of its own, a member accuses nobody for so long."""
    stall: float = 1.0
    """A loop that was late by more has stalled."""
    felt: float = 0.05
    """A loop that was late by more during a probe lowers the local health."""
    late: float = 0.02
    """A loop that was late by more gets ``grace`` before it judges: answers may wait unread."""
    grace: float = 0.05
    pulse: float = 0.1
    """The longest between two ticks while something is to be judged, or a short stall would not be noticed."""

    @classmethod
    def wan(cls) -> "Timers":
        """The profile for wide-area networks: all that waits for others takes four times as long."""
        lan = cls()
        own = {"stall", "felt", "late", "grace", "pulse"}
        durations = [field.name for field in fields(cls) if field.type is float and field.name not in own]
        return replace(lan, **{name: 4 * getattr(lan, name) for name in durations})


@dataclass(frozen=True, slots=True)
class LivenessSafeguards:
    """Each False is one mistake, for the tests that must find it."""

    indirect_probes: bool = True
    """Others are asked before a member is accused."""
    suspicion: bool = True
    """An accusation can be refuted before it is a verdict."""
    confirmations: bool = True
    """A suspicion is short only when others confirm it."""
    stale_probes: bool = True
    """A probe begun before a refutation proves nothing after it."""
    refutation_raises: bool = True
    """A refutation has a higher number than what it refutes."""
    proof_of_life: bool = True
    """An answer during a suspicion begins it anew."""
    lag_voids: bool = True
    """A probe during which the own loop was late is void."""
    stall_protection: bool = True
    """After a stall nobody is accused for a while."""
    grace: bool = True
    """A loop that is a little late reads before it judges."""
    pulse: bool = True
    """Stalls between two deadlines are noticed."""
    local_health: bool = True
    """A member that has trouble itself is slower to judge."""
    second_observer: bool = True
    """One refused dial alone is no verdict while others could confirm it."""
    refusal_window: bool = True
    """A refused dial is forgotten after a while."""
    boots: bool = True
    """A refused dial accuses only the boot that was dialled."""
    tellers: bool = True
    """A few speak for all."""
