"""What every member lists, as it says so itself, and when all of them agree.

A member writes one line for each change of its list: the time on CLOCK_MONOTONIC, which
is the same clock in all processes of a machine, what it now believes, of whom, and where
that one is: ``2345.678901 alive n3 10.77.0.3:40123``. Between the time of an act, on the
same clock, and the time of the last line that was needed lies what the act took.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ALIVE = "alive"
READY = "ready"  # of a member that was started: it takes commands

Wanted = Callable[["Change"], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """A line: at ``at`` a member began to believe ``state`` of ``name``, which is at ``place``."""

    at: float
    state: str
    name: str
    place: str = ""


def read_change(line: str) -> Change | None:
    """Read a line; None when it is something else that a program prints.

    >>> read_change("2345.5 alive n3 10.77.0.3:40123")
    Change(at=2345.5, state='alive', name='n3', place='10.77.0.3:40123')
    >>> read_change("Traceback (most recent call last):")
    """
    match line.split():
        case [at, state, name, *place] if len(place) <= 1 and state.isalpha():
            try:
                return Change(float(at), state, name, *place)
            except ValueError:
                return None
    return None


class Views:
    """The lists of all members."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[str, Change]] = {}
        self._history: list[Change] = []
        self._news = asyncio.Event()

    def note(self, observer: str, change: Change) -> None:
        """Take what ``observer`` says."""
        self._lists.setdefault(observer, {})[change.name] = change
        self._history.append(change)
        self._news.set()

    def count(self, since: float, state: str) -> int:
        """How often somebody began to believe ``state`` of anybody."""
        return sum(change.state == state and change.at >= since for change in self._history)

    def forget(self, name: str) -> None:
        """Drop a member that is no more, as an observer and as observed."""
        self._lists.pop(name, None)
        for held in self._lists.values():
            held.pop(name, None)

    def agreed(self, names: Iterable[str], observers: Iterable[str], wanted: Wanted) -> float | None:
        """Since when all observers hold what is wanted of all names but their own; None when they do not."""
        at, names = 0.0, list(names)
        for observer in observers:
            held = self._lists.get(observer, {})
            for name in names:
                if name == observer:
                    continue
                if name not in held or not wanted(held[name]):
                    return None
                at = max(at, held[name].at)
        return at

    async def until_agreed(
        self, names: Iterable[str], observers: Iterable[str], wanted: Wanted, timeout: float
    ) -> float | None:
        """Wait until `agreed`; None after ``timeout`` seconds."""
        names, observers = list(names), list(observers)
        try:
            async with asyncio.timeout(timeout):
                while (at := self.agreed(names, observers, wanted)) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return self.agreed(names, observers, wanted)
        return at

    def lacking(self, names: Iterable[str], observers: Iterable[str], wanted: Wanted) -> list[str]:
        """The observers that do not hold what is wanted, for an error's text."""
        names = list(names)
        return [observer for observer in observers if self.agreed(names, [observer], wanted) is None]


def believes(*states: str, place: str = "") -> Wanted:
    """Build the condition that a member is in one of the states, and at ``place`` if that is given."""
    return lambda change: change.state in states and place in ("", change.place)
