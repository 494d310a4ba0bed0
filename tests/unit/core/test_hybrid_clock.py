"""The hybrid clock: forward only, near the time, and deaf to clocks far ahead."""

import math
from typing import Any

import pytest

from clusterkit.core.hybrid_clock import HybridClock, stamp_at, time_of
from clusterkit.errors import ConfigError

NOW = 1_700_000_000.0


def test_a_stamp_is_milliseconds_and_a_counter() -> None:
    assert stamp_at(NOW) == int(NOW * 1000) << 16
    assert time_of(stamp_at(NOW) + 65_535) == NOW
    assert stamp_at(-5.0) == 0


def test_stamps_grow_though_time_stands_or_goes_back() -> None:
    clock = HybridClock()
    stamps = [clock.tick(now) for now in (NOW, NOW, NOW - 3600, NOW + 1, NOW)]
    assert stamps == sorted(set(stamps))
    assert clock.last == stamps[-1]
    assert stamps[3] == stamp_at(NOW + 1)


def test_a_full_counter_carries_into_the_time() -> None:
    clock = HybridClock()
    stamps = [clock.tick(NOW) for _ in range(65_537)]
    assert stamps[-1] == stamp_at(NOW + 0.001) == stamps[0] + 65_536


def test_never_behind_what_was_observed() -> None:
    clock = HybridClock(max_skew=60.0)
    seen = stamp_at(NOW + 60.0) + 7
    assert clock.observe(seen, NOW) == 0.0
    assert clock.tick(NOW) == seen + 1
    assert clock.observe(5, NOW) == 0.0
    assert clock.tick(NOW) == seen + 2


def test_a_stamp_too_far_ahead_is_reported_and_not_followed() -> None:
    clock = HybridClock(max_skew=60.0)
    before = clock.tick(NOW)
    assert clock.observe(stamp_at(NOW + 60.001), NOW) == pytest.approx(60.001)
    assert clock.last == before
    assert time_of(clock.tick(NOW)) == NOW


def test_a_write_exceeds_what_it_replaces_without_following_it() -> None:
    clock = HybridClock(max_skew=60.0)
    far, near = stamp_at(NOW + 3600), stamp_at(NOW + 10)
    assert clock.tick(NOW, after=far) == far + 1
    assert time_of(clock.last) == NOW
    assert clock.tick(NOW, after=near) == near + 1 == clock.last
    assert clock.tick(NOW, after=5) == near + 2


def test_no_skew_at_all() -> None:
    clock = HybridClock(max_skew=0)
    assert clock.observe(stamp_at(NOW), NOW) == 0.0
    assert clock.observe(stamp_at(NOW + 0.001), NOW) == pytest.approx(0.001)


def test_the_end_of_64_bits() -> None:
    clock = HybridClock()
    with pytest.raises(ConfigError, match="no stamp of 64 bits"):
        clock.tick(NOW, after=2**64 - 1)
    assert clock.last == 0


@pytest.mark.parametrize("stamp", [-1, 2**64])
def test_stamps_out_of_range(stamp: int) -> None:
    with pytest.raises(ConfigError, match="a stamp is in range"):
        HybridClock().observe(stamp, NOW)


def test_bad_input() -> None:
    wrong: Any
    for wrong in ("1", None, 1.0, True):
        with pytest.raises(TypeError, match="a stamp is an int"):
            HybridClock().observe(wrong, NOW)
    for wrong in ("1", None, True):
        with pytest.raises(TypeError, match="a time is a number"):
            HybridClock().tick(wrong)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ConfigError, match="finite"):
            HybridClock().tick(wrong)
    with pytest.raises(ConfigError, match="a stamp is in range"):
        HybridClock().tick(1e30)
    for wrong in (-1, math.nan):
        with pytest.raises(ConfigError, match="max_skew"):
            HybridClock(max_skew=wrong)
