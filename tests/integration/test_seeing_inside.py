"""What a node tells of itself: every telemetry event, who holds up the loop, what each actor does now."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import (
    NOREPLY,
    ActorInfo,
    CallTimeout,
    Child,
    Config,
    DeadLetter,
    GenServer,
    Mailbox,
    MailboxFull,
    Node,
    NodeDown,
    Ref,
    Supervisor,
    UsageError,
    call,
    cast,
)
from clusterkit.kernel.telemetry import EVENTS
from clusterkit.testing import Processes, isolated
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually
from tests.integration.watchdog_app import serve

WATCHED = replace(QUICK, watchdog=0.1)
BLOCK = 0.5  # seconds that a handler holds the loop
APP = f"{serve.__module__}:{serve.__name__}"

Told = tuple[str, dict[str, float], dict[str, Any]]


class Lab(GenServer):
    """One handler of each sort; ``gate`` lets go those that wait."""

    mailbox = Mailbox(5)

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    @call
    async def echo(self, value: Any) -> Any:
        return value

    @call
    async def fail(self) -> None:
        raise KeyError("no")

    @call
    async def later(self) -> Any:
        return NOREPLY

    @call
    async def wait(self) -> str:
        self.entered.set()
        await self.gate.wait()
        return "done"

    @call
    async def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    @cast
    async def note(self, value: Any) -> None:
        pass

    @cast
    async def crash(self) -> None:
        raise ValueError("boom")


class DroppingLab(Lab):
    mailbox = Mailbox(5, overflow="drop_oldest")


class PatientLab(GenServer):
    """Its handlers run in tasks of their own."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    @call(cancellable=True)
    async def wait(self) -> None:
        self.entered.set()
        await asyncio.get_running_loop().create_future()

    @call(concurrent=True)
    async def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"


class Labs(Supervisor):
    intensity = 3

    def children(self) -> Sequence[Child[Any]]:
        return [Child(Lab, name="child")]


