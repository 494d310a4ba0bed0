"""Actors over real links: what a user of GenServer relies on, here and on another node."""

import asyncio
import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from clusterkit import (
    NOREPLY,
    CallError,
    CallTimeout,
    Config,
    DeadLetter,
    From,
    GenServer,
    Mailbox,
    MailboxFull,
    MessageTooLarge,
    NameInUse,
    Node,
    NodeDown,
    NodeId,
    NoReply,
    NoSuchMethod,
    NoSuchServer,
    Ref,
    RemoteError,
    ServerDown,
    UnsupportedPayload,
    UsageError,
    call,
    cast,
    on,
)
from tests.conftest import NodeFactory, eventually


class OddError(Exception):
    """An exception that pickle cannot carry."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Lab(GenServer):
    """One handler of each sort."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.open: list[From] = []
        self.reason: object = None
        self.gate = asyncio.Event()

    @call
    async def echo(self, value: Any, *, twice: bool = False) -> Any:
        return [value, value] if twice else value

    @call
    async def fail(self, kind: str) -> None:
        if kind == "odd":
            raise OddError(code=7)
        if kind == "local":

            class HiddenError(Exception):
                pass

            raise HiddenError("inside")
        raise KeyError(kind)

    @call
    async def fail_with(self, size: int, depth: int) -> None:
        value: Any = "x" * size
        for _ in range(depth):
            value = [value]
        raise ValueError(value)

    @call
    async def wait(self) -> str:
        await self.gate.wait()
        return "done"

    @call
    async def bad_reply(self) -> Any:
        return {1, 2}

    @call
    async def huge_reply(self) -> bytes:
        return b"x" * (2 << 20)

    @call
    async def later(self) -> str:
        self.open.append(self.caller)
        raise NoReply

    @call
    async def relay(self, node: str, name: str) -> Any:
        return await self.node.ref(Lab, name, on=node).call(Lab.echo, "x")

    @cast
    async def note(self, value: Any) -> None:
        self.seen.append(value)

    @cast
    async def crash(self) -> None:
        raise RuntimeError("boom")

    @on("hello")
    def hello(self, data: Any, frm: From) -> str:
        self.seen.append((data, frm.peer.name, frm.expects_reply))
        return f"world, {data}"

    @on("trap")
    def trap(self, data: Any) -> None:
        raise StopIteration(data)

    @on("ping")
    async def ping(self, data: Any) -> Any:
        return data

    async def handle_call(self, request: Any, frm: From) -> Any:
        if request == "take":
            self.open.append(frm)
            return NOREPLY
        return ["request", request]

    async def handle_cast(self, request: Any) -> None:
        self.seen.append(("cast", request))

    async def handle_info(self, info: Any) -> None:
        self.seen.append(("info", info))

    async def terminate(self, reason: object) -> None:
        self.reason = reason


@pytest.fixture(params=["here", "there"])
async def lab(request: pytest.FixtureRequest, start_node: NodeFactory) -> tuple[Ref[Lab], Lab, Node]:
    """A Lab, and a reference to it from the same node or from another one."""
    host = await start_node("host")
    server = Lab()
    await host.start(server, name="lab")
    if request.param == "here":
        return host.ref(Lab, "lab"), server, host
    away = await start_node("away", seeds=(host,))
    return away.ref(Lab, "lab", on="host"), server, host


LabFixture = tuple[Ref[Lab], Lab, Node]


async def test_a_call_returns_what_the_handler_returns(lab: LabFixture) -> None:
    ref, _, _ = lab
    assert await ref.call(Lab.echo, 5) == 5
    assert await ref.call(Lab.echo, "x", twice=True) == ["x", "x"]
    assert await ref.proxy.echo({"a": [1, 2.5, None, b"z"]}) == {"a": [1, 2.5, None, b"z"]}
    when = datetime(2026, 1, 2, tzinfo=UTC)
    assert await ref.proxy.echo(when) == when


async def test_an_event_gets_its_data_and_who_asked(lab: LabFixture) -> None:
    ref, server, _ = lab
    assert await ref.call("hello", "me") == "world, me"
    await ref.cast("hello", "you")
    assert await ref.call("ping", 1) == 1
    assert await ref.call("ping") is None
    assert [(data, asks) for data, _, asks in server.seen] == [("me", True), ("you", False)]


async def test_unexported_requests_reach_the_otp_callbacks(lab: LabFixture) -> None:
    ref, server, _ = lab
    assert await ref.call("anything") == ["request", "anything"]
    _, request = await ref.call("anything", 3)
    assert list(request) == ["anything", 3]  # a tuple, which crosses as a list
    await ref.cast("news", [1])
    await ref.send({"any": "thing"})
    await ref.call("ping")
    assert server.seen == [("cast", ("news", [1])), ("info", {"any": "thing"})]


