"""Refused dials: hard evidence that a process is gone, once two observers have it.

The machine that runs a process refuses dials for it when it is gone, and only then; but one
observer may have dialled a wrong machine, or a firewall. So one refusal is told to the
others, and two within ``window`` seconds are a fact.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Case:
    """What is known against one boot of one member."""

    boot: int
    at: dict[str, float] = field(default_factory=dict)
    told: float | None = None
    tell_at: float | None = None


class Refusals:
    """Whose dials were refused, by the member that was dialled.

    >>> refusals = Refusals(window=1.0)
    >>> refusals.note("b", 7, by="a", now=5.0)
    >>> refusals.note("b", 7, by="c", now=5.5)
    >>> refusals.observers("b", 5.9), refusals.observers("b", 6.1)
    (['a', 'c'], ['c'])
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._cases: dict[str, _Case] = {}

    @property
    def names(self) -> list[str]:
        """The members that anything is known against."""
        return list(self._cases)

    @property
    def deadline(self) -> float | None:
        """When the first is to be told. O(n)."""
        return min((case.tell_at for case in self._cases.values() if case.tell_at is not None), default=None)

    def note(self, name: str, boot: int, by: str, now: float) -> None:
        """Take a refusal; one of a later boot begins anew."""
        case = self._cases.get(name)
        if case is None or case.boot < boot:
            case = self._cases[name] = _Case(boot)
        if case.boot == boot:
            case.at[by] = now

    def observers(self, name: str, now: float) -> list[str]:
        """Those whose refusal is fresh."""
        case = self._cases.get(name)
        return [by for by, at in case.at.items() if now - at <= self._window] if case is not None else []

    def retract(self, name: str, by: str) -> None:
        """An observer has reached it after all."""
        if (case := self._cases.get(name)) is not None:
            case.at.pop(by, None)
            case.tell_at = None

    def drop(self, name: str) -> None:
        """The case is closed."""
        self._cases.pop(name, None)

    def plan(self, name: str, at: float, now: float) -> None:
        """Tell the others at that moment, unless that is planned already, or was done within the window."""
        case = self._cases[name]
        if case.tell_at is None and (case.told is None or now - case.told > self._window):
            case.tell_at = at

    def due(self, now: float) -> list[tuple[str, int]]:
        """Take what is to be told now: members and their boots."""
        due = [(name, case) for name, case in self._cases.items() if case.tell_at is not None and case.tell_at <= now]
        for _, case in due:
            case.tell_at, case.told = None, now
        return [(name, case.boot) for name, case in due]
