"""The message-level network: order, loss, contacts that break and come back, hosts that come and go."""

import pytest

from clusterkit.errors import UsageError
from clusterkit.testing.message_net import Delivery, Door, MessageNet


class Recorder:
    """Writes down what it is told."""

    def __init__(self, door: Door[int], *meets: str) -> None:
        self.door = door
        self.told: list[tuple[str, str | int]] = []
        self.numbers: list[int] = []
        self.ticks: list[float] = []
        self.lost_at: list[tuple[str, float]] = []
        self.refusal = ""
        self.whys: list[str] = []
        for peer in meets:
            door.meet(peer)

    def opened(self, peer: str, now: float) -> None:
        self.told.append(("opened", peer))

    def heard(self, peer: str, message: int, now: float) -> None:
        self.numbers.append(message)

    def down(self, peer: str, now: float) -> None:
        self.told.append(("down", peer))

    def parted(self, peer: str, now: float) -> None:
        self.told.append(("parted", peer))

    def lost(self, peer: str, now: float) -> None:
        self.lost_at.append((peer, now))

    def refuses(self, caller: str) -> str:
        return self.refusal

    def unreached(self, peer: str, why: str, now: float) -> None:
        self.whys.append(why)

    def tick(self, now: float) -> None:
        self.ticks.append(now)


def pair(delivery: Delivery | None = None, seed: int = 1) -> tuple[MessageNet[int], Recorder, Recorder]:
    """Two hosts in contact; a dialled."""
    net = MessageNet[int](seed, delivery)
    a, b = join(net, "a", "b"), join(net, "b")
    net.run(5)
    assert a.told == [("opened", "b")]
    assert b.told == [("opened", "a")]
    return net, a, b


def join(net: MessageNet[int], name: str, *meets: str) -> Recorder:
    made: list[Recorder] = []

    def make(door: Door[int]) -> Recorder:
        made.append(Recorder(door, *meets))
        return made[0]

    net.start(name, make)
    return made[0]


def test_messages_arrive_in_order_and_late() -> None:
    net, a, b = pair(Delivery(latency=0.5, jitter=1.0))
    for number in range(100):
        a.door.send("b", number)
    net.run(0.49)
    assert b.numbers == []
    net.run(2)
    assert b.numbers == list(range(100))
    assert net.counts["delivered"] == 100


def test_loss_is_silent() -> None:
    net, a, b = pair(Delivery(loss=0.5))
    for number in range(100):
        a.door.send("b", number)
    net.run(10)
    assert b.numbers == sorted(set(b.numbers))
    assert net.counts["lost"] + len(b.numbers) == 100
    assert 20 < len(b.numbers) < 80
    assert b.told == [("opened", "a")]


def test_a_contact_that_breaks_takes_what_is_on_its_way_and_opens_again() -> None:
    net, a, b = pair(Delivery(latency=0.1, breaks=0.1))
    for number in range(50):
        a.door.send("b", number)
    net.run(2)
    assert net.counts["broken"] == 1
    assert net.counts["discarded"] > 0
    assert b.numbers == []
    assert a.told == [("opened", "b"), ("opened", "b")]
    assert b.told == [("opened", "a"), ("opened", "a")]


def test_a_cut_one_way_breaks_the_contact_and_both_are_told_after_their_patience() -> None:
    net, a, b = pair(Delivery(patience=3.0))
    net.cut("a", "b")
    net.run(5)
    assert len(a.told) == len(b.told) == 1
    net.run(2)
    assert a.told[1:] == [("down", "b")]
    assert b.told[1:] == [("down", "a")]
    net.heal()
    net.run(2)
    assert a.told[2:] == [("opened", "b")]
    assert b.told[2:] == [("opened", "a")]


def test_a_message_into_a_cut_breaks_the_contact_at_once() -> None:
    net, a, b = pair()
    net.partition(["a"], ["b"])
    a.door.send("b", 1)
    net.run(0.5)
    net.heal()
    net.run(2)
    assert net.counts["broken"] == 1
    assert b.numbers == []
    assert b.told == [("opened", "a"), ("opened", "a")]


def test_who_crashed_is_dialled_for_ever_and_called_down_once() -> None:
    net, a, b = pair()
    net.crash("b")
    net.run(600)
    assert a.told[1:] == [("down", "b")]
    b.door.send("a", 1)  # from the grave
    b.door.meet("a")
    b.door.forget("a")
    b.door.part("a")
    b.door.hurry("a")
    b.door.wake(0.0)
    again = join(net, "b")
    net.run(5)
    assert a.told[2:] == [("opened", "b")]
    assert again.told == [("opened", "a")]
    assert a.numbers == []
    assert b.ticks == []


def test_a_goodbye_comes_behind_what_was_sent_before() -> None:
    net, a, b = pair(Delivery(latency=0.2, jitter=1.0))
    for number in range(20):
        b.door.send("a", number)
    net.leave("b")
    net.run(0.1)
    assert net.running == ["a"]
    net.run(5)
    assert a.numbers == list(range(20))
    assert a.told[1] == ("parted", "b")


