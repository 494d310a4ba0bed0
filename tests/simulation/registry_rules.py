"""The scenario of the registry's rules: nodes register, change and take away services while all sorts of things befall them.

Nodes crash, are closed, start again, stand still, are cut off alone or from one other, leave and join again, are
removed and inserted. On each, callbacks, a watch and a watch that is read slowly hear of services. `broken_promises`
returns one sentence for each rule that was not kept:

- what is offered is what the ring's view says, at every moment, and each service once;
- what one node finds of another that nothing disturbs is what that registered, two seconds after that at the latest;
- a run that crashed is offered by nobody, the detector's time and two seconds later;
- all that is told was registered so, and is told in turns (`tests.simulation.service_histories`);
- who waits for a resource ends when it is offered, or at the deadline while it is not;
- when all is over every node finds all that runs and nothing else, and knows the same of who requires what.
"""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

from clusterkit import Node, NoOffer, OfferTimeout, ServiceOnline
from clusterkit.core.identity import NodeId
from clusterkit.runtime import now, rng
from clusterkit.testing.path import Conditions
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation.actor_faults import (
    LATE,
    UNNOTICED,
    Fault,
    all_of,
    close,
    come_to_rest,
    crash,
    cut,
    in_each_life,
    node_of,
    pause,
)
from tests.simulation.registry_evidence import FIRST, INTERVAL, LISTENERS, SLOW, Registries, Service
from tests.simulation.service_histories import Key, broken_turns, key_of, online_at_the_end, version_of

META = "clusterkit.services"
RESOURCES = ("red", "green", "blue")
TURNS = 2
LONGEST = 12.0  # seconds that a fault lasts: some are longer than the detector needs
DETECTOR = 8.0
"""Seconds within which a dead node is down: it is probed within one and a half, and suspected for six."""
REUNION = 2.0
"""Seconds, beside those of `RECOVERY`, in which two nodes that nothing keeps apart any more meet again: one redial."""
SOON = 2.0
CALM = 6.0  # seconds at the most after the last fault
LOOK = 0.7


# -- what nodes do ------------------------------------------------------------------------


async def work(evidence: Registries, node: Node) -> None:
    """Register, change and take away, wait and look, until all is over."""
    life = evidence.life(node.id.name)
    chance, registrations = rng(f"work {life}"), dict[Service, Any]()
    while evidence.sending:
        await asyncio.sleep(4.5 * chance.random())
        service = f"m{chance.randrange(2)}", chance.choice(RESOURCES)
        requirements = tuple(chance.sample(("common", *RESOURCES), chance.randrange(3)))
        mine = evidence.registered[life]
        match chance.choice(["register", "register", "update", "sick", "deregister", "wait", "resolve"]):
            case "wait":
                await wait(evidence, node, chance)
            case "resolve":
                resolve(evidence, node, chance)
            case "update" if service in registrations:
                await update(evidence, life, service, registrations[service], requirements)
            case "deregister" if service in registrations:
                await registrations.pop(service).deregister()
                evidence.note(life, service, None)
            case "sick" if service in registrations and service[0] == "m0":
                mine.changed = now() + INTERVAL
                if mine.sick.pop(service, 0) == 0:
                    mine.sick[service] = None
            case _:
                mine.sick.pop(service, None)
                registrations[service] = await evidence.register(node, life, service, requirements)


async def update(
    evidence: Registries, life: str, service: Service, registration: Any, requirements: tuple[str, ...]
) -> None:
    """Announce another version of a service."""
    version = len(evidence.announced) + 1
    evidence.announced[version] = life, service, now()
    await registration.update(meta={"v": version}, requirements=requirements)
    evidence.note(life, service, version, requirements)


async def wait(evidence: Registries, node: Node, chance: Random) -> None:
    """Wait for some resources, as ever they come."""
    began, timeout, name = now(), 3.0 * chance.random(), node.id.name
    wanted = chance.sample(RESOURCES, chance.randint(1, 2))
    complete = [began]

    def note(_: ServiceOnline) -> None:
        if all(map(node.services.offers, wanted)):
            complete.append(now())

    end = node.services.on(ServiceOnline, note)
    try:
        found = await node.services.wait_for(*wanted, timeout=timeout)
    except OfferTimeout as error:
        there = [each for each in wanted if node.services.offers(each)]
        told = set(error.missing) == set(wanted) - set(there) != set()
        right = told and began + timeout <= now() <= evidence.awake(name, began + timeout) + LATE
        outcome = f"{error.missing} missed, {there} there"
    else:
        right = found == {each: node.services.offers(each) for each in wanted} and all(found.values())
        right = right and now() <= evidence.awake(name, complete[-1]) + LATE
        outcome = f"found {found}, all there at {complete[-1]:.3f}"
    finally:
        end()
    if not right:
        evidence.wrong.append(f"{name} waited for {wanted} from {began:.3f} to {now():.3f}, {timeout:.3f}: {outcome}")


