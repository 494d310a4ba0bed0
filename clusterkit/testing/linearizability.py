"""Linearizability: whether one copy, doing one operation at a time, could have answered the same.

Each operation takes effect at one point between its call and its return. A history is
linearizable when such points exist that explain every answer. The search tries them in
the order of time and remembers which sets of operations, with which state, led nowhere.

Rules. An operation whose outcome is unknown may take effect at any time after its
call, or never; one that failed has no effect. Keys are independent: a history is
linearizable when the history of each key is (Herlihy and Wing's locality), so the
caller's model speaks of one key. The cost is exponential in the number of operations
that overlap: some hundred operations of ten clients per key are checked in a second.

References: Wing and Gong (1993); Lowe, "Testing for linearizability" (2017).
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol

from clusterkit.testing.history import Operation

IMPOSSIBLE = object()
"""What `Model.step` returns for an answer that the state does not allow."""


class Model(Protocol):
    """What one key does, one operation at a time."""

    @property
    def initial(self) -> Hashable:
        """The state before the first operation."""

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """The state after ``operation``, or `IMPOSSIBLE`; an unknown operation's result is not to be looked at."""


@dataclass(frozen=True, slots=True)
class Register:
    """One value: ``read`` -> value, ``write`` value, ``cas`` (old, new) -> whether it was changed.

    >>> register = Register(initial=0)
    >>> register.step(0, Operation("c", "write", 5, 0.0, 1.0))
    5
    >>> register.step(5, Operation("c", "read", None, 1.0, 2.0, result=0)) is IMPOSSIBLE
    True
    """

    initial: Hashable = None

    def step(self, state: Hashable, operation: Operation) -> Hashable:
        """Apply ``operation``; raises `ValueError` for a name that a register does not know."""
        match operation.name:
            case "read":
                return state if operation.result == state or operation.unknown else IMPOSSIBLE
            case "write":
                written: Hashable = operation.argument
                return written
            case "cas":
                old, new = operation.argument
                after: Hashable = new if state == old else state
                return after if operation.unknown or operation.result == (state == old) else IMPOSSIBLE
        raise ValueError(f"a register has no operation {operation.name!r}")


class _Event:
    """A call or a return in the list of those that are not explained yet."""

    __slots__ = ("after", "before", "bit", "operation", "returned")

    def __init__(self, operation: Operation | None, bit: int, returned: "_Event | None" = None) -> None:
        self.operation = operation
        self.bit = bit
        self.returned = returned
        """The return that belongs to a call; None for a return."""
        self.before: _Event = self
        self.after: _Event = self

    def unlink(self) -> None:
        self.before.after, self.after.before = self.after, self.before

    def relink(self) -> None:
        self.before.after = self.after.before = self


def linearizable(history: Iterable[Operation], model: Model) -> bool:
    """Tell whether the history of one key can be explained by ``model``.

    >>> write = Operation("a", "write", 1, called=0.0, returned=1.0)
    >>> stale = Operation("b", "read", None, called=2.0, returned=3.0, result=0)
    >>> linearizable([write, stale], Register(initial=0))
    False
    >>> overlapping = Operation("b", "read", None, called=0.5, returned=3.0, result=0)
    >>> linearizable([write, overlapping], Register(initial=0))
    True
    """
    operations = [each for each in history if not each.failed]
    head = _link(operations)
    awaited = sum(1 << number for number, each in enumerate(operations) if not each.unknown)
    return _search(head, awaited, model)


def _link(operations: list[Operation]) -> _Event:
    """Chain all calls and returns by time, behind a head; returns of unknown operations never come."""
    timed: list[tuple[float, int, _Event]] = []
    for number, operation in enumerate(operations):
        returned = _Event(None, 1 << number)
        timed.append((operation.called, 0, _Event(operation, 1 << number, returned)))
        if not operation.unknown:
            timed.append((operation.returned, 1, returned))
    head = _Event(None, 0)
    last = head
    for *_, event in sorted(timed, key=lambda entry: entry[:2]):
        event.before, event.after = last, head
        last.after = head.before = last = event
    return head


def _search(head: _Event, awaited: int, model: Model) -> bool:
    done, state = 0, model.initial
    seen: set[tuple[int, Hashable]] = set()
    taken: list[tuple[_Event, Hashable]] = []
    event = head.after
    while awaited & ~done:
        if event.operation is not None and event.returned is not None:
            after = model.step(state, event.operation)
            if after is not IMPOSSIBLE and (done | event.bit, after) not in seen:
                seen.add((done | event.bit, after))
                taken.append((event, state))
                done, state = done | event.bit, after
                event.unlink()
                event.returned.unlink()
                event = head.after
                continue
            event = event.after
        if event is head or event.operation is None:  # all that could come before this return was tried
            if not taken:
                return False
            event, state = taken.pop()
            done &= ~event.bit
            assert event.returned is not None
            event.returned.relink()
            event.relink()
            event = event.after
    return True
