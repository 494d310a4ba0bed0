"""How one change spreads over N members, simulated with the machines of the product, beside memberlist's rules.

    python benchmarks/membership_spread.py [--quick] [--plot docs/images/membership-spread.svg]

Virtual time, messages of 0.2 to 1.2 ms, no loss: what is compared are the rules, not two programs. The
same change is counted with the same size on both sides, without headers. Members that hang keep
their links, and nobody has noticed. Some minutes and 2 GB for 1,000 members; ``--quick`` stops at 300.
The picture needs matplotlib.
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import memberlist_rules
from tests.simulation.change_spread import Spread

SIZES = (10, 30, 100, 300, 1_000)
HUNG = (0.0, 0.01, 0.05)
CHANGES = 8
RIVALS = 40  # runs of memberlist's rules


@dataclass(frozen=True, slots=True)
class Row:
    """What was found for one size and one share of members that hang."""

    who: str
    members: int
    hung: float
    middle: float
    """Seconds until all had it, the median of all changes."""
    worst: float
    hops: int
    messages: float
    """A member."""
    size: float
    """In bytes, a member."""
    repaired: int

    def __str__(self) -> str:
        return (
            f"{self.members:6,} {self.hung:5.0%}  {self.who:18} {1e3 * self.middle:9.1f} {1e3 * self.worst:9.1f}"
            f" {self.hops:6} {self.messages:10.2f} {self.size:10.0f} {self.repaired:9}"
        )


HEADER = f"{'N':>6} {'hung':>5}  {'':18} {'median ms':>9} {'worst ms':>9} {'hops':>6} {'messages':>10} {'bytes':>10} {'repaired':>9}"


def ours(members: int) -> list[Row]:
    """Spread changes in one cluster, before and after some of its members hang."""
    spread = Spread(members)
    spread.run(0.6)
    rows = []
    for share in HUNG:
        hung = round(share * members) if share else 0
        if share and not hung:
            continue
        told = []
        for _ in range(CHANGES):
            origin, *dead = spread.chance.sample(spread.names, 1 + hung)
            spread.hang(dead)
            told.append(spread.change(origin))
            spread.wake()
            spread.run(0.2)
        rows.append(
            Row(
                "clusterkit",
                members,
                share,
                median(max(each.at.values()) for each in told),
                max(max(each.at.values()) for each in told),
                max(max(each.hops.values()) for each in told),
                sum(each.messages for each in told) / CHANGES / members,
                sum(each.size for each in told) / CHANGES / members,
                sum(each.repaired for each in told),
            )
        )
    return rows


def theirs(members: int, share: float, size: float) -> Row:
    """Spread changes by memberlist's rules, each of ``size`` bytes."""
    told = [memberlist_rules.spread(members, round(share * members), seed) for seed in range(RIVALS)]
    messages = sum(each.messages for each in told) / RIVALS / members
    return Row(
        "memberlist's rules",
        members,
        share,
        median(max(each.at.values()) for each in told),
        max(max(each.at.values()) for each in told),
        max(max(each.rounds.values()) for each in told),
        messages,
        messages * size,
        sum(each.repaired for each in told),
    )


def plot(path: str, rows: Sequence[Row]) -> None:
    """Draw times and messages by the number of members."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ring"
    figure, panels = importlib.import_module("matplotlib.pyplot").subplots(1, 2, figsize=(11, 3.8))
    colours = {"clusterkit": "#4477aa", "memberlist's rules": "#cc6677"}
    for who, colour in colours.items():
        for share, style in zip((0.0, 0.05), ("o-", "s--"), strict=True):
            chosen = [row for row in rows if (row.who, row.hung) == (who, share)]
            label = f"{who}, {share:.0%} hang" if share else who
            sizes = [row.members for row in chosen]
            panels[0].plot(sizes, [1e3 * row.worst for row in chosen], style, color=colour, label=label)
            panels[1].plot(sizes, [row.messages for row in chosen], style, color=colour, label=label)
    panels[0].set(title="Until all have one change (worst)", xlabel="members", ylabel="ms", xscale="log", yscale="log")
    panels[1].set(title="Messages for one change", xlabel="members", ylabel="messages a member", xscale="log")
    for panel in panels:
        sizes = sorted({row.members for row in rows})
        panel.set_xticks(sizes, sizes)
        panel.minorticks_off()
    panels[1].set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it."""
    parser = argparse.ArgumentParser(description="how one change spreads, beside memberlist's rules")
    parser.add_argument("--quick", action="store_true", help="stop at 300 members")
    parser.add_argument("--plot", help="write a picture to this file")
    options = parser.parse_args(arguments)
    if options.plot and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install matplotlib")
    rows: list[Row] = []
    print(HEADER)
    for members in SIZES[:-1] if options.quick else SIZES:
        for mine in ours(members):
            rival = theirs(members, mine.hung, mine.size / mine.messages)
            rows += [mine, rival]
            print(mine, rival, sep="\n", flush=True)
    if options.plot:
        plot(options.plot, rows)


if __name__ == "__main__":
    main()
