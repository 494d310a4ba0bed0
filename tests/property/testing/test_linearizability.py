"""The linearizability checker against true histories, planted faults and a slow oracle."""

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterkit.testing.history import NEVER, Operation, Outcome
from clusterkit.testing.linearizability import IMPOSSIBLE, Register, linearizable


def history_of_one_copy(chance: random.Random, clients: int, count: int, *, unknown: float = 0.0) -> list[Operation]:
    """What clients see of a register that does one operation at a time, at a point that chance chooses."""
    operations: list[Operation] = []
    points: list[tuple[float, int]] = []
    free = [0.0] * clients
    for number in range(count):
        client = number % clients
        called = free[client] + chance.random()
        point = called + chance.random()
        free[client] = returned = point + chance.random()
        name = chance.choice(["read", "write", "cas"])
        argument = {"read": None, "write": number, "cas": (chance.randrange(number + 1), number)}[name]
        outcome: Outcome = "unknown" if chance.random() < unknown else "ok"
        operations.append(Operation(f"c{client}", name, argument, called, returned, outcome=outcome))
        points.append((point, number))
    state: object = 0
    for _, number in sorted(points):
        operation = operations[number]
        if operation.unknown and chance.random() < 0.5:
            continue  # it never took effect
        result, state = apply(operation, state)
        operations[number] = Operation(
            operation.client,
            operation.name,
            operation.argument,
            operation.called,
            operation.returned,
            result,
            operation.outcome,
        )
    return operations


def apply(operation: Operation, state: object) -> tuple[object, object]:
    if operation.name == "read":
        return state, state
    if operation.name == "write":
        return None, operation.argument
    old, new = operation.argument
    return state == old, new if state == old else state


@pytest.mark.parametrize("seed", range(20))
def test_the_history_of_one_copy_is_linearizable(seed: int) -> None:
    chance = random.Random(seed)
    assert linearizable(history_of_one_copy(chance, clients=8, count=200, unknown=0.1), Register(0))


@pytest.mark.parametrize("seed", range(20))
def test_a_stale_read_is_found(seed: int) -> None:
    operations = history_of_one_copy(random.Random(seed), clients=5, count=100)
    last = max(each.returned for each in operations)
    write = Operation("late", "write", "new", last + 1, last + 2)
    stale = Operation("late", "read", None, last + 3, last + 4, result="old")
    assert not linearizable([*operations, write, stale], Register(0))


def test_a_lost_write_is_found() -> None:
    write = Operation("a", "write", 1, 0.0, 1.0)
    assert not linearizable([write, Operation("b", "read", None, 2.0, 3.0, result=None)], Register())


def test_a_write_that_is_seen_and_then_not_is_found() -> None:
    write = Operation("a", "write", 1, 0.0, 10.0)
    reads = [Operation("b", "read", None, 1.0, 2.0, result=1), Operation("b", "read", None, 3.0, 4.0, result=None)]
    assert not linearizable([write, *reads], Register())
    assert linearizable([write, *reversed_times(reads)], Register())


def reversed_times(reads: list[Operation]) -> list[Operation]:
    first, second = reads
    return [
        Operation("b", "read", None, first.called, first.returned, result=second.result),
        Operation("b", "read", None, second.called, second.returned, result=first.result),
    ]


def test_two_winners_of_one_compare_and_set_are_found() -> None:
    winners = [Operation(client, "cas", (None, client), 0.0, 1.0, result=True) for client in "ab"]
    assert not linearizable(winners, Register())
    assert linearizable(winners[:1], Register())


def test_an_unknown_write_may_take_effect_late_or_never_but_not_before_its_call() -> None:
    unknown = Operation("a", "write", 1, 5.0, 6.0, outcome="unknown")
    seen_late = Operation("b", "read", None, 90.0, 91.0, result=1)
    not_seen = Operation("b", "read", None, 90.0, 91.0, result=None)
    seen_early = Operation("b", "read", None, 1.0, 2.0, result=1)
    assert linearizable([unknown, seen_late], Register())
    assert linearizable([unknown, not_seen], Register())
    assert not linearizable([unknown, seen_early], Register())


def test_a_failed_write_must_not_be_seen() -> None:
    failed = Operation("a", "write", 1, 0.0, 1.0, outcome="failed")
    assert not linearizable([failed, Operation("b", "read", None, 2.0, 3.0, result=1)], Register())


def test_an_operation_that_a_register_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="no operation 'pop'"):
        linearizable([Operation("a", "pop", None, 0.0, 1.0)], Register())


# -- a slow oracle ------------------------------------------------------------------


def oracle(operations: list[Operation], model: Register) -> bool:
    """Try every order of every subset that leaves out unknown operations alone."""
    kept = [each for each in operations if not each.failed]
    known = [each for each in kept if not each.unknown]
    unknown = [each for each in kept if each.unknown]
    chosen = (
        known + list(extra) for size in range(len(unknown) + 1) for extra in itertools.combinations(unknown, size)
    )
    return any(explains(order, model) for subset in chosen for order in orders(subset))


def orders(operations: list[Operation]) -> Iterator[tuple[Operation, ...]]:
    for order in itertools.permutations(operations):
        ends = [NEVER if each.unknown else each.returned for each in order]
        if all(ends[later] >= order[first].called for first in range(len(order)) for later in range(first, len(order))):
            yield order


def explains(order: tuple[Operation, ...], model: Register) -> bool:
    state: object = model.initial
    for each in order:
        state = model.step(state, each)
        if state is IMPOSSIBLE:
            return False
    return True


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    times = st.integers(0, 8)
    values = st.integers(0, 2)
    operations = []
    for number in range(draw(st.integers(0, 5))):
        called = draw(times)
        name = draw(st.sampled_from(["read", "write", "cas"]))
        argument = {"read": None, "write": draw(values), "cas": (draw(values), draw(values))}[name]
        result = {"read": draw(values), "write": None, "cas": draw(st.booleans())}[name]
        outcome: Outcome = draw(st.sampled_from(["ok", "ok", "ok", "failed", "unknown"]))
        operations.append(Operation(str(number), name, argument, called, called + draw(times), result, outcome))
    return operations


@given(small_histories())
def test_the_verdict_is_the_oracles(operations: list[Operation]) -> None:
    assert linearizable(operations, Register(0)) == oracle(operations, Register(0))
