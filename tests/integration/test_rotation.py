"""Another cookie for a cluster that works: no call fails, no message is lost, and the old cookie opens nothing afterwards.

Three processes that call each other without pause, and a node here that asks them how it goes.
Their cookies change step by step, by `Node.set_cookies` or by restarts with the next list.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from clusterkit import AuthFailed, Client, Node, NodeDown
from clusterkit.testing import Processes
from tests.conftest import QUICK, NodeFactory, eventually
from tests.integration import rotation_app
from tests.integration.paths import Sink as Inbox
from tests.integration.paths import pair
from tests.integration.rotation_app import RING, Busy, begin, enter
from tests.integration.stalled_app import Sink

OLD, NEW = "the cookie of last year", "the cookie of this year"
STEPS = [[OLD, NEW], [NEW, OLD], [NEW]]
NAMES = ("a", "b", "c")
LOAD = 30  # calls of each pair between two steps
TAKE_PART = f"{rotation_app.__name__}:{rotation_app.take_part.__name__}"


def others(name: str) -> list[str]:
    return [other for other in NAMES if other != name]


@dataclass
class Cluster:
    """The processes, and a member of their ring in this one."""

    processes: Processes
    addresses: dict[str, str] = field(default_factory=dict)
    here: Node = field(init=False)

    async def start(self, name: str, cookies: list[str]) -> None:
        argument = {
            "address": f"{name}@{self.addresses.get(name, '127.0.0.1:0')}",
            "cookies": cookies,
            "seeds": [address for other, address in self.addresses.items() if other != name],
            "peers": others(name),
        }
        child = await self.processes.start(name, TAKE_PART, argument)
        self.addresses[name] = (await child.reported("address", timeout=20))["address"]

    async def restart(self, name: str, cookies: list[str]) -> dict[str, Any]:
        """Let a process leave and come back with other cookies; return what the one that left had seen."""
        self.processes[name].terminate()
        assert await self.processes[name].ended(timeout=20) == 0
        ended = await self.processes[name].reported("ended")
        await self.start(name, cookies)
        await self.processes[name].reported("busy", timeout=20)
        await eventually(lambda: name in self.here.ring)
        found: dict[str, Any] = ended["ended"]
        return found

    def busy(self, name: str) -> Any:
        return self.here.ref(Busy, "busy", on=name)

    async def marks(self) -> dict[str, dict[str, Any]]:
        """What each has seen since it was last asked."""
        return {name: await self.busy(name).call(Busy.mark) for name in NAMES}

    async def stats(self, counter: str) -> dict[str, int]:
        return {name: facts["stats"][counter] for name, facts in (await self.marks()).items()}

    async def some_load(self) -> dict[str, dict[str, Any]]:
        """Wait until every pair has made some calls, and return all that was seen since the last mark."""
        seen = await self.marks()
        done = {name: dict(facts["done"]) for name, facts in seen.items()}
        while any(done[name].get(peer, 0) < LOAD for name in NAMES for peer in NAMES if peer != name):
            await asyncio.sleep(0.02)
            for name, facts in (await self.marks()).items():
                for key in ("failed", "letters", "downs"):
                    seen[name][key] += facts[key]
                for peer, count in facts["done"].items():
                    done[name][peer] = done[name].get(peer, 0) + count
        return seen


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    async with Processes() as processes:
        them = Cluster(processes)
        for name in NAMES:
            await them.start(name, [OLD])
        async with Node("here@127.0.0.1:0", cookie=OLD) as them.here:
            await them.here.ring.join(RING, them.addresses.values())
            await eventually(lambda: len(them.here.ring) == 4)
            for name in NAMES:
                await processes[name].reported("busy", timeout=20)
            yield them


async def the_old_cookie_opens_nothing(them: Cluster) -> None:
    """A node and a client that have it alone are refused, and both ends count it."""
    before = await them.stats("invalid_checksum")
    async with Node("late@127.0.0.1:0", cookie=OLD) as late:
        with pytest.raises(AuthFailed):
            await late.ring.join(RING, them.addresses.values())
        refused = late.stats()["cookie_mismatch"]
        assert refused >= 3
    for address in them.addresses.values():
        host, port = address.split(":")
        with pytest.raises(AuthFailed):
            async with Client(host, int(port), cookie=OLD):
                pass
    after = await them.stats("invalid_checksum")
    assert all(after[name] >= before[name] + 2 for name in NAMES)
    assert sum(after.values()) - sum(before.values()) == refused + 3


async def test_rotation_at_run_time_fails_no_call_and_loses_no_message() -> None:
    async with asyncio.timeout(60), cluster() as them:
        seen = [await them.some_load()]
        for cookies in STEPS:
            for name in NAMES:
                await them.busy(name).call(Busy.take_cookies, cookies)
                seen.append(await them.some_load())
            them.here.set_cookies(cookies)
        seen.append(await them.some_load())
        everything = [facts for each in seen for facts in each.values()]
        assert [facts["failed"] for facts in everything if facts["failed"]] == []
        assert [facts["letters"] for facts in everything if facts["letters"]] == []
        downs = {name: [tuple(down) for each in seen for down in each[name]["downs"]] for name in NAMES}
        for name in NAMES:  # each link was made with the old one, and made anew
            assert {peer for peer, _, _ in downs[name]} >= {*NAMES} - {name}
            assert {lost for _, _, lost in downs[name]} == {0}
        await the_old_cookie_opens_nothing(them)
        sent = {name: await them.busy(name).call(Busy.rest) for name in NAMES}
        for name in NAMES:
            runs = await them.here.ref(Sink, "sink", on=name).call(Sink.runs)
            assert runs == {peer: sent[peer][name] for peer in NAMES if peer != name}
            assert all(len(each) == 1 for each in runs.values())


@pytest.mark.long
async def test_rotation_by_restarts_of_processes_fails_no_call_but_of_the_one_that_restarts() -> None:
    async with asyncio.timeout(110), cluster() as them:
        for cookies in STEPS:
            for name in NAMES:
                for facts in (await them.some_load()).values():
                    assert facts["failed"] == []
                assert (await them.restart(name, cookies))["failed"] == []
                seen = await them.some_load()
                assert {peer for facts in seen.values() for peer, _ in facts["failed"]} <= {name}
                assert seen[name]["failed"] == []
            them.here.set_cookies(cookies)
        await the_old_cookie_opens_nothing(them)


class Three:
    """Three nodes of this process, which start quicker, under the same load."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self.nodes: dict[str, Node] = {}
        self.busy: dict[str, Busy] = {}
        self._stack = stack

    async def start(self, name: str, cookies: list[str]) -> None:
        port = self.nodes[name].id.port if name in self.nodes else 0
        node = await self._stack.enter_async_context(Node(f"{name}@127.0.0.1:{port}", cookie=cookies, config=QUICK))
        await enter(node, [self.nodes[other].id.address for other in others(name) if other in self.nodes])
        self.nodes[name] = node

    async def some_load(self) -> None:
        for each in self.busy.values():
            each.done.clear()
        await eventually(lambda: all(each.done[peer] >= LOAD for each in self.busy.values() for peer in each.peers))

    async def restart(self, name: str, cookies: list[str]) -> None:
        """Let one leave and come back with other cookies: no call fails but those to it."""
        await self.nodes[name].aclose()
        assert self.busy[name].failed == []
        await self.start(name, cookies)
        self.busy[name] = await begin(self.nodes[name], others(name))
        await self.some_load()
        assert self.busy[name].failed == []
        for each in self.busy.values():
            assert {peer for peer, _ in each.failed} <= {name}
            each.failed.clear()


