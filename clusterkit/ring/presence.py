"""What this node tells of itself in its ring, and what the services above hear of the others.

Metadata is kept here between rings, in parts that do not know of each other: each
service, and the user, has keys of its own. Whoever follows hears the name of each
member of which anything changed, and looks for itself: also when this node is out of
the ring, and others are gone for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from clusterkit.core.payload import decode_without_messages, encode
from clusterkit.core.ring_packing import MOST_META
from clusterkit.errors import ConfigError, UnsupportedPayload, UsageError
from clusterkit.runtime import Tasks, now

logger = logging.getLogger("clusterkit.ring")

_RESERVED = "clusterkit."
Work = Callable[[float], Awaitable[object]]


class Presence:
    """The own entry's metadata; ``told`` is called with it, packed, whenever it changes."""

    def __init__(self, told: Callable[[bytes], None]) -> None:
        self.meta: dict[str, Any] = {}
        self.packed = b""
        self._told = told
        self._followers: dict[Callable[[str], object], None] = {}
        self._leaving: dict[Work, None] = {}

    def announce(self, key: str, value: Any) -> None:
        """Put a value under a key of the user's; None takes it away."""
        if not isinstance(key, str) or key.startswith(_RESERVED):
            raise ConfigError(f"{key!r} is no key for metadata: a str that does not begin with {_RESERVED!r}")
        self.put(key, value)

    def put(self, key: str, value: Any) -> None:
        """Put a value under a key; None takes it away. Raises before anything is changed."""
        meta = {each: kept for each, kept in {**self.meta, key: value}.items() if kept is not None}
        packed = encode(meta, "meta") if meta else b""
        if packed and encode(decode_without_messages(packed)) != packed:
            raise UnsupportedPayload(
                f"{key!r} holds a message: not every member may know its class", path=f"meta[{key!r}]"
            )
        if len(packed) > MOST_META:
            raise UsageError(f"{key!r} makes the metadata {len(packed)} bytes long; a node tells {MOST_META} of itself")
        if packed != self.packed:
            self.meta, self.packed = meta, packed
            self._told(packed)

    def follow(self, told: Callable[[str], object]) -> Callable[[], None]:
        """Call ``told`` with the name of each member that may have changed, at once; returns what ends it."""
        self._followers[told] = None
        return lambda: self._followers.pop(told, None)

    def changed(self, name: str) -> None:
        """Tell the followers; one that fails keeps nobody else from hearing."""
        for told in list(self._followers):
            try:
                told(name)
            except Exception:
                logger.exception("a follower of the members failed")

    def before_leave(self, work: Work) -> Callable[[], None]:
        """Await ``work(deadline)`` before this node leaves a ring; returns what takes that back."""
        self._leaving[work] = None
        return lambda: self._leaving.pop(work, None)

    async def hand_over(self, deadline: float) -> None:
        """Let all services give away what others will need, side by side, until the deadline."""
        if not self._leaving:
            return
        tasks = Tasks("hand over")
        each = [tasks.spawn(_run(work, deadline), "service") for work in self._leaving]
        try:
            await asyncio.wait(each, timeout=max(0.0, deadline - now()))
        finally:
            await tasks.aclose()


async def _run(work: Work, deadline: float) -> None:
    await work(deadline)
