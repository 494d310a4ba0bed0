"""What docs/guarantees.md says of ends, rule by rule: monitors, links, stops, timers, supervisors, and handlers gone wrong."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from clusterkit import (
    Child,
    ConfigError,
    Down,
    Exit,
    GenServer,
    Mailbox,
    Node,
    NoSuchServer,
    Ref,
    ServerDown,
    Stop,
    Supervisor,
    TimerFired,
    UnsupportedPayload,
    UsageError,
    call,
    cast,
    on,
)
from clusterkit.testing import SimCluster
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Gate, Keeper, Place, everywhere, place_of


class Mortal(GenServer):
    """Ends in every way."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.reason: object = None

    @cast
    async def end(self, how: str) -> None:
        match how:
            case "normal":
                raise Stop
            case "shutdown":
                raise Stop("shutdown")
            case "crash":
                raise ValueError("no such account")
            case "long":
                raise ValueError("x" * 100_000)
            case "silent":
                raise KeyError
            case "hang":
                await self.gate.passed()

    @call
    async def ping(self) -> str:
        return "pong"

    async def terminate(self, reason: object) -> None:
        self.reason = reason


class Watcher(Keeper):
    """Watches, links, and keeps what it hears."""

    def __init__(self, *, trap_exit: bool = True) -> None:
        super().__init__()
        self.trap_exit = trap_exit
        self.tokens: list[Any] = []

    @on("watch")
    def watch(self, ref: Any) -> None:
        self.tokens.append(self.monitor(ref))

    @on("unwatch")
    def unwatch(self, data: Any) -> None:
        self.demonitor(self.tokens[-1])

    @on("link")
    def link_with(self, ref: Any) -> None:
        self.link(ref)

    @on("unlink")
    def unlink_from(self, ref: Any) -> None:
        self.unlink(ref)

    @on("ping")
    def ping(self, data: Any) -> str:
        return "pong"

    def heard(self, kind: type[Down | Exit]) -> list[str]:
        return [each.reason for each in self.seen if isinstance(each, kind)]


async def watching(place: Place, *, trap_exit: bool = True) -> tuple[Watcher, Ref[Watcher]]:
    watcher = Watcher(trap_exit=trap_exit)
    return watcher, await place.asker.start(watcher, name="watcher")


async def over(ref: Ref[Any], place: Place) -> None:
    """Return when what one node sent to the other before this has arrived."""
    for _ in range(3):
        for node in (place.asker, place.home):
            await node.ping(place.home.id.name)
            await node.ping(place.asker.id.name)


ENDS = {
    "normal": "normal",
    "shutdown": "shutdown",
    "crash": "ValueError: no such account",
    "long": "ValueError: " + "x" * (1024 - 12),
    "silent": "KeyError",
}


# -- monitors


@everywhere
@pytest.mark.parametrize("how", ENDS)
async def test_each_end_is_told_once_to_each_monitor_with_its_reason(
    where: str, how: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place)
    for _ in range(2):
        await to_watcher.call("watch", ref)
    async with place.asker.monitor(ref) as down:
        await ref.cast(Mortal.end, how)
        async with asyncio.timeout(5):
            told = await down
    assert (told.reason, told.ref) == (ENDS[how], ref)
    await eventually(lambda: len(watcher.seen) == 2)
    assert watcher.heard(Down) == [ENDS[how]] * 2
    assert [each.monitor for each in watcher.seen] == watcher.tokens, "each has its own"
    await over(ref, place)
    assert len(watcher.seen) == 2