async def test_rotation_by_restarts_fails_no_call_but_of_the_one_that_restarts() -> None:
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        three = Three(stack)
        for name in NAMES:
            await three.start(name, [OLD])
        for name in NAMES:
            three.busy[name] = await begin(three.nodes[name], others(name))
        for cookies in STEPS:
            for name in NAMES:
                await three.some_load()
                await three.restart(name, cookies)
        late = await stack.enter_async_context(Node("late@127.0.0.1:0", cookie=OLD))
        with pytest.raises(AuthFailed):
            await late.ring.join(RING, [node.id.address for node in three.nodes.values()])


# -- two nodes of this process


async def test_a_link_of_a_withdrawn_cookie_is_made_anew_under_way_and_its_session_goes_on() -> None:
    """The messages that are in flight when the goodbye is said arrive, once and in order, both ways."""
    async with asyncio.timeout(20), pair(cookie=[OLD, NEW]) as both:
        sessions = [both.a.link("b").session, both.b.link("a").session]
        made_with = both.a.link("b").connection
        waiting = asyncio.create_task(both.to_b.call(Inbox.wait))
        for round_ in range(10):
            for number in range(300):
                await both.to_b.cast(Inbox.take, 300 * round_ + number)
                await both.to_a.cast(Inbox.take, 300 * round_ + number)
            if round_ == 3:
                both.a.node.set_cookies([NEW, OLD])
                both.b.node.set_cookies([NEW, OLD])
                assert both.a.link("b").connection is made_with  # accepted still
            if round_ == 6:
                both.a.node.set_cookies(NEW)
        await eventually(lambda: min(len(both.a.sink.seen), len(both.b.sink.seen)) >= 3000)
        assert (both.a.sink.seen, both.b.sink.seen) == ([*range(3000)], [*range(3000)])
        both.b.sink.gate.set()
        assert await waiting == "the answer"
        assert [both.a.link("b").session, both.b.link("a").session] == sessions
        assert both.a.link("b").connection is not made_with
        assert {down.lost for side in (both.a, both.b) for down in side.downs} == {0}
        assert [down.why for down in both.b.downs][:1] == ["asked for another connection"]
        assert (both.a.letters, both.b.letters) == ([], [])


