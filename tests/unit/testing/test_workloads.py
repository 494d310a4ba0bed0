"""The checkers: each passes a good history, and finds each fault that is planted in it."""

import asyncio

import pytest

from clusterkit.errors import CallTimeout, NoSuchServer
from clusterkit.testing.history import History, Operation
from clusterkit.testing.workloads import check_broadcast, check_counter, check_echo, check_unique_ids


def history(*operations: Operation) -> History:
    made = History()
    for each in operations:
        made.add(each)
    return made


def ok(name: str, argument: object = None, result: object = None, at: float = 0.0) -> Operation:
    return Operation("ada", name, argument, at, at + 1, result)


def failed(name: str, argument: object) -> Operation:
    return Operation("bob", name, argument, 0.0, 1.0, outcome="failed")


def unknown(name: str, argument: object) -> Operation:
    return Operation("bob", name, argument, 0.0, 1.0, outcome="unknown")


# -- recording --------------------------------------------------------------------


async def answer(value: object) -> object:
    await asyncio.sleep(1)
    if isinstance(value, Exception):
        raise value
    return value


@pytest.mark.simulation
async def test_the_outcome_is_what_the_error_promises() -> None:
    made = History()
    assert await made.record("ada", "add", 1, answer(7)) == 7
    assert await made.record("ada", "add", 2, answer(NoSuchServer("gone", executed="no"))) is None
    assert await made.record("ada", "add", 3, answer(CallTimeout("late", executed="maybe"))) is None
    assert await made.record("ada", "add", 4, answer(ZeroDivisionError("bug"))) is None
    assert [each.outcome for each in made] == ["ok", "failed", "unknown", "unknown"]
    assert [(each.called, each.returned) for each in made] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [each.error for each in made][1:3] == ["NoSuchServer: gone", "CallTimeout: late"]


@pytest.mark.simulation
async def test_what_has_not_ended_or_was_cancelled_is_unknown() -> None:
    made = History()
    task = asyncio.create_task(made.record("ada", "add", 1, answer(7)))
    await asyncio.sleep(0.5)
    assert [each.outcome for each in made] == ["unknown"]
    task.cancel()
    await asyncio.wait([task])
    assert [(each.outcome, each.error) for each in made] == [("unknown", "cancelled")]
    assert len(made) == 1


# -- echo and unique ids ------------------------------------------------------------


def test_echo() -> None:
    good = [ok("echo", n, n) for n in range(5)]
    assert check_echo(history(*good, failed("echo", 9), unknown("echo", 10))) == []
    assert check_echo(history(*good, ok("echo", 5, 4))) == ["ada sent 5 and got 4 back"]


def test_unique_ids() -> None:
    good = [ok("generate", result=f"a-{n}") for n in range(5)]
    assert check_unique_ids(history(*good)) == []
    assert check_unique_ids(history(*good, ok("generate", result="a-3"))) == ["id 'a-3' was handed out 2 times"]


# -- broadcast ----------------------------------------------------------------------


SENT = [ok("broadcast", n, at=n) for n in range(4)]


@pytest.mark.parametrize(
    "read",
    [
        ok("final_read", result=[0, 1, 2, 3], at=9),
        ok("final_read", result=[3, 2, 1, 0, 77], at=9),
    ],
    ids=["all", "all and an unknown one"],
)
def test_a_good_broadcast(read: Operation) -> None:
    early = ok("read", result=[0], at=1.5)
    assert check_broadcast(history(*SENT, unknown("broadcast", 77), failed("broadcast", 88), early, read)) == []


@pytest.mark.parametrize(
    ("reads", "fault"),
    [
        ([], "no final read"),
        ([ok("final_read", result=[0, 1, 3], at=9)], "2 was acknowledged, and the final read of ada at 9 s lacks it"),
        ([ok("final_read", result=[0, 1, 2, 3, 99], at=9)], "read 99 at 9 s, which nobody had sent"),
        ([ok("final_read", result=[0, 1, 2, 3, 88], at=9)], "read 88 at 9 s, which nobody had sent, or whose sending"),
        ([ok("final_read", result=[0, 1, 1, 2, 3], at=9)], "read 1 2 times"),
        ([ok("read", result=[3], at=1.5), ok("final_read", result=[0, 1, 2, 3], at=9)], "read 3 at 1.5 s"),
    ],
    ids=["unread", "lost", "made up", "failed and seen", "doubled", "from the future"],
)
def test_the_faults_of_a_broadcast_are_found(reads: list[Operation], fault: str) -> None:
    (found,) = check_broadcast(history(*SENT, failed("broadcast", 88), *reads))
    assert fault in found


# -- counter ------------------------------------------------------------------------


ADDED = [ok("add", 5, at=0), ok("add", 7, at=2), unknown("add", 10), failed("add", 100)]


@pytest.mark.parametrize("total", [12, 22])
def test_a_good_counter(total: int) -> None:
    early = ok("read", result=5, at=0.5)
    assert check_counter(history(*ADDED, early, ok("final_read", result=total, at=9))) == []


@pytest.mark.parametrize("total", [5, 7, 13, 17, 19, 32, 112], ids=str)
def test_a_final_read_that_no_set_of_additions_explains_is_found(total: int) -> None:
    (found,) = check_counter(history(*ADDED, ok("final_read", result=total, at=9)))
    assert found == f"the final read of ada is {total}; possible are 12, 22"


def test_a_read_of_more_than_was_added_is_found() -> None:
    early = ok("read", result=16, at=0.5)
    (found,) = check_counter(history(*ADDED, early, ok("final_read", result=12, at=9)))
    assert found == "ada read 16 at 0.5 s; possible are 0 to 15"


def test_many_unknown_additions_stay_cheap() -> None:
    adds = [unknown("add", 1) for _ in range(500)]
    (found,) = check_counter(history(*adds, ok("final_read", result=501, at=9)))
    assert found == "the final read of ada is 501; possible are 501 from 0 to 500"
    assert check_counter(history(*adds, ok("final_read", result=250, at=9))) == []
