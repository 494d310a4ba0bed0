"""The service registry over real TCP, in one process: who offers what, and who is told of it."""

import asyncio
import time

import pytest

from clusterkit import (
    ConfigError,
    GenServer,
    ListenError,
    MemberJoined,
    MemberLeft,
    Node,
    UnknownNode,
    UnsupportedPayload,
    UsageError,
    call,
)
from clusterkit.core.members import Lagged
from clusterkit.core.offers import (
    META_KEY,
    Offer,
    ServiceChanged,
    ServiceEvent,
    ServiceOffline,
    ServiceOnline,
)
from clusterkit.errors import NoOffer, OfferTimeout
from clusterkit.services.client import Client
from clusterkit.services.offer_events import ServiceStream
from clusterkit.services.registry import Registration
from tests.conftest import COOKIE, NodeFactory, eventually

KINDS: tuple[type[ServiceEvent], ...] = (ServiceOnline, ServiceOffline, ServiceChanged)


def places(offers: list[Offer]) -> list[str]:
    return [f"{offer.peer.name}/{offer.module}/{offer.resource}" for offer in offers]


def seen(node: Node, resource: str | None = None) -> list[str]:
    return places(node.services.offers(resource))


def heard(node: Node) -> list[str]:
    """What the callbacks of a node are told from now on."""
    told: list[str] = []

    def note(event: ServiceEvent) -> None:
        [place] = places([event.offer])
        why = f": {event.why}" if isinstance(event, ServiceOffline) else ""
        told.append(f"{type(event).__name__.removeprefix('Service').lower()} {place}{why}")

    for kind in KINDS:
        node.services.on(kind, note)
    return told


# -- who offers what


async def test_a_node_finds_what_it_requires_wherever_that_runs(start_node: NodeFactory) -> None:
    gate = await start_node("gate")
    await gate.services.register("gate", "gate", ["data", "log"])
    assert (gate.services.get_requirements(), gate.services.unmet()) == ([], ["data", "log"])
    data = await start_node("data", seeds=(gate,))
    await data.services.register("store", "data", meta={"shard": 1})
    web = await start_node("web", seeds=(gate,))
    await web.services.register("log", "log")
    for node in (gate, data, web):
        await eventually(lambda node=node: seen(node) == ["data/store/data", "gate/gate/gate", "web/log/log"])  # type: ignore[misc]
        assert places(node.services.get_requirements("gate")) == ["data/store/data", "web/log/log"]
        assert node.services.unmet(gate.id) == []
        assert (node.services.get_requirements("data"), node.services.unmet("web")) == ([], [])
    [offer] = gate.services.offers("data")
    assert (offer.peer, offer.meta, offer.healthy) == (data.id, {"shard": 1}, True)
    with pytest.raises(UnknownNode, match="'nobody'"):
        gate.services.get_requirements("nobody")
    with pytest.raises(UnknownNode, match="'nobody'"):
        gate.services.unmet("nobody")


async def test_what_a_node_offers_itself_counts_for_it_too(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)
    await a.services.register("gate", "gate", ["data"])
    await a.services.register("store", "data")
    assert places(a.services.get_requirements()) == ["a/store/data"]
    assert a.services.unmet() == []


