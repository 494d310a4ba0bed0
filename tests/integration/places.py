"""Where an actor is for those who send to it: on their own node, or on another one."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import pytest

from clusterkit import Config, GenServer, Node, Ref
from tests.conftest import QUICK, NodeFactory, eventually

A = TypeVar("A", bound=GenServer)
Where = Literal["here", "there"]
everywhere = pytest.mark.parametrize("where", ["here", "there"])
HURRIED = replace(QUICK, drain_timeout=0.2)  # many tests leave a handler at a gate


@dataclass(frozen=True, slots=True)
class Place:
    """The node that sends, and the one that the actors are on."""

    asker: Node
    home: Node

    @property
    def is_here(self) -> bool:
        return self.asker is self.home

    async def start(self, actor: A, name: str) -> Ref[A]:
        """Start an actor at home; return what the asker calls it by."""
        await self.home.start(actor, name=name)
        return self.ref(type(actor), name)

    def ref(self, cls: type[A], name: str) -> Ref[A]:
        return self.asker.ref(cls, name, on=self.home.id.name)

    def process_ref(self, cls: type[A], name: str) -> Ref[A]:
        """What the asker calls the very process that has a name now."""
        found = self.home.whereis(name, cls)
        assert found is not None
        kernel = self.asker._open_kernel()
        return Ref(kernel, cls, found.address_for(kernel))


async def place_of(start_node: NodeFactory, where: str, config: Config = HURRIED) -> Place:
    """One node, or two that know each other."""
    home = await start_node("home", config=config)
    if where == "here":
        return Place(home, home)
    asker = await start_node("asker", seeds=(home,), config=config)
    await eventually(lambda: "asker" in home.ring and "home" in asker.ring)
    return Place(asker, home)


class Gate:
    """A door that handlers wait at, and that a test opens."""

    def __init__(self) -> None:
        self.waiting = 0
        self._open = asyncio.Event()

    async def passed(self) -> None:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1

    def open(self) -> None:
        self._open.set()

    async def reached(self, count: int = 1) -> None:
        """Wait until so many stand at it."""
        await eventually(lambda: self.waiting == count)


class Keeper(GenServer):
    """Keeps what it is told, after a gate if it has one."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate = gate
        self.seen: list[Any] = []
        self.reason: object = None

    async def _note(self, what: Any) -> None:
        if self.gate is not None:
            await self.gate.passed()
        self.seen.append(what)

    async def handle_call(self, request: Any, frm: Any) -> Any:
        await self._note(("call", *request) if isinstance(request, list | tuple) else request)
        return len(self.seen)

    async def handle_cast(self, request: Any) -> None:
        await self._note(("cast", *request) if isinstance(request, list | tuple) else request)

    async def handle_info(self, info: Any) -> None:
        await self._note(info)

    async def terminate(self, reason: object) -> None:
        self.reason = reason
