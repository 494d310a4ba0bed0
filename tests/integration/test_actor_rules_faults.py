"""Handlers gone wrong where nobody waits for an answer: the actor stops, and its watchers are told."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from clusterkit import (
    GenServer,
    Ref,
    ServerDown,
    Stop,
    UnsupportedPayload,
    call,
    cast,
    on,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import Keeper, everywhere, place_of
from tests.integration.rule_actors import over


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
