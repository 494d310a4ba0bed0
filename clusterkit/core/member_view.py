"""The members as one node sees them: ring entry and belief read together, name by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sortedcontainers import SortedDict

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member, State
from clusterkit.core.payload import PayloadError, decode_without_messages
from clusterkit.core.ring_entry import Rank
from clusterkit.core.ring_state import RingState

_STATES = {Rank.ALIVE: State.ALIVE, Rank.SUSPECT: State.SUSPECT, Rank.DOWN: State.DOWN, Rank.LEFT: State.LEFT}


class MemberView:
    """What `ring` says, as `Member` values; a name is looked at again when it changed."""

    def __init__(self, ring: RingState) -> None:
        self.members: SortedDict[str, Member] = SortedDict()
        self.why: dict[str, str] = {}
        """What is known of a name that cannot be reached."""
        self.down_since: dict[str, float] = {}
        self._gone_since: dict[str, float] = {}
        self._suspect_since: dict[str, float] = {}
        self._doubted: dict[str, float] = {}
        self._ring = ring

    def look(self, name: str, now: float) -> tuple[Member | None, Member | None]:
        """Look at a name again; return how it was seen before, and how it is now."""
        before, after = self.members.get(name), self._read(name)
        if after is None:
            self.members.pop(name, None)
        else:
            self.members[name] = after
            self._gone_since.pop(name, None)
        if after is not None and after.state is State.SUSPECT:
            self._suspect_since.setdefault(name, now)
        else:
            self._suspect_since.pop(name, None)
        if after is not None and after.is_out:
            self.down_since.setdefault(name, now)
        else:
            self.down_since.pop(name, None)
        if before is not None and after is None:
            self._gone_since[name] = now
            before = self._departed(before)
        return before, after

    def suspected_for(self, name: str, now: float) -> float:
        """For how many seconds a member has been suspected; 0 for one that is not."""
        return now - self._suspect_since.get(name, now)

    def doubt(self, name: str, until: float) -> None:
        """See a member that others call down as suspected until then: it may not have heard, and can refute it."""
        self._doubted[name] = until

    def believe(self, name: str) -> bool:
        """Doubt no more; True when there was a doubt."""
        return self._doubted.pop(name, None) is not None

    def doubtless(self, now: float) -> list[str]:
        """The names that have had time to refute; whom nobody calls down any more is forgotten."""
        over = [name for name, until in self._doubted.items() if until <= now]
        for name in over:
            del self._doubted[name]
        return over

    @property
    def next_doubtless(self) -> float | None:
        """When the first of them has had time."""
        return min(self._doubted.values(), default=None)

    def _read(self, name: str) -> Member | None:
        entry = self._ring.entry(name)
        if entry is None:
            return None
        by_hand = entry.announced.name != name
        node = NodeId(name, entry.host, entry.port, 0 if by_hand else entry.boot)
        claim = self._ring.claim(name)
        state = State.SUSPECT if claim.rank == Rank.DOWN and name in self._doubted else _STATES[claim.rank]
        why = self.why.get(name, "does not answer") if state is State.DOWN else ""
        return Member(node, state, claim.ready, entry.weight, _meta(entry.meta), why)

    def _departed(self, before: Member) -> Member:
        """Say of one that is in the ring no more whether it left by itself."""
        claim = self._ring.claim(before.name)
        left = claim.rank is Rank.LEFT and claim.boot >= before.node.incarnation
        return replace(before, state=State.LEFT, ready=False) if left else replace(before, ready=False)

    def reachable(self) -> list[str]:
        """The members that take part in spreading news, by name."""
        return [name for name, member in self.members.items() if not member.is_out]

    def down_for(self, duration: float, now: float) -> list[str]:
        """The members that have been down for so many seconds."""
        return [name for name, since in self.down_since.items() if now - since >= duration]

    def gone_for(self, duration: float, now: float) -> list[str]:
        """The names that have been out of the ring for so many seconds; each is told once."""
        gone = [name for name, since in self._gone_since.items() if now - since >= duration]
        for name in gone:
            del self._gone_since[name]
        return gone


def _meta(packed: bytes) -> Mapping[str, Any]:
    """Unpack metadata; what cannot be read, or is no map, is none."""
    try:
        meta = decode_without_messages(packed) if packed else {}
    except PayloadError:
        return {}
    return meta if isinstance(meta, dict) else {}
