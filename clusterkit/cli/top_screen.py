"""How a frame of `clusterkit top` is drawn: tables one below the other, as many rows of each as there is room for."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterkit.cli.event_lines import as_line
from clusterkit.cli.output import one_line
from clusterkit.cli.top_frame import Frame, Row, allot, lasting, short

_STATES = {"alive": "green", "suspect": "yellow", "down": "bold red", "left": "dim"}
_ALMOST_FULL = 0.85  # of a mailbox; then its depth is marked
_RIGHT = {"SHARE", "RTT", "SINCE", "QUEUE", "OUT/S", "IN/S", "UNACKED", "MSG/S", "DEPTH", "FOR"}
Cells = Callable[[Row], tuple[Text, ...]]


def draw(frame: Frame, height: int | None, note: str = "") -> Group:
    """Draw a frame into so many lines, or with None into as many as it takes; ``note`` says what is wrong."""
    tables: list[tuple[Sequence[Any], tuple[str, ...], Cells]] = [
        (frame.members, ("MEMBER", "ADDRESS", "STATE", "SHARE", "RTT", "SINCE", "QUEUE"), _member),
        (frame.links, ("LINK", "ROLE", "STATE", "OUT/S", "IN/S", "QUEUE", "UNACKED"), _link),
        (frame.actors, ("ACTOR", "CLASS", "MSG/S", "DEPTH", "HANDLER", "FOR"), _actor),
        ([dict(event) for event in frame.events], ("EVENT",), _event),
    ]
    tables = [table for table in tables if table[0]]
    wanted = [len(rows) for rows, *_ in tables]
    given = wanted if height is None else allot(height - 2 - len(tables), wanted)
    parts: list[RenderableType] = [_head(frame, note)]
    parts += [_table(*table, most) for table, most in zip(tables, given, strict=True) if most]
    parts.append(_foot(frame) if height is not None else Text(""))
    return Group(*parts)


def _table(rows: Sequence[Row], titles: tuple[str, ...], cells: Cells, most: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan", pad_edge=False)
    first = titles[0] if most >= len(rows) else f"{titles[0]} ({most} of {len(rows)})"
    for title in (first, *titles[1:]):
        table.add_column(title, no_wrap=True, overflow="ellipsis", justify="right" if title in _RIGHT else "left")
    shown = rows[-most:] if titles == ("EVENT",) else rows[:most]
    for row in shown:
        table.add_row(*cells(row))
    return table


def _head(frame: Frame, note: str) -> Text:
    node = frame.node
    alive = sum(member["state"] == "alive" for member in frame.members)
    ring = f"ring {node['ring']}" if node["ring"] else "in no ring"
    up = f", up {lasting(node['uptime'])}" if node.get("uptime") is not None else ""
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(one_line(str(node["name"])), "bold")
    head.append(f"  {one_line(ring)}{up}  {alive}/{len(frame.members)} alive")
    if note:
        head.append(f"  {one_line(note)}", "bold red")
    return head


def _foot(frame: Frame) -> Text:
    return Text(f"q quit  s sort: by {frame.sort}", "dim", no_wrap=True, overflow="ellipsis")


def _text(value: Any, style: str = "") -> Text:
    return Text(one_line(str(value)), style)


def _state(state: str) -> Text:
    return _text(state, _STATES.get(state, ""))


def _queue(count: int | None, limit: int = 0) -> Text:
    almost_full = bool(limit and count is not None and count >= limit * _ALMOST_FULL)
    return Text(short(count), "bold red" if almost_full else "yellow" if count else "")


def _member(row: Row) -> tuple[Text, ...]:
    return (
        _text(f"{row['name']} *" if row["self"] else row["name"], "bold" if row["self"] else ""),
        _text(row["address"]),
        _state(row["state"]),
        Text("-" if row["share"] is None else f"{row['share']:.1%}"),
        Text(lasting(row["rtt"])),
        Text(lasting(row["since"])),
        _queue(row["queue"]),
    )


def _link(row: Row) -> tuple[Text, ...]:
    state = _text("open", "green") if row["open"] else _text("down" if row["down"] else "broken", "red")
    rates = (Text(short(row[name])) for name in ("sent_rate", "received_rate"))
    return _text(row["name"]), _text(row["role"]), state, *rates, _queue(row["queued"]), Text(short(row["unacked"]))


def _actor(row: Row) -> tuple[Text, ...]:
    handler = "suspended" if row["suspended"] else row["handler"] or "-"
    return (
        _text(row["name"] or f"#{row['serial']}"),
        _text(row["kind"]),
        Text(short(row["rate"])),
        _queue(row["depth"], row["limit"]),
        _text(handler),
        Text(lasting(row["since"])),
    )


def _event(row: Row) -> tuple[Text, ...]:
    return (Text.from_ansi(as_line(row)),)
