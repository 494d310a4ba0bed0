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
