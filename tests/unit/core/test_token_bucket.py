import pytest

from clusterkit.core.token_bucket import TokenBucket, TokenBuckets


def test_a_burst_is_free_and_the_rest_stands_in_line() -> None:
    bucket = TokenBucket(rate=10.0, burst=3, now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_it_fills_with_time_and_never_over_its_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=3, now=0.0)
    for _ in range(5):
        bucket.take(0.0)
    assert bucket.take(0.2) == pytest.approx(0.1)
    assert [bucket.take(1_000.0) for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_what_was_waited_for_in_vain_shortens_the_line() -> None:
    bucket = TokenBucket(rate=1.0, burst=1, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    bucket.give_back()
    assert bucket.take(0.0) == 2.0


def test_sources_do_not_feel_each_other() -> None:
    buckets = TokenBuckets(rate=1.0, burst=1)
    assert [buckets.of("a", 0.0).take(0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert buckets.of("b", 0.0).take(0.0) == 0.0


def test_full_buckets_are_forgotten_and_others_kept() -> None:
    buckets = TokenBuckets(rate=1.0, burst=2)
    for _ in range(70):
        buckets.of("busy", 0.0).take(0.0)
    for number in range(200):
        buckets.of(f"once {number}", float(number)).take(float(number))
    assert len(buckets) < 100
    assert TokenBuckets(1.0, 2).of("busy", 0.0).is_full(0.0)
    many = TokenBuckets(rate=1.0, burst=2)
    for _ in range(70):
        many.of("busy", 0.0).take(0.0)
    for number in range(100):
        many.of(str(number), 0.0)
    assert many.of("busy", 0.0).take(0.0) == pytest.approx(69.0)


def test_the_table_is_bounded() -> None:
    buckets = TokenBuckets(rate=1.0, burst=2)
    for number in range(4_200):
        buckets.of(str(number), 0.0).take(0.0)
    assert len(buckets) <= 4_096


def test_past_the_bound_the_source_that_came_first_is_forgotten() -> None:
    buckets = TokenBuckets(rate=1.0, burst=1)
    for number in range(4_097):
        buckets.of(str(number), 0.0).take(0.0)
    assert [buckets.of(source, 0.0).take(0.0) for source in ("4096", "4095", "4000")] == [1.0, 1.0, 1.0]
    assert buckets.of("0", 0.0).take(0.0) == 0.0
