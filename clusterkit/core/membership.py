"""Membership: what one node knows of the ring and believes of its members, and what it tells whom.

One machine made of three: `ring_state` decides what is in the ring, `liveness` what is
believed of each member, `dissemination` whom to tell. Links carry its messages, and
it says which links there are to be::

    link opens     Hello both ways; who does not know the ring gets it all with the HelloAck
    change here    applied, then News to all
    news comes     applied, passed on where a tree says so
    probe          carries digests; where they differ, Pull, and a delta or everything comes
    accused        the accuser's News comes here too: refuted, with News

Rules (docs/membership.md): nobody speaks for another at Hello; a run that was removed or
superseded is told so, and stops; what it still says is not taken. A node that joins
is judged by the state of its seed before its own counts.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from clusterkit.core import liveness_events as liveness
from clusterkit.core import ring_messages as messages
from clusterkit.core.agreement import Agreement
from clusterkit.core.detection import Detection
from clusterkit.core.dissemination import DIRECT
from clusterkit.core.farewell import Farewell
from clusterkit.core.housekeeping import Housekeeping
from clusterkit.core.identity import NodeId, is_same_start
from clusterkit.core.liveness_timers import Timers
from clusterkit.core.member_view import MemberView
from clusterkit.core.members import Member, MemberRemoved, State, changes
from clusterkit.core.membership_events import (
    Accepted,
    Announce,
    Begun,
    Compare,
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
    Ready,
    Remove,
    Renew,
    Reweigh,
    Send,
    SignOfLife,
    Stopped,
    Tick,
    Unreached,
)
from clusterkit.core.news_desk import NewsDesk
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_frames import Change, Delivery, Full, Verdict, known_in
from clusterkit.core.ring_state import RingState
from clusterkit.errors import UsageError

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - only the name of the argument's type

_MOST_INC = (1 << 64) - 1


class Membership:
    """One run of one node in one ring. ``wall`` gives Unix time, for stamps alone."""

    def __init__(
        self,
        me: NodeId,
        rng: "Random",
        wall: Callable[[], float],
        *,
        meta: bytes = b"",
        timers: Timers | None = None,
        direct: int = DIRECT,
        removal_ttl: float = 86_400.0,
        auto_remove_after: float | None = None,
    ) -> None:
        self.me = me
        self.ring = RingState(Actor(me.name, me.incarnation))
        self.settled = False
        self.stopped: Verdict | None = None
        self._view = MemberView(self.ring)
        self._wall, self._meta = wall, meta
        self._news = NewsDesk(me.name, me.incarnation, direct)
        self._agreement = Agreement(self.ring, wall, self._send)
        self._detection = Detection(
            self.ring, self._agreement, self._news, rng, timers or Timers(), self._send, self._set_claim
        )
        self._housekeeping = Housekeeping(self.ring, self._view, removal_ttl, auto_remove_after)
        self._farewell = Farewell()
        self._claim = Claim(me.incarnation, 0, Rank.ALIVE, True)
        self._saved_boot = 0
        self._digest = self.ring.ring_digest
        self._over = False  # another run of this node begins: nothing more is said or heard
        self._open: dict[str, int] = {}  # boots at the other ends of open links
        self._now = 0.0
        self._effects: list[Effect] = []
        self._last: list[Effect] = []  # effects that come after the news

    # -- reading

    @property
    def members(self) -> Mapping[str, Member]:
        """The members by name, in order; this node alone once it is out of the ring."""
        return self._view.members

    @property
    def digests(self) -> messages.Digests:
        """What this node knows and believes, in short."""
        return self._agreement.digests

    @property
    def disagreeing(self) -> list[str]:
        """The live members that have not said yet that they know what this node knows."""
        return self._agreement.disagreeing(self.members, self.me.name)

    @property
    def awaited(self) -> list[str]:
        """The members of whom a sign of life is looked for, before each `Tick`."""
        return self._detection.liveness.awaited

    @property
    def next_deadline(self) -> float | None:
        """When to step with `Tick`, in seconds."""
        if self._over or self.stopped is not None:
            return None
        machines = (self._detection.liveness.next_deadline, self._agreement.next_deadline)
        deadlines = (*machines, self._view.next_doubtless, self._housekeeping.next_deadline)
        return min((at for at in deadlines if at is not None), default=None)

    # -- stepping

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event. `UsageError` for what a user asked for and cannot be; nothing has changed then."""
        self._now = now
        if not self._over:
            self._take(event)
            self._settle()
        effects, self._effects = self._effects, []
        return effects

    def _take(self, event: Event) -> None:  # noqa: C901, PLR0912 - one line an event
        match event:
            case Begun():
                self._begin(event)
            case LinkOpened(name=name, boot=boot):
                self._link_opened(name, boot)
            case LinkLost(name=name):
                self._link_lost(name)
            case SignOfLife(name=name, at=at):
                self._live(liveness.SignOfLife(name, at))
            case Unreached():
                self._unreached(event)
            case Outnamed() if not self.settled and self.stopped is None:
                self._stop(Verdict.SUPERSEDED)
            case Parted():
                self._parted(event)
            case Heard(name=name, boot=boot, message=message):
                self._heard(name, boot, message)
            case Insert():
                self._insert(event)
            case Remove(name=name):
                self._news.changed(self.ring.remove(name))
            case Reweigh(name=name, weight=weight):
                self._news.changed(self.ring.update(name, weight, self._wall()))
            case Announce() if self.stopped is None and not self._farewell.begun:
                self._meta = event.meta
                self._announce()
            case Ready(ready=ready):
                self._set_claim(ready=ready)
            case Leave() if not self._farewell.begun:
                self._leave()
            case Leave():
                self._knows_of_leave("")
            case Compare():
                for name in self._open:
                    self._send(name, messages.Probe(0, self.digests))
            case Tick() if self.stopped is None:
                self._tick()

    def _settle(self) -> None:
        """Draw the consequences, until there are none."""
        while (names := self._consequences()) and self.stopped is None:
            if self.ring.ring_digest != self._digest:
                self._digest = self.ring.ring_digest
                self._agreement.changed(self._now)
            for name in names:
                self._changed(name)
        self._flush_news()
        self._effects += self._last
        self._last = []

    def _consequences(self) -> list[str]:
        if self.stopped is not None or self._over:
            return []
        accusation = self.ring.claim(self.me.name)
        if accusation.boot == self.me.incarnation and accusation.rank in (Rank.SUSPECT, Rank.DOWN):
            self._live(liveness.AccusedMe(accusation))
        if self._housekeeping.next_deadline is not None and not self._farewell.begun:
            self._look_at_own_entry()
        return self.ring.take_changed()

    def _look_at_own_entry(self) -> None:
        verdict = self.ring.verdict()
        if verdict is Verdict.UNANNOUNCED:
            self._announce()
        elif verdict is not Verdict.IN:
            self._end(verdict, self.ring.known(self.me.name))

    # -- the own run

    def _begin(self, begun: Begun) -> None:
        self.settled = not begun.seeds
        if begun.saved is not None:
            self.ring.merge(begun.saved, self._wall())
            self._saved_boot = known_in(begun.saved, self.me.name).boot
        self.ring.hear(self.me.name, self._claim)
        self._announce()
        self._housekeeping.begin(self._now)

    def _announce(self) -> None:
        self._news.changed(self.ring.announce(self.me.host, self.me.port, self._meta, self._wall()))

    def _set_claim(self, inc: int | None = None, *, ready: bool | None = None) -> None:
        """Claim anew what only this node may: that it lives, and whether it is ready."""
        ready = self._claim.ready if ready is None else ready
        if inc is None and ready == self._claim.ready:
            return
        inc = min(self._claim.inc + 1 if inc is None else inc, _MOST_INC)
        self._claim = Claim(self.me.incarnation, inc, Rank.ALIVE, ready)
        self.ring.hear(self.me.name, self._claim)
        self._news.claimed(self.me.name, self._claim)

    def _live(self, event: liveness.Event) -> None:
        self._detection.step(event, self._now)

    def _end(self, verdict: Verdict, known: int) -> None:
        """Stop; but who was not taken in yet has lost nothing, and begins again above what is known.

        An insert by hand has a boot just above the removed one: who hears of it before the removal was removed, too.
        """
        if self.settled:
            self._stop(Verdict.REMOVED if is_same_start(known, self.me.incarnation) else verdict)
        else:
            self._begin_again(known)

    def _begin_again(self, known: int) -> None:
        self._over = True
        self._effects.append(Renew(max(known, self.me.incarnation)))

    def _stop(self, verdict: Verdict) -> None:
        self.stopped = verdict
        me = self.members.get(self.me.name, Member(self.me))
        for name in list(self.members):
            if name != self.me.name:
                self._live(liveness.Unwatch(name))
                self._last.append(Forget(name, gone=False))
        self._view.members.clear()
        self._view.members[me.name] = me
        if verdict is Verdict.REMOVED:
            self._effects.append(Notify(MemberRemoved(me)))
        self._last.append(Stopped(verdict))

    def _leave(self) -> None:
        alive = [name for name in self._open if (known := self.members.get(name)) and known.state is State.ALIVE]
        news = self._news.farewell(self.ring.leave())
        self._effects += [Send(name, news) for name in self._open]
        if self._farewell.begin(news.number, alive):
            self._effects.append(LeaveKnown())

    def _knows_of_leave(self, name: str) -> None:
        if self._farewell.knows(name):
            self._effects.append(LeaveKnown())

    # -- what users ask for

    def _insert(self, event: Insert) -> None:
        node = event.node
        if (known := self.members.get(node.name)) is None:
            weight = 1 if event.weight is None else event.weight
            self._news.changed(self.ring.insert(node.name, node.host, node.port, self._wall(), weight))
        elif (known.node.host, known.node.port) != (node.host, node.port):
            raise UsageError(f"{node.name!r} is a member at {known.node.address}, not {node.address}: remove it first")
        elif known.state is State.DOWN:
            self._send(node.name, messages.Invite())  # its removal may be known to itself alone
        if known is not None and event.weight not in (None, known.weight):
            assert event.weight is not None
            self._news.changed(self.ring.update(node.name, event.weight, self._wall()))

    # -- links

    def _link_opened(self, name: str, boot: int) -> None:
        self._open[name] = boot
        self._view.why.pop(name, None)
        if self.stopped is None:
            self._send(name, self._hello(name))
        if name in self.members:
            self._live(liveness.LinkOpened(name))

    def _hello(self, name: str) -> messages.Hello:
        about = self.ring.claim(name) if name in self.members else None
        return messages.Hello(self.me, self.settled, self.ring.own_change(), self._claim, about, self.digests)

    def _link_lost(self, name: str) -> None:
        self._open.pop(name, None)
        self._agreement.forget(name)
        self._knows_of_leave(name)
        if name in self.members:
            self._live(liveness.LinkLost(name))
            if self._view.believe(name):
                self._changed(name)

    def _unreached(self, event: Unreached) -> None:
        node = event.node
        entry = self.ring.entry(node.name)
        if entry is not None and (entry.host, entry.port) == (node.host, node.port):  # not where it was before
            self._view.why[node.name] = event.why
            if (known := self.members.get(node.name)) is not None and known.is_out:
                self._changed(node.name)  # for another reason now
            if event.refused:
                self._live(liveness.DialRefused(node.name, entry.boot))

    def _parted(self, event: Parted) -> None:
        """A goodbye is the last word of a run."""
        name, claim = event.name, self.ring.claim(event.name)
        entry = self.ring.entry(name)
        outside = self.stopped is not None or self._farewell.begun  # they may say goodbye because of that
        if outside or entry is None or event.boot < max(claim.boot, entry.boot):
            return
        self._view.why[name] = "left" if event.left else "stopped"
        self._detection.believe(name, Claim(event.boot, claim.inc, Rank.LEFT if event.left else Rank.DOWN, claim.ready))
        if event.left and entry.boot == event.boot:  # its own word of it did not come
            self._news.changed(self.ring.remove(name))

    # -- messages

    def _heard(self, name: str, boot: int, message: messages.RingMessage) -> None:
        if self.stopped is not None:
            self._heard_outside(name, message)
        elif self.ring.closed(name, boot):
            self._heard_closed(name, message)
        else:
            self._heard_inside(name, boot, message)

    def _heard_outside(self, name: str, message: messages.RingMessage) -> None:
        if isinstance(message, messages.Hello):
            self._send(name, messages.Absent(self.me.incarnation, self.stopped is Verdict.REMOVED))
        elif isinstance(message, messages.Invite) and self.stopped is Verdict.REMOVED:
            self._over = True
            self._effects.append(Invited(name))

    def _heard_closed(self, name: str, message: messages.RingMessage) -> None:
        """A run that was removed or superseded learns it; nothing that it says is taken."""
        if isinstance(message, messages.Hello) and not message.settled:
            self._send(name, messages.HelloAck(self.ring.full()))
        elif isinstance(message, messages.Absent):
            self._absent(name, message)
        elif isinstance(message, messages.Got):
            self._knows_of_leave(name)
        elif isinstance(message, messages.Closed):  # each removed the other: both stop
            self._heard_verdict(name, message.fence, message.known)
        elif isinstance(message, messages.Hello | messages.Probe | messages.News | messages.Pull):
            self._send(name, messages.Closed(self.ring.fence(name), self.ring.known(name)))

    def _heard_inside(self, name: str, boot: int, message: messages.RingMessage) -> None:  # noqa: C901, PLR0912 - one line a message
        match message:
            case messages.Hello() if (message.node.name, message.node.incarnation) == (name, boot):
                self._heard_hello(name, message)
            case messages.HelloAck(full=full):
                self._accepted(name, full)
            case messages.Closed(fence=fence, known=known):
                self._heard_verdict(name, fence, known)
            case messages.Absent():
                self._absent(name, message)
            case messages.News():
                self._heard_news(name, message)
            case messages.Got(number=number) if number == self._farewell.number:
                self._knows_of_leave(name)
            case messages.Probe(number=number, digests=digests):
                self._send(name, messages.ProbeAck(number, self.digests))
                self._agreement.compare(name, digests, self._now)
            case messages.ProbeAck(number=number, digests=digests):
                self._live(liveness.Answered(number, name))
                self._agreement.compare(name, digests, self._now)
            case messages.Ask(number=number, target=target):
                self._live(liveness.ProbeRequested(number, name, target))
            case messages.Asked(number=number, ok=ok):
                self._live(liveness.IndirectAnswered(number, name, ok))
            case messages.Urge(target=target):
                self._live(liveness.AskedToProbe(target))
            case messages.Pull():
                self._agreement.answer(name, message, self.members, self._now)
            case messages.Update(delta=delta):
                self._agreement.apply(name, delta)
            case messages.State(full=full):
                self._agreement.merge(full)
            case messages.Claims():
                self._agreement.take_claims(name, message, self.members)

    def _heard_hello(self, name: str, hello: messages.Hello) -> None:
        state = self.ring.full() if not hello.settled else None  # before its own word is in it
        self._agreement.told[name] = hello.digests
        parked = False
        if hello.change is not None and hello.change.name == hello.change.dot.actor.name == name:
            parked = self._learn(name, hello.change)
        if self.ring.hear(name, hello.claim):
            self._news.claimed(name, hello.claim, name)
        if hello.about is not None:
            self.ring.hear(self.me.name, hello.about)
        differ = hello.digests != self.digests
        self._send(name, messages.HelloAck(state if differ else None))
        if self.settled and hello.settled and differ:
            self._agreement.ask(name, self._now, sure=parked)

    def _learn(self, name: str, change: Change) -> bool:
        """Take a change that its own member tells, and pass it on to all; True when it has to wait for another."""
        delivery = self._agreement.deliver(change, name, self._now)
        if delivery is Delivery.NEW:
            self._news.changed(change)
        return delivery is Delivery.PARKED

    def _accepted(self, name: str, full: Full | None) -> None:
        if full is not None and not self.settled:
            known = known_in(full, self.me.name)
            late = known.boot > self.me.incarnation or known.fence >= self.me.incarnation
            later = self.me.incarnation != known.boot > self._saved_boot
            stale = self._saved_boot and (later or known.fence >= self._saved_boot)
            if late or stale:
                self._begin_again(max(known))
                return
        if full is not None:
            self._agreement.merge(full)
        self._effects.append(Accepted(name))
        if not self.settled:
            self.settled = True
            for each in self._open:
                self._last.append(Send(each, self._hello(each)))

    def _heard_verdict(self, name: str, fence: int, known: int) -> None:
        if self._farewell.begun:
            self._knows_of_leave(name)  # from another member, before our own word of it came
        elif fence >= self.me.incarnation:
            self._end(Verdict.REMOVED, max(fence, known))
        elif known > self.me.incarnation:
            self._end(Verdict.SUPERSEDED, known)

    def _absent(self, name: str, message: messages.Absent) -> None:
        """A run that was removed: who inserted it again lets it in."""
        entry = self.ring.entry(name)
        if entry is None:
            return
        self._view.why[name] = "it was removed, and has not joined again"
        if message.removed and (entry.announced.name != name or entry.boot > message.boot):
            self._send(name, messages.Invite())
        elif entry.boot <= message.boot:  # not one that superseded it
            self._live(liveness.DialRefused(name, entry.boot))

    def _heard_news(self, name: str, news: messages.News) -> None:
        onward = self._news.pass_on(self._view.reachable(), news)
        if news.wanted:
            self._send(name, messages.Got(news.number))
        if onward is None:
            return
        for each in onward:
            self._send(each, news)
        for change in news.changes:
            self._agreement.deliver(change, name, self._now)
        for accusation in news.accusations:
            self._accused(accusation.name, accusation.claim, accusation.by)
        for refusal in news.refusals:
            self._live(liveness.RefusedElsewhere(refusal.name, refusal.boot, refusal.by))

    def _accused(self, name: str, claim: Claim, by: str) -> None:
        self.ring.hear(name, claim)
        if name != self.me.name and claim.rank in (Rank.SUSPECT, Rank.DOWN):
            self._live(liveness.Accused(name, claim, by))

    # -- the view

    def _changed(self, name: str) -> None:
        self._doubt(name)
        has_left = (known := self.members.get(name)) is not None and known.state is State.LEFT
        before, after = self._view.look(name, self._now)
        if name != self.me.name:
            self._follow(name, before, after)
        if not (has_left and after is None):  # which was told
            self._effects += [Notify(event) for event in changes(before, after)]

    def _doubt(self, name: str) -> None:
        """Let a member that is linked, and was above suspicion until now, refute what others say of it."""
        known = self.members.get(name)
        patience = self._detection.patience
        called_down = known is not None and not known.is_out and self.ring.claim(name).rank is Rank.DOWN
        if called_down and name in self._open and self._view.suspected_for(name, self._now) < patience:
            self._view.doubt(name, self._now + patience)
            self._detection.probe(name, 0)

    def _follow(self, name: str, before: Member | None, after: Member | None) -> None:
        """Have links and the detector follow what is in the ring."""
        if after is None:
            self._view.why.pop(name, None)
            if before is not None:
                self._live(liveness.Unwatch(name))
                if before.state is not State.LEFT:  # it learns it before our goodbye, and takes nobody for stopped
                    self._send(name, messages.Closed(self.ring.fence(name), self.ring.known(name)))
                self._last.append(Forget(name, gone=before.state is State.LEFT))
            return
        if before is None or before.node != after.node:
            self._effects.append(Meet(after.node))
        if before is None:
            self._live(liveness.Watch(name))
            if name in self._open:
                self._live(liveness.LinkOpened(name))
        self._live(liveness.Believed(name))
        if before is None or before.is_out != after.is_out:
            self._effects.append(Judge(name, after.verdict))
        if before is not None and before.is_out and not after.is_out:
            self._effects += [Hurry(other) for other in self._view.down_since if other not in self._open]

    # -- telling

    def _send(self, name: str, message: messages.RingMessage) -> None:
        if name in self._open:
            self._effects.append(Send(name, message))

    def _flush_news(self) -> None:
        for name, news in self._news.told(self._view.reachable(), self._open):
            self._send(name, news)

    # -- time

    def _tick(self) -> None:
        self._live(liveness.Tick())
        self._agreement.ask_overdue(self._now)
        for name in self._view.doubtless(self._now):
            self._changed(name)
        for change in self._housekeeping.keep(self._now, settled=self.settled):
            self._news.changed(change)