async def test_a_node_has_as_many_services_as_it_likes(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    for module, resource in (("store", "data"), ("store", "backup"), ("gate", "gate")):
        await b.services.register(module, resource)
    await eventually(lambda: seen(a) == ["b/gate/gate", "b/store/backup", "b/store/data"])
    await b.services.deregister("store", "data")
    await eventually(lambda: seen(a) == ["b/gate/gate", "b/store/backup"])
    await b.services.register("store", "data")
    await b.services.deregister("store")
    await eventually(lambda: seen(a) == ["b/gate/gate"])
    for module, service in (("store", None), ("gate", "data"), ("nothing", None)):
        with pytest.raises(UsageError, match=f"node b has no service '{module}'"):
            await b.services.deregister(module, service)


async def test_who_retries_a_registration_changes_nothing_and_a_new_one_takes_its_place(
    start_node: NodeFactory,
) -> None:
    a = await start_node("a")
    told = heard(a)
    first = await a.services.register("store", "data", ["log"], {"zone": "x"})
    again = await a.services.register("store", "data", ["log"], {"zone": "x"})
    assert told == ["online a/store/data"]
    await first.deregister()  # of what is over: the other one stays
    await a.services.deregister(first)
    assert seen(a) == ["a/store/data"]
    with pytest.raises(UsageError, match="not registered any more"):
        await first.update(meta={})
    last = await a.services.register("store", "data", meta={"zone": "y"})
    assert (told[1:], a.services.offers()[0].meta, a.services.unmet()) == (["changed a/store/data"], {"zone": "y"}, [])
    await again.deregister()
    await a.services.deregister(last)
    await last.deregister()
    assert (seen(a), told[2:]) == ([], ["offline a/store/data: deregistered"])
    assert repr(last) == "<Registration 'store' of 'data'>"


async def test_a_registration_is_updated_part_by_part(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    store = await b.services.register("store", "data", ["log"], {"load": 1})
    await eventually(lambda: seen(a))
    told = heard(a)
    await store.update(meta={"load": 2})
    await store.update(requirements=["log", "clock"])
    await eventually(lambda: a.services.unmet("b") == ["clock", "log"])
    assert a.services.offers()[0].meta == {"load": 2}
    await store.update(meta={}, requirements=())
    await eventually(lambda: a.services.offers()[0].meta == {} and not a.services.unmet("b"))
    assert set(told) == {"changed b/store/data"}
    assert (store.module, store.resource, store.healthy) == ("store", "data", True)


async def test_what_cannot_be_registered_changes_nothing(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    services = b.services
    store = await services.register("store", "data", meta={"load": 1})
    await eventually(lambda: seen(a))
    told = heard(b)
    for bad in ("", "x" * 65, None, 7, "two\nlines"):
        with pytest.raises(ConfigError, match="module"):
            await services.register(bad, "data")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="resource"):
            await services.register("store", bad)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="requirement"):
            await services.register("store", "data", [bad])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"requirements is a list of resources, as \['log'\]"):
        await services.register("store", "data", "log")
    with pytest.raises(ConfigError, match="meta"):
        await services.register("store", "data", meta=["load"])  # type: ignore[arg-type]
    with pytest.raises(UnsupportedPayload, match="'load'"):
        await services.register("store", "data", meta={"load": object()})
    with pytest.raises(UsageError, match="a node tells 4096 of itself"):
        await services.register("other", "data", meta={"large": "x" * 4_090})
    with pytest.raises(UsageError, match="a node tells 4096 of itself"):
        await services.register("other", "data", meta={"large": "x" * 4_090}, health=lambda: True)
    with pytest.raises(UsageError, match="a node tells 4096 of itself"):
        await store.update(meta={"large": "x" * 4_090})
    with pytest.raises(UnsupportedPayload):
        await store.update(meta={"load": object()})
    with pytest.raises(ConfigError, match="interval"):
        await services.register("store", "data", health=lambda: True, interval=0)
    with pytest.raises(ConfigError, match="health"):
        await services.register("store", "data", health=True)  # type: ignore[arg-type]
    assert (seen(b), b.services.offers()[0].meta, told) == (["b/store/data"], {"load": 1}, [])
    await eventually(lambda: len(services._tasks) == 0)
    await store.update(requirements=["log"])  # and the rest is as it was
    await eventually(lambda: a.services.unmet("b") == ["log"])
    assert a.services.offers()[0].meta == {"load": 1}


