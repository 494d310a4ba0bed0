"""Whom a flood pushes out: held against a plain list of who came when, and from where."""

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from clusterkit.transport.unproven import Unproven


@dataclass(eq=False)
class Came:
    """A connection and its task at once, as far as they are told to end."""

    source: str
    aborted: bool = False
    cancelled: bool = False

    def abort(self) -> None:
        self.aborted = True

    def cancel(self) -> None:
        self.cancelled = True


def add(where: Unproven, source: str) -> Came:
    came = Came(source)
    both: Any = came
    where.add(both, source, both)
    return came


def test_the_oldest_of_the_source_that_holds_the_most_is_closed() -> None:
    held = Unproven()
    quiet, first, second = add(held, "quiet"), add(held, "busy"), add(held, "busy")
    held.evict()
    assert (quiet.aborted, first.aborted, second.aborted) == (False, True, False)
    assert first.cancelled
    assert len(held) == 2


def test_who_has_proven_itself_is_not_closed_any_more() -> None:
    held = Unproven()
    first, second = add(held, "a"), add(held, "a")
    held.discard(first)  # type: ignore[arg-type]
    held.discard(first)  # type: ignore[arg-type]
    held.evict()
    assert (first.aborted, second.aborted, len(held)) == (False, True, 0)


def test_all_can_be_closed() -> None:
    held = Unproven()
    came = [add(held, source) for source in "aab"]
    held.abort()
    assert all(each.aborted for each in came)


@pytest.mark.parametrize("seed", range(20))
def test_it_does_what_a_plain_list_would(seed: int) -> None:
    chance = Random(seed)
    held = Unproven()
    model: list[Came] = []
    for _ in range(400):
        turn = chance.random()
        if turn < 0.55 or not model:
            model.append(add(held, str(chance.randrange(chance.choice((1, 3, 20))))))
        elif turn < 0.8:
            gone: Any = model.pop(chance.randrange(len(model)))
            held.discard(gone)
        else:
            holds = Counter(each.source for each in model)
            held.evict()
            [gone] = [each for each in model if each.aborted]
            assert holds[gone.source] == max(holds.values())
            assert gone is next(each for each in model if each.source == gone.source)
            model.remove(gone)
        assert len(held) == len(model)
