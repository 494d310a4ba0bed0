"""How the demo looks: lines that stay, and on a terminal a table that lives below them."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clusterkit.cli.demo_process import NodeProcess
from clusterkit.cli.demo_watch import Listed, View, Watch

_WIDE = 12  # nodes; with more the table is drawn closer, to fit into 80 columns


class Show:
    """The stage. ``nodes`` and ``watch`` are what the table is drawn from."""

    def __init__(self, nodes: Sequence[NodeProcess], watch: Watch) -> None:
        self._console = Console(highlight=False, soft_wrap=True, emoji=False)
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        self._marks = ("✓", "✗", "●", "✗", "·") if unicode else ("ok", "NO", "o", "x", ".")
        self._nodes = nodes
        self._gap = " " if len(nodes) <= _WIDE else ""
        self._watch = watch
        self._steps = 0
        self._facts = 0
        self._live = Live(console=self._console, auto_refresh=False, transient=False) if self.alive else None
        watch.changed = self._redraw

    @property
    def alive(self) -> bool:
        """Whether somebody looks on."""
        return self._console.is_terminal

    @property
    def facts(self) -> int:
        """How many facts were shown."""
        return self._facts

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the table away: nothing lives below the lines any more."""
        if self._live is not None:
            live, self._live = self._live, None
            live.update(Text(""), refresh=True)
            live.transient = True
            live.stop()

    # -- lines

    def say(self, text: str = "", style: str = "") -> None:
        """Print a line."""
        self._print(Text(text, style=style))

    def begin_round(self) -> None:
        """Number the steps from 2 again: the first is played once."""
        self._steps = 1

    def step(self, title: str, why: str = "") -> None:
        """Begin a step."""
        self._steps += 1
        self._print(Text.assemble("\n", (f"{self._steps}. {title}", "bold cyan"), (f": {why}" if why else "", "dim")))

    def fact(self, seconds: float, text: str) -> None:
        """Print what other processes answered, and how long it took to be so."""
        self._facts += 1
        mark = self._marks[0]
        self._print(Text.assemble("  ", (mark, "bold green"), (f" {seconds:6.2f} s  ", "dim"), text))

    def detail(self, text: str) -> None:
        """Print what belongs to the fact above."""
        self._print(Text(f"              {text}", style="dim"))

    def broken(self, why: str) -> None:
        """Print that a step did not hold."""
        self._print(Text.assemble("  ", (self._marks[1], "bold red"), (f" {why}", "red")))

    def log(self, name: str, lines: Sequence[str]) -> None:
        """Print the end of a node's log."""
        self._print(Text(f"\n--- what {name} printed last", style="bold"))
        self._print(Text("\n".join(lines) or "(nothing)"))

    def _print(self, text: Text) -> None:
        self._console.print(text)

    # -- the table

    def _redraw(self) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("node", "process", "address", "run"):
            table.add_column(title, no_wrap=True)
        initials = Text(self._gap.join(node.name[0].upper() for node in self._nodes))
        table.add_column(Text.assemble("sees  ", initials), no_wrap=True)
        for node in self._nodes:
            table.add_row(*self._row(node))
        legend = Text.assemble(
            ("sees: ", "dim"),
            (self._marks[2], "green"),
            (" alive  ", "dim"),
            (self._marks[3], "red"),
            (" down  ", "dim"),
            (self._marks[4], "dim"),
            (" not a member", "dim"),
        )
        return Group(Text(""), table, Text(""), legend)

    def _row(self, node: NodeProcess) -> tuple[Text, ...]:
        view = self._watch.views.get(node.name)
        mine = view.get(node.name) if view else None
        if view is None:
            return Text(node.name, "dim"), Text("-", "dim"), Text(_known(node), "dim"), Text("-", "dim"), _silent()
        return (
            Text(node.name, "bold"),
            Text(str(node.pid)),
            Text(_known(node)),
            Text(mine.run if mine else "-"),
            self._dots(view),
        )

    def _dots(self, view: View) -> Text:
        dots = Text(" " * 6)
        for node in self._nodes:
            dots.append_text(self._dot(view.get(node.name))).append(self._gap)
        return dots

    def _dot(self, listed: Listed | None) -> Text:
        if listed is None:
            return Text(self._marks[4], "dim")
        return Text(self._marks[2], "green") if listed.alive else Text(self._marks[3], "bold red")


def _known(node: NodeProcess) -> str:
    return node.address if node.port else "-"


def _silent() -> Text:
    return Text("      no answer", "dim red")


def listing(names: Sequence[str]) -> str:
    """Write names as people do.

    >>> listing(["alpha", "bravo", "charlie"])
    'alpha, bravo and charlie'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def differing(views: Mapping[str, View], names: Sequence[str]) -> str:
    """Say which nodes do not list exactly these names, all alive; empty when all do."""
    for name in names:
        view = views.get(name)
        if view is None:
            return f"{name} does not answer"
        if list(view) != sorted(names):
            return f"{name} lists {', '.join(view)} instead of {', '.join(sorted(names))}"
        if asleep := [each for each, listed in view.items() if not listed.alive]:
            return f"{name} lists {', '.join(asleep)} as down"
    if len({tuple(views[name].items()) for name in names}) > 1:
        return "the nodes list different addresses or incarnations"
    return ""
