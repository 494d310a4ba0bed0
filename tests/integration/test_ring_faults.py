"""Rings of real processes under faults: after each round all nodes see the same members, weights and states.

Five nodes and one round of each fault in the suite; sixteen nodes and five rounds of each by
``pytest -m long tests/integration/test_ring_faults.py``, some four minutes. Odd rounds do not wait for the
middle of a fault to be seen where nothing depends on it. Partitions need network namespaces, and
are skipped where there are none.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest

from clusterkit.testing.namespaces import why_unavailable
from tests.integration.real_ring import RealRing, alive, ring_on_hosts, together

FEW, MANY = "abcde", "abcdefghijklmnop"
STANDBY = "xyz"  # nodes beside the ring, each alone at first
ROUNDS = 5
DEADLINE = 200.0  # seconds for one round


@dataclass(frozen=True, slots=True)
class Round:
    """One round: the ring, all its members, the number of the round, and chance."""

    ring: RealRing
    names: str
    number: int
    chance: Random

    @property
    def patient(self) -> bool:
        """Whether the middle of a fault is waited for."""
        return self.number % 2 == 0

    def some(self) -> list[str]:
        """One to three members, never the half of all."""
        return self.chance.sample(self.names, min(1 + self.number % 3, (len(self.names) - 1) // 2))

    def others(self, *names: str) -> list[str]:
        """All members but these, shuffled."""
        rest = [name for name in self.names if name not in names]
        return self.chance.sample(rest, len(rest))

    def halves(self) -> tuple[list[str], list[str]]:
        """All members in two parts, the first the greater if one is."""
        shuffled = self.others()
        middle = (len(shuffled) + 1) // 2
        return shuffled[:middle], shuffled[middle:]

    async def all_well(self) -> None:
        """All see all alive."""
        await self.ring.agrees(self.names, alive(self.names))


# -- the faults


async def kill(now: Round) -> None:
    """kill -9: the others see the dead as down, and then their next run, which has the old address."""
    dead = now.some()
    living = now.others(*dead)
    for name in dead:
        now.ring[name].child.kill()
    if now.patient:
        await now.ring.agrees(living, {**alive(living), **dict.fromkeys(dead, "down")})
    await together(now.ring.restart(name, living[:2], same_port=True) for name in dead)
    await now.all_well()


async def stop_and_go_on(now: Round) -> None:
    """SIGSTOP until all others see it as down, then SIGCONT: the same incarnations are alive again."""
    still = now.some()
    moving = now.others(*still)
    before = await now.ring[still[0]].view()
    for name in still:
        now.ring[name].child.stop()
    await now.ring.agrees(moving, {**alive(moving), **dict.fromkeys(still, "down")})
    for name in still:
        now.ring[name].child.go_on()
    await now.all_well()
    assert (await now.ring[still[0]].view()).members == before.members


async def restart_at_a_new_port(now: Round) -> None:
    """The same names at other addresses, at once: nobody has to remove what they were before."""
    renewed = now.some()
    rest = now.others(*renewed)
    before = {name: now.ring[name].address for name in renewed}
    for name in renewed:
        now.ring[name].child.kill()
    await together(now.ring.restart(name, rest[:2]) for name in renewed)
    await now.all_well()
    assert all(now.ring[name].address != before[name] for name in renewed)


async def partition(now: Round) -> None:
    """Two halves that cannot reach each other: each goes on, and heals when the network does."""
    one, other = now.halves()
    await now.ring.split(one, other)
    await together(
        now.ring.agrees(here, {**alive(here), **dict.fromkeys(there, "down")})
        for here, there in ((one, other), (other, one))
    )
    await together([now.ring[one[0]].order("update", other[0], weight=2 + now.number)])
    assert now.ring.hosts is not None
    await now.ring.hosts.heal()
    await now.all_well()
    view = await now.ring[other[0]].view()
    assert view.members[other[0]].weight == 2 + now.number


async def insert_on_two_nodes(now: Round) -> None:
    """Two nodes insert a node each, and both a third, with other weights: none is lost, and one weight is chosen."""
    one, other = now.others()[:2]
    x, y, z = (now.ring[name].address for name in STANDBY)
    await together(
        [
            now.ring[one].order("insert", x, z, weight=3),
            now.ring[other].order("insert", y, z, weight=4),
        ]
    )
    everybody = [*now.names, *STANDBY]
    views = await now.ring.agrees(everybody, alive(everybody))
    members = views[one].members
    assert (members["x"].weight, members["y"].weight) == (3, 4)
    assert members["z"].weight in (3, 4)
    await together(now.ring[name].order("leave") for name in STANDBY)
    await now.all_well()
    await together(now.ring[name].order("join", "real") for name in STANDBY)


async def remove_and_insert_in_two_halves(now: Round) -> None:
    """A half removes a member of the other half, which inserts a new one: both are done everywhere."""
    one, other = now.halves()
    removed, inserted = other[-1], "x"
    far = [*other, inserted]
    await now.ring.split(one, far)
    if now.patient:
        await now.ring.sees(one, {**alive(one), **dict.fromkeys(other, "down")})
    await now.ring[one[0]].order("remove", removed)
    await now.ring[other[0]].order("insert", now.ring[inserted].address)
    left = [name for name in other if name != removed]
    await together(
        [
            now.ring.agrees(one, {**alive(one), **dict.fromkeys(left, "down")}),
            now.ring.agrees(far, {**alive(far), **dict.fromkeys(one, "down")}),
        ]
    )
    assert now.ring.hosts is not None
    await now.ring.hosts.heal()
    after = [*now.others(removed), inserted]
    await now.ring.agrees(after, alive(after))
    await now.ring.sees([removed], alive(removed))
    await now.ring[removed].order("join", "real", [now.ring[one[0]].place])
    await now.ring[inserted].order("leave")
    await now.all_well()
    await now.ring[inserted].order("join", "real")


async def remove_then_insert(now: Round) -> None:
    """A live member is removed and inserted again by another: it is told both, and is back under a new incarnation."""
    subject, one, other = now.others()[:3]
    before = await now.ring[subject].view()
    await now.ring[one].order("remove", subject)
    if now.patient:
        rest = now.others(subject)
        await now.ring.agrees(rest, alive(rest))
        await now.ring.sees([subject], alive(subject))
    inserter = other if now.patient else one
    await now.ring[inserter].order("insert", now.ring[subject].address)
    await now.all_well()
    assert (await now.ring[subject].view()).incarnation > before.incarnation


async def leave_then_join(now: Round) -> None:
    """Members leave and join again: under a new incarnation, and nobody ever saw them down."""
    leavers = now.some()
    rest = now.others(*leavers)
    downs = await now.ring.told(rest, "MemberDown")
    await together(now.ring[name].order("leave") for name in leavers)
    if now.patient:
        await now.ring.agrees(rest, alive(rest))
    await together(now.ring[name].order("join", "real", [now.ring[rest[0]].place]) for name in leavers)
    await now.all_well()
    assert await now.ring.told(rest, "MemberDown") == downs


# -- the rings


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what its rounds need."""

    round: Callable[[Round], Awaitable[None]]
    standby: str = ""
    hosts: bool = False