async def test_order_from_one_sender_is_kept(lab: LabFixture) -> None:
    ref, server, _ = lab
    for number in range(200):
        await ref.cast(Lab.note, number)
    await ref.call("ping")
    assert server.seen == list(range(200))


async def test_a_reply_may_come_later_from_any_handler(lab: LabFixture) -> None:
    ref, server, _ = lab
    waiting = [asyncio.create_task(ref.call("take")), asyncio.create_task(ref.call(Lab.later))]
    await eventually(lambda: len(server.open) == 2)
    for frm in server.open:
        await server.reply(frm, "late")
        await server.reply(frm, "twice: dropped")
    assert await asyncio.gather(*waiting) == ["late", "late"]


async def test_errors_arrive_with_type_arguments_and_traceback(lab: LabFixture) -> None:
    ref, _, host = lab
    with pytest.raises(KeyError) as caught:
        await ref.call(Lab.fail, "key")
    assert caught.value.args == ("key",)
    with pytest.raises(OddError) as odd:
        await ref.call(Lab.fail, "odd")
    assert odd.value.code == 7
    if ref.node.name != host.id.name or ref.address.node is not None:
        assert "in fail" in str(odd.value.__cause__)
    with pytest.raises(RemoteError, match="StopIteration: sprung"):  # raised as itself it would end its caller
        await ref.call("trap", "sprung")
    with pytest.raises(Exception, match="inside"):
        await ref.call(Lab.fail, "local")
    assert await ref.call("ping", "alive") == "alive"


async def test_a_type_that_is_unknown_here_is_a_remote_error(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.start(Lab(), name="lab")
    with pytest.raises(RemoteError, match="inside") as caught:
        await b.ref(Lab, "lab", on="a").call(Lab.fail, "local")
    assert "HiddenError" in caught.value.type_name
    assert "HiddenError" in caught.value.traceback_text


@pytest.mark.parametrize(("size", "depth"), [(2_000_000, 0), (1, 61), (1, 63), (1, 80)])
async def test_an_error_too_large_or_too_deep_to_cross_fails_its_own_call_only(
    size: int, depth: int, start_node: NodeFactory
) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.start(Lab(), name="lab")
    ref = b.ref(Lab, "lab", on="a")
    waiting = asyncio.create_task(ref.call(Lab.later))
    with pytest.raises((RemoteError, ValueError)):
        await ref.call(Lab.fail_with, size, depth)
    assert await ref.call("ping", 1) == 1  # the link and the actor live on
    assert not waiting.done()
    waiting.cancel()


async def test_a_missing_server_and_a_missing_handler_are_told_at_once(lab: LabFixture) -> None:
    ref, _, host = lab

    class Bare(GenServer):
        pass

    await host.start(Bare(), name="bare")
    kernel = ref._kernel
    nobody = Ref(kernel, Lab, type(ref.address)(ref.address.node, "nobody"))
    bare = Ref(kernel, Lab, type(ref.address)(ref.address.node, "bare"))
    with pytest.raises(NoSuchServer, match="nobody") as missing:
        await nobody.call(Lab.echo, 1)
    assert missing.value.executed == "no"
    with pytest.raises(NoSuchMethod, match="'echo'") as unknown:
        await bare.call(Lab.echo, 1)
    assert unknown.value.executed == "no"


async def test_wrong_arguments_are_the_callers_type_error(lab: LabFixture) -> None:
    ref, _, _ = lab
    with pytest.raises(TypeError):
        await ref.call("echo", 1, 2, 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="one value"):
        await ref.call("ping", 1, 2)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="no handler"):
        await ref.call(Lab.terminate, "x")


async def test_a_call_ends_at_its_deadline_and_its_reply_is_dropped(lab: LabFixture) -> None:
    ref, server, _ = lab
    with pytest.raises(CallTimeout) as caught:
        await ref.with_(timeout=0.05).call(Lab.wait)
    assert caught.value.executed == "maybe"
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(CallTimeout):  # waits behind the one that runs, and is never started
        await ref.with_(timeout=0.05).call(Lab.echo, "never")
    server.gate.set()
    assert await ref.call("ping", 1) == 1


async def test_a_cancelled_call_is_forgotten(lab: LabFixture) -> None:
    ref, server, _ = lab
    task = asyncio.create_task(ref.call(Lab.wait))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.gate.set()
    assert await ref.call("ping", 1) == 1


