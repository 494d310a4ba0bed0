"""When a member must doubt itself: its loop stood still, and what it takes for silence lies unread.

The measure is how late a deadline is met. A little late: judge a moment later, when the
bytes that wait in the sockets are read. Late by more than half of a probe's timeout: the probes
under way show nothing. Late by more than a second, the process was stopped or the
machine overwhelmed: it accuses nobody for a while.

While there is anything to judge a *pulse* keeps deadlines close together: between two
that are far apart a stall would pass unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clusterkit.core.liveness_timers import LivenessSafeguards, Timers


@dataclass(frozen=True, slots=True)
class Lag:
    """What a late deadline means."""

    stalled: bool = False
    voids: bool = False
    """The probes under way are void."""
    felt: bool = False
    """It is a sign of trouble, if a probe was under way."""


class LoopLag:
    """How late one member's loop is.

    >>> lag = LoopLag(Timers(), LivenessSafeguards())
    >>> lag.notice(late=0.3, scale=1, now=5.0)
    Lag(stalled=False, voids=True, felt=True)
    >>> lag.may_judge(5.04), lag.may_judge(5.05), lag.may_accuse(5.05)
    (False, True, True)
    """

    def __init__(self, timers: Timers, guards: LivenessSafeguards) -> None:
        self._timers = timers
        self._guards = guards
        self._hold = 0.0
        self._is_held = False
        self._pulse = 0.0
        self.quiet_until = 0.0
        """Until then this member accuses nobody."""

    def notice(self, late: float, scale: int, now: float) -> Lag:
        """Take note of how late it is; ``scale`` is that of the local health."""
        timers, guards = self._timers, self._guards
        if late <= timers.late:
            return Lag()
        stalled = late > timers.stall and guards.stall_protection
        voids = late > timers.probe_timeout * scale / 2 and guards.lag_voids
        if stalled:
            self.quiet_until = now + timers.quiet
        if guards.grace and (voids or not self._is_held):  # once: one that is always a little late judges, too
            self._is_held = True
            self._hold = now + timers.grace
        return Lag(stalled, voids, late > timers.felt)

    def may_judge(self, now: float) -> bool:
        """Whether what is overdue is really so. For a tick to ask: it ends the grace."""
        if now < self._hold:
            return False
        self._is_held = False
        return True

    def may_accuse(self, now: float) -> bool:
        """Whether a stall of our own is long enough ago."""
        return now >= self.quiet_until

    def soonest(self, dues: Sequence[float], now: float) -> float | None:
        """When to tick, if these are the moments to judge something."""
        if self._pulse <= now:
            self._pulse = now + self._timers.pulse
        if not dues:
            return None
        soonest = max(min(dues), self._hold)
        return min(soonest, self._pulse) if self._guards.pulse else soonest
