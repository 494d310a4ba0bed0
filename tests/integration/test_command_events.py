"""Events by long poll, from real nodes: everything once and in order, or how much was missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clusterkit import Client, ConfigError, Node, RingChanged
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.runtime import now, wall_time
from clusterkit.services.chronicle import MOST_KEPT, MOST_POLLS_EACH, UNKNOWN
from clusterkit.services.command import CommandServer
from clusterkit.testing import ProcessCluster, SimCluster, simulate
from tests.conftest import COOKIE, QUICK, NodeFactory, eventually

PATIENCE = 20.0


@asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[Client]:
    async with Client("127.0.0.1", node.id.port, cookie=COOKIE, config=QUICK) as client:
        yield client


class Reader:
    """Polls again and again; ``events`` has all that it was told."""

    def __init__(self, client: Client, cursor: int) -> None:
        self.events: list[dict[str, Any]] = []
        self.missed = 0
        self.polls = 0
        self._client = client
        self._cursor = cursor

    @classmethod
    async def begin(cls, client: Client) -> "Reader":
        page = await client.call("events")
        assert (page["missed"], page["events"]) == (0, [])
        return cls(client, page["cursor"])

    async def poll(self, wait: float = 4.0) -> dict[str, Any]:
        page: dict[str, Any] = await self._client.call("events", self._cursor, wait)
        self.polls += 1
        self.missed += page["missed"]
        self.events += page["events"]
        self._cursor = page["cursor"]
        return page

    def has(self, kind: str, name: str) -> bool:
        return any((event["type"], event["node"]) == (kind, name) for event in self.events)

    async def until(self, kind: str, name: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while not self.has(kind, name):
                await self.poll()
        return next(event for event in self.events if (event["type"], event["node"]) == (kind, name))


async def test_a_member_that_comes_and_goes_is_told(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        reader = await Reader.begin(client)
        before = wall_time()
        b = await start_node("b", seeds=(a,))
        joined = await reader.until("MemberJoined", "b")
        up = await reader.until("MemberUp", "b")
        assert (joined["incarnation"], up["host"], up["port"]) == (b.id.incarnation, "127.0.0.1", b.id.port)
        assert (up["state"], up["ready"], up["weight"], up["why"]) == ("alive", True, 1, "")
        assert before <= joined["at"] <= up["at"] <= wall_time()
        assert (await reader.until("LinkUp", "b"))["incarnation"] == b.id.incarnation
        assert 0 < (await reader.until("RingChanged", "a"))["moved"] < 1
        await a.ring.update("b", weight=4)
        assert (await reader.until("MemberUpdated", "b"))["weight"] == 4
        await b.services.register("desk", "paper")
        online = await reader.until("ServiceOnline", "b")
        assert (online["module"], online["resource"], online["healthy"]) == ("desk", "paper", True)
        await b.aclose(leave=False)
        down = await reader.until("MemberDown", "b")
        assert (down["state"], down["why"]) == ("down", "stopped")
        assert (await reader.until("ServiceOffline", "b"))["why"] != ""
        assert (await reader.until("LinkDown", "b"))["why"] == "stopped"
        await a.ring.remove("b")
        await reader.until("MemberRemoved", "b")
        cursors = [event["cursor"] for event in reader.events]
        assert cursors == list(range(cursors[0], cursors[0] + len(cursors)))
        assert reader.missed == 0


async def test_one_that_leaves_is_told_and_nothing_of_clients(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        reader = await Reader.begin(client)
        b = await start_node("b", seeds=(a,))
        async with client_of(a) as another:
            await another.call("ping")
        await b.ring.leave()
        await reader.until("MemberLeft", "b")
        assert not [event for event in reader.events if event["node"].startswith("cli-")]


async def test_a_poll_ends_at_the_next_event_or_after_its_wait(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client, asyncio.timeout(PATIENCE):
        reader = await Reader.begin(client)
        waiting = asyncio.create_task(reader.poll())
        assert (await client.call("ping"))["name"] == "a"
        assert not waiting.done()
        a.ring.set_ready(False)
        assert [event["type"] for event in (await waiting)["events"]] == ["MemberUpdated"]
        for wait in (0, 0.05):
            assert (await reader.poll(wait))["events"] == []
        started = now()
        assert (await reader.poll(1_000.0))["events"] == []
        assert 3.5 < now() - started < 4.9  # the client's own timeout is 5


async def test_nothing_is_lost_between_two_polls(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client, asyncio.timeout(PATIENCE):
        reader = await Reader.begin(client)

        async def change() -> None:
            for n in range(700):
                await a.ring.update("a", weight=n % 3 + 1)
                if n % 5 == 0:
                    await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(change())
            while [event["type"] for event in reader.events].count("MemberUpdated") < 699:
                await reader.poll()
        weights = [event["weight"] for event in reader.events if event["type"] == "MemberUpdated"]
        assert weights == [n % 3 + 1 for n in range(1, 700)]  # the first was no change
        assert reader.missed == 0
        assert reader.polls > 5


async def test_who_reads_too_slowly_is_told_how_much_it_missed(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        reader = await Reader.begin(client)
        for n in range(MOST_KEPT + 500):
            await a.ring.update("a", weight=n % 2 + 2)
        read = 0
        while (await reader.poll(0))["events"]:
            read += 1
        told = len(reader.events)
        assert read == MOST_KEPT // 100
        assert (told, reader.missed >= 500) == (MOST_KEPT, True)
        assert reader.events[-1]["weight"] == (MOST_KEPT + 499) % 2 + 2


async def test_a_cursor_of_an_earlier_run_of_the_node_is_told(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        cursor = (await client.call("events"))["cursor"]
    await a.aclose()
    again = await start_node("a")
    async with client_of(again) as client:
        page = await client.call("events", cursor)
        assert page["missed"] == UNKNOWN
        assert [event["type"] for event in page["events"]][:2] == ["MemberJoined", "MemberUp"]
        assert page["events"][0]["incarnation"] == again.id.incarnation
        assert (await client.call("events", page["cursor"], 0)) == {"cursor": page["cursor"], "missed": 0, "events": []}
        for odd in (0, -5, 1 << 62, page["cursor"] + 1):
            assert (await client.call("events", odd))["missed"] == UNKNOWN


async def test_a_process_whose_name_another_has_by_now_tells_so() -> None:
    async with ProcessCluster(3) as cluster, asyncio.timeout(60.0), cluster.observer() as observer:
        cluster["b"].stop()
        await eventually(
            lambda: [str(each.state) for each in observer.ring.members if each.name == "b"] == ["down"], 30.0
        )
        async with Node("b@127.0.0.1:0", cookie=cluster.cookie) as later:
            await later.ring.join("processes", [cluster.address("a")])
            cluster["b"].go_on()
            host, _, port = cluster.address("b").partition(":")
            async with Client(host, int(port), cookie=cluster.cookie) as client:
                conflict = await Reader(client, 0).until("NameConflict", "b")
                assert "another live node is named 'b'" in conflict["why"]
                assert conflict["incarnation"] != later.id.incarnation
                assert (await client.call("ping"))["ring"] == ""


@pytest.mark.parametrize(
    "arguments", [("now",), (1.5,), (True,), (None, "4"), (None, -1), (None, float("nan"))], ids=str
)
async def test_what_is_no_cursor_or_no_wait_is_refused(arguments: tuple[Any, ...], start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        with pytest.raises(ConfigError, match=r"(cursor|wait) is"):
            await client.call("events", *arguments)


async def test_thousands_of_polls_of_one_client_are_bounded_and_others_are_answered(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as greedy, client_of(a) as other, asyncio.timeout(PATIENCE):
        reader = await Reader.begin(other)
        cursor = (await greedy.call("events"))["cursor"]
        polls = [asyncio.create_task(greedy.call("events", cursor)) for _ in range(3_000)]
        await eventually(lambda: sum(poll.done() for poll in polls) == 3_000 - MOST_POLLS_EACH)
        assert (await other.call("ping"))["name"] == "a"
        waiting = asyncio.create_task(reader.poll())
        await other.call("ping")
        assert not waiting.done()
        a.ring.set_ready(False)
        assert len((await waiting)["events"]) == 1
        answers = await asyncio.gather(*polls, return_exceptions=True)
        told = [each for each in answers if isinstance(each, dict) and each["events"]]
        assert len(told) == MOST_POLLS_EACH


async def test_ring_changes_are_worked_out_only_for_readers(start_node: NodeFactory) -> None:
    a = await start_node("a")
    async with client_of(a) as client:
        await client.call("ping")
        assert not a.ring._subscribers._callbacks.get(RingChanged)
        await client.call("events")
        assert a.ring._subscribers._callbacks[RingChanged]


def test_a_minute_after_the_last_question_nobody_counts_as_reading() -> None:
    async def main() -> None:
        async with SimCluster(1) as cluster:
            ring = cluster["a"].ring
            ref = cluster["a"].ref(CommandServer, COMMAND_SERVER)
            await ref.call(CommandServer.events)
            for waited, listeners in ((59.0, 1), (2.0, 0), (500.0, 0)):
                await asyncio.sleep(waited)
                assert len(ring._subscribers._callbacks[RingChanged]) == listeners
            page = await ref.call(CommandServer.events)
            for _ in range(40):
                page = await ref.call(CommandServer.events, page["cursor"], 4.0)
                assert len(ring._subscribers._callbacks[RingChanged]) == 1

    simulate(main, seed=1)
