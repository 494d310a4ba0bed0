"""W6, W11 and W12: what the ancestor did without a cookie, with what it could not send, and when it was told to stop.

The numbers are those of test_ancestors_weaknesses.py.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from clusterkit import (
    CallTimeout,
    Client,
    Config,
    ConfigError,
    DeadLetter,
    LinkFull,
    LinkUp,
    Node,
)
from clusterkit.cli.demo_process import NodeProcess, child_environment
from clusterkit.cli.main import cli, run
from clusterkit.runtime import now
from clusterkit.testing import ChaosProxy, Plan, ProcessCluster
from clusterkit.transport.base import Listener
from clusterkit.transport.tcp import TcpNetwork
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually
from tests.integration.attackers import PATIENCE, Inbox, with_inbox

ROOT = Path(__file__).parents[2]


# -- W6: no cookie

NO_COOKIES = [None, "", b"", [], ["", "a cookie that is long enough"], "fifteen bytes..", b"\x00" * 15]


@pytest.mark.parametrize("cookie", NO_COOKIES)
def test_w6_without_a_cookie_nothing_starts(cookie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ancestor without a cookie took whoever came, silently; here there is no node and no client without one."""
    for given in ("", None):
        monkeypatch.delenv("CLUSTERKIT_COOKIE", raising=False)
        if given is not None:
            monkeypatch.setenv("CLUSTERKIT_COOKIE", given)
        with pytest.raises(ConfigError, match="cookie"):
            Node("a@127.0.0.1:0", cookie=cookie)
        with pytest.raises(ConfigError, match="cookie"):
            Client("127.0.0.1", 1, cookie=cookie)


