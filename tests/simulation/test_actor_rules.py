"""The actors' rules while nodes crash, are closed, stand still and are cut off; and that a broken one is found.

Four scenarios: messages (order, one reply, deadlines, cancellation), ends (monitors and links), cycles, and names under
supervisors. The suite runs sixteen seeds of each, thousands with ``-m long -k actor``. A seed that breaks a rule is
replayed alone, with all that a simulation says of a failure, by
``pytest tests/simulation/test_actor_rules.py -k one_seed --seed 4711``.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import pytest

from clusterkit import CallError, Down
from clusterkit.actors.handling import Handling
from clusterkit.actors.process import Process
from clusterkit.actors.side import Side
from clusterkit.actors.ties import Ties
from clusterkit.core.messages import Op, pack_demonitor
from clusterkit.core.session import Lane, Outgoing
from clusterkit.kernel import calls, monitors
from clusterkit.kernel.calls import Call
from clusterkit.kernel.inbound import Inbound
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import From, Inbox
from clusterkit.kernel.monitors import Monitors
from clusterkit.testing import simulate
from clusterkit.transport.link import Link
from tests.simulation import actor_cycles as cycles
from tests.simulation import actor_ends as ends
from tests.simulation import actor_rules as rules
from tests.simulation import actor_rules_verdict
from tests.simulation import actor_trees as trees

Scenario = Callable[[], Coroutine[Any, Any, Any]]
VERDICTS: dict[Scenario, Callable[[Any], list[str]]] = {
    rules.actor_rules: actor_rules_verdict.broken_promises,
    ends.actor_ends: ends.broken_promises,
    cycles.actor_cycles: cycles.broken_promises,
    trees.actor_trees: trees.broken_promises,
}
each_scenario = pytest.mark.parametrize("scenario", VERDICTS, ids=lambda scenario: scenario.__name__)


@pytest.fixture(autouse=True)
def few_words(caplog: pytest.LogCaptureFixture) -> None:
    """Actors fail here by the hundred, as they are told to."""
    caplog.set_level(logging.CRITICAL, logger="clusterkit")


def broken(scenario: Scenario, seed: int) -> list[str]:
    """The rules that are broken under a seed."""
    return VERDICTS[scenario](simulate(scenario, seed=seed))


def broken_under(seeds: Iterable[int], scenario: Scenario) -> dict[int, list[str]]:
    """The seeds that break a rule, each with what is broken."""
    return {seed: found for seed in seeds if (found := broken(scenario, seed))}


@pytest.mark.simulation
@each_scenario
async def test_one_seed_to_replay(scenario: Scenario) -> None:
    assert VERDICTS[scenario](await scenario()) == []


@each_scenario
def test_some_seeds(scenario: Scenario) -> None:
    assert broken_under(range(16), scenario) == {}


@pytest.mark.long
@pytest.mark.timeout(3600)
@each_scenario
def test_thousands_of_seeds(scenario: Scenario) -> None:
    assert broken_under(range(3_000), scenario) == {}


@each_scenario
def test_a_seed_replays_its_trace(scenario: Scenario) -> None:
    traces = [simulate(scenario, seed=seed).trace for seed in (1, 2, 1)]
    assert traces[0] == traces[2] != traces[1]


# -- the tests can see ----------------------------------------------------------------


def found_within(seeds: int, scenario: Scenario, sentence: str) -> int:
    """The first seed under which a rule is broken, in these words."""
    for seed in range(seeds):
        if any(sentence in found for found in broken(scenario, seed)):
            return seed
    raise AssertionError(f"{seeds} seeds did not find {sentence!r}")


Plant = Callable[[pytest.MonkeyPatch], None]


# -- planted in messages


def calls_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: requests travel in the lane of replies."""
    monkeypatch.setattr(calls, "_REQUEST_LANE", int(Lane.REPLY))


