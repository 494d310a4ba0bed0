"""What one node of a cache group answers to the others, as an actor named ``clusterkit.cache.<group>``.

A question is answered here, whoever owns the key by now: it goes one hop and no
further, so that nodes which disagree about an owner cannot wait for each other. With it
come the invalidations of the key that the asker knows, and they are applied first.

::

    get    key, served, told     ->  [code, kind, body, left, hot]      its value, loaded if need be
    many   key, key, ...         ->  [kind, body, left, hot, ...]       what it holds of them; kind -1: ask alone
    peek   key, told             ->  the same, or ABSENT: nothing is loaded
    drop   told                  ->  true                               these are invalidated
    relay  name, told            ->  whether that node knows now         the sender cannot reach it
    missed after, age            ->  [after, told ...]                  what it made invalid, a message's worth
    lately after                 ->  [after, told ...]                  what anybody did, in the last ten minutes
    offer  keys                  ->  how many of them were fetched: the sender leaves, and has their values
    give   keys, told            ->  [key, kind, body, left, ...]       as much as one message takes

``code``: 0 held, 1 loaded, 2 it takes longer: ask again, 3 failed (``body`` says why), 4 absent: ask another. ``left`` is the time to live in seconds, nil for ever. ``kind``: 0 packed, 1 bytes, 2 that the source has no such key.
"""

from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol

from clusterkit.actors.gen_server import GenServer, NoReply, running
from clusterkit.actors.handlers import call
from clusterkit.core.cache_store import CacheStore, Entry, Kind
from clusterkit.core.identity import NodeId
from clusterkit.core.invalidations import Invalidation, pack_told, unpack_told
from clusterkit.errors import ClusterError, UnsupportedPayload
from clusterkit.kernel.mailbox import From, Mailbox
from clusterkit.runtime import now
from clusterkit.services.cache_batches import MOST_BYTES, Answers
from clusterkit.services.cache_loads import Failure, Loaded, Loads, Outcome

HIT, LOADED, LOADING, FAILED, ABSENT = range(5)
UNFIT = 1  # the kind of a failure: a value that cannot be carried
Reply = tuple[int, int, Any, float | None, bool]
_ABSENT: Reply = (ABSENT, 0, b"", None, False)
_LOADING: Reply = (LOADING, 0, b"", None, False)
_NOT_HELD = (-1, b"", None, False)
MOST_OFFERED = 1_000
_MISSING = int(Kind.MISSING)


def read_reply(reply: Any, time: Callable[[], float]) -> tuple[int, Outcome | None, bool]:
    """Read a reply: its code, what it came to, and whether to keep a copy. Raises `ValueError` for what is none."""
    try:
        code, kind, body, left, hot = reply
    except TypeError:
        raise ValueError("no reply of a cache") from None
    if code == HIT:
        return HIT, Loaded(read_entry(kind, body, left, time), "peer"), hot is True
    if code == LOADED:
        return LOADED, Loaded(read_entry(kind, body, left, time), "load"), hot is True
    if code == FAILED:
        text = str(body)
        return FAILED, Failure(text, UnsupportedPayload(text) if kind == UNFIT else None), False
    if code not in (LOADING, ABSENT):
        raise ValueError(f"a cache replies {code!r}")
    return code, None, False


def read_entry(kind: Any, body: Any, left: Any, time: Callable[[], float]) -> Entry:
    """Read a value of another node; raises `ValueError`."""
    if type(body) is not bytes or type(kind) is not int or not 0 <= kind <= _MISSING:
        raise ValueError("no value of a cache")
    if left is None:
        return Entry(kind, body)
    if type(left) not in (int, float):
        raise ValueError(f"a value of a cache lives for {left!r}")
    return Entry(kind, body, time() + left)


def read_many(reply: Any, keys: int, time: Callable[[], float]) -> tuple[Answers, list[Any]]:
    """Read the reply to a question for many keys: what is held of each, None where nothing is, and which are hot.

    Raises `ValueError`.
    """
    if type(reply) is not list or len(reply) != 4 * keys:
        raise ValueError("no reply of a cache")
    parts = zip(reply[0::4], reply[1::4], reply[2::4], strict=True)
    held = [None if kind == -1 else Loaded(read_entry(kind, body, left, time), "peer") for kind, body, left in parts]
    return held, reply[3::4]


class Host(Protocol):
    """What the actor needs of its group."""

    store: CacheStore
    loads: Loads
    most_given: int

    def apply(self, told: Iterable[Invalidation]) -> None:
        """Apply invalidations."""

    def is_owner(self, key: str) -> bool:
        """Whether this node owns a key, as it sees it."""

    def fetch_from(self, giver: NodeId, keys: list[str]) -> Coroutine[Any, Any, int]:
        """Fetch what another node has of some keys."""

    def relay(self, name: str, told: list[Invalidation]) -> Coroutine[Any, Any, bool]:
        """Tell a node for another one."""

    def caught_up(self, node: NodeId) -> None:
        """Take note that a node knows all that was made invalid here."""

    async def close(self) -> None:
        """Take part no more: the actor ends."""


