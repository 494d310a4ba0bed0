"""How members come to know the same: digests compared, and what is missing asked for and given.

Every probe and Hello carries two digests, of the ring and of what is believed. Equal
ones are the whole conversation at rest. Where the ring's differ one asks with its clock
(`Pull`), and is given a delta, or everything where a delta cannot be exact; where only
the beliefs differ they are told, and better ones come back.

Nothing is taken that would grow this node's state beyond its bounds (`RingState.takes`).
"""

from collections.abc import Callable, Iterable, Mapping

from clusterkit.core.members import Member, State
from clusterkit.core.repair import Repair
from clusterkit.core.ring_entry import Claim
from clusterkit.core.ring_frames import Change, Clock, Delivery, Delta, Full
from clusterkit.core.ring_messages import Claims, Digests, Pull, RingMessage
from clusterkit.core.ring_messages import State as WholeState
from clusterkit.core.ring_messages import Update as Lacking
from clusterkit.core.ring_state import RingState

_NO_CLAIM = (0, 0, 0, False)


class Agreement:
    """One node's side of it; ``send`` sends to a member, ``wall`` gives Unix time for stamps."""

    def __init__(self, ring: RingState, wall: Callable[[], float], send: Callable[[str, RingMessage], None]) -> None:
        self.told: dict[str, Digests] = {}
        """What each linked member said last that it knows."""
        self._ring = ring
        self._wall = wall
        self._send = send
        self._repair = Repair()

    @property
    def digests(self) -> Digests:
        """What this node knows and believes, in short."""
        return self._ring.ring_digest, self._ring.claims_digest

    @property
    def next_deadline(self) -> float | None:
        """When something that is missing is to be asked for."""
        return self._repair.next_deadline

    def disagreeing(self, members: Mapping[str, Member], me: str) -> list[str]:
        """The live members that have not said that they know what this node knows."""
        alive = (name for name, member in members.items() if member.state is State.ALIVE and name != me)
        return [name for name in alive if self.told.get(name) != self.digests]

    # -- taking

    def deliver(self, change: Change, sender: str, now: float) -> Delivery:
        """Take a change; one that has to wait for another is asked for, in time, from who sent it."""
        actor, n = change.dot
        if not self._ring.takes(Clock({actor: n}, {change.name: change.floor}), 1):
            return Delivery.CLOSED
        delivery = self._ring.deliver(change, self._wall())
        if delivery is Delivery.PARKED:
            self._repair.parked(sender, now)
        return delivery

    def merge(self, full: Full) -> None:
        """Take a whole state."""
        names = set(full.entries).union(full.fences, *full.log.values())
        if self._ring.takes(full.clock, len(names)):
            self._ring.merge(full, self._wall())

    def apply(self, name: str, delta: Delta) -> None:
        """Take a delta; one that does not fit any more is asked for again."""
        if self._ring.takes(delta.clock, len(delta.items)) and not self._ring.apply(delta, self._wall()):
            self.pull(name)

    def take_claims(self, name: str, message: Claims, members: Iterable[str]) -> None:
        """Take what another believes, and tell it better if it asks."""
        for each, claim in message.claims:
            self._ring.hear(each, claim)
        if message.more:
            theirs = dict(message.claims)
            better = [(each, claim) for each, claim in self._beliefs(members) if claim > theirs.get(each, _NO_CLAIM)]
            if better:
                self._send(name, Claims(tuple(better), more=False))

    def _beliefs(self, members: Iterable[str]) -> list[tuple[str, Claim]]:
        return [(name, self._ring.claim(name)) for name in members]

    # -- comparing and asking

    def compare(self, name: str, digests: Digests, now: float) -> None:
        """Take a member's digests; where they differ, and not only for a moment, ask it."""
        self.told[name] = digests
        self._ring.report(name, digests[0])
        if digests == self.digests:
            self._repair.agrees()
        elif self._repair.differs(name, now):
            self.pull(name)

    def ask(self, name: str, now: float, *, sure: bool) -> None:
        """Ask a member at once, unless it was asked a moment ago and it is not ``sure`` that something is missing."""
        if sure or self._repair.asks(name, now):
            self.pull(name)

    def pull(self, name: str) -> None:
        """Ask a member for what is missing here."""
        self._send(name, Pull(self._ring.clock(), self.digests))

    def ask_overdue(self, now: float) -> None:
        """Ask for what has not come in time."""
        for name in self._repair.overdue(now):
            self.pull(name)

    def answer(self, name: str, message: Pull, members: Iterable[str], now: float) -> None:
        """Give a member what it lacks, and ask for what it has more."""
        self.told[name] = message.digests
        clock = message.clock
        if message.digests[0] != self.digests[0]:
            answer = self._ring.answer(clock, differs=clock == self._ring.clock())
            if isinstance(answer, Full):
                self._send(name, WholeState(answer))
            elif any(not clock.covers(*known) for known in answer.clock.counts.items()):
                self._send(name, Lacking(answer))
            if self._ring.lacks(clock):
                self.ask(name, now, sure=False)
        if message.digests[1] != self.digests[1]:
            self._send(name, Claims(tuple(self._beliefs(members)), more=True))

    # -- coming and going

    def changed(self, now: float) -> None:
        """Take note that this node's state changed."""
        self._repair.changed(now)

    def forget(self, name: str) -> None:
        """Take note that the link to a member ended."""
        self.told.pop(name, None)
        self._repair.forget(name)
