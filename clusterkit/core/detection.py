"""The failure detector at work in the ring: what `Liveness` asks for, as messages and claims."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from clusterkit.core import liveness_events as liveness
from clusterkit.core import ring_messages as messages
from clusterkit.core.agreement import Agreement
from clusterkit.core.liveness import Liveness
from clusterkit.core.liveness_timers import Timers
from clusterkit.core.news_desk import NewsDesk
from clusterkit.core.ring_entry import Claim, Rank
from clusterkit.core.ring_state import RingState

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - only the name of the argument's type


class Detection:
    """One node's detector. ``refute`` is called with the number above which this node must claim that it lives."""

    def __init__(
        self,
        ring: RingState,
        agreement: Agreement,
        news: NewsDesk,
        rng: "Random",
        timers: Timers,
        send: Callable[[str, messages.RingMessage], None],
        refute: Callable[[int], None],
    ) -> None:
        self.liveness = Liveness(ring.me.name, ring, rng, timers)
        self.patience = timers.probe_timeout + timers.indirect_timeout
        """Seconds after which a member that could have answered has."""
        self._ring = ring
        self._agreement = agreement
        self._news = news
        self._send = send
        self._refute = refute

    def step(self, event: liveness.Event, now: float) -> None:
        """Step the machine, and carry out what it says."""
        for effect in self.liveness.step(event, now):
            match effect:
                case liveness.Probe(to=to, number=number):
                    self.probe(to, number)
                case liveness.AskProbe(via=via, target=target, number=number):
                    self._send(via, messages.Ask(number, target))
                case liveness.AnswerProbe(to=to, number=number, target=target, ok=ok):
                    self._send(to, messages.Asked(number, target, ok))
                case liveness.AskToProbe(via=via, target=target):
                    self._send(via, messages.Urge(target))
                case liveness.TellRefused(name=name, boot=boot):
                    self._news.refused(name, boot)
                case liveness.Accuse(name=name, claim=claim, push=push):
                    self._ring.hear(name, claim)
                    if push:
                        self._news.claimed(name, claim)
                case _:
                    self._refute(effect.inc)

    def probe(self, name: str, number: int) -> None:
        """Ask a member for a sign; one that is accused is told so, and its refutation comes before the sign."""
        claim = self._ring.claim(name)
        if claim.rank is not Rank.ALIVE:
            self._send(name, self._news.warning(name, claim))
        self._send(name, messages.Probe(number, self._agreement.digests))

    def believe(self, name: str, claim: Claim) -> None:
        """Take note of what this node has seen itself, and tell all."""
        if self._ring.hear(name, claim):
            self._news.claimed(name, claim)
