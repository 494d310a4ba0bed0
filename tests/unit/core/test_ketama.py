"""libketama, point by point: its own published reference results."""

from bisect import bisect_left
from hashlib import md5
from typing import Any

import pytest

from clusterkit.core.hash_ring import HashRing
from clusterkit.core.ketama import KETAMA, ketama_hash, ketama_ring
from clusterkit.errors import ConfigError

# The servers of libketama's own test, ketama.servers, with their memory.
SERVERS = {
    f"10.0.1.{number}:11211": memory for number, memory in enumerate((600, 300, 200, 350, 1000, 800, 950, 100), 1)
}


def test_the_reference_hash() -> None:
    """From the tests of its Python binding."""
    assert ketama_hash("test") == ketama_hash(b"test") == 3446378249


def test_the_reference_continuum_of_two_servers() -> None:
    """From the tests of its Python binding: as many points, and the one that "test" falls to."""
    ring = ketama_ring({"127.0.0.1:11211": 600, "127.0.0.1:11212": 400})
    points = list(ring)
    assert len(points) == 320
    assert points[bisect_left(points, (3446378249, ""))] == (3454255383, "127.0.0.1:11211")
    assert ring.find("test") == "127.0.0.1:11211"


def test_a_million_keys_as_the_reference_prints_them() -> None:
    """libketama's test.sh prints hash, point and server of the keys 0 to 999999 and checks the MD5 of it all."""
    points = list(ketama_ring(SERVERS))
    tokens = [token for token, _ in points]
    lines = ["\n"]
    for number in range(1_000_000):
        key_hash = ketama_hash(str(number))
        point, server = points[bisect_left(tokens, key_hash) % len(points)]
        lines.append(f"{key_hash} {point} {server}\n")
    assert md5("".join(lines).encode(), usedforsecurity=False).hexdigest() == "5672b131391f5aa2b280936aec1eea74"


def test_find_takes_the_point_that_the_reference_takes() -> None:
    ring = ketama_ring(SERVERS)
    points = list(ring)
    for number in range(2000):
        key = str(number)
        assert ring.find(key) == points[bisect_left(points, (ketama_hash(key), "")) % len(points)][1]


def test_a_key_on_a_point_belongs_to_it_and_zero_to_the_first() -> None:
    assert KETAMA.of_key("test") == 3446378249 - 1
    assert KETAMA.of_node("s", 1)[0] == ketama_hash("s-0")
    assert len(KETAMA.of_node("s", 40)) == 160


def test_servers_of_one_size_have_40_digests_each() -> None:
    assert ketama_ring({f"s{number}": 64 for number in range(7)}).weights == {f"s{number}": 40 for number in range(7)}


def test_a_server_whose_share_rounds_to_nothing_is_left_out() -> None:
    assert ketama_ring({"big": 10_000, "tiny": 1}).nodes == ["big"]


def test_no_servers_make_an_empty_ring() -> None:
    assert ketama_ring({}) == HashRing([], tokens=KETAMA)


@pytest.mark.parametrize("memory", [0, -1, 1.5, True, "1", None])
def test_memory_that_is_no_positive_int(memory: Any) -> None:
    with pytest.raises(ConfigError, match="memory is a positive int"):
        ketama_ring({"a": 1, "b": memory})


def test_a_share_over_a_thousand_digests() -> None:
    with pytest.raises(ConfigError, match="from 1 to 1000"):
        ketama_ring({"big": 10_000, **{f"s{number}": 1 for number in range(60)}})