def a_timeout_proves_nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a call that timed out always says that no handler ran."""
    monkeypatch.setattr(Call, "withdraw", lambda _: True)


def a_late_request_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what waited past its deadline is started all the same."""

    def somebody_waits(self: Handling, frm: From) -> bool:
        if frm._link is None:
            frm._waiting.started = True
        return False

    monkeypatch.setattr(Handling, "_nobody_waits", somebody_waits)


def cancel_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: CANCEL is dropped where it arrives."""
    monkeypatch.setattr(Inbound, "_cancel", lambda *_: None)


def cancel_stops_what_waits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a cancelled call's handler runs on."""
    monkeypatch.setattr(Process, "give_up", lambda *_: None)


def every_handler_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: handlers are cancelled that do not say that they may be."""
    monkeypatch.setattr(Handling, "is_cancellable", lambda _, letter: letter[0] == Op.CALL)


def deadlines_stay_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: calls inherit no deadline."""
    monkeypatch.setattr("clusterkit.kernel.kernel.inherited", lambda deadline: (deadline, None))


def the_deadline_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a cancellable handler does not end at its caller's deadline."""
    hold = Side.hold

    def hold_on(self: Side, frm: From, task: Any, *, cancellable: bool) -> None:
        deadline, frm.deadline = frm.deadline, None
        hold(self, frm, task, cancellable=cancellable)
        frm.deadline = deadline

    monkeypatch.setattr(Side, "hold", hold_on)


def late_answers_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the reply of a call that was left open is dropped."""
    monkeypatch.setattr(Handling, "reply", lambda self, frm, _: self.open.pop(frm, None))


def whatever_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a call is tried again though a handler may have run."""

    async def tried(send: Any, address: Any, name: str, args: Any, kwargs: Any, timeout: float, tries: int) -> Any:
        for _ in range(tries):
            with suppress(CallError):
                return await send(address, name, args, kwargs, timeout)
            await asyncio.sleep(0.1)
        return await send(address, name, args, kwargs, timeout)

    monkeypatch.setattr("clusterkit.actors.ref.retried", tried)


# -- planted in ends


def down_overtakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: Down travels in the lane of replies."""
    send = Monitors._send

    def send_first(link: Link, body: bytes) -> None:
        if body[1] == Op.DOWN:
            link.send_always(Outgoing(body, int(Lane.REPLY)))
        else:
            send(link, body)

    monkeypatch.setattr(Monitors, "_send", staticmethod(send_first))


def answers_go_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: replies travel in the last lane."""
    monkeypatch.setattr("clusterkit.kernel.kernel._REPLY_LANE", int(Lane.STREAM))


def told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: each Down comes once more."""
    signal = Process.signal

    def signal_twice(self: Process, info: object, wanted: Callable[[], bool] | None = None) -> None:
        signal(self, info, wanted)
        if isinstance(info, Down):
            signal(self, info)

    monkeypatch.setattr(Process, "signal", signal_twice)


def the_end_of_a_session_is_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: monitors are not told that the session with the peer has ended."""
    monkeypatch.setattr(Monitors, "forget", lambda self, link: self._peers.pop(link, None))


def a_verdict_is_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a link that its asker gives up is undone, and the other side is not told."""
    monkeypatch.setattr(monitors, "pack_exit", lambda number, _: pack_demonitor(number))


def the_dead_are_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: all who watch are told "noproc"."""
    ended = Monitors.ended
    monkeypatch.setattr(Monitors, "ended", staticmethod(lambda inbox, _: ended(inbox, monitors.NOPROC)))


def a_link_is_a_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who asked for a link is told of the end, the other side is not."""
    monkeypatch.setattr(Monitors, "exit", lambda *_: None)


def two_links_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who link each other have two links, and hear of an end twice."""
    ended = Ties._ended
    monkeypatch.setattr(Ties, "_ended", lambda self, key, ref, _, reason: ended(self, key, ref, None, reason))
    monkeypatch.setattr(Monitors, "link_of", lambda *_: None)