@pytest.mark.parametrize("cookie", [None, "", "fifteen bytes.."])
@pytest.mark.parametrize("command", [["start", "a@127.0.0.1:0", "--ring", "test"], ["ping"], ["members"]], ids=str)
def test_w6_without_a_cookie_no_command_starts(
    command: list[str], cookie: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ancestor's command line had the empty cookie as its default; here that is an exit code of its own."""
    for name in [name for name in os.environ if name.startswith("CLUSTERKIT_")]:
        monkeypatch.delenv(name)
    if cookie is not None:
        monkeypatch.setenv("CLUSTERKIT_COOKIE", cookie)
    assert run(command) == (5, False)
    assert "clusterkit keygen" in "".join(capsys.readouterr())


@pytest.mark.parametrize("option", ["-a", "--cookie"])
def test_w6_no_command_takes_a_cookie_as_an_argument(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The ancestor took its cookie from argv, where `ps` shows it to all; here no command has an option for it."""
    for arguments in ([option, COOKIE, "ping"], ["start", option, COOKIE, "a@127.0.0.1:0", "--ring", "test"]):
        assert run(arguments) == (2, False)
    assert COOKIE not in capsys.readouterr().out
    for command in (cli, *cli.commands.values()):
        assert [each.name for each in command.params if "cookie" in (each.name or "")] in ([], ["cookie_file"])


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.transport.abort()


async def test_w6_no_process_shows_its_cookie(tmp_path: Path) -> None:
    """What `ps` shows of a node, of a question to it and of the nodes of the demo has no cookie in it."""
    environment = child_environment(COOKIE, os.environ) | {"PYTHONPATH": str(ROOT)}
    node = NodeProcess("a", tmp_path, environment)
    mute = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    question = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clusterkit", "-p", str(port), "-t", "60", "ping"),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        await node.start(None, now() + 10)
        async with Client("127.0.0.1", node.port, cookie=COOKIE) as client:
            assert (await client.call("ping"))["name"] == "a"
        shown = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (node.pid, question.pid)}
        assert all(b"clusterkit" in each for each in shown.values())
        assert [each for each in shown.values() if COOKIE.encode() in each] == []
    finally:
        node.send(signal.SIGKILL)
        question.kill()
        await node.ended(now() + 10)
        await question.wait()
        mute.close()


# -- W11: the queue


class Behind(TcpNetwork):
    """The network of a node that others reach through a proxy: tells it where the node listens."""

    def __init__(self, proxy: ChaosProxy) -> None:
        super().__init__()
        self._proxy = proxy

    async def listen(self, host: str, port: int, accepted: Any) -> Listener:
        listener = await super().listen(host, port, accepted)
        self._proxy.target = host, listener.port
        return listener


class Pair:
    """Two nodes of one ring that reach each other through proxies alone."""

    def __init__(self, nodes: list[Node], proxies: list[ChaosProxy], inbox: Inbox) -> None:
        self.a, self.b = nodes
        self.proxies = proxies
        self.inbox = inbox  # on a
        self.ref = self.b.ref(Inbox, "inbox", on="a")
        self.lost: list[DeadLetter] = []
        for node in nodes:
            node.on(DeadLetter, self.lost.append)

    def refuse(self) -> None:
        for proxy in self.proxies:
            proxy.refuse()

    def stall(self) -> None:
        for proxy in self.proxies:
            proxy.stall()

    def reset(self) -> None:
        for proxy in self.proxies:
            proxy.reset()

    def go_on(self) -> None:
        for proxy in self.proxies:
            proxy.go_on()


@contextlib.asynccontextmanager
async def pair(plan: Plan | None = None, config: Config = QUICK) -> AsyncIterator[Pair]:
    async with contextlib.AsyncExitStack() as stack:
        nodes, proxies = [], []
        for name in "ab":
            proxy = await stack.enter_async_context(ChaosProxy("127.0.0.1", 0, plan=plan, seed=ord(name)))
            node = Node(
                f"{name}@127.0.0.1:{proxy.port}",
                listen="127.0.0.1:0",
                cookie=COOKIE,
                config=config,
                network=Behind(proxy),
            )
            nodes.append(await stack.enter_async_context(node))
            proxies.append(proxy)
        inbox = await with_inbox(nodes[0])
        await nodes[0].ring.join("test")
        await nodes[1].ring.join("test", [nodes[0].id.address])
        await eventually(lambda: "b" in nodes[0].ring)
        yield Pair(nodes, proxies, inbox)


async def test_w11_a_full_queue_holds_the_sender_and_drops_nothing() -> None:
    """The ancestor dropped the oldest without a word; here the sender waits, is told, and what was taken arrives."""
    async with pair(config=replace(QUICK, outbox_messages=8)) as both:
        both.refuse()
        for number in range(8):
            await both.ref.cast(Inbox.take, number)
        began = now()
        with pytest.raises(LinkFull) as caught:
            await both.ref.with_(timeout=0.1).cast(Inbox.take, "refused")
        assert caught.value.executed == "no"
        assert now() - began >= 0.1
        held = asyncio.create_task(both.ref.cast(Inbox.take, 8))
        both.go_on()
        await asyncio.wait_for(held, PATIENCE)
        await eventually(lambda: len(both.inbox.seen) >= 9)
        assert (both.inbox.seen, both.lost) == ([*range(9)], [])


async def test_w11_what_was_queued_goes_before_what_is_new() -> None:
    """The ancestor told of the connection before it sent its queue, and new messages overtook; here none does."""
    async with pair() as both:
        both.refuse()
        for number in range(100):
            await both.ref.cast(Inbox.take, number)
        new: list[int] = []

        def send(_: LinkUp) -> None:
            with pytest.raises(StopIteration):  # it is taken in the very event: nothing is awaited
                both.ref.cast(Inbox.take, 100 + len(new)).send(None)
            new.append(100 + len(new))

        both.b.on(LinkUp, send)
        both.go_on()
        await eventually(lambda: new and len(both.inbox.seen) >= 100 + len(new))
        assert (both.inbox.seen, both.lost) == ([*range(100), *new], [])


async def test_w11_what_a_dying_socket_was_given_is_not_lost() -> None:
    """The ancestor's messages vanished with the socket that had taken them; here they go again, once and in order."""
    async with pair() as both:
        await both.ref.cast(Inbox.take, 0)
        await eventually(lambda: both.inbox.seen)
        both.stall()
        for number in range(1, 200):
            await both.ref.cast(Inbox.take, number)
            if number % 50 == 0:
                await asyncio.sleep(0)  # a turn of the loop, which writes
        both.reset()
        both.go_on()
        await eventually(lambda: len(both.inbox.seen) >= 200)
        assert (both.inbox.seen, both.lost) == ([*range(200)], [])


async def test_w11_connections_cut_in_mid_stream_lose_repeat_and_reorder_nothing() -> None:
    """Numbered casts both ways through connections that are reset in the middle of records: all arrive, once, in order."""
    count, ahead = 2_000, 60  # a record longer than what a connection carries would never arrive
    async with pair(Plan(reset_after=(300, 5_000), single_bytes=(0, 100))) as both:
        here, there = both.inbox.seen, (await with_inbox(both.b)).seen
        back = both.a.ref(Inbox, "inbox", on="b")
        for number in range(count):
            await both.ref.cast(Inbox.take, number)
            await back.cast(Inbox.take, number)
            if number % 20 == 0:  # so that it takes many connections
                await eventually(lambda sent=number: min(len(here), len(there)) > sent - ahead)  # type: ignore[misc]
        await eventually(lambda: min(len(here), len(there)) >= count)
        assert sum(proxy.resets for proxy in both.proxies) >= 10
        assert (here, there, both.lost) == ([*range(count)], [*range(count)], [])


async def test_w11_no_call_waits_for_ever(start_node: NodeFactory) -> None:
    """The ancestor's calls waited without end unless told otherwise; here they end, and there is no way to say for ever."""
    assert Config().call_timeout == 5.0
    a, b = await start_node("a"), await start_node("b", config=replace(QUICK, call_timeout=0.1), ring=None)
    inbox = await with_inbox(a)
    await b.ring.join("test", [a.id.address])
    ref = b.ref(Inbox, "inbox", on="a")
    with pytest.raises(CallTimeout):
        await asyncio.wait_for(ref.call(Inbox.wait), PATIENCE)
    inbox.gate.set()
    for never in (inf, float("nan"), None, 0, -1):
        with pytest.raises(ConfigError):
            ref.with_(timeout=never)  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            Config(call_timeout=never)  # type: ignore[arg-type]


# -- W12: the stop

BUDGET = replace(QUICK, drain_timeout=0.3)
GRACE = 8.0  # seconds for what follows the budget, on a busy machine: what is cancelled ends, a goodbye, a close


async def closes_within(node: Node, seconds: float) -> None:
    began = now()
    async with asyncio.timeout(seconds + 5):
        await node.aclose()
    assert now() - began < seconds


async def test_w12_a_stop_ends_at_once_when_all_is_idle(start_node: NodeFactory) -> None:
    """The ancestor's stop waited for an event that idle links never gave; here it does not even need its budget."""
    patient = replace(QUICK, drain_timeout=60.0)
    a, b, alone = [await start_node(name, ring=None, config=patient) for name in ("a", "b", "alone")]
    await a.ring.join("test")
    await b.ring.join("test", [a.id.address])
    assert await b.ping("a") >= 0
    for node in (alone, b, a):
        await closes_within(node, GRACE)


async def test_w12_a_stop_ends_though_calls_run_both_ways(start_node: NodeFactory) -> None:
    """What never ends, here and on the other side, is cancelled or given up when the budget is spent."""
    a, b = await start_node("a", config=BUDGET), await start_node("b", ring=None, config=BUDGET)
    await with_inbox(a)
    await with_inbox(b)
    await b.ring.join("test", [a.id.address])
    calls = [asyncio.create_task(node.ref(Inbox, "inbox", on=to).call(Inbox.wait)) for node, to in ((a, "b"), (b, "a"))]
    assert await a.ping("b") >= 0
    await closes_within(b, BUDGET.drain_timeout + GRACE)
    assert all(isinstance(each, Exception) for each in await asyncio.gather(*calls, return_exceptions=True))


@pytest.mark.parametrize("silence", ["stall", "refuse"])
async def test_w12_a_stop_ends_though_the_peer_is_silent(silence: str) -> None:
    """What a peer does not acknowledge, or has no link to come by, is awaited for the budget, and reported."""
    async with pair(config=BUDGET) as both:
        getattr(both, silence)()
        for number in range(10):
            await both.ref.cast(Inbox.take, number)
        await closes_within(both.b, BUDGET.drain_timeout + GRACE)
        assert [letter.target for letter in both.lost] == ["inbox.take"] * 10
        both.go_on()


async def test_w12_a_stop_ends_though_the_peer_is_stopped() -> None:
    """A process that gets SIGSTOP keeps its sockets open and answers nothing: the stop ends all the same."""
    async with ProcessCluster(1, app="tests.integration.cluster_app:start") as cluster:
        async with cluster.observer(config=BUDGET) as node:
            cluster["a"].stop()
            calls = [asyncio.create_task(node.ref(Inbox, "witness", on="a").call("run", n)) for n in range(10)]
            await asyncio.sleep(0)
            await closes_within(node, BUDGET.drain_timeout + GRACE)
            assert all(isinstance(each, Exception) for each in await asyncio.gather(*calls, return_exceptions=True))
        cluster["a"].go_on()
