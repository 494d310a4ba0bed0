"""What sessions promise, by the hundred: while connections break, and while nodes do; and that a broken one is found.

The suite runs 120 seeds of the first and 60 of the second scenario, 5,000 and 2,000 with ``-m long -k seeds``. A seed
that breaks a promise is replayed alone, with all that a simulation says of a failure, by
``pytest tests/simulation/test_sessions_under_faults.py -k nothing_is_lost --seed 4711`` or ``-k accounted_for``.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from clusterkit import NodeId
from clusterkit.core.session import Fate, Outgoing, Resume, Session
from clusterkit.kernel.address import Address
from clusterkit.kernel.inbound import Inbound
from clusterkit.kernel.kernel import Kernel
from clusterkit.runtime import now
from clusterkit.testing import simulate
from clusterkit.transport.connection import Connection
from clusterkit.transport.link import Link
from clusterkit.transport.links import Links
from tests.simulation.restarts_under_faults import broken_promises as verdict_on_restarts
from tests.simulation.restarts_under_faults import restarts_under_faults
from tests.simulation.sessions_under_faults import BrokenLinks, sessions_under_faults
from tests.simulation.sessions_under_faults import broken_promises as verdict

CHUNK = 30
Scenario = Callable[[], Coroutine[Any, Any, Any]]


def broken(scenario: Scenario, seed: int) -> list[str]:
    """The promises that are broken under a seed."""
    evidence = simulate(scenario, seed=seed)
    return verdict(evidence) if isinstance(evidence, BrokenLinks) else verdict_on_restarts(evidence)


def broken_under(seeds: Iterable[int], scenario: Scenario) -> dict[int, list[str]]:
    """The seeds that break a promise, each with what is broken."""
    return {seed: found for seed in seeds if (found := broken(scenario, seed))}


# -- connections break, incarnations live ------------------------------------------------


@pytest.mark.simulation
async def test_connections_break_and_nothing_is_lost_doubled_or_out_of_order() -> None:
    assert verdict(await sessions_under_faults()) == []


@pytest.mark.parametrize("first", range(0, 120, CHUNK))
def test_connections_break(first: int) -> None:
    assert broken_under(range(first, first + CHUNK), sessions_under_faults) == {}


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_connections_break_under_five_thousand_seeds() -> None:
    assert broken_under(range(5_000), sessions_under_faults) == {}


# -- incarnations come and go ------------------------------------------------------------


@pytest.mark.simulation
async def test_nodes_restart_and_every_message_is_accounted_for() -> None:
    assert verdict_on_restarts(await restarts_under_faults()) == []


@pytest.mark.parametrize("first", range(0, 60, CHUNK))
def test_nodes_restart(first: int) -> None:
    assert broken_under(range(first, first + CHUNK), restarts_under_faults) == {}


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_nodes_restart_under_two_thousand_seeds() -> None:
    assert broken_under(range(2_000), restarts_under_faults) == {}


@pytest.mark.parametrize("scenario", [sessions_under_faults, restarts_under_faults])
def test_a_seed_replays_its_trace(scenario: Scenario) -> None:
    traces = [simulate(scenario, seed=seed).trace for seed in (1, 2, 1)]
    assert traces[0] == traces[2] != traces[1]


# -- the tests can see ----------------------------------------------------------------


def found_within(seeds: int, scenario: Scenario, sentence: str) -> int:
    """The first seed under which a promise is broken, in these words."""
    for seed in range(seeds):
        if any(sentence in found for found in broken(scenario, seed)):
            return seed
    raise AssertionError(f"{seeds} seeds did not find {sentence!r}")


Plant = Callable[[pytest.MonkeyPatch], None]


def nothing_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what was written counts as acknowledged when a connection opens."""

    def resend(self: Session, received: int) -> None:
        self.acknowledge(self.written)
        self.acked = self.written = received

    monkeypatch.setattr(Session, "_resend_from", resend)


def acknowledged_before_it_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a batch counts as received 5 ms before the kernel gets it, and is lost with its connection."""
    begin = Connection.__init__

    def later(self: Connection, *args: Any, deliver: Callable[[list[Any]], None], **kwargs: Any) -> None:
        batches: list[list[Any]] = []

        def hand_over() -> None:
            batch = batches.pop(0)
            if not self.ended.done():
                deliver(batch)

        def receive(messages: list[Any]) -> None:
            batches.append(messages)
            self._loop.call_later(0.005, hand_over)

        begin(self, *args, deliver=receive, **kwargs)

    monkeypatch.setattr(Connection, "__init__", later)


def given_up_and_writes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a connection that was given up for another takes messages from the session, when the other is open."""
    resumed = Link._resumed

    def resumed_and_written_on(self: Link, connection: Connection, theirs: Resume, boot: int, openings: int) -> None:
        earlier = self.connection
        resumed(self, connection, theirs, boot, openings)
        if earlier is not None and earlier.channel.opened:
            earlier.channel.next_record(now())

    monkeypatch.setattr(Link, "_resumed", resumed_and_written_on)


