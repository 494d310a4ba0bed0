"""What a node keeps from one run to the next: its incarnations, and the ring as it saw it last."""

import logging

from clusterkit.core.ring_frames import Full
from clusterkit.core.ring_messages import State, pack, unpack
from clusterkit.errors import ClusterError, ProtocolError, StateError, WrongRing
from clusterkit.kernel.kernel import new_incarnation
from clusterkit.runtime import entropy, in_thread, wall_time
from clusterkit.storage.state_file import StateFile

logger = logging.getLogger("clusterkit.ring")


class Keeping:
    """The state directory of one node, or none: then nothing is kept, and all of this does nothing."""

    def __init__(self, store: StateFile | None) -> None:
        self._store = store

    def check(self, ring_id: str) -> None:
        """Raise `WrongRing` when another ring is kept."""
        saved = self._store.saved if self._store is not None else None
        if saved is not None and saved.ring_id != ring_id:
            raise WrongRing(f"the state directory has ring {saved.ring_id!r}, not {ring_id!r}")

    def load(self) -> Full | None:
        """The ring as an earlier run saw it last; raises `StateError` when it cannot be read."""
        if self._store is None or self._store.saved is None:
            return None
        try:
            message = unpack(self._store.saved.state)
        except ProtocolError as error:
            raise StateError(f"the ring in {self._store.directory} cannot be read: {error}") from None
        if not isinstance(message, State):
            raise StateError(f"what is kept in {self._store.directory} is no ring")
        return message.full

    async def draw(self, after: int = 0) -> int:
        """A new incarnation, above ``after`` and all that are kept; it is kept itself before anybody hears of it."""
        if (store := self._store) is None:
            return new_incarnation(after)
        wall_ms, chance = int(wall_time() * 1000), int.from_bytes(entropy(4), "big")
        return await in_thread(lambda: store.begin(wall_ms, chance, after))

    async def save(self, ring_id: str, boot: int, full: Full) -> None:
        """Keep the ring as it is now; a failure is logged, and the next change tries again."""
        if (store := self._store) is not None:
            try:
                state = pack(State(full))
                await in_thread(lambda: store.save(ring_id, boot, state))
            except ClusterError as error:
                logger.error("the ring is not saved to %s: %s", store.directory, error)

    async def clear(self) -> None:
        """Keep no ring: this node has left it."""
        if (store := self._store) is not None:
            try:
                await in_thread(store.clear)
            except StateError as error:
                logger.error("the ring is still in %s: %s", store.directory, error)

    async def aclose(self) -> None:
        """Let another process have the directory."""
        if (store := self._store) is not None:
            await in_thread(store.close)

    @property
    def keeps(self) -> bool:
        """Whether there is a directory."""
        return self._store is not None
