"""Checkers of four small workloads, as Maelstrom has them: echo, unique ids, broadcast, counter.

A workload runs over the public API and records a `History`; its checker reads the
history alone and returns what is wrong with it, one sentence for each thing, or
nothing. No checker trusts another part of the system: the history is what clients saw.

==============  =============================================================
operation       argument -> result
==============  =============================================================
``echo``        value -> the same value
``generate``    None -> an id
``broadcast``   value -> anything
``add``         number -> anything
``read``        None -> the values, or the sum, as far as known there
``final_read``  the same, when all is over and views have converged
==============  =============================================================

Reference: the workloads of Jepsen's Maelstrom.
"""

from collections import Counter
from collections.abc import Iterable

from clusterkit.testing.history import History, Operation


def check_echo(history: History) -> list[str]:
    """Every answer is what was sent."""
    return [
        f"{each.client} sent {each.argument!r} and got {each.result!r} back"
        for each in history.named("echo")
        if each.ok and each.result != each.argument
    ]


def check_unique_ids(history: History) -> list[str]:
    """No id was handed out twice."""
    counts = Counter(each.result for each in history.named("generate") if each.ok)
    return [f"id {value!r} was handed out {count} times" for value, count in counts.items() if count > 1]


def check_broadcast(history: History) -> list[str]:
    """Every acknowledged value is in every final read; no read has one that nobody sent, or one twice."""
    sent = history.named("broadcast")
    reads = [each for each in history.named("read", "final_read") if each.ok]
    final = [each for each in reads if each.name == "final_read"]
    acknowledged = [each.argument for each in sent if each.ok]
    lost = [
        f"{value!r} was acknowledged, and the final read of {read.client} at {read.called:g} s lacks it"
        for read in final
        for value in acknowledged
        if value not in set(read.result)
    ]
    return [*_no_final(final), *lost, *_made_up(sent, reads), *_doubled(reads)]


def _made_up(sent: list[Operation], reads: list[Operation]) -> list[str]:
    wrong = []
    for read in reads:
        possible = {each.argument for each in sent if each.called <= read.returned and not each.failed}
        wrong += [
            f"{read.client} read {value!r} at {read.called:g} s, which nobody had sent, or whose sending had failed"
            for value in dict.fromkeys(read.result)
            if value not in possible
        ]
    return wrong


def _doubled(reads: Iterable[Operation]) -> list[str]:
    return [
        f"{read.client} read {value!r} {count} times at {read.called:g} s"
        for read in reads
        for value, count in Counter(read.result).items()
        if count > 1
    ]


def check_counter(history: History) -> list[str]:
    """Every final read is the sum of the acknowledged additions and some of the unknown ones; others lie in between."""
    adds = [each for each in history.named("add") if not each.failed]
    final = [each for each in history.named("final_read") if each.ok]
    sums = _possible_sums(adds)
    wrong = [
        f"the final read of {read.client} is {read.result!r}; possible are {_shown(sums)}"
        for read in final
        if read.result not in sums
    ]
    return [*_no_final(final), *wrong, *_out_of_bounds(adds, history.named("read"))]


def _possible_sums(adds: list[Operation]) -> set[int]:
    sums = {sum(each.argument for each in adds if each.ok)}
    for each in adds:
        if each.unknown:
            sums |= {value + each.argument for value in sums}
    return sums


def _out_of_bounds(adds: list[Operation], reads: list[Operation]) -> list[str]:
    """A read may lag behind, but it cannot hold more than was added before it returned."""
    wrong = []
    for read in reads:
        known = [each.argument for each in adds if each.called <= read.returned]
        low, high = sum(min(each, 0) for each in known), sum(max(each, 0) for each in known)
        if read.ok and not low <= read.result <= high:
            wrong.append(f"{read.client} read {read.result!r} at {read.called:g} s; possible are {low} to {high}")
    return wrong


def _no_final(final: list[Operation]) -> list[str]:
    return [] if final else ["there is no final read: nothing was shown"]


def _shown(sums: set[int]) -> str:
    ordered = sorted(sums)
    return ", ".join(map(str, ordered)) if len(ordered) <= 5 else f"{len(ordered)} from {ordered[0]} to {ordered[-1]}"