def resolve(evidence: Registries, node: Node, chance: Random) -> None:
    """Find one of some."""
    resource = chance.choice(("common", *RESOURCES))
    offers = node.services.offers(resource)
    try:
        chosen = [
            node.services.resolve(resource),
            node.services.resolve(resource, "least"),
            node.services.resolve(resource, "ring", key=str(chance.random())),
        ]
    except NoOffer as error:
        if offers or error.missing != (resource,):
            evidence.wrong.append(f"{node.id.name} resolved none of {offers}: {error.missing} at {now():.3f}")
    else:
        if not all(each in offers for each in chosen):
            evidence.wrong.append(f"{node.id.name} resolved {chosen}, of {offers} at {now():.3f}")


# -- what befalls them --------------------------------------------------------------------


async def befall(sim: SimCluster, evidence: Registries) -> None:
    """Let one thing after the other happen."""
    chance = rng("faults")
    for _ in range(TURNS):
        await asyncio.sleep(2 * chance.random())
        one, other = chance.sample(sim.names, 2)
        mortal = chance.choice(sim.names[1:])
        lasting = LONGEST * chance.random() ** 2
        match chance.choice(FAULTS):
            case "half open":
                sim.world.forget(one, other)
                evidence.faults.append(Fault("half open", frozenset((one, other)), now(), now() + UNNOTICED))
            case "pause":
                await pause(sim, evidence, one, lasting)
            case "crash" | "kill" as how:
                await crash(sim, evidence, mortal, lasting, reset=how == "kill")
            case "close":
                await close(sim, evidence, mortal, lasting)
            case "cut" | "one way" as how:
                await cut(sim, evidence, one, other, lasting, both=how == "cut")
            case "partition":
                await partition(sim, evidence, one, lasting, reset=chance.random() < 0.5)
            case "rejoin":
                await rejoin(sim, evidence, mortal, lasting)
            case _:
                await remove(sim, evidence, mortal, lasting)


FAULTS = (
    "half open",
    "pause",
    "crash",
    "kill",
    "kill",
    "close",
    "cut",
    "one way",
    "partition",
    "partition",
    "rejoin",
    "remove",
)


async def partition(sim: SimCluster, evidence: Registries, name: str, lasting: float, *, reset: bool) -> None:
    """Cut one off from all others."""
    evidence.faults.append(fault := Fault("partition", frozenset((name,)), now()))
    sim.partition(name, [each for each in sim.names if each != name], reset=reset)
    await asyncio.sleep(lasting)
    sim.heal()
    fault.ended = now()


async def rejoin(sim: SimCluster, evidence: Registries, name: str, lasting: float) -> None:
    """Let a node leave, and join again under another incarnation; what runs on it runs on."""
    evidence.faults.append(fault := Fault("rejoin", frozenset((name,)), now()))
    await sim.run(name, sim[name].ring.leave())
    await asyncio.sleep(lasting)
    seeds = [sim.address(each) for each in sim.names if each != name]
    await sim.run(name, sim[name].ring.join("simulation", seeds))
    fault.ended = now()


async def remove(sim: SimCluster, evidence: Registries, name: str, lasting: float) -> None:
    """Take a node out of the ring and invite it again; a run that the remover had not heard of stays in."""
    evidence.faults.append(fault := Fault("remove", frozenset((name,)), now()))
    admin = sim[FIRST].ring
    await admin.remove(name)
    await asyncio.sleep(lasting)
    await admin.insert(sim[name].id)
    while (member := admin.member(name)) is None or member.is_out or member.node != sim[name].id:
        await asyncio.sleep(LOOK)
    fault.ended = now()


# -- what is looked at --------------------------------------------------------------------


def found_by(node: Node) -> dict[Key, int]:
    """What a node finds."""
    return {key_of(offer): version_of(offer) for offer in node.services.offers()}


def difference(found: dict[Key, int], expected: dict[Key, int]) -> str:
    """Say what is found that should not be, and what is not."""
    return f"finds {dict(found.items() - expected.items())} and not {dict(expected.items() - found.items())}"


def read_ring(node: Node) -> Iterator[tuple[Key, int]]:
    """What a node's view of its ring says of services, read by hand; of itself it believes what it tells."""
    if node.ring.ready:
        yield from read_meta(node.id, node.ring.presence.meta)
    for member in node.ring.members:
        if member.name != node.id.name and member.ready and not member.is_out:
            yield from read_meta(member.node, member.meta)


def read_meta(peer: NodeId, meta: Any) -> Iterator[tuple[Key, int]]:
    for module, resource, _, told, healthy in meta.get(META, ()):
        if healthy:
            yield (peer.name, peer.incarnation, module, resource), told["v"]


async def look(sim: SimCluster, evidence: Registries) -> None:
    """Look at what each node finds, again and again."""
    while evidence.sending:
        await asyncio.sleep(LOOK)
        for node in sim.running:
            name = node.id.name
            if sim._life(name).machine.halted:
                continue
            offers, found, ring = node.services.offers(), found_by(node), dict(read_ring(node))
            if len(offers) != len(found) or offers != sorted(offers, key=lambda offer: offer.place):
                evidence.wrong.append(f"{name} finds a double at {now():.3f}: {offers}")
            if found != ring:
                evidence.wrong.append(f"{name} at {now():.3f} {difference(found, ring)}, as its ring has it")
            for peer in sim.names:
                evidence.wrong.extend(wrong_between(sim, evidence, node, peer, found))


