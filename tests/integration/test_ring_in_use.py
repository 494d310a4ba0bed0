"""What `node.ring` offers beside the ways in and out: health, quorum, settings from the environment."""

import asyncio
import logging
from functools import partial

import pytest

from clusterkit import ConfigError, EmptyRing, MemberUpdated, Node
from clusterkit.core.members import Member, MemberJoined
from clusterkit.core.membership_events import Notify
from clusterkit.ring import gossip_ring
from tests.conftest import COOKIE, NodeFactory, eventually


async def test_one_that_is_not_ready_is_skipped_and_stays_a_member(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.ring.converged()
    updated: list[MemberUpdated] = []
    a.ring.on(MemberUpdated, updated.append)
    b.ring.set_ready(False)
    await eventually(lambda: updated)
    assert (updated[0].member.name, updated[0].member.ready) == ("b", False)
    assert {a.ring.find(str(key), alive=True).name for key in range(100)} == {"a"}
    assert {a.ring.find(str(key)).name for key in range(100)} == {"a", "b"}
    assert [node.name for node in a.ring.range("key", 2, alive=True)] == ["a"]
    a.ring.set_ready(False)
    with pytest.raises(EmptyRing):
        a.ring.find("key", alive=True)
    b.ring.set_ready(True)
    await eventually(lambda: a.ring.range("key", 2, alive=True) == (b.id,))


async def test_a_health_check_says_whether_a_node_is_ready_and_a_broken_one_says_no(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    a = await start_node("a")
    answer: object = True

    async def check() -> bool:
        if isinstance(answer, Exception):
            raise answer
        if answer == "never":
            await asyncio.Event().wait()
        return bool(answer)

    a.ring.check_health(check, interval=0.02)

    def told(ready: bool) -> bool:
        return a.ring.ready is ready and a.ring.members[0].ready is ready

    for says, ready in ((False, False), (True, True), (ValueError("no disk"), False), (True, True), ("never", False)):
        answer = says
        await eventually(partial(told, ready))
    assert caplog.text.count("no disk") == 1  # and not at each look
    with pytest.raises(ConfigError, match="interval"):
        a.ring.check_health(check, interval=0)


async def test_a_check_may_be_a_plain_function(start_node: NodeFactory) -> None:
    a = await start_node("a")
    a.ring.check_health(lambda: False, interval=0.02)
    await eventually(lambda: not a.ring.ready)


async def test_quorum_counts_those_that_are_alive_from_here(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    c = await start_node("c", seeds=(a,))
    await a.ring.converged()
    assert a.ring.quorum()
    await c.aclose(leave=False)
    await eventually(lambda: a.ring.members[2].state == "down")
    assert (a.ring.quorum(), a.ring.quorum(2), a.ring.quorum(3)) == (True, True, False)
    await b.aclose(leave=False)
    await eventually(lambda: a.ring.members[1].state == "down")
    assert (a.ring.quorum(), a.ring.quorum(1)) == (False, True)


async def test_the_environment_says_who_and_where_a_node_is(
    start_node: NodeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = await start_node("seed")
    with pytest.raises(ConfigError, match="CLUSTERKIT_ADDRESS"):
        Node(cookie=COOKIE)
    monkeypatch.setenv("CLUSTERKIT_ADDRESS", "a@127.0.0.1:0")
    monkeypatch.setenv("CLUSTERKIT_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("CLUSTERKIT_COOKIE", COOKIE)
    async with Node() as a:
        assert a.id.name == "a"
        with pytest.raises(ConfigError, match="CLUSTERKIT_RING"):
            await a.ring.join()
        monkeypatch.setenv("CLUSTERKIT_RING", "test")
        monkeypatch.setenv("CLUSTERKIT_SEEDS", seed.id.address)
        await a.ring.join()
        assert [node.name for node in a.ring.nodes] == ["a", "seed"]


async def test_a_mesh_that_is_full_is_warned_of_once(
    start_node: NodeFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gossip_ring, "_MESH", 2)
    caplog.set_level(logging.WARNING, "clusterkit.ring")
    a = await start_node("a")
    for name in "bcd":
        await a.ring.insert(f"{name}@127.0.0.1:1")
        assert caplog.text.count("over 2 members") == (name != "b")
    a.ring._notify(Notify(MemberJoined(Member(a.id))))  # four are no news
    assert caplog.text.count("over 2 members") == 1


async def test_what_a_node_announces_its_members_read(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)
    a.ring.announce("zone", "x")
    assert a.ring.members[0].meta == {"zone": "x"}  # in no ring yet
    await a.ring.join("test")
    b = await start_node("b", seeds=(a,))
    await a.ring.converged()
    assert (a.ring.members[0].meta, b.ring.members[0].meta, b.ring.members[1].meta) == ({"zone": "x"},) * 2 + ({},)
    updated: list[MemberUpdated] = []
    b.ring.on(MemberUpdated, updated.append)
    await b.ring.update("a", weight=5)
    a.ring.announce("rack", 7)
    await eventually(lambda: (m := b.ring.member("a")) is not None and m.meta.get("rack") == 7 and m.weight == 5)
    assert updated[-1].member.meta == {"zone": "x", "rack": 7}
    await a.ring.leave()
    assert a.ring.members[0].meta == {"zone": "x", "rack": 7}
    a.ring.announce("rack", None)
    await a.ring.join("test", [b.id.address])
    await b.ring.converged()
    assert (m := b.ring.member("a")) is not None
    assert m.meta == {"zone": "x"}
    with pytest.raises(ConfigError, match="'clusterkit.x' is no key"):
        a.ring.announce("clusterkit.x", 1)


async def test_a_member_that_was_removed_announces_nothing(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    seen: list[tuple[str, bool]] = []
    await eventually(lambda: b.ring.has("a"))
    b.ring.presence.follow(lambda name: seen.append((name, b.ring.has(name))))
    await a.ring.remove("b")
    await eventually(lambda: len(b.ring) == 1)
    assert ("a", False) in seen  # and nobody had looked a key up
    b.ring.announce("zone", "x")
    assert (b.ring.members[0].meta, a.ring.has("b")) == ({"zone": "x"}, False)
    await a.ring.insert(b.id)
    await eventually(lambda: (m := a.ring.member("b")) is not None and m.meta == {"zone": "x"})


async def test_services_hear_of_each_member_and_have_a_say_before_the_leave(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)
    b = await start_node("b")
    seen: list[tuple[str, bool]] = []
    a.ring.presence.follow(lambda name: seen.append((name, a.ring.has(name))))
    await a.ring.join("test", [b.id.address])
    assert ("b", True) in seen
    met: list[list[str]] = []

    async def before(deadline: float) -> None:
        met.append([node.name for node in a.ring.nodes])

    a.ring.presence.before_leave(before)
    await a.ring.leave()
    assert (met, seen[-1] in {("b", False), ("a", True)}, ("b", False) in seen) == ([["a", "b"]], True, True)