class Recorder:
    """All that a node tells, each event with exactly the keys that the documentation names."""

    def __init__(self, node: Node) -> None:
        self.told: list[Told] = []
        self.threads: set[int] = set()
        for event in EVENTS:
            node.telemetry.attach(event, self._note)

    def _note(self, event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None:
        self.told.append((event, dict(took), dict(meta)))
        self.threads.add(threading.get_ident())

    def of(self, event: str) -> list[Told]:
        """What was told of one event; every one has the right keys, and can be written down."""
        found = [told for told in self.told if told[0] == f"clusterkit.{event}"]
        for name, took, meta in found:
            assert (set(took), set(meta)) == (set(EVENTS[name].measurements), set(EVENTS[name].metadata))
            assert all(isinstance(value, int | float) for value in took.values())
            assert all(value is None or isinstance(value, str) for value in meta.values())
            json.dumps(meta)
        return found

    async def first(self, event: str) -> Told:
        """The first of an event, when it comes."""
        await eventually(lambda: self.of(event))
        return self.of(event)[0]

    async def lag(self) -> Told:
        """The first time that an actor held the loop; a busy machine may have held it before."""
        await eventually(lambda: any(meta["server"] for _, _, meta in self.of("loop.lag")))
        return next(told for told in self.of("loop.lag") if told[2]["server"])


async def two(start_node: NodeFactory, config: Config = QUICK) -> tuple[Node, Node, Recorder]:
    """A server's node and a caller's, and what the server's tells."""
    a = await start_node("a", config=config)
    recorder = Recorder(a)
    b = await start_node("b", seeds=(a,))
    return a, b, recorder


async def held(node: Node, lab: Lab) -> tuple[Ref[Lab], asyncio.Task[str]]:
    """An actor that is in a handler, until ``lab.gate`` is set."""
    ref = await node.start(lab, name="lab")
    waiting = asyncio.get_running_loop().create_task(ref.call(Lab.wait))
    await lab.entered.wait()
    return ref, waiting


# -- calls -----------------------------------------------------------------------------


async def test_a_call_starts_and_stops_where_it_is_handled_and_names_its_caller(start_node: NodeFactory) -> None:
    a, b, recorder = await two(start_node)
    callers = Recorder(b)
    await a.start(Lab(), name="lab")
    assert await b.ref(Lab, "lab", on="a").call(Lab.echo, 1) == 1
    names = {"server": "lab", "method": "echo", "caller": str(b.id), "node": str(a.id)}
    assert recorder.of("call.start") == [("clusterkit.call.start", {"depth": 0}, names)]
    [(_, took, meta)] = recorder.of("call.stop")
    assert 0 <= took["seconds"] < 2
    assert meta == {**names, "outcome": "ok", "error": None}
    assert callers.of("call.start") == callers.of("call.stop") == []


async def test_the_seconds_of_a_call_are_those_of_its_handler_without_the_time_in_the_mailbox(
    start_node: NodeFactory,
) -> None:
    a, _, recorder = await two(start_node)
    lab = Lab()
    ref, waiting = await held(a, lab)
    behind = asyncio.get_running_loop().create_task(ref.call(Lab.echo, 1))
    await asyncio.sleep(0.3)
    lab.gate.set()
    await asyncio.gather(waiting, behind)
    assert {meta["method"]: took["seconds"] >= 0.25 for _, took, meta in recorder.of("call.stop")} == {
        "wait": True,
        "echo": False,
    }


async def test_a_call_left_open_and_one_that_fails_say_so(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node)
    ref = (await a.start(Lab(), name="lab")).with_(timeout=0.05)
    with pytest.raises(KeyError):
        await ref.call(Lab.fail)
    with pytest.raises(CallTimeout):
        await ref.call(Lab.later)
    ends = [(meta["method"], meta["outcome"], meta["error"]) for _, _, meta in recorder.of("call.stop")]
    assert ends == [("fail", "error", "KeyError"), ("later", "noreply", None)]


async def test_a_handler_that_is_cancelled_says_so(start_node: NodeFactory) -> None:
    a, b, recorder = await two(start_node)
    lab = PatientLab()
    await a.start(lab, name="lab")
    with pytest.raises(CallTimeout):
        await b.ref(PatientLab, "lab", on="a").with_(timeout=0.2).call(PatientLab.wait)
    await recorder.first("call.stop")
    [(_, _, meta)] = recorder.of("call.stop")
    assert (meta["method"], meta["outcome"]) == ("wait", "cancelled")


async def test_casts_are_not_told_as_calls(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node)
    ref = await a.start(Lab(), name="lab")
    await ref.cast(Lab.note, 1)
    await ref.call(Lab.echo, 2)
    assert [meta["method"] for _, _, meta in recorder.of("call.start")] == ["echo"]


async def test_a_broken_listener_costs_no_message(start_node: NodeFactory, caplog: pytest.LogCaptureFixture) -> None:
    a, b, recorder = await two(start_node)
    await a.start(Lab(), name="lab")

    def broken(event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None:
        raise ZeroDivisionError(event)

    a.telemetry.attach("clusterkit.call.start", broken)
    ref = b.ref(Lab, "lab", on="a")
    assert [await ref.call(Lab.echo, number) for number in range(3)] == [0, 1, 2]
    assert len(recorder.of("call.stop")) == 3
    assert caplog.text.count("ZeroDivisionError: clusterkit.call.start") == 1


async def test_an_unknown_event_is_refused_on_a_node(start_node: NodeFactory) -> None:
    a = await start_node("a")
    with pytest.raises(UsageError, match="clusterkit.loop.lag"):
        a.telemetry.attach("clusterkit.loop_lag", print)


# -- mailboxes and dead letters ----------------------------------------------------------


async def overfill(ref: Ref[Any], count: int) -> int:
    """Cast so often; how often the mailbox said that it is full."""
    refused = 0
    for number in range(count):
        try:
            await ref.cast(Lab.note, number)
        except MailboxFull:
            refused += 1
    return refused


async def test_a_full_mailbox_is_told_for_each_message_that_it_refuses(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node)
    lab = Lab()
    ref, waiting = await held(a, lab)
    assert await overfill(ref, 8) == 3
    expected = {"server": "lab", "overflow": "reject", "sender": str(a.id)}
    assert recorder.of("mailbox.full") == [("clusterkit.mailbox.full", {"depth": 5}, expected)] * 3
    lab.gate.set()
    assert await waiting == "done"


async def test_a_full_mailbox_names_the_node_that_fills_it(start_node: NodeFactory) -> None:
    a, b, recorder = await two(start_node)
    lab = Lab()
    _, waiting = await held(a, lab)
    await overfill(b.ref(Lab, "lab", on="a"), 8)
    _, took, meta = await recorder.first("mailbox.full")
    assert (took, meta["sender"]) == ({"depth": 5}, str(b.id))
    lab.gate.set()
    assert await waiting == "done"


async def test_a_mailbox_that_drops_tells_it_and_so_does_the_dead_letter(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node)
    lab = DroppingLab()
    ref, waiting = await held(a, lab)
    assert await overfill(ref, 8) == 0
    assert [meta["overflow"] for _, _, meta in recorder.of("mailbox.full")] == ["drop_oldest"] * 3
    letters = [(took["count"], meta["target"], meta["executed"]) for _, took, meta in recorder.of("dead_letter")]
    assert letters == [(1, "lab.note", "no")] * 3
    lab.gate.set()
    assert await waiting == "done"


async def test_a_dead_letter_is_told_with_the_event_object_of_the_same(start_node: NodeFactory) -> None:
    a, b, recorder = await two(start_node)
    letters: list[DeadLetter] = []
    a.on(DeadLetter, letters.append)
    await b.ref(Lab, "nobody", on="a").cast(Lab.note, 1)
    _, took, meta = await recorder.first("dead_letter")
    [letter] = letters
    assert took == {"count": 1}
    assert meta == {
        "target": letter.target,
        "node": str(letter.node),
        "reason": letter.reason,
        "executed": letter.executed,
    }
    assert letter.target == "nobody.note"


# -- actors and links ----------------------------------------------------------------------


async def test_the_end_of_an_actor_is_told_with_its_life_and_its_reason(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node)
    ref = await a.start(Lab(), name="lab")
    await asyncio.sleep(0.1)
    await a.stop(ref, "enough")
    _, took, meta = await recorder.first("actor.stop")
    assert 0.1 <= took["seconds"] < 5
    assert meta == {"server": "lab", "reason": "enough"}


async def test_a_restart_names_the_supervisor_the_child_and_why(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node)
    await a.start(Labs(), name="labs")
    await a.ref(Lab, "child").cast(Lab.crash)
    await recorder.first("actor.restart")
    await a.ref(Lab, "child").cast(Lab.crash)
    await eventually(lambda: len(recorder.of("actor.restart")) == 2)
    expected = {"supervisor": "labs", "child": "child", "reason": "ValueError: boom"}
    assert [(took["restarts"], meta) for _, took, meta in recorder.of("actor.restart")] == [
        (1, expected),
        (2, expected),
    ]
    assert [meta for _, _, meta in recorder.of("actor.stop")] == [{"server": "child", "reason": "ValueError: boom"}] * 2
    assert a.stats()["restarts"] == 2


async def test_links_that_come_and_go_are_told(start_node: NodeFactory) -> None:
    _, b, recorder = await two(start_node)
    _, took, meta = await recorder.first("link.up")
    assert (took, meta["peer"].partition("@")[0]) == ({}, "b")  # its port comes with the ring
    await b.aclose()
    _, took, meta = await recorder.first("link.down")
    assert (took["lost"], meta["peer"]) == (0, str(b.id))
    assert meta["why"]


# -- who holds up the loop --------------------------------------------------------------------


async def test_a_handler_that_blocks_is_logged_at_once_and_told_with_its_stack(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, recorder = await two(start_node, WATCHED)
    await a.start(Lab(), name="lab")
    assert await b.ref(Lab, "lab", on="a").call(Lab.block, BLOCK) == "done"
    _, took, meta = await recorder.lag()
    assert BLOCK - 0.1 < took["seconds"] < BLOCK + 2.0
    assert (meta["server"], meta["handler"], meta["cause"]) == ("lab", "block", "blocked")
    assert "time.sleep(seconds)" in meta["stack"]
    assert recorder.threads == {threading.get_ident()}
    logged = [record for record in caplog.records if "block of lab runs" in record.message]
    assert [record.levelno for record in logged] == [logging.WARNING]
    assert "time.sleep(seconds)" in logged[0].message
    assert logged[0].thread != threading.get_ident()
    assert a.stats()["loop_stalls"] >= 1


async def test_a_handler_in_a_task_of_its_own_is_named_too(start_node: NodeFactory) -> None:
    a, _, recorder = await two(start_node, WATCHED)
    ref = await a.start(PatientLab(), name="patient")
    assert await ref.call(PatientLab.block, BLOCK) == "done"
    _, _, meta = await recorder.lag()
    assert (meta["server"], meta["handler"]) == ("patient", "block")


async def test_a_callback_of_an_actor_is_named_too(start_node: NodeFactory) -> None:
    class Slow(GenServer):
        async def init(self) -> None:
            await asyncio.sleep(0.1)  # a tick or more
            time.sleep(BLOCK)

    a, _, recorder = await two(start_node, WATCHED)
    await a.start(Slow(), name="slow")
    _, _, meta = await recorder.lag()
    assert (meta["server"], meta["handler"]) == ("slow", "init")


async def test_a_node_closes_its_watchdog_and_has_none_unless_asked(start_node: NodeFactory) -> None:
    def watchdogs() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.endswith("/watchdog")]

    await start_node("b")
    assert watchdogs() == []
    a = await start_node("a", config=WATCHED)
    assert watchdogs() == ["clusterkit/a/watchdog"]
    await a.aclose()
    assert watchdogs() == []


async def test_a_node_that_cannot_start_leaves_no_watchdog(start_node: NodeFactory) -> None:
    taken = await start_node("a")
    with pytest.raises(OSError, match=str(taken.id.port)):
        async with Node(f"b@127.0.0.1:{taken.id.port}", cookie=COOKIE, config=WATCHED):
            raise AssertionError("two nodes on one port")
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("/watchdog")]


@pytest.mark.simulation
async def test_in_a_simulation_the_watchdog_is_off() -> None:
    async with isolated(Lab(), config=Config(watchdog=0.1)) as ref:
        assert await ref.call(Lab.block, 0.2) == "done"
        assert not [thread for thread in threading.enumerate() if thread.name.endswith("/watchdog")]


async def test_a_process_that_was_stopped_blames_no_handler() -> None:
    async with Processes(environment={"CLUSTERKIT_COOKIE": COOKIE}) as processes:
        child = await processes.start("watched", APP, {"limit": 0.2})
        await child.reported("port")
        child.stop()
        await asyncio.sleep(1.5)
        child.go_on()
        lag = (await child.reported("lag"))["lag"]
        assert 1.0 < lag["seconds"] < 10
        assert (lag["cause"], lag["server"], lag["handler"], lag["stack"]) == ("stopped", None, None, "")
        logged = [each["logged"] for each in child.reports if "logged" in each]
        assert len(logged) == 1
        assert "the process of node watched stood still" in logged[0]


# -- what each actor does now -------------------------------------------------------------------


def info(node: Node, name: str) -> ActorInfo:
    [found] = [each for each in node.inspect() if each.name == name]
    return found


async def test_inspect_shows_what_an_actor_does_since_when_and_what_waits_for_it(start_node: NodeFactory) -> None:
    a, b, _ = await two(start_node)
    lab = Lab()
    ref, waiting = await held(a, lab)
    await b.ref(Lab, "lab", on="a").cast(Lab.note, "x" * 100)
    await eventually(lambda: len(a.inspect()) == 2 and info(a, "lab").depth == 1)
    await ref.cast(Lab.note, 2)
    await asyncio.sleep(0.1)
    seen = info(a, "lab")
    assert (seen.kind, seen.depth, seen.limit, seen.handler, seen.suspended) == ("Lab", 2, 5, "wait", False)
    assert seen.size > 100
    assert seen.since is not None
    assert 0.1 <= seen.since <= seen.age < 10
    lab.gate.set()
    assert await waiting == "done"
    await eventually(lambda: info(a, "lab").depth == 0)
    idle = info(a, "lab")
    assert (idle.handler, idle.since, idle.size, idle.handled) == (None, None, 0, 3)


async def test_inspect_shows_all_actors_in_the_order_of_their_start(start_node: NodeFactory) -> None:
    a = await start_node("a")
    for name in ("z", None, "b"):
        await a.start(Lab(), name=name)
    seen = a.inspect()
    assert [each.name for each in seen] == ["clusterkit.command", "z", None, "b"]
    assert [each.serial for each in seen] == sorted(each.serial for each in seen)
    assert [str(each).split()[1] for each in seen] == ["clusterkit.command", "z", "-", "b"]


async def test_inspect_shows_who_is_suspended_and_watched(start_node: NodeFactory) -> None:
    a, b, _ = await two(start_node)
    ref = await a.start(Lab(), name="lab")
    await a.suspend(ref)
    async with a.monitor(ref), b.monitor(b.ref(Lab, "lab", on="a")):
        await eventually(lambda: info(a, "lab").watchers == 2)
        assert info(a, "lab").suspended
        assert "suspended" in str(info(a, "lab"))
    await a.resume(ref)
    await eventually(lambda: info(a, "lab").watchers == 0)
    assert not info(a, "lab").suspended


async def test_inspect_shows_what_runs_beside_the_turn(start_node: NodeFactory) -> None:
    a = await start_node("a")
    lab = PatientLab()
    ref = await a.start(lab, name="lab")
    waiting = asyncio.get_running_loop().create_task(ref.call(PatientLab.wait))
    await lab.entered.wait()
    assert (info(a, "lab").handler, info(a, "lab").beside) == ("wait", 0)
    waiting.cancel()
    await eventually(lambda: info(a, "lab").handler is None)


# -- the program of the manual ---------------------------------------------------------------------


async def test_the_program_that_listens_to_what_goes_wrong(
    start_node: NodeFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, _ = await two(start_node, WATCHED)

    def slow(event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None:
        if took["seconds"] > 0.4:
            print(event, meta["server"], meta["method"], "from", meta["caller"])

    a.telemetry.attach("clusterkit.call.stop", slow)
    a.telemetry.attach("clusterkit.mailbox.full", lambda e, m, d: print(e, d["server"], m["depth"]))
    a.telemetry.attach("clusterkit.dead_letter", lambda e, m, d: print(e, d["target"], d["reason"]))
    a.telemetry.attach("clusterkit.loop.lag", lambda e, m, d: print(e, d["handler"]))
    ref = await a.start(Lab(), name="lab")
    assert await b.ref(Lab, "lab", on="a").call(Lab.echo, 1) == 1
    assert await b.ref(Lab, "lab", on="a").call(Lab.block, BLOCK) == "done"
    await a.suspend(ref)
    assert await overfill(ref, 6) == 1
    await a.resume(ref)
    await b.ref(Lab, "nobody", on="a").cast(Lab.note, 1)
    said: list[str] = []

    def all_said() -> bool:
        said.extend(capsys.readouterr().out.splitlines())
        return any(line.startswith("clusterkit.dead_letter") for line in said)

    await eventually(all_said)
    assert [line for line in said if "call.stop" in line] == [f"clusterkit.call.stop lab block from {b.id}"]
    assert "clusterkit.loop.lag block" in said
    assert "clusterkit.mailbox.full lab 5" in said
    assert any(line.startswith("clusterkit.dead_letter nobody.note no server 'nobody'") for line in said)


async def test_a_call_to_a_node_that_went_down_is_told_by_its_link_not_as_a_call(start_node: NodeFactory) -> None:
    a, b, recorder = await two(start_node)
    ref = a.ref(Lab, "lab", on="b")
    await b.aclose()
    await recorder.first("link.down")
    with pytest.raises(NodeDown):
        await ref.call(Lab.echo, 1)
    assert recorder.of("call.start") == []


async def test_every_event_that_there_is_happens(start_node: NodeFactory) -> None:
    a, b, recorder = await two(start_node, WATCHED)
    ref = await a.start(Lab(), name="lab")
    await a.start(Labs(), name="labs")
    assert await ref.call(Lab.block, BLOCK) == "done"
    await a.suspend(ref)
    assert await overfill(ref, 6) == 1
    await a.resume(ref)
    await b.ref(Lab, "nobody", on="a").cast(Lab.note, 1)
    await a.ref(Lab, "nobody", on="b").cast(Lab.note, 1)
    await eventually(lambda: recorder.of("refused"))
    await a.ref(Lab, "child").cast(Lab.crash)
    await b.aclose()
    await eventually(lambda: {event for event, *_ in recorder.told} == set(EVENTS))
    assert all(recorder.of(event.removeprefix("clusterkit.")) for event in EVENTS)
