"""Changes that came too early: each waits for an actor whose event it depends on.

Bounded: when too much is parked the oldest is dropped, which loses nothing, for
the digests bring what it said. One is tried again when the actor it waits for grows,
so that a long row of them costs each a few tries, not all of them one at every event.
"""

from clusterkit.core.ring_entry import Actor, Dot
from clusterkit.core.ring_frames import Change

PARKED = 1_024
_MOST_PARTS = 65_536  # siblings and context entries of all that are parked


class Parking:
    """The parked changes of one replica, by their dots."""

    def __init__(self) -> None:
        self._waits_for: dict[Dot, Actor] = {}  # the oldest first
        self._waiting: dict[Actor, dict[Dot, Change]] = {}
        self._parts = 0

    def __len__(self) -> int:
        return len(self._waits_for)

    def park(self, change: Change, actor: Actor) -> None:
        """Keep a change that waits for an event of the actor."""
        self._drop(change.dot)
        self._waits_for[change.dot] = actor
        self._waiting.setdefault(actor, {})[change.dot] = change
        self._parts += _parts(change)
        while len(self._waits_for) > PARKED or self._parts > _MOST_PARTS:
            self._drop(next(iter(self._waits_for)))

    def take(self, actor: Actor) -> list[Change]:
        """Take out those that wait for the actor, in the order parked."""
        changes = self._waiting.pop(actor, {})
        for dot, change in changes.items():
            del self._waits_for[dot]
            self._parts -= _parts(change)
        return list(changes.values())

    def take_all(self) -> list[Change]:
        """Take out all, in the order parked."""
        changes = [self._waiting[actor][dot] for dot, actor in self._waits_for.items()]
        self._waits_for.clear()
        self._waiting.clear()
        self._parts = 0
        return changes

    def _drop(self, dot: Dot) -> None:
        actor = self._waits_for.pop(dot, None)
        if actor is not None:
            self._parts -= _parts(self._waiting[actor].pop(dot))
            if not self._waiting[actor]:
                del self._waiting[actor]


def _parts(change: Change) -> int:
    return len(change.siblings) + len(change.context)
