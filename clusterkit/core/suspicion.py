"""A suspicion: how long a member may refute before it is declared down.

It runs from ``most`` seconds when nobody confirms it down to ``least`` when ``enough``
others do, by Lifeguard's formula: the first confirmation shortens it most::

    most - (most - least) * log(confirmations + 1) / log(enough + 1)

A member alone with the accused one has nobody to confirm, and waits ``least``.
"""

from math import log


class Suspicion:
    """One member under suspicion, at one (boot, inc).

    >>> suspicion = Suspicion((7, 0), now=10.0, least=2.5, most=6.0, enough=3)
    >>> suspicion.deadline
    16.0
    >>> [suspicion.confirm(name) and round(suspicion.deadline, 2) for name in "abbcd"]
    [16.0, 14.25, False, 13.23, 12.5]
    """

    __slots__ = ("_begun", "_enough", "_held", "_least", "_most", "accusers", "deadline", "of")

    def __init__(self, of: tuple[int, int], now: float, least: float, most: float, enough: int) -> None:
        self.of = of
        self.accusers: dict[str, None] = {}
        self._begun = now
        self._least = least
        self._most = most
        self._enough = enough
        self._held = 0.0
        self.deadline = self._compute()

    @property
    def begun(self) -> float:
        """When it began, for the last time."""
        return self._begun

    @property
    def is_confirmed(self) -> bool:
        """Whether more accusers change nothing."""
        return len(self.accusers) > self._enough

    def confirm(self, by: str) -> bool:
        """Count an accuser; the first is no confirmation. False for one that is counted already."""
        if by in self.accusers:
            return False
        self.accusers[by] = None
        self.deadline = self._compute()
        return True

    def begin_anew(self, now: float) -> None:
        """Forget who accused, and wait all over again."""
        self.accusers.clear()
        self._begun = now
        self._held = 0.0
        self.deadline = self._compute()

    def defer(self, until: float) -> None:
        """Leave the verdict to others until then."""
        self._held = until
        self.deadline = self._compute()

    @property
    def is_deferred(self) -> bool:
        """Whether the verdict was left to others already."""
        return self._held > 0.0

    def _compute(self) -> float:
        confirmations = min(self._enough, max(0, len(self.accusers) - 1))
        share = log(confirmations + 1) / log(self._enough + 1) if self._enough else 1.0
        return max(self._held, self._begun + self._most - (self._most - self._least) * share)