def a_monitor_is_undone_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: demonitor does nothing."""
    monkeypatch.setattr(ends.Watcher, "demonitor", lambda *_: None)


# -- planted in cycles


def chains_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a request to another node says nothing of who waits for it."""
    send = Kernel._call_there

    def send_without(self: Kernel, call: Call, *args: Any) -> Link | None:
        call.chain = None
        return send(self, call, *args)

    monkeypatch.setattr(Kernel, "_call_there", send_without)


def any_waiting_server_is_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a server counts as waiting for a call when an earlier turn of it is in the chain."""

    def is_cycle(self: Kernel, inbox: Inbox, handler: str, chain: Iterable[str]) -> bool:
        mine = f"{self.id.name}/"
        return any(turn.startswith(mine) and turn.endswith(f"/{inbox.shown}") for turn in chain)

    monkeypatch.setattr(Kernel, "is_cycle", is_cycle)


def who_waits_is_let_in_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a request for a concurrent handler waits its turn behind those that cannot run."""
    monkeypatch.setattr(Inbox, "take_reentrant", lambda _: None)


# -- planted in trees


def told_before_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the end of a child is told at once, and then its supervisor acts."""
    close = Process._close

    def close_and_tell(self: Process, reason: object) -> None:
        on_end = self._on_end
        self._on_end = None
        close(self, reason)
        if on_end is not None:
            asyncio.get_running_loop().call_soon(on_end, self, reason)

    monkeypatch.setattr(Process, "_close", close_and_tell)


def children_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: when a supervisor is killed its children are not."""
    close = Process._close

    def close_alone(self: Process, reason: object) -> None:
        self.children.clear()
        close(self, reason)

    monkeypatch.setattr(Process, "_close", close_alone)


FAULTS: list[tuple[Plant, Scenario, str]] = [
    (calls_go_first, rules.actor_rules, "started after #"),
    (a_timeout_proves_nothing_ran, rules.actor_rules, 'executed="no", and it ran'),
    (a_late_request_starts, rules.actor_rules, "past the time it was given"),
    (cancel_is_not_heard, rules.actor_rules, ": started at"),
    (cancel_stops_what_waits_alone, rules.actor_rules, "ran on to"),
    (every_handler_is_cancelled, rules.actor_rules, "what ran for it was cancelled"),
    (deadlines_stay_at_home, rules.actor_rules, "too late"),
    (the_deadline_is_not_awaited, rules.actor_rules, "past its deadline"),
    (late_answers_are_lost, rules.actor_rules, "was answered at"),
    (whatever_failed_is_tried_again, rules.actor_rules, "2 times (handler)"),
    (down_overtakes, ends.actor_ends, "had not come"),
    (answers_go_last, ends.actor_ends, " said ["),
    (told_twice, ends.actor_ends, "more than one Down"),
    (the_end_of_a_session_is_kept_quiet, ends.actor_ends, "no Down"),
    (a_verdict_is_kept_quiet, ends.actor_ends, "never heard"),
    (the_dead_are_nobody, ends.actor_ends, "there was one"),
    (a_link_is_a_monitor, ends.actor_ends, "never heard"),
    (two_links_are_two, ends.actor_ends, "2 Exits of"),
    (a_monitor_is_undone_in_vain, ends.actor_ends, "Down after it was undone"),
    (chains_are_not_sent, cycles.actor_cycles, "it closes a cycle"),
    (any_waiting_server_is_a_cycle, cycles.actor_cycles, "nobody waits for it"),
    (told_before_the_restart, trees.actor_trees, "found NoSuchServer"),
    (children_live_on, trees.actor_trees, "had ended, and"),
    (who_waits_is_let_in_late, cycles.actor_cycles, "a concurrent handler"),
]


@pytest.mark.parametrize(("plant", "scenario", "sentence"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, scenario: Scenario, sentence: str
) -> None:
    plant(monkeypatch)
    assert found_within(200, scenario, sentence) < 200
