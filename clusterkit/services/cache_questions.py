"""The questions of one node to the owners of keys: one for a key at a time, for all who want it meanwhile.

The first who wants a key asks, and the others wait for its answer: a task for each would
cost as much as the question. Who gives up hands over to the next, who asks anew. An owner
that cannot be asked, or gives no word, is passed over for a second.

A lone question goes at once; in a crowd they go many in a message (`Batches`), unless
there is something to tell with them, or little time.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from clusterkit.core.cache_store import CacheStore
from clusterkit.core.identity import NodeId
from clusterkit.core.invalidations import Invalidation, pack_told
from clusterkit.errors import CallError, CallTimeout, NoSuchServer
from clusterkit.runtime import Tasks, until
from clusterkit.services.cache_batches import Answers, Batches, Gathered, Waiting
from clusterkit.services.cache_loads import Loaded, Outcome
from clusterkit.services.cache_server import ABSENT, LOADING, read_many, read_reply
from clusterkit.services.cache_spread import Call, Spread

logger = logging.getLogger("clusterkit.cache")

T = TypeVar("T")
_SILENCE = 1.0  # seconds for which an owner that gave no word is not asked
_A_WORD = 0.6  # of its patience, in which an owner that lives has given word: it does so in half of it


class Questions:
    """Asks owners for one group. ``is_over`` says whether the node has closed: then an error is its own."""

    def __init__(
        self,
        group: str,
        store: CacheStore,
        spread: Spread,
        call: Call,
        *,
        patience: float,
        time: Callable[[], float],
        is_over: Callable[[], bool],
    ) -> None:
        self.hits = 0
        self.loads = 0
        self.passed_over = 0
        self._group = group
        self._store = store
        self._spread = spread
        self._call = call
        self._patience = patience
        self._time = time
        self._is_over = is_over
        self._asking: dict[str, Waiting] = {}
        self._silent: dict[str, float] = {}
        self._batches: dict[str, Batches] = {}
        self._tasks = Tasks(f"cache/{group}")

    def is_silent(self, name: str) -> bool:
        """Whether a node gave no word a moment ago."""
        return bool(self._silent) and self._silent.get(name, 0.0) > self._time()

    def changed(self, name: str) -> None:
        """Take note that a node changed: it may be asked again."""
        self._silent.pop(name, None)
        if (batches := self._batches.pop(name, None)) is not None:
            batches.give_up()

    def forget(self, what: Invalidation) -> None:
        """Let nobody wait for an answer that an invalidation overtook."""
        for key in [key for key in self._asking if what.covers(key)]:
            del self._asking[key]

    async def aclose(self) -> None:
        """Ask no more."""
        for batches in self._batches.values():
            batches.give_up()
        await self._tasks.aclose()

    async def ask(self, key: str, owner: NodeId, deadline: float) -> Outcome | None:
        """Ask an owner for a key, or wait for who asks already; None when nothing came of it: look again whom to ask.

        Raises `CallTimeout`.
        """
        asking = self._asking.get(key)
        if asking is not None:
            future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
            asking.append(future)
            return await self.in_time(key, future, deadline)
        if (waiting := self._join(key, owner, deadline)) is not None:
            outcome: Outcome | None = await waiting[0]
            if outcome is not None or self.is_silent(owner.name) or key in self._asking:
                return outcome
        return await self._lead(key, owner, deadline)

    async def in_time(self, key: str, future: asyncio.Future[T], deadline: float) -> T:
        """Wait for something; raises `CallTimeout` at the deadline."""
        try:
            return await until(deadline, future)
        except TimeoutError:
            raise self._too_late(key, None) from None

    def _too_late(self, key: str, node: NodeId | None) -> CallTimeout:
        text = f"the deadline passed before {key!r} of cache {self._group!r} came"
        return CallTimeout(text, node=node, target=f"clusterkit.cache.{self._group}.get", executed="maybe")

    # -- alone

    async def _lead(self, key: str, owner: NodeId, deadline: float) -> Outcome | None:
        """Ask the owner, for all who want the key meanwhile; None when it cannot be asked."""
        followers: Waiting = []
        self._asking[key] = followers
        outcome: Outcome | None = None
        try:
            outcome = await self._ask(key, owner, deadline)
        finally:
            self._resolve(key, followers, outcome)
        return outcome

    def _resolve(self, key: str, waiting: Waiting, outcome: Outcome | None) -> None:
        if self._asking.get(key) is waiting:
            del self._asking[key]
        for future in waiting:
            if not future.done():
                future.set_result(outcome)

    async def _ask(self, key: str, owner: NodeId, deadline: float) -> Outcome | None:
        began, patience, loading = self._store.log.seq, self._patience, False
        question = self._question(key, owner) if began or self._store.copies.size else (key,)
        while True:
            left = deadline - self._time()
            try:
                reply = await self._call(owner, "get", question, min(patience, left))
                code, outcome, hot = read_reply(reply, self._time)
            except Exception as error:
                if self._is_over():
                    raise
                if isinstance(error, CallTimeout) and left <= patience:
                    if left > patience * _A_WORD:  # others need not wait for it
                        self.pass_over(owner, error)
                    raise self._too_late(key, owner) from None
                self.pass_over(owner, error)
                return None
            if code == LOADING:
                loading = True
            elif code == ABSENT:
                self.pass_over(owner, NoSuchServer(f"{owner.name} only asks"))
                return None
            elif isinstance(outcome, Loaded):
                if loading:
                    outcome.source = "load"  # it ended between two questions
                self._take(key, outcome, began, hot=hot)
                return outcome
            else:
                return outcome

    def _question(self, key: str, owner: NodeId) -> tuple[Any, ...]:
        served = self._store.take_served(key)
        told = self._store.log.about(key, self._time(), self._spread.behind(owner.name))
        if told:
            return key, served, pack_told(told)
        return (key, served) if served else (key,)

    def _take(self, key: str, loaded: Loaded, began: int, *, hot: bool) -> None:
        if loaded.source == "load":
            self.loads += 1
        else:
            self.hits += 1
        if hot and self._store.copies.most:
            self._store.keep_copy(key, loaded.entry, began, self._time())

    def pass_over(self, node: NodeId, error: Exception) -> None:
        """Ask a node nothing for a second, since it could not be asked."""
        self.passed_over += 1
        self._silent[node.name] = self._time() + _SILENCE
        if not isinstance(error, CallError):
            logger.warning("cache %s: %s answers what cannot be read: %r", self._group, node, error)

    # -- with others

    def _join(self, key: str, owner: NodeId, deadline: float) -> Waiting | None:
        """Ask for a key in a crowd, when there is one, time for it, and nothing to tell with the question."""
        store, at = self._store, self._time()
        if deadline - at <= 2 * self._patience:
            return None
        if store.copies.size and store.copies.peek(key) is not None:
            return None
        if self._tells(key, owner):
            return None
        batches = self._batches.get(owner.name)
        if batches is None or batches.owner is not owner:
            batches = self._batches[owner.name] = Batches(owner, self._ask_many, self._came, self._tasks)
        waiting = batches.join(key)
        if waiting is not None:
            self._asking[key] = waiting
        return waiting

    def _tells(self, key: str, owner: NodeId) -> bool:
        """Whether there is an invalidation to tell with a question."""
        log = self._store.log
        return bool(log.seq and log.about(key, self._time(), self._spread.behind(owner.name)))

    async def _ask_many(self, owner: NodeId, gathered: Gathered) -> Answers | None:
        if self.is_silent(owner.name):
            return None
        began = self._store.log.seq
        keys = tuple(key for key in gathered if not self._tells(key, owner))  # it may have heard of some meanwhile
        try:
            reply = await self._call(owner, "many", keys, self._patience) if keys else []
            came, hot = read_many(reply, len(keys), self._time)
        except Exception as error:  # noqa: BLE001 - then each goes on alone, or past the owner
            if not self._is_over():
                self.pass_over(owner, error)
            return None
        for key, loaded, is_hot in zip(keys, came, hot, strict=True):
            if loaded is not None:
                self._take(key, loaded, began, hot=is_hot is True)
        if len(keys) == len(gathered):
            return came
        answers = dict(zip(keys, came, strict=True))
        return [answers.get(key) for key in gathered]

    def _came(self, gathered: Gathered, answers: Answers | None) -> None:
        outcomes = answers or [None] * len(gathered)
        for (key, waiting), outcome in zip(gathered.items(), outcomes, strict=True):
            self._resolve(key, waiting, outcome)
