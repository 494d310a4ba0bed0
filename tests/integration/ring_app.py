"""A node in a process of its own that does what a test orders through a socket in the file system: see real_ring.py.

An order is a line of JSON on a connection of its own, and so is its answer. The socket is a
file, not a port, so it is there on every host of `clusterkit.testing.namespaces`, cut off or not.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from clusterkit import (
    ClusterError,
    GenServer,
    MemberDown,
    MemberJoined,
    MemberLeft,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    NameConflict,
    Node,
    call,
)
from clusterkit.core.liveness import Liveness
from clusterkit.core.liveness_events import Accuse, Effect, Event
from clusterkit.core.ring_entry import resolve
from clusterkit.core.ring_messages import State, unpack
from clusterkit.runtime import environment, now
from clusterkit.testing.child import report

TOLD = (MemberJoined, MemberUp, MemberSuspect, MemberDown, MemberLeft, MemberRemoved, MemberUpdated)
ACTOR = "counter"


class OtherClock:
    """The real world with a wall clock that is ``ahead`` by so many seconds."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self._world = environment()

    def wall_time(self) -> float:
        return self._world.wall_time() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


class Counter(GenServer):
    """Counts its calls, and is able to hold up its whole process."""

    def __init__(self) -> None:
        self.calls = 0

    @call
    async def count(self) -> int:
        self.calls += 1
        return self.calls

    @call
    async def block(self, duration: float) -> float:
        time.sleep(duration)  # the fault of the user's that is tested
        return now()


def witness_accusations() -> list[dict[str, Any]]:
    """Return a list that all accusations of this process are added to, those of others not."""
    accusations: list[dict[str, Any]] = []
    step = Liveness.step

    def witnessed(self: Liveness, event: Event, at: float) -> list[Effect]:
        effects = step(self, event, at)
        accusations.extend({"name": each.name, "at": at} for each in effects if isinstance(each, Accuse))
        return effects

    setattr(Liveness, "step", witnessed)  # noqa: B010 - mypy lets nobody assign to a method
    return accusations


class Obeyed:
    """What a node is told to do, and what it was told by its ring."""

    def __init__(self, node: Node, clock: OtherClock) -> None:
        self._node = node
        self._clock = clock
        self._events: list[dict[str, Any]] = []
        self._accusations = witness_accusations()
        for kind in TOLD:
            node.ring.on(kind, self._note)
        node.ring.on(NameConflict, lambda error: self._events.append({"kind": "NameConflict", "why": str(error)}))
        self._own: dict[str, Callable[..., Awaitable[Any]]] = {
            "view": self.view,
            "events": self.events,
            "accusations": self.accusations,
            "count": self.count,
            "block": self.block,
            "set_clock": self.set_clock,
            "saved": self.saved,
        }

    def _note(self, event: Any) -> None:
        member = event.member
        known = {"name": member.name, "incarnation": member.node.incarnation, "why": member.why}
        self._events.append({"kind": type(event).__name__, **known})

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one order; its answer is what it returned, or the error."""
        order = json.loads(await reader.readline())
        try:
            ordered = self._own.get(order["do"]) or getattr(self._node.ring, order["do"])
            answer = {"answer": await ordered(*order["arguments"], **order["options"])}
        except (ClusterError, OSError) as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def view(self) -> dict[str, Any]:
        """All that the node sees now."""
        ring = self._node.ring
        members = [
            {
                "name": each.name,
                "node": str(each.node),
                "incarnation": each.node.incarnation,
                "state": str(each.state),
                "ready": each.ready,
                "weight": each.weight,
                "why": each.why,
            }
            for each in ring.members
        ]
        agree = [each.node for each in ring.members] == ring.nodes
        assert agree
        assert {each.name: each.weight for each in ring.members} == ring.weights
        return {"ring": ring.id, "incarnation": self._node.id.incarnation, "members": members}

    async def events(self) -> list[dict[str, Any]]:
        """All that its ring told, in order."""
        return self._events

    async def accusations(self) -> list[dict[str, Any]]:
        """Whom it accused itself, in order."""
        return self._accusations

    async def count(self, on: str) -> int:
        """Call the counter of a node."""
        return await self._node.ref(Counter, ACTOR, on=on).call(Counter.count)

    async def block(self, duration: float) -> float:
        """Have a handler hold up the event loop; return when it was let go, on its own clock."""
        return await self._node.ref(Counter, ACTOR).with_(timeout=duration + 10.0).call(Counter.block, duration)

    async def set_clock(self, ahead: float) -> None:
        """Let the wall clock jump."""
        self._clock.ahead = ahead

    async def saved(self) -> dict[str, int]:
        """The weights of the members that are in the state directory, by name."""
        store = self._node._keeping._store
        if store is None or store.saved is None:
            return {}
        message = unpack(store.saved.state)
        assert isinstance(message, State)
        return {name: resolve(siblings).weight for name, siblings in message.full.entries.items() if siblings}


async def serve(argument: dict[str, Any]) -> None:
    """Run a node: report where it listens, obey, join if told so, report what came of it, and stay."""
    clock = OtherClock(argument["ahead"])
    setattr(asyncio.get_running_loop(), "environment", clock)  # noqa: B010 - a loop has no such attribute for mypy
    try:
        async with Node(argument["address"], state_dir=argument["state_dir"]) as node:
            await node.start(Counter(), name=ACTOR)
            obeyed = Obeyed(node, clock)
            async with await asyncio.start_unix_server(obeyed.obey, argument["orders"]):
                report(listening=str(node.id), incarnation=node.id.incarnation)
                await join(node, argument)
                await node.run_until_signal()
    except ClusterError as error:
        report(failed=type(error).__name__, text=str(error))


async def join(node: Node, argument: dict[str, Any]) -> None:
    """Join the ring if there is one to join."""
    if argument["ring"] is None:
        return
    try:
        await node.ring.join(argument["ring"], argument["seeds"], timeout=argument["patience"])
    except ClusterError as error:
        report(refused=type(error).__name__, text=str(error), came=True)
    else:
        report(joined=str(node.id), incarnation=node.id.incarnation, came=True)
