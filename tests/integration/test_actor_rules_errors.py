"""Errors of calls: who gets them, as what, and what they say."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import (
    CallError,
    CallTimeout,
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
    call,
    on,
)
from tests.conftest import NodeFactory, eventually
from tests.integration.places import HURRIED, everywhere, place_of
from tests.integration.rule_actors import Worker


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
