"""`isolated`: an actor alone sees what it would see of a remote caller, and so does its caller."""

import asyncio
from typing import Any

import pytest

from clusterkit import (
    Child,
    Config,
    Down,
    GenServer,
    MessageTooLarge,
    NodeDown,
    NoReply,
    NoSuchMethod,
    Supervisor,
    TimerFired,
    UnsupportedPayload,
    call,
    cast,
    on,
)
from clusterkit.kernel.faults import RemoteTraceback
from clusterkit.testing import SimCluster, isolated
from clusterkit.testing.loop import SimulationLoop


class Mirror(GenServer):
    """Shows what reaches it, and returns what it is told to."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @call
    async def echo(self, value: Any, *, also: Any = None) -> Any:
        self.seen += [value, also]
        return value

    @cast
    async def note(self, value: Any) -> None:
        self.seen.append(value)

    @on("event")
    def event(self, data: Any) -> Any:
        return data

    async def handle_info(self, info: Any) -> None:
        self.seen.append(info)

    @call
    async def an_object(self) -> object:
        return object()

    @call
    async def own_list(self) -> list[Any]:
        return self.seen

    @call
    async def fail(self, error: str) -> None:
        raise {"lookup": KeyError("k"), "stop": StopIteration(1), "own": Unsendable(object())}[error]

    @call
    async def later(self) -> Any:
        asyncio.get_running_loop().call_soon(self._answer, self.caller)
        raise NoReply

    def _answer(self, frm: Any) -> None:
        self.node._open_kernel().reply(frm, (1, 2))

    @call
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @call
    async def reach(self, node: str) -> float:
        return await self.node.ping(node)


class Unsendable(Exception):
    """An error of one's own, with an argument that cannot cross."""


async def test_on_a_real_loop() -> None:
    async with isolated(Mirror()) as ref:
        assert await ref.call(Mirror.echo, "here") == "here"
        assert not isinstance(asyncio.get_running_loop(), SimulationLoop)


@pytest.mark.simulation(seed=7)
async def test_on_virtual_time() -> None:
    async with isolated(Mirror()) as ref:
        await ref.with_(timeout=700).call(Mirror.sleep, 600.0)
        assert asyncio.get_running_loop().time() >= 600


async def test_a_tuple_arrives_as_a_list_there_and_back() -> None:
    mirror = Mirror()
    async with isolated(mirror) as ref:
        assert await ref.call(Mirror.echo, (1, 2), also={"k": (3,)}) == [1, 2]
        assert await ref.call("event", (4, 5)) == [4, 5]
        await ref.cast(Mirror.note, (6, 7))
        await ref.send((8, bytearray(b"9")))
        assert await ref.proxy.later() == [1, 2]
    assert mirror.seen == [[1, 2], {"k": [3]}, [6, 7], [8, b"9"]]


async def test_nothing_is_shared_between_the_actor_and_its_caller() -> None:
    given = [1]
    async with isolated(Mirror()) as ref:
        await ref.cast(Mirror.note, given)
        given.append(2)
        first = await ref.call(Mirror.own_list)
        first.append(3)
        assert await ref.call(Mirror.own_list) == [[1]]


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, object(), 1 << 70, [lambda: None]], ids=repr)
async def test_what_cannot_be_sent_is_refused_with_its_path(value: Any) -> None:
    mirror = Mirror()
    async with isolated(mirror) as ref:
        for send in (ref.call(Mirror.echo, value), ref.cast(Mirror.note, value), ref.send(value)):
            with pytest.raises(UnsupportedPayload, match="args|info") as refused:
                await send
            assert refused.value.path
        with pytest.raises(UnsupportedPayload, match="kwargs"):
            await ref.call(Mirror.echo, 1, also=value)
    assert mirror.seen == []


async def test_a_reply_that_cannot_be_sent_is_the_callers_error_too() -> None:
    async with isolated(Mirror()) as ref:
        with pytest.raises(UnsupportedPayload, match="reply"):
            await ref.call(Mirror.an_object)


async def test_what_is_too_large_for_a_record_is_refused() -> None:
    async with isolated(Mirror(), config=Config(message_limit=1 << 16)) as ref:
        assert len(await ref.call(Mirror.echo, b"x" * 65_000)) == 65_000
        with pytest.raises(MessageTooLarge, match=r"a message of 66\d\d\d bytes .* 65408 are the most"):
            await ref.call(Mirror.echo, b"x" * 66_000)


async def test_an_error_arrives_as_from_another_node() -> None:
    async with isolated(Mirror()) as ref:
        with pytest.raises(KeyError) as lookup:
            await ref.call(Mirror.fail, "lookup")
        assert isinstance(lookup.value.__cause__, RemoteTraceback)
        with pytest.raises(Exception, match="StopIteration"):
            await ref.call(Mirror.fail, "stop")
        with pytest.raises(Exception, match="Unsendable") as own:
            await ref.call(Mirror.fail, "own")
        assert not isinstance(own.value, Unsendable)  # its argument could not come along


async def test_the_kernels_own_errors_are_what_they_are() -> None:
    async with isolated(Mirror(), name="mirror") as ref:
        with pytest.raises(NoSuchMethod):
            await ref.call("nothing", 1)
        with pytest.raises(TypeError):
            await ref.proxy.echo()  # type: ignore[call-arg]
        with pytest.raises(NodeDown, match="no node 'b' is known"):
            await ref.call(Mirror.reach, "b")
        calling = asyncio.create_task(ref.call(Mirror.sleep, 0.05))
        await asyncio.sleep(0)
        await ref.cast(Mirror.note, 1)
        behind = asyncio.create_task(ref.call(Mirror.echo, 1))
        await asyncio.sleep(0)
    await calling
    assert await behind == 1  # a stop handles what waits first


async def test_what_init_raises_is_raised() -> None:
    class Broken(GenServer):
        async def init(self) -> None:
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        async with isolated(Broken()):
            raise AssertionError("never entered")


@pytest.mark.simulation(seed=7)
@pytest.mark.parametrize("on", ["a", "b"])
async def test_in_a_simulated_cluster_it_does_not_show_where_an_actor_runs(on: str) -> None:
    async def app(node: Any) -> None:
        await node.start(Mirror(), name="mirror")

    async with SimCluster(2, app=app) as sim:
        ref = sim["a"].ref(Mirror, "mirror", on=on)
        assert await ref.call(Mirror.echo, (1, 2)) == [1, 2]
        with pytest.raises(UnsupportedPayload, match="reply"):
            await ref.call(Mirror.an_object)
        with pytest.raises(UnsupportedPayload):
            await ref.cast(Mirror.note, {1: 2})


async def test_what_the_runtime_tells_can_be_sent_by_a_test() -> None:
    class Ticking(GenServer):
        def __init__(self) -> None:
            self.seen: list[object] = []

        def handle_info(self, info: object) -> None:
            self.seen.append(info)

    actor = Ticking()
    async with isolated(actor) as ref:
        await ref.send(TimerFired(("sweep", 1)))
        await ref.send(Down(ref, "boom"))
    assert actor.seen == [TimerFired(("sweep", 1)), Down(ref, "boom")]


async def test_a_supervisor_can_be_asked_for_children() -> None:
    class App(Supervisor):
        pass

    async with isolated(App()) as ref:
        child = await ref.call(App.start_child, Child(Mirror, name="mirror"))
        assert await child.call(Mirror.echo, (1, 2)) == [1, 2]
        assert [each.name for each in await ref.call(App.which_children)] == ["mirror"]
