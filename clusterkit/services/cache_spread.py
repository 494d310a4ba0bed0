"""Tells the other nodes of a cache group what was invalidated, each until it knows.

One task for each node that is behind: it tells what that node may have missed, straight
or through another, again and again, and rests while the node is down. So

- one that was unreachable for a time learns what it missed when it can be reached
  again, from each of the others;
- one that is new here is told what this node made invalid lately, and asked what it made
  invalid since this cache began: it may come from another ring, or this one may, with
  what it holds; and two of the first are asked what anybody made invalid lately;
- what a node made that is down now, the others go on telling in its place.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

from clusterkit.core.cache_store import CacheStore
from clusterkit.core.identity import NodeId
from clusterkit.core.invalidations import Invalidation, Invalidations, pack_told, unpack_told
from clusterkit.errors import CallError, NoSuchServer
from clusterkit.runtime import Tasks, now
from clusterkit.services.cache_peers import CachePeers

Call = Callable[[NodeId, str, tuple[Any, ...], float], Awaitable[Any]]
_TELLING = 2.0  # seconds for one message
Life = tuple[int, int]  # incarnation, and number of the group there
_AGAIN = 0.2  # seconds between two tries
_ENOUGH = 2


class Messenger:
    """Reaches the other nodes; all of it raises `CallError`. ``call`` calls the group's actor on one of them."""

    def __init__(self, call: Call, apply: Callable[[list[Invalidation]], None], store: CacheStore) -> None:
        self._call = call
        self._apply = apply
        self._store = store

    async def tell(self, node: NodeId, told: list[Invalidation]) -> None:
        """Tell a node of invalidations."""
        await self._call(node, "drop", (pack_told(told),), _TELLING)

    async def tell_through(self, via: NodeId, name: str, told: list[Invalidation]) -> bool:
        """Ask a node to tell another one, which does not answer this one; whether it knows now."""
        return bool(await self._call(via, "relay", (name, pack_told(told)), _TELLING))

    async def catch_up(self, node: NodeId, *, lately: bool) -> None:
        """Learn from a node what it made invalid since this cache began, or ``lately`` what anybody did."""
        if lately:
            await self._learn(lambda after: self._call(node, "lately", (after,), _TELLING))
        await self._learn(lambda after: self._call(node, "missed", (after, now() - self._store.since), _TELLING))

    async def _learn(self, ask: Callable[[int], Awaitable[Any]]) -> None:
        after, more = -1, True
        while more:
            after, *flat = await ask(after)
            self._apply(unpack_told(flat))
            more = bool(flat)


class Spread:
    """What each of the others may not know yet."""

    def __init__(
        self, group: str, log: Invalidations, messenger: Messenger, peers: CachePeers, *, patience: float
    ) -> None:
        self.informed = asyncio.Event()
        """Set when this node knows what was invalidated before it came, or was not told within ``patience`` seconds."""
        self.informed.set()
        self._log = log
        self._messenger = messenger
        self._peers = peers
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0  # nodes that were asked for all that was invalidated lately
        self._heard = 0  # of them, those that said it
        self._behind: dict[str, int] = {}  # after which `seq` a node may know nothing
        self._running: dict[str, None] = {}  # those that are being told
        self._waiting: dict[str, list[tuple[int, asyncio.Future[bool]]]] = {}
        self._met: dict[str, Life] = {}  # those that are up
        self._known: dict[str, Life] = {}  # those that were met before
        self._strange: dict[str, None] = {}  # of them, those that have not asked yet what was made invalid here
        self._caught_up: dict[str, int] = {}  # those that have, and in which incarnation
        self._turns = count()
        self._tasks = Tasks(f"cache/{group}")

    async def aclose(self) -> None:
        """Tell nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self.informed.set()
        await self._tasks.aclose()
        for name in list(self._waiting):
            self._answer(name, -1)

    def behind(self, name: str) -> int | None:
        """After which `seq` a node may know nothing; None when it knows all."""
        return self._log.oldest if name in self._strange else self._behind.get(name)

    def changed(self, name: str) -> None:
        """Take note that a node came, went, or is down or up again."""
        life = self._peers.lives.get(name)
        if life is None:
            self._lost(name)
            for each in (self._behind, self._known, self._strange, self._caught_up):
                each.pop(name, None)
        elif self._peers.is_out(name):
            self._lost(name)
            self._put_behind(name, self._log.lately(now()))
        else:
            if self._met.get(name) != life:
                self._lost(name)
                self._meet(name, life)
            self._go_on(name)

    def _lost(self, name: str) -> None:
        """A node is gone, or its life is over: nobody waits for it, and what it made the others tell on."""
        self._answer(name, -1)
        if self._met.pop(name, None) is not None:
            self._take_over(name)

    def _meet(self, name: str, life: Life) -> None:
        self._met[name] = life
        if self._known.get(name) == life:
            return
        self._known[name] = life
        if not self._asked and self.informed.is_set():
            self.informed.clear()
            self._timer = asyncio.get_running_loop().call_later(self._patience, self.informed.set)
        if self._caught_up.get(name) != life[0]:
            self._strange[name] = None
        self._tasks.spawn(self._exchange(name, life), f"meet {name}")

    async def relay(self, name: str, told: list[Invalidation]) -> bool:
        """Tell a node for another one; whether it knows now."""
        node = self._peers.members.get(name)
        if node is not None:
            with suppress(CallError):
                await self._messenger.tell(node, told)
                return True
        return False

    def caught_up(self, node: NodeId) -> None:
        """Take note that a node has asked for all that was made invalid here; it may do so before it is met."""
        self._caught_up[node.name] = node.incarnation
        self._strange.pop(node.name, None)

    def moved(self) -> None:
        """Begin anew, in another ring."""
        if self._timer is not None:
            self._timer.cancel()
        self.informed.set()
        self._asked = self._heard = 0

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

    async def _exchange(self, name: str, life: Life) -> None:
        """Tell one that was met just now what it may not know, and ask it the same."""
        lately = self._asked < _ENOUGH
        self._asked += lately
        try:
            await self._until_done(name, life, self._tell_own)
            await self._until_done(name, life, lambda node: self._messenger.catch_up(node, lately=lately))
        finally:
            self._heard += lately
            if self._heard >= min(_ENOUGH, len(self._met)):
                self.informed.set()

    async def _until_done(self, name: str, life: Life, work: Callable[[NodeId], Awaitable[None]]) -> None:
        """Do something with a node, again and again until it succeeds or that life of the node is over."""
        while self._met.get(name) == life and (node := self._peers.members.get(name)) is not None:
            try:
                await work(node)
            except NoSuchServer:
                return
            except CallError:
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _tell_own(self, node: NodeId) -> None:
        """Tell a node what this one made invalid lately."""
        told, after = self._log.after(self._log.lately(now()), own=True)
        while told:
            await self._messenger.tell(node, told)
            told, after = self._log.after(after, own=True)

    def _answer(self, name: str, seq: int) -> None:
        """Tell those who wait that a node knows all up to ``seq``; -1: that it cannot be reached."""
        waiting = self._waiting.pop(name, [])
        for upto, told in waiting:
            if 0 <= seq < upto:
                self._waiting.setdefault(name, []).append((upto, told))
            elif not told.done():
                told.set_result(seq >= upto)
