"""How far a member trusts its own judgement: Lifeguard's local health.

A member that has trouble itself (a late loop, helpers that do not even say no,
accusations it must refute) sees others fail. It counts these signs from 0, healthy, to 8,
and multiplies its probe interval and timeouts by one more than that.

Reference: A. Dadgar, J. Phillips, J. Currey, "Lifeguard: Local Health Awareness for
More Accurate Failure Detection" (2018).
"""

_WORST = 8


class LocalHealth:
    """The score of one member.

    >>> health = LocalHealth()
    >>> health.worsen()
    >>> health.score, health.scale
    (1, 2)
    """

    __slots__ = ("_counts", "score")

    def __init__(self, *, counts: bool = True) -> None:
        self.score = 0
        self._counts = counts

    @property
    def scale(self) -> int:
        """By what intervals and timeouts are multiplied."""
        return 1 + self.score

    def worsen(self) -> None:
        """Take a sign of trouble of our own."""
        if self._counts:
            self.score = min(_WORST, self.score + 1)

    def mend(self) -> None:
        """Take a sign that all is well: a probe was answered in time."""
        self.score = max(0, self.score - 1)
