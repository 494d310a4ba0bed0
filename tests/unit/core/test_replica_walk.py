"""Walking a ring: order, distinct nodes, and the spread over zones."""

from dataclasses import dataclass

from clusterkit.core.replica_walk import clockwise, counter_clockwise, distinct, spread, zone_sizes


@dataclass(frozen=True)
class Host:
    name: str
    zone: str | None


EAST = [Host(f"e{i}", "east") for i in range(4)]
WEST = [Host(f"w{i}", "west") for i in range(2)]
FREE = [Host(f"f{i}", None) for i in range(2)]


def take(walk: list[Host], n: int) -> list[str]:
    return [host.name for host in spread(iter(walk), n, zone_sizes(walk))]


def test_orders_go_once_round() -> None:
    assert list(clockwise(0, 3)) == [0, 1, 2]
    assert list(clockwise(3, 3)) == [0, 1, 2]
    assert list(counter_clockwise(0, 3)) == [0, 2, 1]
    assert list(counter_clockwise(-1, 3)) == [2, 1, 0]
    assert list(clockwise(0, 0)) == list(counter_clockwise(-1, 0)) == []


def test_each_node_is_met_once() -> None:
    assert list(distinct(["a", "a", "b", "a"], [3, 2, 1, 0])) == ["a", "b"]


def test_without_zones_there_is_nothing_to_count() -> None:
    assert not zone_sizes(FREE)
    assert not zone_sizes([])
    assert not zone_sizes(["a"])


def test_a_node_without_a_zone_is_a_zone_of_its_own() -> None:
    assert sorted(zone_sizes([*FREE, *EAST]).values()) == [1, 1, 4]


def test_no_second_of_a_zone_while_another_zone_has_none() -> None:
    walk = [*EAST, *WEST, *FREE]
    assert take(walk, 2) == ["e0", "w0"]
    assert take(walk, 4) == ["e0", "w0", "f0", "f1"]


def test_when_zones_run_out_they_are_taken_in_turn() -> None:
    assert take([*EAST, *WEST], 5) == ["e0", "w0", "e1", "w1", "e2"]


def test_a_second_of_a_zone_does_not_take_the_place_of_a_first_met_later() -> None:
    assert take([*EAST[:2], *WEST, Host("n0", "north")], 4) == ["e0", "w0", "n0", "e1"]


def test_the_answer_for_fewer_is_the_head_of_the_answer_for_more() -> None:
    walk = [*EAST, *FREE, *WEST]
    assert [take(walk, n) for n in range(1, 12)] == [take(walk, 11)[:n] for n in range(1, 12)]


def test_all_nodes_if_more_are_asked_for() -> None:
    assert sorted(take([*EAST, *WEST], 99)) == ["e0", "e1", "e2", "e3", "w0", "w1"]


def test_the_walk_is_left_as_soon_as_nothing_better_can_come() -> None:
    walk = iter([WEST[0], EAST[0], *EAST[1:]])
    spread(walk, 2, zone_sizes([*EAST, WEST[0]]))
    assert len(list(walk)) == 2  # one was looked at to see that all is had
