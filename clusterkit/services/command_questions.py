"""Commands for which this node asks others: side by side, each for so long, and never in the turn of the server.

Who does not answer in time is named, and holds up nobody. They are tasks of the server,
and end with it.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from clusterkit.actors.gen_server import GenServer
from clusterkit.core.identity import NodeId
from clusterkit.core.members import State
from clusterkit.core.payload import encode
from clusterkit.errors import CallError, CallTimeout, ClusterError, NodeDown, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.inbound import COMMAND_SERVER
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.gossip_ring import GossipRing
from clusterkit.runtime import now, until
from clusterkit.services.command_ring import known
from clusterkit.services.command_views import tell_node, tell_view

if TYPE_CHECKING:
    from clusterkit.node import Node

_PING = 1.0  # seconds
_GONE = 1.0  # seconds for the news that a member has left, when its link is gone
_HEAD = 1_024  # bytes of an answer beside the views
_MOST_WHY = 256


class Others:
    """The command servers of the other members, for one that asks them."""

    def __init__(self, kernel: Kernel, ring: GossipRing) -> None:
        self._kernel = kernel
        self._ring = ring

    async def ask(self, node: NodeId, command: str, args: Iterable[Any] = (), timeout: float = 2.0) -> Any:
        """Give a command to the command server of a node, this one too; raises what that raises, or a `CallError`."""
        there = None if node.name == self._kernel.id.name else node
        return await self._kernel.call(Address(there, COMMAND_SERVER), command, tuple(args), {}, timeout)

    # -- round trips

    async def round_trips(self) -> dict[str, float]:
        """Ping all members that are up, for a second at the most; those that answered, in seconds."""
        up = [member.node for member in self._ring.members if not member.is_out and member.name != self._kernel.id.name]
        times = await asyncio.gather(*(self._round_trip(node) for node in up))
        return {node.name: time for node, time in zip(up, times, strict=True) if time is not None}

    async def _round_trip(self, node: NodeId) -> float | None:
        start = now()
        with suppress(ClusterError):
            await self.ask(node, "ping", timeout=_PING)
            return now() - start
        return None

    # -- views

    async def check(self, timeout: float) -> dict[str, Any]:
        """What each member sees, and why the others do not say it. Those that are down are asked too."""
        me = self._kernel.id.name
        others = [node for node in self._ring.nodes if node.name != me]
        answers = await asyncio.gather(*(self._view(node, timeout) for node in others))
        views = [tell_view(self._kernel, self._ring), *(each for each in answers if isinstance(each, dict))]
        silent = {node.name: each for node, each in zip(others, answers, strict=True) if isinstance(each, str)}
        views.sort(key=lambda view: str(view["name"]))
        return self._fitting({"views": views, "silent": silent})

    async def _view(self, node: NodeId, timeout: float) -> dict[str, Any] | str:
        """The view of a member, or why there is none."""
        try:
            view = await self.ask(node, "view", timeout=timeout)
        except CallTimeout:
            return f"no answer within {timeout:g} s"
        except NodeDown as error:
            return f"down: {error.reason}"[:_MOST_WHY]
        except Exception as error:  # noqa: BLE001 - whatever it raised, it gave no view
            return f"{type(error).__name__}: {error}"[:_MOST_WHY]
        if not isinstance(view, dict) or view.get("name") != node.name or not {"members", "reaches"} <= view.keys():
            return "answers what cannot be read"
        return view

    def _fitting(self, checked: dict[str, Any]) -> dict[str, Any]:
        """Leave out of a large ring's views what one message does not take: see `fold`."""
        most = self._kernel.config.message_limit - _HEAD
        views = checked["views"]
        for fitting in (lambda: views, lambda: fold(views), lambda: fold(views, whole=1)):
            checked["views"] = fitting()
            if len(encode(checked)) <= most:
                break
        return checked

    async def diff(self, name: str) -> dict[str, Any]:
        """What this node sees, and what another member does; raises `UnknownNode`, `CallError`."""
        there = await self.ask(known(self._ring, name), "view")
        return {"here": tell_view(self._kernel, self._ring), "there": there}

    # -- through this node

    async def through(self, name: str, command: str, args: list[Any], timeout: float) -> Any:
        """Give a command to the command server of a member; raises what that raises, `UnknownNode`, `CallError`."""
        if command == "through":
            raise UsageError("a command goes through one node: ask that node, or the member itself")
        node = known(self._ring, name)
        try:
            return await self.ask(node, command, args, timeout)
        except NodeDown as error:
            if command != "leave" or error.executed == "no" or not await self._has_gone(node.name):
                raise
            return tell_node(node) | dict.fromkeys(("version", "uptime", "at")) | {"ring": ""}  # it told all, and went

    async def _has_gone(self, name: str) -> bool:
        """Whether a member has left the ring, as this node sees it, or does so in a moment."""
        news, deadline = asyncio.Event(), now() + _GONE
        end = self._ring.presence.follow(lambda _name: news.set())
        try:
            while not (gone := self._is_gone(name)) and now() < deadline:
                news.clear()
                with suppress(TimeoutError):
                    await until(deadline, news.wait())
        finally:
            end()
        return gone

    def _is_gone(self, name: str) -> bool:
        member = self._ring.member(name)
        return member is None or member.state is State.LEFT


def fold(views: list[dict[str, Any]], *, whole: int | None = None) -> list[dict[str, Any]]:
    """Say nothing twice: of ``reaches`` the False alone, and ``members`` None where they are those of the view named ``same``.

    At most ``whole`` views keep their ``members``; of the others ``same`` is None too.

    >>> views = [{"name": name, "members": {"a": 1}, "reaches": {"a": name == "a", "b": True}} for name in "ab"]
    >>> fold(views)[1]
    {'name': 'b', 'members': None, 'reaches': {'a': False}, 'same': 'a'}
    """
    said: list[dict[str, Any]] = []
    folded: list[dict[str, Any]] = []
    for view in views:
        reaches = {name: reached for name, reached in view["reaches"].items() if not reached}
        like = next((each for each in said if each["members"] == view["members"]), None)
        if like is None and (whole is None or len(said) < whole):
            said.append(view)
            folded.append(view | {"reaches": reaches})
        else:
            same = like["name"] if like is not None else None
            folded.append(view | {"members": None, "reaches": reaches, "same": same})
    return folded


async def ask_server(node: "Node", on: str, server: str, event: str, data: Any, timeout: float) -> dict[str, Any]:
    """Call a server on a member, and tell how it went."""
    started = now()
    try:
        ref = node.ref(GenServer, server, on=on).with_(timeout=timeout)
        answer: dict[str, Any] = {"ok": True, "value": await ref.call(event, data)}
    except Exception as error:  # noqa: BLE001 - what the server raised is its answer
        answer = _tell_failure(error)
    return answer | {"seconds": now() - started}


async def tell_server(node: "Node", on: str, server: str, event: str, data: Any, timeout: float) -> dict[str, Any]:
    """Cast to a server on a member, and tell whether its queue took it."""
    started = now()
    try:
        await node.ref(GenServer, server, on=on).with_(timeout=timeout).cast(event, data)
    except Exception as error:  # noqa: BLE001 - why it was not sent is the answer
        return _tell_failure(error) | {"seconds": now() - started}
    return {"ok": True, "seconds": now() - started}


def _tell_failure(error: Exception) -> dict[str, Any]:
    executed = error.executed if isinstance(error, CallError) else "maybe"
    return {"ok": False, "error": type(error).__name__, "message": str(error), "executed": executed}
