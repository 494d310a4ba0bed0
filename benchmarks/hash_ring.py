"""HashRing beside uhashring, default and ketama mode, in one run.

    python -m benchmarks.hash_ring [--quick] [--seed N] [--plot FILE]

Needs the ``bench`` extra (uhashring). About a minute and a half; ``--quick`` makes
fewer rounds. Every ring has 128 virtual nodes per node and random names. Keys are
random and hashed in the call. "3 replicas" is warm: every stretch asked once before.
"""

import argparse
import importlib
import random
from functools import partial
from statistics import mean
from typing import Any

from benchmarks.side_by_side import Contestants, Turns, machine, memory_of, per_second, take_turns, verdict
from clusterkit.core.hash_ring import HashRing

VNODES = 128
SIZES = (10, 100, 1000)
RIVALS = ("uhashring", "ketama")
TARGETS = {
    "find": (1.5, 1.6, 2.0),
    "3 replicas": (3.5, 10.0, 80.0),
    "insert": (1.2, 5.0, 8.0),
    "remove": (0.9, 5.0, 8.0),
}
MOST_MEMORY = (0.75, 0.6, 0.65)
MOST_MAX_TO_MEAN = (1.45, 1.45, 1.5)
NAME_SETS = (300, 100, 12)


def random_names(chance: random.Random, number: int) -> list[str]:
    return [f"node-{chance.getrandbits(48):012x}" for _ in range(number)]


