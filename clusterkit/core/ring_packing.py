"""The ring's frames as plain lists of numbers, text and bytes, for msgpack; and back, from anybody.

A frame opens with its *table*: every name that occurs in it, in order, and with each
the boots that occur. Names and actors are named once, there; the rest has their
numbers, so that a full state costs about 90 bytes per member.

::

    table    [names, boots]           boots: per name 0 for none, one, or a list of them
    clock    [counts, floors]         counts: per actor of the table, 0 for none
    pairs    [key, n, key, n ...]     numbers of names or actors, and what belongs to them
    sibling  [actor, n, boot, time, actor, host, port, meta, time, actor, weight]
    claim    nil or [boot, inc, rank, ready]

    Clock    [table, clock]
    Change   [table, actor, n, name, siblings, context, fence, floor, claim]
    Delta    [table, base, clock, [[name, siblings, log, fence, claim] ...]]
    Full     [table, clock, [[name, siblings] ...], fences, [pairs per actor], forgotten, [[name, claim] ...]]

Unpacking takes any object and trusts nothing: `ValueError` or `TypeError` for all that
is malformed, work linear in its size, and every list bounded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

from clusterkit.core.identity import check_name, format_host_port, parse_host_port
from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Change, Clock, Delta, Full, Item

MOST_META = 4_096
MOST_WEIGHT = 1_000
_MOST_ITEMS = 65_536
_U64 = (1 << 64) - 1
_MOST_TIME = (1 << 64) - (1 << 32)  # a write is stamped above what it replaces: that has to be possible
_Key = TypeVar("_Key")
_Siblings = Mapping[Dot, Entry]

# -- packing


class _Table:
    """The numbers of the names and actors of one frame."""

    def __init__(self, names: Iterable[str], actors: Iterable[Actor]) -> None:
        boots: dict[str, list[int]] = {name: [] for name in names}
        for name, boot in sorted(set(actors)):
            boots.setdefault(name, []).append(boot)
        self._boots = dict(sorted(boots.items()))
        self.name = {name: number for number, name in enumerate(self._boots)}
        self.actors = [Actor(name, boot) for name, its in self._boots.items() for boot in its]
        self.actor = {actor: number for number, actor in enumerate(self.actors)}

    def pack(self) -> list[Any]:
        return [list(self._boots), [(its[0] if its else 0) if len(its) < 2 else its for its in self._boots.values()]]

    def clock(self, clock: Clock) -> list[Any]:
        return [[clock.counts.get(actor, 0) for actor in self.actors], self.by_name(clock.floors)]

    def by_name(self, pairs: Mapping[str, int]) -> list[int]:
        return [each for name, n in pairs.items() for each in (self.name[name], n)]

    def by_actor(self, pairs: Mapping[Actor, int]) -> list[int]:
        return [each for actor, n in pairs.items() for each in (self.actor[actor], n)]

    def siblings(self, siblings: _Siblings) -> list[list[Any]]:
        return [self._sibling(dot, entry) for dot, entry in siblings.items()]

    def _sibling(self, dot: Dot, entry: Entry) -> list[Any]:
        announced, weighed = self._stamp(entry.announced), self._stamp(entry.weighed)
        own = (entry.boot, *announced, entry.host, entry.port, entry.meta)
        return [self.actor[dot.actor], dot.n, *own, *weighed, entry.weight]

    def _stamp(self, stamp: Stamp) -> tuple[int, int]:
        return stamp.time, self.actor[Actor(stamp.name, stamp.boot)]


def _actors_of(siblings: _Siblings) -> Iterator[Actor]:
    for dot, entry in siblings.items():
        yield dot.actor
        yield Actor(entry.announced.name, entry.announced.boot)
        yield Actor(entry.weighed.name, entry.weighed.boot)


def pack_claim(claim: Claim | None) -> list[Any] | None:
    """Pack a claim, or that there is none.

    >>> pack_claim(Claim(7, 1, Rank.DOWN, False))
    [7, 1, 2, False]
    """
    return None if claim is None else [claim.boot, claim.inc, int(claim.rank), claim.ready]


def pack_clock(clock: Clock) -> list[Any]:
    """Pack a clock.

    >>> pack_clock(Clock({Actor("a", 7): 3}, {"a": 7}))
    [[['a'], [7]], [[3], [0, 7]]]
    """
    table = _Table(clock.floors, clock.counts)
    return [table.pack(), table.clock(clock)]


def pack_change(change: Change) -> list[Any]:
    """Pack a change: about 110 bytes with names and host of the usual length."""
    table = _Table([change.name], [change.dot.actor, *change.context, *_actors_of(change.siblings)])
    return [
        table.pack(),
        table.actor[change.dot.actor],
        change.dot.n,
        table.name[change.name],
        table.siblings(change.siblings),
        table.by_actor(change.context),
        change.fence,
        change.floor,
        pack_claim(change.claim),
    ]


def pack_delta(delta: Delta) -> list[Any]:
    """Pack a delta."""
    items = delta.items
    names = [*delta.base.floors, *delta.clock.floors, *(item.name for item in items)]
    used = [*delta.base.counts, *delta.clock.counts, *chain.from_iterable(item.log for item in items)]
    table = _Table(names, [*used, *chain.from_iterable(_actors_of(item.siblings) for item in items)])
    return [
        table.pack(),
        table.clock(delta.base),
        table.clock(delta.clock),
        [_pack_item(each, table) for each in items],
    ]


def _pack_item(item: Item, table: _Table) -> list[Any]:
    siblings, log = table.siblings(item.siblings), table.by_actor(item.log)
    return [table.name[item.name], siblings, log, item.fence, pack_claim(item.claim)]


def pack_full(full: Full) -> list[Any]:
    """Pack a whole state."""
    names = [*full.clock.floors, *full.entries, *full.fences, *full.claims, *chain.from_iterable(full.log.values())]
    used = [*full.clock.counts, *full.log, *full.forgotten]
    table = _Table(names, [*used, *chain.from_iterable(map(_actors_of, full.entries.values()))])
    return [
        table.pack(),
        table.clock(full.clock),
        [[table.name[name], table.siblings(siblings)] for name, siblings in full.entries.items()],
        table.by_name(full.fences),
        [table.by_name(full.log.get(actor, {})) for actor in table.actors],
        table.by_actor(full.forgotten),
        [[table.name[name], pack_claim(claim)] for name, claim in full.claims.items()],
    ]


# -- unpacking


def _list(value: Any, most: int = _MOST_ITEMS) -> list[Any]:
    if type(value) is not list or len(value) > most:
        raise TypeError(f"no list of at most {most}: {type(value).__name__}")
    return value


def _fields(value: Any, count: int) -> list[Any]:
    fields = _list(value)
    if len(fields) != count:
        raise ValueError(f"{count} fields are meant, here are {len(fields)}")
    return fields


def _int(value: Any, least: int = 0, most: int = _U64) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"no number from {least} to {most}: {value!r:.80}")
    return value


class _Tables:
    """The names and actors of a frame that is read, by their numbers."""

    def __init__(self, body: Any) -> None:
        names, boots = _fields(body, 2)
        self.names = [check_name(name) for name in _list(names)]
        self.actors = [
            Actor(name, _int(boot, 1))
            for name, its in zip(self.names, _list(boots), strict=True)
            for boot in (_list(its) if type(its) is list else [its] if its else [])
        ]
        if len(self.actors) > _MOST_ITEMS or len(set(self.names)) < len(names):
            raise ValueError("a table with too many actors, or with a name twice")

    def name(self, number: Any) -> str:
        return self.names[_int(number, 0, len(self.names) - 1)]

    def actor(self, number: Any) -> Actor:
        return self.actors[_int(number, 0, len(self.actors) - 1)]

    def clock(self, body: Any) -> Clock:
        counts, floors = _fields(body, 2)
        pairs = zip(self.actors, _list(counts), strict=True)
        return Clock({actor: n for actor, n in pairs if _int(n)}, self.by_name(floors))

    def by_name(self, body: Any) -> dict[str, int]:
        return _pairs(body, self.name)

    def by_actor(self, body: Any) -> dict[Actor, int]:
        return _pairs(body, self.actor)

    def siblings(self, body: Any) -> dict[Dot, Entry]:
        return dict(self._sibling(*_fields(each, 11)) for each in _list(body))

    def _sibling(self, actor: Any, n: Any, boot: Any, *parts: Any) -> tuple[Dot, Entry]:
        time, writer, host, port, meta, weighed, weigher, weight = parts
        if type(host) is not str or type(meta) is not bytes or len(meta) > MOST_META:
            raise TypeError("no host and meta of an entry")
        parse_host_port(format_host_port(host, _int(port, 1, 65_535)))
        own = (_int(boot, 1), self._stamp(time, writer), host, port, meta)
        entry = Entry(*own, self._stamp(weighed, weigher), _int(weight, 1, MOST_WEIGHT))
        return Dot(self.actor(actor), _int(n, 1)), entry

    def _stamp(self, time: Any, writer: Any) -> Stamp:
        return Stamp(_int(time, 0, _MOST_TIME), *self.actor(writer))

    def item(self, name: Any, siblings: Any, log: Any, fence: Any, claim: Any) -> Item:
        stands, known = self.siblings(siblings), self.by_actor(log)
        return Item(self.name(name), stands, known, _int(fence), unpack_claim(claim))


def _pairs(body: Any, key: Callable[[Any], _Key]) -> dict[_Key, int]:
    flat = _list(body, 2 * _MOST_ITEMS)
    return {key(each): _int(n, 1) for each, n in zip(flat[::2], flat[1::2], strict=True)}


def unpack_claim(body: Any) -> Claim | None:
    """Read what `pack_claim` wrote."""
    if body is None:
        return None
    boot, inc, rank, ready = _fields(body, 4)
    if type(ready) is not bool:
        raise TypeError("ready is true or false")
    return Claim(_int(boot, 1), _int(inc), Rank(_int(rank)), ready)


def unpack_clock(body: Any) -> Clock:
    """Read what `pack_clock` wrote."""
    table, clock = _fields(body, 2)
    return _Tables(table).clock(clock)


def unpack_change(body: Any) -> Change:
    """Read what `pack_change` wrote."""
    table, actor, n, name, siblings, context, fence, floor, claim = _fields(body, 9)
    read = _Tables(table)
    return Change(
        Dot(read.actor(actor), _int(n, 1)),
        read.name(name),
        read.siblings(siblings),
        read.by_actor(context),
        _int(fence),
        _int(floor),
        unpack_claim(claim),
    )


def unpack_delta(body: Any) -> Delta:
    """Read what `pack_delta` wrote."""
    table, base, clock, items = _fields(body, 4)
    read = _Tables(table)
    return Delta(read.clock(base), read.clock(clock), tuple(read.item(*_fields(each, 5)) for each in _list(items)))


def unpack_full(body: Any) -> Full:
    """Read what `pack_full` wrote."""
    table, clock, entries, fences, log, forgotten, claims = _fields(body, 7)
    read = _Tables(table)
    stands = (_fields(each, 2) for each in _list(entries))
    said = (_fields(each, 2) for each in _list(claims))
    logs = zip(read.actors, _list(log), strict=True)
    return Full(
        read.clock(clock),
        {read.name(name): read.siblings(siblings) for name, siblings in stands},
        read.by_name(fences),
        {actor: read.by_name(pairs) for actor, pairs in logs if pairs},
        read.by_actor(forgotten),
        {read.name(name): claim for name, body in said if (claim := unpack_claim(body)) is not None},
    )
