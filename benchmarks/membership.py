"""How long a cluster takes to notice: joins, kills, hangs, leaves, splits, beside serf and Erlang/OTP.

    python -m benchmarks.membership                    # 8 members, all systems, some twenty minutes
    python -m benchmarks.membership --quick            # three rounds of each act
    python -m benchmarks.membership --nodes 8 --nodes 32 --system clusterkit --act join --rounds 200
    python -m benchmarks.membership --slow             # a split of 60 s, and hangs of the rivals

Each row is the time from an act until **all** members list what became of it: median,
the longest, and how many rounds took longer than 1.5 s. All members of all systems run
on hosts of their own (network namespaces, as root; else on the loopback, without the
rows that need them), and each says when its own list changed: see
`benchmarks.membership_views`. The systems take turns, one cluster at a time.

serf comes from Debian's package ``serf``, Erlang/OTP from ``erlang-base``.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.membership_acts import STALL, Acts, Took
from benchmarks.membership_cluster import Cluster, System
from benchmarks.membership_clusterkit import Clusterkit
from benchmarks.membership_erlang import Erlang
from benchmarks.membership_hosts import hosts_of
from benchmarks.membership_serf import Serf
from benchmarks.side_by_side import machine, verdict
from clusterkit.testing.namespaces import why_unavailable

SYSTEMS: dict[str, type[System]] = {"clusterkit": Clusterkit, "serf": Serf, "erlang": Erlang}
STRAGGLER = 1.5  # seconds
Rows = dict[str, list[Took]]


@dataclass(frozen=True, slots=True)
class Row:
    """What is printed of one measure."""

    title: str
    unit: str = "s"
    prompt: bool = False  # whether over 1.5 s is late
    most: tuple[tuple[int, float], ...] = ()  # (members, the target of clusterkit's median up to so many)
    longest: float = float("inf")  # the target of its longest


ROWS = {
    "join": Row("join, until all list it", prompt=True, most=((8, 0.05), (32, 0.15)), longest=STRAGGLER),
    "start": Row("the same, from its process' start"),
    "kill": Row("kill -9", prompt=True, most=((8, 0.05), (32, 0.15))),
    "hang": Row("SIGSTOP", most=((32, 4.0),), longest=6.0),
    "stall": Row(f"false alarms of a stall of {STALL:g} s", unit="", most=((32, 0.0),)),
    "leave": Row("leave", prompt=True, most=((32, 0.1),)),
    "gone": Row("leave, until its process is gone", most=((32, 0.5),)),
    "move": Row("same name, other address, at once", most=((32, 0.3),)),
    "heal": Row("all alive after a split", most=((16, 2.0),)),
    "cpu": Row("idle, a member's share of a core", unit="%", most=((32, 0.5),)),
    "sent": Row("idle, a member sends", unit="B/s", most=((32, 800.0),)),
    "rss": Row("idle, a member's memory", unit="MB", most=((32, 40.0),)),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """Some rounds of one row. A round that was not seen to end counts as infinite."""

    median: float
    most: float
    stragglers: int
    never: int
    rounds: int


def summary(samples: Sequence[Took]) -> Summary:
    """Sum up at least one round.

    >>> summary([0.2, 0.1, 8.0])
    Summary(median=0.2, most=8.0, stragglers=1, never=0, rounds=3)
    >>> summary([None])
    Summary(median=inf, most=inf, stragglers=1, never=1, rounds=1)
    """
    known = [float("inf") if each is None else each for each in samples]
    late = sum(each > STRAGGLER for each in known)
    return Summary(statistics.median(known), max(known), late, samples.count(None), len(known))


def cell(row: Row, samples: Sequence[Took]) -> str:
    """Write a row of one system: median, longest, stragglers.

    >>> cell(ROWS["leave"], [0.2, 0.1, 8.0]), cell(ROWS["move"], [None]), cell(ROWS["rss"], [37.8]), cell(ROWS["rss"], [])
    ('0.200 (8.000) 1 late', 'never', '37.8 MB', '-')
    """
    if not samples:
        return "-"
    found = summary(samples)
    if found.median == float("inf"):
        return "never"
    if row.unit != "s":
        return f"{found.median:.3g} {row.unit}".rstrip()
    most = f"{found.most:.3f}" if not found.never else "never"
    return f"{found.median:.3f} ({most})" + (f" {found.stragglers} late" if row.prompt and found.stragglers else "")


def judged(row: Row, members: int, samples: Sequence[Took]) -> str:
    """Say whether the target for so many members is met; empty without a target.

    >>> judged(ROWS["kill"], 8, [0.04]), judged(ROWS["kill"], 32, [0.2]), judged(ROWS["start"], 8, [1.0])
    ('<= 0.05: met', '<= 0.15: MISSED', '')
    >>> judged(ROWS["hang"], 8, [3.5, 3.7, 6.5])
    '<= 4.0: met, longest <= 6.0: MISSED'
    """
    bound = next((bound for most, bound in row.most if members <= most), None)
    if bound is None or not samples:
        return ""
    found = summary(samples)
    longest = f", longest {verdict(found.most, most=row.longest)}" if row.longest < float("inf") else ""
    return verdict(found.median, most=bound) + longest


def ratio(ours: Sequence[Took], rivals: Iterable[Sequence[Took]]) -> str:
    """How many times less than the best rival: of the medians; empty where either has none.

    >>> ratio([0.05], [[5.0], [0.1]]), ratio([0.5], [[0.25], []]), ratio([0.1], [[None]]), ratio([], [[1.0]])
    ('2x', '0.5x', '', '')
    """
    best = min((summary(samples).median for samples in rivals if samples), default=float("inf"))
    if not ours or not 0 < best < float("inf") or not 0 < summary(ours).median < float("inf"):
        return ""
    return f"{best / summary(ours).median:.2g}x"


def table(members: int, results: dict[str, Rows]) -> None:
    """Print one size of cluster, the systems side by side; clusterkit's ratio to the best rival, and its targets."""
    print(f"\n{f'{members} members':36}" + "".join(f"{name:>24}" for name in results) + "   ratio  target")
    for key, row in ROWS.items():
        found = {name: rows.get(key, []) for name, rows in results.items()}
        if any(found.values()):
            cells = "".join(f"{cell(row, samples):>24}" for samples in found.values())
            ours = found.pop("clusterkit", [])
            line = f"{row.title:36}{cells}{ratio(ours, found.values()):>8}  {judged(row, members, ours)}"
            print(line.rstrip())


