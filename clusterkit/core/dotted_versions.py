"""Dotted version vector sets: the values of one key, with what each write knew of the others.

A *dot* (node, n) names one write: the n-th that ``node`` accepted for the key. A set
keeps, per node, how many of its writes are known, and those of their values that no
later write has replaced, newest first: the value of dot (node, n) stands before that
of (node, n - 1). Several values are *siblings*, written without knowledge of each other.

A client reads `values` and `join`, the *context*; it writes with `new`, value and
context together; the node that accepts the write names it with `update`. A value is
replaced by the writes whose context covers its dot and by no other, so a client with
an old context makes a sibling, never a loss, and never a false conflict.

Sources: Preguica et al., "Dotted Version Vectors" (2010); Almeida et al., "Scalable
and Accurate Causality Tracking for Eventually Consistent Stores" (2014), whose
compact form this is, as Riak's dvvset has it.

Rules: a set is a value. `sync` is commutative, associative and idempotent where one
dot always has one value: a node must never count the same dot twice, so it takes a
new name when it has lost its store. Values are compared with ``==`` and never hashed.
"""

# ruff: noqa: SLF001  # a value looks into others of its own class

from collections.abc import Iterable, Mapping
from typing import Any, Generic, Self, TypeVar

from clusterkit.core.vector_clock import VectorClock
from clusterkit.errors import ConfigError, UsageError

Value = TypeVar("Value")


