"""The registry on three real processes: kill -9, SIGSTOP, a network cut in two; what each finds is right soon after.

"Soon" is two seconds after the ring of every node that runs says who is alive and who is down: the failure
detector's time is the ring's (test_ring_faults.py). What every watcher was told, from its start to its end, is
checked when all is over. A hundred rounds of all faults: ``pytest -m long tests/integration/test_registry_faults.py``.
Partitions need network namespaces, and are skipped where there are none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from clusterkit.testing import Child
from clusterkit.testing.namespaces import Namespaces, why_unavailable
from tests.integration.real_ring import Member, RealRing, alive, together
from tests.integration.registry_app import serve
from tests.simulation.service_histories import Told, broken_turns, online_at_the_end

TARGET = f"{serve.__module__}:{serve.__name__}"
NAMES = "abc"
SOON = 2.0  # seconds after the detector
LOOK = 0.02
ROUNDS = 100
UNAVAILABLE = why_unavailable()
needs_hosts = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Service = tuple[str, str, list[str], int]
"""Module, resource, requirements and version: the arguments of `register`."""


def next_to(name: str) -> str:
    return NAMES[(NAMES.index(name) + 1) % len(NAMES)]


def services_of(name: str) -> list[Service]:
    """Each requires what all offer, and what the next one offers alone."""
    return [("worker", "work", ["work", f"{next_to(name)}'s own"], 1), ("owner", f"{name}'s own", [], 1)]


class Registries(RealRing):
    """Three nodes with services, and what should be registered on each that runs."""

    def __init__(self, hosts: Namespaces | None = None) -> None:
        super().__init__(hosts)
        self.registered: dict[str, list[Service]] = {name: services_of(name) for name in NAMES}
        self.incarnations: dict[str, int] = {}
        self.histories: dict[str, list[Told]] = {}

    async def launch(self, called: str, address: str, *, state_dir: Path | None = None, **options: Any) -> Child:
        """Start a process that registers first and joins then."""
        at = self._directory / str(next(self._files))
        services = self.registered[called]
        argument = {"seeds": [], "patience": 10.0, **options, "address": address, "orders": str(at)}
        within = () if self.hosts is None else self.hosts.within(called)
        child = await self._processes.start(called, TARGET, argument | {"services": services}, within=within)
        self._members[called] = Member(called, child, address, at)
        return child

    # -- what should be

    def offered_by(self, names: Iterable[str]) -> list[list[Any]]:
        """The offers of some nodes, in order."""
        return sorted(
            [name, self.incarnations[name], module, resource, version]
            for name in names
            for module, resource, _, version in self.registered[name]
        )

    def required_by(self, name: str) -> set[str]:
        return {resource for _, _, required, _ in self.registered[name] for resource in required}

    def expected(self, name: str, up: str) -> dict[str, Any]:
        """What a node should find for those that are up; what others require may have changed unheard."""
        offers = self.offered_by(up)
        offered = {resource for _, _, _, resource, _ in offers}
        found = {each: [offer for offer in offers if offer[3] in self.required_by(each)] for each in up}
        return {
            "offers": offers,
            "own": found[name],
            "found": found,
            "online": {each: each in up for each in NAMES},
            "unmet": {each: sorted(self.required_by(each) - offered) for each in up},
        }

    # -- what is

    async def right(self, *islands: str) -> None:
        """Wait until each ring sees who of all is up, and then for the registries: two seconds at the most."""
        await together(self.sees(island, self.states(island)) for island in islands)
        self.incarnations |= {name: (await self[name].view()).incarnation for island in islands for name in island}
        await together(self._becomes_right(name, island) for island in islands for name in island)

    def states(self, island: str) -> Mapping[str, str]:
        return {**dict.fromkeys(NAMES, "down"), **alive(island)}

    async def _becomes_right(self, name: str, up: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SOON
        expected = self.expected(name, up)
        while (seen := await self[name].order("registry", up)) != expected:
            assert loop.time() < deadline, f"{SOON:g} s after the ring knew, {name} sees\n{seen}, not\n{expected}"
            await asyncio.sleep(LOOK)

    # -- what they were told

    async def history(self, name: str) -> list[Told]:
        """All that a node was told in this life: callbacks and a watch hear the same, in the same order."""
        told = await self[name].order("histories")
        called, watched = ([read(each) for each in told[how]] for how in ("called", "watched"))
        assert called == watched
        return watched

    async def check_histories(self, names: str = NAMES) -> None:
        """Check what these were told in this life, and when."""
        for name in names:
            history = await self.history(name)
            shown = f"{name} was told\n" + "\n".join(map(str, history))
            assert broken_turns(history) == [], shown
            offers = (await self[name].order("registry", name))["offers"]
            online = {(*key, version) for key, version in online_at_the_end(history).items()}
            assert online == {tuple(offer) for offer in offers}, shown
            assert too_late(history, await self[name].events("MemberDown", "MemberUp")) == [], shown


def read(told: list[Any]) -> Told:
    """A note of `registry_app`."""
    kind, name, incarnation, module, resource, version, at, why = told
    return Told(kind, (name, incarnation, module, resource), version, at, why)


def too_late(history: list[Told], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The times at which a run was down for the ring, and two seconds later not for the registry."""
    found = []
    for down in events:
        run, until = (down["name"], down["incarnation"]), down["at"] + SOON
        back = any(run == (each["name"], each["incarnation"]) and down["at"] < each["at"] <= until for each in events)
        online = online_at_the_end(each for each in history if each.at <= until)
        if down["kind"] == "MemberDown" and not back and any(key[:2] == run for key in online):
            found.append(down)
    return found