def test_who_is_forgotten_is_dialled_no_more() -> None:
    net, a, b = pair()
    a.door.forget("b")
    net.run(60)
    assert a.told == [("opened", "b")]
    assert b.told == [("opened", "a"), ("down", "a")]


def test_the_last_alarm_counts() -> None:
    net, a, _ = pair()
    a.door.wake(net.now + 5)
    a.door.wake(net.now + 2)
    at = net.now
    net.run(10)
    assert a.ticks == [at + 2]


def test_names_are_checked() -> None:
    net, _, _ = pair()
    with pytest.raises(UsageError, match="host a runs already"):
        join(net, "a")
    for act in (net.crash, net.leave, net.host):
        with pytest.raises(UsageError, match="no host 'x' runs"):
            act("x")


def test_each_seed_is_a_run_of_its_own() -> None:
    def run(seed: int) -> list[int]:
        net, a, b = pair(Delivery(loss=0.5), seed)
        for number in range(30):
            a.door.send("b", number)
        net.run(5)
        return b.numbers

    assert run(1) == run(1) != run(2)


def test_who_dials_is_told_why_it_came_to_nothing() -> None:
    net, a, b = pair()
    a.door.meet("nobody")
    b.refusal = "full"
    net.crash("a")
    again = join(net, "a", "b")
    net.run(5)
    assert set(a.whys) == set()
    assert set(again.whys) == {"full"}
    again.door.meet("nobody")
    net.cut("a", "b")
    again.whys.clear()
    net.run(5)
    assert {"refused", "no answer"} == set(again.whys)


def test_a_broken_contact_is_told_at_both_ends_and_dialled_at_once_when_it_stood() -> None:
    net, a, b = pair(Delivery(breaks=1.0))
    a.door.send("b", 1)
    net.run(0.1)
    assert [peer for peer, _ in a.lost_at] == ["b"]
    assert [peer for peer, _ in b.lost_at] == ["a"]
    assert a.told == [("opened", "b"), ("opened", "b")]


def test_who_is_paused_hears_all_when_it_goes_on_and_is_ticked_late() -> None:
    net, a, b = pair()
    b.door.wake(net.now + 0.5)
    began = net.now
    net.pause("b")
    a.door.send("b", 1)
    net.run(2)
    assert net.is_paused("b")
    assert (b.numbers, b.ticks) == ([], [])
    net.resume("b")
    assert (b.numbers, b.ticks) == ([1], [began + 2])
    assert a.told == [("opened", "b")]


def test_who_is_paused_dials_when_it_goes_on() -> None:
    net, a, b = pair()
    join(net, "c")
    b.door.meet("c")
    net.pause("b")
    net.run(5)
    assert b.told == [("opened", "a")]
    net.resume("b")
    net.run(1)
    assert b.told == [("opened", "a"), ("down", "c"), ("opened", "c")]
    assert a.lost_at == []


def test_a_late_tick_may_come_before_what_waits() -> None:
    net, a, b = pair()
    b.door.wake(net.now + 0.5)
    net.pause("b")
    net.run(1)
    a.told.clear()
    net.resume("b", late_tick_first=True)
    assert len(b.ticks) == 1
    net.run(1)
    assert len(b.ticks) == 1


def test_who_is_paused_for_too_long_loses_its_contacts() -> None:
    net, a, b = pair(Delivery(silence=15.0))
    net.pause("b")
    net.run(14)
    assert a.lost_at == []
    net.run(2)
    assert [peer for peer, _ in a.lost_at] == ["b"]
    assert b.lost_at == []
    net.resume("b")
    assert [peer for peer, _ in b.lost_at] == ["a"]
    net.run(10)
    assert a.told[-1] == ("opened", "b")


def test_one_way_loss_is_silent_and_total_loss_ends_the_contact() -> None:
    net, a, b = pair(Delivery(silence=15.0))
    net.lose("a", "b", 1.0)
    a.door.send("b", 1)
    b.door.send("a", 2)
    net.run(14)
    assert (a.numbers, b.numbers) == ([2], [])
    assert a.lost_at == []
    net.run(2)
    assert [peer for peer, _ in a.lost_at] == ["b"]
    net.heal()
    net.run(10)
    assert a.told[-1] == ("opened", "b")


def test_a_goodbye_to_one_peer_comes_behind_what_was_sent_before() -> None:
    net, a, b = pair()
    b.door.send("a", 1)
    b.door.part("a")
    net.run(0.1)
    assert (a.numbers, a.told[1]) == ([1], ("parted", "b"))
    net.run(10)
    assert a.told[2] == ("opened", "b")  # a wants it


def test_who_is_in_a_hurry_does_not_wait_for_its_turn() -> None:
    net, a, _ = pair(Delivery(redial=60.0))
    net.crash("b")
    net.run(300)
    join(net, "b")
    a.door.hurry("b")
    net.run(0.1)
    assert a.told[-1] == ("opened", "b")


def test_something_may_be_planned() -> None:
    net, *_ = pair()
    times: list[float] = []
    net.at(1.5, lambda: times.append(net.now))
    began = net.now
    net.run(2)
    assert times == [began + 1.5]
