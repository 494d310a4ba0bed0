"""One process that runs `Membership`, on a message-level network: what a node around it does, without its links.

It proves name and boot at each contact and judges callers as docs/wire.md says, dials seeds until
somebody takes it in, keeps the contacts that the ring wants, takes another boot when the ring says so, and stops.
Its host in the network has the name of its address.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clusterkit.core.identity import NodeId
from clusterkit.core.members import (
    Member,
    MemberDown,
    MemberEvent,
    MemberJoined,
    MemberLeft,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    State,
)
from clusterkit.core.membership import Membership
from clusterkit.core.membership_events import (
    Accepted,
    Begun,
    Effect,
    Event,
    Forget,
    Heard,
    Hurry,
    Insert,
    Invited,
    Judge,
    Leave,
    LeaveKnown,
    LinkLost,
    LinkOpened,
    Meet,
    Notify,
    Outnamed,
    Parted,
    Renew,
    Send,
    Stopped,
    Tick,
    Unreached,
)
from clusterkit.core.news_desk import NewsDesk
from clusterkit.core.ring_frames import Change, Full
from clusterkit.core.ring_messages import Closed, News, RingMessage
from clusterkit.testing.message_net import REFUSED, Door

if TYPE_CHECKING:
    from tests.simulation.memberships import Memberships

EPOCH = 1_760_000_000.0
RECOVERS = 12.0  # seconds after a fault in which its victim may be believed down: suspicion, and redials of 5 s
_SEEDS_AGAIN = 30.0  # seconds, once a process is in
_SEEDS_SOON = 2.0
_LEAVE = 2.0
_OUT_OF_RING, _WRONG_NODE, _TAKEN, _OLD = "in no ring", "another node", "name taken", "later boot "


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last message on a link."""

    left: bool


Message = RingMessage | Goodbye