# -- the faults


def others(name: str) -> str:
    return NAMES.replace(name, "")


async def kill(ring: Registries, name: str) -> None:
    """kill -9; once the others have seen it, another run at the old address."""
    await ring.check_histories(name)
    ring[name].child.kill()
    await ring.right(others(name))
    await ring.restart(name, others(name), same_port=True)


async def kill_and_start(ring: Registries, name: str) -> None:
    """kill -9, and the next run at once: its predecessor is offline before it is online."""
    await ring.check_histories(name)
    ring[name].child.kill()
    await ring.restart(name, others(name))


async def stop_and_go_on(ring: Registries, name: str) -> None:
    """SIGSTOP until the others have seen it, then SIGCONT: the same run, which registers nothing, is back."""
    ring[name].child.stop()
    await ring.right(others(name))
    before = ring.incarnations[name]
    ring[name].child.go_on()
    await ring.right(NAMES)
    assert ring.incarnations[name] == before


async def partition(ring: Registries, name: str) -> None:
    """One is cut off from the others, and things change on both sides: each side sees its own, and then all see all."""
    before = dict(ring.incarnations)
    rest = others(name)
    await ring.split(name, rest)
    await ring.right(name, rest)
    await register(ring, name, ("worker", "work", [], ring.registered[name][0][3] + 1))
    await register(ring, rest[0], ("late", "work", ["late"], 1))
    await deregister(ring, rest[1], "owner")
    await ring.right(name, rest)
    assert ring.hosts is not None
    await ring.hosts.heal()
    await ring.right(NAMES)
    assert ring.incarnations == before
    await deregister(ring, rest[0], "late")
    await register(ring, rest[1], services_of(rest[1])[1])
    await register(ring, name, ("worker", "work", services_of(name)[0][2], ring.registered[name][0][3] + 1))


async def register(ring: Registries, name: str, service: Service) -> None:
    """Register a service, in place of the one of that name if there is one."""
    others = [each for each in ring.registered[name] if each[:2] != service[:2]]
    ring.registered[name] = sorted([*others, service], reverse=True)
    await ring[name].order("register", *service)


async def deregister(ring: Registries, name: str, module: str) -> None:
    """Take a module's services away."""
    ring.registered[name] = [each for each in ring.registered[name] if each[0] != module]
    await ring[name].order("deregister", module)


Fault = Callable[[Registries, str], Awaitable[None]]
HERE: list[Fault] = [kill, kill_and_start, stop_and_go_on]


async def test_what_three_processes_find_is_right_after_each_fault() -> None:
    async with Registries() as ring:
        await ring.start_all(NAMES)
        await ring.right(NAMES)
        for fault, name in zip(HERE, "cab", strict=True):
            await fault(ring, name)
            await ring.right(NAMES)
        await ring.check_histories()


@needs_hosts
async def test_each_side_of_a_partition_finds_its_own_and_after_it_all_find_all() -> None:
    async with Namespaces(NAMES) as hosts, Registries(hosts) as ring:
        await ring.start_all(NAMES)
        await ring.right(NAMES)
        await partition(ring, "c")
        await ring.right(NAMES)
        await ring.check_histories()
        turns = [each.kind for each in await ring.history("a") if each.key[0] == "c" and each.key[2] == "owner"]
        assert turns == ["ServiceOnline", "ServiceOffline", "ServiceOnline"]
        await kill(ring, "c")
        await ring.right(NAMES)
        await ring.check_histories()


@pytest.mark.long
@pytest.mark.timeout(3600)
@needs_hosts
async def test_a_hundred_rounds_of_all_faults() -> None:
    chance = Random(8)
    async with Namespaces(NAMES) as hosts, Registries(hosts) as ring:
        await ring.start_all(NAMES)
        for _ in range(ROUNDS):
            await ring.right(NAMES)
            await chance.choice([*HERE, partition])(ring, chance.choice(NAMES))
        await ring.right(NAMES)
        await ring.check_histories()