async def test_a_peer_that_does_not_know_our_cookie_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A step left out: one has the new cookie alone, the other the old one. Mended, what waited arrives."""
    caplog.set_level(logging.DEBUG)
    async with asyncio.timeout(20), pair(replace(QUICK, down_after=0.2), cookie=OLD) as both:
        both.a.node.set_cookies(NEW)
        await both.to_b.cast(Inbox.take, 1)
        await eventually(lambda: both.a.link("b").down and both.b.link("a").down)
        for side in (both.a, both.b):
            await eventually(lambda side=side: side.node.stats()["cookie_mismatch"] >= 2)  # type: ignore[misc]
            assert side.node.stats()["invalid_checksum"] >= 1
        warned = sorted(each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING)
        assert len(warned) == 2  # once each, however often it was tried
        for side, text in zip((both.a, both.b), warned, strict=True):
            assert text.startswith(f"node {side.node.id} does not take this node's cookie")
        assert not any(secret in caplog.text for secret in (OLD, NEW))
        with pytest.raises(NodeDown) as caught:
            await both.to_b.call(Inbox.echo, 1)
        assert caught.value.executed == "no"
        both.b.node.set_cookies([OLD, NEW])
        await eventually(lambda: both.b.sink.seen == [1])
        assert await both.to_a.call(Inbox.echo, 1) == 1
        assert {down.lost for side in (both.a, both.b) for down in side.downs} == {0}


async def test_the_old_cookie_alone_joins_nothing_and_both_ends_count_it(start_node: NodeFactory) -> None:
    a = await start_node("a", cookie=NEW)
    b = await start_node("b", ring=None, cookie=OLD)
    with pytest.raises(AuthFailed):
        await b.ring.join("test", [a.id.address])
    assert a.stats()["invalid_checksum"] == b.stats()["cookie_mismatch"] >= 1
    assert a.stats()["cookie_mismatch"] == b.stats()["invalid_checksum"] == 0
    a.set_cookies([NEW, OLD])
    await b.ring.join("test", [a.id.address])
    assert await b.ping("a") >= 0