class Process:
    """One process, from its start to its end, with all the boots that it takes."""

    def __init__(
        self, world: "Memberships", name: str, port: int, seeds: Callable[[], list[str]], saved: Full | None, boot: int
    ) -> None:
        self.world = world
        self.me = NodeId(name, "h", port, boot)
        self.saved = saved
        self.running = True
        self.refused = False
        """Another process has its name; it was told so, and is in no ring."""
        self.accepted = False
        self.left = False
        self.was_out = False
        """Whether it was removed or superseded before the step that it takes."""
        self.skew = 0.0
        self.excused = 0.0
        """Until then it may be believed down."""
        self.woke = -100.0
        self.events: list[MemberEvent] = []
        self.verdicts: dict[str, str | None] = {}
        self.membership: Membership
        self.known: dict[str, int] = {}
        self.meant: dict[str, NodeId] = {}
        """The members to have a link to, by their addresses."""
        self._find_seeds = seeds
        self._met: list[str] = []  # what it knew from its file, before it took another boot
        self._seeds: dict[str, None] = {}
        self._seek_at = 0.0
        self._links: dict[str, str] = {}
        self._peers: dict[str, tuple[str, int]] = {}
        self._goodbyes: dict[str, bool] = {}
        self._stream: dict[str, Member] = {}
        self._door: Door[Message]
        self._alarm: float | None = None
        self._leaving_until: float | None = None

    def __repr__(self) -> str:
        return f"{self.me}#{self.me.incarnation & 0xFFF:03x}"

    @property
    def address(self) -> str:
        return self.me.address

    @property
    def is_in(self) -> bool:
        """Whether it runs and takes part in the ring."""
        return self.running and not self.refused and not self.left and self.membership.stopped is None

    @property
    def linked(self) -> Mapping[str, str]:
        """The names at the other ends of its links, and their addresses."""
        return self._links

    def begin(self, door: Door[Message]) -> "Process":
        self._door = door
        self._begin(self.saved)
        return self

    def _begin(self, saved: Full | None, *, again: bool = False) -> None:
        self.membership = Membership(
            self.me, self.world.chance, self._wall, timers=self.world.timers, direct=self.world.direct
        )
        desk = Recorder(self, self.world.direct)
        self.membership._news = self.membership._detection._news = desk
        self.accepted = False
        self.verdicts.clear()
        self._stream.clear()
        alone = not (again or self._find_seeds()) and (saved is None or len(saved.entries) < 2)
        self.step(Begun(saved, seeds=not alone))
        self.accepted = alone
        self._seek()

    def _wall(self) -> float:
        return EPOCH + self.world.net.now + self.skew

    def step(self, event: Event) -> None:
        """Step the machine, and carry out what it says."""
        if not self.running or self.left:
            return
        self.was_out = self.membership.stopped is not None
        for effect in self.membership.step(event, self.world.net.now):
            self._carry_out(effect)
        self._arm()

    def _arm(self) -> None:
        dues = [at for at in (self.membership.next_deadline, self._seek_at, self._leaving_until) if at is not None]
        if (at := min(dues)) != self._alarm:
            self._alarm = at
            self._door.wake(at)

    # -- effects

    def _carry_out(self, effect: Effect) -> None:  # noqa: C901 - one line an effect
        world = self.world
        match effect:
            case Send(name=name, message=message):
                world.sees(self, name, message)
                if (place := self._links.get(name)) is not None:
                    self._door.send(place, message)
            case Meet(node=node):
                self._meet(node)
            case Hurry(name=name):
                for place in [place for place, node in self.meant.items() if node.name == name]:
                    self._door.hurry(place)
            case Judge(name=name, why=why):
                self.verdicts[name] = why
            case Forget(name=name, gone=gone):
                world.soon(self, lambda: self._forget(name, gone=gone))
            case Notify(event=event):
                self._told(event)
            case Accepted():
                self.accepted = True
            case Renew(after=after):
                world.soon(self, lambda: self.outbid(after))
            case Invited(name=name):
                world.soon(self, lambda: self._join_again(name))
            case LeaveKnown():
                world.soon(self, self._leave_ends)
            case Stopped():
                self._drop_seeds()

    def _meet(self, node: NodeId) -> None:
        for place in [place for place, each in self.meant.items() if each.name == node.name]:
            del self.meant[place]
            if place != node.address and self._links.get(node.name) != place:
                self._door.forget(place)
        self.meant[node.address] = node
        self._door.meet(node.address)

    def _forget(self, name: str, *, gone: bool) -> None:
        if name in self.membership.members and self.membership.stopped is None:
            return  # it is in the ring again
        for place in [place for place, node in self.meant.items() if node.name == name]:
            del self.meant[place]
            self._door.forget(place) if place not in self._peers else None
        self.verdicts.pop(name, None)
        if name in self._links:
            self._part(self._links[name], None if gone else False)

    def _part(self, place: str, left: bool | None) -> None:
        """End a link, with a goodbye behind what was sent; None says none."""
        name, _ = self._peers.pop(place)
        if left is None:
            self._door.forget(place)
        else:
            self._door.send(place, Goodbye(left))
            self._door.part(place)
        if self._links.get(name) == place:
            del self._links[name]
            self.step(LinkLost(name))

    def part_all(self, *, left: bool) -> None:
        for place in list(self._peers):
            self._part(place, left)
        for place in [*self.meant, *self._seeds]:
            self._door.forget(place)
        self.meant.clear()
        self._seeds.clear()

    # -- other boots of this process

    def outbid(self, after: int) -> None:
        """A later boot of this name is known where it asked to be let in."""
        if self.refused or self.membership.settled or after < self.me.incarnation or not self.running:
            return
        others = [member for member in self.membership.members.values() if member.name != self.me.name]
        inserted = [member for member in others if not member.node.incarnation]
        self._met = [member.node.address for member in others if member.node.incarnation]
        self._renew(after)
        for member in inserted:
            self.step(Insert(member.node, member.weight))

    def _renew(self, after: int) -> None:
        self.part_all(left=True)
        self.me = self.me.with_incarnation(self.world.boot(self, max(after, self.me.incarnation)))
        self._begin(None, again=True)

    def _join_again(self, name: str) -> None:
        place = self._links.get(name)
        self._renew(0)
        if place is not None:
            self._seeds[place] = None
            self._door.meet(place)

    def leave(self) -> None:
        self._leaving_until = self.world.net.now + _LEAVE
        self.excused = float("inf")
        self._drop_seeds()
        self.step(Leave())

    def _leave_ends(self) -> None:
        if self._leaving_until is not None and not self.left:
            self._leaving_until = None
            self.part_all(left=True)
            self.left = True
            self.saved = None

    def join_again(self) -> None:
        """Join after a leave, or after a removal."""
        self.left = False
        self._find_seeds = self.world.some()
        self.excused = self.world.net.now + RECOVERS
        self._renew(0)

    # -- seeds

    def _seek(self) -> None:
        for place in [*self._find_seeds(), *self._met]:
            if place not in self.meant and place != self.address:
                self._seeds[place] = None
                self._door.meet(place)
        pause = _SEEDS_AGAIN if self.accepted else _SEEDS_SOON
        self._seek_at = self.world.net.now + pause * (0.5 + self.world.chance.random())
        self._arm()

    def _drop_seeds(self) -> None:
        for place in [place for place in self._seeds if place not in self.meant and place not in self._peers]:
            self._door.forget(place)
        self._seeds.clear()

    # -- what the network says

    def opened(self, peer: str, now: float) -> None:
        other = self.world.processes[peer]
        name, boot = other.me.name, other.me.incarnation
        self.known[name] = max(boot, self.known.get(name, 0))
        before = self._links.get(name)
        self._links[name], self._peers[peer] = peer, (name, boot)
        if before is not None and before != peer:
            del self._peers[before]
            self._door.forget(before)
        self.step(LinkOpened(name, boot))

    def heard(self, peer: str, message: Message, now: float) -> None:
        if (proven := self._peers.get(peer)) is None:
            return
        if isinstance(message, Goodbye):
            self._goodbyes[peer] = message.left
        elif not self.left:
            self.world.counts[type(message).__name__] += 1
            self.step(Heard(*proven, message))

    def lost(self, peer: str, now: float) -> None:
        self._end(peer)

    def _end(self, peer: str) -> tuple[str, int] | None:
        if (proven := self._peers.pop(peer, None)) is None:
            return None
        if self._links.get(proven[0]) == peer:
            del self._links[proven[0]]
            self.step(LinkLost(proven[0]))
        return proven

    def parted(self, peer: str, now: float) -> None:
        left = self._goodbyes.pop(peer, False)
        if (proven := self._end(peer)) is not None and not self.left:
            self.step(Parted(*proven, left))

    def down(self, peer: str, now: float) -> None:
        """Not told to a ring: it has its own detector."""

    def refuses(self, caller: str) -> str:
        """Judge a caller as a listener does."""
        them = self.world.processes[caller]
        name, boot = them.me.name, them.me.incarnation
        meant = them.meant.get(self.address)
        if self.left or self.refused or them.left or them.refused:
            return _OUT_OF_RING
        if meant is not None and meant.name != self.me.name:
            return _WRONG_NODE
        if self.known.get(name, 0) > boot:
            return f"{_OLD}{self.known[name]}"
        if name == self.me.name:
            return _TAKEN
        if them.known.get(self.me.name, 0) > self.me.incarnation:
            return f"{_OLD}0"
        before = self._links.get(name)
        if before is not None and before != caller and self.world.is_well(before, self.address):
            return _TAKEN
        self.known[name] = boot
        return ""

    def unreached(self, peer: str, why: str, now: float) -> None:
        later = int(why.removeprefix(_OLD)) if why.startswith(_OLD) else 0
        node = self.meant.get(peer)
        if node is not None and later and self.membership.settled:
            self.step(Heard(node.name, node.incarnation, Closed(0, later)))
        elif node is not None:
            if why is _TAKEN:
                self.step(Outnamed())
            self.step(Unreached(node, why, refused=why in (REFUSED, _OUT_OF_RING, _WRONG_NODE)))
        if peer in self._seeds and not self.accepted:
            if later:
                self.outbid(later)
            elif why is _TAKEN:
                self.refused = True
                self.part_all(left=False)

    def tick(self, now: float) -> None:
        self._alarm = None
        if self._leaving_until is not None and now >= self._leaving_until:
            self._leave_ends()
        if now >= self._seek_at and self.is_in:
            self._drop_seeds()
            self._seek()
        elif now >= self._seek_at:
            self._seek_at = now + _SEEDS_AGAIN
        self.step(Tick())

    # -- the users

    def _told(self, event: MemberEvent) -> None:
        self.events.append(event)
        before, member = self._stream.get(event.member.name), event.member
        if (why := _disorder(before, event)) is not None:
            self.world.wrong.append(f"event at {self}: {why}: {event} after {before}")
        if isinstance(event, MemberLeft | MemberRemoved):
            self._stream.pop(member.name, None)
        else:
            self._stream[member.name] = member
        if isinstance(event, MemberDown):
            self.world.is_down(self, member)


class Recorder(NewsDesk):
    """Writes down each change that a process makes, whether anybody hears of it or not."""

    def __init__(self, process: Process, direct: int) -> None:
        super().__init__(process.me.name, process.me.incarnation, direct)
        self._process = process

    def changed(self, change: Change) -> None:
        self._process.world.record(self._process, change)
        super().changed(change)

    def farewell(self, leave: Change) -> News:
        self._process.world.record(self._process, leave)
        return super().farewell(leave)


def _disorder(before: Member | None, event: MemberEvent) -> str | None:
    """What is wrong with an event after what was told before of that member."""
    member = event.member
    if isinstance(event, MemberJoined):
        return "joined twice" if before is not None else None
    if before is None:
        return "not joined" if not isinstance(event, MemberRemoved) or member.state is not State.ALIVE else None
    if member.node.incarnation < before.node.incarnation:
        return "an earlier incarnation"
    if isinstance(event, MemberLeft | MemberRemoved):
        return None
    if isinstance(event, MemberUpdated):
        return None  # what another event of the same step told already it may tell again
    expected = {MemberUp: State.ALIVE, MemberSuspect: State.SUSPECT, MemberDown: State.DOWN}[type(event)]
    return None if member.state is expected else "another state"
