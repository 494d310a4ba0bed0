"""Joining, leaving, dying and coming back over real TCP, in one process."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from clusterkit import (
    AlreadyInRing,
    AuthFailed,
    CallTimeout,
    Config,
    ConfigError,
    DeadLetter,
    GenServer,
    JoinTimeout,
    NameConflict,
    Node,
    NodeDown,
    ServerDown,
    UsageError,
    WrongNode,
    WrongRing,
    call,
    cast,
)
from clusterkit.errors import OldIncarnation
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually


class Counter(GenServer):
    def __init__(self) -> None:
        self.seen: list[int] = []
        self.gate = asyncio.Event()

    @call
    async def count(self) -> int:
        return len(self.seen)

    @call
    async def wait(self) -> None:
        await self.gate.wait()

    @cast
    async def note(self, number: int) -> None:
        self.seen.append(number)


def names(node: Node) -> list[str]:
    return [member.name for member in node.ring.nodes]


def states(node: Node) -> dict[str, str]:
    return {member.node.name: str(member.state) for member in node.ring.members}


async def crash(node: Node) -> None:
    """Go without a word: the sockets close, nothing is said."""
    kernel = node._open_kernel()
    links = kernel.links
    assert links._listener is not None
    await links._listener.aclose()
    links.leaving = True
    for link in list(links):
        await link.forget("crashed")
    await links.tasks.aclose()


async def test_five_nodes_joined_through_one_seed_all_know_each_other(start_node: NodeFactory) -> None:
    first = await start_node("n0")
    others = await asyncio.gather(*(start_node(f"n{i}", seeds=(first,)) for i in range(1, 5)))
    nodes = [first, *others]
    await eventually(lambda: all(names(node) == ["n0", "n1", "n2", "n3", "n4"] for node in nodes))
    assert len({tuple(node.ring.nodes) for node in nodes}) == 1
    for node in nodes:
        await node.start(Counter(), name="counter")
    for node in nodes:
        replies = await node.multicall(node.ring.nodes, "counter", Counter.count)
        assert len(replies.ok) == 5
        assert not replies.failed


async def test_two_nodes_that_are_each_others_seeds_meet(start_node: NodeFactory) -> None:
    for _ in range(5):
        a = await start_node("a", ring=None)
        b = await start_node("b", ring=None)
        await asyncio.gather(
            a.ring.join("test", seeds=[a.id.address, b.id.address]),
            b.ring.join("test", seeds=[a.id.address, b.id.address]),
        )
        await eventually(lambda a=a, b=b: names(a) == names(b) == ["a", "b"])  # type: ignore[misc]
        await asyncio.gather(a.aclose(), b.aclose())


async def test_join_without_seeds_is_a_ring_of_one_at_once(start_node: NodeFactory) -> None:
    node = await start_node("a")
    assert names(node) == ["a"]
    assert "a" in node.ring
    assert node.id in node.ring
    assert "b" not in node.ring
    with pytest.raises(AlreadyInRing, match="'test'"):
        await node.ring.join("other")
    with pytest.raises(AlreadyInRing):
        await node.ring.join("test")


async def test_a_node_alone_with_itself_as_seed_is_a_ring_of_one(start_node: NodeFactory) -> None:
    node = await start_node("a", ring=None)
    await node.ring.join("test", seeds=[node.id.address, str(node.id)], timeout=2)
    assert names(node) == ["a"]


async def test_wrong_ring_and_wrong_cookie_are_told_at_once(start_node: NodeFactory) -> None:
    a = await start_node("a", ring="one")
    b = await start_node("b", ring=None)
    with pytest.raises(WrongRing, match="'one'"):
        await b.ring.join("two", seeds=[a.id.address])
    assert b.ring.id == ""
    stranger = await start_node("c", ring=None, cookie="another cookie altogether")
    with pytest.raises(AuthFailed):
        await stranger.ring.join("one", seeds=[a.id.address])
    await b.ring.join("one", seeds=[a.id.address])
    assert names(b) == ["a", "b"]


async def test_an_unreachable_seed_is_a_timeout_and_dialling_goes_on(start_node: NodeFactory) -> None:
    b = await start_node("b", ring=None)
    a = await start_node("a", ring=None)  # in no ring yet: retried
    with pytest.raises(JoinTimeout, match="no ring yet"):
        await b.ring.join("test", seeds=[a.id.address], timeout=0.3)
    assert names(b) == ["b"]
    with pytest.raises(AlreadyInRing):
        await b.ring.join("other", timeout=0.3)
    await a.ring.join("test")
    await b.ring.join("test", timeout=5)  # waits again for the seeds that are still dialled
    assert names(b) == ["a", "b"]


async def test_a_second_live_node_of_one_name_is_refused(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    twin = await start_node("b", ring=None)
    with pytest.raises(NameConflict, match="'b'"):
        await twin.ring.join("test", seeds=[a.id.address])
    with pytest.raises(NameConflict):
        await twin.ring.join("test", seeds=[b.id.address])
    assert twin.ring.id == ""
    await b.ping("a")
    assert names(a) == ["a", "b"]
    assert a.ring.get("b") == b.id


async def test_a_seed_that_is_an_earlier_run_does_not_renew_the_joiner(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", ring=None)
    before = b.id
    b._open_kernel().links.learn_boot("a", a.id.incarnation + 1)
    with pytest.raises(OldIncarnation, match="earlier incarnation of 'a'"):
        await b.ring.join("test", seeds=[a.id.address], timeout=2)
    assert b.id == before


async def test_a_joiner_whose_clock_went_back_takes_a_greater_incarnation(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", ring=None)
    later = b.id.incarnation + (1 << 40)
    a._open_kernel().links.learn_boot("b", later)
    await b.ring.join("test", seeds=[a.id.address], timeout=5)
    assert b.id.incarnation > later
    await eventually(lambda: a.ring.get("b") == b.id)


async def test_an_unreadable_ring_message_is_a_dead_letter(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    dead: list[DeadLetter] = []
    a.on(DeadLetter, dead.append)
    kernel = b._open_kernel()
    link = kernel.links.get("a")
    assert link is not None
    kernel.send_ring(link, b"\xc1")
    await b.ping("a")
    assert [letter.target for letter in dead] == ["ring"]


async def test_a_leaver_is_gone_at_once_and_may_join_again(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    c = await start_node("c", seeds=(a,))
    counter = Counter()
    ref = await b.start(counter, name="counter")
    await eventually(lambda: len(names(c)) == 3)
    first = b.id
    await b.ring.leave()
    await eventually(lambda: names(a) == names(c) == ["a", "c"])
    assert names(b) == ["b"]
    with pytest.raises(NodeDown):
        await a.ref(Counter, "counter", on="b").call(Counter.count)
    await b.ring.leave()  # outside a ring it does nothing
    await b.ring.join("test", seeds=[c.id.address])
    await eventually(lambda: all(names(node) == ["a", "b", "c"] for node in (a, b, c)))
    assert b.id.incarnation > first.incarnation
    assert await a.ref(Counter, "counter", on="b").call(Counter.count) == 0
    assert await ref.call(Counter.count) == 0  # actors live on


async def test_a_crash_is_noticed_and_calls_to_it_end_in_a_typed_error(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await b.start(Counter(), name="counter")
    ref = a.ref(Counter, "counter", on="b")
    waiting = asyncio.create_task(ref.call(Counter.wait))
    await asyncio.sleep(0.05)
    await crash(b)
    with pytest.raises(NodeDown) as lost:
        await waiting
    assert lost.value.executed == "maybe"
    await eventually(lambda: states(a) == {"a": "alive", "b": "down"})
    with pytest.raises(NodeDown) as after:
        await ref.call(Counter.count)
    assert after.value.executed == "no"
    assert isinstance(after.value, ConnectionError)


async def test_a_restarted_node_is_another_node_with_the_same_name(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    old = b.id
    await b.start(Counter(), name="counter")
    dead: list[DeadLetter] = []
    a.on(DeadLetter, dead.append)
    await crash(b)
    await eventually(lambda: states(a)["b"] == "down")
    ref = a.ref(Counter, "counter", on="b")
    for number in range(10):
        await ref.cast(Counter.note, number)  # queue while the node is down
    counter = Counter()
    async with Node(str(old), cookie=COOKIE, config=QUICK) as again:
        await again.start(counter, name="counter")
        await again.ring.join("test", seeds=[a.id.address])
        await eventually(lambda: counter.seen == list(range(10)))  # never written, addressed by name
        assert states(a) == {"a": "alive", "b": "alive"}
        member = a.ring.get("b")
        assert member is not None
        assert member.incarnation > old.incarnation
        assert not dead


async def test_what_was_written_to_a_node_that_died_is_reported(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    dead: list[DeadLetter] = []
    undo = a.on(DeadLetter, dead.append)
    link = b._open_kernel().links.get("a")
    assert link is not None
    assert link.connection is not None
    link.connection._deliver = lambda messages: None
    await crash(b)
    for number in range(5):
        await a.ref(Counter, "counter", on="b").cast(Counter.note, number)
    await a.ring.leave()
    await eventually(lambda: len(dead) == 5)
    assert {letter.target for letter in dead} == {"counter.note"}
    undo()
    undo()


async def test_ping_measures_and_says_who_is_down(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    assert 0 <= await a.ping("b") < 5
    assert 0 <= await a.ping(a.id) < 5
    with pytest.raises(NodeDown, match="'ghost'") as caught:
        await a.ping("ghost")
    assert caught.value.reason == "unknown"
    await crash(b)
    with pytest.raises((NodeDown, CallTimeout)):
        await a.ping(b.id, timeout=2)


async def test_bad_input_is_a_specific_error() -> None:
    for address, text in (
        ("foo", "no '@'"),
        ("foo@", "no port"),
        ("foo@host", "no port"),
        ("@host:1", "empty"),
        ("a b@host:1", "' '"),
        ("foo@host:x", "port 'x'"),
        ("foo@host:70000", "70000"),
        ("foo@::1:7022", "brackets"),
    ):
        with pytest.raises(ConfigError, match=text):
            Node(address, cookie=COOKIE)
    for cookie, text in (
        ("short", "5 bytes"),
        (b"", "0 bytes"),
        ([], "0 cookies"),
        ([COOKIE] * 5, "5 cookies"),
        (3, "int"),
    ):
        with pytest.raises((ConfigError, TypeError), match=text):
            Node("foo@127.0.0.1:0", cookie=cookie)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="call_timeout"):
        Config(call_timeout=-1)


async def test_no_cookie_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTERKIT_COOKIE", raising=False)
    with pytest.raises(ConfigError, match="keygen"):
        Node("foo@127.0.0.1:0")
    monkeypatch.setenv("CLUSTERKIT_COOKIE", COOKIE)
    async with Node("foo@127.0.0.1:0") as node:
        assert node.id.port


async def test_a_port_in_use_is_told(start_node: NodeFactory) -> None:
    a = await start_node("a")
    with pytest.raises(OSError, match=str(a.id.port)):
        async with Node(f"b@{a.id.address}", cookie=COOKIE):
            pass


async def test_a_node_has_one_life(start_node: NodeFactory) -> None:
    node = Node("foo@127.0.0.1:0", cookie=COOKIE)
    for use in (lambda: node.id, lambda: node.ring, lambda: node.ref(Counter, "c")):
        with pytest.raises(UsageError, match="not started"):
            use()
    async with node:
        ref = await node.start(Counter())
        with pytest.raises(UsageError, match="one life"):
            await node.__aenter__()
    with pytest.raises(UsageError, match="closed"):
        await ref.call(Counter.count)
    with pytest.raises(UsageError, match="closed"):
        await node.start(Counter())
    with pytest.raises(UsageError, match="closed"):
        await node.ring.join("x")
    with pytest.raises(UsageError, match="one life"):
        await node.__aenter__()
    await node.aclose()


async def test_a_call_from_another_loop_is_told(start_node: NodeFactory) -> None:
    node = await start_node("a")
    ref = await node.start(Counter())
    errors: list[Exception] = []

    def elsewhere() -> None:
        async def use() -> None:
            await ref.call(Counter.count)

        try:
            asyncio.run(use())
        except UsageError as error:
            errors.append(error)

    await asyncio.to_thread(elsewhere)
    assert "another event loop" in str(errors[0])


async def test_seeds_and_names_are_checked(start_node: NodeFactory) -> None:
    node = await start_node("a", ring=None)
    for ring, seeds, text in (
        ("", [], "empty"),
        ("x" * 65, [], "65"),
        ("ok", "127.0.0.1:1", "not one str"),
        ("ok", ["nonsense"], "no port"),
        ("ok", [7022], "int"),
    ):
        with pytest.raises(ConfigError, match=text):
            await node.ring.join(ring, seeds=seeds)  # type: ignore[arg-type]
    assert node.ring.id == ""
    bad: list[Any] = ["clusterkit.mine", "", "a b"]
    for name in bad:
        with pytest.raises(ConfigError):
            await node.start(Counter(), name=name)
    with pytest.raises(UsageError, match="GenServer object"):
        await node.start(Counter)  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="timeout"):
        node.ref(Counter, "x").with_(timeout=0)


async def test_leaving_the_block_drains_and_an_exception_does_not_wait() -> None:
    async with Node("a@127.0.0.1:0", cookie=COOKIE, config=QUICK) as a:
        await a.ring.join("test")
        counter = Counter()
        async with Node("b@127.0.0.1:0", cookie=COOKIE, config=QUICK) as b:
            await b.ring.join("test", seeds=[a.id.address])
            await a.start(counter, name="counter")
            for number in range(1000):
                await b.ref(Counter, "counter", on="a").cast(Counter.note, number)
        await eventually(lambda: counter.seen == list(range(1000)))  # all flushed before the goodbye
        assert names(a) == ["a"]
        with pytest.raises(RuntimeError, match="mine"):
            async with Node("c@127.0.0.1:0", cookie=COOKIE) as c:
                await c.start(counter2 := Counter(), name="counter")
                stuck = asyncio.create_task(c.ref(Counter, "counter").call(Counter.wait))
                await eventually(
                    lambda: counter2._clusterkit_process is not None and counter2._clusterkit_process.current
                )
                async with asyncio.timeout(3):
                    raise RuntimeError("mine")
        with pytest.raises(ServerDown) as caught:
            await stuck
        assert caught.value.executed == "maybe"


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Carry a connection to another port of this machine until one end closes."""
    there, thither = await asyncio.open_connection("127.0.0.1", port)

    async def carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                to.write(data)
        to.close()

    await asyncio.gather(carry(reader, thither), carry(there, writer))


async def test_a_connection_lost_after_our_proof_is_not_another_cookie(start_node: NodeFactory) -> None:
    b = await start_node("b")
    came = 0

    async def lose_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if came > 1:
            await pass_on(reader, writer, b.id.port)
            return
        await reader.readexactly(37)
        writer.write(b"CKT1\x02" + bytes(32))
        await reader.read(100)
        writer.transport.abort()

    async with await asyncio.start_server(lose_the_first, "127.0.0.1", 0) as server:
        a = await start_node("a", ring=None)
        await a.ring.join("test", [f"127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        assert [node.name for node in a.ring.nodes] == ["a", "b"]
        await a.aclose()
    assert came > 1


async def test_a_seed_that_is_named_and_leads_back_is_another_node(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pass_on(reader, writer, a.id.port)

    async with await asyncio.start_server(back, "127.0.0.1", 0) as server:
        with pytest.raises(WrongNode, match="dialled 'b'"):
            await a.ring.join("test", [f"b@127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    assert a.ring.id == ""
