"""What docs/guarantees.md says of calls, rule by rule: deadlines, cancellation, cycles, errors."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import (
    CallCycle,
    CallError,
    CallTimeout,
    ConfigError,
    GenServer,
    Mailbox,
    MailboxFull,
    NodeDown,
    NoReply,
    NoSuchMethod,
    NoSuchServer,
    Ref,
    RemoteError,
    Stop,
    UsageError,
    call,
    cast,
    deadline,
    on,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import HURRIED, Gate, Place, everywhere, place_of


class Worker(GenServer):
    """Works behind a gate, and asks others for more."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.ran: list[Any] = []
        self.cancelled: list[Any] = []

    async def _work(self, what: Any) -> Any:
        self.ran.append(what)
        try:
            await self.gate.passed()
        except asyncio.CancelledError:
            self.cancelled.append(what)
            raise
        return what

    @call
    async def work(self, what: Any = None) -> Any:
        return await self._work(what)

    @call(timeout=0.05)
    async def quick_work(self) -> Any:
        return await self._work("quick")

    @call
    async def work_later(self, what: Any = None) -> Any:
        return self.defer(self.caller, self._work(what))

    @call
    async def relay(self, node: str, name: str, method: str, timeout: float = 60.0) -> Any:
        return await self.node.ref(Worker, name, on=node).with_(timeout=timeout).call(method)

    @call
    async def relay_within(self, node: str, name: str, seconds: float) -> Any:
        with deadline(seconds):
            return await self.node.ref(Worker, name, on=node).with_(timeout=60).call("work")

    @call
    async def background(self, node: str, name: str) -> None:
        self.task = asyncio.get_running_loop().create_task(self.node.ref(Worker, name, on=node).call("work"))

    @call
    async def time_left(self) -> float:
        assert self.caller.deadline is not None
        return self.caller.deadline - asyncio.get_running_loop().time()


class Cancellable(Worker):
    """The same, and what it does may be cancelled."""

    @call(cancellable=True)
    async def frail_work(self, what: Any = None) -> Any:
        return await self._work(what)

    @call(cancellable=True)
    async def frail_relay(self, node: str, name: str, method: str) -> Any:
        return await self.node.ref(Cancellable, name, on=node).with_(timeout=60).call(method)


workers = pytest.mark.parametrize("cls", [Worker, Cancellable])


async def timed_out(asking: Any) -> CallTimeout:
    """The error of a call that times out, well before the default would let it."""
    with pytest.raises(CallTimeout) as caught:
        async with asyncio.timeout(3):
            await asking
    assert isinstance(caught.value, TimeoutError)
    return caught.value


def depth(place: Place, name: str) -> int:
    return next(each.depth for each in place.home.inspect() if each.name == name)


# -- deadlines: the earliest counts