def wrong_between(sim: SimCluster, evidence: Registries, node: Node, peer: str, found: dict[Key, int]) -> Iterator[str]:
    """What one node finds of another, where nothing disturbs the two any more."""
    at, name, life = now(), node.id.name, evidence.life(peer)
    seen = {key: version for key, version in found.items() if key[0] == peer}
    dead = evidence.crashes.get(life)
    if dead is not None:
        if seen and at > dead + DETECTOR + SOON and evidence.is_calm(dead, at, name):
            yield f"{name} finds {seen} at {at:.3f}, dead since {dead:.3f}"
        return
    running = {each.id.name: each for each in sim.running}
    if peer not in running or at < evidence.registered[life].changed + SOON:
        return
    expected = evidence.registered[life].offered(peer, running[peer].id.incarnation)
    if evidence.is_calm(at - REUNION - SOON, at, name, peer):
        evidence.looks += 1
        if seen != expected:
            yield f"{name} at {at:.3f} {difference(seen, expected)} of {peer}"


def wrong_at_rest(sim: SimCluster, evidence: Registries) -> Iterator[str]:
    """What is not as it should be when all is over."""
    mine = {node.id: evidence.registered[evidence.life(node.id.name)] for node in sim.running}
    expected = {
        key: version for me, each in mine.items() for key, version in each.offered(me.name, me.incarnation).items()
    }
    offered = {key[3] for key in expected}
    for node in sim.running:
        if (found := found_by(node)) != expected:
            yield f"at rest {node.id.name} {difference(found, expected)}"
        told = {each.peer: (each.online, each.requirements, each.unmet) for each in node.services.nodes()}
        required = {
            me: (each.ready, tuple(each.required), tuple(sorted(set(each.required) - offered)))
            for me, each in mine.items()
        }
        if told != required:
            yield f"at rest {node.id.name} sees {told}, not {required}"
        for me, each in mine.items():
            wanted = {key for key in expected if key[3] in each.required}
            got = [key_of(offer) for offer in node.services.get_requirements(me)]
            if got != sorted(wanted, key=lambda key: (key[0], key[2], key[3])):
                yield f"at rest {node.id.name} finds {got} for {me.name}, not {wanted}"
            if node.services.unmet(me.name) != sorted(set(each.required) - offered):
                yield f"at rest {node.id.name} knows {node.services.unmet(me.name)} to lack for {me.name}"
    for key in map(str, range(5)):
        if len({node.services.resolve("common", "ring", key=key).peer for node in sim.running}) > 1:
            yield f"at rest {key!r} has more than one first"


# -- the scenario -------------------------------------------------------------------------


async def services_under_faults() -> Registries:
    """Run the scenario in the running simulation."""
    evidence, chance = Registries(), rng("network")
    latency = chance.choice([0.0005, 0.005, 0.02])
    network = Conditions(latency, latency, loss=chance.choice([0.0, 0.0, 0.02, 0.1]), fragmentation=0.2)
    async with SimCluster(chance.choice((3, 3, 3, 3, 4)), app=evidence.begin, conditions=network) as sim:

        async def until_it_is_over() -> None:
            await befall(sim, evidence)
            await asyncio.sleep(CALM * chance.random())
            evidence.sending = False

        workers = [in_each_life(sim, evidence, name, lambda node: work(evidence, node)) for name in sim.names]
        await all_of(until_it_is_over(), look(sim, evidence), *workers)
        await asyncio.sleep(SLOW)
        await come_to_rest(sim, evidence, lambda node: [])
        evidence.wrong.extend(wrong_at_rest(sim, evidence))
        evidence.wrong.extend(wrong_in_the_end(sim, evidence))
    return evidence


def wrong_in_the_end(sim: SimCluster, evidence: Registries) -> Iterator[str]:
    """What those who listened to the end should have been told, and were not."""
    for node in sim.running:
        for how in LISTENERS:
            listener = f"{evidence.life(node.id.name)} {how}"
            if (online := online_at_the_end(evidence.histories[listener])) != found_by(node):
                yield f"{listener} in the end {difference(online, found_by(node))}"


def broken_promises(evidence: Registries) -> list[str]:
    """Say which promises were broken; an empty list is what is wanted."""
    return [*evidence.left, *evidence.wrong, *wrong_in_histories(evidence)]


def wrong_in_histories(evidence: Registries) -> Iterator[str]:
    """What was told out of turn, or was never so."""
    for listener, history in evidence.histories.items():
        for found in broken_turns(history):
            yield f"{listener}: {found}"
        for told in history:
            life, service, at = evidence.announced.get(told.version, ("", ("", ""), 0.0))
            if node_of(life) != told.key[0] or service != told.key[2:] or at > told.at:
                yield f"{listener}: nobody registered what was told: {told}"
    for life in evidence.registered:
        first, *others = (evidence.histories[f"{life} {how}"] for how in LISTENERS[:3])
        if any(a != b for other in others for a, b in zip(first, other, strict=False)):
            yield f"{life}: those that hear at once heard in different orders"
