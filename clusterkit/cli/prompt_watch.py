"""The watch of the prompt: follows the node that is addressed, and tells who comes and goes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from clusterkit.cli.event_lines import Notices
from clusterkit.cli.failure import Failure
from clusterkit.cli.follow import CONNECTED, DISCONNECTED, Event, Wire, follow

_AGAIN = 1.0  # seconds between two tries to reach a node that was never there


class Watch:
    """Follows one node for as long as it runs; ``post`` takes the notices. One that is ``known`` by name needs no introduction."""

    def __init__(self, given: Mapping[str, Any], timeout: float, post: Callable[[str], None], known: str = "") -> None:
        self._events = Wire(given, timeout)
        self._questions = Wire(given, timeout)
        self._post = post
        self._notices = Notices()
        self._is_lost = False
        self._known = known
        self._met = False

    @property
    def shown(self) -> str:
        """The node, as the prompt names it."""
        peer = self._events.peer
        name = peer.name if peer is not None else self._known
        name = f"{name}@{self._events.where}" if name else self._events.where
        return f"{name} (lost)" if self._is_lost else name

    async def run(self) -> None:
        """Follow the node, also one that is not there yet."""
        said = ""
        try:
            while True:
                try:
                    await follow(self._events, self._told)
                except Failure as failure:
                    if failure.message != said:
                        said = failure.message
                        self._post(f"{failure.message}; trying again ({failure.hint})")
                await asyncio.sleep(_AGAIN)
        finally:
            await self._events.aclose()
            await self._questions.aclose()

    def _told(self, event: Event) -> None:
        if event["type"] in (CONNECTED, DISCONNECTED):
            self._is_lost = event["type"] == DISCONNECTED
        peer = self._events.peer
        met, self._met = self._met, True
        if not met and self._known and event["type"] == CONNECTED:
            return
        if text := self._notices.of(event, peer.name if peer is not None else ""):
            self._post(text)

    async def ask(self, command: str, *args: Any) -> Any:
        """Ask the node something, for completion; raises `Failure`."""
        if command == "through" and self._events.peer is not None and args[0] == self._events.peer.name:
            _, command, args, _ = (args[0], args[1], tuple(args[2]), args[3])
        return await self._questions.call(command, *args)
