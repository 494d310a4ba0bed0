"""What the failure detector asks for, as messages, news and claims."""

from random import Random

from clusterkit.core import liveness_events as liveness
from clusterkit.core.agreement import Agreement
from clusterkit.core.detection import Detection
from clusterkit.core.liveness_timers import Timers
from clusterkit.core.news_desk import NewsDesk
from clusterkit.core.ring_entry import Actor, Claim, Rank
from clusterkit.core.ring_messages import Ask, Asked, News, Probe, RingMessage, Urge
from clusterkit.core.ring_state import RingState

TIMERS = Timers(probe_interval=100.0)


class Watcher:
    """Member "a" of "abcd", its detector, and all that it says."""

    def __init__(self) -> None:
        self.ring = RingState(Actor("a", 10))
        self.sent: list[tuple[str, RingMessage]] = []
        self.refuted: list[int] = []
        self.news = NewsDesk("a", 10)
        agreement = Agreement(self.ring, lambda: 0.0, self.send)
        self.detection = Detection(self.ring, agreement, self.news, Random(1), TIMERS, self.send, self.refuted.append)
        self.now = 1.0
        self.ring.announce("10.0.0.1", 7022, b"", 0.0)
        self.ring.hear("a", Claim(10, 0, Rank.ALIVE, True))
        for name in "bcd":
            self.ring.insert(name, "10.0.0.1", 7022, 0.0)
            self.ring.hear(name, Claim(7, 0, Rank.ALIVE, True))
            self.take(liveness.Watch(name))

    def send(self, name: str, message: RingMessage) -> None:
        self.sent.append((name, message))

    def take(self, event: liveness.Event) -> list[tuple[str, RingMessage]]:
        """Take an event; return what it had sent."""
        self.sent = []
        self.detection.step(event, self.now)
        return self.sent

    def pass_time(self, seconds: float) -> list[tuple[str, RingMessage]]:
        end, sent = self.now + seconds, []
        while (at := self.detection.liveness.next_deadline) is not None and at <= end:
            self.now = max(at, self.now)
            sent += self.take(liveness.Tick())
        self.now = end
        return sent

    def told(self) -> list[News]:
        return [news for _, news in self.news.told("abcd", "bcd")][:1]


def test_a_probe_carries_the_digests_and_helpers_are_asked_when_it_goes_unanswered() -> None:
    watcher = Watcher()
    digests = watcher.ring.ring_digest, watcher.ring.claims_digest
    assert watcher.take(liveness.AskedToProbe("b")) == [("b", Probe(1, digests))]
    assert sorted(watcher.pass_time(0.35), key=str) == [("c", Ask(1, "b")), ("d", Ask(1, "b"))]


def test_an_accusation_is_stored_and_told_and_others_are_urged() -> None:
    watcher = Watcher()
    watcher.take(liveness.AskedToProbe("b"))
    sent = watcher.pass_time(1.0)
    assert watcher.ring.claim("b").rank is Rank.SUSPECT
    assert {name for name, message in sent if message == Urge("b")} == {"c", "d"}
    [news] = watcher.told()
    assert [(each.name, each.claim.rank, each.by) for each in news.accusations] == [("b", Rank.SUSPECT, "a")]


def test_one_that_is_accused_is_told_so_before_it_is_probed() -> None:
    watcher = Watcher()
    watcher.ring.hear("b", Claim(7, 0, Rank.SUSPECT, True))
    [(to, warning), (also, probe)] = watcher.take(liveness.AskedToProbe("b"))
    assert (to, also) == ("b", "b")
    assert isinstance(warning, News)
    assert [each.claim.rank for each in warning.accusations] == [Rank.SUSPECT]
    assert isinstance(probe, Probe)


def test_another_is_answered_what_came_of_its_probe() -> None:
    watcher = Watcher()
    [(_, probe)] = watcher.take(liveness.ProbeRequested(5, "c", "b"))
    assert isinstance(probe, Probe)
    assert watcher.take(liveness.Answered(probe.number, "b")) == [("c", Asked(5, "b", True))]


def test_refused_dials_are_told_and_two_observers_make_a_verdict() -> None:
    watcher = Watcher()
    watcher.take(liveness.DialRefused("b", 7))
    [news] = watcher.told()
    assert [(each.name, each.boot, each.by) for each in news.refusals] == [("b", 7, "a")]
    watcher.take(liveness.RefusedElsewhere("b", 7, "c"))
    assert watcher.ring.claim("b").rank is Rank.DOWN
    [news] = watcher.told()
    assert [each.claim.rank for each in news.accusations] == [Rank.DOWN]


def test_a_verdict_that_others_tell_is_only_stored() -> None:
    names = [f"n{i:02}" for i in range(30)]
    watcher = Watcher()
    for name in names:
        watcher.ring.insert(name, "10.0.0.1", 7022, 0.0)
        watcher.ring.hear(name, Claim(7, 0, Rank.ALIVE, True))
        watcher.take(liveness.Watch(name))
    silent = []
    for name in names:
        watcher.take(liveness.DialRefused(name, 7))
        watcher.told()
        watcher.take(liveness.RefusedElsewhere(name, 7, "c"))
        assert watcher.ring.claim(name).rank is Rank.DOWN
        silent += [name] * (not watcher.told())
    assert 0 < len(silent) < 30


def test_an_accusation_of_this_node_is_refuted_above_it() -> None:
    watcher = Watcher()
    accusation = Claim(10, 4, Rank.SUSPECT, True)
    watcher.ring.hear("a", accusation)
    watcher.take(liveness.AccusedMe(accusation))
    assert watcher.refuted == [5]


def test_what_is_seen_here_is_told_once() -> None:
    watcher = Watcher()
    watcher.detection.believe("b", Claim(7, 0, Rank.DOWN, True))
    assert len(watcher.told()) == 1
    watcher.detection.believe("b", Claim(7, 0, Rank.DOWN, True))
    assert watcher.told() == []
    assert watcher.detection.patience == TIMERS.probe_timeout + TIMERS.indirect_timeout