async def test_what_another_node_tells_is_not_trusted(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    told = heard(a)
    good = ["store", "data", ["log"], {}, True]
    for junk in (7, {"store": "data"}, [["store"]], [["", "data", [], {}, True], ["store", "x" * 65, [], {}, True]]):
        b.ring.presence.put(META_KEY, junk)
        b.ring.presence.put(META_KEY, [*junk, good] if isinstance(junk, list) else [junk, good])
        await eventually(lambda: seen(a) == ["b/store/data"])
        b.ring.presence.put(META_KEY, junk)
        await eventually(lambda: not seen(a))
        assert (a.services.nodes(), a.services.get_requirements("b")) == ([], [])
    assert told == ["online b/store/data", "offline b/store/data: deregistered"] * 4


async def test_the_members_that_run_services_are_listed_with_what_they_lack(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await start_node("c", seeds=(a,))
    await a.services.register("gate", "gate", ["log", "data"])
    await b.services.register("store", "data", ["log"], health=lambda: False)
    await eventually(lambda: len(a.services.nodes()) == 2)
    gate, store = a.services.nodes()
    assert (gate.peer, gate.online, places(list(gate.offers))) == (a.id, True, ["a/gate/gate"])
    assert (gate.requirements, gate.unmet) == (("data", "log"),) * 2
    assert (store.peer, store.online, store.offers[0].healthy, store.unmet) == (b.id, True, False, ("log",))
    await b.aclose(leave=False)
    await eventually(lambda: not a.services.nodes()[1].online)
    assert a.services.get_requirements("b") == []


async def test_a_client_may_ask_for_them(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.services.register("gate", "gate", ["data"], {"zone": "x"})
    async with Client(a.id.host, a.id.port, cookie=COOKIE) as client:
        [told] = await client.call("services")
    offer = {"module": "gate", "resource": "gate", "requirements": ["data"], "meta": {"zone": "x"}, "healthy": True}
    where = {"name": "a", "host": a.id.host, "port": a.id.port, "incarnation": a.id.incarnation}
    assert told == where | {"online": True, "offers": [offer], "requirements": ["data"], "unmet": ["data"]}


# -- who comes and goes


async def test_what_is_registered_outside_a_ring_is_told_at_the_join_and_again_at_the_next(
    start_node: NodeFactory,
) -> None:
    a = await start_node("a")
    told = heard(a)
    b = await start_node("b", ring=None)
    await b.services.register("store", "data", meta={"at": (1, 2)})
    own = heard(b)
    assert (seen(b), places([b.services.resolve("data")])) == (["b/store/data"],) * 2
    await b.ring.join("test", [a.id.address])
    await eventually(lambda: seen(a) == ["b/store/data"])
    assert own == []  # its own have been online all the time
    first = a.services.offers()[0].peer
    await b.ring.leave()
    await eventually(lambda: not seen(a))
    assert seen(b) == ["b/store/data"]
    await b.services.register("gate", "gate")
    await b.ring.join("test", [a.id.address])
    await eventually(lambda: len(seen(a)) == 2)
    assert told[:3] == ["online b/store/data", "offline b/store/data: left or removed", "online b/gate/gate"]
    assert {offer.peer for offer in a.services.offers()} == {b.id}
    assert first.incarnation < b.id.incarnation
    assert own == [
        "online b/gate/gate",
        "offline b/gate/gate: restarted",
        "offline b/store/data: restarted",
        "online b/gate/gate",
        "online b/store/data",
    ]


async def test_who_leaves_a_ring_sees_the_others_offline(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.services.register("store", "data")
    b = await start_node("b", seeds=(a,))
    await b.services.register("gate", "gate")
    await eventually(lambda: seen(b) == ["a/store/data", "b/gate/gate"])
    told = heard(b)
    await b.ring.leave()
    assert (seen(b), told) == (["b/gate/gate"], ["offline a/store/data: this node is out of the ring"])


async def test_who_is_removed_and_the_others_see_each_other_offline_until_it_is_back(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.services.register("store", "data")
    await b.services.register("gate", "gate")
    both = ["a/store/data", "b/gate/gate"]
    await eventually(lambda: seen(a) == seen(b) == both)
    at_a, at_b = heard(a), heard(b)
    await a.ring.remove("b")
    await eventually(lambda: seen(a) == ["a/store/data"] and seen(b) == ["b/gate/gate"])
    assert at_a == ["offline b/gate/gate: left or removed"]
    assert at_b == ["offline a/store/data: this node is out of the ring"]
    await a.ring.insert(b.id)
    await eventually(lambda: seen(a) == seen(b) == both)
    assert at_a[1:] == ["online b/gate/gate"]
    assert at_b[1:] == ["offline b/gate/gate: restarted", "online b/gate/gate", "online a/store/data"]


async def test_a_node_that_is_started_again_has_no_ghost(start_node: NodeFactory) -> None:
    a = await start_node("a")
    told = heard(a)
    incarnations = []
    for _ in range(2):
        b = await start_node("b", seeds=(a,))
        await b.services.register("store", "data")
        await eventually(lambda: seen(a) == ["b/store/data"])
        incarnations.append(a.services.offers()[0].peer.incarnation)
        await b.aclose(leave=False)
        await eventually(lambda: not seen(a))
    assert told == ["online b/store/data", "offline b/store/data: not healthy"] * 2
    assert incarnations[0] < incarnations[1] == b.id.incarnation


async def test_a_node_that_is_not_ready_offers_nothing(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await b.services.register("store", "data")
    await eventually(lambda: seen(a))
    told = heard(a)
    b.ring.set_ready(False)
    assert seen(b) == []
    await eventually(lambda: not seen(a))
    b.ring.set_ready(True)
    await eventually(lambda: seen(a) and seen(b))
    assert told == ["offline b/store/data: not ready", "online b/store/data"]


# -- health


async def test_health_is_asked_before_anybody_hears_of_the_service(start_node: NodeFactory) -> None:
    a = await start_node("a")
    told = heard(a)
    answers = iter([False, True])
    asked = asyncio.Event()

    async def check() -> bool:
        asked.set()
        await asyncio.sleep(0)
        return next(answers, True)

    registering = asyncio.ensure_future(a.services.register("store", "data", health=check, interval=0.02))
    await asked.wait()
    assert (told, a.services.nodes()) == ([], [])
    registration = await registering
    assert (told, a.services.nodes()[0].offers[0].healthy, registration.healthy) == ([], False, False)
    await eventually(lambda: seen(a))
    assert (told, registration.healthy) == (["online a/store/data"], True)


async def test_a_check_that_raises_or_hangs_says_no_and_ends_with_its_service(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    answer: object = True
    asked = 0

    async def check() -> bool:
        nonlocal asked
        asked += 1
        if isinstance(answer, Exception):
            raise answer
        if answer == "never":
            await asyncio.Event().wait()
        return bool(answer)

    told = heard(a)
    registration = await b.services.register("store", "data", health=check, interval=0.02)
    for turns, says in enumerate((ValueError("no disk"), "never", False), 1):
        answer = True
        await eventually(lambda: seen(a))
        answer = says
        await eventually(lambda: not seen(a))
        assert told == ["online b/store/data", "offline b/store/data: not healthy"] * turns
    await registration.update(meta={"zone": "x"})  # it stays as it is
    assert (registration.healthy, seen(b)) == (False, [])
    await b.services.register("store", "data")
    await eventually(lambda: seen(a))
    await eventually(lambda: len(b.services._tasks) == 0)
    before = asked
    registration = await b.services.register("store", "data", health=lambda: asked == before, interval=0.02)
    await registration.deregister()
    await eventually(lambda: len(b.services._tasks) == 0)
    assert asked == before
    assert caplog.text.count("no disk") == 1


async def test_who_gives_up_a_registration_leaves_nothing(start_node: NodeFactory) -> None:
    a = await start_node("a")

    async def never() -> bool:
        await asyncio.Event().wait()
        return True

    async def cancelled() -> bool:
        raise asyncio.CancelledError

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await a.services.register("store", "data", health=never, interval=30.0)
    with pytest.raises(UsageError, match="ended before it answered"):
        await a.services.register("store", "data", health=cancelled)
    await eventually(lambda: len(a.services._tasks) == 0)
    assert a.services.nodes() == []
    registering = asyncio.ensure_future(a.services.register("store", "data", health=never, interval=30.0))
    await eventually(lambda: len(a.services._tasks) == 1)
    await a.aclose()
    with pytest.raises(UsageError, match="closing"):
        await registering


# -- one of many


async def test_one_of_those_that_offer_it_is_chosen_by_chance(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.services.register("store", "data")
    await b.services.register("store", "data")
    await eventually(lambda: len(seen(a)) == 2)
    assert {a.services.resolve("data").peer for _ in range(100)} == {a.id, b.id}


async def test_all_nodes_choose_the_same_for_a_key(start_node: NodeFactory) -> None:
    nodes = [await start_node("n0")]
    nodes += [await start_node(f"n{number}", seeds=(nodes[0],)) for number in range(1, 6)]
    offering = nodes[:3]
    for node in offering:
        await node.services.register("store-2", "data")
        await node.services.register("store-1", "data")
    await eventually(lambda: all(len(seen(node)) == 6 for node in nodes))
    chosen = {}
    for key in map(str, range(50)):
        [chosen[key]] = {node.services.resolve("data", "ring", key=key) for node in nodes}
        [first, *_] = (each for each in nodes[0].ring.range(key, 6) if each in [node.id for node in offering])
        assert (chosen[key].peer, chosen[key].module) == (first, "store-1")
    assert {offer.peer for offer in chosen.values()} == {node.id for node in offering}
    await nodes[5].services.register("rare", "rare")
    await eventually(lambda: seen(nodes[0], "rare"))
    assert {nodes[0].services.resolve("rare", "ring", key=key).peer for key in chosen} == {nodes[5].id}
    await nodes[1].aclose()
    await eventually(lambda: len(seen(nodes[5], "data")) == 4)
    for key, offer in chosen.items():
        if offer.peer.name != "n1":  # only the keys of the one that is gone have moved
            assert nodes[5].services.resolve("data", "ring", key=key) == offer


async def test_the_least_busy_is_chosen_and_among_equals_each_in_turn(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b, c = [await start_node(name, seeds=(a,)) for name in "bc"]
    stores = [Store(), Store(), Store()]
    for node, store in zip((a, b, c), stores, strict=True):
        await node.start(store, name="store")
        await node.services.register("store", "data")
    await eventually(lambda: len(seen(a)) == 3)

    def least(times: int) -> str:
        return "".join(a.services.resolve("data", "least").peer.name for _ in range(times))

    assert least(6) == "abcabc"
    a.services.resolve("data", "ring", key="x")
    calls = [asyncio.ensure_future(a.ref(Store, "store", on="b").call(Store.wait)) for _ in range(2)]
    await eventually(lambda: (link := a._open_kernel().links.get("b")) is not None and len(link.waiting) == 2)
    assert sorted(least(2)) == ["a", "c"]
    assert least(4) in ("acac", "caca")
    calls += [asyncio.ensure_future(a.ref(Store, "store").call(Store.wait)) for _ in range(3)]
    await eventually(lambda: any((info.handler, info.depth) == ("wait", 2) for info in a.inspect()))
    assert least(2) == "cc"
    await c.aclose()
    await eventually(lambda: len(seen(a)) == 2)
    assert least(2) == "bb"
    assert {name for name, *_ in a.services._resolved} == {"a", "b"}
    await a.services.register("none", "data")  # an actor that does not run has nothing to do
    assert a.services.resolve("data", "least").module == "none"
    for store in stores:
        store.gate.set()
    await asyncio.gather(*calls)


async def test_what_nobody_offers_cannot_be_resolved(start_node: NodeFactory) -> None:
    a = await start_node("a", ring=None)
    with pytest.raises(NoOffer, match="'data', as a sees it") as raised:
        a.services.resolve("data")
    assert (raised.value.missing, isinstance(raised.value, LookupError)) == (("data",), True)
    await a.services.register("store", "data")
    assert a.services.resolve("data", "ring", key="x").peer == a.id
    for pick, key in (("ring", None), ("random", "x"), ("least", "x"), ("any", None)):
        with pytest.raises(ConfigError, match="pick"):
            a.services.resolve("data", pick, key=key)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resource"):
        a.services.resolve("")


@pytest.mark.parametrize("ring", [[], ["a"]])
async def test_a_node_on_its_way_out_of_the_ring_still_finds_its_own(start_node: NodeFactory, ring: list[str]) -> None:
    b = await start_node("b", seeds=tuple([await start_node(name) for name in ring]))
    await b.services.register("store", "data")
    found: list[Offer] = []
    b.ring.on(MemberLeft, lambda _event: found.append(b.services.resolve("data", "ring", key="x")))
    await b.ring.leave()
    assert places(found) == ["b/store/data"]


# -- waiting


async def test_who_waits_goes_on_when_all_is_there(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.services.register("gate", "gate", ["data", "log"])
    waiting = asyncio.ensure_future(a.services.wait_for())
    named = asyncio.ensure_future(a.services.wait_for("data", "gate", "data"))
    await b.services.register("store", "data")
    found = await named
    assert {resource: places(offers) for resource, offers in found.items()} == {
        "data": ["b/store/data"],
        "gate": ["a/gate/gate"],
    }
    assert not waiting.done()
    await b.services.register("log", "log")
    assert sorted(await waiting) == ["data", "log"]
    assert await b.services.wait_for() == {}


async def test_what_came_while_the_loop_stood_still_is_there(start_node: NodeFactory) -> None:
    a = await start_node("a")
    waiting = asyncio.ensure_future(a.services.wait_for("data", timeout=0.02))
    await asyncio.sleep(0)
    registering = a.services.register("store", "data")
    time.sleep(0.05)  # the deadline passes, and nobody could notice
    await registering
    assert places((await waiting)["data"]) == ["a/store/data"]


async def test_who_waits_in_vain_is_told_for_what(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.services.register("gate", "gate", ["data", "log"])
    with pytest.raises(OfferTimeout, match="within 0.05 s nobody offered 'data', 'log'") as raised:
        await a.services.wait_for(timeout=0.05)
    assert raised.value.missing == ("data", "log")
    with pytest.raises(TimeoutError):
        await a.services.wait_for("gate", "data", timeout=0.05)
    for timeout in (0, -1.0):
        with pytest.raises(ConfigError, match="timeout"):
            await a.services.wait_for(timeout=timeout)
    with pytest.raises(ConfigError, match="resource"):
        await a.services.wait_for("")
    await a.services.deregister("gate")
    waiting = asyncio.ensure_future(a.services.wait_for("data"))
    await asyncio.sleep(0)
    await a.aclose()
    with pytest.raises(UsageError, match="node a is closing"):
        await waiting


# -- who listens


async def test_a_watch_begins_with_what_there_is_and_leaves_no_gap(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    await a.services.register("store", "data")
    await a.services.register("gate", "gate")
    everything, data = a.services.watch(), a.services.watch("data")
    gate, store = a.services.offers()
    assert [await anext(everything), await anext(everything)] == [ServiceOnline(gate), ServiceOnline(store)]
    await b.services.register("store", "data")
    await eventually(lambda: len(seen(a, "data")) == 2)
    await a.services.register("store", "data", meta={"zone": "x"})
    await a.services.deregister("gate")
    changed, other = a.services.offers("data")
    after = [ServiceOnline(other), ServiceChanged(changed)]
    assert [await anext(everything) for _ in range(3)] == [*after, ServiceOffline(gate, "deregistered")]
    assert [await anext(data) for _ in range(2)] == [
        ServiceOnline(changed),
        ServiceOnline(other),
    ]  # read late: as it is
    reading = asyncio.ensure_future(anext(data))
    await a.services.register("gate", "gate")
    await b.aclose()
    assert await reading == ServiceOffline(other, "not healthy")
    await data.aclose()
    await data.aclose()
    assert list(a.services._listeners._streams) == [everything]
    assert [event async for event in data] == []
    await a.aclose()
    assert [event async for event in everything] == [ServiceOnline(gate), ServiceOffline(other, "not healthy")]
    assert [event async for event in a.services.watch("none")] == []


async def test_a_slow_watch_is_told_how_many_it_missed_and_then_what_differs(start_node: NodeFactory) -> None:
    a = await start_node("a")
    watch = a.services.watch(most=3)
    for number in range(5):
        await a.services.register(f"store-{number}", "data")
    await a.services.deregister("store-0")
    assert await anext(watch) == Lagged(4)
    assert [await anext(watch) for _ in range(4)] == [ServiceOnline(offer) for offer in a.services.offers()]
    await a.services.deregister("store-1")
    assert isinstance(await anext(watch), ServiceOffline)
    for most in (0, -1, True, 1.5):
        with pytest.raises(ConfigError, match="most"):
            a.services.watch(most=most)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resource"):
        a.services.watch("")


async def test_callbacks_hear_in_order_whatever_they_do_themselves(
    start_node: NodeFactory, caplog: pytest.LogCaptureFixture
) -> None:
    a = await start_node("a", ring=None)
    streams: list[ServiceStream] = []
    late: list[ServiceEvent] = []

    def first(event: ServiceOnline) -> None:
        a.ring.set_ready(not a.ring.ready)  # takes it offline again, at once
        streams.append(a.services.watch())
        a.services.on(ServiceOnline, late.append)
        end_second()
        raise ValueError("a callback of the test")

    end_first = a.services.on(ServiceOnline, first)
    told = heard(a)
    never: list[ServiceEvent] = []
    end_second = a.services.on(ServiceOnline, never.append)
    await a.services.register("store", "data")
    assert told == ["online a/store/data", "offline a/store/data: not ready"]
    assert caplog.text.count("ValueError: a callback of the test") == 1
    end_first()
    end_first()
    a.ring.set_ready(True)
    [offer] = a.services.offers()
    assert (told[2:], late, never) == (["online a/store/data"], [ServiceOnline(offer)], [])
    assert await anext(streams[0]) == ServiceOnline(offer)  # and nothing of what was before
    assert streams[0]._backlog.take() is None
    with pytest.raises(UsageError, match="services tell of ServiceOnline, ServiceOffline, ServiceChanged"):
        a.services.on(MemberLeft, print)


async def test_what_is_registered_while_the_ring_is_busy_is_there_at_once(start_node: NodeFactory) -> None:
    a = await start_node("a")
    found: list[list[str]] = []

    def joined(event: MemberJoined) -> None:
        with pytest.raises(StopIteration):  # as a task that begins at once would
            a.services.register("store", "data").send(None)
        found.append(seen(a))

    a.ring.on(MemberJoined, joined)
    told = heard(a)
    b = await start_node("b", seeds=(a,))
    await eventually(lambda: seen(b) == ["a/store/data"])
    assert (found, told) == ([["a/store/data"]], ["online a/store/data"])


# -- the end


class Store(GenServer):
    """Takes back what it offers when it ends, as a careful actor does."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.registration: Registration | None = None

    @call
    async def wait(self) -> None:
        await self.gate.wait()

    async def terminate(self, reason: object) -> None:
        if self.registration is not None:
            await self.registration.deregister()
            await self.node.services.deregister("store")
            with pytest.raises(UsageError, match="closing"):
                await self.node.services.register("store", "data")
            with pytest.raises(UsageError, match="closing"):
                await self.registration.update(meta={})
            self.registration = None


async def test_a_node_that_closes_offers_nothing_while_its_actors_end(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b = await start_node("b", seeds=(a,))
    store = Store()
    await b.start(store, name="store")
    store.registration = await b.services.register("store", "data", health=lambda: True, interval=0.02)
    await eventually(lambda: seen(a))
    told = heard(a)
    answer = asyncio.ensure_future(a.ref(Store, "store", on="b").call(Store.wait))
    await eventually(lambda: any(info.handler == "wait" for info in b.inspect()))
    end = asyncio.ensure_future(b.aclose())
    await eventually(lambda: not seen(a))
    assert (answer.done(), a.ring.members[1].state) == (False, "alive")
    store.gate.set()
    await asyncio.gather(answer, end)
    assert told == ["offline b/store/data: not healthy"]
    assert store.registration is None
    await b.services.deregister("store")
    await eventually(lambda: [node.name for node in a.ring.nodes] == ["a"])
    assert a.services.nodes() == []


async def test_services_may_be_closed_twice_and_a_node_that_never_ran_has_none(start_node: NodeFactory) -> None:
    a = await start_node("a")
    await a.services.aclose()
    await a.services.aclose()
    other = Node(f"b@127.0.0.1:{a.id.port}", cookie=COOKIE)
    with pytest.raises(UsageError, match="not started"):
        _ = other.services
    with pytest.raises(ListenError):
        await other.__aenter__()
