"""How values follow the ownership of their keys, so that the source is not asked for what a node has already.

- A new owner asks those that owned the key before it, when it misses it.
- A node that leaves owns nothing from then on, and offers what it holds to the new
  owners, the latest used first; they fetch what they lack. Whoever wants a key meanwhile
  finds it with the first rule.

Every value is fetched by a question of the one that will hold it, never pushed: so it
is known which invalidations overtook it (`clusterkit.core.invalidations`).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator

from clusterkit.core.cache_store import CacheStore, Entry
from clusterkit.core.identity import NodeId
from clusterkit.core.invalidations import Invalidation, pack_told, size_of
from clusterkit.errors import CallError
from clusterkit.runtime import now
from clusterkit.services.cache_loads import Loaded
from clusterkit.services.cache_peers import CachePeers
from clusterkit.services.cache_server import MOST_OFFERED, read_entry, read_reply
from clusterkit.services.cache_spread import Call, Spread

logger = logging.getLogger("clusterkit.cache")

_COST = 5  # bytes of a key in a message, beside its text
_GIVING = 2.0  # seconds for one message of values


class Handover:
    """The values of one group that come to this node, or leave with it. ``ask`` calls the group's actor on another node."""

    def __init__(
        self, store: CacheStore, peers: CachePeers, spread: Spread, ask: Call, *, patience: float, most: int
    ) -> None:
        self._store = store
        self._most = most
        self._spread = spread
        self._peers = peers
        self._ask = ask
        self._patience = patience

    async def ask_former(
        self, key: str, skip: Callable[[str], bool], pass_over: Callable[[NodeId, Exception], None]
    ) -> Entry | None:
        """What a node that owned a key before still holds of it; those that give no word are passed over from then on."""
        for node in self._peers.former(key):
            if skip(node.name):
                continue
            question = key, pack_told(self._store.log.about(key, now(), self._spread.behind(node.name)))
            try:
                _, found, _ = read_reply(await self._ask(node, "peek", question, self._patience / 2), now)
            except Exception as error:  # noqa: BLE001 - then the next is asked, and at last the source
                pass_over(node, error)
                continue
            if isinstance(found, Loaded):
                return found.entry
        return None

    async def offer_all(self, deadline: float) -> None:
        """Have the owners of what is held here fetch it, until the deadline."""
        for keys in self._parts(list(self._store.own.newest())):
            offers: dict[NodeId, list[str]] = {}
            for key in keys:
                if (owner := self._peers.pick(key)) is not None:
                    offers.setdefault(owner, []).append(key)
            left = deadline - now()
            if left <= 0:
                return
            await asyncio.gather(*(self._offer(owner, some, left) for owner, some in offers.items()))

    def _parts(self, keys: list[str]) -> Iterator[list[str]]:
        """Keys, as many as one message takes at a time."""
        part: list[str] = []
        size = 0
        for key in keys:
            size += len(key.encode()) + _COST
            if part and (size > self._most or len(part) == MOST_OFFERED):
                yield part
                part, size = [], len(key.encode()) + _COST
            part.append(key)
        if part:
            yield part

    async def _offer(self, owner: NodeId, keys: list[str], timeout: float) -> None:
        try:
            await self._ask(owner, "offer", (keys,), timeout)
        except CallError as error:
            logger.info("%s does not take over %d values: %s", owner, len(keys), error)

    async def fetch(self, giver: NodeId, keys: list[str]) -> int:
        """Fetch what another node has of some keys; return how many are stored."""
        log, stored = self._store.log, 0
        while keys and (told := self._told(giver)) is not None:
            began = log.seq
            given = await self._ask(giver, "give", (keys, pack_told(told)), _GIVING)
            at = now()
            for key, kind, body, left in zip(*[iter(given)] * 4, strict=True):
                stored += self._store.keep(key, read_entry(kind, body, left, now), began, at)
            if not given:
                break
            keys = keys[keys.index(given[-4]) + 1 :]
        return stored

    def _told(self, giver: NodeId) -> list[Invalidation] | None:
        """The invalidations to tell with a question about many keys; None when they are too many."""
        log, behind = self._store.log, self._spread.behind(giver.name)
        told = log.recent(now())
        if behind is not None:
            more, seq = log.after(behind)
            if seq != log.seq:
                return None
            told = [*more, *told]
        return told if sum(map(size_of, told)) <= self._most else None
