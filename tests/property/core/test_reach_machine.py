"""A peer that is wanted is dialled for ever; down is said once, in time, and unsaid by a link."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.backoff import Backoff
from clusterkit.core.reach import (
    CallDown,
    Dial,
    DialFailed,
    Effect,
    Event,
    Lost,
    Opened,
    Parted,
    Reach,
    Tick,
    Unwanted,
    Wanted,
)

PATIENCE, MOST = 3.0, 5.0


def events(machine: Reach, dialling: bool) -> list[Event]:
    """What may happen to a machine in its state."""
    possible: list[Event] = [Wanted(), Unwanted(), Tick()] if not machine.open else [Wanted(), Lost("l"), Parted("p")]
    if dialling:
        possible += [DialFailed(refused=True, why="r"), DialFailed(refused=False, why="t")]
    return possible if machine.open else [*possible, Opened()]


@given(st.data(), st.randoms(use_true_random=False))
def test_its_promises_hold_whatever_happens(data: st.DataObject, rng: Random) -> None:
    machine, now, dialling, down = Reach(Backoff(0.1, MOST, rng), PATIENCE), 0.0, False, False
    linkless_since: float | None = None
    for _ in range(data.draw(st.integers(0, 40))):
        now += data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0, 3.0, 7.0]))
        event = data.draw(st.sampled_from(events(machine, dialling)))
        was_wanted = machine.wanted
        effects = machine.step(event, now)
        dialling = after_dial(event, effects, dialling)

        assert effects.count(Dial()) <= 1
        assert not (machine.open and Dial() in effects)
        calls = [effect for effect in effects if isinstance(effect, CallDown)]
        assert len(calls) <= (0 if down else 1)
        down = False if isinstance(event, Opened) else down or bool(calls)
        assert machine.down == down

        if machine.open or not machine.wanted:
            linkless_since = None
        elif linkless_since is None or not was_wanted or isinstance(event, Lost):
            linkless_since = now
        if linkless_since is not None:
            assert down or now - linkless_since < PATIENCE
            deadline = machine.next_deadline
            assert deadline is None or deadline <= max(now, linkless_since) + max(PATIENCE, MOST)
            assert deadline is not None or dialling


def after_dial(event: Event, effects: list[Effect], dialling: bool) -> bool:
    """Whether a dial is on its way now."""
    if isinstance(event, DialFailed | Opened | Unwanted | Parted | Lost):
        dialling = False
    return dialling or Dial() in effects
