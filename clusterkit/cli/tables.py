"""Tables for people: columns of text as wide as what stands in them, numbers to the right, states in colour."""

from collections.abc import Sequence

import click

from clusterkit.cli.output import one_line

_COLOURS = {
    "alive": "green",
    "suspect": "yellow",
    "down": "red",
    "left": "bright_black",
    "online": "green",
    "offline": "red",
    "ok": "green",
    "no": "red",
}
_NUMBER = frozenset("0123456789.,+-%xµms/ hd")
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows under their heads; a column of numbers goes to the right. What a peer said cannot move the cursor.

    >>> print(table(["NAME", "WEIGHT"], [["alpha", 1], ["bo", 12]]))
    NAME   WEIGHT
    alpha       1
    bo         12
    """
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [head, *cells]) for column in range(len(head))]
    right = [bool(cells) and all(_is_number(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(_line(row, widths, right) for row in [head, *cells])


def _is_number(cell: str) -> bool:
    return cell == "-" or (cell[:1].isdigit() and set(cell) <= _NUMBER)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = [
        click.style(cell, fg=_COLOURS[cell]) + " " * (width - len(cell))
        if cell in _COLOURS
        else (cell.rjust(width) if to_right else cell.ljust(width))
        for cell, width, to_right in zip(row, widths, right, strict=True)
    ]
    return "  ".join(cells).rstrip()


def percent(share: float) -> str:
    """Show a part of one.

    >>> percent(0.3333)
    '33.3%'
    """
    return f"{share * 100:.1f}%"


def span(seconds: float | None) -> str:
    """Show how long, in the unit that fits; "-" for what is not known.

    >>> [span(each) for each in (None, 0.00062, 0.25, 4.21, 75, 5400, 200_000)]
    ['-', '0.6ms', '250ms', '4.2s', '1m15s', '1h30m', '2d7h']
    """
    if seconds is None:
        return "-"
    if seconds < 1:
        ms = seconds * 1000
        return f"{ms:.1f}ms" if ms < 10 else f"{ms:.0f}ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR}h"


def counted(count: int, noun: str) -> str:
    """Say how many.

    >>> counted(1, "member"), counted(3, "member")
    ('1 member', '3 members')
    """
    return f"{count} {noun}{'s' * (count != 1)}"