FAULTS = {
    "kill -9": Fault(kill),
    "SIGSTOP and SIGCONT": Fault(stop_and_go_on),
    "restart at a new port": Fault(restart_at_a_new_port),
    "partition": Fault(partition, hosts=True),
    "insert on two nodes": Fault(insert_on_two_nodes, STANDBY),
    "remove and insert in two halves": Fault(remove_and_insert_in_two_halves, "x", hosts=True),
    "remove then insert": Fault(remove_then_insert),
    "leave then join": Fault(leave_then_join),
}
UNAVAILABLE = why_unavailable()


def need(*, hosts: bool) -> None:
    """Skip where there are no hosts of one's own."""
    if hosts and UNAVAILABLE is not None:
        pytest.skip(UNAVAILABLE)


@asynccontextmanager
async def ring_of(names: str, standby: str, *, hosts: bool) -> AsyncIterator[RealRing]:
    """A ring of all names, and beside it the nodes that stand by."""
    async with ring_on_hosts(names + standby) if hosts else RealRing() as ring:
        await ring.start_all(names)
        await together(ring.start(name) for name in standby)
        await together(ring.joined(name) for name in standby)
        yield ring


@pytest.mark.parametrize("hosts", [False, True], ids=["on one host", "on hosts of their own"])
async def test_five_nodes_agree_after_each_fault(hosts: bool) -> None:
    need(hosts=hosts)
    faults = {name: fault for name, fault in FAULTS.items() if fault.hosts is hosts}
    standby = max((fault.standby for fault in faults.values()), key=len)
    async with ring_of(FEW, standby, hosts=hosts) as ring:
        for name, fault in faults.items():
            try:
                await fault.round(Round(ring, FEW, 0, Random(name)))
            except Exception as error:
                error.add_note(f"the fault was: {name}")
                raise


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAULTS)
async def test_sixteen_nodes_agree_after_every_round_of_five(name: str) -> None:
    fault = FAULTS[name]
    need(hosts=fault.hosts)
    async with ring_of(MANY, fault.standby, hosts=fault.hosts) as ring:
        for number in range(ROUNDS):
            async with asyncio.timeout(DEADLINE):
                await fault.round(Round(ring, MANY, number, Random(number)))
