"""Who has not said yet that it knows of the leave."""

from clusterkit.core.farewell import Farewell


def test_nobody_is_waited_for_before_it_begins() -> None:
    farewell = Farewell()
    assert not farewell.begun
    assert not farewell.knows("b")


def test_a_node_that_is_alone_waits_for_nobody() -> None:
    farewell = Farewell()
    assert farewell.begin(7, [])
    assert (farewell.begun, farewell.number) == (True, 7)


def test_the_last_one_that_knows_ends_it_and_it_stays_ended() -> None:
    farewell = Farewell()
    assert not farewell.begin(7, ["b", "c"])
    assert not farewell.knows("stranger")
    assert not farewell.knows("b")
    assert farewell.knows("c")
    assert farewell.knows("c")
