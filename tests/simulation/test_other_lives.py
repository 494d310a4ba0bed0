"""What a node that comes back means to actors elsewhere: the same one after a cut, another one after a restart."""

import asyncio

import pytest

from clusterkit import Exit, GenServer, MemberDown, MemberUp, Ref, call
from clusterkit.testing import SimCluster

simulated = pytest.mark.simulation(seeds=3)
PATIENCE = 60.0  # seconds of virtual time


class Partner(GenServer):
    """Traps exits, and keeps what it is told."""

    trap_exit = True

    def __init__(self) -> None:
        self.told: asyncio.Queue[Exit] = asyncio.Queue()

    @call
    async def tie(self, node: str) -> None:
        self.link(self.node.ref(Partner, "partner", on=node))

    def handle_info(self, info: object) -> None:
        assert isinstance(info, Exit)
        self.told.put_nowait(info)


class Turning(GenServer):
    """Says what its turn is called in a chain."""

    @call
    async def turn(self) -> str:
        process = self._clusterkit_process
        assert process is not None
        return str(process.turn)


async def partners(sim: SimCluster, *names: str) -> list[tuple[Partner, Ref[Partner]]]:
    found = []
    for name in names:
        partner = Partner()
        found.append((partner, await sim[name].start(partner, name="partner")))
    return found


@simulated
async def test_a_link_made_again_after_a_partition_hears_the_end() -> None:
    async with asyncio.timeout(600), SimCluster(["a", "b", "c"]) as sim:
        (mine, ref), (_, other) = await partners(sim, "a", "b")
        await ref.call(Partner.tie, "b")
        await sim.settle()
        sim.world.partition({"a"}, {"b", "c"})
        told = await asyncio.wait_for(mine.told.get(), PATIENCE)
        assert told.reason == "noconnection"
        sim.world.heal()
        await sim.settle()
        await ref.call(Partner.tie, "b")
        await sim.settle()
        await sim.run("b", sim["b"].stop(other, "enough"))
        told = await asyncio.wait_for(mine.told.get(), PATIENCE)
        assert told.reason == "enough"
        assert mine.told.empty()


@simulated
async def test_the_turns_of_a_restarted_node_have_other_names() -> None:
    """Else a chain that was made in its earlier life would be taken for a cycle in the next one."""
    async with asyncio.timeout(600), SimCluster(["a", "b"]) as sim:
        names = []
        for _ in range(2):
            ref = await sim["b"].start(Turning(), name="turning")
            names.append(await ref.call(Turning.turn))
            await sim.restart("b")
        first, second = names
        assert first.rpartition("/")[2] == second.rpartition("/")[2] == "turning"
        assert first != second


class Watcher(GenServer):
    """Hears of members."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[MemberUp | MemberDown] = asyncio.Queue()

    async def init(self) -> None:
        self.monitor_nodes()
        self.monitor_nodes()  # once is enough, and twice is no more

    def handle_info(self, info: object) -> None:
        assert isinstance(info, MemberUp | MemberDown)
        self.told.put_nowait(info)

    async def news(self, kind: type[MemberUp | MemberDown], name: str) -> int:
        """Wait for a piece of news; returns the incarnation that it is about."""
        while True:
            event = await asyncio.wait_for(self.told.get(), PATIENCE)
            if type(event) is kind and event.member.node.name == name:
                return event.member.node.incarnation


@simulated
async def test_who_monitors_nodes_hears_of_members_that_go_and_come() -> None:
    async with asyncio.timeout(600), SimCluster(["a", "b", "c"]) as sim:
        watcher = Watcher()
        ref = await sim["a"].start(watcher)
        before = sim["c"].id.incarnation
        sim.crash("c")
        assert await watcher.news(MemberDown, "c") == before
        await sim.start("c")
        assert await watcher.news(MemberUp, "c") == sim["c"].id.incarnation != before
        await sim.settle()
        assert watcher.told.empty()
        await sim.run("a", sim["a"].stop(ref))
        sim.crash("c")
        await asyncio.sleep(PATIENCE)
        assert watcher.told.empty()