def given_up_and_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a connection that was given up for another delivers what is still on its way to it."""
    cut, flush = Connection.cut, Connection._flush

    def give_up(self: Connection, why: str = "closed here", *, silent: bool = False) -> None:
        self.open = False
        if why != "another connection opened":
            cut(self, why, silent=silent)

    monkeypatch.setattr(Connection, "cut", give_up)
    monkeypatch.setattr(
        Connection, "_flush", lambda self: flush(self) if self.open or not self.channel.opened else None
    )


def abandoned_and_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a written call that ended goes again on the next connection."""
    withdraw = Session.withdraw
    monkeypatch.setattr(
        Session, "withdraw", lambda self, message: message.fate == Fate.QUEUED and withdraw(self, message)
    )


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (nothing_goes_again, "was accepted, and never taken"),
        (acknowledged_before_it_is_delivered, "was accepted, and never taken"),
        (given_up_and_writes_on, "was accepted, and never taken"),
        (given_up_and_reads_on, "times"),
        (abandoned_and_sent_again, "on a later connection"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_fault_planted_in_connections_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, sentence: str) -> None:
    plant(monkeypatch)
    strict = partial(sessions_under_faults, 1.0)  # what takes a coincidence is found sooner
    assert found_within(200, strict, sentence) < 200


def numbers_of_sessions_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a RESUME of a new object of the peer goes on with the old one's count."""

    def resumed(self: Session, theirs: Resume) -> list[Outgoing]:
        self.peer, self.peer_most = theirs.own, theirs.most
        self._resend_from(max(self.acked, min(theirs.received, self.written)))
        return []

    monkeypatch.setattr(Session, "resumed", resumed)


def nothing_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what was never written is reported, and the next incarnation does not get it."""
    end = Link._end_session

    def end_for_all(self: Link, why: str, *, to_next: bool = False) -> int:
        return end(self, why)

    monkeypatch.setattr(Link, "_end_session", end_for_all)


def written_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what was written to one incarnation is sent again to the next."""
    end = Session.end
    monkeypatch.setattr(Session, "end", lambda self: ([], [each for part in end(self) for each in part]))


def nothing_was_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: dead letters say "no", though the message was written."""
    report = Inbound._report
    monkeypatch.setattr(
        Inbound, "_report", lambda self, link, messages, why, _: report(self, link, messages, why, "no")
    )


def nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: messages that end with their session are dropped without a word."""
    monkeypatch.setattr(Inbound, "_report", lambda *_: None)


def nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: no end of a link says how much is in doubt."""
    closed = Inbound.closed
    monkeypatch.setattr(Inbound, "closed", lambda self, link, why, _: closed(self, link, why, 0))


def nothing_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a node that closes says goodbye at once."""

    async def settled(self: Link, deadline: float) -> bool:
        return True

    monkeypatch.setattr(Link, "_settled", settled)


def a_leaver_is_forgotten_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who hears that a node leaves forgets it, before what it sent has come."""

    async def release(self: Links, name: str, _: float) -> None:
        await self.forget(name, "left")

    monkeypatch.setattr(Links, "release", release)


def any_incarnation_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a reference to one incarnation reaches the next."""
    link_to = Kernel.link_to

    def any_link_to(self: Kernel, address: Address, node: NodeId, handler: str) -> Link:
        return link_to(self, replace(address, pinned=False), node, handler)

    monkeypatch.setattr(Kernel, "link_to", any_link_to)


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (numbers_of_sessions_are_not_checked, "times"),
        (nothing_for_the_next, "is for any incarnation"),
        (written_goes_to_the_next, "times"),
        (nothing_was_executed, 'executed="no", and it was taken'),
        (nothing_is_reported, "is nowhere"),
        (nothing_is_counted, "0 lost"),
        (nothing_is_flushed, "it had been accepted before the node closed"),
        (a_leaver_is_forgotten_at_once, "it had been accepted before the node closed"),
        (any_incarnation_will_do, "was taken by"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_fault_planted_in_restarts_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, sentence: str) -> None:
    plant(monkeypatch)
    assert found_within(200, restarts_under_faults, sentence) < 200
