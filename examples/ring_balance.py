"""Draw how evenly a hash ring shares out its keys, and what moves when a node joins.

    python examples/ring_balance.py
    python examples/ring_balance.py --nodes 20 --weights 1 2 4
    python examples/ring_balance.py --plot balance.svg      # needs matplotlib

Shares are exact: the arcs of the ring, not a sample of keys. The movement is shown
beside that of ``hash(key) % nodes``, where nearly every key goes elsewhere.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from clusterkit.core.hash_ring import HashRing

BAR = 44


def members(count: int, weights: Sequence[int]) -> dict[str, int]:
    """Name some nodes, and give them the weights in turn."""
    return {f"node-{number:02}": weights[number % len(weights)] for number in range(count)}


def shares(ring: HashRing[str]) -> dict[str, float]:
    """Return each node's share of all keys: what it would get from a ring without nodes."""
    taken = HashRing[str]().diff(ring).fractions()
    return {name: taken[None, name] for name in ring.weights}


def losses(before: HashRing[str], after: HashRing[str]) -> dict[str, float]:
    """Return which share of all keys each node hands on when ``after`` takes over."""
    moved = dict.fromkeys(before.weights, 0.0)
    for (source, _), fraction in before.diff(after).fractions().items():
        if source is not None:
            moved[source] += fraction
    return moved


def modulo_movement(count: int) -> float:
    """Return the share of keys that ``hash(key) % nodes`` moves when one node joins ``count``."""
    return count / (count + 1)


def draw(title: str, values: Mapping[str, float], fair: Mapping[str, float]) -> list[str]:
    """Draw one bar for each value, and a mark where the fair share ends."""
    scale = BAR / max(*values.values(), *fair.values())
    lines = [title]
    for name, value in values.items():
        bar = "█" * round(value * scale)
        mark = round(fair[name] * scale)
        bar = bar.ljust(mark) + "▏" if len(bar) <= mark else bar[:mark] + "▒" * (len(bar) - mark)
        lines.append(f"  {name:<8} {value:7.2%} {bar}")
    return lines


def report(before: HashRing[str], after: HashRing[str], joiner: str) -> str:
    """Put the two drawings and what they say into words."""
    share, moved = shares(before), losses(before, after)
    total = sum(before.weights.values())
    fair = {name: weight / total for name, weight in before.weights.items()}
    grown = total + after.weight(joiner)
    fair_loss = {name: weight / total * after.weight(joiner) / grown for name, weight in before.weights.items()}
    relative = [share[name] / fair[name] for name in share]
    lines = draw(f"Share of the keys of {len(before)} nodes (▏ the fair share, ▒ what is over it)", share, fair)
    lines += [f"  greatest share over the fair one: {max(relative):.3f}, smallest: {min(relative):.3f}", ""]
    lines += draw(f"Handed on when {joiner} joins: keys go to it and to nobody else", moved, fair_loss)
    lines += [
        (
            f"  moved in all: {sum(moved.values()):.2%}, fair: {sum(fair_loss.values()):.2%}; "
            f"hash(key) % nodes moves {modulo_movement(len(before)):.2%}"
        )
    ]
    return "\n".join(lines)


def plot(path: str, before: HashRing[str], after: HashRing[str], joiner: str) -> None:
    """Write the two drawings, and the movement at other sizes, as a picture."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    # The same picture for the same rings, byte for byte.
    matplotlib.rcParams["svg.hashsalt"] = "ring"
    figure, panels = importlib.import_module("matplotlib.pyplot").subplots(1, 3, figsize=(13, 3.6))
    share, moved = shares(before), losses(before, after)
    total = sum(before.weights.values())
    numbers = range(len(share))
    panels[0].bar(numbers, [100 * value for value in share.values()], color="#4477aa")
    panels[0].plot(numbers, [100 * weight / total for weight in before.weights.values()], "k_", markersize=14)
    panels[0].set(title=f"Share of {len(before)} nodes (line: fair)", xlabel="node", ylabel="% of the keys")
    panels[1].bar(numbers, [100 * value for value in moved.values()], color="#cc6677")
    panels[1].set(title=f"Handed on when {joiner} joins", xlabel="node", ylabel="% of the keys")
    sizes = [2, 4, 8, 16, 32, 64]
    rings = [HashRing(members(size + 1, [1])) for size in sizes]
    movement = [
        sum(losses(HashRing(members(size, [1])), ring).values()) for size, ring in zip(sizes, rings, strict=True)
    ]
    panels[2].plot(sizes, [100 * modulo_movement(size) for size in sizes], "o--", color="#999999", label="hash % nodes")
    panels[2].plot(sizes, [100 * value for value in movement], "o-", color="#4477aa", label="HashRing")
    panels[2].plot(sizes, [100 / (size + 1) for size in sizes], "k_", markersize=14, label="1 / (nodes + 1)")
    panels[2].set(title="Keys moved by one join", xlabel="nodes before", ylabel="% of the keys", xscale="log")
    panels[2].set_xticks(sizes, sizes)
    panels[2].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="draw the balance of a hash ring, and what moves when a node joins")
    parser.add_argument("--nodes", type=int, default=12, help="how many nodes (default 12)")
    parser.add_argument("--weights", type=int, nargs="+", default=[1], help="their weights, taken in turn (default 1)")
    parser.add_argument("--plot", metavar="FILE", help="write a picture too: .svg, .png or .pdf")
    options = parser.parse_args(arguments)
    if options.nodes < 1:
        parser.error("--nodes is at least 1")
    if options.plot and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install matplotlib")
    before = HashRing(members(options.nodes, options.weights))
    after, joiner = before.copy(), f"node-{options.nodes:02}"
    after.insert(joiner)
    print(report(before, after, joiner))
    if options.plot:
        plot(options.plot, before, after, joiner)


if __name__ == "__main__":
    main()