def uhashring(mode: str, names: list[str]) -> Any:
    """A ring of the rival; its ketama mode makes 4 points of each of its virtual nodes."""
    make = importlib.import_module("uhashring").HashRing
    weighted = dict.fromkeys(names, 1)
    if mode == "ketama":
        return make(weighted, hash_fn="ketama", vnodes=VNODES // 4)
    return make(weighted, vnodes=VNODES)


def call_each(call: Any, arguments: list[str]) -> None:
    for argument in arguments:
        call(argument)


def three_of_ours(ring: HashRing[str], keys: list[str]) -> None:
    for key in keys:
        ring.range(key, 3)


def three_of_theirs(ring: Any, keys: list[str]) -> None:
    for key in keys:
        list(ring.range(key, size=3))


def time_look_ups(rings: dict[str, Any], keys: list[str], rounds: int) -> dict[str, Turns]:
    """Time the owner, then three replicas, of random keys; the rival gets fewer keys where it is slow."""
    ours = rings["ours"]
    few = keys[: max(50, 20_000 // len(ours))]
    three_of_ours(ours, keys)
    finds: Contestants = {"ours": (lambda: call_each(ours.find, keys), len(keys))}
    threes: Contestants = {"ours": (lambda: three_of_ours(ours, keys), len(keys))}
    for name in RIVALS:
        finds[name] = partial(call_each, rings[name].get_node, keys), len(keys)
        threes[name] = partial(three_of_theirs, rings[name], few), len(few)
    return {"find": take_turns(finds, rounds), "3 replicas": take_turns(threes, rounds)}


def time_changes(rings: dict[str, Any], chance: random.Random, rounds: int) -> dict[str, Turns]:
    """Time some nodes coming one after another, and going again."""
    new = random_names(chance, 1 if len(rings["ours"]) < 100 else 5)
    changes: Contestants = {}
    for name, ring in rings.items():
        insert, remove = (ring.insert, ring.remove) if name == "ours" else (ring.add_node, ring.remove_node)
        changes[f"insert {name}"] = partial(call_each, insert, new), len(new)
        changes[f"remove {name}"] = partial(call_each, remove, new), len(new)
    timed = take_turns(changes, rounds).seconds
    return {what: Turns({name: timed[f"{what} {name}"] for name in rings}) for what in ("insert", "remove")}


def compare(column: int, size: int, chance: random.Random, scale: float) -> dict[str, float]:
    """Print the table of one size; return our speed over that of the faster rival."""
    names = random_names(chance, size)
    keys = [f"key:{chance.getrandbits(64)}" for _ in range(5000)]
    rings = {"ours": HashRing(names), **{mode: uhashring(mode, names) for mode in RIVALS}}
    turns = time_look_ups(rings, keys, max(4, int((150, 50, 20)[column] * scale)))
    turns |= time_changes(rings, chance, max(4, int((100, 30, 6)[column] * scale)))
    print(f"\n{size} nodes" + " " * 12 + "".join(f"{name:>12}" for name in rings) + "   ratios: best (median)")
    for what, timed in turns.items():
        show_row(what, timed, TARGETS[what][column])
    held = {"ours": memory_of(lambda: HashRing(list(names)))}
    held |= {mode: memory_of(lambda mode=mode: uhashring(mode, list(names))) for mode in RIVALS}  # type: ignore[misc]
    ratio = held["ours"] / held["uhashring"]
    cells = "".join(f"{size / 1e6:>10.3g}MB" for size in held.values())
    print(f"{'memory':<18}{cells}   {ratio:.2f}  {verdict(ratio, most=MOST_MEMORY[column])}")
    warm = memory_of(lambda: warmed(names, size))
    print(f"{'memory, all warm':<18}{warm / 1e6:>10.3g}MB   every position asked for 3 replicas; no target")
    return {what: min(timed.ratio("ours", rival) for rival in RIVALS) for what, timed in turns.items()}


def plot(path: str, ratios: dict[str, list[float]]) -> None:
    """Draw the ratios of all sizes, and the targets."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ring"
    figure, panels = importlib.import_module("matplotlib.pyplot").subplots(1, len(ratios), figsize=(13, 3.6))
    for panel, (what, values) in zip(panels, ratios.items(), strict=True):
        panel.bar(range(len(SIZES)), values, color="#4477aa")
        panel.plot(range(len(SIZES)), TARGETS[what], "k_", markersize=24)
        panel.axhline(1, color="#999999", linewidth=0.8)
        panel.set(title=f"{what}: times as fast", xlabel="nodes", yscale="log" if max(values) > 20 else "linear")
        panel.set_xticks(range(len(SIZES)), SIZES)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def show_row(what: str, timed: Turns, least: float) -> None:
    cells = "".join(f"{per_second(timed.best(name)):>10}/s" for name in timed.seconds)
    best = {rival: timed.ratio("ours", rival) for rival in RIVALS}
    ratios = ", ".join(f"{best[rival]:.2f} ({timed.median_ratio('ours', rival):.2f})" for rival in RIVALS)
    print(f"{what:<18}{cells}   {ratios}  {verdict(min(best.values()), least=least)}")


def warmed(names: list[str], size: int) -> HashRing[str]:
    ring = HashRing(names)
    for number in range(size * VNODES * 3):
        ring.range(f"{number}", 3)
    return ring


def shares(ring: HashRing[str]) -> list[float]:
    """Return the exact share of each node: what it gets from a ring without nodes."""
    return list(HashRing[str]().diff(ring).fractions().values())


def show_balance(chance: random.Random, scale: float) -> None:
    print("\nbalance: greatest share over the mean, exact arcs, random name sets")
    for size, sets, most in zip(SIZES, NAME_SETS, MOST_MAX_TO_MEAN, strict=True):
        worst = [size * max(shares(HashRing(random_names(chance, size)))) for _ in range(max(3, int(sets * scale)))]
        print(
            f"{size:>5} nodes, {len(worst):>3} sets: mean {mean(worst):.3f}, worst {max(worst):.3f}  {verdict(max(worst), most=most)}"
        )


def show_movement(chance: random.Random) -> None:
    print("\nremapping: the share that moves when a node joins, times (N + 1); 20 joins, exact")
    for size in SIZES[:2]:
        moved = []
        strays = 0
        for _ in range(20):
            *names, joiner = random_names(chance, size + 1)
            before, after = HashRing(names), HashRing([*names, joiner])
            difference = before.diff(after)
            strays += sum(move.target != joiner for move in difference.moves)
            moved.append(difference.fraction * (size + 1))
        print(
            f"{size:>5} nodes: mean {mean(moved):.3f}, {min(moved):.3f} to {max(moved):.3f}  "
            f"{verdict(mean(moved), least=0.88, most=1.14)}; to others than the joiner: {strays}  {verdict(strays, most=0)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="HashRing beside uhashring")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and name sets")
    parser.add_argument("--seed", type=int, default=4, help="for names and keys (default 4)")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios: .svg, .png or .pdf; needs matplotlib")
    options = parser.parse_args()
    chance, scale = random.Random(options.seed), 0.2 if options.quick else 1.0
    print(f"HashRing and uhashring, {VNODES} virtual nodes each; {machine()}; seed {options.seed}")
    found = [compare(column, size, chance, scale) for column, size in enumerate(SIZES)]
    show_balance(chance, scale)
    show_movement(chance)
    if options.plot:
        plot(options.plot, {what: [ratios[what] for ratios in found] for what in TARGETS})


if __name__ == "__main__":
    main()