async def test_an_unpackable_reply_is_the_callers_error(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.start(Lab(), name="lab")
    ref = b.ref(Lab, "lab", on="a")
    with pytest.raises(UnsupportedPayload, match="reply: builtins.set") as caught:
        await ref.call(Lab.bad_reply)
    assert caught.value.executed == "maybe"
    with pytest.raises(MessageTooLarge, match="reply of 2097"):
        await ref.call(Lab.huge_reply)
    assert await ref.call("ping", 1) == 1


async def test_an_unsupported_argument_names_its_path_and_is_never_sent(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.start(Lab(), name="lab")
    ref = b.ref(Lab, "lab", on="a")
    with pytest.raises(UnsupportedPayload, match="cannot cross") as caught:
        await ref.call(Lab.echo, {"x": [1, object()]})
    assert caught.value.path == "args[0]['x'][1]"
    assert caught.value.executed == "no"
    with pytest.raises(MessageTooLarge) as large:
        await ref.call(Lab.echo, b"x" * (1 << 20))
    assert large.value.executed == "no"
    assert isinstance(large.value, ValueError)
    assert len(await ref.call(Lab.echo, b"x" * 1_040_000)) == 1_040_000


async def test_an_error_in_a_nested_call_does_not_claim_that_nothing_ran(lab: LabFixture) -> None:
    ref, _, _ = lab
    with pytest.raises(CallError) as caught:
        await ref.call(Lab.relay, "host", "nobody")
    assert caught.value.executed == "maybe"


async def test_an_error_in_a_cast_stops_the_actor_and_fails_what_waits(lab: LabFixture, caplog: Any) -> None:
    ref, server, _ = lab
    blocked = asyncio.create_task(ref.call(Lab.wait))
    await asyncio.sleep(0.05)
    await ref.cast(Lab.crash)
    behind = asyncio.create_task(ref.call(Lab.echo, 1))
    await asyncio.sleep(0.05)
    server.gate.set()
    assert await blocked == "done"
    with pytest.raises(ServerDown) as caught:
        await behind
    assert caught.value.executed == "no"
    assert isinstance(server.reason, RuntimeError)
    with pytest.raises(NoSuchServer):
        await ref.call(Lab.echo, 1)
    assert "boom" in caplog.text


async def test_a_full_mailbox_is_told_and_nothing_ran(start_node: NodeFactory) -> None:
    class Small(Lab):
        mailbox = Mailbox(3)

    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    server = Small()
    await a.start(server, name="lab")
    for node in (a, b):
        dead: list[DeadLetter] = []
        a.on(DeadLetter, dead.append)
        server.gate.clear()
        ref = node.ref(Lab, "lab", on="a")
        running = asyncio.create_task(ref.call(Lab.wait))
        await eventually(
            lambda: (
                server.ref is not None and server._clusterkit_process is not None and server._clusterkit_process.current
            )
        )
        waiting = [asyncio.create_task(ref.call(Lab.echo, i)) for i in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(MailboxFull, match="3 messages wait") as caught:
            await ref.call(Lab.echo, 9)
        assert caught.value.executed == "no"
        if node is a:
            with pytest.raises(MailboxFull):
                await ref.cast(Lab.note, 1)
        else:
            await ref.cast(Lab.note, 1)
            await eventually(lambda letters=dead: letters)  # type: ignore[misc]
            assert "full" in dead[0].reason
        server.gate.set()
        assert await running == "done"
        assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_stop_handles_what_waits_first(lab: LabFixture) -> None:
    ref, server, host = lab
    running = asyncio.create_task(ref.call(Lab.wait))
    await asyncio.sleep(0.05)
    queued = asyncio.create_task(ref.call(Lab.echo, 1))
    await asyncio.sleep(0.05)
    stopping = asyncio.create_task(host.stop("lab", "enough"))
    await asyncio.sleep(0.02)
    server.gate.set()
    await stopping
    assert (await running, await queued, server.reason) == ("done", 1, "enough")


async def test_stop_without_drain_answers_what_waits_and_runs_terminate(lab: LabFixture) -> None:
    ref, server, host = lab
    running = asyncio.create_task(ref.call(Lab.wait))
    await asyncio.sleep(0.05)
    queued = asyncio.create_task(ref.call(Lab.echo, 1))
    stopping = asyncio.create_task(host.stop("lab", "enough", drain=False))
    await asyncio.sleep(0.02)
    server.gate.set()
    await stopping
    assert await running == "done"
    with pytest.raises(ServerDown) as caught:
        await queued
    assert caught.value.executed == "no"
    assert server.reason == "enough"
    with pytest.raises(NoSuchServer):
        await host.stop("lab")


async def test_stop_cancels_a_handler_that_does_not_end(lab: LabFixture) -> None:
    ref, _, host = lab
    running = asyncio.create_task(ref.call(Lab.wait))
    await asyncio.sleep(0.05)
    await host.stop("lab", timeout=0.05)
    with pytest.raises(ServerDown) as caught:
        await running
    assert caught.value.executed == "maybe"


async def test_calls_left_open_end_with_their_server(lab: LabFixture) -> None:
    ref, server, host = lab
    waiting = asyncio.create_task(ref.call(Lab.later))
    await eventually(lambda: server.open)
    await host.stop("lab")
    with pytest.raises(ServerDown) as caught:
        await waiting
    assert caught.value.executed == "maybe"


async def test_an_actor_has_one_life_at_a_time_and_may_be_started_again(start_node: NodeFactory) -> None:
    node = await start_node("a")
    server = Lab()
    first = await node.start(server, name="lab")
    with pytest.raises(UsageError, match="runs already"):
        await node.start(server)
    with pytest.raises(NameInUse, match="'lab'"):
        await node.start(Lab(), name="lab")
    await node.stop(first)
    with pytest.raises(NoSuchServer):
        await first.call(Lab.echo, 1)
    second = await node.start(server, name="lab")
    assert await second.call(Lab.echo, 1) == 1
    assert node.whereis("lab") == second
    assert node.whereis("nobody") is None


async def test_what_init_raises_start_raises_and_the_name_is_free(start_node: NodeFactory) -> None:
    class Fussy(GenServer):
        async def init(self) -> None:
            raise OSError("no disk")

    node = await start_node("a")
    with pytest.raises(OSError, match="no disk"):
        await node.start(Fussy(), name="fussy")
    assert await (await node.start(Lab(), name="fussy")).call(Lab.echo, 1) == 1


async def test_lifecycle_is_out_of_reach_of_messages(lab: LabFixture) -> None:
    ref, _, _ = lab
    for name in ("terminate", "stop", "init", "_running", "__init__", "handle_info"):
        assert await ref.call(name) == ["request", name]
    with pytest.raises(AttributeError, match="only @call and @cast"):
        _ = ref.proxy.seen


def test_a_class_that_could_not_work_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="async def"):

        class Sync(GenServer):
            @call  # type: ignore[type-var]
            def get(self) -> int:
                return 1

    with pytest.raises(TypeError, match="GenServer's own"):

        class Shadow(GenServer):
            @call
            async def reply(self) -> int:  # type: ignore[override]
                return 1

    with pytest.raises(TypeError, match="data, frm"):

        class Odd(GenServer):
            @on("x")  # type: ignore[type-var]
            def nothing(self) -> None: ...

    with pytest.raises(TypeError, match="name of an event"):
        on(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on a method"):
        call(3)  # type: ignore[call-overload]


async def test_an_inert_actor_says_so() -> None:
    server = Lab()
    for attribute in ("node", "ref", "caller"):
        with pytest.raises(UsageError, match="not started"):
            getattr(server, attribute)


async def test_multicall_keeps_partial_results(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    c = await start_node("c", seeds=(a,))
    await eventually(lambda: all(len(node.ring) == 3 for node in (a, b, c)))
    labs = [Lab(), Lab()]
    await a.start(labs[0], name="lab")
    await b.start(labs[1], name="lab")
    replies = await c.multicall([*c.ring.nodes, "ghost"], "lab", Lab.echo, 4)
    assert {node.name: value for node, value in replies.ok.items()} == {"a": 4, "b": 4}
    failed = {node.name: type(error) for node, error in replies.failed.items()}
    assert failed == {"c": NoSuchServer, "ghost": NodeDown}
    told = await c.abcast(["a", "b", "ghost"], "lab", Lab.note, 1)
    assert {node.name for node in told.ok} == {"a", "b"}
    assert {node.name for node in told.failed} == {"ghost"}
    await eventually(lambda: labs[0].seen == labs[1].seen == [1])


async def test_who_waits_for_room_is_woken_by_it_and_by_the_end_of_the_peer(start_node: NodeFactory) -> None:
    b = await start_node("b", config=Config(outbox_messages=2, down_after=1.0))
    mute = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    b._open_kernel().links.link_to(NodeId("ghost", *mute.getsockname()))
    ref = b.ref(Lab, "lab", on="ghost")
    short = [asyncio.create_task(ref.with_(timeout=0.1).call(Lab.echo, i)) for i in range(2)]
    await asyncio.sleep(0)
    behind = asyncio.create_task(ref.cast(Lab.note, 1))
    for task in short:
        with pytest.raises(CallTimeout) as caught:
            await task
        assert caught.value.executed == "no"
    async with asyncio.timeout(1):
        await behind  # what timed out made room
    waits = [asyncio.create_task(ref.with_(timeout=30).call(Lab.echo, i)) for i in range(3)]
    async with asyncio.timeout(5):
        results = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(result) for result in results] == [NodeDown] * 3
    mute.close()


async def test_a_sender_waits_while_the_outbox_is_full(start_node: NodeFactory) -> None:
    tight = Config(outbox_messages=4)
    a = await start_node("a")
    b = await start_node("b", seeds=(a,), config=tight)
    await a.start(Lab(), name="lab")
    ref = b.ref(Lab, "lab", on="a")
    assert await asyncio.gather(*(ref.call(Lab.echo, i) for i in range(50))) == list(range(50))
