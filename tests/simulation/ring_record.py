"""The record of a model run: every event of the ring, and whether a replica shows what it should.

It is told of each write what stood before it, and is never built from the code under test.
Sentences of `Wrong` begin as `tests.simulation.ring_model` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from clusterkit.core.ring_entry import Claim, Dot, Entry, Stamp
from clusterkit.core.ring_frames import Change
from clusterkit.core.ring_state import RingState

_NEVER = Stamp(0, "", 0)


class Wrong(AssertionError):
    """An invariant that does not hold; the first one ends the run."""


def insist(holds: bool, sentence: str) -> None:
    if not holds:
        raise Wrong(sentence)


@dataclass(slots=True)
class Event:
    """What the record has of one change. Masks have a bit for each event."""

    bit: int
    dot: Dot
    name: str
    entry: Entry | None
    replaced: list["Event"]
    fence: int
    killers: int = 0  # the events that replaced it
    after: int = 0  # those, and what replaced them in turn
    forsaken: int = 0  # what it retires without knowing it
    floor: int = 0
    best_weight: Stamp = _NEVER
    best_node: tuple[int, Stamp] = (0, _NEVER)

    def __post_init__(self) -> None:
        for each in self.replaced:
            each.killers |= self.bit
        line = list(self.replaced)
        while line:
            each = line.pop()
            if not each.after & self.bit:
                each.after |= self.bit
                line += each.replaced
        if self.entry is not None:
            self.best_weight = max([self.entry.weighed, *(each.best_weight for each in self.replaced)])
            self.best_node = max([(self.entry.boot, self.entry.announced), *(each.best_node for each in self.replaced)])


class Record:
    """All events of one run."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.by_dot: dict[Dot, Event] = {}
        self.by_name: dict[str, list[Event]] = {}

    def put(self, change: Change, before: Mapping[Dot, Entry]) -> Event:
        """Put down a write and what it replaced."""
        insist(change.dot not in self.by_dot, f"dot: {change.dot} is written twice")
        replaced = [self.by_dot[dot] for dot in before]
        entry = change.siblings.get(change.dot)
        bit, fence = 1 << len(self.events), 0 if entry else change.fence
        event = Event(bit, change.dot, change.name, entry, replaced, fence)
        for each in self.events:
            if each.name == event.dot.actor.name and event.dot.actor.boot < each.floor:
                each.forsaken |= event.bit  # a second process of the name, unknown to the first
        self.events.append(event)
        self.by_dot[change.dot] = event
        self.by_name.setdefault(change.name, []).append(event)
        if entry is not None:
            self.check_stamps(event, entry)
        return event

    def retired(self, event: Event, had: int) -> None:
        """Put down that an event retired the older boots of its writer, which had so much."""
        name, event.floor = event.dot.actor
        old = [each for each in self.events if each.dot.actor.name == name and each.dot.actor.boot < event.floor]
        event.forsaken = sum(each.bit for each in old) & ~had

    @staticmethod
    def check_stamps(event: Event, entry: Entry) -> None:
        mine = [stamp for stamp in (entry.announced, entry.weighed) if (stamp.name, stamp.boot) == event.dot.actor]
        old = [stamp for each in event.replaced if each.entry for stamp in (each.entry.announced, each.entry.weighed)]
        written = [stamp for stamp in mine if stamp not in old]
        insist(
            not written or not old or max(written) > max(old),
            f"read: {event.dot} is not stamped above what it replaced",
        )

    def check(self, state: RingState, had: int, heard: Mapping[str, Claim]) -> None:
        """Check a replica that incorporated the events of a mask, and heard these claims."""
        doubtful = self.forsaken(state)
        sure = had & ~doubtful
        for name, events in self.by_name.items():
            live = state.siblings(name)
            fence = state.fence(name)
            for event in events:
                self.check_event(event, had, doubtful, fence, there=event.dot in live)
            self.check_name(state, name, [event for event in events if event.bit & sure])
        for name, claim in heard.items():
            if name in state and state.claim(name) < claim and not _outdated(claim, state.entry(name)):
                raise Wrong(f"claim: {name} fell below {claim}")
        for name in state.names:
            if any(dot not in self.by_dot for dot in state.siblings(name)):
                raise Wrong(f"back: {name} was written by nobody")

    @staticmethod
    def check_event(event: Event, had: int, doubtful: int, fence: int, *, there: bool) -> None:
        if event.entry is None:
            return
        if not event.bit & had:
            if there:
                raise Wrong(f"back: {event.dot} of {event.name}, though its event is not known")
        elif event.entry.boot <= fence or event.killers & had & ~doubtful:
            if there:
                raise Wrong(f"back: {event.dot} of {event.name}, though it was replaced or removed")
        elif not (there or event.after & had or event.bit & doubtful):
            raise Wrong(f"lost: {event.dot} of {event.name}, though nobody replaced or removed it")

    def check_name(self, state: RingState, name: str, events: list[Event]) -> None:
        fence, entry = state.fence(name), state.entry(name)
        if any(event.fence > fence for event in events):
            raise Wrong(f"fence: that of {name} is below a removal that is known")
        if fence and all(event.fence != fence for event in self.by_name[name]):
            raise Wrong(f"fence: nobody wrote that of {name}")
        if entry is not None:
            live = [self.by_dot[dot] for dot in state.siblings(name)]
            if entry.weighed != max(each.best_weight for each in live):
                raise Wrong(f"read: the weight of {name} is an old one")
            if (entry.boot, entry.announced) != max(each.best_node for each in live):
                raise Wrong(f"read: the address of {name} is an old one")

    def forsaken(self, state: RingState) -> int:
        """The events that the retirements known to a replica cover without their writers having known them."""
        mask, retirements = 0, [event for event in self.events if event.floor]
        floors = state.clock().floors if retirements else {}
        for event in retirements:
            if floors.get(event.name, 0) >= event.floor:
                mask |= event.forsaken
        return mask


def _outdated(claim: Claim, entry: Entry | None) -> bool:
    return entry is not None and claim.boot < entry.boot
