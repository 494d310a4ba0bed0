"""Two kernels on a network in memory that are linked, with mailboxes that nobody reads unless a test does."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from clusterkit.kernel.address import Address
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import From, Inbox, Mailbox, Overflow
from clusterkit.testing.network import World
from clusterkit.transport.link import Link
from tests.conftest import eventually
from tests.unit.ring.kernels import Floors

SOON = 0.2  # seconds in which all that moves by itself has moved


class Ears:
    """A process as the kernel knows it: it hears which linked process ended, and how."""

    turn: str | None = None

    def __init__(self) -> None:
        self.exits: list[tuple[Address, str]] = []

    def is_held_by(self, frm: From) -> bool:
        return False

    def give_up(self, link: Any, number: int, waiting: Any) -> None:
        raise AssertionError("nobody gives up here")

    def exited(self, address: Address, reason: str) -> None:
        self.exits.append((address, reason))


class Pair:
    """Kernel a, which has dialled b."""

    def __init__(self, a: Kernel, b: Kernel, link: Link, world: World) -> None:
        self.a = a
        self.b = b
        self.link = link
        self.world = world

    @property
    def back(self) -> Link:
        """The link of b to a."""
        link = self.b.links.get("a")
        assert link is not None
        return link

    def at_b(self, to: str | int) -> Address:
        """What a calls a process of b."""
        return Address(self.b.id, to, pinned=isinstance(to, int))

    def at_a(self, to: str | int) -> Address:
        """What b calls a process of a."""
        return Address(self.back.peer, to, pinned=isinstance(to, int))

    async def cast(self, to: str, size: int = 0, timeout: float = 1.0) -> None:
        """Cast from a to a process of b."""
        await self.a.cast(self.at_b(to), "note", (b"x" * size,), {}, timeout)


def open_inbox(kernel: Kernel, name: str, limit: int = 1_000, overflow: Overflow = "reject") -> tuple[Inbox, Ears]:
    inbox = kernel.register(name, Mailbox(limit, overflow=overflow))
    inbox.holder = ears = Ears()
    return inbox, ears


def end(kernel: Kernel, inbox: Inbox, reason: str) -> None:
    """End a process as its runtime does."""
    kernel.unregister(inbox)
    kernel.monitors.ended(inbox, reason)


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[Pair]:
    async with Floors() as floors:
        a, b = await floors.kernel("a"), await floors.kernel("b")
        link = await a.links.dial_seed(b.id.host, b.id.port)
        a.links.link_to(b.id).want()
        await eventually(lambda: link.open)
        yield Pair(a, b, link, floors.world)