class DottedVersionVectorSet(Generic[Value]):
    """The concurrent values of a key and their causal history; empty at first.

    >>> stored = DottedVersionVectorSet.new("v1").update("a")
    >>> context = stored.join()
    >>> stored = DottedVersionVectorSet.new("v2", context).update("a", stored)
    >>> stored.values()
    ['v2']
    >>> DottedVersionVectorSet.new("v3", context).update("b", stored).values()
    ['v2', 'v3']
    """

    __slots__ = ("_entries", "_pending")

    def __init__(self) -> None:
        # {node: (writes known, values not replaced, newest first)}, and values that no node has named yet.
        self._entries: dict[str, tuple[int, tuple[Value, ...]]] = {}
        self._pending: tuple[Value, ...] = ()

    @classmethod
    def new(cls, value: Value, context: VectorClock | None = None) -> Self:
        """Return a write on its way to a node: a value that replaces what ``context`` covers.

        Without a context it replaces nothing.

        >>> DottedVersionVectorSet.new("v").values()
        ['v']
        """
        known = VectorClock() if context is None else context
        return cls._of({node: (known.get(node), ()) for node in known}, (value,))

    @classmethod
    def _of(cls, entries: dict[str, tuple[int, tuple[Value, ...]]], pending: tuple[Value, ...]) -> Self:
        made = cls()
        made._entries, made._pending = entries, pending
        return made

    def update(self, node: str, stored: "DottedVersionVectorSet[Value] | None" = None) -> Self:
        """Accept this write at ``node``, which has ``stored``; return what it stores now.

        The value gets the next dot of ``node``; stored values that the write's
        context covers are gone. `UsageError` if this is not one value made by `new`.
        O(nodes + values).

        >>> DottedVersionVectorSet.new("v").update("a").join().to_dict()
        {'a': 1}
        """
        if len(self._pending) != 1:
            raise UsageError(f"update() takes one new value, made by new(); here are {len(self._pending)}")
        if not isinstance(node, str):
            raise TypeError(f"a node is a str, not {type(node).__name__}: {node!r}")
        known = self._of(self._entries, ())
        both = known if stored is None else known.sync(stored)
        writes, kept = both._entries.get(node, (0, ()))
        entries = {**both._entries, node: (writes + 1, (*self._pending, *kept))}
        return self._of(entries, both._pending)

    def sync(self, *others: "DottedVersionVectorSet[Value]") -> Self:
        """Return what all know together: every value that none of them knows to be replaced.

        O(nodes + values) for each.

        >>> one = DottedVersionVectorSet.new("v1").update("a")
        >>> two = DottedVersionVectorSet.new("v2").update("b")
        >>> one.sync(two) == two.sync(one)
        True
        """
        entries, pending = dict(self._entries), list(self._pending)
        for other in others:
            for node, theirs in other._entries.items():
                entries[node] = _newest(entries.get(node, (0, ())), theirs)
            pending += [value for value in other._pending if value not in pending]
        return self._of(entries, tuple(pending))

    def join(self) -> VectorClock:
        """Return the context: all writes known here, to be handed back with the next write.

        >>> DottedVersionVectorSet.new("v").update("a").join()
        VectorClock({'a': 1})
        """
        return VectorClock({node: writes for node, (writes, _) in self._entries.items()})

    def discard(self, context: VectorClock) -> Self:
        """Return the set without the values that ``context`` covers; their dots stay known.

        What a delete does: a copy that still has them loses them at the next `sync`.

        >>> stored = DottedVersionVectorSet.new("v").update("a")
        >>> emptied = stored.discard(stored.join())
        >>> emptied.values(), emptied.sync(stored).values()
        ([], [])
        """
        return self._of(
            {
                node: (writes, values[: max(0, writes - context.get(node))])
                for node, (writes, values) in self._entries.items()
            },
            self._pending,
        )

    def values(self) -> list[Value]:
        """Return the siblings: those of each node in order of node, newest first, then any unnamed.

        >>> DottedVersionVectorSet().values()
        []
        """
        named = [value for _, (_, values) in sorted(self._entries.items(), key=_by_node) for value in values]
        return [*named, *self._pending]

    def less(self, other: "DottedVersionVectorSet[Value]") -> bool:
        """Tell whether ``other`` knows all writes known here and more; unnamed values do not count.

        >>> one = DottedVersionVectorSet.new("v1").update("a")
        >>> one.less(DottedVersionVectorSet.new("v2", one.join()).update("a", one))
        True
        """
        return self.join() < other.join()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: ``[writes, values]`` per node in order of node, and the unnamed values.

        >>> DottedVersionVectorSet.new("v").update("a").to_dict()
        {'entries': {'a': [1, ['v']]}, 'pending': []}
        """
        entries = {
            node: [writes, list(values)] for node, (writes, values) in sorted(self._entries.items(), key=_by_node)
        }
        return {"entries": entries, "pending": list(self._pending)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; `ConfigError` for anything else.

        >>> stored = DottedVersionVectorSet.new("v").update("a")
        >>> DottedVersionVectorSet.from_dict(stored.to_dict()) == stored
        True
        """
        try:
            entries = {node: _read_entry(node, *entry) for node, entry in data["entries"].items()}
            # As everywhere: what was written no times is absent.
            known = {node: entry for node, entry in entries.items() if entry[0]}
            return cls._of(known, tuple(data["pending"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this describes no dotted version vector set: {error!r}") from error

    def __len__(self) -> int:
        """Return the number of siblings."""
        return len(self.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DottedVersionVectorSet):
            return NotImplemented
        return self._entries == other._entries and _same_values(self._pending, other._pending)

    __hash__ = None  # type: ignore[assignment]  # values need not be hashable

    def __repr__(self) -> str:
        return f"<DottedVersionVectorSet {self.values()!r} at {self.join()!r}>"


def _newest(one: tuple[int, tuple[Value, ...]], two: tuple[int, tuple[Value, ...]]) -> tuple[int, tuple[Value, ...]]:
    """Join two entries of one node: all dots known to either, all values that neither knows to be replaced."""
    ahead, behind = (one, two) if one[0] >= two[0] else (two, one)
    # An entry knows its dots above `writes - len(values)` to be alive, those up to it to be replaced.
    replaced = max(ahead[0] - len(ahead[1]), behind[0] - len(behind[1]))
    return ahead[0], ahead[1][: max(0, ahead[0] - replaced)]


def _same_values(one: Iterable[Any], two: Iterable[Any]) -> bool:
    """Compare unordered, by equality alone: `sync` keeps unnamed values in the order met."""
    left = list(two)
    for value in one:
        if value not in left:
            return False
        left.remove(value)
    return not left


def _read_entry(node: object, writes: object, values: Any) -> tuple[int, tuple[Any, ...]]:
    if not isinstance(node, str) or type(writes) is not int or not isinstance(values, list | tuple):
        raise TypeError(f"no entry of a node: {node!r}: [{writes!r}, {values!r}]")
    if writes < len(values):
        raise ValueError(f"{node!r} has {writes} writes and {len(values)} values of them")
    return writes, tuple(values)


def _by_node(item: tuple[str, Any]) -> str:
    return item[0]
