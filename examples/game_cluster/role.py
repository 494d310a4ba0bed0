"""What all roles of the game share: a node of its own, one service, and the services that it requires."""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from clusterkit import GenServer, JoinTimeout, MemberDown, MemberUp, Node, OfferTimeout, Ref, call

RING = "game"
FOLDER = Path(tempfile.gettempdir()) / "clusterkit-game"
R = TypeVar("R", bound="Role")


class Role(GenServer):
    """A service: the name of its actor, the resource that it offers, the resources that it requires."""

    module: ClassVar[str]
    resource: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()

    async def init(self) -> None:
        self.monitor_nodes()  # MemberUp and MemberDown come to handle_info
        self.create_task(self.wait())

    async def handle_info(self, info: Any) -> None:
        match info:
            case MemberUp(member):
                self.say(f"{member.name} is up")
            case MemberDown(member):
                self.say(f"{member.name} is down ({member.why})")
                self.lost(member.name)
            case _:
                await super().handle_info(info)

    def lost(self, node: str) -> None:
        """Forget what was known of a node that is down."""

    async def wait(self) -> None:
        """Wait for all that this role requires, and say meanwhile what is missing."""
        while True:
            try:
                found = await self.node.services.wait_for(*self.requires, timeout=5.0)
            except OfferTimeout as error:
                self.say(f"still waits for {', '.join(error.missing)}")
            else:
                where = [f"{resource} on {offers[0].peer.name}" for resource, offers in found.items()]
                self.say(f"has all that it requires: {', '.join(where) or 'nothing'}")
                return

    def one(self, cls: type[R]) -> Ref[R]:
        """Refer to one that offers what ``cls`` does now; raises `NoOffer`."""
        offer = self.node.services.resolve(cls.resource)
        return self.node.ref(cls, offer.module, on=offer.peer).with_(retry=2)

    @call
    async def found(self) -> dict[str, list[str]]:
        """The nodes that offer what this role requires, as its own node sees it."""
        found: dict[str, list[str]] = {resource: [] for resource in self.requires}
        for offer in self.node.services.get_requirements():
            found[offer.resource].append(offer.peer.name)
        return found

    def say(self, text: str) -> None:
        print(f"{self.node.id.name}: {text}\n", end="", flush=True)  # one write: others print beside it


def addresses(folder: Path, but: str = "") -> list[str]:
    """Where the game's nodes listen, or did before they were killed."""
    return [file.read_text() for file in folder.glob("*.address") if file.stem != but]


async def meet(node: Node, folder: Path) -> None:
    """Say where this node listens, and join through whoever has said so too; alone it is a ring of one."""
    name = node.id.name
    new = folder / f"{name}.new"
    new.write_text(node.id.address)
    new.replace(folder / f"{name}.address")  # at once: nobody reads half of it
    with suppress(JoinTimeout):  # those that have said so run no more: others will come
        await node.ring.join(RING, addresses(folder, but=name), timeout=2.0)


async def play(role: Role, name: str, folder: Path) -> None:
    """Run a role on a node of its own until a signal comes."""
    async with Node(f"{name}@127.0.0.1:0") as node:
        await node.start(role, name=role.module)
        await node.services.register(role.module, role.resource, role.requires)
        await meet(node, folder)
        await node.run_until_signal()


def main(name: str, make: Callable[[Path], Role]) -> None:
    """Read the command line, and play a role."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default=name, help=f"of the node (default: {name})")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where the nodes meet (default: {FOLDER})")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(play(make(arguments.folder), arguments.name, arguments.folder))