# -- measuring


def rounds_of(act: str, system: str, options: argparse.Namespace) -> int:
    """How often an act is done: what takes its time is done less often, or with --slow alone."""
    if act in ("hang", "stall", "split") and not options.slow and system == "erlang":
        return 0
    if act in ("hang", "stall") and not options.slow and system != "clusterkit":
        return 0
    if act in ("idle", "split"):
        return 1
    return int(options.rounds if act in ("leave", "kill") else options.waits)


async def measure(system: str, members: int, options: argparse.Namespace) -> Rows:
    """Begin a cluster, do the acts, end it."""
    names = [f"n{number}" for number in range(1, members + 1)]
    rows: Rows = {}
    async with hosts_of([*names, "spare", "other"]) as hosts, Cluster(SYSTEMS[system](), hosts) as cluster:
        await cluster.begin(members)
        acts = Acts(cluster, idle=options.idle, hold=options.hold, patience=options.patience)
        for name, act in acts.by_name.items():
            if name not in options.act:
                continue
            for _ in range(rounds_of(name, system, options)):
                found = await act()
                for key, took in found.items():
                    rows.setdefault(key, []).append(took)
                say(f"{system} {members} {name}: " + ", ".join(f"{key} {took}" for key, took in found.items()), options)
                if found.get("move", 0.0) is None:
                    break  # it would be never again
    return rows


async def until_told(measuring: Coroutine[Any, Any, Rows]) -> Rows:
    """Measure; a SIGTERM ends it as Ctrl-C does, so that no process and no namespace stays behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measuring


def say(line: str, options: argparse.Namespace) -> None:
    """Tell how far it is."""
    if options.verbose:
        print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = ("idle", "leave", "kill", "move", "stall", "hang", "split")
    parser.add_argument("--nodes", type=int, action="append", metavar="N", help="members; may be repeated (8)")
    parser.add_argument("--system", choices=tuple(SYSTEMS), action="append", help="may be repeated (all)")
    parser.add_argument("--act", choices=acts, action="append", help="may be repeated (all)")
    parser.add_argument("--rounds", type=int, default=20, help="of leave and kill, with a join each (20)")
    parser.add_argument("--waits", type=int, default=5, help="rounds of move, stall and hang, with a join each (5)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, 1 of what waits, 5 s idle, a split of 8 s")
    parser.add_argument("--slow", action="store_true", help="a split of 60 s; hang, stall and split of all rivals")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to watch an idle cluster (20)")
    parser.add_argument("--hold", type=float, help="seconds that a split lasts at least (15, with --slow 60)")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds until a move or a heal is never (90)")
    parser.add_argument("--json", action="store_true", help="all samples, as one JSON object on stdout")
    parser.add_argument("--verbose", action="store_true", help="each round on stderr")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.waits, options.idle, options.hold = 3, 1, 5.0, options.hold or 8.0
    options.hold = options.hold or (60.0 if options.slow else 15.0)
    options.act, options.nodes = options.act or acts, options.nodes or [8]
    return options


def chosen(systems: Sequence[str]) -> list[str]:
    """Those of the systems that are on this machine; the rest is named."""
    missing = {name: why for name in systems if (why := SYSTEMS[name]().missing()) is not None}
    for name, why in missing.items():
        print(f"without {name}: {why}", file=sys.stderr)
    return [name for name in systems if name not in missing]


def main() -> None:
    """Run, and print the tables."""
    options = arguments()
    systems = chosen(options.system or tuple(SYSTEMS))
    load = os.getloadavg()[0]
    results = {
        members: {system: asyncio.run(until_told(measure(system, members, options))) for system in systems}
        for members in options.nodes
    }
    if options.json:
        print(json.dumps({"machine": machine(), "cores": os.cpu_count(), "load": load, "members": results}))
        return
    print(f"{machine()}, {os.cpu_count()} cores, load {load:.1f} before; median (longest), late = over {STRAGGLER:g} s")
    if (why := why_unavailable()) is not None:
        print(f"on the loopback, without splits and bytes: {why}")
    for members, found in results.items():
        table(members, found)


if __name__ == "__main__":
    main()