@everywhere
async def test_a_call_ends_at_its_own_timeout(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    error = await timed_out(ref.with_(timeout=0.05).call(Worker.work))
    assert (error.executed, error.target) == ("maybe", "worker.work")


@everywhere
async def test_a_call_ends_at_its_handlers_timeout(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    await timed_out(ref.call(Worker.quick_work))


@everywhere
async def test_a_call_ends_at_the_deadline_that_it_is_made_in(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    async with deadline(60), deadline(0.05):
        await timed_out(ref.with_(timeout=60).call(Worker.work))
    with deadline(0.05), deadline(60):
        await timed_out(ref.with_(timeout=60).call(Worker.work))
    with deadline(60):
        await timed_out(ref.with_(timeout=0.05).call(Worker.work))


@everywhere
@workers
async def test_a_call_ends_at_the_deadline_of_the_call_that_it_is_made_for(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    inner = cls()
    await place.start(inner, "inner")
    outer = await place.start(cls(), "outer")
    home = place.home.id.name
    await timed_out(outer.with_(timeout=0.2).call(Worker.relay, home, "inner", "work"))
    inner.gate.open()
    assert await outer.call(Worker.relay, home, "inner", "work") is None, "the relay of the first has ended too"


@everywhere
async def test_time_left_is_what_travels(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    await place.start(Worker(), "inner")
    outer = await place.start(Worker(), "outer")
    left = await outer.with_(timeout=7).call(Worker.relay, place.home.id.name, "inner", "time_left")
    assert 4 < left <= 7


@everywhere
async def test_a_deadline_inside_a_handler_bounds_what_it_asks(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    await place.start(Worker(), "inner")
    outer = await place.asker.start(Worker())
    await timed_out(outer.with_(timeout=60).call(Worker.relay_within, place.home.id.name, "inner", 0.05))


@everywhere
async def test_past_its_deadline_nothing_is_sent(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    worker = Worker()
    ref = await place.start(worker, "worker")
    with deadline(0):
        error = await timed_out(ref.call(Worker.work))
    assert (error.executed, worker.ran) == ("no", [])


@everywhere
async def test_a_deadline_does_not_cancel_the_body(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Worker(), "worker")
    with deadline(0.01):
        await timed_out(ref.call(Worker.work))
        await asyncio.sleep(0.02)


@everywhere
async def test_a_task_that_outlives_a_deadline_or_its_turn_is_not_bound_by_it(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker, starter = Worker(), Worker()
    ref = await place.start(worker, "worker")
    worker.gate.open()

    async def later() -> Any:
        await asyncio.sleep(0.1)
        return await ref.call(Worker.work, "later")

    with deadline(0.02):
        task = asyncio.get_running_loop().create_task(later())
    assert await task == "later"
    worker.gate = Gate()
    background = await place.asker.start(starter)
    await background.with_(timeout=0.2).call(Worker.background, place.home.id.name, "worker")
    await worker.gate.reached()
    await asyncio.sleep(0.3)
    worker.gate.open()
    assert await starter.task is None


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "1"])
def test_a_deadline_that_cannot_be_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="deadline"):
        deadline(bad)


async def test_a_deadline_is_entered_once() -> None:
    bound = deadline(1)
    with bound, pytest.raises(UsageError), bound:
        pass


@everywhere
@workers
async def test_a_request_past_its_deadline_is_not_started(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    first = asyncio.create_task(ref.call(Worker.work, "first"))
    await worker.gate.reached()
    error = await timed_out(ref.with_(timeout=0.05).call(Worker.work, "second"))
    assert error.executed == ("no" if place.is_here else "maybe"), "what was written to a connection may have run"
    if place.is_here:
        assert depth(place, "worker") == 0, "it is removed at once"
    worker.gate.open()
    assert await first == "first"
    assert await ref.call(Worker.work, "third") == "third"
    assert worker.ran == ["first", "third"]


@everywhere
@workers
async def test_a_handler_that_runs_past_its_deadline_goes_on_and_its_reply_is_dropped(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    await timed_out(ref.with_(timeout=0.05).call(Worker.work, 1))
    assert worker.gate.waiting == 1
    worker.gate.open()
    assert await ref.call(Worker.work, 2) == 2
    assert worker.cancelled == []
    await eventually(lambda: place.is_here or place.asker.stats()["late_replies"] == 1)


@everywhere
async def test_a_cancellable_handler_and_deferred_work_end_at_the_deadline(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    for worker, method in ((Cancellable(), "frail_work"), (Cancellable(), "work_later"), (Worker(), "work_later")):
        ref = await place.start(worker, "worker")
        await timed_out(ref.with_(timeout=0.05).call(method, 1))
        await eventually(lambda worker=worker: worker.cancelled == [1])  # type: ignore[misc]
        await place.home.stop("worker")


@everywhere
async def test_a_cancellable_handler_that_has_answered_may_go_on(where: str, start_node: NodeFactory) -> None:
    class Generous(GenServer):
        done = False

        @call(cancellable=True)
        async def give(self) -> str:
            await self.reply(self.caller, "at once")
            await asyncio.sleep(0.2)
            self.done = True
            raise NoReply

    place = await place_of(start_node, where)
    actor = Generous()
    ref = await place.start(actor, "generous")
    assert await ref.with_(timeout=0.1).call(Generous.give) == "at once"
    await eventually(lambda: actor.done)


# -- cancellation


async def given_up(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@everywhere
@workers
async def test_cancelling_takes_a_queued_request_out_of_the_mailbox(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    first = asyncio.create_task(ref.call(Worker.work, "first"))
    await worker.gate.reached()
    queued = [asyncio.create_task(ref.call(Worker.work, number)) for number in range(3)]
    await eventually(lambda: depth(place, "worker") == 3)
    await given_up(queued[1])
    await eventually(lambda: depth(place, "worker") == 2)
    worker.gate.open()
    assert [await first, await queued[0], await queued[2]] == ["first", 0, 2]
    assert worker.ran == ["first", 0, 2]


@everywhere
@workers
async def test_cancelling_leaves_a_running_handler_alone(
    where: str, cls: type[Worker], start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = cls()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(Worker.work, 1))
    await worker.gate.reached()
    await given_up(running)
    worker.gate.open()
    assert await ref.call(Worker.work, 2) == 2
    assert (worker.ran, worker.cancelled) == ([1, 2], [])


@everywhere
async def test_cancelling_ends_a_cancellable_handler_and_deferred_work_at_its_next_await(
    where: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    for worker, method in ((Cancellable(), "frail_work"), (Cancellable(), "work_later"), (Worker(), "work_later")):
        ref = await place.start(worker, "worker")
        running = asyncio.create_task(ref.call(method, 1))
        await worker.gate.reached()
        await given_up(running)
        await eventually(lambda worker=worker: worker.cancelled == [1])  # type: ignore[misc]
        worker.gate.open()
        assert await ref.call(Worker.work, 2) == 2, "the actor lives"
        assert place.home.stats()["cancelled"] > 0
        await place.home.stop("worker")


@everywhere
async def test_each_given_up_request_is_counted_once(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    worker = Worker()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(Worker.work_later, 1))
    await worker.gate.reached()
    await given_up(running)
    await eventually(lambda: worker.cancelled)
    assert place.home.stats()["cancelled"] == 1


@everywhere
async def test_cancelling_goes_on_to_what_the_work_awaits_elsewhere(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    running, queued = Cancellable(), Cancellable()
    await place.start(running, "running")
    await place.start(queued, "queued")
    blocker = asyncio.create_task(place.ref(Cancellable, "queued").call("work", "blocks"))
    await queued.gate.reached()
    front = await place.asker.start(Cancellable())
    home = place.home.id.name
    asking = asyncio.create_task(front.call(Cancellable.frail_relay, home, "running", "frail_work"))
    await running.gate.reached()
    await given_up(asking)
    await eventually(lambda: running.cancelled == [None])
    asking = asyncio.create_task(front.call(Cancellable.frail_relay, home, "queued", "work"))
    await eventually(lambda: depth(place, "queued") == 1)
    await given_up(asking)
    await eventually(lambda: depth(place, "queued") == 0)
    queued.gate.open()
    assert await blocker == "blocks"
    assert queued.ran == ["blocks"]


@everywhere
async def test_a_handler_that_swallows_its_cancellation_answers_nobody_and_its_actor_goes_on(
    where: str, start_node: NodeFactory
) -> None:
    class Stubborn(Worker):
        @call(cancellable=True)
        async def stubborn(self) -> str:
            with suppress(asyncio.CancelledError):
                await self._work("stubborn")
            return "what?"

    place = await place_of(start_node, where)
    worker = Stubborn()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(Stubborn.stubborn))
    await worker.gate.reached()
    await given_up(running)
    worker.gate.open()
    assert await ref.call(Worker.work, 2) == 2


class Brittle(Cancellable):
    """Turns its cancellation into an error of its own, as clients of databases do."""

    async def _work(self, what: Any) -> Any:
        try:
            return await super()._work(what)
        except asyncio.CancelledError:
            raise OSError("the connection was closed in the middle") from None


@everywhere
@pytest.mark.parametrize("method", ["work_later", "frail_work"])
async def test_work_that_fails_when_it_is_given_up_harms_nobody(
    where: str, method: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    worker = Brittle()
    ref = await place.start(worker, "worker")
    running = asyncio.create_task(ref.call(method, 1))
    await worker.gate.reached()
    await given_up(running)
    await eventually(lambda: worker.cancelled == [1])
    await timed_out(ref.with_(timeout=0.05).call(method, 2))
    await eventually(lambda: worker.cancelled == [1, 2])
    worker.gate.open()
    assert await ref.call(Worker.work, 3) == 3, "the actor lives"


@everywhere
async def test_a_caller_that_gives_up_while_it_waits_for_room_leaves_nothing(
    where: str, start_node: NodeFactory
) -> None:
    class Narrow(Worker):
        mailbox = Mailbox(1, overflow="block")

    place = await place_of(start_node, where)
    worker = Narrow()
    ref = await place.start(worker, "worker")
    asking = [asyncio.create_task(ref.call(Worker.work, number)) for number in range(3)]
    await worker.gate.reached()
    await eventually(lambda: depth(place, "worker") == (1 if place.is_here else 2))
    await given_up(asking[2])
    await eventually(lambda: depth(place, "worker") == 1)
    worker.gate.open()
    assert await asyncio.gather(*asking[:2]) == [0, 1]
    assert await ref.call(Worker.work, "last") == "last"
    assert worker.ran == [0, 1, "last"]


async def test_many_callers_that_give_up_at_once_do_not_hold_up_the_loop(start_node: NodeFactory) -> None:
    class Wide(Worker):
        mailbox = Mailbox(100_000)

    place = await place_of(start_node, "here")
    worker = Wide()
    ref = await place.start(worker, "worker")
    asking = [asyncio.create_task(ref.with_(timeout=0.5).call(Worker.work)) for _ in range(20_000)]
    loop = asyncio.get_running_loop()
    await worker.gate.reached()
    longest, last = 0.0, loop.time()
    while not all(task.done() for task in asking):
        await asyncio.sleep(0.005)
        longest, last = max(longest, loop.time() - last), loop.time()
    assert {type(task.exception()) for task in asking} == {CallTimeout}
    assert longest < 5, "each costs the same, however many there are"


# -- cycles


class Ring(GenServer):
    """Asks itself and others in circles."""

    def __init__(self) -> None:
        self.gate = Gate()

    @call
    async def around(self, stops: list[list[str]]) -> Any:
        if not stops:
            return "there"
        node, name = stops[0]
        return await self.node.ref(Ring, name, on=node).call(Ring.around, stops[1:])

    @call(concurrent=True)
    async def peek(self) -> str:
        return "seen"

    @call
    async def peek_around(self, node: str, name: str, back: list[str]) -> Any:
        return await self.node.ref(Ring, name, on=node).call(Ring.peek_at, back)

    @call
    async def peek_at(self, back: list[str]) -> Any:
        node, name = back
        return await self.node.ref(Ring, name, on=node).call(Ring.peek)

    @call
    async def later_around(self, stops: list[list[str]]) -> Any:
        node, name = stops[0]
        work = self.node.ref(Ring, name, on=node).call(Ring.around, stops[1:])
        return self.defer(self.caller, work)

    @call
    async def tell_around(self, node: str, name: str, back: list[str]) -> None:
        await self.node.ref(Ring, name, on=node).cast(Ring.told, back)

    @cast
    async def told(self, back: list[str]) -> None:
        self.answer = await self.node.ref(Ring, back[1], on=back[0]).call(Ring.around, [])


class PlainRing(GenServer):
    """Without handlers that run beside others."""

    @call
    async def around(self, stops: list[list[str]]) -> Any:
        if not stops:
            return "there"
        node, name = stops[0]
        return await self.node.ref(PlainRing, name, on=node).call(PlainRing.around, stops[1:])


async def circle(place: Place, cls: type[GenServer] = Ring) -> tuple[Any, list[str], list[str]]:
    """Actor x beside the asker, y at home: a reference to x, and where both are."""
    await place.home.start(cls(), name="y")
    ref = await place.asker.start(cls(), name="x")
    return ref, [place.asker.id.name, "x"], [place.home.id.name, "y"]


@everywhere
@pytest.mark.parametrize("cls", [Ring, PlainRing])
async def test_calling_oneself_is_a_cycle(where: str, cls: type[GenServer], start_node: NodeFactory) -> None:
    x, at_x, _ = await circle(await place_of(start_node, where), cls)
    with pytest.raises(CallCycle) as caught:
        await x.call("around", [at_x])
    assert len(caught.value.chain) == 1
    assert await x.call("around", []) == "there", "it lives"


@everywhere
@pytest.mark.parametrize("cls", [Ring, PlainRing])
async def test_a_call_to_who_waits_for_it_is_a_cycle_and_says_who_waits_for_whom(
    where: str, cls: type[GenServer], start_node: NodeFactory
) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where), cls)
    for stops in ([at_y, at_x], [at_y, at_y], [at_y, at_x, at_y, at_x]):
        async with asyncio.timeout(3):
            with pytest.raises(CallCycle) as caught:
                await x.call("around", stops)
        assert isinstance(caught.value, CallError)
        names = [turn.rpartition("/")[2] for turn in caught.value.chain]
        assert names == ["x", "y"]
    assert await x.call("around", [at_y]) == "there"


@everywhere
async def test_a_cycle_is_counted_and_costs_only_its_own_call(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, at_x, at_y = await circle(place)
    with pytest.raises(CallCycle):
        await x.call(Ring.around, [at_y, at_x])
    assert place.asker.stats()["cycles"] == 1
    assert await asyncio.gather(*(x.call(Ring.around, [at_y]) for _ in range(5))) == ["there"] * 5


@everywhere
async def test_a_concurrent_handler_answers_who_waits_for_it(where: str, start_node: NodeFactory) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where))
    async with asyncio.timeout(3):
        assert await x.call(Ring.peek_at, at_x) == "seen"
        assert await x.call(Ring.peek_around, *at_y, at_x) == "seen"


@everywhere
async def test_a_concurrent_handler_answers_who_waits_for_it_past_others_in_the_mailbox(
    where: str, start_node: NodeFactory
) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where))
    async with asyncio.timeout(3):
        first, *others = (asyncio.create_task(each) for each in (
            x.call(Ring.peek_around, *at_y, at_x), x.call(Ring.around, []), x.call(Ring.around, []),
        ))  # fmt: skip
        assert await first == "seen"
        assert await asyncio.gather(*others) == ["there", "there"]


@everywhere
async def test_deferred_work_keeps_nobody_waiting_so_it_may_come_back(where: str, start_node: NodeFactory) -> None:
    x, at_x, at_y = await circle(await place_of(start_node, where))
    async with asyncio.timeout(3):
        assert await x.call(Ring.later_around, [at_y, at_x]) == "there"


@everywhere
async def test_a_cast_waits_for_nobody_so_it_makes_no_cycle(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, at_x, at_y = await circle(place)
    await x.call(Ring.tell_around, *at_y, at_x)
    y = place.home._processes[place.home.whereis("y").address.to].actor  # type: ignore[union-attr,index]
    await eventually(lambda: getattr(y, "answer", "") == "there")


@everywhere
async def test_waiting_in_line_behind_others_is_no_cycle(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    x, _, at_y = await circle(place)
    y = place.ref(Ring, "y")
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(x.call(Ring.around, [at_y]) for _ in range(20)), *(y.call(Ring.around, []) for _ in range(20))
        )
    assert answers == ["there"] * 40


# -- errors


class StrangeError(Exception):
    """What pickle cannot carry."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.lock = asyncio.Lock()


class RudeError(Exception):
    """One of whom nothing can be read."""

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no attributes")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class EvilMap(dict[str, int]):
    def values(self) -> Any:
        raise RuntimeError("no values")


def evil_attribute() -> Exception:
    error = KeyError("evil")
    error.map = EvilMap(a=1)  # type: ignore[attr-defined]
    error.__dict__[5] = "no name"  # type: ignore[index]
    return error


def own_cause() -> Exception:
    error = ValueError("a circle")
    error.__cause__ = error
    return error


def hidden() -> Exception:
    class HiddenError(Exception):
        pass

    return HiddenError("no module has it")


ERRORS: dict[str, Any] = {
    "value": lambda: ValueError("no", 3),
    "key": lambda: KeyError("k"),
    "os": lambda: FileNotFoundError(2, "No such file", "/x"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    "strange": lambda: StrangeError(code=7),
    "rude": RudeError,
    "evil": evil_attribute,
    "group": lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    "stop iteration": lambda: StopIteration(3),
    "stop async iteration": lambda: StopAsyncIteration("x"),
    "cancelled": lambda: asyncio.CancelledError("not ours"),
    "surrogate": lambda: ValueError("\ud800"),
    "itself": own_cause,
    "hidden": hidden,
}


def error_of(kind: str) -> BaseException:
    error: BaseException = ERRORS[kind]()
    return error


class Failing(GenServer):
    def __init__(self) -> None:
        self.ended: object = None

    @call
    async def fail(self, kind: str) -> None:
        raise error_of(kind)

    @call
    async def fail_later(self, kind: str) -> Any:
        return self.defer(self.caller, self._fail(kind))

    async def _fail(self, kind: str) -> None:
        raise error_of(kind)

    @call
    async def reply_with(self, kind: str) -> None:
        await self.reply_error(self.caller, ERRORS[kind]())
        await self.reply(self.caller, "twice")
        raise NoReply

    @call
    async def ping(self) -> str:
        return "pong"

    async def terminate(self, reason: object) -> None:
        self.ended = reason


class FailingBeside(Failing):
    @call(concurrent=True)
    async def fail_beside(self, kind: str) -> None:
        raise error_of(kind)


class FailingInPlain(GenServer):
    @on("fail")
    def fail(self, kind: Any) -> None:
        raise error_of(kind)

    @call
    async def ping(self) -> str:
        return "pong"


WAYS: list[tuple[type[GenServer], str]] = [
    (Failing, "fail"),
    (FailingBeside, "fail"),
    (FailingBeside, "fail_beside"),
    (FailingInPlain, "fail"),
    (Failing, "fail_later"),
    (Failing, "reply_with"),
]


@everywhere
@pytest.mark.parametrize(("cls", "method"), WAYS)
async def test_every_error_of_a_call_goes_to_its_caller_and_the_server_lives(
    where: str, cls: type[GenServer], method: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(cls(), "failing")
    for kind in ERRORS:
        if kind == "cancelled" and method == "reply_with":
            continue  # only an exception can be handed on
        with pytest.raises(Exception) as caught:
            await ref.with_(timeout=3).call(method, kind)
        assert not isinstance(caught.value, CallError), kind
        assert await ref.call("ping") == "pong", kind


@everywhere
async def test_an_error_keeps_its_type_arguments_and_attributes(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Failing(), "failing")
    with pytest.raises(ValueError, match="no") as value:
        await ref.call(Failing.fail, "value")
    assert value.value.args == ("no", 3)
    with pytest.raises(FileNotFoundError) as missing:
        await ref.call(Failing.fail, "os")
    assert (missing.value.errno, missing.value.strerror) == (2, "No such file")
    with pytest.raises(UnicodeDecodeError) as unreadable:
        await ref.call(Failing.fail, "unicode")
    assert unreadable.value.reason == "why"
    with pytest.raises(StrangeError) as strange:
        await ref.call(Failing.fail, "strange")
    assert (strange.value.code, strange.value.args) == (7, ("code 7",))
    assert hasattr(strange.value, "lock") == place.is_here


async def test_an_error_from_there_has_the_traceback_of_there_and_says_who_raised_it(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    ref = await place.start(Failing(), "failing")
    with pytest.raises(KeyError) as caught:
        await ref.call(Failing.fail, "key")
    assert "in fail" in str(caught.value.__cause__)
    assert any("failing.fail" in note and "home@" in note for note in caught.value.__notes__)


async def test_tracebacks_can_be_turned_off(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there", replace(HURRIED, tracebacks=False))
    ref = await place.start(Failing(), "failing")
    with pytest.raises(KeyError) as caught:
        await ref.call(Failing.fail, "key")
    assert caught.value.__cause__ is None
    with pytest.raises(RemoteError) as unknown:
        await ref.call(Failing.fail, "hidden")
    assert unknown.value.traceback_text == ""


def test_nothing_that_comes_off_the_wire_is_imported() -> None:
    """In a process of its own, where `wave` is not imported yet."""
    program = (
        "import sys\n"
        "from clusterkit.kernel.faults import unpack_exception\n"
        "from clusterkit.core.payload import encode\n"
        "told = {'type': 'wave:Error', 'text': 'x', 'traceback': '', 'args': [], 'attrs': {}}\n"
        "error = unpack_exception(encode(told))\n"
        "assert type(error).__name__ == 'RemoteError', error\n"
        "assert 'wave' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@everywhere
async def test_errors_say_whether_the_request_may_have_run(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Failing(), "failing")
    for asking, kind in (
        (place.ref(Failing, "nobody").call(Failing.ping), NoSuchServer),
        (ref.call("nothing"), NoSuchMethod),
    ):
        with pytest.raises(kind) as caught:
            await asking
        assert caught.value.executed == "no"
    with pytest.raises(TypeError):
        await ref.call("ping", 3)


# -- control flow stays at home


class Quitting(GenServer):
    """Uses Stop and NoReply in every place."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    async def init(self) -> None:
        if self.fails:
            raise Stop("not today")

    async def _quit(self) -> None:
        raise Stop("deferred")

    async def _say_nothing(self) -> None:
        raise NoReply

    @call
    async def quit_later(self) -> Any:
        return self.defer(self.caller, self._quit())

    @call
    async def say_nothing_later(self) -> Any:
        return self.defer(self.caller, self._say_nothing())

    @call
    async def hand_on(self) -> Any:
        await self.reply_error(self.caller, Stop("handed on"))
        raise NoReply

    @call
    async def quit_with(self) -> str:
        raise Stop("enough", reply="goodbye")


class Innocent(GenServer):
    @call
    async def ask(self, node: str, method: str) -> Any:
        return await self.node.ref(Quitting, "quitting", on=node).with_(timeout=0.3).call(method)

    @call
    async def start_one(self) -> None:
        await self.node.start(Quitting(fails=True))

    @call
    async def ping(self) -> str:
        return "pong"


@everywhere
@pytest.mark.parametrize("method", ["quit_later", "say_nothing_later", "hand_on"])
async def test_no_stop_or_noreply_of_a_server_comes_out_of_a_call_to_it(
    where: str, method: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, where)
    await place.start(Quitting(), "quitting")
    innocent = await place.asker.start(Innocent())
    with pytest.raises(Exception) as caught:
        await innocent.call(Innocent.ask, place.home.id.name, method)
    assert not isinstance(caught.value, (Stop, NoReply))
    assert await innocent.call(Innocent.ping) == "pong", "its caller goes on"


async def test_no_stop_of_an_init_comes_out_of_start(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    innocent = await place.start(Innocent(), "innocent")
    with pytest.raises(Exception, match="not today") as caught:
        await innocent.call(Innocent.start_one)
    assert not isinstance(caught.value, Stop)
    assert await innocent.call(Innocent.ping) == "pong"


@everywhere
async def test_stop_may_answer_first(where: str, start_node: NodeFactory) -> None:
    place = await place_of(start_node, where)
    ref = await place.start(Quitting(), "quitting")
    assert await ref.call(Quitting.quit_with) == "goodbye"
    await eventually(lambda: place.home.whereis("quitting") is None)


@everywhere
async def test_an_error_in_crash_on_goes_to_the_caller_and_stops_the_server(
    where: str, start_node: NodeFactory
) -> None:
    class Fragile(Failing):
        crash_on = (KeyError,)

    place = await place_of(start_node, where)
    server = Fragile()
    ref = await place.start(server, "fragile")
    with pytest.raises(ValueError, match="no"):
        await ref.call(Failing.fail, "value")
    assert await ref.call(Failing.ping) == "pong"
    with pytest.raises(KeyError):
        await ref.call(Failing.fail, "key")
    await eventually(lambda: isinstance(server.ended, KeyError))


@everywhere
async def test_a_call_waits_for_room_in_a_mailbox_that_blocks(where: str, start_node: NodeFactory) -> None:
    class Narrow(Worker):
        mailbox = Mailbox(1, overflow="block")

    place = await place_of(start_node, where)
    worker = Narrow()
    ref = await place.start(worker, "worker")
    asking = [asyncio.create_task(ref.call(Worker.work, number)) for number in range(10)]
    await worker.gate.reached()
    with pytest.raises((MailboxFull, CallTimeout)):
        await ref.with_(timeout=0.05).call(Worker.work, "late")
    worker.gate.open()
    assert await asyncio.gather(*asking) == list(range(10))
    assert worker.ran == list(range(10))


async def test_calls_to_a_node_that_nobody_knows_fail_at_once_and_let_the_loop_run(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    nowhere: Ref[Worker] = place.asker.ref(Worker, "worker", on="nowhere")
    for send in (nowhere.call, nowhere.cast):
        for _ in range(100):
            with pytest.raises(NodeDown) as caught:
                await send("work")
            assert (caught.value.reason, caught.value.executed) == ("unknown", "no")
    assert ticks >= 200
    ticking.cancel()
