"""The whole game: five processes start in any order, find each other, and each is killed once and started again.

python -m examples.game_cluster.run [gate1 data manager ...]
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from clusterkit import CallError, Node, NoOffer
from clusterkit.runtime import entropy, rng
from examples.game_cluster.gate import GateServer
from examples.game_cluster.manager import GateManager
from examples.game_cluster.role import Role, meet

NODES = {"gate1": "gate", "gate2": "gate", "manager": "manager", "contact": "contact", "data": "data"}
"""The nodes; each runs the module of its role, and so is called its actor."""
SOON = 30.0  # seconds that anything may take, on a machine that has much else to do
LOOK = 0.05
ROOT = Path(__file__).parents[2]


class Game:
    """The processes, and a node of this one, which plays."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.seats: dict[str, str] = {}

    async def start(self, name: str) -> None:
        command = (sys.executable, "-m", f"examples.game_cluster.{NODES[name]}", name, "--folder", str(self.folder))
        self.processes[name] = await asyncio.create_subprocess_exec(*command, cwd=ROOT)

    async def end(self, how: signal.Signals, *names: str) -> None:
        for name in names:
            self.processes[name].send_signal(how)
        for name in names:
            await self.processes.pop(name).wait()

    # -- what is seen from here

    def where(self) -> dict[str, list[str]]:
        """By resource the nodes that offer it."""
        found: dict[str, list[str]] = {}
        for offer in self.node.services.offers():
            found.setdefault(offer.resource, []).append(offer.peer.name)
        return found

    async def found(self, name: str) -> dict[str, list[str]]:
        """What a node says that it has found of what it requires."""
        return await self.node.ref(Role, NODES[name], on=name).call(Role.found)

    async def is_complete(self) -> bool:
        """Whether all are there, and have found whom they require, as we have."""
        here = self.where()
        if {name for where in here.values() for name in where} != set(NODES):
            return False
        found = [await self.found(name) for name in NODES]
        return all(where == here[resource] for each in found for resource, where in each.items())

    async def is_gone(self, name: str) -> bool:
        """Whether nobody finds a node any more, here or on any other."""
        found = [self.where(), *[await self.found(other) for other in NODES if other != name]]
        return not any(name in where for each in found for where in each.values())

    async def play(self, player: str, score: int) -> str:
        """Enter at the gate that the manager names, or where one played before, and score."""
        try:
            offer = self.node.services.resolve(GateManager.resource)
            manager = self.node.ref(GateManager, offer.module, on=offer.peer).with_(retry=2)
            self.seats[player] = await manager.call(GateManager.enter, player)
        except (CallError, NoOffer):
            if player not in self.seats:
                raise
        name = self.seats[player]
        gate = self.node.ref(GateServer, GateServer.module, on=name).with_(retry=2)
        before = await gate.call(GateServer.login, player)
        return f"at {name}: {before} before, {await gate.call(GateServer.score, player, score)} now"

    # -- the story

    async def all_well(self, score: int) -> None:
        """Wait until all is found, say by whom, and play."""
        await until(self.is_complete)
        for name in NODES:
            for resource, where in (await self.found(name)).items():
                print(f"  {name} has found {resource} on {' and '.join(where)}")
        for player in ("ada", "bob"):
            print(f"  {player} plays {await self.play(player, score)}", flush=True)

    async def lose(self, name: str, score: int) -> None:
        """Kill a node, see who misses it and how the others go on, and start it again."""
        print(f"-- kill -9 {name}", flush=True)
        await self.end(signal.SIGKILL, name)
        await until(lambda: self.is_gone(name))
        for each in self.node.services.nodes():
            if each.online and each.unmet:
                print(f"  {each.peer.name} misses {', '.join(each.unmet)}")
        for player in ("ada", "bob"):
            try:
                print(f"  {player} plays {await self.play(player, score)}")
            except (CallError, NoOffer) as error:
                print(f"  {player} cannot play: {error}")
        print(f"-- start {name}", flush=True)
        await self.start(name)
        await self.all_well(score + 1)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds, asking again and again: what others have found, nothing tells us."""
    async with asyncio.timeout(SOON):
        while True:
            with suppress(CallError):  # asked one that has not started yet, or is not known to be down yet
                if await holds():
                    return
            await asyncio.sleep(LOOK)


async def story(order: list[str], folder: Path) -> None:
    """Start all in an order, or a random one, lose each once, and end."""
    order = order or rng("order").sample(list(NODES), len(NODES))
    os.environ.setdefault("CLUSTERKIT_COOKIE", entropy(32).hex())  # the processes inherit it
    async with Node("player@127.0.0.1:0") as node:
        game = Game(node, folder)
        try:
            print(f"-- start {', '.join(order)}", flush=True)
            for name in order:
                await game.start(name)
            await meet(node, folder)
            await game.all_well(1)
            for number, name in enumerate(order, 1):
                await game.lose(name, 10 * number)
            print("-- SIGTERM to all", flush=True)
            await game.end(signal.SIGTERM, *game.processes)
        finally:
            await game.end(signal.SIGKILL, *game.processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", nargs="*", help=f"in which they start: {' '.join(NODES)}")
    order = parser.parse_args().order
    if order and sorted(order) != sorted(NODES):
        parser.error(f"name each of {' '.join(NODES)} once")
    with tempfile.TemporaryDirectory(prefix="clusterkit-game-") as folder:
        asyncio.run(story(order, Path(folder)))


if __name__ == "__main__":
    main()
