"""Dials the seeds of a ring: until a member takes this node in, and now and then afterwards.

Each place is dialled by a task of its own, with back-off, so that one that never
answers holds up no other. Names are resolved anew, and a callable asked anew, at each
round. Once this node is in, the seeds that are no members are still tried every 30 s:
so two islands that began apart find each other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from clusterkit.core.backoff import Backoff
from clusterkit.core.identity import NodeId
from clusterkit.errors import (
    AuthFailed,
    ClusterError,
    ConfigError,
    DialledSelf,
    JoinError,
    NameConflict,
    OldIncarnation,
    WrongNode,
)
from clusterkit.kernel.kernel import Kernel
from clusterkit.ring.discovery import Place, Seeds, places
from clusterkit.runtime import Tasks, now, rng, until

_MISTRUSTED = 3  # closes after our proof, and no other answer, until a seed's cookie is taken to be another
_AGAIN = 1.0  # the least number of seconds between two rounds until then
_LATER = 30.0  # seconds between two rounds once this node is in


class Seeker:
    """The seeds of one ring. ``outbid`` is awaited with a later incarnation of this node that a seed knows."""

    def __init__(self, kernel: Kernel, outbid: Callable[[int], Awaitable[None]]) -> None:
        self.accepted = asyncio.Event()
        self.news = asyncio.Event()
        """Set when something is to be looked at: a failure, an end."""
        self.failures: dict[str, str] = {}
        self.fatal: JoinError | None = None
        self._kernel = kernel
        self._outbid = outbid
        self._tasks = Tasks(f"seeds/{kernel.id.name}")
        self._sources: list[Seeds] = []
        self._dialling: dict[Place, None] = {}
        self._refused: dict[Place, JoinError] = {}
        self._unlooked = 0  # sources that have not said all that they have
        self._selves: set[Place] = set()

    @property
    def searching(self) -> bool:
        """Whether a seed is being tried, or may yet turn up."""
        return bool(self._unlooked or self._dialling or any(callable(each) for each in self._sources))

    @property
    def refusal(self) -> JoinError | None:
        """Why no seed is left to try."""
        return self.fatal or next(iter(self._refused.values()), None)

    @property
    def tried(self) -> str:
        """What became of each seed, for people."""
        return "; ".join(f"{seed}: {why}" for seed, why in self.failures.items()) or "no answer"

    def add(self, seeds: Seeds, members: Callable[[], Iterable[NodeId]]) -> None:
        """Try these too, from now on."""
        self._sources.append(seeds)
        self._unlooked += 1
        self._tasks.spawn(self._look(seeds, members), "look")

    async def aclose(self) -> None:
        """Dial no more."""
        await self._tasks.aclose()

    async def _look(self, seeds: Seeds, members: Callable[[], Iterable[NodeId]]) -> None:
        looked = False
        try:
            while self.fatal is None:
                found = await places(seeds)
                self.failures.update(found.failed)
                known = {(node.host, node.port) for node in members()} if self.accepted.is_set() else set()
                for place in found.places:
                    if (place.host, place.port) not in known:
                        self._dial(place)
                if not (looked or found.failed):
                    looked = True
                    self._unlooked -= 1
                self.news.set()
                await self._until_next_round()
        finally:
            self._unlooked -= not looked
            self.news.set()

    async def _until_next_round(self) -> None:
        if self.accepted.is_set():
            await asyncio.sleep(_LATER)
        else:
            with suppress(TimeoutError):
                await until(now() + max(self._kernel.config.redial_most, _AGAIN), self.accepted.wait())

    def _dial(self, place: Place) -> None:
        me = self._kernel.id
        is_me = (place.host, place.port) == (me.host, me.port) and place.name in (None, me.name)
        if is_me or place in self._selves:
            return
        if place not in self._dialling and (self.accepted.is_set() or place not in self._refused):
            self._dialling[place] = None
            self._tasks.spawn(self._try(place), f"seed {place.shown}")

    async def _try(self, place: Place) -> None:
        config = self._kernel.config
        backoff = Backoff(config.redial_first, config.redial_most, rng(f"seed:{place.shown}"))
        once, mistrusted = self.accepted.is_set(), 0
        try:
            while self.fatal is None:
                try:
                    await self._kernel.links.dial_seed(place.host, place.port, place.name)
                    mistrusted = -_MISTRUSTED  # it has taken our cookie
                except DialledSelf as error:
                    self._selves.add(place)
                    if place.name is not None:
                        self._refused[place] = WrongNode(f"dialled {place.name!r}, and {error}")
                    return
                except (OSError, ClusterError) as error:
                    mistrusted += type(error) is AuthFailed
                    guessing = type(error) is AuthFailed and mistrusted < _MISTRUSTED
                    if await self._failed(place, error) and not guessing:
                        return
                if once or self.accepted.is_set():
                    return
                with suppress(TimeoutError):
                    await until(now() + config.redial_first + backoff.next(), self.accepted.wait())
                if self.accepted.is_set():
                    return
        finally:
            self._dialling.pop(place, None)
            self.news.set()

    async def _failed(self, place: Place, error: OSError | ClusterError) -> bool:
        """Take note of a failure; True when this place is not to be tried again."""
        if isinstance(error, OldIncarnation) and error.known:
            try:
                await self._outbid(error.known)
            except ConfigError as impossible:  # nothing is above it
                self.fatal = NameConflict(str(impossible))
            return self.fatal is not None
        self.failures[place.shown] = str(error) or type(error).__name__
        if isinstance(error, NameConflict):
            self.fatal = error
        final = isinstance(error, JoinError) and not error.retryable
        if final:
            assert isinstance(error, JoinError)
            self._refused[place] = error
        elif not isinstance(error, JoinError):
            self._refused.pop(place, None)
        return final
