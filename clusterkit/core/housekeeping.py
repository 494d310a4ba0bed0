"""What a member does now and then: retire old counts, forget old removals, remove who is down for good."""

from clusterkit.core.member_view import MemberView
from clusterkit.core.ring_frames import Change
from clusterkit.core.ring_state import RingState

_EVERY = 5.0  # seconds


class Housekeeping:
    """Of one run of one node. ``removal_ttl`` and ``auto_remove_after`` are seconds; None: nobody is removed."""

    def __init__(self, ring: RingState, view: MemberView, removal_ttl: float, auto_remove_after: float | None) -> None:
        self.next_deadline: float | None = None
        self._ring = ring
        self._view = view
        self._removal_ttl = removal_ttl
        self._auto_remove_after = auto_remove_after

    def begin(self, now: float) -> None:
        """Begin: there is something to keep."""
        self.next_deadline = now + _EVERY

    def keep(self, now: float, *, settled: bool) -> list[Change]:
        """Do what is due; return the changes to tell of."""
        if self.next_deadline is None or now < self.next_deadline:
            return []
        self.next_deadline = now + _EVERY
        if gone := self._view.gone_for(self._removal_ttl, now):
            self._ring.forget_removals(gone)
        retired = self._ring.retire() if settled else None
        return [*([] if retired is None else [retired]), *self._remove_who_is_down(now)]

    def _remove_who_is_down(self, now: float) -> list[Change]:
        """The first by name of more than half of the members does: two halves of a split never remove each other."""
        reachable = self._view.reachable()
        decides = reachable[:1] == [self._ring.me.name] and 2 * len(reachable) > len(self._view.members)
        if self._auto_remove_after is None or not decides:
            return []
        return [self._ring.remove(name) for name in self._view.down_for(self._auto_remove_after, now)]
