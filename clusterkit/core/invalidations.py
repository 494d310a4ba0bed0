"""Invalidations of a cache, as one node has heard of them, and what follows for what it is about to store.

The rule that keeps old values out: a node stores a value *never* when it heard of an
invalidation of that key since it began to fetch it (`is_stale`), and who asks another
node for a value says which invalidations of it are known here (`about`), so that the
other one has applied them before it answers. Each node that has heard of an invalidation
is then free of what was loaded before, wherever a value travels meanwhile.

Of each key and prefix the newest of each maker is kept: an hour, and 50,000 of them.
Who may have missed others is told that all is invalid (`after`); a fetch that began
before them counts as overtaken.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from sortedcontainers import SortedDict

KEEP = 3_600.0
MOST = 50_000
RECENT = 600.0
"""Seconds for which an invalidation is told with each question about the key, and to nodes that are new here."""
KEY, PREFIX, ALL = 0, 1, 2
_NEW = 60.0  # seconds for which it is told with questions about many keys: longer than any message is on its way
_PARTS = 5
_MOST_TEXT = 1_024
_COST = 320  # bytes of one beside its text: the name of a node, and three numbers


class Invalidation(NamedTuple):
    """One invalidation: who made it (a node's name, its incarnation, its count there), and of what."""

    name: str
    boot: int
    number: int
    kind: int
    text: str

    def covers(self, key: str) -> bool:
        """Whether a key is meant.

        >>> Invalidation("a", 7, 1, PREFIX, "user:").covers("user:ada")
        True
        """
        return self.kind == ALL or (key == self.text if self.kind == KEY else key.startswith(self.text))


@dataclass(slots=True)
class _Heard:
    what: Invalidation
    seq: int
    at: float


_Makers = dict[str, _Heard]
_NOBODY: _Makers = {}


class Invalidations:
    """What one node has heard of. ``seq`` numbers it; a fetch notes that when it begins.

    ``name`` and ``boot`` say who makes them here, ``new_number`` counts: never the same twice.

    >>> log = Invalidations("b", 8, iter(range(1, 99)).__next__)
    >>> began = log.seq
    >>> log.apply(Invalidation("a", 7, 1, KEY, "x"), 1.0), log.apply(Invalidation("a", 7, 1, KEY, "x"), 2.0)
    (True, False)
    >>> log.is_stale("x", began), log.is_stale("y", began), log.is_stale("x", log.seq)
    (True, False, False)
    """

    def __init__(
        self,
        name: str,
        boot: int,
        new_number: Callable[[], int],
        *,
        keep: float = KEEP,
        most: int = MOST,
        most_told: int = 64 << 10,
    ) -> None:
        self.seq = 0
        self._name = name
        self.boot = boot
        """This node's incarnation, now."""
        self._new_number = new_number
        self._keep = keep
        self._most = most
        self._most_told = most_told
        self._by_seq: SortedDict[int, _Heard] = SortedDict()
        self._places: tuple[dict[str, _Makers], ...] = ({}, {}, {})  # by kind and text
        self._lengths: Counter[int] = Counter()  # of the prefixes
        self._last_by: dict[str, int] = {}  # the last `seq` of each maker
        self._overtaken = 0  # what was fetched since an earlier `seq` may be older than what is forgotten
        self._forgotten = 0  # the last of those that are remembered no more, and when it was heard
        self._forgotten_at = -inf
        self._own_forgotten, self._own_forgotten_at = 0, -inf  # the same of those made here
        self._instead: Invalidation | None = None  # told to who may have missed those

    def __len__(self) -> int:
        return len(self._by_seq)

    # -- hearing

    def make(self, kind: int, text: str, now: float) -> Invalidation:
        """Make one, and take note of it."""
        what = Invalidation(self._name, self.boot, self._new_number(), kind, text)
        self._note(what, now)
        return what

    def apply(self, what: Invalidation, now: float) -> bool:
        """Take note of one that another node told; False when it says nothing new, as one made here does."""
        if (what.name, what.boot) == (self._name, self.boot):
            return False
        before = self._makers(what).get(what.name)
        if before is not None and (before.what.boot, before.what.number) >= (what.boot, what.number):
            return False
        self._note(what, now)
        return True

    def begin_anew(self) -> None:
        """Take all that is being fetched now as overtaken: this node is among others now, who need not hear what is forgotten."""
        self.seq += 1
        self._overtaken = self.seq
        self._forgotten_at = self._own_forgotten_at = -inf

    def _makers(self, what: Invalidation) -> _Makers:
        return self._places[what.kind].get(what.text) or {}

    def _note(self, what: Invalidation, now: float) -> None:
        self._drop(self._makers(what).get(what.name))
        self.seq += 1
        heard = self._by_seq[self.seq] = _Heard(what, self.seq, now)
        self._last_by[what.name] = self.seq
        self._places[what.kind].setdefault(what.text, {})[what.name] = heard
        if what.kind == PREFIX:
            self._lengths[len(what.text)] += 1
        while len(self._by_seq) > self._most or self._by_seq.peekitem(0)[1].at < now - self._keep:
            _, gone = self._by_seq.peekitem(0)
            self._drop(gone)
            self._forgotten, self._forgotten_at = gone.seq, gone.at
            if gone.what.name == self._name:
                self._own_forgotten, self._own_forgotten_at = gone.seq, gone.at
            self._overtaken = max(self._overtaken, gone.seq)
            self._instead = None

    def _drop(self, heard: _Heard | None) -> None:
        if heard is None:
            return
        what = heard.what
        makers = self._makers(what)
        del self._by_seq[heard.seq], makers[what.name]
        if not makers:
            del self._places[what.kind][what.text]
        if what.kind == PREFIX:
            self._lengths[len(what.text)] -= 1
            if not self._lengths[len(what.text)]:
                del self._lengths[len(what.text)]
        if self._last_by[what.name] == heard.seq:
            del self._last_by[what.name]

    # -- storing

    def is_stale(self, key: str, began: int) -> bool:
        """Whether what was fetched since ``began`` (a `seq`) may be older than an invalidation of the key. O(length)."""
        if began == self.seq:
            return False
        return began < self._overtaken or any(each.seq > began for each in self._covering(key))

    def _covering(self, key: str) -> Iterator[_Heard]:
        keys, prefixes, everything = self._places
        yield from keys.get(key, _NOBODY).values()
        for length in self._lengths:
            if length <= len(key):
                yield from prefixes.get(key[:length], _NOBODY).values()
        yield from everything.get("", _NOBODY).values()

    # -- telling

    def about(self, key: str, now: float, behind: int | None = None) -> list[Invalidation]:
        """The recent ones that cover a key, and all after a `seq`: to be told with a question about it. O(length)."""
        if not self._by_seq:
            return []
        after = self.seq if behind is None else behind
        told = [each.what for each in self._covering(key) if each.at > now - RECENT or each.seq > after]
        return [*told, self._all()] if after < self._forgotten else told

    def _all(self) -> Invalidation:
        """What is told in place of what is remembered no more; this node itself does not heed it."""
        if self._instead is None:
            self._instead = Invalidation(self._name, self.boot, self._new_number(), ALL, "")
        return self._instead

    def recent(self, now: float) -> list[Invalidation]:
        """All that were heard in the last minute, the oldest first."""
        return [self._by_seq[seq].what for seq in self._by_seq.irange(self.before(now - _NEW) + 1)]

    def before(self, at: float, *, own: bool = False) -> int:
        """The `seq` after which is what was heard from a moment on, or what was made here."""
        seqs = self._by_seq.keys()
        if earlier := bisect_left(seqs, at, key=lambda seq: self._by_seq[seq].at):
            return seqs[earlier - 1]
        if own:
            return self._own_forgotten - (self._own_forgotten_at >= at)
        return self._forgotten - (self._forgotten_at >= at)

    @property
    def oldest(self) -> int:
        """The `seq` after which is all that is remembered."""
        return self._forgotten

    def lately(self, now: float) -> int:
        """The `seq` after which are the recent ones, as far as they are remembered."""
        return max(self.before(now - RECENT), self._forgotten)

    def lately_by(self, name: str, now: float) -> int | None:
        """The `seq` after which are the recent ones of one maker; None when there are none. O(recent ones)."""
        lately = self.lately(now)
        recent = self._by_seq.irange(lately + 1) if self._last_by.get(name, 0) > lately else ()
        return next((seq - 1 for seq in recent if self._by_seq[seq].what.name == name), None)

    def after(self, seq: int, *, own: bool = False) -> tuple[list[Invalidation], int]:
        """What was heard after a `seq`, or what was made here: a message's worth, and the `seq` that a next look begins at.

        When not all of that is remembered: one that says that all is invalid.
        """
        if seq < (self._own_forgotten if own else self._forgotten):
            return [self._all()], self._forgotten
        told: list[Invalidation] = []
        size = 0
        for number in self._by_seq.irange(seq + 1):
            what = self._by_seq[number].what
            if not own or what.name == self._name:
                size += size_of(what)
                if told and size > self._most_told:
                    return told, seq
                told.append(what)
            seq = number
        return told, self.seq


def size_of(what: Invalidation) -> int:
    """The bytes that one takes in a message, at the most."""
    return len(what.text.encode()) + _COST


def pack_told(told: Iterable[Invalidation]) -> list[Any]:
    """Make a flat list of them.

    >>> unpack_told(pack_told([Invalidation("a", 7, 1, KEY, "x")]))
    [Invalidation(name='a', boot=7, number=1, kind=0, text='x')]
    """
    return [part for each in told for part in each]


def unpack_told(told: object) -> list[Invalidation]:
    """Read such a list from another node; raises `ValueError` for anything else."""
    if type(told) is not list or len(told) % _PARTS or len(told) > _PARTS * MOST:
        raise ValueError("no list of invalidations")
    return [_read(*told[at : at + _PARTS]) for at in range(0, len(told), _PARTS)]


def _read(name: object, boot: object, number: object, kind: object, text: object) -> Invalidation:
    if type(name) is not str or type(text) is not str or type(boot) is not int or type(number) is not int:
        raise ValueError("no invalidation")
    if len(name) > _MOST_TEXT or len(text) > _MOST_TEXT:
        raise ValueError("an invalidation of a name or key that is too long")
    if type(kind) is not int or not KEY <= kind <= ALL:
        raise ValueError(f"no kind of invalidation: {kind!r}")
    return Invalidation(name, boot, number, kind, "" if kind == ALL else text)