class CacheServer(GenServer):
    """Answers for its node; ``served`` counts the questions."""

    mailbox = Mailbox(65_536)

    def __init__(self, host: Host) -> None:
        self.served = 0
        self._host = host
        self._store = host.store

    async def terminate(self, reason: object) -> None:  # noqa: ARG002
        """End with the group."""
        await self._host.close()

    @call
    async def get(self, key: str, served: int = 0, told: Any = None) -> Reply:
        """Give a value; on a miss it is loaded, and the asker told in time when that takes long."""
        at = now()
        self.served += 1
        if told is not None:
            self._host.apply(unpack_told(told))
        entry = self._store.find(key, at)
        if entry is not None:
            return HIT, entry.kind, entry.body, entry.left(at), self._store.is_hot(entry, served + 1, at)
        if not self._host.loads.has_loader:
            return _ABSENT
        self._host.loads.tell(key, self._answers(self.caller, served + 1), brief=not self._host.is_owner(key))
        raise NoReply

    def _answers(self, frm: From, times: int) -> Callable[[Outcome | None], object]:
        handlers = running(self).handlers

        def told(outcome: Outcome | None) -> None:
            with suppress(ClusterError):  # then it is the asker's error, who was told so
                handlers.reply(frm, self._reply(outcome, times))

        return told

    def _reply(self, outcome: Outcome | None, times: int) -> Reply:
        if outcome is None:
            return _LOADING
        if isinstance(outcome, Failure):
            return FAILED, UNFIT if isinstance(outcome.cause, UnsupportedPayload) else 0, outcome.text, None, False
        entry, at = outcome.entry, now()
        code = LOADED if outcome.source == "load" else HIT
        return code, entry.kind, entry.body, entry.left(at), self._store.is_hot(entry, times, at)

    @call
    async def many(self, *keys: str) -> list[Any]:
        """Give what is held of some keys, and load nothing: kind, body, left and hot of each; kind -1: ask for it alone."""
        at, size, most = now(), 0, min(MOST_BYTES, self._host.most_given)
        given: list[Any] = []
        self.served += len(keys)
        for key in keys:
            entry = self._store.find(key, at)
            if entry is None or size + len(entry.body) > most:  # a large value comes alone
                given += _NOT_HELD
            else:
                size += len(entry.body)
                given += entry.kind, entry.body, entry.left(at), self._store.is_hot(entry, 1, at)
        return given

    @call
    async def peek(self, key: str, told: Any = None) -> Reply:
        """Give what is held of a key, and load nothing."""
        at = now()
        if told is not None:
            self._host.apply(unpack_told(told))
        entry = self._store.find(key, at)
        if entry is None or entry.is_missing:
            return _ABSENT
        return HIT, entry.kind, entry.body, entry.left(at), False

    @call
    async def drop(self, told: Any) -> bool:
        """Apply invalidations."""
        self._host.apply(unpack_told(told))
        return True

    @call
    async def relay(self, name: str, told: Any) -> bool:
        """Apply invalidations, and tell them a node that the sender cannot reach; whether that succeeded."""
        return self.defer(self.caller, self._host.relay(name, unpack_told(told)))

    @call
    async def missed(self, after: int, age: float) -> list[Any]:
        """Tell what this node made invalid after a number, or within ``age`` seconds; in front the number to go on from."""
        log = self._store.log
        told, after = log.after(after if after >= 0 else log.before(now() - age, own=True), own=True)
        if not told:
            self._host.caught_up(self.caller.peer)
        return [after, *pack_told(told)]

    @call
    async def lately(self, after: int) -> list[Any]:
        """Tell what was invalidated lately, by whomever, after a number; in front the number to go on from."""
        log = self._store.log
        told, after = log.after(max(after, log.lately(now())))
        return [after, *pack_told(told)]

    @call(timeout=30.0)
    async def offer(self, keys: list[str]) -> int:
        """Fetch the values of some keys from a node that leaves."""
        frm = self.caller
        return self.defer(frm, self._fetch(frm, keys))

    async def _fetch(self, frm: From, keys: list[str]) -> int:
        wanted = [key for key in islice(keys, MOST_OFFERED) if self._store.find(key, now()) is None]
        return await self._host.fetch_from(frm.peer, wanted)

    @call
    async def give(self, keys: list[str], told: Any) -> list[Any]:
        """Give what is held of some keys, in order, as many as one message takes."""
        self._host.apply(unpack_told(told))
        at, size = now(), 0
        given: list[Any] = []
        for key in islice(keys, MOST_OFFERED):
            entry = self._store.find(key, at)
            if entry is None or entry.is_missing:
                continue
            size += len(entry.body) + len(key)
            if given and size > self._host.most_given:
                break
            given += key, entry.kind, entry.body, entry.left(at)
        return given
