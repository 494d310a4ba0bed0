"""The loads of one node: one at a time for each key, a bounded number together.

Whoever wants a key that is being loaded waits for that load, callers here and other
nodes alike; who gives up waiting ends nothing for the others. Before the source is asked,
nodes that owned the key before are. A load that an invalidation overtook goes on for
those who wait, and nobody joins it any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import isawaitable, iscoroutinefunction
from typing import Any, NamedTuple

from clusterkit.actors.handling import is_cancelled
from clusterkit.core.cache_store import CacheStore, Entry, checked_seconds, entry_of, missing
from clusterkit.core.invalidations import Invalidation
from clusterkit.errors import ConfigError, LoadFailed, NoSuchServer, RemoteError, UnknownKey, UnsupportedPayload
from clusterkit.runtime import Tasks, Threads, now
from clusterkit.services.cache_results import Source

Loader = Callable[[str], Awaitable[Any] | Any]


class Failure(NamedTuple):
    """Why there is no value; each who waits gets an error of its own."""

    text: str
    cause: BaseException | None = None

    def error(self) -> LoadFailed:
        """Make the error."""
        error = LoadFailed(self.text)
        error.__cause__ = self.cause
        return error


@dataclass(slots=True)
class Loaded:
    """What a load came to: an entry (of a missing key, too), and where it is from ("hit": an old one held here)."""

    entry: Entry
    source: Source


Outcome = Loaded | Failure
_MOST_TEXT = 1_000  # characters of an error's text
_ENDED = Failure("the load was ended")  # other nodes are told that the actor ended, and pass it over
Told = Callable[[Outcome | None], object]


@dataclass(slots=True)
class Load:
    """One load, and who waits for it: functions, called with its outcome; None says that it takes long."""

    waiting: list[asyncio.Future[Outcome]] = field(default_factory=list)
    askers: list[Told] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class LoadCounts:
    """What was counted."""

    loads: int = 0
    errors: int = 0
    unknown: int = 0
    handed_over: int = 0
    stale: int = 0


class Loads:
    """The loads of one node for one group."""

    def __init__(
        self,
        group: str,
        store: CacheStore,
        loader: Loader | None,
        former: Callable[[str], Awaitable[Entry | None]],
        *,
        limit: int,
        timeout: float,
        most: int,
        notice: float,
    ) -> None:
        self.counts = LoadCounts()
        self._group = group
        self._store = store
        self.has_loader = loader is not None
        self._loader = loader
        self._is_async = iscoroutinefunction(loader) or iscoroutinefunction(
            getattr(type(loader), "__call__", None)  # noqa: B004 - an object of the user's may be a loader
        )
        self._former = former
        self._timeout = checked_seconds("load_timeout", timeout)
        self._most = most
        self._notice = notice
        if type(limit) is not int or limit < 1:
            raise ConfigError(f"load_limit is {limit!r}: it must be a positive whole number")
        self._free = asyncio.Semaphore(limit)
        self._running: dict[str, Load] = {}
        self._threads = Threads(limit, f"cache/{group}")
        self._tasks = Tasks(f"cache/{group}")

    def wait(self, key: str, *, brief: bool) -> asyncio.Future[Outcome]:
        """Load a key, or join its load; ``brief`` when this node is not its owner, and keeps it for seconds only."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._load(key, brief=brief).waiting.append(future)
        return future

    def tell(self, key: str, told: Told, *, brief: bool) -> None:
        """Load a key for another node: it is told the outcome, or within ``notice`` seconds that it takes longer."""
        load = self._load(key, brief=brief)
        load.askers.append(told)
        if load.timer is None:
            load.timer = asyncio.get_running_loop().call_later(self._notice, self._takes_long, load)

    def forget(self, what: Invalidation) -> None:
        """Let nobody join a load that an invalidation overtook."""
        for key in [key for key in self._running if what.covers(key)]:
            del self._running[key]

    async def aclose(self) -> None:
        """End all loads; who waits gets a failure."""
        await self._tasks.aclose()
        self._threads.close()

    def _load(self, key: str, *, brief: bool) -> Load:
        load = self._running.get(key)
        if load is None:
            load = self._running[key] = Load()
            self._tasks.spawn(self._run(key, load, brief=brief), "load")
        return load

    def _takes_long(self, load: Load) -> None:
        load.timer = None
        askers, load.askers = load.askers, []
        for told in askers:
            told(None)

    async def _run(self, key: str, load: Load, *, brief: bool) -> None:
        outcome: Outcome = _ENDED
        try:
            outcome = await self._obtain(key, brief=brief)
        finally:
            if self._running.get(key) is load:
                del self._running[key]
            if load.timer is not None:
                load.timer.cancel()
            for future in load.waiting:
                if not future.done():
                    future.set_result(outcome)
            for told in load.askers if outcome is not _ENDED else ():
                told(outcome)

    async def _obtain(self, key: str, *, brief: bool) -> Outcome:
        most = self._store.limits.hot_ttl if brief else None
        began = self._store.log.seq
        if (entry := await self._former(key)) is not None:
            self.counts.handed_over += 1
            self._store.keep(key, entry, began, now(), most=most)
            return Loaded(entry, "peer")
        async with self._free:
            began = self._store.log.seq
            try:
                entry = self._checked(key, await self._ask_source(key))
            except (KeyError, UnknownKey):
                self.counts.unknown += 1
                entry = missing()
            except Exception as error:  # noqa: BLE001 - the loader is the user's own code
                return self._failed(key, error)
            except BaseException as error:
                if is_cancelled() or isinstance(error, KeyboardInterrupt):
                    raise
                return self._failed(key, RemoteError(type(error).__name__, str(error)))  # `SystemExit` ends no node
        self._store.keep(key, entry, began, now(), most=most)
        return Loaded(entry, "load")

    async def _ask_source(self, key: str) -> Any:
        loader = self._loader
        if loader is None:
            raise NoSuchServer("no owner of it can be reached, and this node has no loader")
        self.counts.loads += 1
        try:
            async with asyncio.timeout(self._timeout) as limit:
                if self._is_async:
                    value = loader(key)
                else:
                    value, error = await self._threads.run(lambda: _try(loader, key))
                    if error is not None:
                        raise error
                return await value if isawaitable(value) else value
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"no value within {self._timeout:g} s") from None
            raise

    def _checked(self, key: str, value: Any) -> Entry:
        entry = entry_of(value)
        if len(entry.body) + len(key.encode()) > self._most:
            raise UnsupportedPayload(
                f"its value of {len(entry.body)} bytes is over what a message carries, {self._most}"
            )
        return entry

    def _failed(self, key: str, error: Exception) -> Outcome:
        self.counts.errors += 1
        if (stale := self._store.find_stale(key, now())) is not None:
            self.counts.stale += 1
            return Loaded(stale, "hit")
        return Failure(f"{key!r} of cache {self._group!r} could not be loaded: {_text_of(error)}", error)


def _text_of(error: Exception) -> str:
    """Tell an error so that it can cross, whatever the user's class makes of it."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - its own method
        return name
    if len(text) > _MOST_TEXT:
        text = f"{text[:_MOST_TEXT]}..."
    return f"{name}: {text}".encode("utf-8", "backslashreplace").decode() if text else name


def _try(loader: Loader, key: str) -> tuple[Any, BaseException | None]:
    """Call a plain loader in its thread: an error comes back as a value, for a future refuses `StopIteration`."""
    try:
        return loader(key), None
    except BaseException as error:  # noqa: BLE001 - the loader is the user's own code
        return None, error
