"""What `clusterkit top` shows: a frame is made of two looks at a node, and is drawn into the lines that there are.

Rules: a rate is a difference of two counts over the time between them, and unknown when there is no
earlier count or it was higher (another run); what does not fit is counted, not cut in silence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterkit.cli.event_lines import as_json
from clusterkit.cli.follow import Event
from clusterkit.core.identity import format_host_port

SORTS = ("rate", "depth", "busy", "name")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What a node answered at ``at``, in seconds on a monotonic axis."""

    at: float
    ping: Mapping[str, Any]
    members: Sequence[Mapping[str, Any]] = ()
    links: Sequence[Mapping[str, Any]] = ()
    actors: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture: rows that are sorted and counted, not yet cut to a size."""

    node: Mapping[str, Any]
    sort: str
    members: list[Row] = field(default_factory=list)
    links: list[Row] = field(default_factory=list)
    actors: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def data(self) -> dict[str, Any]:
        """The frame for a program."""
        events = [as_json(event) for event in self.events]
        return {
            "node": dict(self.node),
            "members": self.members,
            "links": self.links,
            "actors": self.actors,
            "events": events,
        }


def make_frame(before: Look | None, after: Look, events: Iterable[Event] = (), sort: str = "rate") -> Frame:
    """Make a frame of two looks: the later, and how its counts grew since the earlier."""
    if before is not None and before.ping["incarnation"] != after.ping["incarnation"]:
        before = None
    seconds = after.at - before.at if before is not None else 0.0
    members = [_member(each) for each in after.members]
    links = _with_rates(before.links if before else (), after.links, "name", _LINK_RATES, seconds)
    actors = _with_rates(before.actors if before else (), after.actors, "serial", _ACTOR_RATES, seconds)
    return Frame(
        node=after.ping,
        sort=sort,
        members=members,
        links=sorted(links, key=lambda row: _link_order(row, sort)),
        actors=sorted(actors, key=lambda row: _actor_order(row, sort)),
        events=list(events),
    )


_LINK_RATES = {"sent": "sent_rate", "received": "received_rate"}
_ACTOR_RATES = {"handled": "rate"}


def _member(member: Mapping[str, Any]) -> Row:
    return dict(member) | {"address": format_host_port(member["host"], member["port"])}


def _with_rates(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    key: str,
    rates: Mapping[str, str],
    seconds: float,
) -> list[Row]:
    earlier = {each[key]: each for each in before}
    return [
        dict(each)
        | {
            shown: rate(earlier.get(each[key], {}).get(count), each.get(count), seconds)
            for count, shown in rates.items()
        }
        for each in after
    ]


def rate(before: float | None, after: float | None, seconds: float) -> float | None:
    """How fast a count grew, a second; None when that cannot be known.

    >>> rate(100, 150, 2.0), rate(None, 150, 2.0), rate(200, 150, 2.0), rate(1, 1, 0.0)
    (25.0, None, None, None)
    """
    if before is None or after is None or after < before or seconds <= 0:
        return None
    return (after - before) / seconds


def _link_order(row: Row, sort: str) -> tuple[float, bool, str]:
    rest = row["role"] == "client", row["name"]
    match sort:
        case "rate":
            return -((row["sent_rate"] or 0) + (row["received_rate"] or 0)), *rest
        case "depth":
            return -(row["queued"] or 0), *rest
    return 0, *rest


def _actor_order(row: Row, sort: str) -> tuple[float, float, str]:
    name = row["name"] or "~"
    match sort:
        case "rate":
            return -(row["rate"] or 0), -row["handled"], name
        case "depth":
            return -row["depth"], -(row["rate"] or 0), name
        case "busy":
            return -(row["since"] or 0), -row["depth"], name
    return 0, 0, name


def next_sort(sort: str) -> str:
    """The order that follows, round and round.

    >>> next_sort("rate"), next_sort("name")
    ('depth', 'rate')
    """
    return SORTS[(SORTS.index(sort) + 1) % len(SORTS)]


def allot(lines: int, wanted: Sequence[int]) -> list[int]:
    """Share out lines: who wants few gets them all, and the others share the rest evenly, the first before the last.

    >>> allot(10, [3, 2, 2]), allot(10, [20, 2, 20]), allot(5, [9, 9]), allot(0, [1])
    ([3, 2, 2], [4, 2, 4], [3, 2], [0])
    """
    given = [0] * len(wanted)
    while lines > 0 and (hungry := [place for place, want in enumerate(wanted) if given[place] < want]):
        for place in hungry[:lines]:
            given[place] += 1
        lines -= len(hungry[:lines])
    return given


# -- what stands in a cell


def short(value: float | None) -> str:
    """A number in at most five characters.

    >>> [short(each) for each in (None, 0.0, 3, 3.25, 42.4, 1234, 12_345, 1_500_000, 2.5e9)]
    ['-', '0', '3', '3.2', '42', '1234', '12k', '1.5M', '2.5G']
    """
    if value is None:
        return "-"
    if value < 10 and not float(value).is_integer():
        return f"{value:.1f}"
    if value < 10_000:
        return f"{value:.0f}"
    for unit in ("k", "M"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
    return f"{value / 1000:.1f}G"


def lasting(seconds: float | None) -> str:
    """A duration in at most five characters.

    >>> [lasting(each) for each in (None, 0.0004, 0.25, 3.14, 61, 7300, 90_000 * 4)]
    ['-', '0.4ms', '250ms', '3.1s', '1m', '2h', '4d']
    """
    if seconds is None:
        return "-"
    if seconds < 1:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f}ms" if milliseconds < 10 else f"{milliseconds:.0f}ms"
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
