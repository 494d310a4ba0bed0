"""`clusterkit start`: what it says of members, and which apps it takes."""

import sys
from pathlib import Path

import pytest

from clusterkit.cli.start import _news, load_app
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member, State

ONE = Member(NodeId("a", "127.0.0.1", 7022, 1))
TWO = Member(NodeId("a", "127.0.0.1", 7022, 2))
DOWN = Member(NodeId("a", "127.0.0.1", 7022, 1), State.DOWN)


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        (None, ONE, "came, from 127.0.0.1:7022"),
        (ONE, ONE, ""),
        (ONE, DOWN, "is down"),
        (DOWN, DOWN, ""),
        (DOWN, ONE, "is back"),
        (DOWN, TWO, "restarted"),
        (ONE, TWO, "restarted"),
        (ONE, None, "left"),
        (DOWN, None, "left"),
    ],
)
def test_what_is_told_of_a_member(before: Member | None, after: Member | None, news: str) -> None:
    assert _news(before, after) == news


def test_an_app_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_app_of_this_test.py").write_text("async def main(node): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert load_app("my_app_of_this_test:main").__module__ == "my_app_of_this_test"
