"""The members that one replica sees: entries with their siblings, fences, claims.

M, F and L of the rules (docs/membership.md). A name is *visible* while it has an
entry. A fence is the highest removed boot of a name, and is kept for ever: an entry
with that boot or a lower one is deleted wherever it is seen. Claims are read for the
boot of the entry: one of an older boot counts for nothing.

Digests, the view and the resolved entries are kept up to date with every change, in
O(1) and O(siblings); listings are in order of name.
"""

from collections.abc import Iterable, Mapping

from sortedcontainers import SortedDict

from clusterkit.core.ring_entry import Claim, Dot, Entry, Rank, resolve
from clusterkit.core.ring_history import hash64

STRANGERS = 1_024
"""So many claims are kept about names that are not visible."""
_NONE: Mapping[Dot, Entry] = {}
_NO_CLAIM = Claim(0, 0, Rank.ALIVE, ready=False)


class RingMap:
    """Entries, fences and claims of all names.

    ``view`` is a hash over the boots of the visible names and all fences: what an
    agreement on retirement is about.
    """

    def __init__(self, *, fenced: bool = True) -> None:
        self.digest = 0
        self.claims_digest = 0
        self.view = 0
        self.fences: dict[str, int] = {}
        self._siblings: SortedDict[str, Mapping[Dot, Entry]] = SortedDict()
        self._entries: dict[str, Entry] = {}
        self._claims: dict[str, Claim] = {}
        self._counted: dict[str, Claim] = {}  # the claims as read, of visible names: what the digest is over
        self._strangers: dict[str, None] = {}  # names with a claim that are not visible, the oldest first
        self._changed: dict[str, None] = {}
        self._fenced = fenced

    # -- reading

    def __contains__(self, name: object) -> bool:
        return name in self._siblings

    def __len__(self) -> int:
        return len(self._siblings)

    def names(self) -> Iterable[str]:
        """The visible names, in order."""
        return self._siblings.keys()

    def entry(self, name: str) -> Entry | None:
        """The siblings of a name read as one; None if it is not visible."""
        return self._entries.get(name)

    def siblings(self, name: str) -> Mapping[Dot, Entry]:
        """The concurrent entries of a name, by their dots; none if it is not visible."""
        return self._siblings.get(name, _NONE)

    def claim(self, name: str) -> Claim:
        """What holds of a name's liveness: alive and not ready until something is said of its boot."""
        stored, entry = self._claims.get(name, _NO_CLAIM), self._entries.get(name)
        return stored if entry is None or stored.boot >= entry.boot else Claim(entry.boot, 0, Rank.ALIVE, ready=False)

    def said(self, name: str) -> Claim | None:
        """The claim that was heard of a name, if it is of no older boot than the entry; of one that left it says so."""
        entry, stored = self._entries.get(name), self._claims.get(name)
        return None if stored is None or (entry is not None and stored.boot < entry.boot) else stored

    def boot(self, name: str) -> int:
        """The highest boot of a name among its fence, entries and claim; 0 for none."""
        boots = [entry.boot for entry in self.siblings(name).values()]
        return max(self.fences.get(name, 0), self._claims.get(name, _NO_CLAIM).boot, *boots, 0)

    def take_changed(self) -> list[str]:
        """The names that changed since the last call, in the order of their first change."""
        changed, self._changed = list(self._changed), {}
        return changed

    # -- writing

    def note(self, names: Iterable[str]) -> None:
        """Count names as changed."""
        self._changed.update(dict.fromkeys(names))

    def settle(self, name: str, siblings: Mapping[Dot, Entry]) -> None:
        """Set what stands of a name; fenced entries fall away."""
        fence = self.fences.get(name, 0) if self._fenced else 0
        live = {dot: entry for dot, entry in siblings.items() if entry.boot > fence}
        before = self.siblings(name)
        if live.keys() == before.keys():
            return
        for dot in live.keys() ^ before.keys():
            self.digest ^= hash64("dot", name, *dot.actor, dot.n)
        self._show(name, resolve(live) if live else None)
        if live:
            self._siblings[name] = live
        else:
            del self._siblings[name]
        self._changed[name] = None

    def raise_fence(self, name: str, boot: int) -> None:
        """Take the boots of the name up to this one as removed."""
        old = self.fences.get(name, 0)
        if boot <= old:
            return
        self.fences[name] = boot
        turn = (hash64("fence", name, old) if old else 0) ^ hash64("fence", name, boot)
        self.digest ^= turn
        self.view ^= turn
        self._changed[name] = None
        self.settle(name, self.siblings(name))

    def hear(self, name: str, claim: Claim) -> bool:
        """Store a claim if it is higher than the one stored; tell whether it was."""
        if claim <= self._claims.get(name, _NO_CLAIM):
            return False
        self._claims[name] = claim
        self._changed[name] = None
        self._read_claim(name)
        return True

    def _show(self, name: str, entry: Entry | None) -> None:
        """Set the resolved entry, and all that follows from it."""
        before = self._entries.pop(name, None)
        if entry is not None:
            self._entries[name] = entry
        boot, old = (0 if each is None else each.boot for each in (entry, before))
        if boot != old:
            self.view ^= (hash64("boot", name, old) if old else 0) ^ (hash64("boot", name, boot) if boot else 0)
        self._read_claim(name)

    def _read_claim(self, name: str) -> None:
        """Bring the claims' digest up to date with what is read now, and bound what is kept of strangers."""
        counted = self._counted.pop(name, None)
        if counted is not None:
            self.claims_digest ^= hash64("claim", name, *map(int, counted))
        if name in self._entries:
            self._strangers.pop(name, None)
            claim = self._counted[name] = self.claim(name)
            self.claims_digest ^= hash64("claim", name, *map(int, claim))
        elif name in self._claims:
            self._strangers[name] = None
            if len(self._strangers) > STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest], self._claims[oldest]
