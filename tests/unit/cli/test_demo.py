"""The judgements of the demo: when views agree, and what it says when they do not."""

import pytest

from clusterkit.cli.demo_process import child_environment
from clusterkit.cli.demo_show import differing, listing
from clusterkit.cli.demo_watch import Listed, View

A, B = Listed(1, 11, "alive"), Listed(2, 22, "alive")
BOTH = {"a": A, "b": B}


def test_views_that_agree_leave_nothing_to_say() -> None:
    assert differing({"a": BOTH, "b": dict(BOTH)}, ["b", "a"]) == ""


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ({"a": BOTH}, "b does not answer"),
        ({"a": BOTH, "b": {"b": B}}, "b lists b instead of a, b"),
        ({"a": BOTH, "b": {**BOTH, "c": A}}, "b lists a, b, c instead of a, b"),
        ({"a": {**BOTH, "b": Listed(2, 22, "down")}, "b": BOTH}, "a lists b as down"),
        ({"a": {**BOTH, "b": Listed(2, 33, "alive")}, "b": BOTH}, "different addresses or incarnations"),
        ({"a": {**BOTH, "b": Listed(3, 22, "alive")}, "b": BOTH}, "different addresses or incarnations"),
    ],
)
def test_views_that_differ_are_named(views: dict[str, View], said: str) -> None:
    assert said in differing(views, ["a", "b"])


def test_names_are_listed_as_people_do() -> None:
    assert [listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_children_learn_nothing_of_another_cluster() -> None:
    given = {"PATH": "/bin", "CLUSTERKIT_PORT": "1", "CLUSTERKIT_COOKIE_FILE": "/f", "CLUSTERKIT_COOKIE": "theirs"}
    assert child_environment("ours", given) == {"PATH": "/bin", "CLUSTERKIT_COOKIE": "ours"}
