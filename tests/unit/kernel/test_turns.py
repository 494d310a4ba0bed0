"""What a call inherits: the deadline of the block or turn that it is made in, and the chain of those who wait."""

import asyncio
import math
from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.errors import ConfigError, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.mailbox import From, Inbox, Mailbox
from clusterkit.kernel.turns import AMBIENT, current_turn, cycle_text, deadline, inherited

HERE = NodeId("a", "127.0.0.1", 7022, 1)


class Turn:
    """An actor in a turn."""

    def __init__(self, name: str = "a/1:2/srv") -> None:
        self.turn: str | None = name
        self.current: From | None = None

    def is_held_by(self, frm: From) -> bool:
        return frm is self.current

    def give_up(self, link: Any, number: int, waiting: Any) -> None: ...

    def exited(self, address: Address, reason: str) -> None: ...

    def begin(self, *, ends_in: float | None = None, chain: tuple[str, ...] | None = None) -> From:
        at = None if ends_in is None else now() + ends_in
        frm = self.current = From(HERE, at, None, 0, None, ends_in is not None, chain)
        frm._holder = self
        AMBIENT.set(frm)
        return frm


def now() -> float:
    return asyncio.get_running_loop().time()


def left(timeout: float = 100.0) -> float:
    """Seconds that a call made now would have."""
    return inherited(now() + timeout)[0] - now()


def chain() -> tuple[str, ...] | None:
    return inherited(now() + 1)[1]


async def test_outside_of_all_a_call_has_its_own_timeout_and_no_chain() -> None:
    assert left() == pytest.approx(100, abs=1)
    assert chain() is None
    assert current_turn() is None


async def test_the_earliest_deadline_counts() -> None:
    with deadline(50):
        assert left() == pytest.approx(50, abs=1)
        assert left(7) == pytest.approx(7, abs=1)
        async with deadline(9):
            assert left() == pytest.approx(9, abs=1)
            with deadline(20):
                assert left() == pytest.approx(9, abs=1), "an outer one stays in force"
        assert left() == pytest.approx(50, abs=1)
    assert left() == pytest.approx(100, abs=1)


async def test_a_block_that_ends_in_an_error_is_left_like_any() -> None:
    with pytest.raises(ValueError, match="x"):
        async with deadline(1):
            raise ValueError("x")
    assert left() == pytest.approx(100, abs=1)


async def test_no_time_and_endless_time_are_times() -> None:
    with deadline(0):
        assert left() <= 0
    with deadline(math.inf):
        assert left() == pytest.approx(100, abs=1)


@pytest.mark.parametrize("bad", [-0.1, math.nan, True, "1", None])
def test_what_is_no_duration_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="deadline"):
        deadline(bad)


async def test_a_deadline_has_one_use() -> None:
    once = deadline(1)
    with once:
        pass
    with pytest.raises(UsageError), once:
        pass


async def test_a_call_made_in_a_turn_ends_with_its_caller_and_names_the_turn() -> None:
    turn = Turn()
    turn.begin(ends_in=5, chain=("b/3:1/front",))
    assert left() == pytest.approx(5, abs=1)
    assert chain() == ("b/3:1/front", "a/1:2/srv")
    with deadline(2):
        assert left() == pytest.approx(2, abs=1)
        assert chain() == ("b/3:1/front", "a/1:2/srv")
        assert current_turn() is turn.current


async def test_a_turn_that_nobody_waits_for_begins_a_chain() -> None:
    Turn().begin()
    assert left() == pytest.approx(100, abs=1)
    assert chain() == ("a/1:2/srv",)


async def test_work_beside_the_turn_hands_its_deadline_on_and_keeps_nobody_waiting() -> None:
    turn = Turn()
    turn.begin(ends_in=5, chain=("b/3:1/front",))
    turn.current = None
    assert left() == pytest.approx(5, abs=1)
    assert chain() == ("b/3:1/front",)


async def test_a_turn_that_is_over_hands_on_nothing() -> None:
    frm = Turn().begin(ends_in=5, chain=("b/3:1/front",))
    frm._holder = None
    assert left() == pytest.approx(100, abs=1)
    assert chain() is None


async def test_a_task_inherits_as_long_as_what_it_was_started_in_lasts() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> tuple[float, float]:
        before = left()
        started.set()
        await go_on.wait()
        return before, left()

    with deadline(5):
        task = asyncio.get_running_loop().create_task(work())
        await started.wait()
    go_on.set()
    before, after = await task
    assert before == pytest.approx(5, abs=1)
    assert after == pytest.approx(100, abs=1)


async def test_a_chain_names_the_last_64_turns() -> None:
    Turn("last").begin(chain=tuple(map(str, range(64))))
    assert chain() == (*map(str, range(1, 64)), "last")


async def test_a_cycle_is_told_from_its_beginning_to_the_server_that_it_comes_back_to() -> None:
    inbox = Inbox(3, "srv", Mailbox(), lambda letter, why: None)
    text = cycle_text(inbox, ("a/3:7/srv", "b/1:1/back"))
    assert text == "srv waits for this very call: a/3:7/srv -> b/1:1/back -> srv"