@everywhere
async def test_a_kill_is_told_too(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    mortal = Mortal()
    ref = await place.start(mortal, "mortal")
    async with place.asker.monitor(ref) as down:
        await ref.cast(Mortal.end, "hang")
        await mortal.gate.reached()
        await place.home.stop("mortal", timeout=0.01)
        assert (await asyncio.wait_for(down, 5)).reason == "killed"
    assert mortal.reason is None, "terminate does not run"


@everywhere
async def test_who_is_not_there_is_down_at_once(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    watcher, to_watcher = await watching(place)
    await place.start(Mortal(), "gone")
    process = place.process_ref(Mortal, "gone")
    await place.home.stop("gone")
    for ref in (place.ref(Mortal, "nobody"), process):
        await to_watcher.call("watch", ref)
    await eventually(lambda: len(watcher.seen) == 2)
    assert watcher.heard(Down) == ["noproc", "noproc"]


async def test_who_is_on_a_node_that_nobody_knows_is_down_at_once(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    async with place.asker.monitor(place.asker.ref(Mortal, "x", on="nowhere")) as down:
        assert (await asyncio.wait_for(down, 5)).reason == "noconnection"


@everywhere
async def test_an_actor_may_monitor_itself_and_link_with_itself(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    watcher, ref = await watching(place)
    for itself in (ref, place.asker.ref(Watcher, "watcher")):
        await ref.call("watch", itself)
        await ref.call("link", itself)
        await ref.call("unlink", itself)
        await ref.call("link", itself)
    assert await ref.call("ping") == "pong"
    await place.asker.stop(ref)
    assert watcher.seen == []


@everywhere
async def test_demonitor_takes_back_even_a_down_that_waits(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place)
    await to_watcher.call("watch", ref)
    await to_watcher.call("unwatch")
    await to_watcher.call("watch", ref)
    await place.asker.suspend(to_watcher)
    await to_watcher.cast("unwatch")
    await place.home.stop("mortal")
    await over(ref, place)
    await place.asker.resume(to_watcher)
    assert await to_watcher.call("ping") == "pong"
    assert watcher.seen == []


@everywhere
async def test_a_watcher_that_ends_leaves_nothing_behind(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    _, to_watcher = await watching(place)
    await to_watcher.call("watch", ref)
    await to_watcher.call("link", ref)
    async with place.asker.monitor(ref):
        await eventually(lambda: place.home.inspect()[1].watchers == 3)
    await place.asker.stop(to_watcher)
    await eventually(lambda: next(each for each in place.home.inspect() if each.name == "mortal").watchers == 0)
    assert await ref.call(Mortal.ping) == "pong"


@pytest.mark.simulation(seed=5)
async def test_a_node_that_crashes_or_is_cut_off_is_no_connection_and_told_once() -> None:
    watcher = Watcher()
    async with SimCluster(["a", "b"], app=_start_mortals) as sim:
        a = sim["a"]
        await a.start(watcher)
        mortal = a.ref(Mortal, "mortal", on="b")
        watcher.monitor(mortal)
        watcher.link(mortal)
        sim.crash("b")
        await asyncio.sleep(120)
        assert (watcher.heard(Down), watcher.heard(Exit)) == (["noconnection"], ["noconnection"])
        await sim.start("b")
        await sim.settle()
        watcher.monitor(mortal)
        sim.partition("a", "b")
        await asyncio.sleep(120)
        sim.heal()
        await sim.settle()
        assert watcher.heard(Down) == ["noconnection", "noconnection"]
        await mortal.cast(Mortal.end, "normal")
        await asyncio.sleep(10)
        assert len(watcher.seen) == 3


async def _start_mortals(node: Node) -> None:
    if node.id.name != "a":
        await node.start(Mortal(), name="mortal")


# -- links


@everywhere
@pytest.mark.parametrize("how", ["shutdown", "crash"])
async def test_a_linked_actor_ends_with_the_other_for_the_same_reason_either_way(
    where: str, how: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    for linked_ends in (True, False):
        mortal = Mortal()
        ref = await place.start(mortal, "mortal")
        watcher, to_watcher = await watching(place, trap_exit=False)
        await to_watcher.call("link", ref)
        await over(ref, place)
        if linked_ends:
            await ref.cast(Mortal.end, how)
        else:
            await place.asker.stop(to_watcher, ENDS[how])
        await eventually(lambda: place.home.whereis("mortal") is None and place.asker.whereis("watcher") is None)
        assert (watcher if linked_ends else mortal).reason == ENDS[how], "terminate runs, with the reason"


@everywhere
async def test_a_normal_end_stops_nobody_else(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place, trap_exit=False)
    await to_watcher.call("link", ref)
    await over(ref, place)
    await place.home.stop("mortal")
    await over(ref, place)
    assert await to_watcher.call("ping") == "pong"
    assert watcher.seen == []


@everywhere
@pytest.mark.parametrize("how", ENDS)
async def test_who_traps_exits_is_told_of_every_end_once_and_lives(
    where: str, how: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Mortal(), "mortal")
    watcher, to_watcher = await watching(place)
    for _ in range(2):
        await to_watcher.call("link", ref)
    await ref.cast(Mortal.end, how)
    await eventually(lambda: watcher.seen)
    await over(ref, place)
    assert await to_watcher.call("ping") == "pong"
    assert watcher.heard(Exit) == [ENDS[how]]


@everywhere
async def test_linking_with_nobody_is_an_end(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    watcher, to_watcher = await watching(place)
    await to_watcher.call("link", place.ref(Mortal, "nobody"))
    await eventually(lambda: watcher.heard(Exit) == ["noproc"])
    await place.asker.stop(to_watcher)
    watcher, to_watcher = await watching(place, trap_exit=False)
    await to_watcher.call("link", place.ref(Mortal, "nobody"))
    await eventually(lambda: watcher.reason == "noproc")


async def two_watchers(place: Place) -> tuple[Watcher, Watcher, Ref[Any], Ref[Any], Ref[Any], Ref[Any]]:
    """X beside the asker and Y at home: both, how to reach them, and how each calls the other's process."""
    x, y = Watcher(), Watcher()
    to_x = await place.asker.start(x, name="x")
    to_y = await place.home.start(y, name="y")
    return x, y, to_x, to_y, place.process_ref(Watcher, "y"), Place(place.home, place.asker).process_ref(Watcher, "x")


@everywhere
async def test_a_link_that_both_sides_made_is_one_link(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await to_y.call("link", x_of_y)
    await over(to_x, place)
    await place.home.stop(to_y)
    await eventually(lambda: x.seen)
    await over(to_x, place)
    assert x.heard(Exit) == ["normal"]


@everywhere
async def test_links_that_cross_are_told_once(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    await asyncio.gather(to_x.call("link", y_of_x), to_y.call("link", x_of_y))
    await over(to_x, place)
    await place.home.stop(to_y)
    await eventually(lambda: x.seen)
    await over(to_x, place)
    assert x.heard(Exit) == ["normal"]


@everywhere
@pytest.mark.parametrize("made_by", ["x", "y", "both"])
@pytest.mark.parametrize("undone_by", ["x", "y"])
async def test_a_link_is_undone_by_either_side_and_can_be_made_again(
    where: str, made_by: str, undone_by: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    x, y, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    if made_by != "y":
        await to_x.call("link", y_of_x)
        await over(to_x, place)
    if made_by != "x":
        await to_y.call("link", x_of_y)
        await over(to_x, place)
    await (to_x.call("unlink", y_of_x) if undone_by == "x" else to_y.call("unlink", x_of_y))
    await over(to_x, place)
    assert [each.watchers for node in (place.asker, place.home) for each in node.inspect()[1:]] in ([0, 0], [0] * 4)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await to_y.call("unlink", x_of_y)
    await over(to_x, place)
    await place.home.stop(to_y)
    await over(to_x, place)
    assert (x.seen, y.seen) == ([], [])


@everywhere
async def test_a_link_undone_and_made_again_holds(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, to_x, to_y, y_of_x, x_of_y = await two_watchers(place)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await to_y.call("unlink", x_of_y)
    await over(to_x, place)
    await to_x.call("link", y_of_x)
    await over(to_x, place)
    await place.home.stop(to_y)
    await eventually(lambda: x.heard(Exit) == ["normal"])


async def test_a_ring_of_links_ends_as_one(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    nodes = [place.asker, place.home] * 3
    watchers = [Watcher(trap_exit=False) for _ in nodes]
    refs = [await node.start(each, name=f"w{at}") for at, (node, each) in enumerate(zip(nodes, watchers, strict=True))]
    for at, (node, ref) in enumerate(zip(nodes, refs, strict=True)):
        other = (at + 1) % len(nodes)
        await ref.call("link", node.ref(Watcher, f"w{other}", on=nodes[other].id.name))
    await over(refs[0], place)
    await nodes[2].stop(refs[2], "bad news")
    await eventually(lambda: [each.reason for each in watchers] == ["bad news"] * 6)


async def test_an_actor_started_with_link_ends_with_its_starter(start_node: NodeFactory) -> None:
    class Parent(GenServer):
        @call
        async def start_child(self) -> None:
            await self.node.start(Mortal(), name="child", link=True)

        @cast
        async def crash(self) -> None:
            raise ValueError("parent")

    node = await start_node("a")
    parent = await node.start(Parent())
    await parent.call(Parent.start_child)
    await parent.cast(Parent.crash)
    await eventually(lambda: len(node.inspect()) == 1)


# -- handlers gone wrong: who is told


class Wrong(GenServer):
    """Goes wrong in each of its handlers."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        self.error = error
        self.reason: object = None

    @cast
    async def in_cast(self) -> None:
        raise self.error()

    @on("plain")
    def in_plain(self, data: Any) -> None:
        raise self.error()

    def handle_cast(self, request: Any) -> None:
        raise self.error()

    def handle_info(self, info: Any) -> None:
        raise self.error()

    @cast
    async def go_on(self) -> None:
        self.continue_with("x")

    @cast
    async def set_timer(self) -> None:
        self.send_after(0, "x")

    @cast
    async def set_task(self) -> None:
        self.create_task(self._fail())

    @cast
    async def defer_it(self) -> None:
        self.defer(self.caller, self._fail())

    async def _fail(self) -> None:
        raise self.error()

    def handle_continue(self, arg: Any) -> None:
        raise self.error()

    async def terminate(self, reason: object) -> None:
        self.reason = reason


class WrongBeside(Wrong):
    @call(concurrent=True)
    async def other(self) -> None: ...


WRONG: dict[str, Callable[[Ref[Wrong]], Any]] = {
    "cast": lambda ref: ref.cast(Wrong.in_cast),
    "plain": lambda ref: ref.cast("plain"),
    "handle_cast": lambda ref: ref.cast("anything"),
    "info": lambda ref: ref.send("anything"),
    "continue": lambda ref: ref.cast(Wrong.go_on),
    "timer": lambda ref: ref.cast(Wrong.set_timer),
    "task": lambda ref: ref.cast(Wrong.set_task),
    "deferred by a cast": lambda ref: ref.cast(Wrong.defer_it),
}
FAULTS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "exception": (lambda: ValueError("no"), "ValueError: no"),
    "stop iteration": (lambda: StopIteration(1), "StopIteration"),
    "group": (lambda: ExceptionGroup("g", [ValueError("x")]), "ExceptionGroup: g (1 sub-exception)"),
    "not its own cancellation": (asyncio.CancelledError, "CancelledError"),
}


TASKS = {"task", "deferred by a cast"}  # which may end cancelled


@pytest.mark.parametrize(
    ("way", "fault"),
    [(way, fault) for way in WRONG for fault in FAULTS if way not in TASKS or fault != "not its own cancellation"],
)
@pytest.mark.parametrize("cls", [Wrong, WrongBeside])
async def test_an_error_that_nobody_waits_for_stops_the_actor_and_is_told_to_its_watchers(
    way: str, fault: str, cls: type[Wrong], start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    error, told = FAULTS[fault]
    node = await start_node("a")
    actor = cls(error)
    ref = await node.start(actor, name="wrong")
    async with node.monitor(ref) as down:
        await WRONG[way](ref)
        async with asyncio.timeout(5):
            reason = (await down).reason
    assert told in reason
    assert isinstance(actor.reason, Exception), "terminate runs"
    assert any("wrong" in record.message and record.levelname == "ERROR" for record in caplog.records)


@pytest.mark.parametrize("fault", ["exception", "stop iteration", "not its own cancellation", "generator exit"])
async def test_an_init_that_goes_wrong_is_raised_by_start_and_leaves_nothing(
    fault: str, start_node: NodeFactory
) -> None:
    error = FAULTS[fault][0] if fault in FAULTS else GeneratorExit

    class Stillborn(GenServer):
        async def init(self) -> None:
            raise error()

    node = await start_node("a")
    with pytest.raises(Exception, match=r"no|StopIteration|ancel|GeneratorExit"):
        await node.start(Stillborn(), name="stillborn")
    await eventually(lambda: len(node.inspect()) == 1)
    assert node.whereis("stillborn") is None


@pytest.mark.parametrize("cls", [Keeper, WrongBeside])
async def test_a_terminate_that_goes_wrong_changes_no_reason(cls: type[GenServer], start_node: NodeFactory) -> None:
    class Clumsy(GenServer):
        async def terminate(self, reason: object) -> None:
            raise asyncio.CancelledError if reason == "cancel" else ValueError("clumsy")

    node = await start_node("a")
    for reason in ("tidy", "cancel"):
        ref = await node.start(Clumsy())
        async with node.monitor(ref) as down:
            await node.stop(ref, reason)
            assert (await asyncio.wait_for(down, 5)).reason == reason


class Suicidal(GenServer):
    @call
    async def cancel_in_call(self) -> None:
        await self._cancel()

    @cast
    async def cancel_in_cast(self) -> None:
        await self._cancel()

    async def _cancel(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


class SuicidalBeside(Suicidal):
    @call(concurrent=True)
    async def cancel_beside(self) -> None:
        await self._cancel()


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (Suicidal, "cancel_in_call"),
        (Suicidal, "cancel_in_cast"),
        (SuicidalBeside, "cancel_in_call"),
        (SuicidalBeside, "cancel_in_cast"),
        (SuicidalBeside, "cancel_beside"),
    ],
)
async def test_whoever_cancels_the_task_of_a_handler_kills_its_actor(
    cls: type[Suicidal], method: str, start_node: NodeFactory
) -> None:
    node = await start_node("a")
    ref = await node.start(cls())
    async with node.monitor(ref) as down:
        if method == "cancel_in_cast":
            await ref.cast(method)
        else:
            with pytest.raises(ServerDown):
                await ref.call(method)
        assert (await asyncio.wait_for(down, 5)).reason == "killed"


@pytest.mark.parametrize("cls", [Wrong, WrongBeside])
async def test_a_generator_exit_answers_the_caller_and_ends_the_actor(
    cls: type[Wrong], start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    node = await start_node("a")
    ref = await node.start(cls(GeneratorExit))
    with pytest.raises(ServerDown):
        await ref.with_(timeout=3).call("plain")
    await eventually(lambda: GeneratorExit in [each.exc_info[0] for each in caplog.records if each.exc_info])
    assert len(node.inspect()) == 1


class Wrapped(GenServer):
    """Handlers that are other than they look."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @on("event")
    def event(self, data: Any) -> str:
        return "plain"

    @call
    async def ask(self) -> str:
        return "coroutine"

    @cast
    async def tell(self) -> None:
        self.seen.append("told")


def plainly(function: Any) -> Any:
    """Wrap as many decorators do: no coroutine function any more."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Rewrapped(GenServer):
    def __init__(self) -> None:
        self.seen: list[str] = []

    @plainly
    @call
    async def ask(self) -> str:
        return "wrapped"

    @plainly
    @cast
    async def tell(self) -> None:
        self.seen.append("told")


class Overriding(Wrapped):
    async def event(self, data: Any) -> str:  # type: ignore[override]
        return "now a coroutine"

    def ask(self) -> str:  # type: ignore[override]
        return "now plain"

    def tell(self) -> None:  # type: ignore[override]
        self.seen.append("told plainly")


@everywhere
async def test_a_handler_is_awaited_if_it_can_be_whatever_it_looks_like(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    rewrapped, overriding = Rewrapped(), Overriding()
    ref = await place.start(rewrapped, "rewrapped")
    await ref.cast("tell")
    assert await ref.call("ask") == "wrapped"
    other = await place.start(overriding, "overriding")
    await other.cast("tell")
    assert await other.call("ask") == "now plain"
    assert await other.call("event") == "now a coroutine"
    assert (rewrapped.seen, overriding.seen) == (["told"], ["told plainly"])


@everywhere
async def test_an_error_behind_an_answer_is_not_lost(
    where: str, start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    class Hasty(GenServer):
        @call
        async def ask(self) -> str:
            await self.reply(self.caller, "at once")
            raise ValueError("too late to tell")

    place = await place_of(start_node, where)
    ref = await place.start(Hasty(), "hasty")
    assert await ref.call(Hasty.ask) == "at once"
    await eventually(lambda: any("too late to tell" in str(each.exc_info) for each in caplog.records if each.exc_info))


async def test_a_stop_whose_answer_cannot_cross_is_a_stop_for_its_own_reason(start_node: NodeFactory) -> None:
    class Quitter(GenServer):
        @call
        async def quit(self) -> Any:
            raise Stop("mine", reply={1, 2})

    place = await place_of(start_node, "there")
    ref = await place.start(Quitter(), "quitter")
    async with place.asker.monitor(ref) as down:
        await over(ref, place)
        with pytest.raises(UnsupportedPayload):
            await ref.call(Quitter.quit)
        assert (await asyncio.wait_for(down, 5)).reason == "mine"


# -- stops


class Selfish(Mortal):
    """Stops itself in one of its callbacks, by the node."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    async def _maybe(self, place: str) -> None:
        if self.place == place:
            await self.node.stop(self.ref, place)

    async def init(self) -> None:
        await self._maybe("init")
        self.continue_with("x")

    async def handle_continue(self, arg: Any) -> None:
        await self._maybe("continue")

    @call
    async def work(self) -> str:
        await self._maybe("call")
        return "done"

    async def handle_cast(self, request: Any) -> None:
        await self._maybe("cast")

    async def handle_info(self, info: Any) -> None:
        await self._maybe("info")

    async def terminate(self, reason: object) -> None:
        await self.node.stop(self.ref)
        await super().terminate(reason)


class SelfishBeside(Selfish):
    @call(concurrent=True)
    async def work(self) -> str:
        return await super().work()


SELFISH: dict[str, Callable[[Ref[Selfish]], Any]] = {
    "init": lambda ref: None,
    "continue": lambda ref: None,
    "call": lambda ref: ref.call("work"),
    "cast": lambda ref: ref.cast("anything"),
    "info": lambda ref: ref.send("anything"),
}


@pytest.mark.parametrize("place", SELFISH)
@pytest.mark.parametrize("cls", [Selfish, SelfishBeside])
async def test_an_actor_may_stop_itself_from_every_callback(
    place: str, cls: type[Selfish], start_node: NodeFactory
) -> None:
    node = await start_node("a")
    actor = cls(place)
    ref = await node.start(actor)
    if (act := SELFISH[place](ref)) is not None:
        assert await act in (None, "done")
    await eventually(lambda: actor.reason == place)
    await eventually(lambda: len(node.inspect()) == 1)


@pytest.mark.parametrize("weird", [object(), 7, None, ValueError("x"), "x" * 10_000, "\ud800", ""])
async def test_any_reason_is_told_as_text(weird: Any, start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    mortal = Mortal()
    ref = await place.start(mortal, "mortal")
    async with place.asker.monitor(ref) as down:
        await over(ref, place)
        await place.home.stop("mortal", weird)
        reason = (await asyncio.wait_for(down, 5)).reason
    assert 0 < len(reason.encode()) <= 1024
    assert mortal.reason is weird


async def test_a_reason_that_cannot_be_shown_leaves_nothing_behind(start_node: NodeFactory) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    node = await start_node("a")
    ref = await node.start(Mortal(), name="mortal")
    async with node.monitor(ref) as down:
        await node.stop("mortal", Shy())
        assert (await asyncio.wait_for(down, 5)).reason
    assert len(node.inspect()) == 1


async def test_stopping_an_init_that_never_returns_kills_it(start_node: NodeFactory) -> None:
    class Endless(GenServer):
        async def init(self) -> None:
            await asyncio.get_running_loop().create_future()

    node = await start_node("a")
    starting = asyncio.create_task(node.start(Endless(), name="endless"))
    await eventually(lambda: node.whereis("endless"))
    with pytest.raises(TimeoutError, match="init"):
        await node.suspend("endless", timeout=0.01)
    await node.stop("endless", timeout=0.01)
    with pytest.raises(Exception, match=r"init|kill|stopped"):
        await starting
    assert node.whereis("endless") is None


async def test_a_stopped_actor_is_unknown(start_node: NodeFactory) -> None:
    node = await start_node("a")
    ref = await node.start(Mortal(), name="mortal")
    await asyncio.gather(node.stop(ref), node.stop(ref))
    for act in (node.stop, node.suspend, node.resume):
        with pytest.raises(NoSuchServer):
            await act(ref)


async def test_what_runs_elsewhere_is_not_stopped_from_here(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    ref = await place.start(Mortal(), "mortal")
    for act in (place.asker.stop, place.asker.suspend, place.asker.resume):
        with pytest.raises(UsageError, match="home"):
            await act(ref)


async def test_a_stop_of_who_swallows_its_cancellation_says_so(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf(GenServer):
        def __init__(self) -> None:
            self.gate = Gate()

        @cast
        async def work(self) -> None:
            with suppress(asyncio.CancelledError):
                await self.gate.passed()
            await self.gate.passed()

    node = await start_node("a")
    actor = Deaf()
    ref = await node.start(actor, name="deaf")
    await ref.cast(Deaf.work)
    await actor.gate.reached()
    await node.stop("deaf", timeout=0.01)
    assert any("deaf does not end" in record.message for record in caplog.records)
    assert node.whereis("deaf") is not None
    actor.gate.open()
    await eventually(lambda: node.whereis("deaf") is None)


async def test_no_actor_starts_while_its_node_closes(start_node: NodeFactory) -> None:
    outcomes: list[Exception] = []

    class Last(GenServer):
        async def terminate(self, reason: object) -> None:
            try:
                await self.node.start(Mortal(), name="late")
            except UsageError as error:
                outcomes.append(error)

    node = await start_node("a")
    await node.start(Last())
    await node.aclose()
    assert len(outcomes) == 1


async def test_a_program_that_handles_a_failed_start_goes_on_and_one_whose_linked_actor_fails_ends(
    start_node: NodeFactory,
) -> None:
    class Failing(Mortal):
        async def init(self) -> None:
            raise OSError("no disk")

    node = await start_node("a")
    with pytest.raises(OSError, match="no disk"):
        await node.start(Failing(), link=True)
    running = asyncio.create_task(node.run_until_signal())
    for how in ("normal", "crash"):
        ref = await node.start(Mortal(), name="mortal", link=True)
        assert not running.done()
        await ref.cast(Mortal.end, how)
        await eventually(lambda: node.whereis("mortal") is None)
    with pytest.raises(ServerDown, match="mortal ended: ValueError: no such account"):
        await asyncio.wait_for(running, 5)


# -- timers


class Timed(Keeper):
    @call
    async def after(self, delay: float, tag: Any) -> Any:
        self.timer = self.send_after(delay, tag)

    @call
    async def each(self, period: float, tag: Any) -> None:
        self.timer = self.every(period, tag)

    @call
    async def cancel(self) -> bool:
        return self.cancel_timer(self.timer)

    def tags(self) -> list[Any]:
        return [each.tag for each in self.seen if isinstance(each, TimerFired)]


@pytest.mark.simulation(seed=6)
async def test_timers_fire_in_order_die_with_their_actor_and_do_not_pile_up() -> None:
    async with SimCluster(1) as sim:
        node = sim["a"]
        timed = Timed()
        ref = await node.start(timed)
        for delay in (3, 1, 2, 0):
            await ref.call(Timed.after, delay, delay)
        await asyncio.sleep(10)
        assert timed.tags() == [0, 1, 2, 3]
        timed.seen.clear()
        await ref.call(Timed.each, 1.0, "tick")
        await asyncio.sleep(5.5)
        assert timed.tags() == ["tick"] * 5
        await node.suspend(ref)
        await asyncio.sleep(100)
        assert node.inspect()[-1].depth == 1, "one waits at the most"
        await node.resume(ref)
        await asyncio.sleep(0.1)
        assert timed.tags() == ["tick"] * 6
        assert await ref.call(Timed.cancel)
        assert not await ref.call(Timed.cancel)
        await asyncio.sleep(5)
        assert timed.tags() == ["tick"] * 6
        await ref.call(Timed.after, 1, "never")
        await node.stop(ref)
        await node.start(timed)
        await asyncio.sleep(5)
        assert "never" not in timed.tags()


@pytest.mark.simulation(seed=7)
async def test_a_timer_that_is_cancelled_while_it_waits_in_the_mailbox_is_not_heard() -> None:
    async with SimCluster(1) as sim:
        node = sim["a"]
        timed = Timed()
        ref = await node.start(timed)
        await ref.call(Timed.after, 1, "late")
        await node.suspend(ref)
        asking = asyncio.create_task(ref.call(Timed.cancel))
        await asyncio.sleep(2)
        assert node.inspect()[-1].depth == 2
        await node.resume(ref)
        assert await asking
        await asyncio.sleep(1)
        assert timed.tags() == []


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "1", 10**400, None])
async def test_a_delay_that_cannot_be_is_refused(bad: Any, start_node: NodeFactory) -> None:
    node = await start_node("a")
    actor = Keeper()
    await node.start(actor)
    with pytest.raises(ConfigError):
        actor.send_after(bad, "x")
    with pytest.raises(ConfigError):
        actor.every(bad, "x")
    with pytest.raises(ConfigError):
        actor.every(0, "x")


# -- supervisors: names


class Shop(Supervisor):
    def __init__(self, make: Callable[[], GenServer]) -> None:
        self.make = make

    def children(self) -> Sequence[Child[Any]]:
        return [Child(self.make, name="clerk")]


@everywhere
async def test_a_restarted_child_has_its_name_before_the_down_of_the_old_one_is_told(
    where: str, start_node: NodeFactory
) -> None:
    class Curious(Watcher):
        async def handle_info(self, info: Any) -> None:
            self.seen.append(info)
            clerk: Ref[Mortal] = self.node.ref(Mortal, "clerk", on="home")
            self.seen.append(await clerk.call(Mortal.ping))

    place = await place_of(start_node, where)
    await place.home.start(Shop(Mortal), name="shop")
    watcher = Curious()
    to_watcher = await place.asker.start(watcher)
    clerk = place.ref(Mortal, "clerk")
    old = place.process_ref(Mortal, "clerk")
    await to_watcher.call("watch", clerk)
    await clerk.cast(Mortal.end, "crash")
    await eventually(lambda: len(watcher.seen) == 2)
    assert (watcher.seen[0].reason, watcher.seen[1]) == ("ValueError: no such account", "pong")
    assert place.process_ref(Mortal, "clerk") != old
    with pytest.raises(NoSuchServer):
        await old.call(Mortal.ping)


@everywhere
async def test_too_many_restarts_stop_the_supervisor_with_shutdown(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    await place.home.start(Shop(Mortal), name="shop")
    clerk = place.ref(Mortal, "clerk")
    async with place.asker.monitor(place.ref(Shop, "shop")) as down:
        for _ in range(2):
            async with place.asker.monitor(clerk) as dead:
                await clerk.cast(Mortal.end, "crash")
                await asyncio.wait_for(dead, 5)
        assert (await asyncio.wait_for(down, 5)).reason == "shutdown"
    assert len(place.home.inspect()) == 1


# -- what stays bounded


async def test_deferred_work_is_bounded_as_the_mailbox_is(start_node: NodeFactory) -> None:
    class Deferring(GenServer):
        mailbox = Mailbox(5)

        def __init__(self) -> None:
            self.gate = Gate()

        @call
        async def later(self) -> Any:
            return self.defer(self.caller, self.gate.passed())

    place = await place_of(start_node, "here")
    actor = Deferring()
    ref = await place.start(actor, "deferring")
    asking = []
    for _ in range(8):
        asking.append(asyncio.create_task(ref.call(Deferring.later)))
        await asyncio.sleep(0.01)
    info = place.home.inspect()[-1]
    assert (info.beside, info.depth) == (5, 3)
    actor.gate.open()
    assert await asyncio.gather(*asking) == [None] * 8
