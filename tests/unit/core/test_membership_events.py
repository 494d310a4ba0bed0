"""The values that go into a membership and come out of it: compared by content, and unchangeable."""

from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from clusterkit.core import membership_events as events


def test_events_are_past_tense_and_effects_imperative_each_in_its_union_once() -> None:
    happened, wanted = get_args(events.Event), get_args(events.Effect)
    assert len(set(happened)) == len(happened)
    assert len(set(wanted)) == len(wanted)
    assert not set(happened) & set(wanted)


def test_they_are_values() -> None:
    begun = events.Begun()
    assert begun == events.Begun(None, seeds=False)
    with pytest.raises(FrozenInstanceError):
        begun.seeds = True  # type: ignore[misc]
