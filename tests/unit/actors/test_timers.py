"""Timers of one actor: when they fire, what is said of them, how they end."""

import asyncio
from typing import Any

import pytest

from clusterkit.actors.timers import Timer, Timers
from clusterkit.errors import ConfigError

pytestmark = pytest.mark.simulation(seed=13)


class Fired:
    """A mailbox that keeps what fires until it is read."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.timers = Timers(self.loop, self._fired)
        self.begun = self.loop.time()
        self.waiting: list[Timer] = []
        self.at: list[float] = []

    def _fired(self, timer: Timer) -> None:
        self.waiting.append(timer)
        self.at.append(round(self.loop.time() - self.begun, 3))

    def read(self) -> list[Any]:
        """The tags of what is to be handled."""
        waiting, self.waiting = self.waiting, []
        return [timer.tag for timer in waiting if timer.taken()]


async def test_each_fires_once_at_its_time_in_order() -> None:
    fired = Fired()
    for delay in (3, 1, 2.5, 0):
        fired.timers.after(delay, delay)
    await asyncio.sleep(10)
    assert (fired.at, fired.read()) == ([0, 1, 2.5, 3], [0, 1, 2.5, 3])
    assert fired.timers.live == {}


async def test_a_period_fires_again_once_it_was_read_and_leaves_out_what_passed() -> None:
    fired = Fired()
    timer = fired.timers.every(1, "tick")
    await asyncio.sleep(1.5)
    assert fired.read() == ["tick"]
    await asyncio.sleep(10)
    assert (fired.at, fired.read()) == ([1, 2], ["tick"])
    await asyncio.sleep(2)
    assert (fired.at, fired.read()) == ([1, 2, 12], ["tick"])
    assert timer.cancel()


async def test_a_period_keeps_its_beat_when_the_loop_is_late() -> None:
    fired = Fired()
    timer = fired.timers.every(0.3, "tick")
    for _ in range(100):
        await asyncio.sleep(0.1)
        fired.read()
    assert fired.at == [round(0.3 * number, 3) for number in range(1, len(fired.at) + 1)]
    assert len(fired.at) == 33
    assert timer.cancel()


async def test_one_that_is_cancelled_is_not_heard_even_when_it_waits() -> None:
    fired = Fired()
    early, waits, period = fired.timers.after(5, "early"), fired.timers.after(1, "waits"), fired.timers.every(1, "p")
    assert early.cancel()
    await asyncio.sleep(1.5)
    assert len(fired.waiting) == 2
    assert waits.cancel()
    assert period.cancel()
    assert fired.read() == []
    await asyncio.sleep(10)
    assert (fired.waiting, fired.timers.live) == ([], {})


async def test_cancelling_says_whether_it_was_in_time() -> None:
    fired = Fired()
    timer = fired.timers.after(1, "x")
    await asyncio.sleep(2)
    assert fired.read() == ["x"]
    assert not timer.cancel()
    period = fired.timers.every(1, "p")
    await asyncio.sleep(1.5)
    assert fired.read() == ["p"]
    assert period.cancel()
    assert not period.cancel()


async def test_all_end_together() -> None:
    fired = Fired()
    for number in range(10):
        fired.timers.after(number, number)
        fired.timers.every(number + 1, number)
    fired.timers.close()
    await asyncio.sleep(30)
    assert (fired.waiting, fired.timers.live) == ([], {})


async def test_a_tag_may_be_anything() -> None:
    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("compared")

    fired = Fired()
    tags: list[Any] = [Odd(), [], {}, None]
    for delay, tag in enumerate(tags):
        fired.timers.after(delay, tag)
    await asyncio.sleep(10)
    assert list(map(id, fired.read())) == list(map(id, tags))


async def test_a_timer_shows_what_it_is() -> None:
    fired = Fired()
    once, often = fired.timers.after(1, "x"), fired.timers.every(1.5, "y")
    assert (repr(once), repr(often)) == ("<Timer 'x' once>", "<Timer 'y' every 1.5 s>")
    fired.timers.close()
    assert repr(once) == "<Timer 'x' once, over>"


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "1", None, 10**400])
async def test_what_is_no_duration_is_refused(bad: Any) -> None:
    timers = Fired().timers
    for begin in (timers.after, timers.every):
        with pytest.raises(ConfigError):
            begin(bad, "x")
    assert timers.live == {}


@pytest.mark.parametrize("bad", [0, 1e-300, 1e-6])
async def test_a_period_leaves_the_loop_time_for_something_else(bad: float) -> None:
    with pytest.raises(ConfigError):
        Fired().timers.every(bad, "x")
