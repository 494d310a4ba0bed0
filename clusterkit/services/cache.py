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
from clusterkit.core.invalidations import ALL, KEY, PREFIX, Invalidation, Invalidations, pack_told, unpack_told
from clusterkit.core.payload import PayloadError
from clusterkit.errors import (
    CallError,
    CallTimeout,
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
from clusterkit.services.cache_results import CacheStats, Fetched, Found, Invalidated
from clusterkit.services.cache_server import (
    ABSENT,
    LOADING,
    CacheServer,
    read_reply,
)
from clusterkit.services.cache_spread import Spread

if TYPE_CHECKING:
    from clusterkit.node import Node

logger = logging.getLogger("clusterkit.cache")

_SILENCE = 1.0  # seconds for which an owner that gave no word is not asked
_AT_ONCE = 256  # keys that `get_many` fetches side by side
_ROOM = 1_024  # bytes of a message beside the value
_TELLING = 2.0  # seconds for one message to another node of the group

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
        self._ring, self._ring_id = node.ring, node.ring.id
        self._kernel = node._open_kernel()
        self._kernel.check_loop()
        me = self._kernel.id
        if self._kernel.closed or self._kernel.links.leaving:
            raise UsageError(f"node {me.name} is closing or closed: it takes part in no cache")
        self._time = self._kernel.loop.time
        self._server = f"clusterkit.cache.{name}"
        self._patience = checked_seconds("patience", patience)
        self._owns = owns
        self._asking: dict[str, list[asyncio.Future[Outcome | None]]] = {}
        self._silent: dict[str, float] = {}
        self._addresses: dict[str, Address] = {}
        self._hits = self._hot_hits = self._peer_hits = self._peer_loads = self._passed_over = 0
        self._handing_over = self._closed = False
        self._closing = asyncio.Lock()
        log = Invalidations(me.name, me.incarnation, self._kernel.new_number)
        self.store = CacheStore(limits, log, self._time())
        self.loads = Loads(
            name,
            self.store,
            loader,
            self._ask_former,
            limit=load_limit,
            timeout=load_timeout,
            most=self._kernel.config.message_limit - _ROOM,
            notice=patience / 2,
        )
        self._actor = CacheServer(self)
        self._process = node._spawn(self._actor, self._server)
        self._peers = CachePeers(self._ring, me.name, name, self._kernel.new_number())
        self._picker = picker or self._peers
        self._spread = Spread(name, log, self, self._peers)
        self._handover = Handover(self.store, self._peers, self._spread, self._call, patience)
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
        while (owner := self._owner(key)) is not None:
            asking = self._asking.get(key)
            if asking is None:
                outcome = await self._lead(key, owner, deadline)
            else:
                future: asyncio.Future[Outcome | None] = self._kernel.loop.create_future()
                asking.append(future)
                outcome = await self._in_time(key, future, deadline)
            if outcome is not None:
                return self._settle(outcome)
        return self._settle(await self._in_time(key, self.loads.wait(key, brief=not self.is_owner(key)), deadline))

    def _owner(self, key: str) -> NodeId | None:
        """Whom to ask for a key; None when this node loads it itself."""
        self._check_open()
        owner = self._pick(key)
        if owner is None or not self._silent or not self._is_silent(owner.name):
            return owner
        return None if self.loads.has_loader else self._peers.next_owner(key, self._is_silent)

    def _is_silent(self, name: str) -> bool:
        return self._silent.get(name, 0.0) > self._time()

    def is_owner(self, key: str) -> bool:
        """Whether this node owns a key, as it sees it."""
        return self._pick(key) is None

    def _pick(self, key: str) -> NodeId | None:
        owner = self._picker.pick(key)
        return None if owner is None or owner.name == self._kernel.id.name else owner

    async def _in_time(self, key: str, future: asyncio.Future[T], deadline: float) -> T:
        try:
            return await until(deadline, future)
        except TimeoutError:
            raise self._too_late(key, self._kernel.id) from None

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"cache group {self.name!r} of {self._kernel.id.name} is closed")

    def _call(self, node: NodeId, event: str, args: tuple[Any, ...], timeout: float) -> Awaitable[Any]:
        address = self._addresses.get(node.name)
        if address is None or address.node is not node:
            address = self._addresses[node.name] = Address(node, self._server)
        return self._kernel.call(address, event, args, {}, timeout)

    def _too_late(self, key: str, node: NodeId) -> CallTimeout:
        text = f"the deadline passed before {key!r} of cache {self.name!r} came"
        return CallTimeout(text, node=node, target=f"{self._server}.get", executed="maybe")

    def _settle(self, outcome: Outcome) -> Loaded:
        if isinstance(outcome, Failure):
            self._check_open()
            raise outcome.error()
        return outcome

    # -- asking the owner

    async def _lead(self, key: str, owner: NodeId, deadline: float) -> Outcome | None:
        """Ask the owner, for all who want the key meanwhile; None when it cannot be asked."""
        followers = self._asking[key] = []
        outcome: Outcome | None = None
        try:
            outcome = await self._ask(key, owner, deadline)
        finally:
            if self._asking.get(key) is followers:
                del self._asking[key]
            for future in followers:
                if not future.done():
                    future.set_result(outcome)
        return outcome

    async def _ask(self, key: str, owner: NodeId, deadline: float) -> Outcome | None:
        began, patience, loading = self.store.log.seq, self._patience, False
        question = self._question(key, owner) if began or self.store.copies.size else (key,)
        while True:
            left = deadline - self._time()
            try:
                reply = await self._call(owner, "get", question, min(patience, left))
                code, outcome, hot = read_reply(reply, self._time)
            except Exception as error:
                if self._kernel.closed:
                    raise
                if isinstance(error, CallTimeout) and left <= patience:
                    raise self._too_late(key, owner) from None
                self._pass_over(owner, error)
                return None
            if code == LOADING:
                loading = True
            elif code == ABSENT:
                self._pass_over(owner, NoSuchServer(f"{owner.name} only asks"))
                return None
            elif isinstance(outcome, Loaded):
                if loading:
                    outcome.source = "load"  # it ended between two questions
                return self._take(key, outcome, began, hot=hot)
            else:
                return outcome

    def _take(self, key: str, loaded: Loaded, began: int, *, hot: bool) -> Loaded:
        if loaded.source == "load":
            self._peer_loads += 1
        else:
            self._peer_hits += 1
        if hot and self.store.copies.most:
            self.store.keep_copy(key, loaded.entry, began, self._time())
        return loaded

    def _question(self, key: str, owner: NodeId) -> tuple[Any, ...]:
        served = self.store.take_served(key)
        told = self.store.log.about(key, self._time(), self._spread.behind(owner.name))
        if told:
            return key, served, pack_told(told)
        return (key, served) if served else (key,)

    def _pass_over(self, owner: NodeId, error: Exception) -> None:
        self._passed_over += 1
        self._silent[owner.name] = self._time() + _SILENCE
        if not isinstance(error, CallError):
            logger.warning("cache %s: %s answers what cannot be read: %r", self.name, owner, error)

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
        for key in [key for key in self._asking if what.covers(key)]:
            del self._asking[key]

    async def tell(self, node: NodeId, told: list[Invalidation]) -> None:
        """Tell a node of invalidations; raises `CallError`."""
        await self._call(node, "drop", (pack_told(told),), _TELLING)

    async def tell_through(self, via: NodeId, name: str, told: list[Invalidation]) -> bool:
        """Ask a node to tell another one, which does not answer this one; whether it knows now. Raises `CallError`."""
        return bool(await self._call(via, "relay", (name, pack_told(told)), _TELLING))

    async def relay(self, name: str, told: list[Invalidation]) -> bool:
        """Tell a node for another one; whether it knows now."""
        self.apply(told)
        node = self._peers.members.get(name)
        if node is not None:
            with suppress(CallError):
                await self.tell(node, told)
                return True
        return False

    async def catch_up(self, node: NodeId) -> None:
        """Learn from a node that is new here what was invalidated since this cache began; raises `CallError`."""
        after, more = -1, True
        while more:
            age = self._time() - self.store.since
            after, *flat = await self._call(node, "missed", (after, age), _TELLING)
            self.apply(unpack_told(flat))
            more = bool(flat)

    # -- the ring changes

    async def _ask_former(self, key: str) -> Entry | None:
        if self._picker is not self._peers:
            return None
        return await self._handover.ask_former(key, self._is_silent, self._pass_over)

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
        if self._ring.id != self._ring_id:
            self._moved()
        self._spread.changed(name)
        self._silent.pop(name, None)
        self._addresses.pop(name, None)

    def _moved(self) -> None:
        """This node is in another ring now, or in none: it may have missed what was invalidated there."""
        self._ring_id = self._ring.id
        self.store.forget_all(self._time())
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
            peer_hits=self._peer_hits,
            peer_loads=self._peer_loads,
            loads=counts.loads,
            load_errors=counts.errors,
            unknown=counts.unknown,
            handed_over=counts.handed_over,
            stale=counts.stale,
            passed_over=self._passed_over,
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
