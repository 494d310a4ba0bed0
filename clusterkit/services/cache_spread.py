"""Tells the other nodes of a cache group what was invalidated, each until it knows.

One task for each node that is behind: it tells what that node may have missed, straight
or through another, again and again, and rests while the node is down. So

- one that was unreachable for a time learns what it missed when it can be reached
  again, from each of the others;
- one that is new here is told what was invalidated lately, and asked what was since this
  cache began: it may come from another ring, or this one may, with what it holds;
- what a node made that is down now, the others go on telling in its place.
"""

import asyncio
from itertools import count
from typing import Protocol

from clusterkit.core.identity import NodeId
from clusterkit.core.invalidations import Invalidation, Invalidations
from clusterkit.errors import CallError, NoSuchServer
from clusterkit.runtime import Tasks, now
from clusterkit.services.cache_peers import CachePeers

_AGAIN = 0.2  # seconds between two tries


class Messenger(Protocol):
    """Reaches the other nodes; all of it raises `CallError`."""

    async def tell(self, node: NodeId, told: list[Invalidation]) -> None:
        """Tell a node of invalidations."""

    async def tell_through(self, via: NodeId, name: str, told: list[Invalidation]) -> bool:
        """Ask a node to tell another one; whether it knows now."""

    async def catch_up(self, node: NodeId) -> None:
        """Learn from a node what was invalidated since this cache began."""


class Spread:
    """What each of the others may not know yet."""

    def __init__(self, group: str, log: Invalidations, messenger: Messenger, peers: CachePeers) -> None:
        self._log = log
        self._messenger = messenger
        self._peers = peers
        self._behind: dict[str, int] = {}  # after which `seq` it may know nothing
        self._running: dict[str, None] = {}
        self._waiting: dict[str, list[tuple[int, asyncio.Future[bool]]]] = {}
        self._met: dict[str, tuple[int, int]] = {}  # those that are up, and which life of each it is
        self._known: dict[str, tuple[int, int]] = {}  # those that were met before, in the same lives
        self._turns = count()
        self._tasks = Tasks(f"cache/{group}")

    async def aclose(self) -> None:
        """Tell nobody any more."""
        await self._tasks.aclose()
        for name in list(self._waiting):
            self._answer(name, -1)

    def behind(self, name: str) -> int | None:
        """After which `seq` a node may know nothing; None when it knows all."""
        return self._behind.get(name)

    def changed(self, name: str) -> None:
        """Take note that a node came, went, or is down or up again."""
        life = self._peers.lives.get(name)
        if life is None or self._peers.is_out(name):
            if self._met.pop(name, None) is not None:
                self._take_over(name)
            if life is None:
                self._behind.pop(name, None)
                self._known.pop(name, None)
            else:
                self._put_behind(name, self._log.lately(now()))
            self._answer(name, -1)
            return
        if (met := self._met.get(name)) != life:
            if met is not None:
                self._take_over(name)
            self._met[name] = life
            self._put_behind(name, self._log.lately(now()))
            if self._known.get(name) != life:
                self._known[name] = life
                self._tasks.spawn(self._catch_up(name, life), f"ask {name}")
        self._go_on(name)

    def heard(self, what: Invalidation) -> None:
        """Take note of one that another node told: what is made by one that is gone, this node tells on."""
        if self._peers.is_out(what.name):
            self._tell_all(self._log.seq - 1)

    def _take_over(self, name: str) -> None:
        """Tell all what one that is gone may have told to some."""
        if (seq := self._log.lately_by(name, now())) is not None:
            self._tell_all(seq)

    def _tell_all(self, after: int) -> None:
        for each in self._met:
            self._put_behind(each, after)
            self._go_on(each)

    def _put_behind(self, name: str, after: int) -> None:
        self._behind[name] = min(after, self._behind.get(name, after))

    def tell(self, name: str, after: int) -> asyncio.Future[bool]:
        """Tell a node what was invalidated after a `seq`; the future says whether it knows all until now, False once it is down."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._put_behind(name, after)
        if self._peers.is_out(name):
            told.set_result(False)
        else:
            self._waiting.setdefault(name, []).append((self._log.seq, told))
            self._go_on(name)
        return told

    def _go_on(self, name: str) -> None:
        if name in self._behind and name not in self._running:
            self._running[name] = None
            self._tasks.spawn(self._bring_up(name), f"tell {name}")

    async def _bring_up(self, name: str) -> None:
        try:
            while (after := self._behind.get(name)) is not None and not self._peers.is_out(name):
                told, seq = self._log.after(after)
                if told and not await self._told(name, told):
                    await asyncio.sleep(_AGAIN)
                elif self._behind.get(name) == after:
                    self._behind[name] = seq
                    self._answer(name, seq)
                    if seq == self._log.seq:
                        del self._behind[name]
        finally:
            del self._running[name]

    async def _told(self, name: str, told: list[Invalidation]) -> bool:
        node = self._peers.members.get(name)
        try:
            if node is not None:
                await self._messenger.tell(node, told)
        except NoSuchServer:  # it serves the group no more, and holds nothing of it
            return True
        except CallError:
            return await self._told_through_another(name, told)
        return True

    async def _told_through_another(self, name: str, told: list[Invalidation]) -> bool:
        others = [node for each in self._met if each != name and (node := self._peers.members.get(each)) is not None]
        if not others:
            return False
        try:
            return await self._messenger.tell_through(others[next(self._turns) % len(others)], name, told)
        except CallError:
            return False

    async def _catch_up(self, name: str, life: tuple[int, int]) -> None:
        """Ask one that was met just now, until it has answered or is gone."""
        while self._met.get(name) == life and (node := self._peers.members.get(name)) is not None:
            try:
                await self._messenger.catch_up(node)
            except NoSuchServer:
                return
            except CallError:
                await asyncio.sleep(_AGAIN)
            else:
                return

    def _answer(self, name: str, seq: int) -> None:
        """Tell those who wait that a node knows all up to ``seq``; -1: that it cannot be reached."""
        waiting = self._waiting.pop(name, [])
        for upto, told in waiting:
            if 0 <= seq < upto:
                self._waiting.setdefault(name, []).append((upto, told))
            elif not told.done():
                told.set_result(seq >= upto)
