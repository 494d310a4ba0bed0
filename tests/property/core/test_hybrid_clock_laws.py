"""The laws of the hybrid clock, for any times and any stamps of others."""

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.hybrid_clock import HybridClock, stamp_at, time_of

SKEW = 60.0
times = st.integers(0, 300).map(float)
steps = st.lists(st.tuples(times, st.none() | st.tuples(times, st.integers(0, 65_535), st.booleans())), max_size=40)


@given(steps)
def test_never_behind_anything_seen_and_never_dragged_ahead(
    history: list[tuple[float, tuple[float, int, bool] | None]],
) -> None:
    clock = HybridClock(SKEW)
    followed = 0
    latest = 0.0
    for now, seen in history:
        latest = max(latest, now)
        if seen is None:
            drawn = clock.tick(now)
            assert drawn > followed
            followed = drawn
            continue
        at, counter, replaced = seen
        stamp = stamp_at(at) + counter
        if replaced:
            assert clock.tick(now, after=stamp) > max(stamp, followed)
            followed = clock.last
        else:
            excess = clock.observe(stamp, now)
            assert (excess > 0) == (time_of(stamp) - now > SKEW)
            assert excess in {0.0, time_of(stamp) - now}
            followed = max(followed, stamp) if excess == 0 else followed
        assert clock.last >= followed
        assert time_of(clock.last) <= latest + SKEW + 0.001


@given(st.lists(times, min_size=1, max_size=20), st.integers(0, 2))
def test_nodes_that_exchange_stamps_agree_on_the_order_of_a_chain(chain: list[float], start: int) -> None:
    clocks = [HybridClock(1000.0) for _ in range(3)]
    last = 0
    for number, now in enumerate(chain):
        clock = clocks[(start + number) % 3]
        clock.observe(last, now)
        drawn = clock.tick(now)
        assert drawn > last
        last = drawn
