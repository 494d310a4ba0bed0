"""`CacheGroup`: a read-through cache that the members of a ring hold together.

A key has one owner, the first in its preference order among the nodes that serve the
group. Who misses a key asks its owner, and the owner loads it: once, however many ask.

- One hop: who is asked answers, also when it would have asked somebody else.
- An owner that gives no word for ``patience`` seconds is passed over: the key is
  loaded here, and kept for ``hot_ttl`` seconds.
- Hot keys are copied near, for ``hot_ttl`` seconds, when their owner says so.
- `CacheGroup.invalidate` reaches every node of the group, and says whom it missed.
- A new owner asks the old one before the source.

A cache is not a store: docs/cache.md has what is promised, and what is not.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from clusterkit.core.cache_store import CacheStore, Entry, Limits, checked_key, checked_seconds
from clusterkit.core.identity import NodeId, check_name
from clusterkit.core.invalidations import ALL, KEY, PREFIX, Invalidation, Invalidations
from clusterkit.core.payload import PayloadError
from clusterkit.errors import (
    ConfigError,
    LoadFailed,
    NoSuchServer,
    UnknownKey,
    UsageError,
)
from clusterkit.kernel.address import Address
from clusterkit.kernel.turns import AMBIENT, inherited
from clusterkit.runtime import until
from clusterkit.services.cache_handover import Handover
from clusterkit.services.cache_loads import Failure, Loaded, Loader, Loads, Outcome
from clusterkit.services.cache_peers import CachePeers, PeerPicker
from clusterkit.services.cache_questions import Questions
from clusterkit.services.cache_results import CacheStats, Fetched, Found, Invalidated
from clusterkit.services.cache_server import (
    CacheServer,
)
from clusterkit.services.cache_spread import Messenger, Spread

if TYPE_CHECKING:
    from clusterkit.node import Node

logger = logging.getLogger("clusterkit.cache")

_AT_ONCE = 256  # keys that `get_many` fetches side by side
_ROOM = 1_024  # bytes of a message beside the value
_GIVEN, _TOLD = 256 << 10, 64 << 10  # bytes of values, and of invalidations, that one message takes

T = TypeVar("T")


class CacheGroup:
    """One node's part of a cache, for as long as its node runs, or until `aclose`.

    All nodes give a group of one name the same loader and times. ``loader`` takes a key: a coroutine function, or a
    plain one, which runs in a thread. It returns bytes or what a message may hold, at most `Config.message_limit`, and
    raises `KeyError` or `UnknownKey` for a key that there is not. With ``owns=False`` this node only
    asks, and needs no loader.

    ``max_bytes`` bounds what this node holds, ``hot_fraction`` of it copies. ``ttl`` None: values live until they are
    invalidated or pushed out. ``negative_ttl``: for how long it is remembered that there is no such key;
    ``stale_if_error``: for how long after its ttl a value is served when the source fails. At most ``load_limit`` loads
    run at once, each for ``load_timeout`` seconds at the most. From ``hot_rate`` questions a second a key is copied by
    those who ask for it. Durations are in seconds. Raises `ConfigError`, `UsageError` when the node does not run,
    `NameInUse` for a second group of one name on a node.
    """

    def __init__(  # noqa: PLR0913 - each has its own reason, and a default
        self,
        node: "Node",
        name: str,
        loader: Loader | None,
        *,
        max_bytes: int = 64 << 20,
        ttl: float | None = None,
        negative_ttl: float = 0.0,
        stale_if_error: float = 0.0,
        hot_ttl: float = 10.0,
        hot_fraction: float = 1 / 8,
        hot_rate: float = 10.0,
        load_limit: int = 64,
        load_timeout: float = 30.0,
        patience: float = 0.5,
        picker: PeerPicker | None = None,
        owns: bool = True,
    ) -> None:
        self.name = check_name(name, "cache group")
        limits = Limits(max_bytes, ttl, negative_ttl, stale_if_error, hot_ttl, hot_fraction, hot_rate)
        if not callable(loader) and (owns or loader is not None):
            raise ConfigError(f"loader is {loader!r}: it must be a function of a key, or None with owns=False")
        self._node = node
        self._ring = node.ring
        self._kernel = node._open_kernel()
        self._kernel.check_loop()
        me = self._kernel.id
        self._run = self._ring.id, me.incarnation
        if self._kernel.closed or self._kernel.links.leaving:
            raise UsageError(f"node {me.name} is closing or closed: it takes part in no cache")
        self._time = self._kernel.loop.time
        self._server = f"clusterkit.cache.{name}"
        checked_seconds("patience", patience)
        self._owns = owns
        self._addresses: dict[str, Address] = {}
        self._hits = self._hot_hits = 0
        self._handing_over = self._closed = False
        self._closing = asyncio.Lock()
        limit = self._kernel.config.message_limit
        self.most_given = min(_GIVEN, limit // 4)
        log = Invalidations(me.name, me.incarnation, self._kernel.new_number, most_told=min(_TOLD, self.most_given))
        self.store = CacheStore(limits, log, self._time())
        self.loads = Loads(
            name,
            self.store,
            loader,
            self._ask_former,
            limit=load_limit,
            timeout=load_timeout,
            most=limit - _ROOM,
            notice=patience / 2,
        )
        self._actor = CacheServer(self)
        self._process = node._spawn(self._actor, self._server)
        self._peers = CachePeers(self._ring, me.name, name, self._kernel.new_number())
        self._picker = picker or self._peers
        self._spread = Spread(
            name, log, Messenger(self._call, self.apply, self.store), self._peers, patience=patience / 2
        )
        self._questions = Questions(
            name,
            self.store,
            self._spread,
            self._call,
            patience=patience,
            time=self._time,
            is_over=lambda: self._kernel.closed,
        )
        self._handover = Handover(
            self.store, self._peers, self._spread, self._call, patience=patience, most=self.most_given
        )
        self._peers.follow(self._changed)
        self._end = self._ring.presence.before_leave(self._hand_over)
        try:
            self._peers.announce(owns)
        except UsageError:  # no room for it in the ring entry
            self._process.kill()
            self._peers.close()
            self._end()
            raise

    def __repr__(self) -> str:
        return f"<CacheGroup {self.name!r} of {self._kernel.id.name}, {len(self.store.own)} entries>"

    # -- getting

    async def get(self, key: str, *, timeout: float = 5.0) -> Any:
        """Return the value of a key, from here, from its owner, or from the source.

        Each caller gets a copy of its own. Raises `UnknownKey`, `LoadFailed`, `CallTimeout` after ``timeout`` seconds (the
        load goes on), `ConfigError` for what is no key: a str of 1 to 1,024 bytes.
        """
        entry = self._held(key) or (await self._wanted(key, timeout)).entry
        return entry.body if entry.is_bytes else self._value(key, entry)

    async def fetch(self, key: str, *, timeout: float = 5.0) -> Fetched:
        """Return the value of a key as `get` does, and where it came from."""
        if (entry := self._held(key)) is not None:
            return Fetched(self._value(key, entry), "hit")
        loaded = await self._wanted(key, timeout)
        return Fetched(self._value(key, loaded.entry), loaded.source)

    def _held(self, key: str) -> Entry | None:
        """What is here of a key, and fresh."""
        if type(key) is not str:
            key = checked_key(key)
        at = self._time()
        if (entry := self.store.find(key, at)) is not None:
            self._hits += 1
        elif self.store.copies.size and (entry := self.store.find_copy(key, at)) is not None:
            self._hot_hits += 1
        return entry

    def _wanted(self, key: str, timeout: float) -> Awaitable[Loaded]:
        """Get what is not here, in time."""
        return self._miss(checked_key(key), self._deadline(timeout))

    def _deadline(self, timeout: float) -> float:
        deadline = self._time() + checked_seconds("timeout", timeout)
        return deadline if AMBIENT.get() is None else inherited(deadline)[0]

    def _value(self, key: str, entry: Entry) -> Any:
        if entry.is_missing:
            raise UnknownKey(f"there is no {key!r} in the source of cache {self.name!r}")
        try:
            return entry.value
        except PayloadError as error:
            raise LoadFailed(f"{key!r} of cache {self.name!r} cannot be read here: {error}") from None

    async def get_many(self, keys: Iterable[str], *, timeout: float = 5.0) -> Found:
        """Return the values of many keys as a dict; its ``failed`` says of each of the others why it is not there.

        ``timeout`` is for all of them together. Raises for what is no key, as `get` does, and `UsageError`.
        """
        if isinstance(keys, str | bytes):
            raise ConfigError(f"keys is a list of them: [{keys!r}]")
        wanted = list(dict.fromkeys(checked_key(key) for key in keys))
        deadline, found, came = self._deadline(timeout), Found(), dict[str, Any]()
        waiting = iter(wanted)

        async def fetch() -> None:
            for key in waiting:
                try:
                    entry = self._held(key)
                    came[key] = self._value(key, entry or (await self._miss(key, deadline)).entry)
                except Exception as error:  # noqa: BLE001 - each failure is a result
                    found.failed[key] = error

        self._check_open()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(wanted), _AT_ONCE)):
                group.create_task(fetch())
        found.update({key: came[key] for key in wanted if key in came})
        return found

    async def _miss(self, key: str, deadline: float) -> Loaded:
        """Get what is not here: ask its owner, or wait for who asks already; else load it."""
        if not self._spread.informed.is_set():  # this node came just now
            with suppress(TimeoutError):
                await until(deadline, self._spread.informed.wait())
        while (owner := self._owner(key)) is not None:
            outcome = await self._questions.ask(key, owner, deadline)
            if outcome is not None:
                return self._settle(outcome)
        loading = self.loads.wait(key, brief=not self.is_owner(key))
        return self._settle(await self._questions.in_time(key, loading, deadline))

    def _owner(self, key: str) -> NodeId | None:
        """Whom to ask for a key; None when this node loads it itself."""
        self._check_open()
        owner = self._pick(key)
        if owner is None or not self._questions.is_silent(owner.name):
            return owner
        return None if self.loads.has_loader else self._peers.next_owner(key, self._questions.is_silent)

    def is_owner(self, key: str) -> bool:
        """Whether this node owns a key, as it sees it."""
        return self._pick(key) is None

    def _pick(self, key: str) -> NodeId | None:
        owner = self._picker.pick(key)
        return None if owner is None or owner.name == self._kernel.id.name else owner

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"cache group {self.name!r} of {self._kernel.id.name} is closed")

    def _call(self, node: NodeId, event: str, args: tuple[Any, ...], timeout: float) -> Awaitable[Any]:
        address = self._addresses.get(node.name)
        if address is None or address.node is not node:
            address = self._addresses[node.name] = Address(node, self._server)
        return self._kernel.call(address, event, args, {}, timeout)

    def _settle(self, outcome: Outcome) -> Loaded:
        if isinstance(outcome, Failure):
            self._check_open()
            raise outcome.error()
        return outcome

    # -- invalidating

    async def invalidate(
        self,
        key: str | None = None,
        *,
        prefix: str | None = None,
        all: bool = False,  # noqa: A002 - as it is said
        timeout: float = 5.0,
    ) -> Invalidated:
        """Forget a key, all that begin with a prefix, or all, on every node of the group; say who knows of it.

        Whoever asks one of those that know of it, from then on, gets nothing that was loaded before. The others are told
        as soon as they can be reached; till then they may serve what they hold, copies for ``hot_ttl`` seconds. Waits
        ``timeout`` seconds at the most. Raises `UsageError` unless one of the three is given.
        """
        kind, text = _meant(key, prefix, everything=all)
        self._check_open()
        deadline = self._deadline(timeout)
        after = self.store.log.seq
        self._forget(self.store.log.make(kind, text, self._time()))
        peers = sorted(self._peers.members.items())
        told = {name: self._spread.tell(name, after) for name, _ in peers}
        if told:
            await asyncio.wait(told.values(), timeout=max(0.0, deadline - self._time()))
        known = [told[name].done() and told[name].result() for name, _ in peers]
        reached = tuple(node for (_, node), knows in zip(peers, known, strict=True) if knows)
        return Invalidated(reached, tuple(node for _, node in peers if node not in reached))

    def apply(self, told: Iterable[Invalidation]) -> None:
        """Apply invalidations, of this node or another."""
        for what in told:
            if self.store.log.apply(what, self._time()):
                self._forget(what)
                self._spread.heard(what)

    def _forget(self, what: Invalidation) -> None:
        self.store.forget(what, self._time())
        self.loads.forget(what)
        self._questions.forget(what)

    async def relay(self, name: str, told: list[Invalidation]) -> bool:
        """Tell a node for another one; whether it knows now."""
        self.apply(told)
        return await self._spread.relay(name, told)

    def caught_up(self, node: NodeId) -> None:
        """Take note that a node knows all that was made invalid here."""
        self._spread.caught_up(node)

    # -- the ring changes

    async def _ask_former(self, key: str) -> Entry | None:
        if self._picker is not self._peers:
            return None
        return await self._handover.ask_former(key, self._questions.is_silent, self._questions.pass_over)

    async def _hand_over(self, deadline: float) -> None:
        """Own nothing from now on, and let the new owners have what is held here."""
        if self._owns and not self._handing_over:
            self._handing_over = True
            self._peers.announce(False)
            if self._picker is self._peers:
                await self._handover.offer_all(deadline)

    async def fetch_from(self, giver: NodeId, keys: list[str]) -> int:
        """Fetch what a node that leaves has of some keys."""
        return await self._handover.fetch(giver, keys)

    def _changed(self, name: str) -> None:
        """Take note that a node of the group changed, or this one."""
        self.store.log.boot = self._kernel.id.incarnation  # another, when it joined
        if (self._ring.id, self._kernel.id.incarnation) != self._run:
            self._moved()
        self._spread.changed(name)
        self._questions.changed(name)
        self._addresses.pop(name, None)

    def _moved(self) -> None:
        """This node is in another ring now, or in none: it may have missed what was invalidated there."""
        self._run = self._ring.id, self._kernel.id.incarnation
        self.store.forget_all(self._time())
        self._spread.moved()
        if self._handing_over and not self._closed:
            self._handing_over = False
            self._peers.announce(self._owns)

    # -- the end

    @property
    def stats(self) -> CacheStats:
        """What was counted and is held here, now."""
        counts, store = self.loads.counts, self.store
        return CacheStats(
            hits=self._hits,
            hot_hits=self._hot_hits,
            peer_hits=self._questions.hits,
            peer_loads=self._questions.loads,
            loads=counts.loads,
            load_errors=counts.errors,
            unknown=counts.unknown,
            handed_over=counts.handed_over,
            stale=counts.stale,
            passed_over=self._questions.passed_over,
            served=self._actor.served,
            evicted=store.own.evicted + store.copies.evicted,
            entries=len(store.own),
            copies=len(store.copies),
            bytes=store.own.size + store.copies.size,
        )

    async def aclose(self, *, timeout: float = 5.0) -> None:
        """Take part no more: hand over what others will own, for ``timeout`` seconds at the most, and forget all.

        May be called twice.
        """
        async with self._closing:
            if not self._closed:
                with suppress(TimeoutError):
                    deadline = self._time() + timeout
                    await until(deadline, self._hand_over(deadline))
                with suppress(NoSuchServer):
                    await self._node.stop(self._process.ref)

    async def close(self) -> None:
        """End at once, with the actor; `aclose` does it in order."""
        self._closed = True
        self._end()
        self._peers.announce(None)
        self._peers.close()
        await self._spread.aclose()
        await self._questions.aclose()
        await self.loads.aclose()
        for room in (self.store.own, self.store.copies):
            room.clear()


def _meant(key: str | None, prefix: str | None, *, everything: bool) -> tuple[int, str]:
    if (key is not None) + (prefix is not None) + everything != 1:
        raise UsageError("invalidate takes a key, a prefix=, or all=True: one of them")
    if everything:
        return ALL, ""
    if prefix is not None:
        return PREFIX, checked_key(prefix) if prefix != "" else ""
    return KEY, checked_key(key)
