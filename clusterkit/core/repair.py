"""When to ask whom for what is missing here.

Every probe carries a digest; where two differ, one asks the other for a delta. News on
its way makes digests differ for some milliseconds, and asking then would send everything
twice: so while this node's state is changing it waits, but never longer than a second.
A change that came before what it depends on is waited for too, for 200 ms.
"""

_QUIET = 0.05  # seconds without a change, after which a difference is believed
_PATIENCE = 1.0  # seconds after which it is believed anyway
_AGAIN = 0.25  # seconds until the same member is asked again
_PARKED = 0.2  # seconds that a change waits for what it depends on


class Repair:
    """The questions of one node.

    >>> repair = Repair()
    >>> repair.asks("b", 10.0), repair.asks("b", 10.1), repair.asks("c", 10.1)
    (True, False, True)
    """

    def __init__(self) -> None:
        self._changed_at = -_QUIET
        self._differs_since: float | None = None
        self._asked: dict[str, float] = {}
        self._parked: dict[str, float] = {}

    @property
    def next_deadline(self) -> float | None:
        """When a parked change has waited long enough."""
        return min(self._parked.values(), default=None)

    def changed(self, now: float) -> None:
        """Take note that this node's state changed."""
        self._changed_at = now

    def agrees(self) -> None:
        """Take note that a member knows the same."""
        self._differs_since = None

    def differs(self, name: str, now: float) -> bool:
        """Take note that a member's digest is another; tell whether to ask it now."""
        if self._differs_since is None:
            self._differs_since = now
        believed = now - self._changed_at >= _QUIET or now - self._differs_since >= _PATIENCE
        return believed and self.asks(name, now)

    def asks(self, name: str, now: float) -> bool:
        """Take note that a member is asked; False when it was a moment ago."""
        if now - self._asked.get(name, -_AGAIN) < _AGAIN:
            return False
        self._asked[name] = now
        return True

    def parked(self, name: str, now: float) -> None:
        """Take note that a change from this member waits for another."""
        self._parked.setdefault(name, now + _PARKED)

    def overdue(self, now: float) -> list[str]:
        """The members to ask for what has not come."""
        late = [name for name, at in self._parked.items() if at <= now]
        for name in late:
            del self._parked[name]
        return late

    def forget(self, name: str) -> None:
        """Take note that the link to a member ended."""
        self._asked.pop(name, None)
        self._parked.pop(name, None)
